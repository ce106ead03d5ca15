"""What the pages say of stopped trials, of other chips and of budgets, from runs of the real engine."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from codesign.describe import accelerator_parameters, accelerator_text
from codesign.drive import write_pages
from codesign.front import front, knee
from codesign.report import ReportData, render
from codesign.report import TrialState as Shown
from codesign.report_data import drawn_in_energy, opened_with, report_data
from codesign.results import TrialState, result_from_json
from codesign.run_folder import RunFolder, create
from codesign.sections.budget import Budget
from codesign.sections.search import Fidelity, HardwareSweep
from codesign.study_file import StudyFile
from codesign.study_reader import parse_study
from codesign.tables import front_csv, front_table
from codesign.views import front_view, status_view
from search_spaces.accelerator import AcceleratorChoice, accelerator_choice
from search_spaces.design import Design, design_from_json
from tests.codesign.conftest import STUDY, FormulaExecutor
from tests.codesign.test_sweep import sweep_of


def staged(
    study: StudyFile, *, early: tuple[str, ...] = (), data: tuple[float, ...] | None = None
) -> StudyFile:
    fidelity = Fidelity(eta=3, epochs=(1, 2)[len(early) :], early=early, data=data)
    return study.model_copy(update={"fidelity": fidelity, "hardware_sweep": HardwareSweep(designs=8)})


def run(folder: RunFolder, study: StudyFile) -> ReportData:
    assert sweep_of(folder, study, FormulaExecutor(folder, stages=3, chips=3)).run()
    return report_data(folder, study)


@pytest.fixture(scope="module")
def staged_study() -> StudyFile:
    return staged(parse_study(STUDY, "formula.yaml"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, staged_study: StudyFile) -> RunFolder:
    return create(tmp_path_factory.mktemp("pages") / "run", staged_study, command="test")


@pytest.fixture(scope="module")
def page(folder: RunFolder, staged_study: StudyFile) -> ReportData:
    return run(folder, staged_study)


def test_stopped_trials_are_shown_as_such(
    folder: RunFolder, staged_study: StudyFile, page: ReportData
) -> None:
    states = [result.state for result in folder.results()]
    counts = page.counts
    assert counts.stopped == states.count(TrialState.STOPPED) > 5
    assert counts.completed + counts.gated + counts.stopped + counts.failed == 40
    stopped = [trial for trial in page.trials if trial.state is Shown.STOPPED]
    epochs = staged_study.training.epochs
    assert len(stopped) == counts.stopped
    assert {trial.reached for trial in stopped} <= {
        f"stage 1 of 3 (epochs 1 of {epochs})",
        f"stage 2 of 3 (epochs 2 of {epochs})",
    }
    assert all("validation_accuracy" in trial.scores and not trial.on_front for trial in stopped)


@pytest.mark.parametrize(
    ("early", "data", "words"),
    [
        (("synflow",), None, "stage 1 of 3 (synflow, before any training)"),
        ((), (0.25, 1.0), "on 25% of the examples)"),
    ],
)
def test_the_stage_is_told_as_the_study_defines_it(
    tmp_path: Path, study: StudyFile, early: tuple[str, ...], data: tuple[float, ...] | None, words: str
) -> None:
    study = staged(study.model_copy(update={"budget": Budget(trials=12)}), early=early, data=data)
    page = run(create(tmp_path / "run", study, command="test"), study)
    assert any(words in (trial.reached or "") for trial in page.trials)


def test_chips_of_the_front_are_trials_of_their_own_and_the_rest_is_counted(
    folder: RunFolder, staged_study: StudyFile, page: ReportData
) -> None:
    results = folder.results()
    members = front(results, staged_study.objectives)
    best = knee(members, staged_study.objectives)
    assert best is not None
    assert {trial.label for trial in page.front} == {member.label for member in members}
    assert any(trial.variant is not None for trial in page.front)
    assert {trial.label for trial in page.trials if trial.knee} == {best.label}
    assert page.chips_kept == sum(len(result.hardware) for result in results)
    shown = [trial for trial in page.trials if trial.variant is not None]
    assert page.chips_left_out == page.chips_kept - len(shown) > 0
    chip = shown[0]
    assert dict(chip.design)["accelerator"] in ("eyeriss_like 8x14", "eyeriss_like")
    named = opened_with(page)
    assert named[0] == "0"
    assert best.label in named
    assert drawn_in_energy(page)[: len(named)] == named
    assert f'href="#trial={named[-1]}"' in render(page)


def test_tables_tell_chips_apart(folder: RunFolder, staged_study: StudyFile, page: ReportData) -> None:
    table = front_table(folder, staged_study)
    labels = [str(cell).partition(" ")[0] for cell in table.columns[0].cells]
    chips = dict(zip(labels, (str(cell) for cell in table.columns[-1].cells), strict=True))
    variants = {label: chip for label, chip in chips.items() if "." in label}
    assert variants
    for member in front(folder.results(), staged_study.objectives):
        design = design_from_json(member.design)
        assert chips[member.label] == accelerator_text(design)
    rows = list(csv.DictReader(io.StringIO(front_csv(folder, staged_study))))
    rows = [row for row in rows if row["role"] == "front"]
    assert [row["trial"] for row in rows] == [d["label"] for d in _designs(front_view(folder, staged_study))]
    for row in rows:
        assert row["accelerator.pe_columns"]
        assert row["accelerator"].partition(" ")[0] in {"eyeriss_like", "tpu_like"}


def _designs(view: dict[str, object]) -> list[dict[str, object]]:
    designs = view["designs"]
    assert isinstance(designs, list)
    return designs


def design_on(choice: AcceleratorChoice, like: Design) -> Design:
    return Design(network=like.network, layers=like.layers, learning=like.learning, accelerator=choice)


@pytest.mark.parametrize(
    ("template", "parameters", "words"),
    [
        ("eyeriss_like", {}, "eyeriss_like"),
        ("eyeriss_like", {"pe_rows": 8}, "eyeriss_like 8x14"),
        (
            "eyeriss_like",
            {"global_buffer_kib": 64, "pe_columns": 28, "pe_rows": 16},
            "eyeriss_like 16x28, global_buffer 64 KiB",
        ),
        ("eyeriss_like", {"filter_spad_bytes": 64}, "eyeriss_like, filter_spad 64 B"),
        ("tpu_like", {"multiplier_bits": 4}, "tpu_like, multiplier 4 bits"),
        ("diannao_like", {"neurons": 8}, "diannao_like, neurons 8"),
    ],
)
def test_a_chip_in_short(
    folder: RunFolder, page: ReportData, template: str, parameters: dict[str, int], words: str
) -> None:
    result = folder.result(0)
    assert result is not None
    choice = accelerator_choice(template, parameters)
    design = design_on(choice, design_from_json(result.design))
    assert accelerator_text(design) == words
    assert accelerator_parameters(choice).items() >= parameters.items()


def test_a_chip_whose_file_is_gone_is_still_named(
    folder: RunFolder, page: ReportData, tmp_path: Path
) -> None:
    result = folder.result(0)
    assert result is not None
    choice = AcceleratorChoice(template=str(tmp_path / "mine.yaml"), parameters=(("lanes", 4),))
    text = accelerator_text(design_on(choice, design_from_json(result.design)))
    assert text == f"{tmp_path}/mine.yaml, lanes 4"


def test_status_says_what_was_spent(folder: RunFolder, staged_study: StudyFile, page: ReportData) -> None:
    status = status_view(folder, staged_study)
    answers = [answer for number in folder.asked() for answer in folder.answers(number)]
    evaluated = {(answer.trial, answer.stage) for answer in answers}
    assert len(evaluated) == len(answers)  # a stopped trial's last stage counts once
    assert max(stage for _, stage in evaluated) == 2
    trained = sum(answer.state is not TrialState.GATED for answer in answers)
    assert status["training_s"] == 60.0 * trained
    assert status["budget"] == "40 trials"
    assert status["stopped"] == page.counts.stopped


def test_epochs_are_kept_in_results_and_old_results_have_none(folder: RunFolder, page: ReportData) -> None:
    result = folder.result(1)
    assert result is not None
    text = replace(result, epochs=2.5).to_json()
    assert result_from_json(text).epochs == 2.5
    assert result_from_json(text.replace('"epochs": 2.5,', "")).epochs == 0.0


def test_a_budget_in_its_own_words(tmp_path: Path, study: StudyFile) -> None:
    budget = Budget.model_validate({"training_minutes": 10, "wall_minutes": 60, "plateau": {"trials": 30}})
    study = study.model_copy(update={"budget": budget})
    folder = create(tmp_path / "minutes", study, command="test")
    words = "10 minutes of training or 60 minutes or 30 trials in which the front does not grow"
    page = report_data(folder, study)
    assert page.budget == words
    status = status_view(folder, study)
    assert status["planned"] is None
    assert status["budget"] == words


def test_pages_are_written_though_no_chip_can_be_worked_out(
    folder: RunFolder, staged_study: StudyFile, page: ReportData
) -> None:
    write_pages(folder, staged_study)  # nothing was trained: there is no cache to work ledgers out from
    html = folder.report_path.read_text(encoding="utf-8")
    assert "Gated, stopped and failed trials" in html
    assert not list(folder.path.glob("trials/*/cost-*.json"))
