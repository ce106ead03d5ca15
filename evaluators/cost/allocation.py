"""The compiled allocator: which prefix of the loop order every memory of every operand holds.

Two rules. `allocate_best` minimises the energy of all transfers of the given order: memories of one operand
are solved by dynamic programming over prefixes, memories that operands share by weighing every combination
that fits. `allocate_greedy` is LOMA's rule (A. Symons et al., AICAS 2021): from the innermost memory
outwards, the longest prefixes that fit, shared memories those with the fewest bits still to be moved.
Arrays: see `evaluators.cost.layout`.
"""

from __future__ import annotations

import numpy as np

from evaluators.cost.compiled import inlined, jit
from evaluators.cost.counting import tabulate
from evaluators.cost.layout import (
    CAPACITY,
    RESERVED,
    SLACK,
    Floats,
    Integers,
    Row,
    Scratch,
)

# Rows of `state`: the memory at which each operand is, the least prefix that it may hold, how many of its
# memories are decided, and the operands that share the level at hand.
_DEPTH, _START, _FIXED, _MEMBERS = range(4)


@jit
def allocate_best(row: Row, switches: Floats, scratch: Scratch) -> tuple[float, int]:
    """Fill `scratch.prefix` with the allocation of least energy.

    Returns:
        Its energy in pJ without the MACs' (infinite where nothing fits), and the index of the level that is
        too small, or -1.
    """
    energy_pj = tabulate(row, switches, scratch)
    allocated_pj, fault = _levels(
        scratch.size[0], row.accumulated, row.level_count, row.chain, row.chain_length, row.levels,
        scratch.due_axes, scratch.merged, scratch.due, scratch.transfer, scratch.rest_bits, scratch.sum_bits,
        scratch.value, scratch.held, scratch.inner, scratch.pick, scratch.state, scratch.least, scratch.prefix,
    )  # fmt: skip
    return energy_pj + allocated_pj, fault


@jit
def _levels(
    loops: int,
    accumulated: int,
    level_count: int,
    chain: Integers,
    chain_length: Integers,
    levels: Floats,
    due_axes: Integers,
    merged: Integers,
    due: Integers,
    transfer: Floats,
    rest_bits: Floats,
    sum_bits: Floats,
    value: Floats,
    held: Floats,
    inner: Floats,
    pick: Integers,
    state: Integers,
    least: Integers,
    prefix: Integers,
) -> tuple[float, int]:
    """Go through the levels from the innermost; the arrays are those of `Scratch`."""
    energy_pj = 0.0
    state[:] = 0
    for operand in range(3):
        inner[operand, : loops + 1] = 0.0
    for level in range(level_count):
        room = levels[level, CAPACITY] - levels[level, RESERVED] + SLACK
        n = 0
        for operand in range(3):
            j = state[_DEPTH, operand]
            if j >= chain_length[operand] or chain[operand, j] != level:
                continue
            if j == chain_length[operand] - 1:  # the outermost memory holds everything
                energy_pj += inner[operand, loops]
                _settle(operand, j, loops, state, pick, prefix)
                state[_DEPTH, operand] += 1
                continue
            state[_MEMBERS, n] = operand
            n += 1
            _weigh(
                operand, j, loops, room, accumulated, due_axes, merged, due, transfer, rest_bits, sum_bits,
                value, held, inner, pick, state, prefix,
            )  # fmt: skip
        if n == 1:
            operand = state[_MEMBERS, 0]
            if not _take_alone(operand, loops, value, inner, pick, state):
                return np.inf, level
        elif n > 1:
            chosen_pj = share(n, loops, room, value, held, state, least, prefix)
            if chosen_pj == np.inf:
                return np.inf, level
            energy_pj += chosen_pj
            for a in range(n):
                operand = state[_MEMBERS, a]
                j = state[_DEPTH, operand]
                g = prefix[operand, j]
                _settle(operand, j, g, state, pick, prefix)
                state[_FIXED, operand] = j + 1
                state[_START, operand] = g
                inner[operand, : loops + 1] = 0.0
        for a in range(n):
            state[_DEPTH, state[_MEMBERS, a]] += 1
    return energy_pj, -1


@inlined
def _weigh(
    operand: int,
    j: int,
    loops: int,
    room: float,
    accumulated: int,
    due_axes: Integers,
    merged: Integers,
    due: Integers,
    transfer: Floats,
    rest_bits: Floats,
    sum_bits: Floats,
    value: Floats,
    held: Floats,
    inner: Floats,
    pick: Integers,
    state: Integers,
    prefix: Integers,
) -> None:
    """Fill `value` and `held` of an operand: energy up to the memory above, and bits, of every prefix."""
    for g in range(state[_START, operand], loops + 1):
        bits = rest_bits[operand, j, g]
        if operand == accumulated:
            below = 0
            if j > state[_FIXED, operand]:
                below = merged[operand, pick[operand, j - 1, g]]
            elif j > 0:
                below = merged[operand, prefix[operand, j - 1]]
            if due[below] or due_axes[j]:
                bits = sum_bits[j, g]
        held[operand, g] = bits
        value[operand, g] = inner[operand, g] + transfer[operand, j, g] if bits <= room else np.inf


@inlined
def _take_alone(
    operand: int, loops: int, value: Floats, inner: Floats, pick: Integers, state: Integers
) -> bool:
    """Make `inner` the least energy for every prefix of the memory above, and `pick` the choice behind it."""
    j = state[_DEPTH, operand]
    start = state[_START, operand]
    best = np.inf
    at = start
    for g in range(start, loops + 1):
        if value[operand, g] <= best and value[operand, g] < np.inf:
            best = value[operand, g]
            at = g
        inner[operand, g] = best
        pick[operand, j, g] = at
    return best < np.inf


@inlined
def _settle(operand: int, top: int, held: int, state: Integers, pick: Integers, prefix: Integers) -> None:
    """Write the prefixes of an operand's memories from `top`, which holds `held`, down to those decided."""
    prefix[operand, top] = held
    for j in range(top - 1, state[_FIXED, operand] - 1, -1):
        prefix[operand, j] = pick[operand, j, prefix[operand, j + 1]]


@inlined
def share(
    n: int,
    loops: int,
    room: float,
    value: Floats,
    held: Floats,
    state: Integers,
    least: Integers,
    prefix: Integers,
) -> float:
    """Choose the prefixes of `n` operands that share a memory; return their value, infinite if none fit.

    The last member's best choice within the room that the others leave comes from a running minimum.
    """
    last = state[_MEMBERS, n - 1]
    low = state[_START, last]
    at = low
    for g in range(low, loops + 1):
        if value[last, g] <= value[last, at]:
            at = g
        least[g] = at
    first = state[_MEMBERS, 0]
    second = state[_MEMBERS, 1]
    best = np.inf
    chosen_0 = chosen_1 = chosen_2 = 0
    for g0 in range(state[_START, first], loops + 1):
        if value[first, g0] == np.inf:
            continue
        top = loops
        if n == 2:
            while top >= low and held[first, g0] + held[last, top] > room:
                top -= 1
            if top >= low and value[first, g0] + value[last, least[top]] <= best:
                best = value[first, g0] + value[last, least[top]]
                chosen_0, chosen_2 = g0, least[top]
            continue
        for g1 in range(state[_START, second], loops + 1):
            if value[second, g1] == np.inf:
                continue
            used = held[first, g0] + held[second, g1]
            while top >= low and used + held[last, top] > room:
                top -= 1
            if top < low:
                break
            total = value[first, g0] + value[second, g1] + value[last, least[top]]
            if total <= best:
                best = total
                chosen_0, chosen_1, chosen_2 = g0, g1, least[top]
    prefix[first, state[_DEPTH, first]] = chosen_0
    if n == 3:
        prefix[second, state[_DEPTH, second]] = chosen_1
    prefix[last, state[_DEPTH, last]] = chosen_2
    return best


@jit
def allocate_greedy(row: Row, scratch: Scratch) -> int:
    """Fill `scratch.prefix` by LOMA's rule; return the index of the level that is too small, or -1.

    Needs `tabulate` for the bits; the values weighed are the bits that remain to be moved.
    """
    value, held, state, prefix = scratch.value, scratch.held, scratch.state, scratch.prefix
    loops = scratch.size[0]
    state[:] = 0
    for level in range(row.level_count):
        room = row.levels[level, CAPACITY] - row.levels[level, RESERVED] + SLACK
        n = 0
        for operand in range(3):
            j = state[_DEPTH, operand]
            if j >= row.chain_length[operand] or row.chain[operand, j] != level:
                continue
            if j == row.chain_length[operand] - 1:
                prefix[operand, j] = loops
                state[_DEPTH, operand] += 1
                continue
            state[_MEMBERS, n] = operand
            n += 1
            start = state[_START, operand]
            due = operand == row.accumulated and (scratch.due[start] > 0 or scratch.due_axes[j] > 0)
            full = False
            for g in range(start, loops + 1):
                bits = scratch.sum_bits[j, g] if due else scratch.rest_bits[operand, j, g]
                full = full or bits > room  # a longer prefix is never tried once one does not fit
                held[operand, g] = np.inf if full else bits
                value[operand, g] = np.inf if full else scratch.outside[g] * bits
        if n == 1:
            operand = state[_MEMBERS, 0]
            g = state[_START, operand]
            if held[operand, g] == np.inf:
                return level
            while g < loops and held[operand, g + 1] < np.inf:
                g += 1
            prefix[operand, state[_DEPTH, operand]] = g
        elif n > 1 and share(n, loops, room, value, held, state, scratch.least, prefix) == np.inf:
            return level
        for a in range(n):
            operand = state[_MEMBERS, a]
            state[_START, operand] = prefix[operand, state[_DEPTH, operand]]
            state[_DEPTH, operand] += 1
    return -1
