"""Study files: every problem at once, with path, line and the nearest name."""

from __future__ import annotations

from pathlib import Path

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
        ("eyeriss_like", "eyeris_lik", "Did you mean 'eyeriss_like'"),
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
        (
            "budget:",
            "executor: banana\nbudget:",
            "no executor is named 'banana'. Known: local, ray, in_process",
        ),
        ("budget:", "executor: in_proces\nbudget:", "Did you mean 'in_process'?"),
        (
            "budget:",
            "executor: 5\nbudget:",
            "mapping of keys to values (keys: local, ray, in_process), but got 5",
        ),
        (
            "[validation_accuracy, inference_energy_pj]",
            "[]",
            "at least one objective, but got none. Known: valid",
        ),
        ("[validation_accuracy, inference_energy_pj]", "macs", "objectives: must be a list, but got 'macs'"),
        (
            "budget:",
            "sampler: nsga5\nbudget:",
            "tpe, gp, random, but got 'nsga5'. Did you mean 'nsga3'? (line",
        ),
        ("budget:", "version: 2\nbudget:", "version: must be 1, but got 2 (line"),
        (
            "trials: 3",
            "trials: 1e3",
            "budget.trials: must be a whole number, but got '1e3'; YAML reads that as text: wr",
        ),
        ("trials: 3", "trials: 1.5", "must be a whole number, but got 1.5"),
        ("trials: 3", "trials: 0", "budget.trials: must be at least 1, but got 0"),
        ("[4, 8]", "[4, 8]\n  network: {width: -1}", "space.network.width.0: must be above 0, but got -1"),
        (
            "name: good",
            "name: 3",
            "name: must be text, but got '3' without quotes; put it in quotes (line 1)",
        ),
        ("budget:", "dataset_root: x\nbudget:", "dataset_root: no such key. Did you mean 'dataset'?"),
        ("budget:", "seed: -1\nbudget:", "seed"),
        ("budget:", "name: twice\nbudget:", "the key 'name' is written twice"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(old: str, new: str, message: str) -> None:
    assert message in problems(GOOD.replace(old, new))


@pytest.mark.parametrize("bound", ["nan", ".nan", "inf", "-.inf", "1e999", "x"])
def test_the_bound_of_a_constraint_is_finite(bound: str) -> None:
    law = "reads `score <= number` or `score >= number`, its number finite, but got"
    assert f"{law} 'area_mm2 <= {bound}'" in problems(GOOD, f"constraints=[area_mm2 <= {bound}]")


@pytest.mark.parametrize("number", [".nan", ".inf", "-.inf"])
@pytest.mark.parametrize(
    "path",
    [
        "budget.wall_minutes",
        "budget.plateau.tolerance",
        "budget.trials",
        "training.learning_rate",
        "training.temperature",
        "executor.local.trial_minutes",
        "space.network.width",
        "space.sparsity.density",
        "seed",
    ],
)
def test_numbers_are_finite(path: str, number: str) -> None:
    message = problems(GOOD, f"{path}={number}")
    assert f"{path}: must be a finite number, but got" in message.replace(".0: must", ": must")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("executor.local.workers=5000", "executor.local.workers: must be at most 1024, but got 5000"),
        ("executor.local.workers=-1", "executor.local.workers: must be at least 1, but got -1"),
        (
            "dataset={name: shapes, input_shape: [3, 100000, 100000], num_classes: 2}",
            "dataset.input_shape: one image may have 268435456 numbers, but [3, 100000, 100000] has more",
        ),
        (
            "dataset={name: shapes, input_shape: [3, 9, 9], num_classes: 10000000}",
            "dataset.num_classes: must be at most 1048576, but got 10000000",
        ),
        (
            "seed=99999999999999999999",
            "seed: must be below 9223372036854775808, but got 9",
        ),
        (
            "space.smartdeal.use=on",
            "must be one of off, on, but got True: YAML reads on and off so; put it in q",
        ),
    ],
)
def test_numbers_that_no_machine_has_room_for_are_refused(override: str, message: str) -> None:
    assert message in problems(GOOD, override)


def test_a_wrong_entry_does_not_make_a_list_too_short() -> None:
    message = problems(GOOD, "objectives=[{name: macs, direction: up}]")
    assert "objectives.0.direction: must be one of minimize, maximize, but got 'up'" in message
    assert "1 problem\n" in message


def test_problems_of_the_reference_have_its_path_and_line() -> None:
    message = problems(GOOD + "reference: {quantization: {weight_bits: 9, weigth_bits: 8}}\n")
    assert "2 problems" in message
    assert "reference.quantization.weight_bits.0: bits must be one of" in message
    assert "reference.quantization.weigth_bits: no such key. Did you mean 'weight_bits'?" in message
    assert message.count("(line 10)") == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "seed: !!python/object/apply:os.getcwd []",
            "plain data, but the tag !!python/object/apply:os.getcwd asks",
        ),
        (
            "seed: !mine 3",
            "plain data, but the tag !mine asks for something to be built; leave it out (line 10)",
        ),
        ("name: twice", "the key 'name' is written twice (line 10)"),
        ("description: 2024-99-99", "month must be in 1..12"),
        ("seed: " + "9" * 5000, "Exceeds the limit"),
        ("? [a]\n: 3", "unhashable key (line 10)"),
        ("3: 4", "3: a key must be text, but got 3 (line 10)"),
        ("seed: *no", "undefined alias 'no' (line 10)"),
    ],
)
def test_yaml_that_is_no_plain_data_is_refused_with_its_line(text: str, message: str) -> None:
    assert message in problems(GOOD + text + "\n")


def test_overrides_are_read_as_strictly_as_files() -> None:
    assert "the key 'a' is written twice" in problems(GOOD, "reference={a: 1, a: 2}")
    assert "the tag !!python/name:os.system asks" in problems(GOOD, "seed=!!python/name:os.system ''")


def test_yaml_merges_are_merged() -> None:
    text = GOOD.replace("{trials: 3}", "\n  <<: {trials: 7, trainings: 9}\n  trials: 3")
    budget = parse_study(text, "good.yaml").budget
    assert (budget.trials, budget.trainings) == (3, 9)


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


def test_a_shortlist_is_shorter_than_the_list() -> None:
    message = problems(GOOD, "hardware_sweep={designs: 4, shortlist: 4}")
    assert "`shortlist` must be below `designs`, but got shortlist=4 and designs=4" in message
    assert parse_study(GOOD, "good.yaml", ["hardware_sweep={designs: 4, shortlist: 3}"]).hardware_sweep


@pytest.mark.parametrize("address", ["bad address", "host", "http://h:1", "h: 1", "a b:6379", ""])
def test_a_ray_address_has_a_form(address: str) -> None:
    message = problems(GOOD, f"executor={{ray: {{address: '{address}'}}}}")
    assert "executor.ray.address: a Ray address is auto, local, HOST:PORT or ray://HOST:PORT" in message
    assert f"but got {address!r}" in message


@pytest.mark.parametrize("address", ["auto", "local", "h:6379", "ray://h:10001", "[::1]:6379"])
def test_every_form_of_a_ray_address_is_taken(address: str) -> None:
    study = parse_study(GOOD, "good.yaml", [f"executor={{ray: {{address: '{address}'}}}}"])
    assert study.executor.ray is not None
    assert study.executor.ray.address == address


def test_a_relative_storage_is_named_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = parse_study(GOOD, "good.yaml", ["storage=sqlite:///rel.db"])
    assert study.storage == f"sqlite:///{tmp_path}/rel.db"
    monkeypatch.chdir("/")
    assert parse_study(study.to_yaml(), "resolved").storage == study.storage
    for same in ("journal", "sqlite://", "sqlite:///:memory:", "sqlite:////a/b.db", "redis://h/0"):
        assert parse_study(GOOD, "good.yaml", [f"storage='{same}'"]).storage == same


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
