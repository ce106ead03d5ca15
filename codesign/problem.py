"""A study file turned into something that evaluates designs: the one place where the floors are joined."""

from __future__ import annotations

import math
from pathlib import Path

from codesign.layers import layers_to_json
from codesign.report.quantities import format_quantity
from codesign.results import TrialResult, TrialState, Violation
from codesign.study_file import Dataset, StudyFile
from evaluators.bench import Bench, DatasetSpec
from evaluators.evaluate import Evaluation, evaluate
from evaluators.scores import Scores, Source, score_kinds
from search_spaces.ask import LayerInfo
from search_spaces.choice import JsonValue
from search_spaces.design import Design, design_to_json
from search_spaces.network import NetworkChoice
from search_spaces.space import assemble, knobs


class Problem:
    """Evaluates designs for one study.

    Args:
        cache: folder of the trained halves; None keeps none.
    """

    def __init__(self, study: StudyFile, cache: Path | None) -> None:
        self._study = study
        self.bench = Bench(
            dataset=dataset_spec(study.dataset), recipe=study.training, seed=study.seed, cache=cache
        )

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
        return evaluate(reference, self.bench, keeps=lambda scores: False)

    def evaluate(self, design: Design, *, gate: bool) -> Evaluation:
        """Walk one design; the reference design is not gated, since every gain is a gain over it."""
        return evaluate(design, self.bench, keeps=self._keeps if gate else self._can_run)

    def _can_run(self, scores: Scores) -> bool:
        return not missing_costs(scores, self._study)

    def _keeps(self, scores: Scores) -> bool:
        return not missing_costs(scores, self._study) and all(
            constraint.violation(scores[constraint.score]) <= 0
            for constraint in self._study.constraints
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
    )


def _unmapped_to_result(number: int, design: Design, evaluation: Evaluation) -> TrialResult:
    """Return a gated result: a layer needs more of a memory than the chip has, so it cannot run there."""
    worst = max(evaluation.unmapped, key=lambda row: row.excess)
    text = f"layer {worst.op} fits the {worst.level} of the chip"
    scores = evaluation.scores.as_dict()
    return TrialResult(
        trial=number,
        state=TrialState.GATED,
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


def failure_to_result(number: int, design: Design, reason: str) -> TrialResult:
    """Return the result of a trial that has no scores."""
    return TrialResult(trial=number, state=TrialState.FAILED, design=design_to_json(design), reason=reason)


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
    space = study.space_
    found = knobs(space, study.network.name, problem.describe)
    points = math.prod(len(knob.values) for knob in found.values())
    evaluation = problem.price_reference()
    lines = [
        f"{study.name}: {len(found)} knobs, {points:.3g} assignments, {study.budget.trials} trials planned",
        f"objectives   {', '.join(f'{o.direction.value} {o.name}' for o in study.objectives)}",
        f"constraints  {', '.join(constraint.text for constraint in study.constraints) or 'none'}",
        "the reference design costs (untrained)",
    ]
    kinds = score_kinds()
    lines += [
        f"  {name:<22} {format_quantity(value, kinds[name].unit)}"
        for name, value in evaluation.expected.as_dict().items()
    ]
    return lines
