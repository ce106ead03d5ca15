"""A study file turned into something that evaluates designs: the one place where the floors are joined."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path

from codesign.errors import CodesignError
from codesign.halving import ZERO_COST
from codesign.hardware_front import hardware_front
from codesign.jobs import Answer
from codesign.layers import layers_to_json
from codesign.names import nearest
from codesign.report.quantities import format_quantity
from codesign.results import HardwarePoint, TrialResult, TrialState, Violation
from codesign.sections.data import Dataset
from codesign.study_file import StudyFile
from codesign.warm_start import best_assignments
from evaluators.bench import Bench
from evaluators.dataset_spec import DatasetSpec
from evaluators.evaluate import Evaluation, evaluate
from evaluators.hardware_sweep import Pass, PricedChip, build_fleet, price_fleet
from evaluators.learning import zero_cost
from evaluators.learning.stages import Stage
from evaluators.scores import Scores, Source, score_kinds
from evaluators.traces import Traced
from search_spaces.accelerator_list import accelerator_knobs, accelerators
from search_spaces.ask import LayerInfo
from search_spaces.choice import JsonValue, to_json
from search_spaces.design import Design, design_to_json
from search_spaces.network import NetworkChoice
from search_spaces.space import assemble, knobs, passed_over


class Problem:
    """Evaluates designs for one study.

    Args:
        cache: folder of the trained halves; None keeps none.
    """

    def __init__(self, study: StudyFile, cache: Path | None) -> None:
        self._study = study
        self.bench = bench_of(study, cache)
        check_early(study)
        self._hardware = None if study.hardware_sweep is None else Hardware(study)

    def describe(self, network: NetworkChoice) -> tuple[LayerInfo, ...]:
        """Return the layers of one network."""
        return self.bench.layers(network)

    def describe_all(self) -> JsonValue:
        """Return the layers of every network of the space as JSON data."""
        networks = {*self._study.space_.network.every_choice(self._study.network.name)}
        networks |= {*self._study.reference_space.network.every_choice(self._study.network.name)}
        return layers_to_json({network: self.describe(network) for network in networks})

    def price_reference(self) -> Evaluation:
        """Return the cost of the reference design, untrained."""
        space, name = self._study.reference_space, self._study.network.name
        reference, _ = assemble(space, {}, name, self.describe)
        return evaluate(reference, self.bench, keeps=lambda scores, traced: False)

    def evaluate(self, design: Design, *, gate: bool, stage: int | None = None) -> Evaluation:
        """Walk one design; the reference design is not gated, since every gain is a gain over it."""
        return evaluate(design, self.bench, keeps=self._keeps if gate else self._can_run, stage=stage)

    def answer(self, number: int, design: Design, stage: int) -> Answer:
        """Take a trial to the end of a stage, and what it came to to many accelerators."""
        early = self._study.fidelity.early if self._study.fidelity is not None else ()
        if stage < len(early):
            return Answer(result=self._glance(number, design, stage, early[stage]))
        # Later stages have passed the gate: it asks for the expected cost alone, which no training changes.
        evaluation = self.evaluate(design, gate=number > 0 and stage == 0, stage=stage - len(early))
        result = replace(evaluation_to_result(number, design, evaluation, self._study), stage=stage)
        if result.state is TrialState.COMPLETED and self._hardware is not None:
            result = replace(result, hardware=self._hardware.front(evaluation, design))
        if result.state is TrialState.COMPLETED and stage < self._study.stages - 1:
            return Answer(result=replace(result, state=TrialState.PARTIAL))
        whole = result.state is TrialState.COMPLETED
        return Answer(result=result, ledger=evaluation.ledger() if whole else None)

    def _glance(self, number: int, design: Design, stage: int, name: str) -> TrialResult:
        """Return the end of a stage without training: its cost, and a zero-cost score."""
        evaluation = evaluate(design, self.bench, keeps=lambda scores, traced: False)
        kept = self._keeps if number > 0 else self._can_run
        result = replace(evaluation_to_result(number, design, evaluation, self._study), stage=stage)
        if not kept(evaluation.scores, evaluation.traced):
            return result
        started = time.perf_counter()
        value = self.bench.zero_cost(design.algorithm, name)
        spent_s = time.perf_counter() - started
        seconds = dict(result.seconds)
        seconds |= {"training": spent_s, "total": seconds["total"] + spent_s}
        scores = {**result.scores, ZERO_COST: value}
        return replace(result, state=TrialState.PARTIAL, scores=scores, seconds=seconds)

    def _can_run(self, scores: Scores, traced: Traced) -> bool:
        return not missing_costs(scores, self._study)

    def _keeps(self, scores: Scores, traced: Traced) -> bool:
        own = not missing_costs(scores, self._study) and keeps_constraints(scores, self._study)
        return own or (self._hardware is not None and self._hardware.any_keeps(traced))


class Hardware:
    """The hardware sweep of one study: the same accelerators for every trained half."""

    def __init__(self, study: StudyFile) -> None:
        sweep = study.hardware_sweep
        if sweep is None:
            raise CodesignError("the study asks for no hardware sweep")
        self._study = study
        space = study.space_.accelerator
        self._fleet = build_fleet(accelerators(space, sweep.designs, study.seed))
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


def evaluation_to_result(
    number: int, design: Design, evaluation: Evaluation, study: StudyFile
) -> TrialResult:
    """Return the trial's result: its scores held against the constraints."""
    scores = evaluation.scores.as_dict()
    if missing_costs(evaluation.scores, study):
        return _unmapped_to_result(number, design, evaluation)
    broken = [name for name, value in scores.items() if not math.isfinite(value)]
    if broken:
        return failure_to_result(number, design, f"not a finite number: {', '.join(broken)}")
    margins = {c.text: c.violation(scores[c.score]) for c in study.constraints if c.score in scores}
    violations = tuple(
        Violation(constraint=c.text, value=scores[c.score], bound=c.bound, excess=margins[c.text])
        for c in study.constraints
        if margins.get(c.text, 0.0) > 0
    )
    return TrialResult(
        trial=number,
        state=TrialState.GATED if evaluation.gated else TrialState.COMPLETED,
        design=design_to_json(design),
        scores=scores,
        expected=evaluation.expected.as_dict(),
        violations=violations,
        margins=margins,
        seconds=evaluation.seconds,
        cached=evaluation.cached,
        epochs=evaluation.epochs,
    )


def _unmapped_to_result(number: int, design: Design, evaluation: Evaluation) -> TrialResult:
    """Return a gated result: a layer needs more of a memory than the chip has, so it cannot run there."""
    worst = max(evaluation.unmapped, key=lambda row: row.excess)
    text = f"layer {worst.op} fits the {worst.level} of the chip"
    scores = evaluation.scores.as_dict()
    return TrialResult(
        trial=number,
        state=TrialState.GATED if evaluation.gated else TrialState.COMPLETED,
        design=design_to_json(design),
        scores=scores,
        expected=scores,
        violations=(
            Violation(
                constraint=text,
                value=worst.demand_bits,
                bound=worst.capacity_bits,
                excess=worst.excess,
            ),
        ),
        margins={"mapping": worst.excess},
        seconds=evaluation.seconds,
    )


def failure_to_result(number: int, design: Design, reason: str, *, stage: int = 0) -> TrialResult:
    """Return the result of a trial that has no scores."""
    return TrialResult(
        trial=number, state=TrialState.FAILED, design=design_to_json(design), reason=reason, stage=stage
    )


def bench_of(study: StudyFile, cache: Path | None) -> Bench:
    """Return the bench on which the designs of a study are tried."""
    return Bench(
        dataset=dataset_spec(study.dataset),
        recipe=study.training,
        seed=study.seed,
        cache=cache,
        shared=study.shared_cache,
        stages=stages_of(study),
    )


def check_early(study: StudyFile) -> None:
    """Refuse a zero-cost score that does not exist, before any trial asks for it.

    Raises:
        CodesignError: its name is not registered.
    """
    early, known = (study.fidelity.early if study.fidelity is not None else ()), zero_cost.names()
    for name in early:
        if ":" not in name and name not in known:
            raise CodesignError(
                f"fidelity.early: no zero-cost score is named {name!r}.{nearest(name, known)} "
                f"Known: {', '.join(known)}"
            )


def stages_of(study: StudyFile) -> tuple[Stage, ...]:
    """Return the ends of fine-tuning at which a study looks at a trial."""
    if study.fidelity is None:
        return ()
    epochs = study.fidelity.epochs
    shares = study.fidelity.data or (1.0,) * len(epochs)
    ends = tuple(Stage(epochs=end, data=share) for end, share in zip(epochs, shares, strict=True))
    return (*ends, Stage(epochs=study.training.epochs))


def dataset_spec(dataset: Dataset) -> DatasetSpec:
    """Return the study file's data section as the evaluators take it."""
    return DatasetSpec(
        name=dataset.name,
        data_root=dataset.data_root,
        download=dataset.download,
        train_examples=dataset.train_examples,
        validation_examples=dataset.validation_examples,
        shapes=dataset.shapes,
    )


def dry_run(study: StudyFile) -> list[str]:
    """Read the data, build every network and price the reference design; train nothing.

    Returns:
        What the study would do, line by line.

    Raises:
        ValueError: as the floors' own errors, whatever would stop the study.
    """
    problem = Problem(study, cache=None)
    if study.warm_start is not None:
        best_assignments(study.warm_start)
    space = study.space_
    found = knobs(space, study.network.name, problem.describe)
    points = math.prod(len(knob.values) for knob in found.values())
    evaluation = problem.price_reference()
    lines = [
        f"{study.name}: {len(found)} knobs, {points:.3g} assignments, {study.budget.text} planned",
        f"objectives   {', '.join(f'{o.direction.value} {o.name}' for o in study.objectives)}",
        f"constraints  {', '.join(constraint.text for constraint in study.constraints) or 'none'}",
        *(f"note         {said}" for said in passed_over(space, study.network.name, problem.describe)),
        "the reference design costs (untrained)",
    ]
    kinds = score_kinds()
    lines += [
        f"  {name:<22} {format_quantity(value, kinds[name].unit)}"
        for name, value in evaluation.expected.as_dict().items()
    ]
    return lines
