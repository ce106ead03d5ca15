"""The energy of chips that a hardware sweep found, worked out from the trained half in the cache."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from codesign.chip_ledgers import write_ledgers
from codesign.drive import start
from codesign.report_data import opened_with, report_data
from codesign.results import TrialResult
from codesign.run_folder import RunFolder
from codesign.study_file import StudyFile
from codesign.study_reader import parse_study

STUDY = """
name: chips
network: small_cnn
dataset: {name: digits, train_examples: 64, validation_examples: 32}
space:
  network: {width: [0.5]}
  quantization: {weight_bits: [4, 8], activation_bits: 8}
  accelerator: {templates: {eyeriss_like: {pe_rows: [6, 12, 24]}, tpu_like: {pe_rows: [8, 16, 32]}}}
objectives: [validation_accuracy, inference_energy_pj, inference_latency_s, area_mm2]
training: {pretrain_epochs: 1, epochs: 1}
hardware_sweep: {designs: 6}
budget: {trials: 2}
executor: in_process
"""


@pytest.fixture(scope="module")
def study() -> StudyFile:
    return parse_study(STUDY, "chips.yaml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, study: StudyFile) -> RunFolder:
    folder, complete = start(
        tmp_path_factory.mktemp("chips") / "run", study, command="test", watch=lambda tick: None
    )
    assert complete
    return folder


def variants(folder: RunFolder) -> dict[str, TrialResult]:
    return {
        one.label: one for result in folder.results() for one in result.variants() if one.variant is not None
    }


def test_the_run_works_out_the_chips_that_its_page_opens_with(folder: RunFolder, study: StudyFile) -> None:
    page = report_data(folder, study)
    named = [label for label in opened_with(page) if "." in label]
    assert named
    assert set(named) <= set(page.breakdowns)


def test_a_ledger_sums_to_the_energy_that_the_sweep_gave(folder: RunFolder, study: StudyFile) -> None:
    found = variants(folder)
    assert write_ledgers(folder, study, [*found, "0"]) == {}
    for label, variant in found.items():
        ledger = json.loads(folder.ledger_path(label).read_text())
        cells = [
            pj
            for row in ledger["inference"]["rows"]
            for level in row["energy_pj"].values()
            for pj in level.values()
        ]
        assert sum(cells) == pytest.approx(variant.scores["inference_energy_pj"], rel=1e-6)
        assert ledger["training"]["rows"]
    shown = report_data(folder, study)
    assert {t.label for t in shown.trials if t.variant is not None} <= set(shown.breakdowns)


def _copy(folder: RunFolder, path: Path) -> RunFolder:
    shutil.copytree(folder.path, path)
    for ledger in path.glob("trials/*/cost-*.json"):
        ledger.unlink()
    return RunFolder(path=path)


def test_a_half_that_is_gone_is_said(folder: RunFolder, study: StudyFile, tmp_path: Path) -> None:
    copy = _copy(folder, tmp_path / "copy")
    shutil.rmtree(copy.cache_path)
    label = next(iter(variants(copy)))
    assert write_ledgers(copy, study, [label]) == {
        label: "its trained weights are not in the cache any more, or are damaged"
    }
    assert not copy.ledger_path(label).exists()


def test_a_ledger_that_would_contradict_the_scores_is_not_written(
    folder: RunFolder, study: StudyFile, tmp_path: Path
) -> None:
    copy = _copy(folder, tmp_path / "copy")
    label, variant = next(iter(variants(copy).items()))
    path = copy.result_path(variant.trial)
    data = json.loads(path.read_text())
    data["hardware"][0]["scores"]["inference_energy_pj"] *= 1.01
    path.write_text(json.dumps(data))
    refused = write_ledgers(copy, study, [label])
    assert "its inference_energy_pj was" in refused[label]
    assert not copy.ledger_path(label).exists()
