"""When no further trial is drawn: the first of the study's budgets that is spent."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from codesign.plateau import plateaued
from codesign.results import TrialResult, TrialState
from codesign.sections.budget import Budget
from codesign.study_file import StudyFile

_ROUNDING = 1e-9  # shares of trainings are sums of fractions


def share_of_training(result: TrialResult, study: StudyFile) -> float:
    """Return what part of one whole training an answer took: epochs times examples, over the recipe's.

    Gated and failed trials, zero-cost stages and halves that were trained before count nothing.
    """
    early = 0 if study.fidelity is None else len(study.fidelity.early)
    stage = result.stage - early
    trained = result.state in (TrialState.COMPLETED, TrialState.PARTIAL) and not result.cached
    if not trained or stage < 0 or not result.seconds.get("training", 0.0):
        return 0.0
    epochs = study.training.epochs
    ends = (epochs,) if study.fidelity is None else (*study.fidelity.epochs, epochs)
    data = None if study.fidelity is None else study.fidelity.data
    share = data[stage] if data is not None and stage < len(data) else 1.0
    return share * (ends[stage] - (ends[stage - 1] if stage else 0)) / epochs


def _limits(budget: Budget) -> dict[str, float]:
    """Return the budgets that a study has, by their keys."""
    found = {
        "trials": budget.trials,
        "training_minutes": budget.training_minutes,
        "trainings": budget.trainings,
        "wall_minutes": budget.wall_minutes,
        "plateau.trials": None if budget.plateau is None else budget.plateau.trials,
    }
    return {name: limit for name, limit in found.items() if limit is not None}


def _reasons(budget: Budget) -> dict[str, str]:
    """Return for each of a study's budgets what is said once it is spent."""
    said = {
        "trials": "{:g} trials were drawn",
        "training_minutes": "{:g} minutes of training are spent",
        "trainings": "{:g} trainings are spent",
        "wall_minutes": "{:g} minutes are over",
        "plateau.trials": "the front did not grow over the last {:g} trials",
    }
    return {name: said[name].format(limit) for name, limit in _limits(budget).items()}


def way_on(budget: Budget, ended: str | None) -> str | None:
    """Return the option that doubles the budget which ended a run; None where no budget did."""
    limits = _limits(budget)
    name = next((name for name, said in _reasons(budget).items() if said == ended), None)
    if name is None:
        return None
    option = "--trials " if name == "trials" else f"-o budget.{name}="
    return f"{option}{2 * limits[name]:g}"


@dataclass(slots=True)
class Meter:
    """Counts what was spent, from the results as they are told.

    Args:
        study: its budget and its objectives.
        wall_before_s: wall time of earlier sessions.
    """

    study: StudyFile
    wall_before_s: float = 0.0
    training_s: float = 0.0
    trainings: float = 0.0
    _started: float = field(default_factory=time.monotonic)
    _points: list[tuple[float, ...] | None] = field(default_factory=list)
    _sizes: list[int] = field(default_factory=list)  # points of each trial: hardware sweeps give several
    _was_flat: bool = False  # what is still in flight then does not reopen the run

    def count(self, result: TrialResult) -> None:
        """Count one answer: the end of a stage, or of a trial."""
        self.training_s += result.seconds.get("training", 0.0)
        self.trainings += share_of_training(result, self.study)

    def count_trial(self, result: TrialResult) -> None:
        """Count a trial that is over."""
        points = [
            tuple(variant.scores[objective.name] for objective in self.study.objectives)
            for variant in result.variants()
            if variant.feasible
        ]
        self._points.extend(points or [None])
        self._sizes.append(max(1, len(points)))

    def spent(self, asked: int) -> str | None:
        """Return which budget is spent, in words; None while there is some of each.

        Args:
            asked: trials drawn so far.
        """
        budget = self.study.budget
        said = _reasons(budget)
        if budget.trials is not None and asked >= budget.trials:
            return said["trials"]
        if budget.training_minutes is not None and self.training_s >= 60 * budget.training_minutes:
            return said["training_minutes"]
        if budget.trainings is not None and self.trainings >= budget.trainings - _ROUNDING:
            return said["trainings"]
        if budget.wall_minutes is not None and self.wall_s >= 60 * budget.wall_minutes:
            return said["wall_minutes"]
        if budget.plateau is not None and self._flat():
            return said["plateau.trials"]
        return None

    @property
    def wall_s(self) -> float:
        """Wall time so far, over all sessions."""
        return self.wall_before_s + time.monotonic() - self._started

    def _flat(self) -> bool:
        plateau = self.study.budget.plateau
        if plateau is None or len(self._sizes) <= plateau.trials:
            return False
        directions = [objective.direction for objective in self.study.objectives]
        recent = sum(self._sizes[-plateau.trials :])
        self._was_flat = self._was_flat or plateaued(self._points, directions, recent, plateau.tolerance)
        return self._was_flat
