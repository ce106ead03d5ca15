"""SmartDeal's decomposition against a plain loop over slices, and against what it must keep."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.techniques.smartdeal_layout import from_slices, slice_layout, to_slices
from evaluators.techniques.smartdeal_projection import (
    exponents_of,
    limited_power_of_two,
    power_of_two,
    project,
    pruned_slices,
)
from evaluators.techniques.smartdeal_storage import hardware_bits

Floats = npt.NDArray[np.float64]


def _nearest_power(value: float, legal: list[float]) -> float:
    """Nearest of the legal powers and zero; halfway goes to the smaller. Zero stays zero."""
    options = [0.0, *legal]
    return math.copysign(min(options, key=lambda power: (abs(abs(value) - power), power)), value)


def _round(values: Floats, exponents: int) -> Floats:
    largest = max(abs(v) for v in values.flat)
    if largest == 0:
        return np.zeros_like(values)
    top = _nearest_power(largest, [2.0**p for p in range(-40, 10)])
    legal = [abs(top) / 2**k for k in range(exponents)]
    return np.vectorize(lambda v: _nearest_power(v, legal))(values)


def _decompose(slice_: Floats, threshold: float, row_factor: float, iterations: int) -> tuple[Floats, Floats]:
    """One slice, as the sheet writes it: least squares by numpy, no normal equations, no batches."""

    def unit(values: Floats) -> Floats:
        norms = np.linalg.norm(values, axis=0)
        return values / np.where(norms > 0, norms, 1.0)

    coefficients = unit(slice_)
    for _ in range(iterations):
        rounded = _round(coefficients, 7)
        basis = np.linalg.lstsq(rounded, slice_, rcond=1e-10)[0]
        coefficients = unit(np.linalg.lstsq(basis.T, slice_.T, rcond=1e-10)[0].T)
        if row_factor:
            coefficients[np.abs(coefficients).sum(axis=1) < row_factor * threshold] = 0
        coefficients[np.abs(coefficients) < threshold] = 0
    rounded = _round(coefficients, 7)
    return rounded, np.linalg.lstsq(rounded, slice_, rcond=1e-10)[0]


@pytest.mark.parametrize(("threshold", "row_factor"), [(0.0, 0.0), (0.05, 0.0), (0.08, 3.0)])
def test_batched_equals_one_slice_at_a_time(threshold: float, row_factor: float) -> None:
    slices = torch.randn(6, 24, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = project(slices, threshold=threshold, row_factor=row_factor, iterations=5)
    for index in range(len(slices)):
        coefficients, basis = _decompose(slices[index].numpy(), threshold, row_factor, 5)
        np.testing.assert_array_equal(found.coefficients[index].numpy(), coefficients)
        np.testing.assert_allclose(found.basis[index].numpy(), basis, rtol=1e-6, atol=1e-9)


def test_error_and_ratio_of_gaussian_weights_are_those_of_the_sheet() -> None:
    weight = torch.randn(256, 256, 3, 3, generator=torch.Generator().manual_seed(0)) / 48
    layout = slice_layout(weight.shape)
    assert layout is not None
    slices = to_slices(weight, layout)
    found = project(slices, threshold=0.0, iterations=5)
    error = float((found.rebuilt - slices).norm() / slices.norm())
    assert error == pytest.approx(0.185, abs=0.01)  # powers of two alone, 7 exponents
    assert weight.numel() * 32 / hardware_bits(layout, 1.0).total == pytest.approx(7.2, abs=0.05)


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=20))
def test_a_power_of_two_is_the_nearest_one(values: list[float]) -> None:
    values = [0.0 if abs(value) < 1e-30 else value for value in values]
    rounded = power_of_two(torch.tensor(values, dtype=torch.float64))
    for value, found in zip(values, rounded.tolist(), strict=True):
        if value == 0:
            assert found == 0
            continue
        mantissa, _ = math.frexp(abs(found))
        assert mantissa == 0.5
        assert math.copysign(1, found) == math.copysign(1, value)
        for other in (found / 2, found * 2):
            assert abs(value - found) <= abs(value - other)


@settings(deadline=None)
@given(st.integers(0, 2**16), st.sampled_from([3, 4, 5]))
def test_a_slice_never_needs_more_exponents_than_its_code_has(seed: int, bits: int) -> None:
    values = torch.randn(2, 20, 3, generator=torch.Generator().manual_seed(seed))
    rounded = limited_power_of_two(values, exponents_of(bits))
    for one in rounded:
        assert len({abs(v) for v in one.flatten().tolist()} - {0.0}) <= exponents_of(bits)


def test_empty_slices_and_dead_columns_stay_finite() -> None:
    slices = torch.zeros(3, 12, 3)
    slices[1, :, 0] = 1.0
    slices[2, 0, 0] = 1.0
    found = project(slices, threshold=0.01, row_factor=5.0, iterations=4)
    assert found.rebuilt.isfinite().all()
    assert float(found.rebuilt[0].abs().max()) == 0.0
    torch.testing.assert_close(found.rebuilt[1:], slices[1:], atol=1e-5, rtol=1e-5)


def test_the_iteration_ends_where_nothing_changes() -> None:
    exact = torch.tensor([[[0.5, 0.0], [0.5, 0.5], [0.5, -0.5], [0.5, 0.5], [0.0, 0.5]]])
    assert project(exact, threshold=0.0, iterations=30).iterations < 30


@pytest.mark.parametrize("shape", [(4, 100, 3, 3), (5, 70, 1, 1), (6, 700), (3, 64, 3, 3)])
def test_slices_give_the_weight_back(shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    layout = slice_layout(shape)
    assert layout is not None
    slices = to_slices(weight, layout)
    assert slices.shape == (layout.slice_count, layout.rows, layout.columns)
    assert layout.coefficient_count == slices.numel()
    assert torch.equal(from_slices(slices, layout, shape), weight)


def test_a_slice_of_a_3x3_convolution_has_kernel_rows_for_rows() -> None:
    weight = torch.arange(2 * 4 * 9.0).reshape(2, 4, 3, 3)
    layout = slice_layout(weight.shape)
    assert layout is not None
    slices = to_slices(weight, layout)
    assert torch.equal(slices[1, 3 * 2 + 1], weight[1, 2, 1])


def test_pruning_takes_the_same_rows_from_every_filter_of_a_group() -> None:
    weight = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    layout = slice_layout(weight.shape)
    assert layout is not None
    slices = pruned_slices(to_slices(weight, layout), layout, 0.4, group=4)
    pruned = from_slices(slices, layout, weight.shape)
    gone = ~pruned.any(dim=3)  # (filter, channel, kernel row)
    for start in (0, 4):
        assert (gone[start : start + 4] == gone[start]).all()
        assert int(gone[start].sum()) == math.ceil(0.4 * 12)
        scores = weight[start : start + 4].abs().sum(dim=(0, 3))
        assert scores[gone[start]].max() <= scores[~gone[start]].min()
    assert torch.equal(pruned[~gone], weight[~gone])
