"""Many chips in one call: what each gets is what it gets alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from codesign.problem import Problem
from codesign.study_reader import parse_study
from evaluators.evaluate import compress, price
from evaluators.half_choices import replacements_of
from evaluators.hardware_sweep import Pass, price_many
from evaluators.scores import Accuracy, Scores, derive
from evaluators.traces import Traced
from hw_templates import templates
from search_spaces.accelerator import AcceleratorChoice, AcceleratorSpace
from search_spaces.accelerator_list import accelerators
from search_spaces.space import assemble

STUDY = """
name: sweep
network: small_cnn
dataset: {name: digits, train_examples: 150, validation_examples: 80}
space:
  quantization: {weight_bits: [2, 8], activation_bits: 4}
  sparsity: {patterns: [unstructured], density: 0.25}
  learning: {batch_size: 16}
  accelerator: {templates: [eyeriss_like, tpu_like]}
objectives: [validation_accuracy, inference_energy_pj]
training: {pretrain_epochs: 1, epochs: 1}
budget: {trials: 1}
"""
ACCURACY = Accuracy(validation=0.9, test=0.8)
TRAINING_COSTS = {"training_energy_pj", "training_latency_s"}


@pytest.fixture(scope="module")
def traced() -> Traced:
    study = parse_study(STUDY, "sweep.yaml")
    problem = Problem(study, cache=None)
    design, _ = assemble(study.space_, {}, study.network.name, problem.describe)
    whole = problem.bench.trace(design.network, design.learning, replacements_of(design.algorithm))
    return compress(whole, design.algorithm)


def alone(traced: Traced, choice: AcceleratorChoice, accuracy: Accuracy | None) -> Scores:
    return derive(price(traced, choice.build(), accuracy=accuracy).facts)


@pytest.mark.parametrize("template", templates.names())
def test_every_template_gets_the_scores_that_it_gets_alone(template: str, traced: Traced) -> None:
    space = AcceleratorSpace.model_validate({"templates": [template]})
    chips = accelerators(space, limit=4, seed=1)
    for priced in price_many(traced, chips, accuracy=ACCURACY):
        assert priced.reason is None
        assert priced.scores == alone(traced, priced.accelerator, ACCURACY)


def test_a_sample_of_several_templates_gets_the_scores_that_each_gets_alone(traced: Traced) -> None:
    space = AcceleratorSpace.model_validate({"templates": ["eyeriss_like", "tpu_like", "stm32f746_like"]})
    chips = accelerators(space, limit=30, seed=2)
    priced = price_many(traced, chips, accuracy=None)
    assert [one.accelerator for one in priced] == list(chips)
    assert [one.scores for one in priced] == [alone(traced, chip, None) for chip in chips]


def test_a_chip_listed_twice_is_answered_twice(traced: Traced) -> None:
    chip = AcceleratorChoice(template="tpu_like")
    first, second = price_many(traced, (chip, chip), accuracy=None)
    assert first == second


def test_a_pass_that_is_not_asked_for_has_no_costs(traced: Traced) -> None:
    chip = AcceleratorChoice(template="eyeriss_like")
    (priced,) = price_many(traced, (chip,), accuracy=ACCURACY, passes=frozenset({Pass.INFERENCE}))
    whole = alone(traced, chip, ACCURACY).as_dict()
    assert priced.scores is not None
    assert priced.scores.as_dict() == {k: v for k, v in whole.items() if k not in TRAINING_COSTS}


def test_a_chip_that_cannot_be_built_comes_with_its_reason(traced: Traced) -> None:
    wrong = AcceleratorChoice(template="tpu_like", parameters=(("pe_rows", 7),))
    right = AcceleratorChoice(template="tpu_like")
    first, second = price_many(traced, (wrong, right), accuracy=None)
    assert first.scores is None
    assert first.reason is not None
    assert "pe_rows must be one of" in first.reason
    assert second.scores == alone(traced, right, None)


def test_a_chip_that_cannot_run_a_layer_says_which_memory_is_too_small(
    traced: Traced, tmp_path: Path
) -> None:
    text = (Path(templates.__file__).parent / "catalog" / "tpu_like.yaml").read_text("utf-8")
    narrow = text.replace("capacity: 32 bits\n      word: 16 bits", "capacity: 8 bits\n      word: 8 bits")
    file = tmp_path / "narrow.yaml"
    file.write_text(narrow, "utf-8")
    choice = AcceleratorChoice(template=str(file))
    report = price(traced, choice.build(), accuracy=None)
    (priced,) = price_many(traced, (choice,), accuracy=None)
    assert priced.scores == derive(report.facts)
    assert "inference_energy_pj" in derive(report.facts)  # weights of 2 and 8 bits fit, gradients do not
    assert "training_energy_pj" not in derive(report.facts)
    assert {one.level for one in priced.unmapped} == {"weight_register"}
    assert [one.op for one in priced.unmapped] == [row.op for row in report.training.infeasible]
    assert priced.unmapped[0].excess == 32 / 8 - 1


def test_no_chips_no_scores(traced: Traced) -> None:
    assert price_many(traced, (), accuracy=None) == ()
