"""The modules that put weights on the levels of a code, with the gradient passed straight through."""

from __future__ import annotations

import math
from functools import singledispatch

import torch
from torch import nn

from evaluators.techniques.fake_quantize import fake_quantize, symmetric_range, unsigned_range
from evaluators.techniques.smartdeal_projection import exponents_of, limited_power_of_two
from search_spaces.codes import Affine, DoReFa, Float, PowerOfTwo, Rounding, Sign, Ternary, WeightCode
from search_spaces.quantization import Granularity

TERNARY_SHARE = 0.7  # of the mean magnitude, below which a weight is zero: Li et al., arXiv 1605.04711, eq. 6
SMALLEST_SCALE = 1e-8  # a tensor of zeros still has a scale


def straight_through(values: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """Return the levels in the forward pass, and pass the gradient to the values (Bengio et al., 2013)."""
    return levels.detach() + (values - values.detach())  # adds exact zeros: the levels stay to the bit


@singledispatch
def coded(code: object, weight: torch.Tensor, training: bool) -> torch.Tensor:
    """Return a weight of shape (k, ...) on the levels of its code.

    Args:
        code: the code.
        weight: what is to be rounded.
        training: stochastic rounding, where a code has it, is for training only.
    """
    raise TypeError(f"no weight code is a {type(code).__name__}")


@coded.register
def _(code: Float, weight: torch.Tensor, training: bool) -> torch.Tensor:
    return weight


@coded.register
def _(code: Sign, weight: torch.Tensor, training: bool) -> torch.Tensor:
    filters = weight.flatten(1)
    alpha = filters.abs().mean(dim=1, keepdim=True)
    signs = torch.where(filters < 0, -1.0, 1.0)  # zero is plus: one bit has no third value
    return straight_through(filters, alpha * signs).view_as(weight)


@coded.register
def _(code: Ternary, weight: torch.Tensor, training: bool) -> torch.Tensor:
    filters = weight.flatten(1)
    sizes = filters.abs()
    kept = (sizes > TERNARY_SHARE * sizes.mean(dim=1, keepdim=True)).to(weight.dtype)
    alpha = (sizes * kept).sum(dim=1, keepdim=True) / kept.sum(dim=1, keepdim=True).clamp_min(1)
    return straight_through(filters, alpha * filters.sign() * kept).view_as(weight)


@coded.register
def _(code: PowerOfTwo, weight: torch.Tensor, training: bool) -> torch.Tensor:
    filters = weight.flatten(1).unsqueeze(2)  # each filter has its own largest power
    levels = limited_power_of_two(filters.detach(), exponents_of(code.bits))
    return straight_through(filters, levels).view_as(weight)


@coded.register
def _(code: DoReFa, weight: torch.Tensor, training: bool) -> torch.Tensor:
    squashed = weight.tanh()
    unit = squashed / (2 * squashed.detach().abs().max().clamp_min(SMALLEST_SCALE)) + 0.5
    return 2 * unit_levels(unit, code.bits) - 1


@coded.register
def _(code: Affine, weight: torch.Tensor, training: bool) -> torch.Tensor:
    runs = _runs(weight, code)
    low, high = symmetric_range(code.bits) if code.symmetric else unsigned_range(code.bits)
    scale, zero_point = _range_of(runs.detach(), code, low, high)
    if training and code.rounding is Rounding.STOCHASTIC:
        runs = straight_through(runs, _stochastically_rounded(runs.detach(), scale))
    levels = fake_quantize(runs, scale, zero_point, low, high)
    return levels.reshape(weight.shape[0], -1)[:, : weight[0].numel()].reshape(weight.shape)


def unit_levels(values: torch.Tensor, bits: int) -> torch.Tensor:
    """Return values of [0, 1] on 2^bits equally spaced levels: Q_k of DoReFa, eq. 5."""
    steps = 2**bits - 1
    return straight_through(values, (values * steps).round() / steps)


def ranges_per_weight(code: Affine, shape: tuple[int, ...]) -> int:
    """Return how many ranges a weight has."""
    if code.granularity is Granularity.PER_TENSOR:
        return 1
    groups = math.ceil(math.prod(shape[1:]) / code.group_size) if code.group_size else 1
    return shape[0] * groups


def _runs(weight: torch.Tensor, code: Affine) -> torch.Tensor:
    """Return the weight as (ranges, weights of one range); a filter's last group is filled with zeros."""
    if code.granularity is Granularity.PER_TENSOR:
        return weight.reshape(1, -1)
    filters = weight.flatten(1)
    if not code.group_size:
        return filters
    filled = nn.functional.pad(filters, (0, -filters.shape[1] % code.group_size))
    return filled.reshape(-1, code.group_size)


def _range_of(runs: torch.Tensor, code: Affine, low: int, high: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return scale and zero point of each run, (r, 1) both; zero is always a level."""
    smallest = runs.amin(dim=1, keepdim=True).clamp_max(0)
    largest = runs.amax(dim=1, keepdim=True).clamp_min(0)
    if code.symmetric:
        scale = (torch.maximum(-smallest, largest) / high).clamp_min(SMALLEST_SCALE)
        return scale, torch.zeros_like(scale)
    scale = ((largest - smallest) / (high - low)).clamp_min(SMALLEST_SCALE)
    return scale, (-smallest / scale).round().clamp(low, high)


def _stochastically_rounded(values: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Round up with the probability of the remainder, so that the expected value is the value."""
    steps = values / scale
    return (steps + torch.rand_like(steps)).floor() * scale


class CodedWeight(nn.Module):
    """A parametrization: the weight on the levels of its code."""

    def __init__(self, code: WeightCode) -> None:
        """Take the code; ranges are those of the weight at hand, so there is nothing to fit."""
        super().__init__()
        self.code = code

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the weight on its levels, of the same shape."""
        return coded(self.code, weight, self.training)
