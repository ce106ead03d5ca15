"""The compiled count of an allocated order: words read and written at every memory of every operand.

Arrays: see `evaluators.cost.layout`.
"""

from __future__ import annotations

import numpy as np

from evaluators.cost.compiled import inlined, jit
from evaluators.cost.counting import exchange
from evaluators.cost.layout import (
    ACCUMULATED,
    ASKED,
    CONTEXT,
    DUE,
    DUE_AXES,
    FIRST,
    HALO_ONCE,
    HEADER,
    MERGED,
    OUTSIDE,
    PIN_HOLDING,
    PREFIX,
    READ_PJ,
    WRITE_PJ,
    Floats,
    Row,
    Scratch,
)


@jit
def boundary(
    operand: int, b: int, prefix: int, row: Row, switches: Floats, scratch: Scratch
) -> tuple[float, float, float]:
    """Return the transfers between memory `b` of an operand's chain and what is below it, as `exchange`.

    `prefix` is the (merged) prefix that the lower memory holds; below memory 0 is the array.
    """
    first = scratch.lines[FIRST, operand]
    times = scratch.lines[OUTSIDE, 0, prefix]
    due = operand == row.chain[HEADER, ACCUMULATED] and (
        scratch.marks[DUE, 0, prefix] > 0 or scratch.plan[DUE_AXES, 0, b] > 0
    )
    if b == 0:
        times *= row.scalars[ASKED + operand]
        return exchange(operand, b, due, first[0], 1.0, times, row, switches, scratch.lines)
    low_tile = scratch.tiles[operand, scratch.plan[CONTEXT, operand, b - 1], prefix]
    high_tile = scratch.tiles[operand, scratch.plan[CONTEXT, operand, b], prefix]
    if switches[HALO_ONCE] == 0:
        high_tile = low_tile * np.round(first[b] / first[b - 1])
    return exchange(operand, b, due, high_tile, low_tile, times, row, switches, scratch.lines)


@jit
def lowest_prefix(operand: int, row: Row, switches: Floats, scratch: Scratch) -> int:
    """Return the loops during which the array holds an element of `operand` without asking for it again."""
    if operand != row.chain[HEADER, ACCUMULATED] and switches[PIN_HOLDING] > 0:
        return int(scratch.marks[MERGED, operand, 0])
    return 0


@inlined
def booked_pj(operand: int, b: int, high: float, low: float, back: float, row: Row) -> float:
    """Return the energy of what moves between memory `b` of an operand's chain and what is below it."""
    upper = row.chain[operand, b]
    lower = row.chain[operand, b - 1] if b > 0 else upper
    levels = row.levels
    if operand == row.chain[HEADER, ACCUMULATED]:
        above_pj = high * (levels[upper, WRITE_PJ] + back * levels[upper, READ_PJ])
        return float(above_pj + low * (levels[lower, READ_PJ] + back * levels[lower, WRITE_PJ]))
    return float(high * levels[upper, READ_PJ] + low * levels[lower, WRITE_PJ])


@jit
def count(row: Row, switches: Floats, scratch: Scratch, reads: Floats, writes: Floats) -> float:
    """Fill `reads` and `writes` (o, m) with the words of the whole layer; return their energy in pJ."""
    reads[:] = 0.0
    writes[:] = 0.0
    energy_pj = 0.0
    for operand in range(3):
        operand_pj = 0.0
        for b in range(row.chain[HEADER, operand]):
            prefix = lowest_prefix(operand, row, switches, scratch)
            if b > 0:
                prefix = max(prefix, scratch.marks[MERGED, operand, scratch.plan[PREFIX, operand, b - 1]])
            high, low, back = boundary(operand, b, prefix, row, switches, scratch)
            operand_pj += booked_pj(operand, b, high, low, back, row)
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
        energy_pj += operand_pj
    return energy_pj
