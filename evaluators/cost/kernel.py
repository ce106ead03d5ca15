"""The compiled search over loop orders, and the batched entries: rows of packed problems in, costs out.

Hill climbing with two resolutions. A start order (an operand held still, or random) is improved by taking
one loop factor out and putting it in elsewhere, first with large factors, then with each of them split;
the best of several starts is kept. Arrays: see `evaluators.cost.layout`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from evaluators.cost.accesses import count
from evaluators.cost.allocation import allocate_best, allocate_greedy
from evaluators.cost.compiled import jit
from evaluators.cost.counting import measure, prepare, tabulate
from evaluators.cost.latency_kernel import latency
from evaluators.cost.layout import (
    DIMS,
    GREEDY,
    HEADER,
    MAC_PJ,
    PREFIX,
    WHOLE_PES,
    Floats,
    I,
    Integers,
    O,
    Row,
    Scratch,
    W,
    irrelevant,
)

_GAIN = 1e-9  # relative: less is rounding
_SEED = 88172645463325252
_STARTS = 8  # then the best order is kicked and improved again
_KICKS = 4
_WORTH_REFINING = 1.02  # a start that ends this close to the best is tried again with its factors split


@jit
def cycles_of(
    dims: Integers, sizes: Floats, loops: int, row: Row, switches: Floats, scratch: Scratch, parts: Floats
) -> float:
    """Return the cycles of an order that was allocated; `parts` as in `latency`."""
    if switches[WHOLE_PES] > 0:
        measure(dims, sizes, loops, row, True, scratch)
    return latency(dims, sizes, row, switches, scratch, parts)


@jit
def score_of(
    dims: Integers, sizes: Floats, loops: int, row: Row, switches: Floats, scratch: Scratch
) -> float:
    """Return the energy of an order in pJ, less what all orders share; infinite where it does not fit."""
    measure(dims, sizes, loops, row, False, scratch)
    energy_pj, _ = allocate_best(row, switches, scratch)
    return energy_pj


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
    budget: int,
    scratch: Scratch,
) -> tuple[float, int]:
    """Improve an order in place; return (score, orders evaluated)."""
    score = np.inf
    spent = 0
    since = 0  # moves tried since the last gain
    i, j = 0, 0  # the first move changes nothing: it evaluates the order itself
    while since <= loops * loops and spent < budget:
        since += 1
        if spent == 0 or not (i == j or j == i - 1 or _moves_nothing(dims, sizes, i, j)):
            _move(dims, sizes, i, j)
            moved = score_of(dims, sizes, loops, row, switches, scratch)
            spent += 1
            if moved < score * (1 - _GAIN) or (score == np.inf and moved < np.inf):
                score = moved
                since = 0
            else:
                _move(dims, sizes, j, i)
        j += 1
        if j >= loops:
            j = 0
            i = i + 1 if i + 1 < loops else 0
    return score, spent


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
def _perturb(
    order_dim: Integers,
    order_size: Floats,
    loops: int,
    dims: Integers,
    sizes: Floats,
    state: npt.NDArray[np.uint64],
) -> None:
    """Fill `dims` and `sizes` with the order after a few random moves."""
    for i in range(loops):
        dims[i], sizes[i] = order_dim[i], order_size[i]
    for _ in range(_KICKS):
        i = int(_random(state) * loops)
        j = int(_random(state) * loops)
        _move(dims, sizes, i, j)


@jit
def merge_factors(order_dim: Integers, order_size: Floats, loops: int, limit: int) -> int:
    """Merge factors of the same loop in place until `limit` are left; return how many are.

    As LOMA does it: the two smallest factors of the loop that has the most.
    """
    while loops > limit:
        dim, most = 0, 1
        for d in range(DIMS):
            factors = 0
            for i in range(loops):
                factors += 1 if order_dim[i] == d else 0
            if factors > most:
                dim, most = d, factors
        if most < 2:
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
    budget: int,
    coarse: int,
    scratch: Scratch,
) -> int:
    """Replace the order by the best found; return its number of factors."""
    prepare(row, scratch)
    scratch.random[0] = np.uint64(_SEED)
    large_dim, large_size = scratch.trial_dim[0], scratch.trial_size[0]
    dims, sizes = scratch.trial_dim[1], scratch.trial_size[1]
    for i in range(loops):
        large_dim[i], large_size[i] = order_dim[i], order_size[i]
    large = merge_factors(large_dim, large_size, loops, coarse)
    most = loops
    best = np.inf
    best_loops = loops
    spent = 0
    start = 0
    n = large
    refining = False
    while spent < budget:
        if not refining:
            if start < _STARTS or best == np.inf:
                n = large
                _start_order(start, large_dim, large_size, large, dims, sizes, scratch.random)
            else:
                n = best_loops
                _perturb(order_dim, order_size, n, dims, sizes, scratch.random)
            start += 1
        score, used = _climb(dims, sizes, n, row, switches, budget - spent, scratch)
        spent += used
        refining = not refining and n < most and score < best * _WORTH_REFINING
        if score < best:
            best = score
            best_loops = n
            for i in range(n):
                order_dim[i], order_size[i] = dims[i], sizes[i]
        if refining:
            n = split_factors(dims, sizes, n, most)
        if loops < 2:
            break
    return best_loops


@jit
def search_range(
    low: int,
    high: int,
    order_dim: Integers,
    order_size: Floats,
    loops: Integers,
    chain: Integers,
    ways: Floats,
    spatial: Floats,
    scalars: Floats,
    levels: Floats,
    switches: Floats,
    budget: int,
    coarse: int,
    scratch: Scratch,
) -> None:
    """Search problems `low` to `high` (leading axis of each array); orders become the best found."""
    for p in range(low, high):
        row = Row(chain[p], ways[p], spatial[p], scalars[p], levels[p])
        loops[p] = search(order_dim[p], order_size[p], loops[p], row, switches, budget, coarse, scratch)


@jit
def energies(
    order_dim: Integers,
    order_size: Floats,
    loops: Integers,
    row: Row,
    switches: Floats,
    scratch: Scratch,
    energy_pj: Floats,
) -> None:
    """Fill `energy_pj` (i,) with the energy, less the MACs', of every order of one problem."""
    prepare(row, scratch)
    for i in range(len(loops)):
        energy_pj[i] = score_of(order_dim[i], order_size[i], loops[i], row, switches, scratch)


@jit
def evaluate_range(
    low: int,
    high: int,
    order_dim: Integers,
    order_size: Floats,
    loops: Integers,
    problem: Integers,
    chain: Integers,
    ways: Floats,
    spatial: Floats,
    scalars: Floats,
    levels: Floats,
    switches: Floats,
    scratch: Scratch,
    reads: Floats,
    writes: Floats,
    prefix: Integers,
    outcome: Floats,
) -> None:
    """Evaluate orders `low` to `high`; order `i` is of problem `problem[i]`; one row of results an order.

    `outcome` (i, 8) gets energy, the same without MACs (both in pJ), cycles, the level that is too small or
    -1, and the parts of the cycles.
    """
    for i in range(low, high):
        p = problem[i]
        row = Row(chain[p], ways[p], spatial[p], scalars[p], levels[p])
        if i == low or p != problem[i - 1]:
            prepare(row, scratch)
        measure(order_dim[i], order_size[i], loops[i], row, False, scratch)
        if switches[GREEDY] > 0:
            tabulate(row, switches, scratch)
            fault = allocate_greedy(row, scratch)
        else:
            _, fault = allocate_best(row, switches, scratch)
        outcome[i, 3] = fault
        if fault >= 0:
            outcome[i, 0] = outcome[i, 1] = outcome[i, 2] = np.inf
            continue
        outcome[i, 1] = count(row, switches, scratch, reads[i], writes[i])
        outcome[i, 0] = outcome[i, 1] + scalars[p, MAC_PJ]
        for operand in range(3):
            for b in range(chain[p, HEADER, operand]):
                prefix[i, operand, b] = scratch.plan[PREFIX, operand, b]
        outcome[i, 2] = cycles_of(
            order_dim[i], order_size[i], loops[i], row, switches, scratch, outcome[i, 4:]
        )  # fmt: skip
