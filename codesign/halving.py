"""Which trials train on: the results of every stage, and the decision at its end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from codesign.fidelity import keeps_going
from codesign.results import TrialResult
from codesign.sections.goals import Objective
from codesign.study_file import StudyFile
from evaluators.scores import Direction, Source

ZERO_COST = "zero_cost"  # what stands in a partial result for the scores that need training


@dataclass(slots=True)
class Halving:
    """Remembers what was seen at the end of each stage.

    Args:
        study: its objectives and its fidelity section.
    """

    study: StudyFile
    _seen: dict[int, list[tuple[float, ...]]] = field(default_factory=dict)

    def goes_on(self, result: TrialResult) -> bool:
        """Return whether a trial trains on after a stage; the reference design always does.

        Each call adds the result to what later ones are compared with.
        """
        values = tuple(self._loss(result, objective) for objective in self.study.objectives)
        others = self._seen.setdefault(result.stage, [])
        eta = self.study.fidelity.eta if self.study.fidelity is not None else 2
        kept = result.trial == 0 or keeps_going(values, others, eta)
        others.append(values)
        return kept

    def _loss(self, result: TrialResult, objective: Objective) -> float:
        """Return one objective as a loss: the best of it on any accelerator of the hardware sweep."""
        if objective.kind.source is Source.TRAINING and ZERO_COST in result.scores:
            return -result.scores[ZERO_COST]
        sign = -1.0 if objective.direction is Direction.MAXIMIZE else 1.0
        maps: list[Mapping[str, float]] = [result.scores, *(point.scores for point in result.hardware)]
        return min(
            (sign * scores[objective.name] for scores in maps if objective.name in scores), default=math.inf
        )
