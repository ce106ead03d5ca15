"""The compiled allocator: which prefix of the loop order every memory of every operand holds.

Two rules. `allocate_best` minimises the energy of all transfers of the given order: memories of one operand
are solved by dynamic programming over prefixes, memories that operands share by weighing every combination
that fits. `allocate_greedy` is LOMA's rule (A. Symons et al., AICAS 2021): from the innermost memory
outwards, the longest prefixes that fit, shared memories those with the fewest bits still to be moved.
Arrays: see `evaluators.cost.layout`.
"""

from __future__ import annotations

import numpy as np

from evaluators.cost.compiled import jit
from evaluators.cost.counting import tabulate
from evaluators.cost.layout import (
    ACCUMULATED,
    CAPACITY,
    DEPTH,
    DUE,
    DUE_AXES,
    FIXED,
    HEADER,
    HELD,
    INNER,
    LEAST,
    LEVEL_COUNT,
    LOOPS,
    MEMBERS,
    MERGED,
    OUTSIDE,
    PREFIX,
    RESERVED,
    REST,
    SLACK,
    START,
    SUMS,
    TRANSFER,
    VALUE,
    Floats,
    Integers,
    Row,
    Scratch,
)


@jit
def allocate_best(row: Row, switches: Floats, scratch: Scratch) -> tuple[float, int]:
    """Fill `PREFIX` with the allocation of least energy.

    `state` holds for each operand the memory at which it is, the least prefix that it may hold, and how many
    of its memories are decided; and the operands that share the level at hand.

    Returns:
        Its energy in pJ without the MACs' (infinite where nothing fits), and the index of the level that is
        too small, or -1.
    """
    energy_pj = tabulate(row, switches, scratch)
    chain, levels = row.chain, row.levels
    tables, lines, marks, plan = scratch.tables, scratch.lines, scratch.marks, scratch.plan
    picks, state = scratch.picks, scratch.state
    loops = state[LOOPS, 0]
    state[:LOOPS] = 0
    lines[INNER] = 0.0
    for level in range(chain[HEADER, LEVEL_COUNT]):
        room = levels[level, CAPACITY] - levels[level, RESERVED] + SLACK
        n = 0
        for operand in range(3):
            j = state[DEPTH, operand]
            if j >= chain[HEADER, operand] or chain[operand, j] != level:
                continue
            if j == chain[HEADER, operand] - 1:  # the outermost memory holds everything
                energy_pj += lines[INNER, operand, loops]
                _settle(operand, j, loops, plan, picks, state)
                state[DEPTH, operand] += 1
                continue
            state[MEMBERS, n] = operand
            n += 1
            accumulates = operand == chain[HEADER, ACCUMULATED]
            _weigh(operand, accumulates, j, loops, room, tables, lines, marks, plan, picks, state)
        if n == 1:
            if not _take_alone(state[MEMBERS, 0], loops, lines, picks, state):
                return np.inf, level
        elif n > 1:
            chosen_pj = share(n, loops, room, lines, marks, plan, state)
            if chosen_pj == np.inf:
                return np.inf, level
            energy_pj += chosen_pj
            for a in range(n):
                operand = state[MEMBERS, a]
                j = state[DEPTH, operand]
                held = plan[PREFIX, operand, j]
                _settle(operand, j, held, plan, picks, state)
                state[FIXED, operand] = j + 1
                state[START, operand] = held
                lines[INNER, operand] = 0.0
        for a in range(n):
            state[DEPTH, state[MEMBERS, a]] += 1
    return energy_pj, -1


@jit
def _weigh(
    operand: int,
    accumulates: bool,
    j: int,
    loops: int,
    room: float,
    tables: Floats,
    lines: Floats,
    marks: Integers,
    plan: Integers,
    picks: Integers,
    state: Integers,
) -> None:
    """Fill `VALUE` and `HELD` of an operand: energy up to the memory above, and bits, of every prefix."""
    for g in range(state[START, operand], loops + 1):
        bits = tables[REST, operand, j, g]
        if accumulates:
            below = 0
            if j > state[FIXED, operand]:
                below = marks[MERGED, operand, picks[operand, j - 1, g]]
            elif j > 0:
                below = marks[MERGED, operand, plan[PREFIX, operand, j - 1]]
            if marks[DUE, 0, below] or plan[DUE_AXES, 0, j]:
                bits = tables[SUMS, operand, j, g]
        lines[HELD, operand, g] = bits
        lines[VALUE, operand, g] = np.inf
        if bits <= room:
            lines[VALUE, operand, g] = lines[INNER, operand, g] + tables[TRANSFER, operand, j, g]


@jit
def _take_alone(operand: int, loops: int, lines: Floats, picks: Integers, state: Integers) -> bool:
    """Make `INNER` the least energy for each prefix of the memory above, `picks` the choice behind it."""
    j = state[DEPTH, operand]
    at = state[START, operand]
    best = np.inf
    for g in range(at, loops + 1):
        if lines[VALUE, operand, g] <= best and lines[VALUE, operand, g] < np.inf:
            best = lines[VALUE, operand, g]
            at = g
        lines[INNER, operand, g] = best
        picks[operand, j, g] = at
    return best < np.inf


@jit
def _settle(operand: int, top: int, held: int, plan: Integers, picks: Integers, state: Integers) -> None:
    """Write the prefixes of an operand's memories from `top`, which holds `held`, down to those decided."""
    plan[PREFIX, operand, top] = held
    for j in range(top - 1, state[FIXED, operand] - 1, -1):
        plan[PREFIX, operand, j] = picks[operand, j, plan[PREFIX, operand, j + 1]]


@jit
def share(
    n: int, loops: int, room: float, lines: Floats, marks: Integers, plan: Integers, state: Integers
) -> float:
    """Choose the prefixes of `n` operands that share a memory; return their value, infinite if none fit.

    The last member's best choice within the room that the others leave comes from a running minimum.
    """
    last = state[MEMBERS, n - 1]
    low = state[START, last]
    at = low
    for g in range(low, loops + 1):
        if lines[VALUE, last, g] <= lines[VALUE, last, at]:
            at = g
        marks[LEAST, 0, g] = at
    first = state[MEMBERS, 0]
    second = state[MEMBERS, 1]
    best = np.inf
    chosen_0 = chosen_1 = chosen_2 = 0
    for g0 in range(state[START, first], loops + 1):
        if lines[VALUE, first, g0] == np.inf:
            continue
        top = loops
        for g1 in range(state[START, second], loops + 1):
            used = lines[HELD, first, g0]
            total = lines[VALUE, first, g0]
            if n == 3:
                if lines[VALUE, second, g1] == np.inf:
                    continue
                used += lines[HELD, second, g1]
                total += lines[VALUE, second, g1]
            while top >= low and used + lines[HELD, last, top] > room:
                top -= 1
            if top < low:
                break
            total += lines[VALUE, last, marks[LEAST, 0, top]]
            if total <= best:
                best = total
                chosen_0, chosen_1, chosen_2 = g0, g1, marks[LEAST, 0, top]
            if n == 2:
                break
    plan[PREFIX, first, state[DEPTH, first]] = chosen_0
    if n == 3:
        plan[PREFIX, second, state[DEPTH, second]] = chosen_1
    plan[PREFIX, last, state[DEPTH, last]] = chosen_2
    return float(best)


@jit
def allocate_greedy(row: Row, scratch: Scratch) -> int:
    """Fill `PREFIX` by LOMA's rule; return the index of the level that is too small, or -1.

    Needs `tabulate` for the bits; the values weighed are the bits that remain to be moved.
    """
    chain, state, lines, marks, plan = row.chain, scratch.state, scratch.lines, scratch.marks, scratch.plan
    loops = state[LOOPS, 0]
    state[:LOOPS] = 0
    for level in range(chain[HEADER, LEVEL_COUNT]):
        room = row.levels[level, CAPACITY] - row.levels[level, RESERVED] + SLACK
        n = 0
        for operand in range(3):
            j = state[DEPTH, operand]
            if j >= chain[HEADER, operand] or chain[operand, j] != level:
                continue
            if j == chain[HEADER, operand] - 1:
                plan[PREFIX, operand, j] = loops
                state[DEPTH, operand] += 1
                continue
            state[MEMBERS, n] = operand
            n += 1
            start = state[START, operand]
            accumulates = operand == chain[HEADER, ACCUMULATED]
            due = accumulates and (marks[DUE, 0, start] > 0 or plan[DUE_AXES, 0, j] > 0)
            full = False
            for g in range(start, loops + 1):
                bits = scratch.tables[SUMS if due else REST, operand, j, g]
                full = full or bits > room  # a longer prefix is never tried once one does not fit
                lines[HELD, operand, g] = np.inf if full else bits
                lines[VALUE, operand, g] = np.inf if full else lines[OUTSIDE, 0, g] * bits
        if n == 1:
            operand = state[MEMBERS, 0]
            g = state[START, operand]
            if lines[HELD, operand, g] == np.inf:
                return level
            while g < loops and lines[HELD, operand, g + 1] < np.inf:
                g += 1
            plan[PREFIX, operand, state[DEPTH, operand]] = g
        elif n > 1 and share(n, loops, room, lines, marks, plan, state) == np.inf:
            return level
        for a in range(n):
            operand = state[MEMBERS, a]
            state[START, operand] = plan[PREFIX, operand, state[DEPTH, operand]]
            state[DEPTH, operand] += 1
    return -1
