"""Our quantizers against Brevitas', where both have the same function; skipped where it is not installed."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what the library says of itself while it is imported
    pytest.importorskip("brevitas", reason="brevitas is not installed")
    from brevitas.core.bit_width import BitWidthConst
    from brevitas.core.function_wrapper import Identity, RoundSte, TensorClamp
    from brevitas.core.quant import BinaryQuant, IntQuant, TernaryQuant
    from brevitas.core.scaling import ConstScaling

from evaluators.techniques.fake_quantize import fake_quantize, symmetric_range, unsigned_range
from evaluators.techniques.weight_codes import coded
from search_spaces.codes import Affine, Granularity, Sign, Ternary


def _weight(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _both(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return weight.clone().requires_grad_(), weight.clone().requires_grad_()


def _same_but_for_ties(ours: torch.Tensor, theirs: torch.Tensor, scale: torch.Tensor) -> None:
    """Compare levels; theirs divides where ours, as torch, takes the reciprocal, so a tie may fall otherwise.

    A value so near the middle of two levels is rare, and then one step apart.
    """
    steps = ((ours.detach() - theirs.detach()) / scale).abs()
    assert float((steps > 0.01).float().mean()) <= 0.01
    assert float(steps.max()) < 1.01


@pytest.mark.parametrize("bits", [2, 3, 4, 8, 16])
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("per_channel", [True, False])
def test_integer_grids_and_their_gradients(bits: int, signed: bool, per_channel: bool) -> None:
    weight = _weight(6, 5, 3, 3) if signed else _weight(6, 5, 3, 3) + 0.5
    low, high = symmetric_range(bits) if signed else unsigned_range(bits)
    axes = (1, 2, 3) if per_channel else (0, 1, 2, 3)
    scale = weight.abs().amax(dim=axes, keepdim=True) * 0.6 / high  # some values are clipped
    zero = torch.zeros_like(scale) if signed else torch.full_like(scale, float(high // 4))
    ours, theirs = _both(weight)
    quant = IntQuant(
        input_view_impl=Identity(),
        narrow_range=signed,
        signed=signed,
        float_to_int_impl=RoundSte(),
        tensor_clamp_impl=TensorClamp(),
    )
    found = fake_quantize(ours, scale, zero, low, high)
    expected = quant(scale, zero, torch.tensor(float(bits)), theirs)
    _same_but_for_ties(found, expected, scale)
    slopes = _weight(*weight.shape) + 2.0
    (found * slopes).sum().backward()
    (expected * slopes).sum().backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_symmetric_code_is_their_integer_grid(bits: int) -> None:
    weight = _weight(4, 3, 3, 3)
    code = Affine(bits=bits, symmetric=True, granularity=Granularity.PER_TENSOR)
    scale = weight.abs().max() / (2 ** (bits - 1) - 1)
    quant = IntQuant(input_view_impl=Identity(), narrow_range=True, signed=True)
    expected = quant(scale, torch.tensor(0.0), BitWidthConst(bits)(), weight)
    _same_but_for_ties(coded(code, weight, False), expected, scale)


def test_sign_is_their_binary_quantizer_at_our_scale() -> None:
    weight = _weight(1, 40)  # one filter: theirs takes one constant scale
    expected, _, _, _ = BinaryQuant(scaling_impl=ConstScaling(float(weight.abs().mean())))(weight)
    torch.testing.assert_close(coded(Sign(), weight, False), expected)


def test_ternary_is_their_ternary_quantizer_at_our_scale_and_threshold() -> None:
    weight = _weight(1, 40)
    threshold = 0.7 * float(weight.abs().mean())
    kept = weight.abs() > threshold
    alpha = float(weight.abs()[kept].mean())
    theirs = TernaryQuant(scaling_impl=ConstScaling(alpha), threshold=threshold / alpha)
    expected, _, _, _ = theirs(weight)
    found = coded(Ternary(), weight, False)
    torch.testing.assert_close(found, expected)
    assert math.isclose(float(found.max()), alpha, rel_tol=1e-6)
