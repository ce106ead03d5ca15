"""What the compiled modules share: indices of dimensions, operands and columns, rows, relevance.

Letters of shapes: `d` = 8 loop dimensions in the order B K C OY OX FY FX G, `o` = 3 operands in the order
I W O, `m` memory levels, `l` loop factors, `p` problems.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from evaluators.cost.compiled import jit

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
STRIDE_Y, STRIDE_X, DILATION_Y, DILATION_X, INPUT_Y, INPUT_X = range(4, 10)
PASS_CYCLES, PASS_OPERAND = range(10, 12)
ASKED = 12  # and 13, 14: per operand, the share of MACs for which the array reads its innermost memory
SCALARS: Final = 15

SLACK: Final = 1e-9  # products of fractional spatial factors come back to integers up to rounding


class Row(NamedTuple):
    """One problem as arrays: what `evaluators.cost.problem` packs, without the leading axis.

    `chain` (4, m): per operand the indices of its levels, and in the last row `HEADER`: how many each
    operand has, the accumulated operand, the number of levels. `ways` (2, o, m): how many instances of a
    level of the chain work (`UNITS`), and the stored bits of an element at a level (`BITS`). `spatial`
    (o, m, d): unrolling below each level of the chain. `scalars` and `levels`: columns above.
    """

    chain: Integers
    ways: Floats
    spatial: Floats
    scalars: Floats
    levels: Floats


# Last row of `chain`, and its columns after the operands' lengths.
HEADER: Final = 3
ACCUMULATED, LEVEL_COUNT = 3, 4

UNITS, BITS = range(2)


class Scratch(NamedTuple):
    """Working memory of one search; few arrays, because each costs compiling time in every function.

    `blocks` (room,): the flat table of `evaluators.cost.blocks`; `steps` (2, d, k) and `factors` (3, f): how
    blocks are found in it; `factor_size` (f,).
    `lines` (8, o, l + 1): energy and bits of an operand's prefixes at the level at hand (`VALUE`, `HELD`),
    least value up to each prefix (`INNER`); in their first rows iterations outside a prefix (`OUTSIDE`), and
    per level how many units hold sums of one element (`COPIES`); per level of an operand's chain the elements
    of the unrolling alone but for sliding windows (`UNROLLED`), with them (`FIRST`), and of all loops
    (`WHOLE`).
    `marks` (5, o, l + 1): the prefix with the irrelevant loops just above it (`MERGED`), and its block
    (`MERGED_AT`); in their first rows whether a reduction is outside (`DUE`), a prefix's
    block (`AT`); per level of an operand's chain its first column in a block (`COLUMN`).
    `tiles` (o, m, l + 1): the footprint of every prefix. `plan` (3, o, m): first level of the chain with the
    same unrolling below it (`CONTEXT`), the prefix held (`PREFIX`), in its first row whether an axis above
    adds partial sums (`DUE_AXES`). `picks` (o, m, l + 1): the prefix behind `INNER`. `state` (6, 4): see
    `allocation` and `blocks`. `extents` (3, d): of the block at hand, of all loops,
    and what the array unrolls of them. `activity`, `cycles`,
    `amounts`, `windows`: see `latency_kernel`. `orders` (4, l): orders at work, as numbers of factors.
    `random` (1,): generator's state. `seen` (2^k,): hashes of orders that were priced.
    """

    blocks: Floats
    steps: Integers
    lines: Floats
    marks: Integers
    tiles: Floats
    plan: Integers
    picks: Integers
    state: Integers
    extents: Floats
    activity: Floats
    cycles: Floats
    amounts: Floats
    windows: Floats
    factors: Integers
    factor_size: Floats
    orders: Integers
    random: npt.NDArray[np.uint64]
    seen: npt.NDArray[np.uint64]


VALUE, HELD, INNER, OUTSIDE, COPIES, UNROLLED, FIRST, WHOLE = range(8)
MERGED, DUE, AT, MERGED_AT, COLUMN = range(5)
CONTEXT, PREFIX, DUE_AXES = range(3)
DEPTH, START, FIXED, MEMBERS, LOOPS, TABLE = range(6)
COLUMNS, STAMP, FACTORS, EVERY = range(4)  # columns of the state's row `TABLE`
EXTENT, TOTAL, INSIDE = range(3)
PRIME, STEP = range(2)
FACTOR_DIM, FACTOR_STEP, FACTOR_MASK = range(3)
PRIMES: Final = 10  # no more distinct ones in any product below 2^32
FACTOR_ROOM: Final = 128
BLOCK_ROOM: Final = 1 << 20  # floats: 8 MB, of which only what is written takes memory
SEEN_BITS: Final = 11


def new_scratch() -> Scratch:
    """Return working memory of the largest size."""
    n = MAX_LOOPS + 1
    return Scratch(
        blocks=np.zeros(BLOCK_ROOM),
        steps=np.zeros((2, DIMS, PRIMES), np.int64),
        lines=np.zeros((8, 3, n)),
        marks=np.zeros((5, 3, n), np.int64),
        tiles=np.zeros((3, MAX_LEVELS, n)),
        plan=np.zeros((3, 3, MAX_LEVELS), np.int64),
        picks=np.zeros((3, MAX_LEVELS, n), np.int64),
        state=np.zeros((6, 4), np.int64),
        extents=np.ones((3, DIMS)),
        activity=np.zeros((3, MAX_LEVELS, DIRECTIONS, ACTIVITY_COLUMNS)),
        cycles=np.zeros((3, MAX_LEVELS, DIRECTIONS)),
        amounts=np.zeros((4, 3, MAX_LEVELS + 1)),
        windows=np.zeros((5, 3 * DIRECTIONS)),
        factors=np.zeros((3, FACTOR_ROOM), np.int64),
        factor_size=np.zeros(FACTOR_ROOM),
        orders=np.zeros((4, MAX_LOOPS), np.int64),
        random=np.zeros(1, np.uint64),
        seen=np.zeros(1 << SEEN_BITS, np.uint64),
    )


# Directions of a transfer, seen from the memory: towards the array or away from it.
READ_LOW, WRITE_LOW, READ_HIGH, WRITE_HIGH = range(4)
DIRECTIONS: Final = 4

# Columns of an activity, rows of `amounts` and of `windows`.
REAL, ALLOWED, PERIOD, TIMES, DEMAND = range(5)
ACTIVITY_COLUMNS: Final = 5
HELD_BITS, NEEDED_BITS, TOP_IRRELEVANT, USED = range(4)
PERIODS, OPEN, COVER, HIDDEN, RANK = range(5)


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
