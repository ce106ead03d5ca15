"""The compiled core: footprints of loop prefixes, and what the transfers between two memories cost.

A mapping is an order of temporal loop factors, innermost first. Every memory of an operand holds a prefix
of it; an irrelevant loop just above a memory keeps what the memory holds. Between two neighbouring
memories of an operand the tile of the lower one moves once per iteration of the loops outside it, in whole
chunks of each memory's word. Arrays: see `evaluators.cost.layout`.
"""

from __future__ import annotations

import numpy as np

from evaluators.cost.compiled import inlined, jit
from evaluators.cost.layout import (
    DIMS,
    DOUBLED,
    EXECUTED,
    FX,
    FY,
    GRANULARITY,
    HALO_ONCE,
    OX,
    OY,
    PIN_HOLDING,
    PSUM_BITS,
    READ_BACK_FIRST,
    READ_PJ,
    SLACK,
    WORD,
    WRITE_PJ,
    B,
    C,
    Floats,
    G,
    I,
    Integers,
    Row,
    Scratch,
    irrelevant,
    reduces,
    relevant,
)


@inlined
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
        for j in range(row.chain_length[operand]):
            scratch.context[operand, j] = j
            for k in range(j):
                same = True
                for d in range(DIMS):
                    same = same and row.spatial[operand, k, d] == row.spatial[operand, j, d]
                if same:
                    scratch.context[operand, j] = k
                    break
    operand = row.accumulated
    last = row.chain_length[operand] - 1
    for j in range(last + 1):
        scratch.due_axes[j] = 0
        scratch.copies[j] = 1.0
        for d in range(DIMS):
            ratio = row.spatial[operand, last, d] / row.spatial[operand, j, d]
            if ratio > 1.0 and reduces(operand, d):
                scratch.due_axes[j] = 1
                scratch.copies[j] *= ratio


@jit
def measure(
    order_dim: Integers, order_size: Floats, loops: int, row: Row, whole: bool, scratch: Scratch
) -> None:
    """Fill in what depends on the order: iterations outside, merged prefixes, reductions due, footprints.

    `whole` rounds the average number of active PEs down to a whole one (see `Switches.whole_pes`).
    """
    scratch.size[0] = loops
    outside, due, merged = scratch.outside, scratch.due, scratch.merged
    accumulated = row.accumulated
    outside[loops] = 1.0
    due[loops] = 0
    for operand in range(3):
        merged[operand, loops] = loops
    for i in range(loops - 1, -1, -1):
        d = order_dim[i]
        outside[i] = outside[i + 1] * order_size[i]
        due[i] = 1 if due[i + 1] or reduces(accumulated, d) else 0
        for operand in range(3):
            merged[operand, i] = merged[operand, i + 1] if irrelevant(operand, d) else i
    _all_footprints(
        order_dim, order_size, loops, row.chain_length, row.spatial, row.geometry, scratch.context, whole,
        scratch.tiles,
    )  # fmt: skip


@jit
def _all_footprints(
    order_dim: Integers,
    order_size: Floats,
    loops: int,
    chain_length: Integers,
    spatial: Floats,
    geometry: Floats,
    context: Integers,
    whole: bool,
    tiles: Floats,
) -> None:
    """Fill `tiles` (o, m, l + 1) with the elements that each prefix touches, with the unrolling below."""
    extents = np.ones(DIMS)
    for operand in range(3):
        for j in range(chain_length[operand]):
            if context[operand, j] != j:
                continue
            elements = 1.0
            for d in range(DIMS):
                factor = spatial[operand, j, d]
                extents[d] = np.floor(factor + SLACK) if whole else factor
                if relevant(operand, d):
                    elements *= extents[d]
            rows = columns = 1.0
            if operand == I:
                rows = span(extents[OY], extents[FY], geometry[0], geometry[2], geometry[4])
                columns = span(extents[OX], extents[FX], geometry[1], geometry[3], geometry[5])
            tiles[operand, j, 0] = elements * rows * columns
            for i in range(loops):
                d = order_dim[i]
                if not irrelevant(operand, d):
                    if operand != I or d in (B, C, G):
                        elements *= order_size[i]
                    else:
                        extents[d] *= order_size[i]
                        if d in (OY, FY):
                            rows = span(extents[OY], extents[FY], geometry[0], geometry[2], geometry[4])
                        else:
                            columns = span(extents[OX], extents[FX], geometry[1], geometry[3], geometry[5])
                tiles[operand, j, i + 1] = elements * rows * columns


@jit
def tabulate(row: Row, switches: Floats, scratch: Scratch) -> float:
    """Fill `transfer`, `rest_bits` and `sum_bits` for every memory but the outermost of each operand.

    Every array is taken out of its tuple once: doing so costs as much as a dozen multiplications.

    Returns:
        The energy of the transfers between the array and the innermost memories.
    """
    chain, chain_length, units, bits = row.chain, row.chain_length, row.units, row.bits
    scalars, levels, accumulated = row.scalars, row.levels, row.accumulated
    context, due_axes, copies, outside = scratch.context, scratch.due_axes, scratch.copies, scratch.outside
    merged, due, tiles = scratch.merged, scratch.due, scratch.tiles
    transfer, rest_bits, sum_bits = scratch.transfer, scratch.rest_bits, scratch.sum_bits
    loops = scratch.size[0]
    psum_bits = scalars[PSUM_BITS]
    energy_pj = 0.0
    for operand in range(3):
        m = chain[operand, 0]
        low = 0
        if operand != accumulated and switches[PIN_HOLDING] > 0:
            low = merged[operand, 0]
        times = outside[low] * scalars[EXECUTED]
        element = bits[operand, m]
        back = 0.0
        if operand == accumulated and (due[low] or due_axes[0]):
            element = psum_bits
            back = 1.0
            if switches[READ_BACK_FIRST] == 0:
                full = tiles[operand, context[operand, chain_length[operand] - 1], loops] * copies[0]
                back = max(0.0, 1.0 - full / max(tiles[operand, 0, 0] * times * units[operand, 0], 1.0))
        chunks = np.ceil(tiles[operand, 0, 0] * element / levels[m, GRANULARITY] - SLACK)
        moved = chunks * levels[m, GRANULARITY] / levels[m, WORD] * times * units[operand, 0]
        if operand == accumulated:
            energy_pj += moved * (levels[m, WRITE_PJ] + back * levels[m, READ_PJ])
        else:
            energy_pj += moved * levels[m, READ_PJ]
        for j in range(chain_length[operand] - 1):
            _tabulate_one(
                operand, j, loops, low, accumulated, chain[operand, j], chain[operand, j + 1],
                chain_length[operand] - 1, units, bits, psum_bits, levels, switches, context, due_axes, copies,
                outside, merged, due, tiles, transfer, rest_bits, sum_bits,
            )  # fmt: skip
    return float(energy_pj)


@inlined
def _tabulate_one(
    operand: int,
    j: int,
    loops: int,
    low: int,
    accumulated: int,
    lower: int,
    upper: int,
    last: int,
    units: Floats,
    bits: Floats,
    psum_bits: float,
    levels: Floats,
    switches: Floats,
    context: Integers,
    due_axes: Integers,
    copies: Floats,
    outside: Floats,
    merged: Integers,
    due: Integers,
    tiles: Floats,
    transfer: Floats,
    rest_bits: Floats,
    sum_bits: Floats,
) -> None:
    """Fill the tables of memory `j` of one operand's chain; the same counts as `boundary`, all prefixes."""
    own, above = context[operand, j], context[operand, j + 1]
    low_parts = levels[lower, GRANULARITY] / levels[lower, WORD] * units[operand, j]
    high_parts = levels[upper, GRANULARITY] / levels[upper, WORD] * units[operand, j + 1]
    low_chunk, high_chunk = 1.0 / levels[lower, GRANULARITY], 1.0 / levels[upper, GRANULARITY]
    ratio = np.round(tiles[operand, above, 0] / tiles[operand, own, 0])
    halo_once = switches[HALO_ONCE] > 0
    accumulates = operand == accumulated
    full = tiles[operand, context[operand, last], loops] * copies[j + 1] if accumulates else 0.0
    doubled = 2.0 if levels[lower, DOUBLED] > 0 else 1.0
    whole = tiles[operand, own, loops]
    energy_pj = 0.0
    done = -1
    for i in range(loops, -1, -1):
        tile = tiles[operand, own, i]
        occupied = tile * (doubled if tile < whole else 1.0)
        rest_bits[operand, j, i] = occupied * bits[operand, lower]
        if accumulates:
            sum_bits[j, i] = occupied * psum_bits
        m = max(merged[operand, i], low)
        if m != done:
            done = m
            tile = tiles[operand, own, m]
            high_tile = tiles[operand, above, m] if halo_once else tile * ratio
            times = outside[m]
            high_bits, low_bits = bits[operand, upper], bits[operand, lower]
            back = 0.0
            if accumulates and (due[m] or due_axes[j + 1]):
                high_bits = low_bits = psum_bits
                back = 1.0
                if switches[READ_BACK_FIRST] == 0:
                    visits = high_tile * times * units[operand, j + 1]
                    back = max(0.0, 1.0 - full / max(visits, 1.0))
            high = np.ceil(high_tile * high_bits * high_chunk - SLACK) * high_parts * times
            here = np.ceil(tile * low_bits * low_chunk - SLACK) * low_parts * times
            if accumulates:
                energy_pj = high * (levels[upper, WRITE_PJ] + back * levels[upper, READ_PJ])
                energy_pj += here * (levels[lower, READ_PJ] + back * levels[lower, WRITE_PJ])
            else:
                energy_pj = high * levels[upper, READ_PJ] + here * levels[lower, WRITE_PJ]
        transfer[operand, j, i] = energy_pj


@inlined
def words(elements: float, bits: float, level: Floats) -> float:
    """Return the words that one transfer of `elements` costs: whole chunks, counted as parts of a word."""
    chunks = np.ceil(elements * bits / level[GRANULARITY] - SLACK)
    return float(chunks * level[GRANULARITY] / level[WORD])


@jit
def boundary(
    operand: int, b: int, prefix: int, row: Row, switches: Floats, scratch: Scratch
) -> tuple[float, float, float]:
    """Return the transfers between memory `b` of an operand's chain and what is below it.

    `prefix` is the (merged) prefix that the lower memory holds; below memory 0 is the array.

    Returns:
        Words at memory `b`, words at the memory below, and how much of that is also read back.
    """
    context = scratch.context[operand, b]
    upper = row.chain[operand, b]
    times = scratch.outside[prefix]
    high_bits = row.bits[operand, upper]
    low_tile = 1.0
    low_bits = 0.0
    if b == 0:
        high_tile = scratch.tiles[operand, 0, 0]
        times *= row.scalars[EXECUTED]
    else:
        below = scratch.context[operand, b - 1]
        low_tile = scratch.tiles[operand, below, prefix]
        low_bits = row.bits[operand, row.chain[operand, b - 1]]
        if switches[HALO_ONCE] > 0:
            high_tile = scratch.tiles[operand, context, prefix]
        else:
            ratio = scratch.tiles[operand, context, 0] / scratch.tiles[operand, below, 0]
            high_tile = low_tile * np.round(ratio)
    back = 0.0
    if operand == row.accumulated and (scratch.due[prefix] or scratch.due_axes[b]):
        high_bits = low_bits = row.scalars[PSUM_BITS]
        back = 1.0
        if switches[READ_BACK_FIRST] == 0:
            last = scratch.context[operand, row.chain_length[operand] - 1]
            full = scratch.tiles[operand, last, scratch.size[0]]
            visits = high_tile * times * row.units[operand, b]
            back = max(0.0, 1.0 - full * scratch.copies[b] / max(visits, 1.0))
    high = words(high_tile, high_bits, row.levels[upper]) * times * row.units[operand, b]
    low = 0.0
    if b > 0:
        lower = row.chain[operand, b - 1]
        low = words(low_tile, low_bits, row.levels[lower]) * times * row.units[operand, b - 1]
    return high, low, back


@inlined
def lowest_prefix(operand: int, row: Row, switches: Floats, scratch: Scratch) -> int:
    """Return the loops during which the array holds an element of `operand` without asking for it again."""
    if operand != row.accumulated and switches[PIN_HOLDING] > 0:
        return int(scratch.merged[operand, 0])
    return 0


@jit
def boundary_pj(operand: int, b: int, prefix: int, row: Row, switches: Floats, scratch: Scratch) -> float:
    """Return the energy of `boundary`."""
    high, low, back = boundary(operand, b, prefix, row, switches, scratch)
    upper = row.levels[row.chain[operand, b]]
    if operand == row.accumulated:
        energy = high * (upper[WRITE_PJ] + back * upper[READ_PJ])
        if b > 0:
            lower = row.levels[row.chain[operand, b - 1]]
            energy += low * (lower[READ_PJ] + back * lower[WRITE_PJ])
        return float(energy)
    energy = high * upper[READ_PJ]
    if b > 0:
        energy += low * row.levels[row.chain[operand, b - 1], WRITE_PJ]
    return float(energy)


@jit
def count(row: Row, switches: Floats, scratch: Scratch, reads: Floats, writes: Floats) -> float:
    """Fill `reads` and `writes` (o, m) with the words of the whole layer; return their energy in pJ."""
    reads[:] = 0.0
    writes[:] = 0.0
    energy_pj = 0.0
    for operand in range(3):
        for b in range(row.chain_length[operand]):
            prefix = lowest_prefix(operand, row, switches, scratch)
            if b > 0:
                prefix = max(prefix, scratch.merged[operand, scratch.prefix[operand, b - 1]])
            high, low, back = boundary(operand, b, prefix, row, switches, scratch)
            upper = row.chain[operand, b]
            lower = row.chain[operand, b - 1] if b > 0 else upper
            if operand == row.accumulated:
                writes[operand, upper] += high
                reads[operand, upper] += high * back
                reads[operand, lower] += low
                writes[operand, lower] += low * back
            else:
                reads[operand, upper] += high
                writes[operand, lower] += low
            energy_pj += boundary_pj(operand, b, prefix, row, switches, scratch)
    return energy_pj
