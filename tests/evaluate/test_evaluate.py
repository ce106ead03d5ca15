"""The walk of one design: what the gate saves, what the cache saves, what the scores mean."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from codesign.problem import Problem
from codesign.study_file import StudyFile
from codesign.study_reader import parse_study
from evaluators.evaluate import Evaluation, evaluate
from evaluators.scores import Direction, ScoreError, Source, score, score_kinds
from evaluators.trained import trained_from_json, trained_to_json
from search_spaces.accelerator import AcceleratorChoice
from search_spaces.design import Design
from search_spaces.space import assemble

STUDY = """
name: walk
network: small_cnn
dataset: {name: digits, train_examples: 150, validation_examples: 80}
space:
  quantization: {weight_bits: [4, 8], activation_bits: 8}
  sparsity: {patterns: [dense, unstructured], density: 0.25}
  learning: {batch_size: 16}
  accelerator: {templates: {eyeriss_like: {}, tpu_like: {}}}
objectives: [validation_accuracy, inference_energy_pj]
training: {pretrain_epochs: 1, epochs: 1}
budget: {trials: 1}
"""


@pytest.fixture(scope="module")
def study() -> StudyFile:
    return parse_study(STUDY, "walk.yaml")


@pytest.fixture(scope="module")
def problem(study: StudyFile, tmp_path_factory: pytest.TempPathFactory) -> Problem:
    return Problem(study, cache=tmp_path_factory.mktemp("cache"))


def design(study: StudyFile, problem: Problem, **knobs: int | float | str) -> Design:
    named = {name.replace("__", "."): value for name, value in knobs.items()}
    return assemble(study.space_, named, study.network.name, problem.describe)[0]


@pytest.fixture(scope="module")
def dense(study: StudyFile, problem: Problem) -> Evaluation:
    reference, _ = assemble(study.reference_space, {}, study.network.name, problem.describe)
    return problem.evaluate(reference, gate=True)


def test_a_gated_design_is_never_trained(
    study: StudyFile, problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(half: object) -> None:
        raise AssertionError("the gate was passed")

    monkeypatch.setattr(problem.bench, "train", train)
    evaluation = evaluate(
        design(study, problem), problem.bench, keeps=lambda scores, traced: scores["macs"] < 1
    )
    assert evaluation.gated
    assert evaluation.trained is None
    assert evaluation.seconds["training"] == 0.0
    assert "validation_accuracy" not in evaluation.scores
    assert evaluation.scores["inference_energy_pj"] > 0


def test_equal_halves_train_once(study: StudyFile, problem: Problem) -> None:
    one = design(study, problem, accelerator__template="eyeriss_like")
    other = dataclasses.replace(one, accelerator=AcceleratorChoice(template="tpu_like"))
    first, second = problem.evaluate(one, gate=True), problem.evaluate(other, gate=True)
    assert not first.cached
    assert second.cached
    assert first.trained == second.trained
    assert first.scores["inference_energy_pj"] != second.scores["inference_energy_pj"]


def test_training_is_repeatable_without_any_cache(
    study: StudyFile, problem: Problem, dense: Evaluation
) -> None:
    alone = Problem(study, cache=None)
    reference, _ = assemble(study.reference_space, {}, study.network.name, alone.describe)
    again = alone.evaluate(reference, gate=True)
    assert again.scores == dense.scores


def test_macs_and_storage_by_hand(dense: Evaluation) -> None:
    # small_cnn, width 1, depth 1, 1x8x8: conv 1->8 at 8x8, conv 8->16 at 4x4, conv 16->32 at 2x2, linear.
    macs = 8 * 1 * 9 * 64 + 16 * 8 * 9 * 16 + 32 * 16 * 9 * 4 + 32 * 10
    assert dense.scores["macs"] == macs
    weights = 8 * 9 + 16 * 8 * 9 + 32 * 16 * 9 + 320
    assert dense.scores["storage_bits"] >= 8 * weights
    assert dense.scores["storage_bits"] < 8 * weights + 64 * (4 * 56 + 10 + 10)  # scales, biases, statistics


def test_the_ledger_sums_to_the_scores(dense: Evaluation) -> None:
    ledger = dense.ledger()
    for passed, name in (("inference", "inference_energy_pj"), ("training", "training_energy_pj")):
        rows = ledger[passed]["rows"]  # type: ignore[index]
        total = sum(pj for row in rows for operands in row["energy_pj"].values() for pj in operands.values())
        assert total == pytest.approx(dense.scores[name], rel=1e-9)


def test_measured_zeros_never_cost_more_than_expected_ones(dense: Evaluation) -> None:
    # The array gates zero activations: what ReLU really zeroes can only save.
    assert dense.scores["inference_energy_pj"] <= dense.expected["inference_energy_pj"]
    assert dense.scores["area_mm2"] == dense.expected["area_mm2"]


@pytest.mark.parametrize("score_name", ["inference_energy_pj", "storage_bits", "peak_inference_bytes"])
def test_fewer_bits_cost_less(study: StudyFile, problem: Problem, score_name: str) -> None:
    layers = ("stage1.conv1", "stage2.conv1", "stage3.conv1", "classifier")
    knobs = {f"{layer}.weight_bits": 4 for layer in layers}
    narrow, _ = assemble(study.space_, knobs, study.network.name, problem.describe)
    wide, _ = assemble(study.space_, dict.fromkeys(knobs, 8), study.network.name, problem.describe)
    gate = {"keeps": lambda scores, traced: False}
    low = evaluate(narrow, problem.bench, **gate).expected[score_name]
    high = evaluate(wide, problem.bench, **gate).expected[score_name]
    assert low < high


def test_the_facts_of_a_trained_half_survive_json_exactly(dense: Evaluation) -> None:
    assert dense.trained is not None
    assert trained_from_json(trained_to_json(dense.trained)) == dense.trained


def test_saved_weights_have_the_accuracy_that_training_reported(
    problem: Problem, dense: Evaluation, study: StudyFile
) -> None:
    reference, _ = assemble(study.reference_space, {}, study.network.name, problem.describe)
    home = problem.bench.half_path(reference.algorithm)
    assert home is not None
    problem.bench.train(reference.algorithm)
    assert dense.trained is not None
    assert problem.bench.accuracy(reference.algorithm, home / "weights.safetensors") == dense.trained.accuracy


def test_a_killed_training_leaves_nothing_in_the_cache(
    study: StudyFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = Problem(study, cache=tmp_path)

    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("evaluators.learning.training.Training.run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        problem.evaluate(design(study, problem), gate=True)
    assert not list(tmp_path.glob("half-*[!k]"))  # only lock files
    monkeypatch.undo()
    assert not problem.evaluate(design(study, problem), gate=True).cached


@pytest.mark.parametrize("kind", score_kinds().values(), ids=lambda kind: kind.name)
def test_every_score_says_what_it_is(kind: object, dense: Evaluation) -> None:
    assert kind.unit  # type: ignore[attr-defined]
    assert kind.description.endswith(".")  # type: ignore[attr-defined]
    assert kind.direction in Direction  # type: ignore[attr-defined]
    assert dense.scores[kind.name] >= 0  # type: ignore[attr-defined]
    assert (kind.name in dense.expected) == (kind.source is Source.COST)  # type: ignore[attr-defined]


def test_a_score_is_registered_once() -> None:
    def macs(facts: object) -> float:
        """Nothing."""
        return 0.0

    with pytest.raises(ScoreError, match="registered once, but 'macs' came twice"):
        score(unit="count")(macs)
