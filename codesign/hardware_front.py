"""The accelerators nobody beats for one algorithmic half."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from codesign.front import nondominated
from codesign.sections.goals import Constraint, Objective
from evaluators.scores import Direction, Scores


def hardware_front(
    scores: Sequence[Scores | None], objectives: Sequence[Objective], constraints: Sequence[Constraint]
) -> tuple[int, ...]:
    """Return the indices of the feasible members that nobody beats, ascending; of equal ones the first.

    A member counts as infeasible where it has no scores (a chip that cannot be built), where an objective or
    a constrained score is absent (a pass that the chip cannot run), NaN or infinite, and where it breaks a
    constraint.
    """
    signs = np.array([-1.0 if o.direction is Direction.MAXIMIZE else 1.0 for o in objectives])
    names = [objective.name for objective in objectives]
    known = [one.as_dict() if one is not None else {} for one in scores]
    feasible = [index for index, values in enumerate(known) if _feasible(values, names, constraints)]
    losses = np.array([[known[index][name] for name in names] for index in feasible], dtype=np.float64)
    kept = nondominated(losses.reshape(len(feasible), len(names)) * signs)
    return tuple(index for index, keep in zip(feasible, kept, strict=True) if keep)


def _feasible(values: dict[str, float], names: Sequence[str], constraints: Sequence[Constraint]) -> bool:
    needed = [*names, *(constraint.score for constraint in constraints)]
    return all(math.isfinite(values.get(name, math.nan)) for name in needed) and all(
        constraint.violation(values[constraint.score]) <= 0 for constraint in constraints
    )
