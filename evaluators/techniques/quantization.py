"""Uniform quantization: fake-quantized training, and what it does to the workload.

Conventions of the workload:

- Inference: the weight is stored at `weight_bits`, and each of its scales at 32 bits beside it. The
  layer's input is at `activation_bits`, and so are the tensors between it and the contraction that made
  it: normalisation and activation function are applied while the accumulators are requantized, as integer
  pipelines do it. A tensor with several quantized readers is stored once, for the one with most bits.
- Training: the weight in memory is the 32-bit master copy, as are gradient and optimizer state; each
  forward pass quantizes it on the fly. The overlay has one bit-width a tensor and cannot say that the
  contraction then reads a narrower copy, so the forward pass is charged the master's bits: too much,
  never too little. The saved input is the quantized one, and beside it one bit a value says whether the
  quantizer clipped it, which its backward pass asks for.
- Biases and normalisation stay at 32 bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import singledispatch

import torch
from torch import nn
from torch.nn.utils import parametrize

from evaluators.networks.layers import Layer
from evaluators.techniques.dispatch import TechniqueError, apply, bake, restore, rewrite, stored_density
from evaluators.techniques.integer_pipeline import requantized_with
from evaluators.techniques.passes import is_training
from evaluators.techniques.quantizers import ActivationQuantizer, WeightQuantizer
from evaluators.workload.graph import Workload
from search_spaces.choice import Choice
from search_spaces.codes import FULL_BITS
from search_spaces.quantization import FullPrecision, Granularity, UniformQuantization

SCALE_BITS = 32  # a float, or a fixed-point multiplier and its shift (Jacob et al., CVPR 2018, eq. 6)
INPUT_QUANTIZER = "input_quantizer"  # the name under which a layer holds its own
CLIP_MASK_BITS = 1  # did the quantizer clip this value


@apply.register
def _(choice: FullPrecision, layer: nn.Module, name: str) -> None:
    """Leave the layer as it is."""


@bake.register
def _(choice: FullPrecision, layer: nn.Module) -> None:
    """Leave the layer as it is."""


@restore.register
def _(choice: FullPrecision, layer: nn.Module) -> None:
    """Leave the layer as it is."""


@rewrite.register
def _(choice: FullPrecision, workload: Workload, layer: str) -> Workload:
    tensors = workload.inputs_of(layer)
    if not is_training(workload):
        tensors = requantized_with(workload.structure, layer)
    return _with_inputs(workload, tensors, FULL_BITS)


@stored_density.register
def _(choice: FullPrecision, layer: nn.Module) -> float:
    return 1.0


@apply.register
def _(choice: UniformQuantization, layer: nn.Module, name: str) -> None:
    layer = quantizable(layer, name)
    if choice.weight_bits < FULL_BITS:
        quantizer = WeightQuantizer(layer.weight, choice.weight_bits, choice.granularity)
        parametrize.register_parametrization(layer, "weight", quantizer)
    if choice.activation_bits < FULL_BITS:
        quantize_input(layer, ActivationQuantizer(choice.activation_bits))


@bake.register
def _(choice: UniformQuantization, layer: nn.Module) -> None:
    """Keep the scale, by which the stored integers are the weight divided."""
    for part in list(layer.modules()):
        if isinstance(part, WeightQuantizer):
            layer.register_buffer("weight_scale", part.scale.clone())


@restore.register
def _(choice: UniformQuantization, layer: nn.Module) -> None:
    layer = quantizable(layer, type(layer).__name__)
    if choice.weight_bits < FULL_BITS:
        filters = layer.weight.shape[0] if choice.granularity is Granularity.PER_CHANNEL else 1
        layer.register_buffer("weight_scale", torch.ones(filters, *[1] * (layer.weight.ndim - 1)))
    if choice.activation_bits < FULL_BITS:
        quantize_input(layer, ActivationQuantizer(choice.activation_bits, calibrated=True))


@rewrite.register
def _(choice: UniformQuantization, workload: Workload, layer: str) -> Workload:
    if is_training(workload):
        return rewritten_training(workload, layer, choice.activation_bits)
    shape = workload.tensors[workload.weight_of(layer)].shape
    scales = shape[0] if choice.granularity is Granularity.PER_CHANNEL else 1
    scales = scales if choice.weight_bits < FULL_BITS else 0
    return rewritten_inference(
        workload,
        layer,
        weight_bits=choice.weight_bits,
        activation_bits=choice.activation_bits,
        scale_bits=SCALE_BITS * scales / math.prod(shape),
    )


@stored_density.register
def _(choice: UniformQuantization, layer: nn.Module) -> float:
    return 1.0


@singledispatch
def input_bits(choice: object) -> int | None:
    """Return the bits at which a choice has its layer's input; None where it does not say."""
    return None


@input_bits.register
def _(choice: FullPrecision) -> int:
    return FULL_BITS


@input_bits.register
def _(choice: UniformQuantization) -> int:
    return choice.activation_bits


def rewritten_training(workload: Workload, layer: str, activation_bits: int) -> Workload:
    """Return a training step whose saved inputs of a layer are quantized."""
    inputs = workload.inputs_of(layer)
    narrower = _with_inputs(workload, inputs, activation_bits)
    if activation_bits == FULL_BITS:
        return narrower
    return narrower.rewrite(index_bits=dict.fromkeys(inputs, CLIP_MASK_BITS))


def rewritten_inference(
    workload: Workload, layer: str, *, weight_bits: int, activation_bits: int, scale_bits: float
) -> Workload:
    """Return an inference with a layer's weight and the activations before it at few bits.

    Args:
        scale_bits: of scales and zero points, for each weight.
    """
    weight = workload.weight_of(layer)
    pipeline = requantized_with(workload.structure, layer)
    return _with_inputs(workload, pipeline, activation_bits).rewrite(
        bits={weight: _stored_weight_bits(workload, weight, weight_bits)},
        index_bits={weight: float(workload.index_bits[weight]) + scale_bits},
    )


def _stored_weight_bits(workload: Workload, weight: int, bits: int) -> float:
    """Return the bits of a stored weight; one with a code of its own (SmartDeal's) keeps it."""
    stored, as_traced = float(workload.bits[weight]), workload.tensors[weight].dtype_bits
    return stored if stored < as_traced else bits


def _with_inputs(workload: Workload, tensors: tuple[int, ...], bits: int) -> Workload:
    """Return the workload with activations at the bits of one more reader, never at fewer than they have.

    A reader of 32 bits leaves nothing for the others to narrow, so `in_reading_order` puts it last.
    """
    if bits >= FULL_BITS:
        return workload.rewrite(bits={index: workload.tensors[index].dtype_bits for index in tensors})
    return workload.rewrite(bits={index: _widest(workload, index, bits) for index in tensors})


def in_reading_order(choices: Mapping[str, Sequence[Choice]]) -> list[tuple[str, Choice]]:
    """Return every layer's choices one by one; those that read 32 bits last, and else in their order.

    A rewrite knows of a tensor's other readers only by the bits that they left, which 32 are not told from.
    """
    steps = [(layer, choice) for layer, several in choices.items() for choice in several]
    return sorted(steps, key=lambda step: (input_bits(step[1]) or 0) >= FULL_BITS)


def _widest(workload: Workload, index: int, bits: int) -> float:
    """Return the bits of a tensor for one more reader; those of earlier ones are already in the overlay."""
    stored, as_traced = float(workload.bits[index]), workload.tensors[index].dtype_bits
    return max(bits, stored) if stored < as_traced else bits


def quantizable(module: nn.Module, name: str) -> Layer:
    """Return the layer if it can be quantized.

    Raises:
        TechniqueError: it is neither a convolution nor linear.
    """
    if not isinstance(module, Layer):
        raise TechniqueError(
            f"quantization acts on Conv2d and Linear layers, but {name!r} is a {type(module).__name__}"
        )
    return module


def quantize_input(layer: Layer, quantizer: nn.Module) -> None:
    """Put a quantizer before a layer; it is part of the layer's state."""
    layer.add_module(INPUT_QUANTIZER, quantizer)
    layer.register_forward_pre_hook(_quantized_input)


def pass_inputs(model: nn.Module) -> None:
    """Let the inputs of every layer pass as they are; the weights stay quantized."""
    for part in list(model.modules()):
        if INPUT_QUANTIZER in dict(part.named_children()):
            part.add_module(INPUT_QUANTIZER, nn.Identity())


def leave_input(layer: Layer) -> bool:
    """Take the quantizer from before a layer, whose state keeps it; say whether it was there."""
    hooks = [number for number, hook in layer._forward_pre_hooks.items() if hook is _quantized_input]
    for number in hooks:
        del layer._forward_pre_hooks[number]
    return bool(hooks)


def _quantized_input(layer: nn.Module, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
    # Looked up on the layer at hand and not captured: a deep copy of the layer must use its own quantizer.
    quantizer = layer.get_submodule(INPUT_QUANTIZER)
    quantized: torch.Tensor = quantizer(arguments[0])
    return (quantized,)
