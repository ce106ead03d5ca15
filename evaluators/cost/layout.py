"""What the compiled modules share: indices of dimensions, operands and columns, relevance, the decorator.

Letters of shapes: `d` = 8 loop dimensions in the order B K C OY OX FY FX G, `o` = 3 operands in the order
I W O, `m` memory levels, `l` loop factors, `p` problems.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import numba
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Callable

    _F = TypeVar("_F", bound=Callable[..., object])

    def jit(function: _F) -> _F: ...

    def parallel_jit(function: _F) -> _F: ...

else:
    jit = numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
    parallel_jit = numba.njit(cache=True, nogil=True, error_model="numpy", boundscheck=False, parallel=True)

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

DIMS: Final = 8
MAX_LEVELS: Final = 8
MAX_LOOPS: Final = 24
B, K, C, OY, OX, FY, FX, G = range(DIMS)
I, W, O = 0, 1, 2  # noqa: E741  # the field's letters

# Columns of a level's row in `levels`.
CAPACITY, WORD, GRANULARITY, READ_PJ, WRITE_PJ = range(5)
READ_CYCLES, WRITE_CYCLES, ONE_PORT, DOUBLED, RESERVED = range(5, 10)
LEVEL_COLUMNS: Final = 10

# Columns of `switches`.
PIN_HOLDING, READ_BACK_FIRST, HALO_ONCE, WHOLE_PES = range(4)

# Columns of `scalars`.
PSUM_BITS, EXECUTED, MAC_CYCLES, MAC_PJ = range(4)

SLACK: Final = 1e-9  # products of fractional spatial factors come back to integers up to rounding


@jit
def irrelevant(operand: int, dim: int) -> bool:
    """Return whether looping over `dim` leaves the elements of `operand` untouched."""
    if operand == W:
        return dim in (B, OY, OX)
    if operand == O:
        return dim in (C, FY, FX)
    return dim == K


@jit
def relevant(operand: int, dim: int) -> bool:
    """Return whether every step of `dim` touches other elements of `operand` (sliding windows do not)."""
    if operand == I:
        return dim in (B, C, G)
    return not irrelevant(operand, dim)


@jit
def reduces(accumulated: int, dim: int) -> bool:
    """Return whether `dim` adds into elements of the accumulated operand that were visited before."""
    if accumulated == I:  # windows of different output rows overlap in the input
        return dim in (K, FY, FX)
    return irrelevant(accumulated, dim)


@jit
def sums_due(
    accumulated: int, order_dim: Integers, above: int, loops: int, all_axes: Floats, below: Floats
) -> bool:
    """Return whether sums are still partial: a reduction stands above loop `above` or on an axis above.

    Args:
        all_axes: Unrolling (d,) of the whole array.
        below: Unrolling (d,) below the memory in question.
    """
    due = False
    for i in range(above, loops):
        due = due or reduces(accumulated, order_dim[i])
    for d in range(DIMS):
        due = due or (all_axes[d] > below[d] and reduces(accumulated, d))
    return due
