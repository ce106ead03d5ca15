"""What the compiled modules share: indices of dimensions, operands and columns, rows, relevance.

Letters of shapes: `d` = 8 loop dimensions in the order B K C OY OX FY FX G, `o` = 3 operands in the order
I W O, `m` memory levels, `l` loop factors, `p` problems.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from evaluators.cost.compiled import inlined, jit

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
PIN_HOLDING, READ_BACK_FIRST, HALO_ONCE, WHOLE_PES, GREEDY = range(5)

# Columns of `scalars`.
PSUM_BITS, EXECUTED, MAC_CYCLES, MAC_PJ = range(4)

SLACK: Final = 1e-9  # products of fractional spatial factors come back to integers up to rounding


class Row(NamedTuple):
    """One problem as arrays: what `evaluators.cost.problem` packs, without the leading axis.

    `chain` (o, m) indices of each operand's levels and `chain_length` (o,) how many; `spatial` (o, m, d)
    unrolling below each of them and `units` (o, m) how many instances work; `geometry` (6,) strides,
    dilations and unpadded sizes; `bits` (o, m) stored bits of an element; `scalars`, `levels`: columns above.
    """

    chain: Integers
    chain_length: Integers
    spatial: Floats
    units: Floats
    geometry: Floats
    bits: Floats
    scalars: Floats
    accumulated: int
    level_count: int
    levels: Floats


class Scratch(NamedTuple):
    """Working memory of one search.

    Fixed for a row: `context` (o, m) the first level of the chain with the same unrolling below it,
    `due_axes` (m,) whether an axis above adds partial sums, `copies` (m,) how many units hold sums of one
    element. For each order: `size` (1,) its number of loops, `outside` (l + 1,) iterations outside a prefix,
    `merged` (o, l + 1) the prefix with the irrelevant loops just above it, `due` (l + 1,) whether a reduction
    is outside, `tiles` (o, m, l + 1) footprints. For the allocation: `transfer` (o, m, l + 1) energy of all
    transfers between a memory with that prefix and the next one, `rest_bits` (o, m, l + 1) what the prefix
    occupies when its sums are final, and `sum_bits` (m, l + 1) while they are not; `value`, `held`, `inner`
    (o, l + 1), `pick` (o, m, l + 1) and `state` (4, o) are the dynamic programme's; `prefix` (o, m) its result.
    """

    size: Integers
    context: Integers
    due_axes: Integers
    copies: Floats
    outside: Floats
    merged: Integers
    due: Integers
    tiles: Floats
    transfer: Floats
    rest_bits: Floats
    sum_bits: Floats
    value: Floats
    held: Floats
    inner: Floats
    pick: Integers
    state: Integers
    least: Integers
    prefix: Integers


@jit
def new_scratch() -> Scratch:
    """Return working memory of the largest size."""
    n = MAX_LOOPS + 1
    return Scratch(
        np.zeros(1, np.int64),
        np.zeros((3, MAX_LEVELS), np.int64),
        np.zeros(MAX_LEVELS, np.int64),
        np.ones(MAX_LEVELS),
        np.ones(n),
        np.zeros((3, n), np.int64),
        np.zeros(n, np.int64),
        np.zeros((3, MAX_LEVELS, n)),
        np.zeros((3, MAX_LEVELS, n)),
        np.zeros((3, MAX_LEVELS, n)),
        np.zeros((MAX_LEVELS, n)),
        np.zeros((3, n)),
        np.zeros((3, n)),
        np.zeros((3, n)),
        np.zeros((3, MAX_LEVELS, n), np.int64),
        np.zeros((4, 3), np.int64),
        np.zeros(n, np.int64),
        np.zeros((3, MAX_LEVELS), np.int64),
    )


@inlined
def irrelevant(operand: int, dim: int) -> bool:
    """Return whether looping over `dim` leaves the elements of `operand` untouched."""
    if operand == W:
        return dim in (B, OY, OX)
    if operand == O:
        return dim in (C, FY, FX)
    return dim == K


@inlined
def relevant(operand: int, dim: int) -> bool:
    """Return whether every step of `dim` touches other elements of `operand` (sliding windows do not)."""
    if operand == I:
        return dim in (B, C, G)
    return not irrelevant(operand, dim)


@inlined
def reduces(accumulated: int, dim: int) -> bool:
    """Return whether `dim` adds into elements of the accumulated operand that were visited before."""
    if accumulated == I:  # windows of different output rows overlap in the input
        return dim in (K, FY, FX)
    return irrelevant(accumulated, dim)
