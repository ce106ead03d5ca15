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
from evaluators.cost.layout import (
    ACCUMULATED,
    ALLOWED,
    BITS,
    CAPACITY,
    CONTEXT,
    DEMAND,
    DIRECTIONS,
    DUE,
    DUE_AXES,
    EXECUTED,
    HALO_ONCE,
    HEADER,
    HELD_BITS,
    LEVEL_COUNT,
    LOOPS,
    MAC_CYCLES,
    MERGED,
    NEEDED_BITS,
    ONE_PORT,
    OPEN,
    OUTSIDE,
    PASS_CYCLES,
    PASS_OPERAND,
    PERIOD,
    PERIODS,
    PIN_HOLDING,
    PREFIX,
    PSUM_BITS,
    RANK,
    READ_CYCLES,
    READ_HIGH,
    READ_LOW,
    REAL,
    RESERVED,
    SLACK,
    TIMES,
    TOP_IRRELEVANT,
    USED,
    WORD,
    WRITE_CYCLES,
    WRITE_HIGH,
    WRITE_LOW,
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
from evaluators.cost.windows import window_union


@jit
def latency(
    order_dim: Integers, order_size: Floats, row: Row, switches: Floats, scratch: Scratch, parts: Floats
) -> float:
    """Return the cycles of the layer; `parts` (4,) gets compute, stalls, loading and unloading."""
    per_step = row.scalars[MAC_CYCLES] * row.scalars[EXECUTED]
    activity, amounts, windows = scratch.activity, scratch.amounts, scratch.windows
    activity[:] = 0.0
    amounts[:] = 0.0
    amounts[TOP_IRRELEVANT] = 1.0
    for operand in range(3):
        _contents(operand, order_dim, order_size, row, switches, scratch, activity, amounts)
    _windows(row, per_step, activity, amounts)
    stall = 0.0
    for m in range(row.chain[HEADER, LEVEL_COUNT]):
        both = row.levels[m, ONE_PORT] > 0
        for port in range(1 if both else 2):
            stall = max(stall, _port_stall(m, both or port == 0, both or port == 1, activity, windows))
    compute = scratch.lines[OUTSIDE, 0, 0] * per_step
    on, off = _loading(row, activity, amounts, windows, scratch.cycles, compute + stall, per_step)
    on += _ramp_up(row, scratch)
    parts[0] = compute
    parts[1] = stall
    parts[2] = on
    parts[3] = off
    return float(compute + stall + on + off)


@jit
def _ramp_up(row: Row, scratch: Scratch) -> float:
    """Return the cycles that the array idles at the starts of its passes.

    A pass begins whenever the innermost memories of the operand that plays the weights are filled anew.
    """
    if row.scalars[PASS_CYCLES] == 0.0:
        return 0.0
    operand = int(row.scalars[PASS_OPERAND])
    held = scratch.marks[MERGED, operand, scratch.plan[PREFIX, operand, 0]]
    return float(row.scalars[PASS_CYCLES] * scratch.lines[OUTSIDE, 0, held])


@jit
def _contents(
    operand: int,
    order_dim: Integers,
    order_size: Floats,
    row: Row,
    switches: Floats,
    scratch: Scratch,
    activity: Floats,
    amounts: Floats,
) -> None:
    """Fill in period, repetitions and data of an operand's transfers, in bits for now (column `REAL`)."""
    chain, ways, tiles, lines = row.chain, row.ways, scratch.tiles, scratch.lines
    marks, plan = scratch.marks, scratch.plan
    accumulates = operand == chain[HEADER, ACCUMULATED]
    loops = scratch.state[LOOPS, 0]
    psum_bits = row.scalars[PSUM_BITS]
    length = chain[HEADER, operand]
    toward, away = (WRITE_LOW, READ_HIGH) if accumulates else (READ_LOW, WRITE_HIGH)
    held = 0
    if not accumulates and switches[PIN_HOLDING] > 0:
        held = marks[MERGED, operand, 0]
    below = 0  # loops that belong to the memories below
    low_tile = 1.0
    for b in range(length):
        m = chain[operand, b]
        own = plan[CONTEXT, operand, b]
        partial = accumulates and (marks[DUE, 0, held] > 0 or plan[DUE_AXES, 0, b] > 0)
        high_tile = tiles[operand, own, held if b > 0 else 0]
        if b > 0 and switches[HALO_ONCE] == 0:
            lower_own = plan[CONTEXT, operand, b - 1]
            high_tile = low_tile * np.round(tiles[operand, own, 0] / tiles[operand, lower_own, 0])
        for end in range(1 if b == 0 else 2):
            level = m if end == 0 else chain[operand, b - 1]
            direction = toward if end == 0 else away
            tile = high_tile if end == 0 else low_tile
            for back in range(2 if partial else 1):
                if back:
                    direction = READ_LOW if end == 0 else WRITE_HIGH
                activity[operand, level, direction, REAL] = tile * (
                    psum_bits if partial else ways[BITS, operand, level]
                )
                activity[operand, level, direction, PERIOD] = lines[OUTSIDE, 0, 0] / lines[OUTSIDE, 0, held]
                activity[operand, level, direction, TIMES] = np.floor(lines[OUTSIDE, 0, held])
        held = loops if b == length - 1 else max(held, marks[MERGED, operand, plan[PREFIX, operand, b]])
        top_relevant = 1.0
        i = held - 1
        while i >= below and relevant(operand, order_dim[i]):
            top_relevant *= order_size[i]
            i -= 1
        i = held - 1
        while i >= below and irrelevant(operand, order_dim[i]):
            amounts[TOP_IRRELEVANT, operand, b + 1] *= order_size[i]
            i -= 1
        low_tile = tiles[operand, own, held]
        due = accumulates and (marks[DUE, 0, held] > 0 or plan[DUE_AXES, 0, b] > 0)
        resting = low_tile * (psum_bits if due else ways[BITS, operand, m])
        amounts[HELD_BITS, operand, b] = resting
        amounts[NEEDED_BITS, operand, b] = np.floor(resting / top_relevant)
        below = held


@jit
def _windows(
    row: Row,
    per_step: float,
    activity: Floats,
    amounts: Floats,
) -> None:
    """Turn data into cycles, and give every transfer the part of its period that it may use."""
    for operand in range(3):
        for b in range(row.chain[HEADER, operand]):
            m = row.chain[operand, b]
            amounts[USED, 0, m] += amounts[NEEDED_BITS, operand, b] / (
                row.levels[m, CAPACITY] - row.levels[m, RESERVED]
            )
    for operand in (O, W, I):
        doubled = False  # the array itself never buffers twice
        for b in range(row.chain[HEADER, operand]):
            m = row.chain[operand, b]
            share = amounts[NEEDED_BITS, operand, b] / (row.levels[m, CAPACITY] - row.levels[m, RESERVED])
            doubled_here = amounts[USED, 0, m] <= 0.5
            if not doubled_here and share <= 1.0 - amounts[USED, 0, m]:
                doubled_here = True
                amounts[USED, 0, m] += share
            for direction in range(DIRECTIONS):
                entry = activity[operand, m, direction]
                if entry[TIMES] == 0:
                    continue
                high = direction in (READ_HIGH, WRITE_HIGH)
                reading = direction in (READ_LOW, READ_HIGH)
                pace = row.levels[m, READ_CYCLES] if reading else row.levels[m, WRITE_CYCLES]
                data_bits = entry[0]
                whole_period = doubled_here if high else doubled
                window = entry[PERIOD]
                if not whole_period:
                    window = np.floor(window / amounts[TOP_IRRELEVANT, operand, b + 1 if high else b])
                entry[DEMAND] = np.floor(data_bits / entry[PERIOD])
                entry[REAL] = np.ceil(data_bits / row.levels[m, WORD] - 1e-9) * pace
                entry[ALLOWED] = np.ceil(window * per_step)
                entry[PERIOD] = np.ceil(entry[PERIOD] * per_step)
            doubled = doubled_here


@jit
def _port_stall(m: int, reads: bool, writes: bool, activity: Floats, windows: Floats) -> float:
    """Return the stall of one port of a memory: positive where its transfers do not fit their windows."""
    members = int(np.int64(0))
    late = 0.0
    early = 0.0
    open_cycles = 0.0
    always = -1.0
    for operand in range(3):
        for direction in range(DIRECTIONS):
            reading = direction in (READ_LOW, READ_HIGH)
            entry = activity[operand, m, direction]
            if entry[TIMES] == 0 or not (reads if reading else writes):
                continue
            stall = (entry[REAL] - entry[ALLOWED]) * (entry[TIMES] - 1)
            if stall > 0:
                late += stall
            else:
                early += stall
            open_cycles += entry[ALLOWED] * (entry[TIMES] - 1)
            if entry[PERIOD] == entry[ALLOWED] and always < 0:
                always = entry[PERIOD] * entry[TIMES]
            windows[PERIODS, members] = entry[PERIOD]
            windows[OPEN, members] = entry[ALLOWED]
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
            if windows[PERIODS, i] > windows[PERIODS, longest]:
                longest = i
        for operand in range(3):
            for direction in range(DIRECTIONS):
                if activity[operand, m, direction, PERIOD] == windows[PERIODS, longest]:
                    repeats = activity[operand, m, direction, TIMES]
        union = window_union(windows, members) * repeats
    return late + max(0.0, early + open_cycles - union)


@jit
def _loading(
    row: Row,
    activity: Floats,
    amounts: Floats,
    windows: Floats,
    cycles: Floats,
    computing: float,
    per_step: float,
) -> tuple[float, float]:
    """Return the cycles before the first and after the last step: first tiles in, last results out.

    A transfer that happens once may overlap with computing as far as its port has bandwidth to spare.
    Transfers of the two read operands that share ports at both ends follow one another; others run beside.
    """
    chain, levels = row.chain, row.levels
    accumulated = chain[HEADER, ACCUMULATED]
    cycles[:] = 0.0
    for m in range(chain[HEADER, LEVEL_COUNT]):
        both = levels[m, ONE_PORT] > 0
        for port in range(1 if both else 2):
            _port_loading(
                m, both or port == 0, both or port == 1, accumulated, levels[m, WORD], activity, amounts,
                windows, computing, per_step, cycles,
            )  # fmt: skip
    off = 0.0
    for b in range(chain[HEADER, accumulated] - 1):
        low, high = chain[accumulated, b], chain[accumulated, b + 1]
        off += max(cycles[accumulated, low, READ_HIGH], cycles[accumulated, high, WRITE_LOW])
    first = 1 if accumulated == 0 else 0
    second = 3 - accumulated - first
    shared_1, half_1, own_1 = _loading_of(first, second, chain, cycles)
    shared_2, half_2, own_2 = _loading_of(second, first, chain, cycles)
    one = shared_1 + max(shared_2 + half_2 + own_2, half_1 + own_1)
    other = shared_2 + max(shared_1 + half_1 + own_1, half_2 + own_2)
    return min(one, other), off


@jit
def _loading_of(operand: int, other: int, chain: Integers, cycles: Floats) -> tuple[float, float, float]:
    """Return the cycles of an operand's way in: on links shared with `other`, at one end, not at all."""
    shared = half = own = 0.0
    for b in range(chain[HEADER, operand] - 1):
        low, high = chain[operand, b], chain[operand, b + 1]
        longest = max(cycles[operand, low, WRITE_HIGH], cycles[operand, high, READ_LOW])
        ends = 0
        for k in range(chain[HEADER, other]):
            if chain[other, k] in (low, high):
                ends += 1
        if ends == 2:
            shared += longest
        elif ends == 1:
            half = longest
        else:
            own += longest
    return shared, half, own


@jit
def _port_loading(
    m: int,
    reads: bool,
    writes: bool,
    accumulated: int,
    word_bits: float,
    activity: Floats,
    amounts: Floats,
    windows: Floats,
    computing: float,
    per_step: float,
    cycles: Floats,
) -> None:
    """Fill `cycles` (o, m, direction) with what loading takes on one port of memory `m`."""
    demand = 0.0
    members = int(np.int64(0))
    for place in range(3 * DIRECTIONS):
        operand, direction = place // DIRECTIONS, place % DIRECTIONS
        entry = activity[operand, m, direction]
        reading = direction in (READ_LOW, READ_HIGH)
        if entry[TIMES] == 0 or not (reads if reading else writes):
            continue
        if operand == accumulated and direction in (READ_LOW, WRITE_HIGH):
            continue  # no partial sums come in before the first step or after the last
        cycles[operand, m, direction] = entry[REAL]
        if entry[TIMES] == 1:
            windows[PERIODS, members] = entry[REAL]
            windows[OPEN, members] = np.ceil(amounts[HELD_BITS, operand, 0] / word_bits - SLACK)
            windows[RANK, members] = place
            members += 1
        else:
            demand += np.ceil(entry[DEMAND] / max(per_step, SLACK))
    spare = max(0.0, (word_bits - demand) / word_bits * computing)
    for _ in range(members):
        largest = 0
        for i in range(members):
            if windows[PERIODS, i] > windows[PERIODS, largest]:
                largest = i
        reduction = min(max(0.0, windows[PERIODS, largest] - windows[OPEN, largest]), spare)
        spare -= reduction
        place = int(windows[RANK, largest])
        cycles[place // DIRECTIONS, m, place % DIRECTIONS] = windows[PERIODS, largest] - reduction
        windows[PERIODS, largest] = -1.0  # done
