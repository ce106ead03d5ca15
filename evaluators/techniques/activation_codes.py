"""The modules that put a layer's input on the levels of a code."""

from __future__ import annotations

from functools import singledispatch

import torch
from torch import nn

from evaluators.techniques.quantizers import SMALLEST_SCALE, ActivationQuantizer
from evaluators.techniques.weight_codes import straight_through, unit_levels
from search_spaces.codes import DoReFa, Float, Lsq, Pact


class UnitActivation(nn.Module):
    """DoReFa: what lies in [0, 1], on equally spaced levels."""

    def __init__(self, bits: int) -> None:
        """Take the bits; there is nothing to learn."""
        super().__init__()
        self.bits = bits

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the values on their levels, of the same shape."""
        return unit_levels(values.clamp(0, 1), self.bits)


class PactActivation(nn.Module):
    """PACT: from 0 to a learned clip, which starts at the first batch's largest value."""

    def __init__(self, bits: int, *, calibrated: bool = False) -> None:
        """Make a quantizer; `calibrated` where its state will be loaded."""
        super().__init__()
        self.bits = bits
        self.is_calibrated = calibrated
        self.alpha = nn.Parameter(torch.ones(()))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the values on their levels; d/d alpha is 1 where a value is clipped, and 0 elsewhere."""
        if not self.is_calibrated:
            with torch.no_grad():
                self.alpha.copy_(values.max().clamp_min(SMALLEST_SCALE))
            self.is_calibrated = True
        alpha = self.alpha
        clipped = 0.5 * (values.abs() - (values - alpha).abs() + alpha)
        step = alpha.detach() / (2**self.bits - 1)
        return straight_through(clipped, (clipped / step).round() * step)


@singledispatch
def activation_module(code: object, *, calibrated: bool) -> nn.Module:
    """Return the module that puts a layer's input on the levels of a code.

    Args:
        code: the code.
        calibrated: its state will be loaded, so the first batch must not set it.
    """
    raise TypeError(f"no activation code is a {type(code).__name__}")


@activation_module.register
def _(code: Float, *, calibrated: bool) -> nn.Module:
    return nn.Identity()


@activation_module.register
def _(code: Lsq, *, calibrated: bool) -> nn.Module:
    return ActivationQuantizer(code.bits, calibrated=calibrated)


@activation_module.register
def _(code: DoReFa, *, calibrated: bool) -> nn.Module:
    return UnitActivation(code.bits)


@activation_module.register
def _(code: Pact, *, calibrated: bool) -> nn.Module:
    return PactActivation(code.bits, calibrated=calibrated)
