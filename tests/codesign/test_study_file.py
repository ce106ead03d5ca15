"""Study files: every problem at once, with path, line and the nearest name."""

from __future__ import annotations

import pytest

from codesign.errors import StudyFileError
from codesign.study_reader import bundled_studies, load_study, parse_study

GOOD = """name: good
network: small_cnn
dataset: digits
space:
  quantization:
    weight_bits: [4, 8]
  accelerator: {templates: [eyeriss_like]}
objectives: [validation_accuracy, inference_energy_pj]
budget: {trials: 3}
"""


def problems(text: str, *overrides: str) -> str:
    with pytest.raises(StudyFileError) as caught:
        parse_study(text, "good.yaml", overrides)
    return str(caught.value)


def test_every_problem_is_told_at_once_with_its_path_and_line() -> None:
    text = GOOD.replace("weight_bits: [4, 8]", "weigth_bits: [4]").replace("trials: 3", "trials: -1")
    message = problems(text)
    assert "2 problems" in message
    assert "space.quantization.weigth_bits: no such key. Did you mean 'weight_bits'?" in message
    assert "(line 6)" in message
    assert "budget.trials" in message


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: good", "nam: good", "name: is required"),
        ("name: good", "name: ../up", "name:"),
        ("[4, 8]", "[4, 9]", "bits must be one of"),
        ("eyeriss_like", "eyeris_lik", "did you mean 'eyeriss_like'"),
        ("inference_energy_pj", "inference_energy", "Did you mean 'inference_energy_pj'"),
        ("inference_energy_pj", "test_accuracy", "reported only"),
        ("inference_energy_pj", "validation_accuracy", "may be named once"),
        ("budget:", "constraints: [area_mm2 < 3]\nbudget:", "score <= number"),
        ("budget:", "constraints: [area_mm2 <= x]\nbudget:", "score <= number"),
        ("budget:", "constraints: [test_accuracy >= 0.9]\nbudget:", "reported only"),
        ("budget:", "reference: {quantisation: {}}\nbudget:", "reference.quantisation"),
        (
            "budget:",
            "reference: {quantization: {weight_bits: 9}}\nbudget:",
            "reference.quantization.weight_bits",
        ),
        ("budget:", "sampler: nsga\nbudget:", "sampler.name"),
        ("budget:", "executor: cluster\nbudget:", "executor"),
        ("budget:", "seed: -1\nbudget:", "seed"),
        ("budget:", "name: twice\nbudget:", "the key 'name' is written twice"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(old: str, new: str, message: str) -> None:
    assert message in problems(GOOD.replace(old, new))


@pytest.mark.parametrize("text", ["", "[1, 2]", "a: [", "a: &x [*x]", "!!python/object/apply:os.getcwd []"])
def test_what_is_not_a_study_is_refused_and_never_run(text: str) -> None:
    assert problems(text)


def test_overrides_reach_any_depth_and_are_checked() -> None:
    study = parse_study(
        GOOD, "good.yaml", ["budget.trials=9", "sampler.name=random", "objectives.1=area_mm2"]
    )
    assert study.budget.trials == 9
    assert study.sampler.name == "random"
    assert [objective.name for objective in study.objectives] == ["validation_accuracy", "area_mm2"]
    assert parse_study(GOOD, "good.yaml", ["dataset.train_examples=50"]).dataset.name == "digits"
    assert "reads `dotted.key=value`" in problems(GOOD, "budget.trials")
    assert "budget.trials" in problems(GOOD, "budget.trials=many")
    assert "no such place" in problems(GOOD, "objectives.9=macs")


def test_a_resolved_study_reads_back_as_itself() -> None:
    study = parse_study(GOOD, "good.yaml", ["constraints=[area_mm2 <= 3, validation_accuracy >= 0.5]"])
    assert parse_study(study.to_yaml(), "resolved") == study


def test_the_hash_ignores_what_may_change_and_nothing_else() -> None:
    study = parse_study(GOOD, "good.yaml")
    for same in ("budget.trials=99", "storage=sqlite:///x.db", "executor=in_process", "dataset.data_root=/d"):
        assert parse_study(GOOD, "good.yaml", [same]).hash() == study.hash()
    for other in ("seed=1", "space.quantization.weight_bits=[4]", "sampler.window=9", "training.epochs=3"):
        assert parse_study(GOOD, "good.yaml", [other]).hash() != study.hash()


@pytest.mark.parametrize("name", bundled_studies())
def test_every_bundled_study_is_valid(name: str) -> None:
    study = load_study(name)
    assert study.name == name
    assert study.description


def test_the_reference_is_eight_bit_dense_on_the_first_chip() -> None:
    reference = parse_study(GOOD, "good.yaml").reference_space
    assert reference.quantization.weight_bits == (8,)  # type: ignore[attr-defined]
    assert reference.sparsity.patterns == ("dense",)  # type: ignore[attr-defined]
    assert all(len(values) == 1 for values in reference.accelerator.templates["eyeriss_like"].values())
