"""The compiled count of an allocated order: words read and written at every memory of every operand.

`boundary` is the definition; `counting.tabulate` has the same formulae unrolled over all prefixes, and a test
holds the two together. Arrays: see `evaluators.cost.layout`.
"""

from __future__ import annotations

import numpy as np

from evaluators.cost.compiled import jit
from evaluators.cost.counting import words
from evaluators.cost.layout import (
    ACCUMULATED,
    BITS,
    CONTEXT,
    COPIES,
    DUE,
    DUE_AXES,
    EXECUTED,
    GRANULARITY,
    HALO_ONCE,
    HEADER,
    LOOPS,
    MERGED,
    OUTSIDE,
    PIN_HOLDING,
    PREFIX,
    PSUM_BITS,
    READ_BACK_FIRST,
    READ_PJ,
    TILES,
    UNITS,
    WORD,
    WRITE_PJ,
    Floats,
    Row,
    Scratch,
)


@jit
def boundary(
    operand: int, b: int, prefix: int, row: Row, switches: Floats, scratch: Scratch
) -> tuple[float, float, float]:
    """Return the transfers between memory `b` of an operand's chain and what is below it.

    `prefix` is the (merged) prefix that the lower memory holds; below memory 0 is the array.

    Returns:
        Words at memory `b`, words at the memory below, and how much of that is also read back.
    """
    context = scratch.plan[CONTEXT, operand, b]
    upper = row.chain[operand, b]
    times = scratch.lines[OUTSIDE, 0, prefix]
    high_bits = row.ways[BITS, operand, upper]
    low_tile = 1.0
    low_bits = 0.0
    if b == 0:
        high_tile = scratch.tables[TILES, operand, 0, 0]
        times *= row.scalars[EXECUTED]
    else:
        below = scratch.plan[CONTEXT, operand, b - 1]
        low_tile = scratch.tables[TILES, operand, below, prefix]
        low_bits = row.ways[BITS, operand, row.chain[operand, b - 1]]
        if switches[HALO_ONCE] > 0:
            high_tile = scratch.tables[TILES, operand, context, prefix]
        else:
            ratio = scratch.tables[TILES, operand, context, 0] / scratch.tables[TILES, operand, below, 0]
            high_tile = low_tile * np.round(ratio)
    back = 0.0
    if operand == row.chain[HEADER, ACCUMULATED] and (
        scratch.marks[DUE, 0, prefix] or scratch.plan[DUE_AXES, 0, b]
    ):
        high_bits = low_bits = row.scalars[PSUM_BITS]
        back = 1.0
        if switches[READ_BACK_FIRST] == 0:
            last = scratch.plan[CONTEXT, operand, row.chain[HEADER, operand] - 1]
            full = scratch.tables[TILES, operand, last, scratch.state[LOOPS, 0]]
            visits = high_tile * times * row.ways[UNITS, operand, b]
            back = max(0.0, 1.0 - full * scratch.lines[COPIES, 0, b] / max(visits, 1.0))
    high = (
        words(high_tile, high_bits, row.levels[upper, GRANULARITY], row.levels[upper, WORD])
        * times
        * row.ways[UNITS, operand, b]
    )
    low = 0.0
    if b > 0:
        lower = row.chain[operand, b - 1]
        low = (
            words(low_tile, low_bits, row.levels[lower, GRANULARITY], row.levels[lower, WORD])
            * times
            * row.ways[UNITS, operand, b - 1]
        )
    return high, low, back


@jit
def lowest_prefix(operand: int, row: Row, switches: Floats, scratch: Scratch) -> int:
    """Return the loops during which the array holds an element of `operand` without asking for it again."""
    if operand != row.chain[HEADER, ACCUMULATED] and switches[PIN_HOLDING] > 0:
        return int(scratch.marks[MERGED, operand, 0])
    return 0


@jit
def count(row: Row, switches: Floats, scratch: Scratch, reads: Floats, writes: Floats) -> float:
    """Fill `reads` and `writes` (o, m) with the words of the whole layer; return their energy in pJ."""
    reads[:] = 0.0
    writes[:] = 0.0
    energy_pj = 0.0
    for operand in range(3):
        for b in range(row.chain[HEADER, operand]):
            prefix = lowest_prefix(operand, row, switches, scratch)
            if b > 0:
                prefix = max(prefix, scratch.marks[MERGED, operand, scratch.plan[PREFIX, operand, b - 1]])
            high, low, back = boundary(operand, b, prefix, row, switches, scratch)
            upper = row.chain[operand, b]
            lower = row.chain[operand, b - 1] if b > 0 else upper
            if operand == row.chain[HEADER, ACCUMULATED]:
                writes[operand, upper] += high
                reads[operand, upper] += high * back
                reads[operand, lower] += low
                writes[operand, lower] += low * back
            else:
                reads[operand, upper] += high
                writes[operand, lower] += low
        for b in range(row.chain[HEADER, operand]):
            m = row.chain[operand, b]
            energy_pj += (
                reads[operand, m] * row.levels[m, READ_PJ] + writes[operand, m] * row.levels[m, WRITE_PJ]
            )
    return energy_pj
