"""The compiled search over loop orders, and the batched entries: rows of packed problems in, costs out.

Hill climbing with two resolutions. A start order (an operand held still, or random) is improved by taking
one loop factor out and putting it in elsewhere, first with large factors, then with each of them split;
the best of several starts is kept. Arrays: see `evaluators.cost.layout`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from evaluators.cost.allocation import allocate_best, allocate_greedy
from evaluators.cost.compiled import jit
from evaluators.cost.counting import count, measure, prepare, tabulate
from evaluators.cost.latency_kernel import latency
from evaluators.cost.layout import (
    EXECUTED,
    GREEDY,
    MAC_CYCLES,
    MAC_PJ,
    MAX_LEVELS,
    WHOLE_PES,
    Floats,
    I,
    Integers,
    O,
    Row,
    Scratch,
    W,
    irrelevant,
    new_scratch,
)

ENERGY, LATENCY, EDP = range(3)

_GAIN = 1e-9  # relative: less is rounding


@jit
def row_of(
    p: int,
    chain: Integers,
    chain_length: Integers,
    spatial: Floats,
    units: Floats,
    geometry: Floats,
    bits: Floats,
    scalars: Floats,
    accumulated: Integers,
    level_count: Integers,
    levels: Floats,
) -> Row:
    """Return problem `p` of packed arrays."""
    return Row(
        chain[p],
        chain_length[p],
        spatial[p],
        units[p],
        geometry[p],
        bits[p],
        scalars[p],
        accumulated[p],
        level_count[p],
        levels[p],
    )


@jit
def energy_of(
    dims: Integers, sizes: Floats, loops: int, row: Row, switches: Floats, scratch: Scratch, unused: Floats
) -> tuple[float, int]:
    """Allocate an order; return its energy in pJ without the MACs', and the level that is too small or -1."""
    measure(dims, sizes, loops, row, False, scratch)
    if switches[GREEDY] == 0:
        return allocate_best(row, switches, scratch)
    tabulate(row, switches, scratch)
    fault = allocate_greedy(row, scratch)
    if fault >= 0:
        return np.inf, fault
    return count(row, switches, scratch, unused, unused), -1


@jit
def cycles_of(
    dims: Integers, sizes: Floats, loops: int, row: Row, switches: Floats, scratch: Scratch, parts: Floats
) -> float:
    """Return the cycles of an order that was allocated."""
    if switches[WHOLE_PES] > 0:
        measure(dims, sizes, loops, row, True, scratch)
    return latency(dims, sizes, row, switches, scratch, parts)


@jit
def score_of(
    dims: Integers,
    sizes: Floats,
    loops: int,
    row: Row,
    switches: Floats,
    objective: int,
    bound: float,
    scratch: Scratch,
    unused: Floats,
    parts: Floats,
) -> tuple[float, int]:
    """Return what the search minimises, or something above `bound`, and the level that is too small or -1."""
    energy_pj, fault = energy_of(dims, sizes, loops, row, switches, scratch, unused)
    if fault >= 0:
        return np.inf, fault
    energy_pj += row.scalars[MAC_PJ]
    if objective == ENERGY:
        return energy_pj, -1
    compute = scratch.outside[0] * row.scalars[MAC_CYCLES] * row.scalars[EXECUTED]
    if objective == EDP and energy_pj * compute >= bound:
        return energy_pj * compute, -1  # the latency is no less than computing takes
    cycles = cycles_of(dims, sizes, loops, row, switches, scratch, parts)
    return (cycles if objective == LATENCY else energy_pj * cycles), -1


@jit
def _random(state: npt.NDArray[np.uint64]) -> float:
    """Return the next uniform number in [0, 1) of an xorshift generator (Marsaglia, J. Stat. Softw. 2003)."""
    x = state[0]
    x ^= (x << np.uint64(13)) & np.uint64(0xFFFFFFFFFFFFFFFF)
    x ^= x >> np.uint64(7)
    x ^= (x << np.uint64(17)) & np.uint64(0xFFFFFFFFFFFFFFFF)
    state[0] = x
    return float(x >> np.uint64(11)) / 9007199254740992.0


@jit
def _moves_nothing(dims: Integers, sizes: Floats, i: int, j: int) -> bool:
    """Return whether moving factor i to place j only passes equal factors, and so changes nothing."""
    low, high = min(i, j), max(i, j)
    same = True
    for k in range(low, high + 1):
        same = same and dims[k] == dims[i] and sizes[k] == sizes[i]
    return same


@jit
def _move(dims: Integers, sizes: Floats, i: int, j: int) -> None:
    """Take the factor at `i` out and put it in at `j`."""
    dim, size = dims[i], sizes[i]
    step = 1 if j > i else -1
    k = i
    while k != j:
        dims[k], sizes[k] = dims[k + step], sizes[k + step]
        k += step
    dims[j], sizes[j] = dim, size


@jit
def _climb(
    dims: Integers,
    sizes: Floats,
    loops: int,
    row: Row,
    switches: Floats,
    objective: int,
    budget: int,
    scratch: Scratch,
    unused: Floats,
    parts: Floats,
) -> tuple[float, int, int]:
    """Improve an order in place; return (score, orders evaluated, level that is too small or -1)."""
    score, fault = score_of(
        dims, sizes, loops, row, switches, objective, np.inf, scratch, unused, parts
    )  # fmt: skip
    spent = 1
    since = 0  # moves tried since the last gain
    i, j = 0, 0
    while since < loops * loops and spent < budget:
        j += 1
        if j >= loops:
            j = 0
            i = (i + 1) % loops
        since += 1
        if i == j or j == i - 1 or _moves_nothing(dims, sizes, i, j):
            continue
        _move(dims, sizes, i, j)
        moved, _ = score_of(
            dims, sizes, loops, row, switches, objective, score, scratch, unused, parts
        )  # fmt: skip
        spent += 1
        if moved < score * (1 - _GAIN) or (score == np.inf and moved < np.inf):
            score = moved
            since = 0
        else:
            _move(dims, sizes, j, i)
    return score, spent, fault if score == np.inf else -1


@jit
def _start_order(
    start: int,
    order_dim: Integers,
    order_size: Floats,
    loops: int,
    dims: Integers,
    sizes: Floats,
    state: npt.NDArray[np.uint64],
) -> None:
    """Fill `dims` and `sizes` with start order number `start`.

    The first three keep one operand still: its irrelevant loops innermost. The others are random.
    """
    if start < 3:
        still = (W, O, I)[start]
        place = 0
        for wanted in range(2):
            for i in range(loops):
                if irrelevant(still, order_dim[i]) == (wanted == 0):
                    dims[place], sizes[place] = order_dim[i], order_size[i]
                    place += 1
        return
    for i in range(loops):
        dims[i], sizes[i] = order_dim[i], order_size[i]
    for i in range(loops - 1, 0, -1):
        j = int(_random(state) * (i + 1))
        dims[i], dims[j] = dims[j], dims[i]
        sizes[i], sizes[j] = sizes[j], sizes[i]


@jit
def merge_factors(order_dim: Integers, order_size: Floats, loops: int, limit: int) -> int:
    """Merge factors of the same loop in place until `limit` are left; return how many are.

    As LOMA does it: the two smallest factors of the loop that has the most.
    """
    while loops > limit:
        counts = np.zeros(8, np.int64)
        for i in range(loops):
            counts[order_dim[i]] += 1
        dim = np.argmax(counts)
        if counts[dim] < 2:
            break
        first, second = -1, -1
        for i in range(loops):
            if order_dim[i] != dim:
                continue
            if first < 0 or order_size[i] < order_size[first]:
                first, second = i, first
            elif second < 0 or order_size[i] < order_size[second]:
                second = i
        order_size[first] *= order_size[second]
        for i in range(second, loops - 1):
            order_dim[i], order_size[i] = order_dim[i + 1], order_size[i + 1]
        loops -= 1
    return loops


@jit
def split_factors(dims: Integers, sizes: Floats, loops: int, limit: int) -> int:
    """Split factors in place where they stand into their primes, at most to `limit`; return how many."""
    i = 0
    while i < loops and loops < limit:
        size = int(sizes[i])
        divisor = 2
        while divisor * divisor <= size and size % divisor:
            divisor += 1
        if divisor * divisor > size:
            i += 1
            continue
        for k in range(loops, i, -1):
            dims[k], sizes[k] = dims[k - 1], sizes[k - 1]
        sizes[i] = divisor
        sizes[i + 1] = size // divisor
        loops += 1
        i += 1
    return loops


@jit
def search(
    order_dim: Integers,
    order_size: Floats,
    loops: int,
    row: Row,
    switches: Floats,
    objective: int,
    budget: int,
    coarse: int,
    seed: int,
) -> tuple[int, int]:
    """Replace the order by the best found; return its number of factors, and the level too small or -1."""
    scratch = new_scratch()
    prepare(row, scratch)
    unused = np.zeros((3, MAX_LEVELS))
    parts = np.zeros(4)
    state = np.empty(1, np.uint64)
    state[0] = np.uint64(seed + 88172645463325252)
    large_dim, large_size = order_dim.copy(), order_size.copy()
    large = merge_factors(large_dim, large_size, loops, coarse)
    dims, sizes = order_dim.copy(), order_size.copy()
    best = np.inf
    best_loops = loops
    fault = -1
    spent = 0
    start = 0
    most = loops
    while spent < budget:
        _start_order(start, large_dim, large_size, large, dims, sizes, state)
        score, used, at = _climb(
            dims, sizes, large, row, switches, objective, budget - spent, scratch, unused, parts
        )  # fmt: skip
        spent += used
        n = large
        # only a start that comes close to the best is worth refining
        if large < most and spent < budget and score < best * 1.1:
            n = split_factors(dims, sizes, large, most)
            score, used, at = _climb(
                dims, sizes, n, row, switches, objective, budget - spent, scratch, unused, parts
            )  # fmt: skip
            spent += used
        if score < best:
            best = score
            best_loops = n
            order_dim[:n] = dims[:n]
            order_size[:n] = sizes[:n]
        elif best == np.inf:
            fault = at
        start += 1
        if loops < 2:
            break
    return best_loops, fault if best == np.inf else -1


@jit
def _finish(
    dims: Integers,
    sizes: Floats,
    loops: int,
    row: Row,
    switches: Floats,
    scratch: Scratch,
    reads: Floats,
    writes: Floats,
    prefix: Integers,
    outcome: Floats,
) -> None:
    """Write everything about one order: accesses, prefixes, energy, cycles and their parts, fault."""
    _, fault = energy_of(dims, sizes, loops, row, switches, scratch, reads)
    outcome[3] = fault
    if fault >= 0:
        outcome[0] = outcome[1] = outcome[2] = np.inf
        return
    outcome[1] = count(row, switches, scratch, reads, writes)
    for operand in range(3):
        for b in range(row.chain_length[operand]):
            prefix[operand, b] = scratch.prefix[operand, b]
    outcome[2] = cycles_of(dims, sizes, loops, row, switches, scratch, outcome[4:])


@jit
def _objective(objective: int, energy_pj: float, cycles: float) -> float:
    if objective == ENERGY:
        return energy_pj
    return cycles if objective == LATENCY else energy_pj * cycles


@jit
def search_range(
    low: int,
    high: int,
    order_dim: Integers,
    order_size: Floats,
    loops: Integers,
    chain: Integers,
    chain_length: Integers,
    spatial: Floats,
    units: Floats,
    geometry: Floats,
    bits: Floats,
    scalars: Floats,
    accumulated: Integers,
    level_count: Integers,
    levels: Floats,
    switches: Floats,
    objective: int,
    budget: int,
    coarse: int,
    reads: Floats,
    writes: Floats,
    prefix: Integers,
    outcome: Floats,
) -> None:
    """Search problems `low` to `high` (leading axis of every array); orders are replaced by the best found.

    `outcome` (p, 8) gets score, energy without MACs in pJ, cycles, level that is too small or -1, and the
    parts of the cycles.
    """
    scratch = new_scratch()
    for p in range(low, high):
        row = row_of(
            p, chain, chain_length, spatial, units, geometry, bits, scalars, accumulated, level_count, levels
        )  # fmt: skip
        loops[p], _ = search(
            order_dim[p], order_size[p], loops[p], row, switches, objective, budget, coarse, 1
        )  # fmt: skip
        prepare(row, scratch)
        _finish(
            order_dim[p], order_size[p], loops[p], row, switches, scratch, reads[p], writes[p], prefix[p],
            outcome[p],
        )  # fmt: skip
        if outcome[p, 3] < 0:
            energy_pj = outcome[p, 1] + row.scalars[MAC_PJ]
            outcome[p, 0] = _objective(objective, energy_pj, outcome[p, 2])


@jit
def evaluate_range(
    low: int,
    high: int,
    order_dim: Integers,
    order_size: Floats,
    loops: Integers,
    problem: Integers,
    chain: Integers,
    chain_length: Integers,
    spatial: Floats,
    units: Floats,
    geometry: Floats,
    bits: Floats,
    scalars: Floats,
    accumulated: Integers,
    level_count: Integers,
    levels: Floats,
    switches: Floats,
    reads: Floats,
    writes: Floats,
    prefix: Integers,
    outcome: Floats,
) -> None:
    """Evaluate orders `low` to `high`; order `i` is of problem `problem[i]`; one row of results an order."""
    scratch = new_scratch()
    for i in range(low, high):
        p = problem[i]
        row = row_of(
            p, chain, chain_length, spatial, units, geometry, bits, scalars, accumulated, level_count, levels
        )  # fmt: skip
        if i == low or p != problem[i - 1]:
            prepare(row, scratch)
        _finish(
            order_dim[i], order_size[i], loops[i], row, switches, scratch, reads[i], writes[i], prefix[i],
            outcome[i],
        )  # fmt: skip
