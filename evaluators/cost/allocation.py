"""The compiled allocator: which prefix of the loop order every memory of every operand holds.

Two rules. `allocate_best` minimises the energy of all transfers of the given order: memories of one operand
are solved by dynamic programming over prefixes, memories that operands share by weighing every combination
that fits. `allocate_greedy` is LOMA's rule (A. Symons et al., AICAS 2021): from the innermost memory
outwards, the longest prefixes that fit, shared memories those with the fewest bits still to be moved.
Arrays: see `evaluators.cost.layout`.
"""

from __future__ import annotations

import numpy as np

from evaluators.cost.blocks import REDUCING, REST, SUMS, TRANSFER, array_pj
from evaluators.cost.compiled import inlined, jit
from evaluators.cost.layout import (
    ACCUMULATED,
    AT,
    CAPACITY,
    COLUMN,
    DEPTH,
    DUE_AXES,
    FIXED,
    HEADER,
    HELD,
    INNER,
    LEVEL_COUNT,
    LOOPS,
    MEMBERS,
    MERGED_AT,
    OUTSIDE,
    PREFIX,
    RESERVED,
    SLACK,
    START,
    VALUE,
    Floats,
    Integers,
    Row,
    Scratch,
)


@inlined
def allocate_best(row: Row, switches: Floats, cutoff_pj: float, scratch: Scratch) -> tuple[float, int]:
    """Fill `PREFIX` with the allocation of least energy of the order that `blocks.place` has placed.

    `state` holds for each operand the memory at which it is, the least prefix that it may hold, and how many
    of its memories are decided; and the operands that share the level at hand.

    Args:
        cutoff_pj: an allocation that takes no less is not looked for.

    Returns:
        Its energy in pJ without the MACs' (infinite where nothing fits or all take `cutoff_pj`), and the
        index of the level at which that was seen, or -1.
    """
    energy_pj = array_pj(row, switches, scratch)
    if energy_pj >= cutoff_pj:
        return np.inf, 0
    chain, levels = row.chain, row.levels
    lines, plan, picks, state = scratch.lines, scratch.plan, scratch.picks, scratch.state
    loops = state[LOOPS, 0]
    for operand in range(3):
        state[DEPTH, operand] = state[START, operand] = state[FIXED, operand] = 0
    for level in range(chain[HEADER, LEVEL_COUNT]):
        room = levels[level, CAPACITY] - levels[level, RESERVED] + SLACK
        n = int(np.int64(0))
        for operand in range(3):
            j = state[DEPTH, operand]
            if j >= chain[HEADER, operand] or chain[operand, j] != level:
                continue
            if j == chain[HEADER, operand] - 1:  # the outermost memory holds everything
                energy_pj += lines[INNER, operand, loops] if j > state[FIXED, operand] else 0.0
                _settle(operand, j, loops, plan, picks, state)
                state[DEPTH, operand] += 1
                continue
            state[MEMBERS, n] = operand
            n += 1
            _weigh(operand, operand == chain[HEADER, ACCUMULATED], j, loops, room, scratch)
        if n == 1:
            if lines[INNER, state[MEMBERS, 0], loops] == np.inf:
                return np.inf, level
        elif n > 1:
            chosen_pj = share(n, loops, room, cutoff_pj - energy_pj, scratch)
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
        for a in range(n):
            state[DEPTH, state[MEMBERS, a]] += 1
    return energy_pj, -1


@inlined
def _weigh(operand: int, accumulates: bool, j: int, loops: int, room: float, scratch: Scratch) -> None:
    """Fill what an operand's prefixes take at its memory `j`: energy up to the memory above, and bits.

    `VALUE` and `HELD` of every prefix, `INNER` and `picks` as `running_least` does. Indices are unsigned: a
    signed one is checked for being negative, which took a fifth of the search.
    """
    blocks, state = scratch.blocks, scratch.state
    at, merged_at = scratch.marks[AT, 0], scratch.marks[MERGED_AT, operand]
    lines, picks = scratch.lines, scratch.picks[operand, j]
    values, held, inner = lines[VALUE, operand], lines[HELD, operand], lines[INNER, operand]
    column = scratch.marks[COLUMN, operand, j]
    start, fixed = state[START, operand], state[FIXED, operand]
    always = scratch.plan[DUE_AXES, 0, j] > 0
    innermost = j == fixed  # of those that are not decided: the one below, if any, holds a known prefix
    below = merged_at[scratch.plan[PREFIX, operand, j - 1]] if innermost and j > 0 else at[0]
    picks_below = picks if innermost else scratch.picks[operand, j - 1]
    kind = SUMS if accumulates and (always or blocks[below + REDUCING] > 0.0) else REST
    varying = accumulates and not always and not innermost
    least = np.inf
    pick = start
    for prefix in range(start, loops + 1):
        g = np.uint64(prefix)
        if varying:
            below = merged_at[np.uint64(picks_below[g])]
            kind = SUMS if blocks[np.uint64(below + REDUCING)] > 0.0 else REST
        bits = blocks[np.uint64(at[g] + column + kind)]
        moved_pj = blocks[np.uint64(merged_at[g] + column + TRANSFER)]
        if not innermost:
            moved_pj += inner[g]
        if bits > room:
            moved_pj = np.inf
        if moved_pj <= least:
            least = moved_pj
            pick = prefix
        held[g] = bits
        values[g] = moved_pj
        inner[g] = least
        picks[g] = pick


@inlined
def running_least(operand: int, j: int, loops: int, scratch: Scratch) -> None:
    """Fill `INNER` with the least value up to every prefix, and `picks` with where it is."""
    values, inner, picks = (
        scratch.lines[VALUE, operand],
        scratch.lines[INNER, operand],
        scratch.picks[operand, j],
    )
    start = scratch.state[START, operand]
    least = np.inf
    pick = start
    for g in range(start, loops + 1):
        if values[g] <= least:
            least = values[g]
            pick = g
        inner[g] = least
        picks[g] = pick


@inlined
def _settle(operand: int, top: int, held: int, plan: Integers, picks: Integers, state: Integers) -> None:
    """Write the prefixes of an operand's memories from `top`, which holds `held`, down to those decided."""
    plan[PREFIX, operand, top] = held
    for j in range(top - 1, state[FIXED, operand] - 1, -1):
        plan[PREFIX, operand, j] = picks[operand, j, plan[PREFIX, operand, j + 1]]


@inlined
def share(n: int, loops: int, room: float, cutoff: float, scratch: Scratch) -> float:
    """Choose the prefixes of the `n` operands that share a memory; return their value.

    It is infinite where none fit, or none have a value below `cutoff`.
    From the longest prefixes down; the last member's best choice within the room that the others leave comes
    from a running minimum. What cannot beat the best so far is passed over.
    """
    lines, state = scratch.lines, scratch.state
    j = state[DEPTH]
    first, second, last = state[MEMBERS, 0], state[MEMBERS, 1], state[MEMBERS, n - 1]
    values_0, held_0 = lines[VALUE, first], lines[HELD, first]
    values_1, held_1 = lines[VALUE, second], lines[HELD, second]
    values_2, held_2 = lines[VALUE, last], lines[HELD, last]
    picks_2 = scratch.picks[last, j[last]]
    low_1 = state[START, second] if n == 3 else loops  # of two the second is the last
    low_2 = state[START, last]
    least_2 = lines[INNER, last, loops]
    least_12 = least_2 + (lines[INNER, second, loops] if n == 3 else 0.0)
    best = cutoff
    found = False
    chosen_0 = chosen_1 = chosen_2 = 0
    for g0 in range(loops, state[START, first] - 1, -1):
        value_0, bits_0 = values_0[np.uint64(g0)], held_0[np.uint64(g0)]
        if value_0 + least_12 >= best:
            continue
        top = loops
        before = 0.0
        for g1 in range(low_1, loops + 1):
            used, total = bits_0, value_0
            if n == 3:
                used += held_1[np.uint64(g1)]
                total += values_1[np.uint64(g1)]
            if total + least_2 > best or total == np.inf:
                continue
            if used < before:  # a whole tensor needs no second buffer
                top = loops
            before = used
            while top >= low_2 and used + held_2[np.uint64(top)] > room:
                top -= 1
            if top < low_2:
                continue
            pick = picks_2[np.uint64(top)]
            if used + held_2[np.uint64(pick)] > room:
                pick = top
            total += values_2[np.uint64(pick)]
            if total < best or (total == best and chosen_0 == g0):
                best = total
                found = True
                chosen_0, chosen_1, chosen_2 = g0, g1, pick
    scratch.plan[PREFIX, first, j[first]] = chosen_0
    if n == 3:
        scratch.plan[PREFIX, second, j[second]] = chosen_1
    scratch.plan[PREFIX, last, j[last]] = chosen_2
    return float(best) if found else np.inf


@jit
def allocate_greedy(row: Row, scratch: Scratch) -> int:
    """Fill `PREFIX` by LOMA's rule; return the index of the level that is too small, or -1.

    Needs `blocks.place` for the bits and `measure` for the iterations outside; the values weighed are the
    bits that remain to be moved.
    """
    chain, state, lines, marks, plan = row.chain, scratch.state, scratch.lines, scratch.marks, scratch.plan
    blocks = scratch.blocks
    loops = state[LOOPS, 0]
    state[:LOOPS] = 0
    for level in range(chain[HEADER, LEVEL_COUNT]):
        room = row.levels[level, CAPACITY] - row.levels[level, RESERVED] + SLACK
        n = int(np.int64(0))
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
            due = operand == chain[HEADER, ACCUMULATED] and (
                blocks[marks[AT, 0, start] + REDUCING] > 0.0 or plan[DUE_AXES, 0, j] > 0
            )
            column = marks[COLUMN, operand, j] + (SUMS if due else REST)
            full = False
            for g in range(start, loops + 1):
                bits = blocks[marks[AT, 0, g] + column]
                full = full or bits > room  # a longer prefix is never tried once one does not fit
                lines[HELD, operand, g] = np.inf if full else bits
                lines[VALUE, operand, g] = np.inf if full else lines[OUTSIDE, 0, g] * bits
            running_least(operand, j, loops, scratch)
        if n == 1:
            operand = state[MEMBERS, 0]
            g = state[START, operand]
            if lines[HELD, operand, g] == np.inf:
                return level
            while g < loops and lines[HELD, operand, g + 1] < np.inf:
                g += 1
            plan[PREFIX, operand, state[DEPTH, operand]] = g
        elif n > 1 and share(n, loops, room, np.inf, scratch) == np.inf:
            return level
        for a in range(n):
            operand = state[MEMBERS, a]
            state[START, operand] = plan[PREFIX, operand, state[DEPTH, operand]]
            state[DEPTH, operand] += 1
    return -1


@jit
def overfull(row: Row, scratch: Scratch) -> int:
    """Return the index of a level that cannot hold what `PREFIX` puts there, or -1; needs `blocks.place`."""
    chain, marks, plan, blocks = row.chain, scratch.marks, scratch.plan, scratch.blocks
    for level in range(chain[HEADER, LEVEL_COUNT]):
        bits = 0.0
        for operand in range(3):
            for j in range(chain[HEADER, operand] - 1):
                if chain[operand, j] != level:
                    continue
                below = marks[AT, 0, 0] if j == 0 else marks[MERGED_AT, operand, plan[PREFIX, operand, j - 1]]
                due = operand == chain[HEADER, ACCUMULATED] and (
                    blocks[below + REDUCING] > 0.0 or plan[DUE_AXES, 0, j] > 0
                )
                column = marks[COLUMN, operand, j] + (SUMS if due else REST)
                bits += blocks[marks[AT, 0, plan[PREFIX, operand, j]] + column]
        if bits > row.levels[level, CAPACITY] - row.levels[level, RESERVED] + SLACK:
            return level
    return -1
