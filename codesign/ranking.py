"""All results in one order, best first: non-dominated fronts, and inside a front an epsilon-net.

Everything is minimised here. A result with an infinite objective (training that diverged) stands behind
every finite one, however cheap it is; NaN is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

import moocore
import numpy as np
from numpy.typing import NDArray

from codesign.errors import CodesignError

Array = NDArray[np.float64]
Indices = NDArray[np.intp]


def as_losses(rows: Sequence[Sequence[float]] | Array) -> Array:
    """Return `n` results as losses, shape (n, m).

    Raises:
        CodesignError: rows of different length, no objective, a NaN, or minus infinity.
    """
    widths = {len(row) for row in rows}
    if len(widths) > 1 or 0 in widths:
        raise CodesignError(
            f"results can be ranked if all have the same objectives, one or more, but the numbers of "
            f"objectives are {sorted(widths)}"
        )
    width = max(widths, default=0)
    values = np.array([list(row) for row in rows], dtype=np.float64).reshape(len(rows), width)
    bad = ~(values > -np.inf).all(axis=1)
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise CodesignError(
            f"a result to be ranked must be finite or +inf in every objective, but result {first} is "
            f"{tuple(values[first].tolist())}; +inf stands for an objective that has no value"
        )
    return values


def best_first(values: Array) -> Indices:
    """Return the order of `n` results, best first, shape (n,).

    Finite results stand before the others. Then a lower front (non-dominated sorting, Deb et al. 2002) stands
    before a higher one. Inside a front the order is that of `spread_out`. Of equal results the one with the
    smaller index stands first; nothing else depends on the order of the rows.

    Args:
        values: losses, shape (n, m), finite or +inf.

    Source: Schmucker et al. 2021, Multi-objective Asynchronous Successive Halving, arXiv 2106.12639, after
        Salinas et al. 2021, A multi-objective perspective on jointly tuning hardware and hyperparameters.
    """
    finite = np.isfinite(values).all(axis=1)
    groups = (np.flatnonzero(finite), np.flatnonzero(~finite))
    return np.concatenate([group[_by_fronts(values[group])] for group in groups])


def spread_out(values: Array) -> Indices:
    """Return the order in which `n` results cover their own box best, shape (n,).

    The first is the best in the first objective (ties: in the second, ...); each next one is the one furthest
    (Euclidean) from all before it, of equally far ones the lexicographically smaller. Every prefix is then an
    epsilon-net of the whole within a factor of two.

    Args:
        values: losses, shape (n, m); each objective is scaled to [0, 1] over these rows. An infinite value
            is as bad as the worst finite one, so that being infinite makes nothing far.

    Source: Gonzalez 1985, Clustering to minimize the maximum intercluster distance (the factor of two).
    """
    if not len(values):
        return np.zeros(0, dtype=np.intp)
    lexicographic = np.lexsort(values.T[::-1])
    points = _scaled(values[lexicographic])
    order = np.zeros(len(points), dtype=np.intp)
    distance = ((points - points[0]) ** 2).sum(axis=1)
    distance[0] = -1.0  # below every distance: taken
    for place in range(1, len(points)):
        chosen = int(np.argmax(distance))
        order[place] = chosen
        distance = np.minimum(distance, ((points - points[chosen]) ** 2).sum(axis=1))
        distance[chosen] = -1.0
    return np.asarray(lexicographic[order], dtype=np.intp)


def _by_fronts(values: Array) -> Indices:
    if not len(values):
        return np.zeros(0, dtype=np.intp)
    # By position, not value: dominance is the same, and the library's sorting is for finite values only.
    places = [np.unique(column, return_inverse=True)[1] for column in values.T]
    ranks = moocore.pareto_rank(np.stack(places, axis=1).astype(np.float64))
    fronts = [np.flatnonzero(ranks == rank) for rank in np.unique(ranks)]
    return np.concatenate([front[spread_out(values[front])] for front in fronts])


def _scaled(values: Array) -> Array:
    finite = np.isfinite(values)
    low = np.where(finite, values, np.inf).min(axis=0)
    high = np.where(finite, values, -np.inf).max(axis=0)
    nowhere = ~finite.any(axis=0)
    low, high = np.where(nowhere, 0.0, low), np.where(nowhere, 0.0, high)
    side = np.where(high > low, high - low, 1.0)
    return np.asarray((np.minimum(values, high) - low) / side, dtype=np.float64)
