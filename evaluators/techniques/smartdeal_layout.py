"""How SmartDeal cuts a weight into slices, each a tall matrix with a basis of its own.

A 3x3 convolution gives one matrix a filter: its rows are (input channel, kernel row), its columns the kernel
columns. A 1x1 convolution or a linear layer gives one a filter too: its vector of weights, padded with zeros
and folded into rows of the basis' width. A matrix of more than `slice_rows` rows is cut into equal slices.

Source: github VITA-Group/SmartDeal, `smart_exchange.py`; Zhao et al., ISCA 2020, section III.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

SLICE_ROWS = 192  # 64 input channels of 3 kernel rows, the `factor_long` of the code


@dataclass(frozen=True, kw_only=True, slots=True)
class SliceLayout:
    """The slices of one weight.

    Args:
        filters: matrices, one a filter (output channel).
        values: weights of one filter.
        slices: slices of one filter.
        rows: rows of one slice, padding included.
        columns: columns of a slice, and both sizes of its basis.
        has_kernel_rows: a row is a kernel row, which an accelerator can skip and a threshold may remove.
    """

    filters: int
    values: int
    slices: int
    rows: int
    columns: int
    has_kernel_rows: bool

    @property
    def slice_count(self) -> int:
        """Slices of the whole weight; each has one basis."""
        return self.filters * self.slices

    @property
    def row_count(self) -> int:
        """Rows of all slices."""
        return self.slice_count * self.rows

    @property
    def coefficient_count(self) -> int:
        """Coefficients of all slices, padding included."""
        return self.row_count * self.columns

    @property
    def basis_count(self) -> int:
        """Elements of all bases."""
        return self.slice_count * self.columns * self.columns


def slice_layout(
    shape: Sequence[int], *, columns: int = 3, slice_rows: int = SLICE_ROWS
) -> SliceLayout | None:
    """Return how a weight is cut, or None where SmartDeal leaves it as it is.

    Left are kernels that are neither 1x1 nor `columns` wide (the 7x7 stem), and kernels over one input
    channel (depthwise): a 3x3 slice needs a 3x3 basis, 108 bits in the place of 72 at 8 bits a weight.

    Args:
        shape: (k, c / groups, fy, fx) of a convolution, (k, c) of a linear layer.
        columns: width of a slice.
        slice_rows: the most rows of a slice.

    >>> slice_layout((256, 256, 3, 3)).slices, slice_layout((1000, 2048)).rows
    (4, 171)
    """
    filters, *rest = shape
    values = math.prod(rest)
    kernel = tuple(rest[1:])
    is_spatial = kernel not in ((), (1, 1))
    if rest[0] == 1 or (is_spatial and kernel != (columns, columns)):
        return None
    rows = math.ceil(values / columns)
    slices = math.ceil(rows / slice_rows)
    return SliceLayout(
        filters=filters,
        values=values,
        slices=slices,
        rows=math.ceil(rows / slices),
        columns=columns,
        has_kernel_rows=is_spatial,
    )


def to_slices(weight: torch.Tensor, layout: SliceLayout) -> torch.Tensor:
    """Return the slices of a weight, (slice_count, rows, columns), zeros at the padded places."""
    padded = layout.slices * layout.rows * layout.columns - layout.values
    flat = torch.nn.functional.pad(weight.reshape(layout.filters, layout.values), (0, padded))
    return flat.reshape(layout.slice_count, layout.rows, layout.columns)


def from_slices(slices: torch.Tensor, layout: SliceLayout, shape: Sequence[int]) -> torch.Tensor:
    """Return the weight of a shape that the slices were cut from."""
    return slices.reshape(layout.filters, -1)[:, : layout.values].reshape(tuple(shape))
