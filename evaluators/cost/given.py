"""The compiled energy of mappings that are given whole: order and allocation; nothing is searched or stored.

One walk over the order per operand, from the array outwards; the sums are those of `accesses.count`, term by
term. Arrays: see `evaluators.cost.layout`.
"""

from __future__ import annotations

import numpy as np

from evaluators.cost.accesses import booked_pj
from evaluators.cost.compiled import entry, inlined
from evaluators.cost.counting import columns_of, exchange, prepare, rows_of
from evaluators.cost.layout import (
    ACCUMULATED,
    ASKED,
    BITS,
    CAPACITY,
    DIMS,
    DOUBLED,
    DUE_AXES,
    EXTENT,
    FIRST,
    FX,
    FY,
    HALO_ONCE,
    HEADER,
    LEVEL_COUNT,
    OX,
    OY,
    PIN_HOLDING,
    PSUM_BITS,
    RESERVED,
    SLACK,
    TOTAL,
    UNROLLED,
    WHOLE,
    Floats,
    I,
    Integers,
    Row,
    Scratch,
    irrelevant,
    reduces,
)


@inlined
def _tile(operand: int, j: int, product: float, extents: Floats, row: Row, lines: Floats) -> float:
    """Return the elements of a block: `product` of its relevant loops, `extents` of the sliding ones."""
    elements = lines[UNROLLED, operand, j] * product
    if operand == I:
        inside = row.spatial[operand, j]
        elements *= rows_of(inside[OY] * extents[OY], inside[FY] * extents[FY], row)
        elements *= columns_of(inside[OX] * extents[OX], inside[FX] * extents[FX], row)
    return float(elements)


@inlined
def _operand_pj(
    operand: int,
    order_dim: Integers,
    order_size: Floats,
    loops: int,
    held: Integers,
    row: Row,
    switches: Floats,
    used_bits: Floats,
    scratch: Scratch,
) -> float:
    """Return the energy of one operand's transfers; add what it occupies to `used_bits` (m,)."""
    chain, lines, extents = row.chain, scratch.lines, scratch.extents[EXTENT]
    accumulates = operand == chain[HEADER, ACCUMULATED]
    extents[:] = 1.0
    pinned = not accumulates and switches[PIN_HOLDING] > 0
    product = outside = 1.0
    last_reduction = -1
    for i in range(loops):
        outside *= order_size[i]
        if accumulates and reduces(operand, order_dim[i]):
            last_reduction = i
    g = 0
    energy_pj = 0.0
    resting_bits = 0.0
    for b in range(chain[HEADER, operand]):
        least = held[b - 1] if b > 0 else 0
        while g < loops and (g < least or (irrelevant(operand, order_dim[g]) and (b > 0 or pinned))):
            d, size = order_dim[g], order_size[g]
            outside /= size
            if operand == I and d in (OY, FY, OX, FX):
                extents[d] *= size
            elif not irrelevant(operand, d):
                product *= size
            g += 1
        due = accumulates and (g <= last_reduction or scratch.plan[DUE_AXES, 0, b] > 0)
        high_tile, low_tile, times = lines[FIRST, operand, 0], 1.0, outside * row.scalars[ASKED + operand]
        if b > 0:
            times = outside
            low_tile = _tile(operand, b - 1, product, extents, row, lines)
            high_tile = _tile(operand, b, product, extents, row, lines)
            if switches[HALO_ONCE] == 0:
                high_tile = low_tile * np.round(lines[FIRST, operand, b] / lines[FIRST, operand, b - 1])
            lower = chain[operand, b - 1]
            doubled = row.levels[lower, DOUBLED] > 0 and low_tile < lines[WHOLE, operand, b - 1]
            used_bits[lower] += resting_bits * (2.0 * low_tile if doubled else low_tile)
        high, low, back = exchange(operand, b, due, high_tile, low_tile, times, row, switches, lines)
        energy_pj += booked_pj(operand, b, high, low, back, row)
        resting_bits = row.scalars[PSUM_BITS] if due else row.ways[BITS, operand, chain[operand, b]]
    return energy_pj


@entry
def mapping_energies(
    order_dim: Integers,
    order_size: Floats,
    loops: Integers,
    held: Integers,
    row: Row,
    totals_dim: Integers,
    totals_size: Floats,
    totals: int,
    switches: Floats,
    scratch: Scratch,
    energy_pj: Floats,
) -> None:
    """Fill `energy_pj` (i,) with the energy, less the MACs', of every mapping; infinite where it doesn't fit.

    It is not a number where an order does not cover the loops of the order `totals_dim`, `totals_size` (l,).

    `held` (i, o, m) are the prefixes of the order in the memories of each operand's chain.
    """
    used_bits = scratch.amounts[0, 0]
    for i in range(len(loops)):
        if i == 0:
            prepare(totals_dim, totals_size, totals, row, scratch)
        used_bits[:] = 0.0
        total_pj = 0.0
        for operand in range(3):
            total_pj += _operand_pj(
                operand, order_dim[i], order_size[i], loops[i], held[i, operand], row, switches, used_bits,
                scratch,
            )  # fmt: skip
        for m in range(row.chain[HEADER, LEVEL_COUNT]):
            if used_bits[m] > row.levels[m, CAPACITY] - row.levels[m, RESERVED] + SLACK:
                total_pj = np.inf
        covered = scratch.extents[EXTENT]
        covered[:] = 1.0
        for k in range(loops[i]):
            covered[order_dim[i, k]] *= order_size[i, k]
        for d in range(DIMS):
            if covered[d] != scratch.extents[TOTAL, d]:
                total_pj = np.nan
        energy_pj[i] = total_pj
