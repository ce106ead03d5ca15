"""What came of one trial, as it stands in its `result.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import cast

from search_spaces.choice import JsonValue

VERSION = 1


class TrialState(Enum):
    """How a trial ended."""

    COMPLETED = "completed"  # scored in full; trained where the data set has examples
    GATED = "gated"  # a constraint was broken by the cost alone: nothing was trained
    FAILED = "failed"  # no scores; `reason` says why


@dataclass(frozen=True, kw_only=True, slots=True)
class Violation:
    """A constraint that a design breaks: the demand, the bound, and by what share of it."""

    constraint: str
    value: float
    bound: float
    excess: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialResult:
    """One finished trial.

    Args:
        design: the design as JSON data (`search_spaces.design.design_from_json` reads it).
        scores: measured scores; those of the cost alone where it was gated.
        expected: the cost scores before training, from the densities that the design asks for.
        margins: for every constraint, by what share of its bound it is broken (not above zero: kept).
        seconds: time spent on `cost`, on `training`, and in `total`.
        cached: the trained half was read from the cache.
    """

    trial: int
    state: TrialState
    design: JsonValue
    scores: Mapping[str, float] = field(default_factory=dict)
    expected: Mapping[str, float] = field(default_factory=dict)
    violations: tuple[Violation, ...] = ()
    margins: Mapping[str, float] = field(default_factory=dict)
    reason: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    cached: bool = False

    @property
    def feasible(self) -> bool:
        """Whether it was scored in full and keeps every constraint."""
        return self.state is TrialState.COMPLETED and not self.violations

    def to_json(self) -> str:
        """Return the text of `result.json`."""
        return json.dumps(
            {
                "version": VERSION,
                "trial": self.trial,
                "state": self.state.value,
                "scores": dict(self.scores),
                "expected": dict(self.expected),
                "violations": [
                    {"constraint": v.constraint, "value": v.value, "bound": v.bound, "excess": v.excess}
                    for v in self.violations
                ],
                "margins": dict(self.margins),
                "reason": self.reason,
                "seconds": dict(self.seconds),
                "cached": self.cached,
                "design": self.design,
            },
            indent=1,
            allow_nan=False,
        )


def result_from_json(text: str) -> TrialResult:
    """Return the result that `TrialResult.to_json` wrote."""
    data = json.loads(text)
    return TrialResult(
        trial=int(data["trial"]),
        state=TrialState(data["state"]),
        design=cast(JsonValue, data["design"]),
        scores=data["scores"],
        expected=data["expected"],
        violations=tuple(Violation(**violation) for violation in data["violations"]),
        margins=data["margins"],
        reason=data["reason"],
        seconds=data["seconds"],
        cached=bool(data["cached"]),
    )
