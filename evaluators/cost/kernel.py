"""The compiled search over loop orders, and the batched entries: rows of packed problems in, costs out.

Hill climbing with two resolutions. A start order (an operand held still, or random) is improved by taking
one loop factor out and putting it in elsewhere, first with large factors, then with each of them split;
the best of several starts is kept. Arrays: see `evaluators.cost.layout`.
"""

from __future__ import annotations

import numpy as np

from evaluators.cost.accesses import count
from evaluators.cost.allocation import allocate_best, allocate_greedy, overfull
from evaluators.cost.blocks import number_order, open_table, place
from evaluators.cost.compiled import entry, inlined, jit
from evaluators.cost.counting import measure
from evaluators.cost.latency_kernel import latency
from evaluators.cost.layout import (
    FACTOR_DIM,
    GREEDY,
    HEADER,
    MAC_PJ,
    MAX_LOOPS,
    PREFIX,
    WHOLE_PES,
    B,
    Floats,
    Integers,
    Row,
    Scratch,
)
from evaluators.cost.orders import (
    is_new,
    merge_factors,
    move,
    moves_nothing,
    perturb,
    split_factors,
    start_order,
)

_GAIN = 1e-9  # relative: less is rounding
_SEED = 88172645463325252
_STARTS = 24  # then the best order is kicked and improved again
_DRAWN = 6  # start orders, of which the best is improved
_BATCH_SHARE = 2  # of the orders, one in so many again for each doubling of the batch
_WORTH_REFINING = 1.02  # a start that ends this close to the best is tried again with its factors split


@inlined
def score_of(
    order: Integers, loops: int, row: Row, switches: Floats, cutoff_pj: float, scratch: Scratch
) -> float:
    """Return the energy of an order in pJ, less the MACs'; infinite where it does not fit.

    Also where it takes `cutoff_pj` or more: that is seen sooner than how much it takes.
    """
    place(order, loops, row, switches, scratch)
    energy_pj, _ = allocate_best(row, switches, cutoff_pj, scratch)
    return energy_pj


@jit
def _climb(
    order: Integers, loops: int, row: Row, switches: Floats, budget: int, scratch: Scratch
) -> tuple[float, int]:
    """Improve an order in place; return (score, orders evaluated)."""
    score = score_of(order, loops, row, switches, np.inf, scratch)
    spent = 1
    since = 0  # moves tried since the last gain
    swapping = False
    i = j = int(np.int64(0))
    while since < 2 * loops * loops and spent < budget:
        since += 1
        j += 1
        if j >= loops:
            j = 0
            i += 1
            if i >= loops:
                i = 0
                swapping = not swapping
        if swapping:
            if j <= i + 1 or order[i] == order[j]:
                continue
            order[i], order[j] = order[j], order[i]
        else:
            if i == j or j == i - 1 or moves_nothing(order, i, j):
                continue
            move(order, i, j)
        moved = np.inf
        if is_new(order, loops, scratch):
            moved = score_of(order, loops, row, switches, score, scratch)
            spent += 1
        if moved < score * (1 - _GAIN) or (score == np.inf and moved < np.inf):
            score = moved
            since = 0
        elif swapping:
            order[i], order[j] = order[j], order[i]
        else:
            move(order, j, i)
    return score, spent


@jit
def _draw(factors: Integers, loops: int, start: int, row: Row, switches: Floats, scratch: Scratch) -> None:
    """Fill `orders[1]` with the best of `_DRAWN` start orders, the first of which has number `start`."""
    order, trial = scratch.orders[1], scratch.orders[3]
    least = np.inf
    for drawn in range(_DRAWN):
        start_order(start + drawn, factors, loops, trial, scratch)
        score, _ = _climb(trial, loops, row, switches, 1, scratch)  # evaluates it, no more
        if score < least or drawn == 0:
            least = score
            for i in range(loops):
                order[i] = trial[i]


@jit
def _improve(
    order_dim: Integers,
    order_size: Floats,
    loops: int,
    row: Row,
    switches: Floats,
    seeded: int,
    budget: int,
    coarse: int,
    most: int,
    scratch: Scratch,
) -> int:
    """Replace the order by the best found; return how many factors it has.

    The given order is improved itself with `seeded` of the `budget`; the rest goes into new starts, whose
    factors are merged to `coarse` and then split again to at most `most`.
    """
    open_table(order_dim, order_size, loops, row, scratch)
    scratch.random[0] = np.uint64(_SEED)
    factors, order, best_order = scratch.orders[0], scratch.orders[1], scratch.orders[2]
    number_order(order_dim, order_size, loops, order, scratch)
    best = np.inf
    best_loops = n = loops
    spent = int(np.int64(0))
    for i in range(loops):
        best_order[i] = order[i]
    large = merge_factors(order_dim, order_size, loops, coarse)
    number_order(order_dim, order_size, large, factors, scratch)
    start = int(np.int64(0))
    refining = seeded > 0  # the first order is there already
    limit = seeded
    while spent < budget:
        if not refining:
            limit = budget
            if start < _STARTS or best == np.inf or start % 2:
                n = large
                _draw(factors, large, start, row, switches, scratch)
                start += _DRAWN
                spent += _DRAWN
            else:
                n = best_loops
                perturb(best_order, n, order, scratch.random)
                start += 1
        score, used = _climb(order, n, row, switches, limit - spent, scratch)
        spent += used
        refining = not refining and n < most and score < best * _WORTH_REFINING
        if score < best:
            best = score
            best_loops = n
            for i in range(n):
                best_order[i] = order[i]
        if refining:
            n = split_factors(order, n, most, scratch)
        if loops < 2:
            break
    for i in range(best_loops):
        order_dim[i] = scratch.factors[FACTOR_DIM, best_order[i]]
        order_size[i] = scratch.factor_size[best_order[i]]
    return best_loops


@jit
def _without_doublings(order_dim: Integers, order_size: Floats, loops: int) -> int:
    """Take the batch's factors of two out of an order; return how many factors are left."""
    kept = int(np.int64(0))
    for i in range(loops):
        if order_dim[i] != B or order_size[i] != 2.0:
            order_dim[kept], order_size[kept] = order_dim[i], order_size[i]
            kept += 1
    return kept


@jit
def _doubled(order_dim: Integers, order_size: Floats, loops: int, most: int) -> int:
    """Put one of the batch's factors of two outermost; return how many factors there are then."""
    at = -1
    for i in range(loops):
        at = i if order_dim[i] == B else at
    if at >= 0 and (loops == MAX_LOOPS or (loops >= most and at == loops - 1)):
        order_size[at] *= 2.0
        return loops
    order_dim[loops], order_size[loops] = B, 2.0
    return loops + 1


@entry
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
    most: int,
    scratch: Scratch,
) -> None:
    """Search problems `low` to `high` (leading axis of each array); orders become the best found.

    `budget` orders a problem are evaluated, first of at most `coarse` factors, then of about `most`. The
    batch's factors of two are left out at first and then join one by one, outermost: what is found for twice
    a batch starts from what is found for the batch itself.
    """
    for p in range(low, high):
        row = Row(chain[p], ways[p], spatial[p], scalars[p], levels[p])
        dims, sizes = order_dim[p], order_size[p]
        found = _without_doublings(dims, sizes, loops[p])
        doublings = loops[p] - found
        limit = min(most, MAX_LOOPS - 1) if doublings > 0 else most
        found = merge_factors(dims, sizes, found, limit)
        limit = min(found, most)
        part, seeded = budget, 0
        for stage in range(doublings + 1):
            if stage > 0:
                found = _doubled(dims, sizes, found, most)
                limit = most
                part = budget // _BATCH_SHARE
                seeded = part // 2
            found = _improve(dims, sizes, found, row, switches, seeded, part, coarse, limit, scratch)
        loops[p] = found


@entry
def energies(
    order_dim: Integers,
    order_size: Floats,
    loops: Integers,
    row: Row,
    totals_dim: Integers,
    totals_size: Floats,
    totals: int,
    switches: Floats,
    scratch: Scratch,
    energy_pj: Floats,
) -> None:
    """Fill `energy_pj` (i,) with the energy, less the MACs', of every order of one problem."""
    order = scratch.orders[0]
    for i in range(len(loops)):
        if i == 0:
            open_table(totals_dim, totals_size, totals, row, scratch)
        energy_pj[i] = np.nan
        if number_order(order_dim[i], order_size[i], loops[i], order, scratch):
            energy_pj[i] = score_of(order, loops[i], row, switches, np.inf, scratch)


@entry
def evaluate_range(
    low: int,
    high: int,
    order_dim: Integers,
    order_size: Floats,
    loops: Integers,
    problem: Integers,
    given: bool,
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

    Memories hold the prefixes of least energy, and `prefix` gets them; where `given`, those that it has.

    `outcome` (i, 8) gets energy, the same without MACs (both in pJ), cycles, the level that is too small or
    -1, and the parts of the cycles.
    """
    for i in range(low, high):
        p = problem[i]
        row = Row(chain[p], ways[p], spatial[p], scalars[p], levels[p])
        if i == low or p != problem[i - 1]:
            open_table(order_dim[i], order_size[i], loops[i], row, scratch)
        if not number_order(order_dim[i], order_size[i], loops[i], scratch.orders[0], scratch):
            outcome[i, 0] = np.nan
            continue
        place(scratch.orders[0], loops[i], row, switches, scratch)
        measure(order_dim[i], order_size[i], loops[i], row, 0.0, scratch)
        if given:
            for operand in range(3):
                for b in range(chain[p, HEADER, operand]):
                    scratch.plan[PREFIX, operand, b] = prefix[i, operand, b]
            fault = overfull(row, scratch)
        elif switches[GREEDY] > 0:
            fault = allocate_greedy(row, scratch)
        else:
            _, fault = allocate_best(row, switches, np.inf, scratch)
        outcome[i, 3] = fault
        if fault >= 0:
            outcome[i, 0] = outcome[i, 1] = outcome[i, 2] = np.inf
            continue
        outcome[i, 1] = count(row, switches, scratch, reads[i], writes[i])
        outcome[i, 0] = outcome[i, 1] + scalars[p, MAC_PJ]
        for operand in range(3):
            for b in range(chain[p, HEADER, operand]):
                prefix[i, operand, b] = scratch.plan[PREFIX, operand, b]
        if switches[WHOLE_PES] > 0:
            measure(order_dim[i], order_size[i], loops[i], row, switches[WHOLE_PES], scratch)
        outcome[i, 2] = latency(order_dim[i], order_size[i], row, switches, scratch, outcome[i, 4:])
