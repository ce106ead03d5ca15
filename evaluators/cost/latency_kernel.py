"""The compiled latency model: compute, stalls of every memory port, loading before and after.

After L. Mei et al., "A uniform latency model for DNN accelerators with diverse architectures and dataflows",
DATE 2022, in the form in which ZigZag 3.9.1 has it: every transfer between two memories recurs with a
period, may use a part of it (all of it where the receiving side can double-buffer in the room that is left,
else what follows the last use of the old data) and needs as many cycles as its words take; a port that
cannot fit its transfers stalls the array. Arrays: see `evaluators.cost.layout`.
"""

from __future__ import annotations

import numpy as np

from evaluators.cost.compiled import jit
from evaluators.cost.counting import lowest_prefix
from evaluators.cost.layout import (
    CAPACITY,
    EXECUTED,
    HALO_ONCE,
    MAC_CYCLES,
    MAX_LEVELS,
    ONE_PORT,
    PSUM_BITS,
    READ_CYCLES,
    RESERVED,
    WORD,
    WRITE_CYCLES,
    Floats,
    I,
    Integers,
    O,
    Row,
    Scratch,
    W,
    irrelevant,
    relevant,
)

# Directions of a transfer, seen from the memory: towards the array or away from it.
_READ_LOW, _WRITE_LOW, _READ_HIGH, _WRITE_HIGH = range(4)
_DIRECTIONS = 4
_MOST = 3 * _DIRECTIONS  # activities that one port can have

# Columns of an activity.
_REAL, _ALLOWED, _PERIOD, _TIMES, _DEMAND = range(5)


@jit
def window_union(periods: Floats, allowed: Floats, members: int) -> float:
    """Return how much of the longest period is covered by windows open for `allowed` of `periods` cycles.

    All windows start together and shorter periods divide longer ones. With U_i the cover of windows 0..i
    over period i: U_i = A_i + (P_i / P_{i-1}) U_{i-1} - cover_{i-1}(A_i).
    """
    order = np.argsort(periods[:members])
    cover = np.zeros(members)
    hidden = np.zeros(members)  # what shorter windows cover inside the open part of this one
    for rank in range(members):
        a = allowed[order[rank]]
        if rank == 0:
            cover[0] = a
            continue
        x = a
        inside = 0.0
        below = rank - 1
        while below >= 0:
            period = periods[order[below]]
            repeats = np.floor(x / period)
            inside += repeats * cover[below]
            x -= repeats * period
            if x <= allowed[order[below]]:
                inside += x
                break
            inside += allowed[order[below]] - hidden[below]
            below -= 1
        hidden[rank] = inside
        cover[rank] = a + periods[order[rank]] / periods[order[rank - 1]] * cover[rank - 1] - inside
    return float(cover[members - 1])


@jit
def latency(
    order_dim: Integers,
    order_size: Floats,
    row: Row,
    switches: Floats,
    scratch: Scratch,
    parts: Floats,
) -> float:
    """Return the cycles of the layer; `parts` (4,) gets compute, stalls, loading and unloading."""
    per_step = row.scalars[MAC_CYCLES] * row.scalars[EXECUTED]
    activity = np.zeros((3, MAX_LEVELS, _DIRECTIONS, 5))
    held_bits = np.zeros((3, MAX_LEVELS))
    needed_bits = np.zeros((3, MAX_LEVELS))  # what must stay while the next tile comes in
    top_irrelevant = np.ones((3, MAX_LEVELS + 1))
    for operand in range(3):
        _contents(
            operand, order_dim, order_size, row, switches, scratch,
            activity, held_bits[operand], needed_bits[operand], top_irrelevant[operand],
        )  # fmt: skip
    _windows(row, per_step, activity, needed_bits, top_irrelevant)
    stall = 0.0
    for m in range(row.level_count):
        if row.levels[m, ONE_PORT] > 0:
            stall = max(stall, _port_stall(activity[:, m], True, True))
        else:
            stall = max(stall, _port_stall(activity[:, m], True, False))
            stall = max(stall, _port_stall(activity[:, m], False, True))
    compute = scratch.outside[0] * per_step
    on, off = _loading(row, activity, held_bits, compute + stall, per_step)
    parts[0] = compute
    parts[1] = stall
    parts[2] = on
    parts[3] = off
    return float(compute + stall + on + off)


@jit
def _contents(
    operand: int,
    order_dim: Integers,
    order_size: Floats,
    row: Row,
    switches: Floats,
    scratch: Scratch,
    activity: Floats,
    held_bits: Floats,
    needed_bits: Floats,
    top_irrelevant: Floats,
) -> None:
    """Fill in period, repetitions and data of an operand's transfers, in bits for now (column `_REAL`)."""
    accumulates = operand == row.accumulated
    loops = scratch.size[0]
    total = scratch.outside[0]
    psum_bits = row.scalars[PSUM_BITS]
    length = row.chain_length[operand]
    held = lowest_prefix(operand, row, switches, scratch)
    below = 0  # loops that belong to the memories below
    low_tile = 1.0
    for b in range(length):
        m = row.chain[operand, b]
        tiles = scratch.tiles[operand, scratch.context[operand, b]]
        partial = accumulates and (scratch.due[held] > 0 or scratch.due_axes[b] > 0)
        element = psum_bits if partial else row.bits[operand, m]
        high_tile = tiles[held] if b > 0 else tiles[0]
        if b > 0 and switches[HALO_ONCE] == 0:
            lower_tiles = scratch.tiles[operand, scratch.context[operand, b - 1]]
            high_tile = low_tile * np.round(tiles[0] / lower_tiles[0])
        cycles = total / scratch.outside[held]
        times = np.floor(scratch.outside[held])
        first = activity[operand, m, _WRITE_LOW if accumulates else _READ_LOW]
        first[0] = high_tile * element
        first[_PERIOD] = cycles
        first[_TIMES] = times
        if partial:
            activity[operand, m, _READ_LOW] = first
        if b > 0:
            lower = row.chain[operand, b - 1]
            away = activity[operand, lower, _READ_HIGH if accumulates else _WRITE_HIGH]
            away[0] = low_tile * (psum_bits if partial else row.bits[operand, lower])
            away[_PERIOD] = cycles
            away[_TIMES] = times
            if partial:
                activity[operand, lower, _WRITE_HIGH] = away
        held = loops if b == length - 1 else max(held, scratch.merged[operand, scratch.prefix[operand, b]])
        top_relevant = 1.0
        i = held - 1
        while i >= below and relevant(operand, order_dim[i]):
            top_relevant *= order_size[i]
            i -= 1
        i = held - 1
        while i >= below and irrelevant(operand, order_dim[i]):
            top_irrelevant[b + 1] *= order_size[i]
            i -= 1
        low_tile = tiles[held]
        due = accumulates and (scratch.due[held] > 0 or scratch.due_axes[b] > 0)
        resting = psum_bits if due else row.bits[operand, m]
        held_bits[b] = low_tile * resting
        needed_bits[b] = np.floor(low_tile * resting / top_relevant)
        below = held


@jit
def _windows(
    row: Row,
    per_step: float,
    activity: Floats,
    needed_bits: Floats,
    top_irrelevant: Floats,
) -> None:
    """Turn data into cycles, and give every transfer the part of its period that it may use."""
    used = np.zeros(MAX_LEVELS)
    for operand in range(3):
        for b in range(row.chain_length[operand]):
            m = row.chain[operand, b]
            used[m] += needed_bits[operand, b] / (row.levels[m, CAPACITY] - row.levels[m, RESERVED])
    for operand in (O, W, I):
        doubled = False  # the array itself never buffers twice
        for b in range(row.chain_length[operand]):
            m = row.chain[operand, b]
            share = needed_bits[operand, b] / (row.levels[m, CAPACITY] - row.levels[m, RESERVED])
            doubled_here = used[m] <= 0.5
            if not doubled_here and share <= 1.0 - used[m]:
                doubled_here = True
                used[m] += share
            for direction in range(_DIRECTIONS):
                entry = activity[operand, m, direction]
                if entry[_TIMES] == 0:
                    continue
                high = direction in (_READ_HIGH, _WRITE_HIGH)
                reading = direction in (_READ_LOW, _READ_HIGH)
                pace = row.levels[m, READ_CYCLES] if reading else row.levels[m, WRITE_CYCLES]
                data_bits = entry[0]
                whole_period = doubled_here if high else doubled
                window = entry[_PERIOD]
                if not whole_period:
                    window = np.floor(window / top_irrelevant[operand, b + 1 if high else b])
                entry[_DEMAND] = np.floor(data_bits / entry[_PERIOD])
                entry[_REAL] = np.ceil(data_bits / row.levels[m, WORD] - 1e-9) * pace
                entry[_ALLOWED] = np.ceil(window * per_step)
                entry[_PERIOD] = np.ceil(entry[_PERIOD] * per_step)
            doubled = doubled_here


@jit
def _port_stall(activity: Floats, reads: bool, writes: bool) -> float:
    """Return the stall of one port of a memory: positive where its transfers do not fit their windows."""
    periods = np.empty(_MOST)
    allowed = np.empty(_MOST)
    members = 0
    late = 0.0
    early = 0.0
    open_cycles = 0.0
    always = -1.0
    for operand in range(3):
        for direction in range(_DIRECTIONS):
            reading = direction in (_READ_LOW, _READ_HIGH)
            entry = activity[operand, direction]
            if entry[_TIMES] == 0 or not (reads if reading else writes):
                continue
            stall = (entry[_REAL] - entry[_ALLOWED]) * (entry[_TIMES] - 1)
            if stall > 0:
                late += stall
            else:
                early += stall
            open_cycles += entry[_ALLOWED] * (entry[_TIMES] - 1)
            if entry[_PERIOD] == entry[_ALLOWED] and always < 0:
                always = entry[_PERIOD] * entry[_TIMES]
            periods[members] = entry[_PERIOD]
            allowed[members] = entry[_ALLOWED]
            members += 1
    if members == 0:
        return 0.0
    if members == 1:
        return late + early
    union = always
    if always < 0:
        longest = 0
        repeats = 1.0
        for i in range(members):
            if periods[i] > periods[longest]:
                longest = i
        for operand in range(3):
            for direction in range(_DIRECTIONS):
                if activity[operand, direction, _PERIOD] == periods[longest]:
                    repeats = activity[operand, direction, _TIMES]
        union = window_union(periods, allowed, members) * repeats
    return late + max(0.0, early + open_cycles - union)


@jit
def _loading(
    row: Row,
    activity: Floats,
    held_bits: Floats,
    computing: float,
    per_step: float,
) -> tuple[float, float]:
    """Return the cycles before the first and after the last step: first tiles in, last results out.

    A transfer that happens once may overlap with computing as far as its port has bandwidth to spare.
    """
    cycles = np.zeros((3, MAX_LEVELS, _DIRECTIONS))
    for m in range(row.level_count):
        args = (row.accumulated, row.levels, activity, held_bits, computing, per_step, cycles)
        if row.levels[m, ONE_PORT] > 0:
            _port_loading(m, True, True, *args)
        else:
            _port_loading(m, True, False, *args)
            _port_loading(m, False, True, *args)
    own = np.zeros(3)
    half = np.zeros(3)
    both = np.zeros(3)
    on_chain = np.zeros((3, MAX_LEVELS))
    for operand in range(3):
        for b in range(row.chain_length[operand]):
            on_chain[operand, row.chain[operand, b]] = 1
    first, second = -1, -1
    for operand in range(3):
        if operand == row.accumulated:
            continue
        if first < 0:
            first = operand
        else:
            second = operand
    off = 0.0
    for operand in range(3):
        for b in range(row.chain_length[operand] - 1):
            low, high = row.chain[operand, b], row.chain[operand, b + 1]
            if operand == row.accumulated:
                off += max(cycles[operand, low, _READ_HIGH], cycles[operand, high, _WRITE_LOW])
                continue
            longest = max(cycles[operand, low, _WRITE_HIGH], cycles[operand, high, _READ_LOW])
            shared_low = on_chain[first, low] > 0 and on_chain[second, low] > 0
            shared_high = on_chain[first, high] > 0 and on_chain[second, high] > 0
            if shared_low and shared_high:
                both[operand] += longest
            elif not shared_low and not shared_high:
                own[operand] += longest
            else:
                half[operand] = longest
    one = both[first] + max(both[second] + half[second] + own[second], half[first] + own[first])
    other = both[second] + max(both[first] + half[first] + own[first], half[second] + own[second])
    return min(one, other), off


@jit
def _port_loading(
    m: int,
    reads: bool,
    writes: bool,
    accumulated: int,
    levels: Floats,
    activity: Floats,
    held_bits: Floats,
    computing: float,
    per_step: float,
    cycles: Floats,
) -> None:
    """Fill `cycles` (o, m, direction) with what loading takes on one port of memory `m`."""
    demand = 0.0
    once = np.empty((_MOST, 4))
    members = 0
    for operand in range(3):
        for direction in range(_DIRECTIONS):
            entry = activity[operand, m, direction]
            reading = direction in (_READ_LOW, _READ_HIGH)
            if entry[_TIMES] == 0 or not (reads if reading else writes):
                continue
            if operand == accumulated and direction in (_READ_LOW, _WRITE_HIGH):
                continue  # no partial sums come in before the first step or after the last
            if entry[_TIMES] == 1:
                once[members, 0] = entry[_REAL]
                once[members, 1] = np.ceil(held_bits[operand, 0] / levels[m, WORD] - 1e-9)
                once[members, 2] = operand
                once[members, 3] = direction
                members += 1
            else:
                demand += np.ceil(entry[_DEMAND] / max(per_step, 1e-9))
                cycles[operand, m, direction] = entry[_REAL]
    spare = max(0.0, (levels[m, WORD] - demand) / levels[m, WORD] * computing)
    done = np.zeros(_MOST)
    for _ in range(members):
        largest = -1
        for i in range(members):
            if done[i] == 0 and (largest < 0 or once[i, 0] > once[largest, 0]):
                largest = i
        done[largest] = 1
        reduction = min(max(0.0, once[largest, 0] - once[largest, 1]), spare)
        spare -= reduction
        cycles[int(once[largest, 2]), m, int(once[largest, 3])] = once[largest, 0] - reduction
