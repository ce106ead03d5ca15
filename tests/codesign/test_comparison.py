"""Designs side by side: who stands in a cell, what is left out, and where the energy of it goes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from rich.console import Console

from codesign.cli import app
from codesign.comparison import (
    Comparison,
    ComparisonError,
    compare,
    comparison_json,
    parts_of,
    parts_table,
    score_table,
)
from codesign.describe import technique_text
from codesign.files import write_json
from codesign.results import HardwarePoint, TrialResult, TrialState, Violation
from codesign.run_folder import RunFolder
from codesign.study_file import StudyFile
from search_spaces.accelerator import AcceleratorChoice
from search_spaces.choice import to_json
from search_spaces.design import Design, LayerDesign, design_to_json
from search_spaces.learning import Backpropagation
from search_spaces.network import NetworkChoice
from search_spaces.quantization import UniformQuantization
from search_spaces.sparsity import Dense, Unstructured

BITS = UniformQuantization(weight_bits=8, activation_bits=8)


def design(network: str = "a", chip: str = "eyeriss_like", density: float = 1.0, batch: int = 1) -> Design:
    pattern = Dense() if density == 1 else Unstructured(density=density)
    return Design(
        network=NetworkChoice(name=network),
        layers=(
            LayerDesign(layer="first", choices=(BITS,)),
            LayerDesign(layer="second", choices=(pattern, BITS)),
        ),
        learning=Backpropagation(batch_size=batch),
        accelerator=AcceleratorChoice(template=chip),
    )


def result(trial: int, made: Design, energy_pj: float, **fields: object) -> TrialResult:
    whole = TrialResult(
        trial=trial,
        state=TrialState.COMPLETED,
        design=design_to_json(made),
        scores={"inference_energy_pj": energy_pj, "macs": 4.0},
    )
    return replace(whole, **fields)  # type: ignore[arg-type]


BROKEN = Violation(constraint="area_mm2 <= 1", value=2.0, bound=1.0, excess=1.0)
RESULTS = (
    result(0, design("b"), 9.0),
    result(1, design("a"), 5.0),
    result(2, design("a", batch=2), 4.0),  # in the same place as trial 1, and better
    result(3, design("a", "tpu_like"), 3.0),
    result(4, design("a", "tpu_like", 0.5), 2.0),
    result(5, design("a", "tpu_like", 0.25), 1.0, state=TrialState.GATED),
    result(6, design("a", "tpu_like", 0.125), 1.0, violations=(BROKEN,)),
    result(7, design("a", "tpu_like", 0.75), 1.0, scores={}),
)


@pytest.fixture
def comparison(study: StudyFile) -> Comparison:
    return compare(RESULTS, study)


def test_the_best_feasible_design_stands_in_each_place(comparison: Comparison) -> None:
    assert comparison.kind.name == "inference_energy_pj"  # the study's first cost
    assert comparison.chips == ("eyeriss_like", "tpu_like")
    found = {
        place: {chip: cell.trial for chip, cell in row.items()} for place, row in comparison.rows().items()
    }
    assert found == {
        ("b", "w8/a8"): {"eyeriss_like": 0},
        ("a", "unstructured 0.5, w8/a8"): {"tpu_like": 4},
        ("a", "w8/a8"): {"eyeriss_like": 2, "tpu_like": 3},
    }


def test_the_chips_that_a_sweep_kept_count_as_the_trials_own(study: StudyFile, folder: RunFolder) -> None:
    points = tuple(
        HardwarePoint(accelerator=to_json(chip), knobs={}, scores={"inference_energy_pj": energy_pj})
        for chip, energy_pj in (
            (AcceleratorChoice(template="bit_serial"), 8.0),
            (AcceleratorChoice(template="tpu_like"), 2.5),
        )
    )
    swept = (result(0, design(), 4.0), result(1, design(), 5.0, hardware=points, violations=(BROKEN,)))
    made = compare(swept, study)
    assert {cell.chip: (cell.label, cell.trial, cell.value) for cell in made.cells} == {
        "eyeriss_like": ("0", 0, 4.0),
        "bit_serial": ("1.1", 1, 8.0),
        "tpu_like": ("1.2", 1, 2.5),
    }
    rows = [{"macs": 4, "energy_pj": {"dram": {"I": 1.0}}}]
    write_json(folder.trial_path(1) / "cost-2.json", {"inference": {"rows": rows}})  # type: ignore[arg-type]
    cells = cast("list[dict[str, object]]", comparison_json(made, folder)["cells"])
    assert {str(cell["label"]): cell["parts_pj"] for cell in cells} == {
        "0": {},
        "1.1": {},
        "1.2": {"dram I": 1.0},
    }


def test_techniques_are_told_once_in_the_order_in_which_they_act() -> None:
    assert technique_text(design(density=0.5)) == "unstructured 0.5, w8/a8"
    assert technique_text(design()) == "w8/a8"


def test_other_scores_and_their_directions(study: StudyFile) -> None:
    more = replace(RESULTS[2], scores={"macs": 5.0, "validation_accuracy": 0.5})
    accurate = replace(RESULTS[1], scores={"macs": 5.0, "validation_accuracy": 0.75})
    assert compare((more, accurate), study, "validation_accuracy").cells[0].trial == 1
    assert compare((more, RESULTS[1]), study, "macs").cells[0].trial == 1


def test_what_cannot_be_compared_is_refused(study: StudyFile) -> None:
    with pytest.raises(ComparisonError, match=r"no score is named 'mac'. Did you mean 'macs'"):
        compare(RESULTS, study, "mac")
    with pytest.raises(ComparisonError, match="no feasible design has the score 'area_mm2'"):
        compare(RESULTS, study, "area_mm2")


def test_parts_are_the_contractions_energy_with_dram_by_operand(
    comparison: Comparison, folder: RunFolder
) -> None:
    rows = [
        {"macs": 4, "energy_pj": {"dram": {"I": 1.0, "W": 2.0}, "buffer": {"I": 3.0, "W": 4.0}}},
        {"macs": 4, "energy_pj": {"dram": {"W": 5.0}, "rebuild_engine": {"W": 0.5}}},
        {"macs": 0, "energy_pj": {"vector": {"all": 100.0}}},
    ]
    write_json(folder.trial_path(3) / "cost.json", {"inference": {"rows": rows}})  # type: ignore[arg-type]
    cells = {cell.trial: cell for cell in comparison.cells}
    parts = {"dram I": 1.0, "dram W": 7.0, "buffer": 7.0, "rebuild_engine": 0.5}
    assert parts_of(cells[3], folder) == parts
    assert parts_of(cells[2], folder) == {}
    data = comparison_json(comparison, folder)
    assert json.loads(json.dumps(data, allow_nan=False))["cells"][-1]["parts_pj"] == parts
    console = Console(width=160, record=True)
    console.print(score_table(comparison), parts_table(comparison, folder))
    text = console.export_text()
    assert "unstructured 0.5, w8/a8" in text
    assert "rebuild_engine" in text
    assert text.count("7 pJ") == 2


def test_the_command_prints_tables_or_json(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    for one in RESULTS:
        write_json(folder.result_path(one.trial), json.loads(one.to_json()))
    path = str(Path(folder.path))
    app(["matrix", path, "--breakdown"], standalone_mode=False)
    assert "eyeriss_like" in capsys.readouterr().out
    app(["matrix", path, "--json", "--score", "macs"], standalone_mode=False)
    data = json.loads(capsys.readouterr().out)
    assert data["version"] == 1
    assert [cell["value"] for cell in data["cells"]] == [4.0] * 4
