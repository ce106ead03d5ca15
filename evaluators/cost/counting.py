"""The compiled core: footprints of loop prefixes, and what the transfers between two memories cost.

A mapping is an order of temporal loop factors, innermost first. Every memory of an operand holds a prefix
of it; an irrelevant loop just above a memory keeps what the memory holds. Between two neighbouring
memories of an operand the tile of the lower one moves once per iteration of the loops outside it, in whole
chunks of each memory's word. Arrays: see `evaluators.cost.layout`.
"""

from __future__ import annotations

import numpy as np

from evaluators.cost.compiled import entry, inlined, jit
from evaluators.cost.layout import (
    ACCUMULATED,
    BITS,
    CONTEXT,
    COPIES,
    DILATION_X,
    DILATION_Y,
    DIMS,
    DUE,
    DUE_AXES,
    EXTENT,
    FIRST,
    FX,
    FY,
    GRANULARITY,
    HEADER,
    INPUT_X,
    INPUT_Y,
    INSIDE,
    LOOPS,
    MERGED,
    OUTSIDE,
    OX,
    OY,
    PSUM_BITS,
    READ_BACK_FIRST,
    SLACK,
    STRIDE_X,
    STRIDE_Y,
    TOTAL,
    UNITS,
    UNROLLED,
    WHOLE,
    WORD,
    Floats,
    I,
    Integers,
    Row,
    Scratch,
    irrelevant,
    reduces,
    relevant,
)


@entry
def span(a: float, b: float, stride: float, dilation: float, full: float) -> float:
    """Return how many input rows `a` output rows and `b` filter rows touch, clipped to the unpadded input.

    Stride and dilation come without their common divisor.
    Source: ZigZag `LayerNode.calc_pr_dimension_size`.
    """
    a = np.floor(a + SLACK)
    b = np.floor(b + SLACK)
    rows = a * b - max(0.0, b - stride) * max(0.0, a - dilation)
    return float(min(rows, full))


@inlined
def rows_of(outputs: float, filters: float, row: Row) -> float:
    """Return the input rows that so many output and filter rows touch."""
    scalars = row.scalars
    return span(outputs, filters, scalars[STRIDE_Y], scalars[DILATION_Y], scalars[INPUT_Y])


@inlined
def columns_of(outputs: float, filters: float, row: Row) -> float:
    """Return the input columns that so many output and filter columns touch."""
    scalars = row.scalars
    return span(outputs, filters, scalars[STRIDE_X], scalars[DILATION_X], scalars[INPUT_X])


@inlined
def relevant_product(operand: int, extents: Floats) -> float:
    """Return the product of the extents (d,) of every loop each of whose steps touches other elements."""
    product = 1.0
    for d in range(DIMS):
        if relevant(operand, d):
            product *= extents[d]
    return product


@inlined
def tile_of(operand: int, j: int, product: float, extents: Floats, row: Row, lines: Floats) -> float:
    """Return the elements that loops of the given extents (d,) touch, with the unrolling below level `j`.

    `product` is that of `relevant_product`, which all levels share.
    """
    elements = lines[UNROLLED, operand, j] * product
    if operand == I:
        inside = row.spatial[operand, j]
        elements *= rows_of(extents[OY] * inside[OY], extents[FY] * inside[FY], row)
        elements *= columns_of(extents[OX] * inside[OX], extents[FX] * inside[FX], row)
    return float(elements)


@jit
def prepare(order_dim: Integers, order_size: Floats, loops: int, row: Row, scratch: Scratch) -> None:
    """Fill in what does not depend on the order: contexts, whole tensors, where axes add partial sums."""
    lines, extents = scratch.lines, scratch.extents
    extents[:] = 1.0
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
            elements = 1.0
            for d in range(DIMS):
                if relevant(operand, d):
                    elements *= row.spatial[operand, j, d]
            lines[UNROLLED, operand, j] = elements
            lines[FIRST, operand, j] = tile_of(operand, j, 1.0, extents[TOTAL], row, lines)
    for i in range(loops):
        extents[TOTAL, order_dim[i]] *= order_size[i]
    for operand in range(3):
        product = relevant_product(operand, extents[TOTAL])
        for j in range(row.chain[HEADER, operand]):
            lines[WHOLE, operand, j] = tile_of(operand, j, product, extents[TOTAL], row, lines)
    operand = row.chain[HEADER, ACCUMULATED]
    last = row.chain[HEADER, operand] - 1
    for j in range(last + 1):
        scratch.plan[DUE_AXES, 0, j] = 0
        lines[COPIES, 0, j] = 1.0
        for d in range(DIMS):
            ratio = row.spatial[operand, last, d] / row.spatial[operand, j, d]
            if ratio > 1.0 and reduces(operand, d):
                scratch.plan[DUE_AXES, 0, j] = 1
                lines[COPIES, 0, j] *= ratio


@jit
def measure(
    order_dim: Integers, order_size: Floats, loops: int, row: Row, whole: float, scratch: Scratch
) -> None:
    """Fill in what depends on the order: iterations outside, merged prefixes, reductions due, footprints.

    `whole` (1 or 0) rounds the average number of active PEs down to a whole one (see `Switches.whole_pes`).
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
    for operand in range(3):
        for j in range(row.chain[HEADER, operand]):
            if scratch.plan[CONTEXT, operand, j] == j:
                _footprints(operand, j, order_dim, order_size, loops, row, whole, scratch)


@jit
def _footprints(
    operand: int,
    j: int,
    order_dim: Integers,
    order_size: Floats,
    loops: int,
    row: Row,
    whole: float,
    scratch: Scratch,
) -> None:
    """Fill the elements that each prefix touches, with the unrolling below level `j` of an operand."""
    e = scratch.extents[EXTENT]
    tiles = scratch.tiles[operand, j]
    inside = scratch.extents[INSIDE]
    unrolled = product = 1.0
    for d in range(DIMS):
        factor = row.spatial[operand, j, d]
        inside[d] = np.floor(factor + SLACK) if whole > 0 else factor
        e[d] = 1.0
        if relevant(operand, d):
            unrolled *= inside[d]
    rows = columns = 1.0
    if operand == I:
        rows = rows_of(inside[OY], inside[FY], row)
        columns = columns_of(inside[OX], inside[FX], row)
    tiles[0] = unrolled * rows * columns
    for i in range(loops):
        d = order_dim[i]
        if operand == I and d in (OY, FY):
            e[d] *= order_size[i]
            rows = rows_of(inside[OY] * e[OY], inside[FY] * e[FY], row)
        elif operand == I and d in (OX, FX):
            e[d] *= order_size[i]
            columns = columns_of(inside[OX] * e[OX], inside[FX] * e[FX], row)
        elif not irrelevant(operand, d):
            product *= order_size[i]
        tiles[i + 1] = unrolled * product * rows * columns


@inlined
def words(elements: float, bits: float, granularity_bits: float, word_bits: float) -> float:
    """Return the words that one transfer of `elements` costs: whole chunks, counted as parts of a word."""
    return float(np.ceil(elements * bits / granularity_bits - SLACK) * granularity_bits / word_bits)


@inlined
def exchange(
    operand: int,
    b: int,
    due: bool,
    high_tile: float,
    low_tile: float,
    times: float,
    row: Row,
    switches: Floats,
    lines: Floats,
) -> tuple[float, float, float]:
    """Return what moves between memory `b` of an operand's chain and what is below it, in `times` rounds.

    Below memory 0 is the array. `due` says that partial sums move.

    Returns:
        Words at memory `b`, words at the memory below, and how much of that is also read back.
    """
    upper = row.chain[operand, b]
    high_bits = row.ways[BITS, operand, upper]
    units = row.ways[UNITS, operand, b]
    back = 0.0
    if due:
        high_bits = row.scalars[PSUM_BITS]
        back = 1.0
        if switches[READ_BACK_FIRST] == 0:
            full = lines[WHOLE, operand, row.chain[HEADER, operand] - 1] * lines[COPIES, 0, b]
            back = max(0.0, 1.0 - full / max(high_tile * times * units, 1.0))
    levels = row.levels
    high = words(high_tile, high_bits, levels[upper, GRANULARITY], levels[upper, WORD]) * times * units
    low = 0.0
    if b > 0:
        lower = row.chain[operand, b - 1]
        low_bits = row.scalars[PSUM_BITS] if due else row.ways[BITS, operand, lower]
        low = words(low_tile, low_bits, levels[lower, GRANULARITY], levels[lower, WORD])
        low *= times * row.ways[UNITS, operand, b - 1]
    return high, low, back
