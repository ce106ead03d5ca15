"""What came of one trial, as it stands in its `result.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import cast

from search_spaces.choice import JsonValue
from search_spaces.design import with_accelerator

VERSION = 1


class TrialState(Enum):
    """How a trial ended."""

    COMPLETED = "completed"  # scored in full; trained where the data set has examples
    GATED = "gated"  # a constraint was broken by the cost alone: nothing was trained
    STOPPED = "stopped"  # among the worse of its stage, so its training was not finished
    FAILED = "failed"  # no scores; `reason` says why
    PARTIAL = "partial"  # at the end of a stage; whether it goes on is the driver's to say


@dataclass(frozen=True, kw_only=True, slots=True)
class Violation:
    """A constraint that a design breaks: the demand, the bound, and by what share of it."""

    constraint: str
    value: float
    bound: float
    excess: float


@dataclass(frozen=True, kw_only=True, slots=True)
class HardwarePoint:
    """One accelerator of the hardware sweep that nobody beats for this trial's trained half.

    Args:
        accelerator: the accelerator choice as JSON data.
        knobs: the accelerator's knobs by name.
    """

    accelerator: JsonValue
    knobs: Mapping[str, int | float | str]
    scores: Mapping[str, float]
    margins: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialResult:
    """One finished trial, or the end of one of its stages.

    Args:
        design: the design as JSON data (`search_spaces.design.design_from_json` reads it).
        scores: measured scores; those of the cost alone where it was gated.
        expected: the cost scores before training, from the densities that the design asks for.
        margins: for every constraint, by what share of its bound it is broken (not above zero: kept).
        seconds: time spent on `cost`, on `training`, and in `total`.
        cached: the trained half was read from the cache.
        epochs: of fine-tuning that were run for this answer.
        stage: how far it was trained, from 0.
        hardware: what the hardware sweep found beside the trial's own accelerator; all feasible.
        variant: for a result that `variants` made, which member of `hardware` it is.
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
    epochs: float = 0.0
    stage: int = 0
    hardware: tuple[HardwarePoint, ...] = ()
    variant: int | None = None

    @property
    def label(self) -> str:
        """The trial's number, and after a point the accelerator of its hardware sweep, as in `12.3`."""
        return str(self.trial) if self.variant is None else f"{self.trial}.{self.variant}"

    def variants(self) -> tuple[TrialResult, ...]:
        """Return this result, and one more for every accelerator that its hardware sweep kept."""
        if not self.hardware:
            return (self,)
        plain = replace(self, hardware=())
        return (
            plain,
            *(
                replace(
                    plain,
                    variant=index,
                    state=TrialState.COMPLETED,
                    design=with_accelerator(self.design, point.accelerator),
                    scores=point.scores,
                    expected={},
                    violations=(),
                    margins=point.margins,
                    seconds={},
                    epochs=0.0,
                )
                for index, point in enumerate(self.hardware, start=1)
            ),
        )

    @property
    def feasible(self) -> bool:
        """Whether it was scored in full and keeps every constraint."""
        return self.state is TrialState.COMPLETED and not self.violations

    def to_json(self) -> str:
        """Return the text of `result.json`."""
        return _lines(
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
                "epochs": self.epochs,
                "stage": self.stage,
                "hardware": [
                    {
                        "accelerator": point.accelerator,
                        "knobs": dict(point.knobs),
                        "scores": dict(point.scores),
                        "margins": dict(point.margins),
                    }
                    for point in self.hardware
                ],
                "design": self.design,
            }
        )


def _lines(data: Mapping[str, object]) -> str:
    """Return JSON with a line for each key: to be read, and ten times as fast as `indent` is."""
    return "{\n" + ",\n".join(f'"{key}": {json.dumps(data[key], allow_nan=False)}' for key in data) + "\n}"


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
        epochs=float(data.get("epochs", 0.0)),
        stage=int(data.get("stage", 0)),
        hardware=tuple(HardwarePoint(**point) for point in data.get("hardware", ())),
    )
