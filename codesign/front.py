"""The designs nobody beats: dominance, front, knee, hypervolume.

Everything is minimised inside: `losses` applies each objective's direction once. Failed, gated and
infeasible trials never reach these functions; a NaN or an infinite score is refused.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence

import moocore
import numpy as np
from numpy.typing import NDArray

from codesign.errors import CodesignError
from codesign.results import TrialResult
from codesign.sections.goals import Objective
from evaluators.scores import Direction

Array = NDArray[np.float64]

# A cost counts towards the hypervolume up to twice the reference design's. Our choice; it must lie beyond
# the reference (else the reference itself would count for nothing) and must not move during a study.
COST_BOUND = 2.0


def losses(results: Sequence[TrialResult], objectives: Sequence[Objective]) -> Array:
    """Return the objectives of `n` results as losses, shape (n, m), all to be minimised.

    Raises:
        CodesignError: a score is missing, NaN or infinite.
    """
    signs = [-1.0 if objective.direction is Direction.MAXIMIZE else 1.0 for objective in objectives]
    try:
        rows = [[sign * r.scores[o.name] for sign, o in zip(signs, objectives, strict=True)] for r in results]
    except KeyError as error:
        raise CodesignError(f"a result without the objective {error} cannot be ranked") from None
    values = np.array(rows, dtype=np.float64).reshape(len(results), len(objectives))
    if not np.isfinite(values).all():
        raise CodesignError("a result with a NaN or infinite objective cannot be ranked")
    return values


def nondominated(values: Array) -> NDArray[np.bool_]:
    """Return which of `n` points nobody beats, shape (n,); of equal points the first counts.

    Args:
        values: losses, shape (n, m).
    """
    if not len(values):
        return np.zeros(0, dtype=np.bool_)
    return np.asarray(moocore.is_nondominated(values, keep_weakly=False), dtype=np.bool_)


def front(results: Iterable[TrialResult], objectives: Sequence[Objective]) -> tuple[TrialResult, ...]:
    """Return the feasible results nobody beats, best first in the first objective.

    The accelerators that hardware sweeps kept count as results of their own.
    """
    candidates = sorted(feasible(results), key=lambda result: (result.trial, result.variant or 0))
    values = losses(candidates, objectives)
    kept = np.flatnonzero(nondominated(values))
    rows = values.tolist()
    return tuple(candidates[i] for i in sorted(kept.tolist(), key=lambda i: _order(rows[i], candidates[i])))


def _order(losses: Iterable[float], result: TrialResult) -> tuple[float, ...]:
    """Return by what a front is sorted: best first in the first objective, then the earlier trial."""
    return (*losses, result.trial, result.variant or 0)


def feasible(results: Iterable[TrialResult]) -> list[TrialResult]:
    """Return the results that keep every constraint, each with the accelerators that its sweep kept."""
    return [variant for result in results for variant in result.variants() if variant.feasible]


class RunningFront:
    """The front of results that come one at a time."""

    def __init__(self, objectives: Sequence[Objective]) -> None:
        self._objectives = objectives
        self._keys: list[tuple[float, ...]] = []  # ascending; losses, trial and variant of each member
        self._members: list[TrialResult] = []
        self._values: Array = np.empty((0, len(objectives)))

    @property
    def members(self) -> tuple[TrialResult, ...]:
        """The feasible results nobody beats, as `front` gives them."""
        return tuple(self._members)

    def add(self, result: TrialResult) -> None:
        """Take one result in, and what its hardware sweep kept."""
        for variant in feasible([result]):
            value = losses([variant], self._objectives)[0]
            if bool((self._values <= value).all(axis=1).any()):
                continue  # beaten, or equal to one that came first
            for place in np.flatnonzero((value <= self._values).all(axis=1))[::-1].tolist():
                del self._keys[place], self._members[place]
                self._values = np.delete(self._values, place, axis=0)
            key = _order(value.tolist(), variant)
            place = bisect.bisect(self._keys, key)
            self._keys.insert(place, key)
            self._members.insert(place, variant)
            self._values = np.insert(self._values, place, value, axis=0)


def knee(members: Sequence[TrialResult], objectives: Sequence[Objective]) -> TrialResult | None:
    """Return the member furthest inside the line (plane) through the front's extremes.

    Each objective is scaled to [0, 1] over the front; the distance to the plane sum = 1 then ranks by the
    sum alone.

    Source: the normal-boundary intersection's hyperplane, Das and Dennis 1998.
    """
    if not members:
        return None
    return members[knee_index(losses(members, objectives))]


def knee_index(values: Array) -> int:
    """Return which of the losses of a front, shape (n, m) with n >= 1, is its knee; see `knee`."""
    spread = np.ptp(values, axis=0)
    scaled = (values - values.min(axis=0)) / np.where(spread > 0, spread, 1.0)
    return int(np.argmin(scaled.sum(axis=1)))


def hypervolume(
    results: Iterable[TrialResult], objectives: Sequence[Objective], reference: TrialResult | None
) -> float:
    """Return the share of the reference box that the feasible results dominate.

    A cost counts from zero to `COST_BOUND` times the reference design's, a gain from zero upwards as a
    multiple of the reference design's; the box is normalised so that 1 is the reference's gain at no cost.
    The reference design itself has 0.5 for each cost objective.

    Returns:
        0 where there is no scored reference design.
    """
    if reference is None:
        return 0.0
    kept = feasible(results)
    points, bounds, box = _in_reference_box(kept, objectives, reference)
    if not len(points):
        return 0.0
    return float(moocore.hypervolume(points, ref=bounds) / np.prod(box))


def hypervolume_series(
    results: Sequence[TrialResult], objectives: Sequence[Objective], reference: TrialResult | None
) -> tuple[tuple[int, float], ...]:
    """Return (trial, hypervolume of all trials up to it) for every trial that is the first to add some."""
    series: list[tuple[int, float]] = []
    ordered = sorted(results, key=lambda result: result.trial)
    kept: list[TrialResult] = []
    for result in ordered:
        if any(variant.feasible for variant in result.variants()):
            kept = list(front([*kept, result], objectives))
        volume = hypervolume(kept, objectives, reference)
        if not series or volume > series[-1][1] or result is ordered[-1]:
            series.append((result.trial, volume))
    return tuple(series)


def _in_reference_box(
    feasible: Sequence[TrialResult], objectives: Sequence[Objective], reference: TrialResult
) -> tuple[Array, Array, Array]:
    """Return scaled points inside the box, shape (n, m), its worst corner and its sides, shape (m,)."""
    best, worst = reference_box(losses([reference], objectives)[0], objectives)
    scale = _scale(losses([reference], objectives)[0])
    points = losses(feasible, objectives) / scale
    bounds = worst / scale
    return points[(points < bounds).all(axis=1)], bounds, (worst - best) / scale


def reference_box(reference: Array, objectives: Sequence[Objective]) -> tuple[Array, Array]:
    """Return the losses at the best and at the worst corner of the hypervolume's box, shape (m,) each.

    Args:
        reference: losses of the reference design, shape (m,).
    """
    scale = _scale(reference)
    gains = np.array([o.direction is Direction.MAXIMIZE for o in objectives])
    return np.where(gains, -scale, 0.0), np.where(gains, 0.0, COST_BOUND * scale)


def _scale(reference: Array) -> Array:
    size = np.abs(reference)
    return np.asarray(np.where(size > 0, size, 1.0), dtype=np.float64)
