"""The techniques on a whole network: compress it, bake it, restore it, measure it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils import parametrize

from evaluators.networks.layers import Layer, compressible_layers
from evaluators.shapes import ActivationStorage
from evaluators.techniques.dispatch import TechniqueError, apply, bake, finish, restore, stored_density
from evaluators.techniques.passes import is_training
from evaluators.techniques.shared_inputs import quantize_at_source, sources_of
from evaluators.workload.graph import Workload
from search_spaces.choice import Choice

Choices = Mapping[str, Sequence[Choice]]
"""The choices of each layer by module path, in the order in which they act."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerDensity:
    """How much of a trained layer is not zero.

    Args:
        weights: fraction of the weights that the storage form keeps, within [0, 1].
        inputs: fraction of the input values that are not zero, over the examples it was measured on.
    """

    weights: float
    inputs: float


def compress_model(model: nn.Module, choices: Choices, example: torch.Tensor | None = None) -> None:
    """Apply every choice to a pretrained network, in place; fine-tuning comes next.

    Args:
        model: the network.
        choices: of each layer.
        example: (b, c, h, w) of any values: with it, what several layers or a sum read is quantized where
            it is made. Without it each layer quantizes its input for itself alone.

    Raises:
        TechniqueError: a layer that the network has not, or a choice that does not fit its layer.
    """
    steps = _walk(model, choices)
    sources = {} if example is None else sources_of(model, example)
    for layer, name, choice in steps:
        apply(choice, layer, name)
    quantize_at_source(model, choices, sources)


def finish_model(model: nn.Module, choices: Choices, images: torch.Tensor) -> bool:
    """Do what comes after training, in place: fit the levels of post-training quantization.

    Args:
        model: the trained network, in evaluation mode.
        choices: of each layer.
        images: (n, c, h, w), training examples from which the ranges of activations are taken.

    Returns:
        Whether anything changed, so that the accuracy is another one.
    """
    sources = sources_of(model, images[:1])
    changed = [finish(choice, layer, name) for layer, name, choice in _walk(model, choices)]
    if not any(changed):
        return False
    quantize_at_source(model, choices, sources)
    with torch.no_grad():
        model(images)
    return True


def bake_model(model: nn.Module, choices: Choices) -> None:
    """Make the weights of a trained network what the chip stores: masked and on their grids.

    Predictions in evaluation mode stay the same, bit for bit. `state_dict()` is then the export: weights,
    `weight_scale` (the integers are weight / scale), input scales and zero points.
    """
    for layer, _, choice in _walk(model, choices):
        bake(choice, layer)
    for layer in compressible_layers(model).values():
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)


def copy_model(model: nn.Module) -> nn.Module:
    """Return a copy that may be baked while the model itself is trained further."""
    copied = copy.deepcopy(model)
    for part in copied.modules():
        if parametrize.is_parametrized(part):
            # torch keeps the parametrized weight as a property of a class made for the layer. A deep copy
            # shares that class, and baking takes the property away: the copy gets a class of its own.
            made = type(part)
            part.__class__ = type(made.__name__, made.__bases__, dict(vars(made)))
    return copied


def restore_model(
    model: nn.Module,
    choices: Choices,
    state: Mapping[str, torch.Tensor],
    example: torch.Tensor | None = None,
) -> None:
    """Make a freshly built network the baked one whose state was saved; predictions are identical.

    Args:
        model: the fresh network.
        choices: of each layer.
        state: of the baked network.
        example: given if it was given to `compress_model`.

    Raises:
        TechniqueError: the state is not that of this network under these choices.
    """
    sources = {} if example is None else sources_of(model, example)
    for layer, _, choice in _walk(model, choices):
        restore(choice, layer)
    quantize_at_source(model, choices, sources)
    try:
        model.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        raise TechniqueError(
            f"the saved weights are not those of this network and design: {error}"
        ) from error


def stored_densities(model: nn.Module, choices: Choices) -> dict[str, float]:
    """Return for each layer the fraction of its weights that its storage form keeps, baked or not yet."""
    densities = dict.fromkeys(choices, 1.0)
    with torch.no_grad():
        for layer, name, choice in _walk(model, choices):
            densities[name] = min(densities[name], stored_density(choice, layer))
    return densities


def measure_densities(model: nn.Module, choices: Choices, images: torch.Tensor) -> dict[str, LayerDensity]:
    """Return what is not zero in a trained network: stored weights, and inputs over some examples.

    Args:
        model: the trained network, in evaluation mode.
        choices: its choices by layer.
        images: (n, c, h, w); a part of the validation split.
    """
    nonzero: dict[str, float] = {}

    def count(name: str, values: torch.Tensor) -> None:
        nonzero[name] = int(values.count_nonzero()) / values.numel()

    layers = compressible_layers(model)
    handles = [
        layer.register_forward_hook(lambda _layer, inputs, _output, name=name: count(name, inputs[0]))
        for name, layer in layers.items()
    ]
    try:
        with torch.no_grad():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    weights = stored_densities(model, choices)
    return {
        name: LayerDensity(weights=weights.get(name, 1.0), inputs=inputs) for name, inputs in nonzero.items()
    }


def observe(workload: Workload, densities: Mapping[str, LayerDensity]) -> Workload:
    """Return the workload with measured densities in the place of the expected ones.

    Weights of an inference: what the storage form really keeps. In training the masks decide, not the
    values, so there the expectation stands. Inputs: the share of zeros is what a chip can gate or skip;
    they are not compressed, so the bits of the zeros are kept as bookkeeping and the size stays.

    Raises:
        WorkloadError: the workload has no such layer.
    """
    density: dict[int, float] = {}
    index_bits: dict[int, float] = {}
    for layer, measured in densities.items():
        weight = workload.weight_of(layer)
        if not is_training(workload) and workload.density[weight] < 1:
            density[weight] = measured.weights
        for index in workload.inputs_of(layer):
            kept = max(density.get(index, 0.0), measured.inputs)
            density[index] = kept
            index_bits[index] = float(workload.index_bits[index] + workload.bits[index] * (1 - kept))
    return workload.rewrite(density=density, index_bits=index_bits)


def assume(workload: Workload, density: float, storage: ActivationStorage) -> Workload:
    """Return the workload with an assumed share of zeros in every layer's input but the image.

    Where there are no data to measure (`observe`), this stands in for them. Stored dense, zeros keep their
    bits and a chip can gate or skip them; with a bitmap they take one bit each.

    Args:
        density: fraction that is not zero, within (0, 1].
        storage: how the inputs are stored.
    """
    if density == 1:
        return workload
    image = set(workload.inputs_of(workload.layers[0]))
    tensors = {index for layer in workload.layers[1:] for index in workload.inputs_of(layer)} - image
    extra = {
        index: 1.0 if storage is ActivationStorage.BITMAP else float(workload.bits[index]) * (1 - density)
        for index in tensors
    }
    return workload.rewrite(
        density=dict.fromkeys(tensors, density),
        index_bits={index: float(workload.index_bits[index]) + bits for index, bits in extra.items()},
    )


def _walk(model: nn.Module, choices: Choices) -> list[tuple[Layer, str, Choice]]:
    layers = compressible_layers(model)
    unknown = [name for name in choices if name not in layers]
    if unknown:
        raise TechniqueError(
            f"the design names layer {unknown[0]!r}, but the network has only: {', '.join(layers)}"
        )
    return [(layers[name], name, choice) for name, several in choices.items() for choice in several]
