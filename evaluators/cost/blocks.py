"""The compiled table of blocks: what every memory would cost if it held this much of every loop.

A block is how far each loop runs inside a prefix of the order. Footprint, transfers and occupied bits of a
prefix depend on its block alone and not on the order of the loops in it, so a search over orders meets the
same blocks again and again: each is worked out once, when it is first met. A block's place in the table is
a mixed-radix number whose digits are the exponents of the primes of each loop. Where a problem has more
blocks than there is room, the table has one place per prefix and is filled for every order anew.

A block's row: the stamp of the problem that it was filled for, whether a reduction is outside, energy between
the array and the innermost memory per operand, and per memory of an operand's chain but the last three
columns: energy of all transfers to the next memory (`TRANSFER`), the bits occupied with sums final (`REST`)
and not (`SUMS`).
"""

from __future__ import annotations

import numpy as np

from evaluators.cost.accesses import booked_pj
from evaluators.cost.compiled import inlined, jit
from evaluators.cost.counting import exchange, prepare, relevant_product, tile_of
from evaluators.cost.layout import (
    ACCUMULATED,
    ASKED,
    AT,
    BITS,
    BLOCK_ROOM,
    COLUMN,
    COLUMNS,
    DIMS,
    DOUBLED,
    DUE_AXES,
    EVERY,
    EXTENT,
    FACTOR_DIM,
    FACTOR_MASK,
    FACTOR_ROOM,
    FACTOR_STEP,
    FACTORS,
    FIRST,
    HALO_ONCE,
    HEADER,
    LOOPS,
    MERGED_AT,
    PIN_HOLDING,
    PRIME,
    PRIMES,
    PSUM_BITS,
    STAMP,
    STEP,
    TABLE,
    TOTAL,
    WHOLE,
    Floats,
    Integers,
    Row,
    Scratch,
    irrelevant,
    reduces,
)

FILLED, REDUCING, ARRAY, SLOTS = 0, 1, 2, 5
TRANSFER, REST, SUMS, SLOT_COLUMNS = range(4)


@jit
def open_table(order_dim: Integers, order_size: Floats, loops: int, row: Row, scratch: Scratch) -> None:
    """Prepare for a problem whose loops the given order covers: number its blocks, forget its factors."""
    prepare(order_dim, order_size, loops, row, scratch)
    columns = SLOTS
    for operand in range(3):
        for j in range(row.chain[HEADER, operand] - 1):
            scratch.marks[COLUMN, operand, j] = columns
            columns += SLOT_COLUMNS
    table, steps = scratch.state[TABLE], scratch.steps
    table[COLUMNS] = columns
    table[STAMP] -= 1  # negative: no number of a row is
    table[FACTORS] = 0
    steps[:] = 0
    room = columns
    for d in range(DIMS):
        left = int(scratch.extents[TOTAL, d])
        divisor = 2
        k = 0
        while left > 1:
            if divisor * divisor > left:
                divisor = left
            if left % divisor == 0:
                steps[PRIME, d, k] = divisor
                steps[STEP, d, k] = room
                digits = 1
                while left % divisor == 0:
                    left //= divisor
                    digits += 1
                k += 1
                room = min(room * digits, 2 * BLOCK_ROOM)
            divisor += 1
    table[EVERY] = 1 if room <= BLOCK_ROOM else 0


@jit
def _step(d: int, size: int, scratch: Scratch) -> int:
    """Return how far a factor of a loop takes a block's place in the table, or -1 if the loop lacks it."""
    steps = scratch.steps
    step = 0
    for k in range(PRIMES):
        prime = steps[PRIME, d, k]
        if prime == 0:
            break
        while size % prime == 0:
            size //= prime
            step += steps[STEP, d, k]
    return int(step) if size == 1 else -1


@jit
def number_of(d: int, size: float, scratch: Scratch) -> int:
    """Return the number of a factor of the loop `d`, a new one where it was not met; -1 if no such factor."""
    table, factors = scratch.state[TABLE], scratch.factors
    for f in range(table[FACTORS]):
        if factors[FACTOR_DIM, f] == d and scratch.factor_size[f] == size:
            return f
    f = table[FACTORS]
    if f == FACTOR_ROOM:
        return -1
    factors[FACTOR_DIM, f] = d
    scratch.factor_size[f] = size
    factors[FACTOR_MASK, f] = 0
    for operand in range(3):
        if irrelevant(operand, d):
            factors[FACTOR_MASK, f] |= 1 << operand
    factors[FACTOR_STEP, f] = _step(d, int(size), scratch) if table[EVERY] else table[COLUMNS]
    if factors[FACTOR_STEP, f] < 0:
        return -1
    table[FACTORS] = f + 1
    return int(f)


@jit
def number_order(
    order_dim: Integers, order_size: Floats, loops: int, order: Integers, scratch: Scratch
) -> bool:
    """Fill `order` with the numbers of an order's factors; return whether they cover the problem's loops."""
    covered = scratch.extents[EXTENT]
    covered[:] = 1.0
    for i in range(loops):
        order[i] = number_of(order_dim[i], order_size[i], scratch)
        if order[i] < 0:
            return False
        covered[order_dim[i]] *= order_size[i]
    same = True
    for d in range(DIMS):
        same = same and covered[d] == scratch.extents[TOTAL, d]
    return same


@inlined
def place(order: Integers, loops: int, row: Row, switches: Floats, scratch: Scratch) -> None:
    """Find the block of every prefix of an order, plain (`AT`) and merged (`MERGED_AT`); fill new ones."""
    marks, factors = scratch.marks, scratch.factors
    scratch.state[LOOPS, 0] = loops
    plain, i_row, w_row, o_row = (
        marks[AT, 0],
        marks[MERGED_AT, 0],
        marks[MERGED_AT, 1],
        marks[MERGED_AT, 2],
    )
    at = 0
    for i in range(loops):
        at += factors[FACTOR_STEP, np.uint64(order[np.uint64(i)])]
    i_at = w_at = o_at = at
    plain[loops] = i_row[loops] = w_row[loops] = o_row[loops] = at
    for i in range(loops - 1, -1, -1):
        g = np.uint64(i)  # unsigned: not checked for being negative
        factor = np.uint64(order[g])
        at -= factors[FACTOR_STEP, factor]
        mask = factors[FACTOR_MASK, factor]
        i_at = i_at if mask & 1 else at
        w_at = w_at if mask & 2 else at
        o_at = o_at if mask & 4 else at
        plain[g] = at
        i_row[g] = i_at
        w_row[g] = w_at
        o_row[g] = o_at
    stamp = float(scratch.state[TABLE, STAMP])
    if not scratch.state[TABLE, EVERY]:
        for i in range(loops + 1):
            scratch.blocks[plain[i] + FILLED] = 0.0
    for i in range(loops + 1):
        at = plain[np.uint64(i)]
        if scratch.blocks[np.uint64(at + FILLED)] != stamp:
            extents = scratch.extents[EXTENT]
            extents[:] = 1.0
            for k in range(i):
                extents[factors[FACTOR_DIM, order[k]]] *= scratch.factor_size[order[k]]
            _fill(at, stamp, row, switches, scratch)


@jit
def _fill(at: int, stamp: float, row: Row, switches: Floats, scratch: Scratch) -> None:
    """Fill the row of the block whose extents are in `scratch.extents`."""
    extents, totals = scratch.extents[EXTENT], scratch.extents[TOTAL]
    chain, levels, blocks, lines = row.chain, row.levels, scratch.blocks, scratch.lines
    accumulated = chain[HEADER, ACCUMULATED]
    whole = inside = 1.0
    reducing = False
    for d in range(DIMS):
        whole *= totals[d]
        inside *= extents[d]
        reducing = reducing or (extents[d] < totals[d] and reduces(accumulated, d))
    outside = whole / inside
    blocks[at + FILLED] = stamp
    blocks[at + REDUCING] = 1.0 if reducing else 0.0
    for operand in range(3):
        accumulates = operand == accumulated
        product = relevant_product(operand, extents)
        low_tile = 1.0
        for b in range(chain[HEADER, operand]):
            tile = tile_of(operand, b, product, extents, row, lines)
            high_tile = tile if b > 0 else lines[FIRST, operand, 0]
            if b > 0 and switches[HALO_ONCE] == 0:
                high_tile = low_tile * np.round(lines[FIRST, operand, b] / lines[FIRST, operand, b - 1])
            times = outside if b > 0 else outside * row.scalars[ASKED + operand]
            due = accumulates and (reducing or scratch.plan[DUE_AXES, 0, b] > 0)
            high, low, back = exchange(operand, b, due, high_tile, low_tile, times, row, switches, lines)
            energy_pj = booked_pj(operand, b, high, low, back, row)
            if b == 0:
                blocks[at + ARRAY + operand] = energy_pj
            else:
                lower = chain[operand, b - 1]
                slot = at + scratch.marks[COLUMN, operand, b - 1]
                doubled = levels[lower, DOUBLED] > 0 and low_tile < lines[WHOLE, operand, b - 1]
                occupied = low_tile * 2.0 if doubled else low_tile
                blocks[slot + TRANSFER] = energy_pj
                blocks[slot + REST] = occupied * row.ways[BITS, operand, lower]
                blocks[slot + SUMS] = occupied * row.scalars[PSUM_BITS]
            low_tile = tile


@inlined
def array_pj(row: Row, switches: Floats, scratch: Scratch) -> float:
    """Return the energy of what the array exchanges with the innermost memories in the order at hand."""
    energy_pj = 0.0
    for operand in range(3):
        held = operand != row.chain[HEADER, ACCUMULATED] and switches[PIN_HOLDING] > 0
        at = scratch.marks[MERGED_AT, operand, 0] if held else scratch.marks[AT, 0, 0]
        energy_pj += scratch.blocks[np.uint64(at + ARRAY + operand)]
    return energy_pj
