"""The quantizer against torch's own kernels, to the bit; its gradients against theirs and against LSQ."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evaluators.techniques.fake_quantize import (
    fake_quantize,
    symmetric_range,
    unsigned_range,
    with_lsq_gradient,
)

BITS = (2, 3, 4, 5, 6, 7, 8, 16)


def _values(seed: int, *shape: int, spread: float = 2.0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * spread


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("spread", [0.01, 2.0, 300.0])
def test_per_tensor_is_torchs_to_the_bit(bits: int, spread: float) -> None:
    """Forward and straight-through gradient of `torch.fake_quantize_per_tensor_affine`."""
    low, high = unsigned_range(bits)
    for scale, zero_point in ((0.037, 0), (1.9, 1), (0.25, high)):
        ours = _values(bits, 500, spread=spread).requires_grad_()
        theirs = ours.detach().clone().requires_grad_()
        gradient = _values(7, 500)
        result = fake_quantize(ours, torch.tensor(scale), torch.tensor(float(zero_point)), low, high)
        expected = torch.fake_quantize_per_tensor_affine(theirs, scale, zero_point, low, high)
        torch.testing.assert_close(result, expected, rtol=0, atol=0)
        result.backward(gradient)
        expected.backward(gradient)
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=0)


@pytest.mark.parametrize("bits", BITS)
def test_per_channel_is_torchs_to_the_bit(bits: int) -> None:
    """Forward and straight-through gradient of `torch.fake_quantize_per_channel_affine`."""
    low, high = symmetric_range(bits)
    ours = _values(bits, 6, 4, 3, 3).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    gradient = _values(8, 6, 4, 3, 3)
    scale = ours.detach().abs().amax(dim=(1, 2, 3)) / high
    result = fake_quantize(ours, scale.view(6, 1, 1, 1), torch.zeros(6, 1, 1, 1), low, high)
    expected = torch.fake_quantize_per_channel_affine(
        theirs, scale, torch.zeros(6, dtype=torch.int32), 0, low, high
    )
    torch.testing.assert_close(result, expected, rtol=0, atol=0)
    result.backward(gradient)
    expected.backward(gradient)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=0)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_scale_gradient_is_torchs_learnable_quantizers(bits: int) -> None:
    """The gradient of LSQ, as `torch._fake_quantize_learnable_per_tensor_affine` computes it."""
    low, high = unsigned_range(bits)
    values = _values(bits, 1000).abs()
    ours = torch.tensor(0.3, requires_grad=True)
    theirs = torch.tensor([0.3], requires_grad=True)
    gradient = _values(9, 1000)
    fake_quantize(values, ours, torch.zeros(()), low, high).backward(gradient)
    torch._fake_quantize_learnable_per_tensor_affine(values, theirs, torch.zeros(1), low, high, 1.0).backward(
        gradient
    )
    assert ours.grad is not None
    assert theirs.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad[0], rtol=1e-4, atol=1e-4)


def test_scale_gradient_in_closed_form() -> None:
    """Esser et al., ICLR 2020, eq. 3, on the grid 0..3 with scale 1, by hand."""
    values = torch.tensor([-1.0, 0.4, 1.7, 9.0])
    scale = torch.tensor(1.0, requires_grad=True)
    for position, slope in enumerate((0.0, 0.0 - 0.4, 2.0 - 1.7, 3.0)):
        scale.grad = None
        fake_quantize(values, scale, torch.zeros(()), 0, 3)[position].backward()
        assert scale.grad is not None
        assert scale.grad.item() == pytest.approx(slope, abs=1e-6)


def test_scale_gradient_is_summed_by_channel() -> None:
    values = _values(3, 4, 10)
    together = torch.full((4, 1), 0.2, requires_grad=True)
    fake_quantize(values, together, torch.zeros(4, 1), -3, 3).sum().backward()
    assert together.grad is not None
    for channel in range(4):
        alone = torch.tensor(0.2, requires_grad=True)
        fake_quantize(values[channel], alone, torch.zeros(()), -3, 3).sum().backward()
        assert alone.grad is not None
        torch.testing.assert_close(together.grad[channel, 0], alone.grad)


def test_lsq_scales_the_gradient_only() -> None:
    scale = torch.tensor([2.0, 3.0], requires_grad=True)
    result = with_lsq_gradient(scale, elements=25, high=4)
    torch.testing.assert_close(result, scale, rtol=0, atol=0)
    result.sum().backward()
    assert scale.grad is not None
    torch.testing.assert_close(scale.grad, torch.full((2,), 1 / math.sqrt(100)))


@given(
    bits=st.sampled_from(BITS[:-1]),
    scale=st.floats(1e-3, 1e2),
    integer=st.integers(-(2**8), 2**8),
)
def test_values_of_the_grid_stay(bits: int, scale: float, integer: int) -> None:
    low, high = symmetric_range(bits)
    step = torch.tensor(scale)
    value = torch.tensor(float(max(low, min(high, integer)))) * step
    torch.testing.assert_close(
        fake_quantize(value, step, torch.zeros(()), low, high), value, rtol=1e-6, atol=0
    )


@given(bits=st.sampled_from(BITS[:-1]), seed=st.integers(0, 1000))
def test_error_is_at_most_half_a_step_inside_the_range(bits: int, seed: int) -> None:
    low, high = symmetric_range(bits)
    values = _values(seed, 64)
    scale = values.abs().max() / high
    result = fake_quantize(values, scale, torch.zeros(()), low, high)
    assert (result - values).abs().max() <= scale * 0.5 * (1 + 1e-4)
    assert len(result.unique()) <= 2**bits - 1


@pytest.mark.parametrize("bits", BITS)
def test_ranges_hold_as_many_codes_as_the_bits_allow(bits: int) -> None:
    low, high = symmetric_range(bits)
    assert -low == high == 2 ** (bits - 1) - 1
    assert unsigned_range(bits) == (0, 2**bits - 1)
