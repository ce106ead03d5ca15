"""Quantization by codes: the same conventions of the workload as uniform quantization has.

Beside its bits a weight stores what its code needs: a scale a filter (sign, ternary, power of two), nothing
(DoReFa), or a scale and a zero point a range (affine).
"""

from __future__ import annotations

import math
from functools import singledispatch

from torch import nn
from torch.nn.utils import parametrize

from evaluators.techniques.activation_codes import activation_module
from evaluators.techniques.dispatch import apply, bake, restore, rewrite, stored_density
from evaluators.techniques.passes import is_training
from evaluators.techniques.quantization import (
    SCALE_BITS,
    input_bits,
    quantizable,
    quantize_input,
    rewritten_inference,
    rewritten_training,
)
from evaluators.techniques.weight_codes import CodedWeight, ranges_per_weight
from evaluators.workload.graph import Workload
from search_spaces.codes import Affine, CodedQuantization, DoReFa, Float, PowerOfTwo

EXPONENT_BITS = 8  # a filter's largest power of two: an exponent as wide as single precision's


@singledispatch
def scale_bits(code: object, shape: tuple[int, ...]) -> float:
    """Return the bits that a code stores beside the weights: here one 32-bit scale a filter."""
    return float(SCALE_BITS * shape[0])


@scale_bits.register
def _(code: Float, shape: tuple[int, ...]) -> float:
    return 0.0


@scale_bits.register
def _(code: DoReFa, shape: tuple[int, ...]) -> float:
    return 0.0  # levels from -1 to 1, the same for every weight


@scale_bits.register
def _(code: PowerOfTwo, shape: tuple[int, ...]) -> float:
    return float(EXPONENT_BITS * shape[0])


@scale_bits.register
def _(code: Affine, shape: tuple[int, ...]) -> float:
    zero_point_bits = 0 if code.symmetric else code.bits
    return float(ranges_per_weight(code, shape) * (SCALE_BITS + zero_point_bits))


@apply.register
def _(choice: CodedQuantization, layer: nn.Module, name: str) -> None:
    layer = quantizable(layer, name)
    parametrize.register_parametrization(layer, "weight", CodedWeight(choice.weights))
    quantize_input(layer, activation_module(choice.activations, calibrated=False))


@bake.register
def _(choice: CodedQuantization, layer: nn.Module) -> None:
    """Leave nothing beside the weight: its few distinct values are the levels."""


@restore.register
def _(choice: CodedQuantization, layer: nn.Module) -> None:
    layer = quantizable(layer, type(layer).__name__)
    quantize_input(layer, activation_module(choice.activations, calibrated=True))


@input_bits.register
def _(choice: CodedQuantization) -> int:
    return choice.activation_bits


@rewrite.register
def _(choice: CodedQuantization, workload: Workload, layer: str) -> Workload:
    if is_training(workload):
        return rewritten_training(workload, layer, choice.activation_bits)
    shape = workload.tensors[workload.weight_of(layer)].shape
    return rewritten_inference(
        workload,
        layer,
        weight_bits=choice.weight_bits,
        activation_bits=choice.activation_bits,
        scale_bits=scale_bits(choice.weights, shape) / math.prod(shape),
    )


@stored_density.register
def _(choice: CodedQuantization, layer: nn.Module) -> float:
    return 1.0
