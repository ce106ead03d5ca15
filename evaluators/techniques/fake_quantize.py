"""The quantizer itself: round to a grid in the forward pass, pass the gradient through in the backward."""

from __future__ import annotations

import math

import torch


def symmetric_range(bits: int) -> tuple[int, int]:
    """Return the lowest and highest integer of a signed grid that is symmetric about zero.

    The lowest two's complement code is left out, so that a weight and its negative are quantized alike.

    >>> symmetric_range(4)
    (-7, 7)
    """
    highest: int = 2 ** (bits - 1) - 1
    return -highest, highest


def unsigned_range(bits: int) -> tuple[int, int]:
    """Return the lowest and highest integer of an unsigned grid.

    >>> unsigned_range(4)
    (0, 15)
    """
    highest: int = 2**bits - 1
    return 0, highest


class _FakeQuantize(torch.autograd.Function):
    """Forward: `(clamp(round(x / s) + z, low, high) - z) * s`. Backward: STE for x, LSQ for s."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        values: torch.Tensor,
        scale: torch.Tensor,
        zero_point: torch.Tensor,
        low: int,
        high: int,
    ) -> torch.Tensor:
        # Multiplied by the reciprocal, as torch's own kernels do it: the results are the same to the bit.
        steps = (values * scale.reciprocal()).round_().add_(zero_point)
        quantized = steps.clamp(low, high)
        inside = steps == quantized
        levels = quantized.sub_(zero_point).mul_(scale)
        ctx.save_for_backward(values, scale, inside, levels)
        return levels

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None, None, None, None]:
        values, scale, inside, levels = ctx.saved_tensors  # type: ignore[attr-defined]
        passed = gradient * inside
        if not ctx.needs_input_grad[1]:  # type: ignore[attr-defined]
            return passed, None, None, None, None
        # Esser et al., ICLR 2020, eq. 3, times s: the level less, inside the range, the value itself.
        slope = _sum_of_products(gradient, levels, scale) - _sum_of_products(passed, values, scale)
        return passed, slope / scale, None, None, None


def _sum_of_products(first: torch.Tensor, second: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Sum `first * second` over the axes along which a scale was broadcast."""
    if scale.ndim == 0:
        # Activations come here, with one scale for all: a dot product makes no tensor of products.
        return torch.dot(first.flatten(), second.flatten())
    axes = [axis for axis, size in enumerate(scale.shape) if size == 1]
    products = first * second
    return products.sum(dim=axes, keepdim=True) if axes else products


def fake_quantize(
    values: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, low: int, high: int
) -> torch.Tensor:
    """Round values to the grid `scale * (integer - zero_point)`, integers from `low` to `high`.

    The gradient passes unchanged inside the range and is zero outside (straight-through estimator); the
    scale's gradient is that of LSQ.

    Args:
        values: any shape.
        scale: positive; a scalar, or one a channel in a shape that broadcasts against `values`.
        zero_point: whole numbers, shaped as `scale`.
        low: lowest integer of the grid.
        high: highest integer of the grid.

    Source: Jacob et al., CVPR 2018, eq. 1 (grid); Bengio et al., arXiv 1308.3432 (STE); Esser et al.,
    ICLR 2020, eq. 3 (scale).
    """
    result: torch.Tensor = _FakeQuantize.apply(values, scale, zero_point, low, high)  # type: ignore[no-untyped-call]
    return result


class _ScaleGradient(torch.autograd.Function):
    """The identity, whose gradient is multiplied by a constant."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, scale: torch.Tensor, factor: float) -> torch.Tensor:
        ctx.factor = factor  # type: ignore[attr-defined]
        return scale.view_as(scale)

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor
    ) -> tuple[torch.Tensor, None]:
        return gradient * ctx.factor, None  # type: ignore[attr-defined]


def with_lsq_gradient(scale: torch.Tensor, elements: int, high: int) -> torch.Tensor:
    """Return the scale itself, its gradient divided by sqrt(elements * high).

    Without it the scale moves by far more, relative to its size, than the weights do.

    Args:
        scale: the scale, of any shape.
        elements: values that share one scale.
        high: highest integer of the grid.

    Source: Esser et al., ICLR 2020, section 2.2.
    """
    result: torch.Tensor = _ScaleGradient.apply(scale, 1.0 / math.sqrt(elements * high))  # type: ignore[no-untyped-call]
    return result
