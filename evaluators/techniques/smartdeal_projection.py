"""SmartDeal's decomposition W ~ Q B, batched: Q sparse powers of two, B a small basis a slice.

Columns of Q have unit norm before they are rounded, so that a threshold means the same for every layer
(the released code leaves the scale in, which makes its threshold depend on the size of the weights).

Source: Zhao et al., ISCA 2020, algorithm 1; github VITA-Group/SmartDeal, `core_decompose`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from evaluators.techniques.smartdeal_layout import SliceLayout
from evaluators.threads import one_thread

ROW_FACTOR = 5.0  # a row goes where its L1 norm is below 5 thresholds: `core_decompose`
TOLERANCE = 1e-10  # of the change of Q at which the iteration ends: `core_decompose`
RELATIVE_EIGENVALUE = 1e-10  # of the Gram matrix, below which a direction counts as dead (ours)
VALUES_AT_ONCE = 2**16  # weights that are worked on together; they stay in cache, 2 x as fast as all at once


@dataclass(frozen=True, kw_only=True, slots=True)
class Projected:
    """Slices after decomposition.

    Args:
        coefficients: (s, m, n), each 0 or plus or minus a power of two.
        basis: (s, n, n).
        iterations: how many were run.
    """

    coefficients: torch.Tensor
    basis: torch.Tensor
    iterations: int

    @property
    def rebuilt(self) -> torch.Tensor:
        """The slices that the factors make, (s, m, n)."""
        return self.coefficients @ self.basis


def power_of_two(values: torch.Tensor) -> torch.Tensor:
    """Round to the nearest of 0 and plus or minus 2^p; halfway goes to the smaller, zero stays zero.

    >>> power_of_two(torch.tensor([0.0, 1.5, 1.6, -0.3])).tolist()
    [0.0, 1.0, 2.0, -0.25]
    """
    if values.dtype is torch.float64:
        words, half, exponent = torch.int64, 0x0007_FFFF_FFFF_FFFF, 0x7FF0_0000_0000_0000
    else:
        values, words, half, exponent = values.float(), torch.int32, 0x003F_FFFF, 0x7F80_0000
    # One less than half the mantissa carries into the exponent exactly where the mantissa is above 1.5.
    sizes = values.abs().view(words).add_(half).bitwise_and_(exponent)
    return sizes.view(values.dtype).copysign_(values)


def limited_power_of_two(values: torch.Tensor, exponents: int) -> torch.Tensor:
    """Round to powers of two, of which each slice has the largest `exponents` in a row, and zero.

    Args:
        values: (s, m, n).
        exponents: how many a code of `coefficient_bits` can name: 2^(bits - 1) - 1, beside zero and a sign.
    """
    rounded = power_of_two(values)
    smallest = rounded.abs().amax(dim=(1, 2), keepdim=True) * 2.0 ** (1 - exponents)
    lifted = torch.maximum(rounded.abs(), smallest) * (values.abs() > smallest / 2)
    return lifted.copysign_(values)


def exponents_of(coefficient_bits: int) -> int:
    """Return how many exponents a signed code has beside zero.

    >>> exponents_of(4)
    7
    """
    count: int = 2 ** (coefficient_bits - 1) - 1
    return count


def project(
    slices: torch.Tensor,
    *,
    threshold: float,
    row_factor: float = 0.0,
    exponents: int = 7,
    iterations: int = 30,
) -> Projected:
    """Decompose slices by alternating least squares.

    Args:
        slices: (s, m, n).
        threshold: coefficients below it become zero; columns have unit norm.
        row_factor: rows whose L1 norm is below `row_factor * threshold` become zero; 0 keeps all.
        exponents: powers of two that a slice may use.
        iterations: at most so many; 30 in the published runs, 10 do for a proxy.
    """
    at_once = max(1, VALUES_AT_ONCE // max(1, slices[0].numel()))
    with one_thread():
        parts = [
            _project(part, threshold, row_factor, exponents, iterations)
            for part in torch.split(slices, at_once)
        ]
    return Projected(
        coefficients=torch.cat([part.coefficients for part in parts]),
        basis=torch.cat([part.basis for part in parts]),
        iterations=max(part.iterations for part in parts),
    )


def _project(
    slices: torch.Tensor, threshold: float, row_factor: float, exponents: int, iterations: int
) -> Projected:
    coefficients = _unit_columns(slices)
    previous = torch.zeros_like(slices)
    iteration = 0
    for iteration in range(1, iterations + 1):  # noqa: B007  # how many were run is part of the result
        rounded = limited_power_of_two(coefficients, exponents)
        if float((rounded - previous).norm()) <= TOLERANCE:
            break
        previous = rounded
        basis = fitted_basis(slices, rounded)
        coefficients = _unit_columns(fitted_coefficients(slices, basis))
        coefficients = _thresholded(coefficients, threshold, row_factor)
    rounded = limited_power_of_two(coefficients, exponents)
    return Projected(coefficients=rounded, basis=fitted_basis(slices, rounded), iterations=iteration)


def fitted_basis(slices: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
    """Return the basis of least squared error, (s, n, n)."""
    transposed = coefficients.transpose(1, 2)
    return _solve(transposed @ coefficients, transposed @ slices)


def fitted_coefficients(slices: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """Return the coefficients of least squared error, (s, m, n)."""
    transposed = basis.transpose(1, 2)
    return slices @ _solve(basis @ transposed, basis).transpose(1, 2)


def _solve(gram: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return gram^+ right; a direction that died (a column of zeros) gets zero and no infinity.

    In double precision, because the normal equations square the condition of the factors.
    """
    scale = gram.diagonal(dim1=1, dim2=2).mean(dim=1).clamp_min(torch.finfo(gram.dtype).tiny)
    ridged = gram.double() / scale.double()[:, None, None]
    ridge = RELATIVE_EIGENVALUE * torch.eye(gram.shape[-1], dtype=torch.float64, device=gram.device)
    solved: torch.Tensor = torch.linalg.solve(ridged + ridge, right.double() / scale.double()[:, None, None])
    return solved.to(gram.dtype)


def _unit_columns(values: torch.Tensor) -> torch.Tensor:
    norms = values.norm(dim=1, keepdim=True)
    return values / torch.where(norms > 0, norms, torch.ones_like(norms))


def _thresholded(values: torch.Tensor, threshold: float, row_factor: float) -> torch.Tensor:
    sizes = values.abs()
    kept = sizes >= threshold
    if row_factor > 0:
        kept &= sizes.sum(dim=2, keepdim=True) >= row_factor * threshold
    return values * kept


def pruned_slices(
    slices: torch.Tensor, layout: SliceLayout, fraction: float, *, group: int = 32
) -> torch.Tensor:
    """Set the rows of least L1 norm to zero, the same ones in every filter of a group.

    A row is a kernel row of a 3x3 convolution, and a few neighbouring inputs of a 1x1 or a linear layer.

    Args:
        slices: (s, m, n), as `to_slices` gives them.
        layout: of the slices.
        fraction: of the rows of each group; rounded up.
        group: filters that lose the same rows.

    Source: github VITA-Group/SmartDeal, `smart_exchange_structural.py` (`prune_type=population`).
    """
    rows = math.ceil(layout.values / layout.columns)
    per_filter = slices.reshape(layout.filters, -1, layout.columns)
    scores = per_filter.abs().sum(dim=2)[:, :rows]  # without the rows that only pad
    kept = torch.ones_like(per_filter[:, :, :1])
    for start in range(0, layout.filters, group):
        order = scores[start : start + group].sum(dim=0).argsort(stable=True)
        kept[start : start + group, order[: math.ceil(fraction * rows)]] = 0.0
    return (per_filter * kept).reshape(slices.shape)
