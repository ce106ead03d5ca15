"""A study file turned into something that evaluates designs: the one place where the floors are joined."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from codesign.errors import CodesignError, RunFolderError
from codesign.files import read_json, write_json
from codesign.halving import ZERO_COST
from codesign.hardware import Hardware, keeps_constraints, missing_costs
from codesign.jobs import Answer
from codesign.layers import layers_to_json
from codesign.report.quantities import format_quantity
from codesign.results import TrialResult, TrialState, Violation
from codesign.search_space import space_of
from codesign.sections.data import Dataset
from codesign.shortlist import probes, shortlisted
from codesign.study_file import StudyFile
from codesign.warm_start import best_assignments
from evaluators.bench import Bench
from evaluators.dataset_spec import DatasetSpec
from evaluators.evaluate import Evaluation, evaluate
from evaluators.learning import zero_cost
from evaluators.learning.stages import Stage
from evaluators.scores import Scores, score_kinds
from evaluators.traces import Traced
from hw_templates.names import nearest
from search_spaces.ask import LayerInfo
from search_spaces.choice import JsonValue
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
        self._cache = cache
        self.bench = bench_of(study, cache)
        check_early(study)

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
        reference, _ = assemble(space, {}, name, self.describe, section="reference")
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

    @cached_property
    def _hardware(self) -> Hardware | None:
        """The accelerators on which every trained half is priced, less those that no shortlist has."""
        sweep = self._study.hardware_sweep
        if sweep is None:
            return None
        whole = Hardware(self._study)
        if sweep.shortlist is None or sweep.shortlist >= len(whole.chips):
            return whole
        places = self._kept_places(len(whole.chips))
        if places is None:
            places = self._shortlisted(whole, sweep.shortlist)
            if self._cache is not None:
                write_json(self._places_path(self._cache), {"of": len(whole.chips), "places": list(places)})
        return Hardware(self._study, [whole.chips[place] for place in places])

    def _shortlisted(self, whole: Hardware, length: int) -> tuple[int, ...]:
        tried = []
        for design in probes(self._study, space_of(self._study, self.describe)):
            traced = evaluate(design, self.bench, keeps=lambda scores, traced: False).traced
            tried.append([chip.scores for chip in whole.price(traced)])
        return shortlisted(self._study, tried, length)

    def _places_path(self, cache: Path) -> Path:
        return cache / f"accelerators-{self._study.hash()}.json"

    def _kept_places(self, chips: int) -> tuple[int, ...] | None:
        """Return the shortlist that another worker has made; it is made again where that is damaged."""
        path = None if self._cache is None else self._places_path(self._cache)
        try:
            kept = read_json(path) if path is not None and path.is_file() else None
        except RunFolderError:
            return None
        places = kept.get("places") if isinstance(kept, dict) and kept.get("of") == chips else None
        if not isinstance(places, list) or not all(isinstance(p, int) and 0 <= p < chips for p in places):
            return None
        return tuple(places)

    def _can_run(self, scores: Scores, traced: Traced) -> bool:
        return not missing_costs(scores, self._study)

    def _keeps(self, scores: Scores, traced: Traced) -> bool:
        own = not missing_costs(scores, self._study) and keeps_constraints(scores, self._study)
        return own or (self._hardware is not None and self._hardware.any_keeps(traced))


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
