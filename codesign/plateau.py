"""When to stop: the front has stopped growing.

The measure is the hypervolume. Its box is taken from the results themselves, the same for every volume that
is compared, so that the volume can only grow from trial to trial.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import moocore
import numpy as np
from numpy.typing import NDArray

from codesign.errors import CodesignError
from codesign.front import nondominated
from evaluators.scores import Direction

Array = NDArray[np.float64]
Point = Sequence[float] | None

# How far beyond the front's worst values the reference point lies, in sides of the front's box: far enough
# that the extremes count, too near for one of them to outweigh the rest.
# Source: Ishibuchi et al. 2011, Many-objective and many-variable test problems for visual examination of
# multiobjective search.
MARGIN = 0.1


def plateaued(
    points: Sequence[Point], directions: Sequence[Direction], patience: int, tolerance: float
) -> bool:
    """Return whether the last `patience` trials raised the hypervolume by less than `tolerance`.

    A trial that adds nothing to the front never ends a plateau. A study without a feasible result before its
    last `patience` trials has none.

    Args:
        points: one entry per finished trial, in trial order: its objectives, shape (m,), or None where it
            failed or is infeasible. A point with a NaN or an infinite value counts as None does.
        directions: what is better, shape (m,).
        patience: how many trials may pass without a gain.
        tolerance: the gain, relative to the hypervolume before them, that counts as one.

    Raises:
        CodesignError: `patience` is below 1, `tolerance` is not positive, or a point has not `m` values.
    """
    if not tolerance > 0:
        raise CodesignError(f"tolerance > 0 must hold for a plateau to have an end, but it is {tolerance}")
    return recent_gain(points, directions, patience) < tolerance


def recent_gain(points: Sequence[Point], directions: Sequence[Direction], patience: int) -> float:
    """Return by how much the last `patience` trials raised the hypervolume, relative to the rest's.

    The reference point lies `MARGIN` sides beyond the worst value that the present front has in each
    objective; a side is the front's extent there, or that of all results where the front has none. It is not
    taken from all results, since one very bad design would then make every later gain look small.

    Returns:
        0 or more; infinite where the trials before the last `patience` have no hypervolume at all.

    Raises:
        CodesignError: `patience` is below 1, or a point has not `m` values.
    """
    if patience < 1:
        raise CodesignError(f"patience >= 1 must hold, but it is {patience}")
    values = _losses(points, directions)
    before, now = (part[np.isfinite(part).all(axis=1)] for part in (values[:-patience], values))
    if not len(before):
        return math.inf
    front = now[nondominated(now)]
    reference = _reference_point(front, now)
    volume_before = _volume(before, reference)
    if volume_before <= 0.0:
        return math.inf
    # Both volumes are rounded; a front that did not change has the same bits in both.
    return max(0.0, _volume(front, reference) / volume_before - 1.0)


def _losses(points: Sequence[Point], directions: Sequence[Direction]) -> Array:
    """Return the points, all to be minimised, shape (n, m); NaN where there is none."""
    width = len(directions)
    for place, point in enumerate(points):
        if point is not None and len(point) != width:
            raise CodesignError(
                f"a point must have one value for each of the {width} objectives, but point {place} has "
                f"{len(point)}: {tuple(point)}"
            )
    signs = np.array([-1.0 if direction is Direction.MAXIMIZE else 1.0 for direction in directions])
    rows = [[math.nan] * width if point is None else list(point) for point in points]
    return np.asarray(signs * np.array(rows, dtype=np.float64).reshape(len(rows), width), dtype=np.float64)


def _reference_point(front: Array, seen: Array) -> Array:
    side = np.ptp(front, axis=0)
    side = np.where(side > 0, side, np.ptp(seen, axis=0))
    return np.asarray(front.max(axis=0) + MARGIN * np.where(side > 0, side, 1.0), dtype=np.float64)


def _volume(points: Array, reference: Array) -> float:
    inside = points[(points < reference).all(axis=1)]
    inside = inside[nondominated(inside)]
    return float(moocore.hypervolume(inside, ref=reference)) if len(inside) else 0.0
