"""The compiled core: footprints of loop prefixes, and what the transfers between two memories cost.

A mapping is an order of temporal loop factors, innermost first. Every memory of an operand holds a prefix
of it; an irrelevant loop just above a memory keeps what the memory holds. Between two neighbouring
memories of an operand the tile of the lower one moves once per iteration of the loops outside it, in whole
chunks of each memory's word. Arrays: see `evaluators.cost.layout`.
"""

from __future__ import annotations

import numpy as np

from evaluators.cost.compiled import jit
from evaluators.cost.layout import (
    ACCUMULATED,
    BITS,
    CONTEXT,
    COPIES,
    DILATION_X,
    DILATION_Y,
    DIMS,
    DOUBLED,
    DUE,
    DUE_AXES,
    EXECUTED,
    FX,
    FY,
    GRANULARITY,
    HALO_ONCE,
    HEADER,
    INPUT_X,
    INPUT_Y,
    LOOPS,
    MERGED,
    OUTSIDE,
    OX,
    OY,
    PIN_HOLDING,
    PSUM_BITS,
    READ_BACK_FIRST,
    READ_PJ,
    REST,
    SLACK,
    STRIDE_X,
    STRIDE_Y,
    SUMS,
    TILES,
    TRANSFER,
    UNITS,
    WORD,
    WRITE_PJ,
    Floats,
    I,
    Integers,
    Row,
    Scratch,
    irrelevant,
    reduces,
    relevant,
)


@jit
def span(a: float, b: float, stride: float, dilation: float, full: float) -> float:
    """Return how many input rows `a` output rows and `b` filter rows touch, clipped to the unpadded input.

    Source: ZigZag `LayerNode.calc_pr_dimension_size` (stride and dilation without their common divisor).
    """
    a = np.floor(a + SLACK)
    b = np.floor(b + SLACK)
    x = int(stride)
    y = int(dilation)
    while y:
        x, y = y, x % y
    rows = a * b - max(0.0, b - stride / x) * max(0.0, a - dilation / x)
    return float(min(rows, full))


@jit
def prepare(row: Row, scratch: Scratch) -> None:
    """Fill in what does not depend on the order."""
    for operand in range(3):
        for j in range(row.chain[HEADER, operand]):
            scratch.plan[CONTEXT, operand, j] = j
            for k in range(j):
                same = True
                for d in range(DIMS):
                    same = same and row.spatial[operand, k, d] == row.spatial[operand, j, d]
                if same:
                    scratch.plan[CONTEXT, operand, j] = k
                    break
    operand = row.chain[HEADER, ACCUMULATED]
    last = row.chain[HEADER, operand] - 1
    for j in range(last + 1):
        scratch.plan[DUE_AXES, 0, j] = 0
        scratch.lines[COPIES, 0, j] = 1.0
        for d in range(DIMS):
            ratio = row.spatial[operand, last, d] / row.spatial[operand, j, d]
            if ratio > 1.0 and reduces(operand, d):
                scratch.plan[DUE_AXES, 0, j] = 1
                scratch.lines[COPIES, 0, j] *= ratio


@jit
def measure(
    order_dim: Integers, order_size: Floats, loops: int, row: Row, whole: bool, scratch: Scratch
) -> None:
    """Fill in what depends on the order: iterations outside, merged prefixes, reductions due, footprints.

    `whole` rounds the average number of active PEs down to a whole one (see `Switches.whole_pes`).
    """
    scratch.state[LOOPS, 0] = loops
    lines, marks = scratch.lines, scratch.marks
    accumulated = row.chain[HEADER, ACCUMULATED]
    lines[OUTSIDE, 0, loops] = 1.0
    marks[DUE, 0, loops] = 0
    for operand in range(3):
        marks[MERGED, operand, loops] = loops
    for i in range(loops - 1, -1, -1):
        d = order_dim[i]
        lines[OUTSIDE, 0, i] = lines[OUTSIDE, 0, i + 1] * order_size[i]
        marks[DUE, 0, i] = 1 if marks[DUE, 0, i + 1] or reduces(accumulated, d) else 0
        for operand in range(3):
            marks[MERGED, operand, i] = marks[MERGED, operand, i + 1] if irrelevant(operand, d) else i
    _footprints(
        order_dim,
        order_size,
        loops,
        row.chain,
        row.spatial,
        row.scalars,
        scratch.plan,
        whole,
        scratch.extents,
        scratch.tables,
    )


@jit
def _footprints(
    order_dim: Integers,
    order_size: Floats,
    loops: int,
    chain: Integers,
    spatial: Floats,
    scalars: Floats,
    plan: Integers,
    whole: bool,
    e: Floats,
    tables: Floats,
) -> None:
    """Fill the elements that each prefix touches, with the unrolling below each level of each chain."""
    for operand in range(3):
        for j in range(chain[HEADER, operand]):
            if plan[CONTEXT, operand, j] != j:
                continue
            elements = 1.0
            for d in range(DIMS):
                factor = spatial[operand, j, d]
                e[d] = np.floor(factor + SLACK) if whole else factor
                if relevant(operand, d):
                    elements *= e[d]
            rows = columns = 1.0
            if operand == I:
                rows = span(e[OY], e[FY], scalars[STRIDE_Y], scalars[DILATION_Y], scalars[INPUT_Y])
                columns = span(e[OX], e[FX], scalars[STRIDE_X], scalars[DILATION_X], scalars[INPUT_X])
            tables[TILES, operand, j, 0] = elements * rows * columns
            for i in range(loops):
                d = order_dim[i]
                if operand == I and d in (OY, FY):
                    e[d] *= order_size[i]
                    rows = span(e[OY], e[FY], scalars[STRIDE_Y], scalars[DILATION_Y], scalars[INPUT_Y])
                elif operand == I and d in (OX, FX):
                    e[d] *= order_size[i]
                    columns = span(e[OX], e[FX], scalars[STRIDE_X], scalars[DILATION_X], scalars[INPUT_X])
                elif not irrelevant(operand, d):
                    elements *= order_size[i]
                tables[TILES, operand, j, i + 1] = elements * rows * columns


@jit
def tabulate(row: Row, switches: Floats, scratch: Scratch) -> float:
    """Fill `TRANSFER`, `REST` and `SUMS` for every memory but the outermost of each operand.

    Returns:
        The energy of the transfers between the array and the innermost memories.
    """
    chain, ways, scalars, levels = row.chain, row.ways, row.scalars, row.levels
    tables, lines, marks, plan = scratch.tables, scratch.lines, scratch.marks, scratch.plan
    loops = scratch.state[LOOPS, 0]
    energy_pj = 0.0
    for operand in range(3):
        accumulates = operand == chain[HEADER, ACCUMULATED]
        low = 0
        if not accumulates and switches[PIN_HOLDING] > 0:
            low = marks[MERGED, operand, 0]
        energy_pj += _array_pj(
            operand,
            accumulates,
            low,
            loops,
            chain,
            ways,
            scalars,
            levels,
            switches,
            tables,
            lines,
            marks,
            plan,
        )
        for j in range(chain[HEADER, operand] - 1):
            _tabulate_one(
                operand, accumulates, j, loops, low, chain, ways, scalars, levels, switches, tables, lines,
                marks, plan,
            )  # fmt: skip
    return energy_pj


@jit
def _array_pj(
    operand: int,
    accumulates: bool,
    low: int,
    loops: int,
    chain: Integers,
    ways: Floats,
    scalars: Floats,
    levels: Floats,
    switches: Floats,
    tables: Floats,
    lines: Floats,
    marks: Integers,
    plan: Integers,
) -> float:
    """Return the energy of what the array exchanges with an operand's innermost memory."""
    m = chain[operand, 0]
    tile = tables[TILES, operand, 0, 0]
    times = lines[OUTSIDE, 0, low] * scalars[EXECUTED] * ways[UNITS, operand, 0]
    element = ways[BITS, operand, m]
    back = 0.0
    if accumulates and (marks[DUE, 0, low] or plan[DUE_AXES, 0, 0]):
        element = scalars[PSUM_BITS]
        back = 1.0
        if switches[READ_BACK_FIRST] == 0:
            last = plan[CONTEXT, operand, chain[HEADER, operand] - 1]
            full = tables[TILES, operand, last, loops] * lines[COPIES, 0, 0]
            back = max(0.0, 1.0 - full / max(tile * times, 1.0))
    moved = words(tile, element, levels[m, GRANULARITY], levels[m, WORD]) * times
    if accumulates:
        return float(moved * (levels[m, WRITE_PJ] + back * levels[m, READ_PJ]))
    return float(moved * levels[m, READ_PJ])


@jit
def _tabulate_one(
    operand: int,
    accumulates: bool,
    j: int,
    loops: int,
    low: int,
    chain: Integers,
    ways: Floats,
    scalars: Floats,
    levels: Floats,
    switches: Floats,
    tables: Floats,
    lines: Floats,
    marks: Integers,
    plan: Integers,
) -> None:
    """Fill the tables of memory `j` of one operand's chain; the same counts as `boundary`, all prefixes."""
    lower, upper = chain[operand, j], chain[operand, j + 1]
    own, above = plan[CONTEXT, operand, j], plan[CONTEXT, operand, j + 1]
    low_parts = levels[lower, GRANULARITY] / levels[lower, WORD] * ways[UNITS, operand, j]
    high_parts = levels[upper, GRANULARITY] / levels[upper, WORD] * ways[UNITS, operand, j + 1]
    low_chunk, high_chunk = 1.0 / levels[lower, GRANULARITY], 1.0 / levels[upper, GRANULARITY]
    ratio = np.round(tables[TILES, operand, above, 0] / tables[TILES, operand, own, 0])
    last = plan[CONTEXT, operand, chain[HEADER, operand] - 1]
    full = tables[TILES, operand, last, loops] * lines[COPIES, 0, j + 1]
    doubled = 2.0 if levels[lower, DOUBLED] > 0 else 1.0
    whole = tables[TILES, operand, own, loops]
    energy_pj = 0.0
    done = -1
    for i in range(loops, -1, -1):
        tile = tables[TILES, operand, own, i]
        occupied = tile * (doubled if tile < whole else 1.0)
        tables[REST, operand, j, i] = occupied * ways[BITS, operand, lower]
        tables[SUMS, operand, j, i] = occupied * scalars[PSUM_BITS]
        m = max(marks[MERGED, operand, i], low)
        if m != done:
            done = m
            tile = tables[TILES, operand, own, m]
            high_tile = tables[TILES, operand, above, m] if switches[HALO_ONCE] > 0 else tile * ratio
            times = lines[OUTSIDE, 0, m]
            high_bits, low_bits = ways[BITS, operand, upper], ways[BITS, operand, lower]
            back = 0.0
            if accumulates and (marks[DUE, 0, m] or plan[DUE_AXES, 0, j + 1]):
                high_bits = low_bits = scalars[PSUM_BITS]
                back = 1.0
                if switches[READ_BACK_FIRST] == 0:
                    visits = high_tile * times * ways[UNITS, operand, j + 1]
                    back = max(0.0, 1.0 - full / max(visits, 1.0))
            high = np.ceil(high_tile * high_bits * high_chunk - SLACK) * high_parts * times
            here = np.ceil(tile * low_bits * low_chunk - SLACK) * low_parts * times
            if accumulates:
                energy_pj = high * (levels[upper, WRITE_PJ] + back * levels[upper, READ_PJ])
                energy_pj += here * (levels[lower, READ_PJ] + back * levels[lower, WRITE_PJ])
            else:
                energy_pj = high * levels[upper, READ_PJ] + here * levels[lower, WRITE_PJ]
        tables[TRANSFER, operand, j, i] = energy_pj


@jit
def words(elements: float, bits: float, granularity_bits: float, word_bits: float) -> float:
    """Return the words that one transfer of `elements` costs: whole chunks, counted as parts of a word."""
    return float(np.ceil(elements * bits / granularity_bits - SLACK) * granularity_bits / word_bits)
