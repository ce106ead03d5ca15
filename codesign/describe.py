"""A design in words: what a table, a hover text and an exported README say of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from enum import Enum
from functools import singledispatch

from hw_templates import templates
from hw_templates.accelerator import HardwareError
from hw_templates.templates import Knob
from search_spaces.accelerator import AcceleratorChoice, ParameterValue
from search_spaces.choice import Choice
from search_spaces.codes import CodedQuantization
from search_spaces.design import Design, LayerDesign
from search_spaces.quantization import FullPrecision, PostTraining, UniformQuantization
from search_spaces.smartdeal import SmartDeal
from search_spaces.sparsity import NM, Dense, Masks, RowPruned, Unstructured

_ARRAY = ("pe_rows", "pe_columns")
_CAPACITIES = {"_kib": "KiB", "_bytes": "B", "_bits": "bits"}  # suffix of a knob's name -> its unit


def design_summary(design: Design) -> tuple[tuple[str, str], ...]:
    """Return the design as (label, value) pairs, in reading order."""
    network = design.network
    pairs = [
        ("network", f"{network.name}, width {network.width:g}, depth {network.depth}"),
        ("accelerator", accelerator_text(design)),
        ("learning", f"{design.learning.optimizer.value}, batch {design.learning.batch_size}"),
    ]
    return tuple(pairs + [(layer.layer, layer_text(layer)) for layer in design.layers])


def accelerator_text(design: Design) -> str:
    """Return the chip and what differs from its template, as in `eyeriss_like 12x28, global_buffer 64 KiB`.

    Rows and columns of the array stand together where either differs.
    """
    template, given = design.accelerator.template, dict(design.accelerator.parameters)
    every = accelerator_parameters(design.accelerator)
    array = ""
    if set(_ARRAY) & given.keys() and set(_ARRAY) <= every.keys():
        array = f" {every[_ARRAY[0]]}x{every[_ARRAY[1]]}"
        given = {name: value for name, value in given.items() if name not in _ARRAY}
    units = {name: knob.unit for name, knob in _knobs(template).items()}
    parts = [_parameter_text(name, value, units.get(name, "")) for name, value in given.items()]
    return ", ".join([template + array, *parts])


def accelerator_parameters(choice: AcceleratorChoice) -> dict[str, ParameterValue]:
    """Return every parameter of the chip, those that its template leaves as they are included."""
    defaults = {name: knob.default for name, knob in _knobs(choice.template).items()}
    return {**defaults, **dict(choice.parameters)}


def _knobs(template: str) -> Mapping[str, Knob]:
    """Return a template's knobs; none for a file that is gone, for a page must not fail over it."""
    try:
        return templates.load(template).knobs
    except HardwareError:
        return {}


def _parameter_text(name: str, value: ParameterValue, unit: str) -> str:
    """Write a capacity with its unit; other parameters are counts of what their name says."""
    for suffix, symbol in _CAPACITIES.items():
        if unit == symbol and name.endswith(suffix):
            return f"{name.removesuffix(suffix)} {value} {symbol}"
    return f"{name} {value}"


def network_text(design: Design) -> str:
    """Return the network, with its width and depth where they are not 1."""
    network = design.network
    scaled = [f"width {network.width:g}"] if network.width != 1 else []
    scaled += [f"depth {network.depth}"] if network.depth != 1 else []
    return ", ".join([network.name, *scaled])


def technique_text(design: Design) -> str:
    """Return what is done to the layers, each choice once, in the order in which they act."""
    fullest_first = sorted(design.layers, key=lambda layer: -len(layer.choices))
    choices = [choice for layer in fullest_first for choice in layer.choices if not isinstance(choice, Dense)]
    return ", ".join(text for text in dict.fromkeys(map(_choice_text, choices)) if text)


def layer_text(layer: LayerDesign) -> str:
    """Return what is done to a layer: `w4/a8`, then its other choices."""
    return ", ".join(text for text in (_choice_text(choice) for choice in layer.choices) if text)


@singledispatch
def _choice_text(choice: Choice) -> str:
    """Name the choice and its values; a family with a shorter custom registers its own."""
    values = [getattr(choice, field.name) for field in fields(choice)]
    shown = [str(value.value) if isinstance(value, Enum) else f"{value:g}" for value in values]
    return f"{type(choice).__name__.lower()} {':'.join(shown)}".strip()


@_choice_text.register
def _(choice: UniformQuantization) -> str:
    return f"w{choice.weight_bits}/a{choice.activation_bits}"


@_choice_text.register
def _(choice: Unstructured) -> str:
    return f"unstructured {choice.density:g}{_regrown(choice.masks)}"


@_choice_text.register
def _(choice: RowPruned) -> str:
    return f"rows {choice.density:g}{_regrown(choice.masks)}"


@_choice_text.register
def _(choice: NM) -> str:
    return f"{choice.n}:{choice.m}{_regrown(choice.masks)}"


def _regrown(masks: Masks) -> str:
    return ", regrown" if masks is Masks.REGROWN else ""


@_choice_text.register
def _(choice: FullPrecision) -> str:
    return "fp32"


@_choice_text.register
def _(choice: CodedQuantization) -> str:
    names = [type(code).__name__.lower() for code in (choice.weights, choice.activations)]
    return f"w{choice.weight_bits}/a{choice.activation_bits} {'/'.join(names)}"


@_choice_text.register
def _(choice: PostTraining) -> str:
    return f"{_choice_text(choice.quantization)} after training"


@_choice_text.register
def _(choice: SmartDeal) -> str:
    pruned = f", {choice.prune_fraction:.0%} of rows removed" if choice.prune_fraction else ""
    return f"smartdeal {choice.coefficient_bits}+{choice.basis_bits} bits, theta {choice.threshold:g}{pruned}"


def bits_text(design: Design) -> str:
    """Return the mean weight and activation bits over the layers, for a narrow table."""
    pairs = [
        (made.weight_bits, made.activation_bits)
        for layer in design.layers
        for choice in layer.choices
        if isinstance(
            made := choice.quantization if isinstance(choice, PostTraining) else choice,
            UniformQuantization | CodedQuantization,
        )
    ]
    if not pairs:
        return "fp32"
    weights, activations = zip(*pairs, strict=True)
    return f"w{sum(weights) / len(weights):.1f}/a{sum(activations) / len(activations):.1f}"
