"""The modules that quantize while a network trains: one for a weight, one for a layer's input.

Both learn the logarithm of their scale: it stays positive under any optimizer, and a step of a given size
changes it by the same share, however small the scale is.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from evaluators.techniques.fake_quantize import (
    fake_quantize,
    symmetric_range,
    unsigned_range,
    with_lsq_gradient,
)
from search_spaces.quantization import Granularity

CLIP_SHARES = tuple(step / 40 for step in range(4, 41))
"""Candidates of the first clip, as shares of the largest magnitude; our choice, 2.5 % apart."""

CALIBRATION_VALUES = 16_384  # of the first batch; more change the clip by less than the 2.5 % above
SMALLEST_SCALE = 1e-8  # a tensor of zeros still has a scale


class WeightQuantizer(nn.Module):
    """Quantizes a weight to a signed, symmetric grid of a learned step, one a filter or one a tensor.

    The step starts where it makes the squared error of the given weight smallest.
    """

    def __init__(self, weight: torch.Tensor, bits: int, granularity: Granularity) -> None:
        """Fit the first scale to a weight of shape (k, ...)."""
        super().__init__()
        self.low, self.high = symmetric_range(bits)
        axes = tuple(range(1 if granularity is Granularity.PER_CHANNEL else 0, weight.ndim))
        scale = fitted_scale(weight.detach(), axes, self.low, self.high)
        self.values_per_scale = weight.numel() // scale.numel()
        self.log_scale = nn.Parameter(scale.log())
        self.register_buffer("zero_point", torch.zeros_like(scale), persistent=False)
        self.zero_point: torch.Tensor

    @property
    def scale(self) -> torch.Tensor:
        """The step between two levels: (k, 1, ...) or (1, 1, ...)."""
        return self.log_scale.detach().exp()

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the weight on its grid, of the same shape."""
        scale = with_lsq_gradient(self.log_scale, self.values_per_scale, self.high).exp()
        return fake_quantize(weight, scale, self.zero_point, self.low, self.high)


def fitted_scale(weight: torch.Tensor, axes: tuple[int, ...], low: int, high: int) -> torch.Tensor:
    """Return the scale of the least squared error, among clips from 10 % to 100 % of the largest weight.

    Zeros are on every grid, so pruned weights do not move the choice.

    Args:
        weight: (k, ...).
        axes: the axes that share one scale.
        low: lowest integer of the grid.
        high: highest integer of the grid.
    """
    largest = weight.abs().amax(dim=axes, keepdim=True)
    best = (largest / high).clamp_min(SMALLEST_SCALE)
    zero_point = torch.zeros_like(best)
    least = torch.full_like(best, math.inf)
    for share in CLIP_SHARES:
        scale = (largest * share / high).clamp_min(SMALLEST_SCALE)
        difference = fake_quantize(weight, scale, zero_point, low, high) - weight
        error = difference.square().sum(dim=axes, keepdim=True)
        best = torch.where(error < least, scale, best)
        least = torch.minimum(error, least)
    return best


class ActivationQuantizer(nn.Module):
    """Quantizes a layer's input to an unsigned grid, one learned step and one zero point a tensor.

    The first batch that it sees sets them; a batch without negative values gets zero point 0.
    """

    def __init__(self, bits: int, *, calibrated: bool = False) -> None:
        """Make a quantizer; `calibrated` where its state will be loaded."""
        super().__init__()
        self.low, self.high = unsigned_range(bits)
        self.is_calibrated = calibrated
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.register_buffer("zero_point", torch.zeros(()))
        self.zero_point: torch.Tensor

    @torch.no_grad()
    def calibrate(self, values: torch.Tensor) -> None:
        """Set step and zero point to those of the least squared error on the values."""
        sample = values.detach().flatten()
        sample = sample[:: max(1, sample.numel() // CALIBRATION_VALUES)]
        lowest = min(0.0, float(sample.min()))
        span = max(float(sample.max()), 0.0) - lowest
        least = math.inf
        for share in CLIP_SHARES:
            scale = torch.tensor(max(share * span / self.high, SMALLEST_SCALE))
            zero_point = torch.tensor(-share * lowest / float(scale)).round()
            levels = fake_quantize(sample, scale, zero_point, self.low, self.high)
            error = float((levels - sample).square().sum())
            if error < least:
                least = error
                self.log_scale.copy_(scale.log())
                self.zero_point.copy_(zero_point)
        self.is_calibrated = True

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the values on the grid, of the same shape."""
        if not self.is_calibrated:
            self.calibrate(values)
        per_example = values.numel() // len(values)
        scale = with_lsq_gradient(self.log_scale, per_example, self.high).exp()
        return fake_quantize(values, scale, self.zero_point, self.low, self.high)
