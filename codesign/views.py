"""What a run folder says, as JSON data: its status and its front."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from codesign.front import front, hypervolume, knee
from codesign.results import TrialResult, TrialState
from codesign.run_folder import RunFolder
from codesign.sections.goals import Objective
from codesign.study_file import StudyFile
from evaluators.scores import Direction

VERSION = 1
TOLERANCE = 0.01  # "as good": within one percentage point of the reference design


@dataclass(frozen=True, kw_only=True, slots=True)
class Gain:
    """How many times less of a cost a design needs than the reference design, at equal quality."""

    objective: str
    factor: float
    trial: int
    label: str


def best_gain(
    results: Sequence[TrialResult], objectives: Sequence[Objective], reference: TrialResult | None
) -> Gain | None:
    """Return the largest saving of the first cost among designs that are as good as the reference.

    As good: no maximised objective more than `TOLERANCE` below the reference design's.
    """
    costs = [o.name for o in objectives if o.direction is Direction.MINIMIZE]
    gains = [o.name for o in objectives if o.direction is Direction.MAXIMIZE]
    if reference is None or not costs or costs[0] not in reference.scores:
        return None
    good = [
        result
        for whole in results
        for result in whole.variants()
        if result.feasible
        and result.scores[costs[0]] > 0
        and all(result.scores[n] >= reference.scores.get(n, 0.0) - TOLERANCE for n in gains)
    ]
    if not good:
        return None
    best = min(good, key=lambda result: result.scores[costs[0]])
    factor = reference.scores[costs[0]] / best.scores[costs[0]]
    return Gain(objective=costs[0], factor=factor, trial=best.trial, label=best.label)


def reference_of(results: Sequence[TrialResult]) -> TrialResult | None:
    """Return the reference design's result: trial 0, if it was scored."""
    return next((r for r in results if r.trial == 0 and r.state is TrialState.COMPLETED), None)


def status_view(folder: RunFolder, study: StudyFile) -> dict[str, object]:
    """Return how far a run is, and what it has spent. Reading disturbs nobody.

    `planned` is None where the budget is not in trials; `budget` says it in words.
    """
    results = folder.results()
    counts = Counter(result.state for result in results)
    answers = [answer for number in folder.asked() for answer in folder.answers(number)]
    drawn = len(folder.asked())
    driven = folder.is_driven()
    gain = best_gain(results, study.objectives, reference_of(results))
    sessions = folder.sessions()
    return {
        "version": VERSION,
        "study": study.name,
        "planned": study.budget.trials,
        "budget": study.budget.text,
        "completed": counts[TrialState.COMPLETED],
        "gated": counts[TrialState.GATED],
        "stopped": counts[TrialState.STOPPED],
        "failed": counts[TrialState.FAILED],
        "running": drawn - len(results) if driven else 0,
        "interrupted": 0 if driven else drawn - len(results),
        "driven": driven,
        "trained": sum(
            r.state is TrialState.COMPLETED and not r.cached and study.dataset.shapes is None for r in results
        ),
        "epochs": sum(answer.epochs for answer in answers),
        "training_s": sum(answer.seconds.get("training", 0.0) for answer in answers),
        "hypervolume": hypervolume(results, study.objectives, reference_of(results)),
        "front": len(front(results, study.objectives)),
        "best_gain": None
        if gain is None
        else {"objective": gain.objective, "factor": gain.factor, "trial": gain.trial, "label": gain.label},
        "wall_s": sum(session["wall_s"] for session in sessions),
        "overhead": sessions[-1]["overhead"] if sessions else None,
    }


def front_view(folder: RunFolder, study: StudyFile) -> dict[str, object]:
    """Return the front: the feasible designs nobody beats, the knee, and the reference design."""
    results = folder.results()
    members = front(results, study.objectives)
    best = knee(members, study.objectives)
    reference = reference_of(results)
    return {
        "version": VERSION,
        "study": study.name,
        "objectives": [
            {"name": o.name, "direction": o.direction.value, "unit": o.kind.unit} for o in study.objectives
        ],
        "constraints": [constraint.text for constraint in study.constraints],
        "hypervolume": hypervolume(results, study.objectives, reference),
        "knee": None if best is None else best.trial,
        "knee_label": None if best is None else best.label,
        "designs": [_member(result) for result in members],
        "reference": None if reference is None else _member(reference),
    }


def _member(result: TrialResult) -> dict[str, object]:
    return {
        "trial": result.trial,
        "label": result.label,
        "design": result.design,
        "scores": dict(result.scores),
    }
