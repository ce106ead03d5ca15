"""An exported design as a torch network: really smaller, and it classifies as its scores say."""

from __future__ import annotations

from pathlib import Path

import pytest

import codesign
from codesign.exported import evaluate_exported, export_design
from codesign.run_folder import RunFolder
from evaluators.data import registry as data
from evaluators.data.splits import limited
from evaluators.learning.backprop import accuracy
from evaluators.networks import build, compressible_layers

STUDY = """
name: smaller
network: small_cnn
dataset: {name: digits, train_examples: 200, validation_examples: 60}
space:
  sparsity: {patterns: filter, density: 0.5, per_layer: false}
  accelerator: {templates: {eyeriss_like: {}}}
objectives: [validation_accuracy, inference_energy_pj]
training: {pretrain_epochs: 3, epochs: 2}
budget: {trials: 2}
executor: in_process
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """Return the folder of an exported design whose filters were pruned, and its scores."""
    folder = tmp_path_factory.mktemp("smaller")
    (folder / "study.yaml").write_text(STUDY, encoding="utf-8")
    study = codesign.load(folder / "study.yaml", out=folder / "run")
    study.run()
    result = next(one for one in study.results() if one.trial == 1)
    path = export_design(RunFolder(path=folder / "run"), study.file, result, folder / "out")
    return path, dict(result.scores)


def test_the_network_is_smaller_and_as_good_as_its_scores_say(
    exported: tuple[Path, dict[str, float]],
) -> None:
    path, scores = exported
    network = codesign.load_network(path)
    whole = build("small_cnn", width=1.0, depth=1, input_shape=(1, 8, 8), num_classes=10, seed=0)
    for name, layer in compressible_layers(whole).items():
        left = compressible_layers(network)[name].weight.shape
        assert left[0] == (10 if name == "classifier" else layer.weight.shape[0] // 2)
    splits = limited(data.load("digits", None, False), train=200, validation=60)
    assert accuracy(network, splits.test) == scores["test_accuracy"]
    assert evaluate_exported(path, None) == pytest.approx(scores)


def test_with_its_shape_no_data_are_needed(exported: tuple[Path, dict[str, float]]) -> None:
    path, _ = exported
    states = [
        codesign.load_network(path, input_shape=(1, 8, 8), num_classes=10).state_dict(),
        codesign.load_network(path).state_dict(),
    ]
    assert states[0].keys() == states[1].keys()
    assert all((states[0][name] == states[1][name]).all() for name in states[0])


def test_a_folder_without_weights_is_refused(exported: tuple[Path, dict[str, float]], tmp_path: Path) -> None:
    path, _ = exported
    (tmp_path / "design.yaml").write_bytes((path / "design.yaml").read_bytes())
    with pytest.raises(codesign.ExportError, match=r"weights\.safetensors is missing"):
        codesign.load_network(tmp_path)
