"""Our planner: a two-ended skyline, certified by the lower bound, with a gap-filling search behind it.

The lifetimes of a training step are nearly laminar: saved activations nest (first made, last used), weight
gradients all end with the step. Laid on a floor in order of length, nested lifetimes stack without waste.
Gradients nest the other way round, so they hang from a ceiling. Each request goes to the side on which it
wastes less; the arena is the largest sum of the two heights, which is known only at the end and fixes the
ceiling then. Where the result equals the lower bound it is optimal, which is the usual case; otherwise
gap-filling greedy orders are tried, then a search that promotes the requests which stick out.

Sources for the alternatives: Pisarchyk & Lee 2020 (greedy by size, by breadth), Sekiyama et al. 2018
(best fit by lifetime). The skyline with two ends is our own.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from evaluators.workload.planners import Offsets, Requests

_PROMOTIONS = 24  # rounds of the search; each is one greedy pass. Chosen by trial: later rounds gain nothing.


def plan_best(requests: Requests) -> Offsets:
    """Return the smallest arena found; stops at the first that meets the lower bound."""
    if not len(requests.sizes):
        return np.zeros(0, dtype=np.int64)
    bound = requests.lower_bound
    best: Offsets | None = None
    best_top = 0
    for offsets in _candidates(requests, bound):
        top = int((offsets + requests.sizes).max())
        if best is None or top < best_top:
            best, best_top = offsets, top
        if best_top <= bound:
            break
    assert best is not None
    return best


def _candidates(requests: Requests, bound: int) -> Iterator[Offsets]:
    lengths = requests.ends - requests.starts
    by_length = np.lexsort((-requests.sizes, -lengths))
    by_size = np.lexsort((-lengths, -requests.sizes))
    by_area = np.argsort(-(requests.sizes.astype(np.float64) * lengths), kind="stable")
    for order in (by_length, by_area, by_size):
        yield _skyline(requests, order)
    conflicts = _Conflicts(requests)
    for order in (by_size, by_area, by_length):
        yield conflicts.greedy(order)
    yield from _promote(requests, conflicts, by_size, bound)


def _skyline(requests: Requests, order: npt.NDArray[np.intp]) -> Offsets:
    """Stack each request on the floor or hang it from the ceiling, where it wastes less."""
    floor = np.zeros(int(requests.ends.max()), dtype=np.int64)
    ceiling = np.zeros_like(floor)
    offsets = np.zeros(len(requests.sizes), dtype=np.int64)
    hangs = np.zeros(len(requests.sizes), dtype=np.bool_)
    sizes, starts, ends = requests.sizes.tolist(), requests.starts.tolist(), requests.ends.tolist()
    for i in order.tolist():
        below, above = floor[starts[i] : ends[i]], ceiling[starts[i] : ends[i]]
        height, depth = int(below.max()), int(above.max())
        length = ends[i] - starts[i]
        if height * length - int(below.sum()) <= depth * length - int(above.sum()):
            offsets[i] = height
            below[:] = height + sizes[i]
        else:
            offsets[i] = depth + sizes[i]  # from the ceiling, until the arena is known
            hangs[i] = True
            above[:] = depth + sizes[i]
    arena = int((floor + ceiling).max())
    offsets[hangs] = arena - offsets[hangs]
    return offsets


class _Conflicts:
    """Who lives together with whom; computed once for all greedy passes over the same requests."""

    def __init__(self, requests: Requests) -> None:
        self._sizes = requests.sizes
        count = len(requests.sizes)
        # The matrix takes count**2 bits of memory traffic; at the few thousand requests of a step, megabytes.
        self._together = (requests.starts[:, None] < requests.ends[None, :]) & (
            requests.ends[:, None] > requests.starts[None, :]
        )
        self._together[np.arange(count), np.arange(count)] = False

    def greedy(self, order: npt.NDArray[np.intp]) -> Offsets:
        """Give each request, in this order, the tightest gap among those already placed."""
        offsets = np.full(len(self._sizes), -1, dtype=np.int64)
        for i in order:
            others = np.flatnonzero(self._together[i] & (offsets >= 0))
            offsets[i] = _tightest_gap(offsets[others], self._sizes[others], int(self._sizes[i]))
        return offsets


def _tightest_gap(offsets: Offsets, sizes: npt.NDArray[np.int64], size: int) -> int:
    if not len(offsets):
        return 0
    order = np.argsort(offsets, kind="stable")
    starts = offsets[order]
    tops = np.maximum.accumulate(starts + sizes[order])
    gap_starts = np.concatenate([np.zeros(1, dtype=np.int64), tops[:-1]])
    gaps = starts - gap_starts
    fitting = np.flatnonzero(gaps >= size)
    if not len(fitting):
        return int(tops[-1])
    return int(gap_starts[fitting[np.argmin(gaps[fitting])]])


def _promote(
    requests: Requests, conflicts: _Conflicts, order: npt.NDArray[np.intp], bound: int
) -> Iterator[Offsets]:
    """Place first, in the next round, whatever stuck out above the lower bound in this one."""
    ranks = list(order)
    for _ in range(_PROMOTIONS):
        offsets = conflicts.greedy(np.array(ranks, dtype=np.intp))
        yield offsets
        tops = offsets + requests.sizes
        out = [i for i in ranks if tops[i] > bound]
        kept = [i for i in ranks if tops[i] <= bound]
        if ranks == out + kept:
            return
        ranks = out + kept
