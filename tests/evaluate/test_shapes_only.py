"""A study without data: everything is priced, nothing is trained, and what cannot be known is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from codesign.errors import ExportError, StudyFileError
from codesign.exported import export_design
from codesign.problem import Problem, evaluation_to_result
from codesign.results import TrialState
from codesign.run_folder import create
from codesign.study_file import StudyFile
from codesign.study_reader import parse_study
from codesign.views import status_view
from evaluators.data.registry import load
from evaluators.data.splits import DataError
from evaluators.shapes import ActivationStorage, ImageShape, ShapeError, ShapesOnly
from evaluators.techniques.model import assume
from search_spaces.design import Design
from search_spaces.space import assemble

STUDY = """
name: shapes_only
network: small_cnn
dataset:
  name: shapes
  input_shape: [3, 16, 16]
  num_classes: 4
  of_network: {mlp: {input_shape: [1, 8, 8], num_classes: 10, activation_density: 0.5}}
space:
  network: {name: [small_cnn, mlp]}
  quantization: {weight_bits: 8, activation_bits: 8, per_layer: false}
  accelerator: {templates: {eyeriss_like: {}, tpu_like: {}}}
objectives: [inference_energy_pj, storage_bits]
constraints: [area_mm2 <= 1000]
budget: {trials: 4}
"""


@pytest.fixture(scope="module")
def study() -> StudyFile:
    return parse_study(STUDY, "shapes.yaml")


@pytest.fixture(scope="module")
def problem(study: StudyFile) -> Problem:
    return Problem(study, cache=None)


def design(study: StudyFile, problem: Problem, network: str) -> Design:
    return assemble(study.space_, {"network.name": network}, study.network.name, problem.describe)[0]


def test_a_design_is_priced_and_not_trained(study: StudyFile, problem: Problem) -> None:
    chosen = design(study, problem, "small_cnn")
    evaluation = problem.evaluate(chosen, gate=True)
    assert evaluation.trained is None
    assert not evaluation.gated
    assert evaluation.scores == evaluation.expected
    assert "validation_accuracy" not in evaluation.scores
    assert 0 < evaluation.scores["contraction_energy_pj"] < evaluation.scores["inference_energy_pj"]
    result = evaluation_to_result(1, chosen, evaluation, study)
    assert result.state is TrialState.COMPLETED
    assert result.feasible


def test_each_network_has_its_own_data(study: StudyFile, problem: Problem) -> None:
    weights = {
        name: problem.bench.layers(design(study, problem, name).network) for name in ("small_cnn", "mlp")
    }
    assert weights["small_cnn"][0].weight_shape[1] == 3
    assert weights["small_cnn"][-1].weight_shape[0] == 4
    assert weights["mlp"][0].weight_shape[1] == 64
    assert weights["mlp"][-1].weight_shape[0] == 10


def test_assumed_zeros_are_in_every_input_but_the_image(study: StudyFile, problem: Problem) -> None:
    network = design(study, problem, "small_cnn").network
    plain = problem.bench.trace(network, design(study, problem, "small_cnn").learning).inference
    first, second = plain.layers[:2]
    for storage, extra in ((ActivationStorage.BITMAP, 1.0), (ActivationStorage.DENSE, 0.75 * 32)):
        found = assume(plain, 0.25, storage)
        assert all(found.density[index] == 1 for index in found.inputs_of(first))
        assert all(found.density[index] == 0.25 for index in found.inputs_of(second))
        assert all(found.index_bits[index] == extra for index in found.inputs_of(second))
    assert assume(plain, 1.0, ActivationStorage.BITMAP) is plain


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "objectives=[validation_accuracy]",
            "no examples to train on, so there is no validation_accuracy",
        ),
        ("constraints=[validation_accuracy >= 0.5]", "so there is no validation_accuracy to search on"),
        ("dataset.num_classes=null", "give `input_shape: .* and `num_classes`"),
        ("dataset.name=digits", "input_shape, num_classes, of_network: the data set 'digits' says it itself"),
        ("space.network.name=[small_cnn]", "'mlp' is no network of this study. Its networks: small_cnn"),
        (
            "dataset.input_shape=[3, 0, 16]",
            "dataset.input_shape.1: must be at least 1, but got 0",
        ),
        ("dataset.activation_density=0", "dataset.activation_density: must be above 0, but got 0"),
    ],
)
def test_what_shapes_cannot_tell_is_refused_at_once(override: str, message: str) -> None:
    with pytest.raises(StudyFileError, match=message):
        parse_study(STUDY, "shapes.yaml", [override])


def test_cosearch_check_refuses_an_accuracy_in_one_message(tmp_path: Path) -> None:
    file = tmp_path / "shapes.yaml"
    file.write_text(STUDY)
    command = [sys.executable, "-m", "codesign", "check", str(file), "-o", "objectives.0=validation_accuracy"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 2
    assert done.stderr.count("no examples to train on") == 1
    assert "Traceback" not in done.stderr


def test_a_resolved_study_reads_back_as_itself(study: StudyFile) -> None:
    assert parse_study(study.to_yaml(), "resolved") == study


def test_there_is_nothing_to_load_nor_to_export(study: StudyFile, problem: Problem, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the data set 'shapes' has no examples, so nothing is trained"):
        load("shapes")
    folder = create(tmp_path / "run", study, command="test")
    chosen = design(study, problem, "mlp")
    result = evaluation_to_result(0, chosen, problem.evaluate(chosen, gate=True), study)
    with pytest.raises(ExportError, match="'shapes' has no examples, so trial 0 has no trained weights"):
        export_design(folder, study, result, tmp_path / "out")
    assert status_view(folder, study)["trained"] == 0


def test_senseless_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match="at least one channel, row, column and class"):
        ImageShape(input_shape=(3, 0, 4), num_classes=2)
    with pytest.raises(ShapeError, match=r"`0 < activation_density <= 1` must hold, but got 1.5"):
        ImageShape(input_shape=(3, 4, 4), num_classes=2, activation_density=1.5)
    image = ImageShape(input_shape=(3, 4, 4), num_classes=2)
    assert ShapesOnly(default=image).of("any") == image
