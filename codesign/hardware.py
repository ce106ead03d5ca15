"""One trained half on the many accelerators of a study's hardware sweep."""

from __future__ import annotations

from collections.abc import Sequence

from codesign.errors import CodesignError
from codesign.hardware_front import hardware_front
from codesign.results import HardwarePoint
from codesign.study_file import StudyFile
from evaluators.evaluate import Evaluation
from evaluators.hardware_sweep import Pass, PricedChip, build_fleet, price_fleet
from evaluators.scores import Scores, Source, score_kinds
from evaluators.traces import Traced
from search_spaces.accelerator import AcceleratorChoice
from search_spaces.accelerator_list import accelerator_knobs, accelerators
from search_spaces.choice import to_json
from search_spaces.design import Design


def listed(study: StudyFile) -> tuple[AcceleratorChoice, ...]:
    """Return all accelerators that a study's hardware sweep asks for."""
    if study.hardware_sweep is None:
        raise CodesignError("the study asks for no hardware sweep")
    return accelerators(study.space_.accelerator, study.hardware_sweep.designs, study.seed)


class Hardware:
    """The hardware sweep of one study: the same accelerators for every trained half.

    Args:
        chips: the accelerators; None for all that the sweep asks for, before any shortlist.
    """

    def __init__(self, study: StudyFile, chips: Sequence[AcceleratorChoice] | None = None) -> None:
        self._study = study
        self.chips = tuple(listed(study) if chips is None else chips)
        self._fleet = build_fleet(self.chips)
        asked = {objective.name for objective in study.objectives}
        asked |= {constraint.score for constraint in study.constraints}
        self._passes = frozenset({Pass.INFERENCE} | ({Pass.TRAINING} if asked & _TRAINING_COSTS else set()))

    def any_keeps(self, traced: Traced) -> bool:
        """Return whether a half, before its training, keeps the constraints on any accelerator."""
        return any(
            chip.scores is not None
            and not missing_costs(chip.scores, self._study)
            and keeps_constraints(chip.scores, self._study)
            for chip in self.price(traced)
        )

    def price(self, traced: Traced) -> tuple[PricedChip, ...]:
        """Return what a half costs, before its training, on every accelerator of the sweep."""
        return price_fleet(traced, self._fleet, accuracy=None, passes=self._passes)

    def front(self, evaluation: Evaluation, design: Design) -> tuple[HardwarePoint, ...]:
        """Return the accelerators that nobody beats for a half, but for the trial's own."""
        accuracy = None if evaluation.trained is None else evaluation.trained.accuracy
        priced = price_fleet(evaluation.traced, self._fleet, accuracy=accuracy, passes=self._passes)
        others = [chip for chip in priced if chip.accelerator != design.accelerator]
        scores = [evaluation.scores, *(chip.scores for chip in others)]
        kept = hardware_front(scores, self._study.objectives, self._study.constraints)
        return tuple(self._point(others[index - 1]) for index in kept if index > 0)

    def _point(self, chip: PricedChip) -> HardwarePoint:
        scores = {} if chip.scores is None else chip.scores.as_dict()
        return HardwarePoint(
            accelerator=to_json(chip.accelerator),
            knobs=accelerator_knobs(self._study.space_.accelerator, chip.accelerator),
            scores=scores,
            margins={
                c.text: c.violation(scores[c.score]) for c in self._study.constraints if c.score in scores
            },
        )


_TRAINING_COSTS = frozenset(
    {"training_energy_pj", "training_latency_s"}
)  # they need the training pass costed


def keeps_constraints(scores: Scores, study: StudyFile) -> bool:
    """Return whether the scores that there are keep their constraints."""
    return all(
        constraint.violation(scores[constraint.score]) <= 0
        for constraint in study.constraints
        if constraint.score in scores
    )


def missing_costs(scores: Scores, study: StudyFile) -> tuple[str, ...]:
    """Return the cost scores that the study asks for and a design lacks: its chip cannot run that pass."""
    asked = [objective.name for objective in study.objectives]
    asked += [constraint.score for constraint in study.constraints]
    kinds = score_kinds()
    # Energy per inference is what every gain is told in, so a chip that cannot even infer is never trained.
    needed = ["inference_energy_pj", *(name for name in asked if kinds[name].source is Source.COST)]
    return tuple(dict.fromkeys(name for name in needed if name not in scores))
