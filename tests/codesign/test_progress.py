"""What a running sweep shows, for budgets in trials and in minutes."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from codesign.budget import way_on
from codesign.drive import change
from codesign.errors import RunFolderError
from codesign.progress import Progress
from codesign.run_folder import RunFolder, create
from codesign.sections.budget import Budget
from codesign.sections.search import Fidelity
from codesign.study_file import StudyFile
from codesign.sweep import Tick
from tests.codesign.conftest import FormulaExecutor
from tests.codesign.test_sweep import sweep_of


def shown(path: Path, study: StudyFile, *, stages: int = 1, terminal: bool = False) -> str:
    """Sweep, and return what stands on the screen."""
    folder = create(path, study, command="test")
    screen = io.StringIO()
    ticks: list[Tick] = []
    assert sweep_of(folder, study, FormulaExecutor(folder, stages=stages), ticks=ticks).run()
    console = Console(file=screen, force_terminal=terminal, width=200, color_system=None)
    with Progress(study=study, console=console) as progress:
        for tick in ticks:
            progress(tick)
    return screen.getvalue()


def with_budget(study: StudyFile, **budget: object) -> StudyFile:
    return study.model_copy(update={"budget": Budget.model_validate(budget)})


def test_trials_are_counted_and_the_end_is_explained(tmp_path: Path, study: StudyFile) -> None:
    lines = shown(tmp_path / "run", study).splitlines()
    assert any(line.startswith("[40/40] trial ") for line in lines)
    assert re.fullmatch(r"\d+ completed, \d+ gated", lines[-2])
    assert lines[-1] == "ended: 40 trials were drawn"


def test_minutes_are_shown_where_there_is_no_number_of_trials(tmp_path: Path, study: StudyFile) -> None:
    lines = shown(tmp_path / "run", with_budget(study, training_minutes=10)).splitlines()
    assert any(re.match(r"\[\d+, \d+\.\d of 10 minutes of training\] trial \d+", line) for line in lines)
    assert lines[-1] == "ended: 10 minutes of training are spent"


def test_trainings_are_shown(tmp_path: Path, study: StudyFile) -> None:
    lines = shown(tmp_path / "run", with_budget(study, trainings=5)).splitlines()
    assert any(re.match(r"\[\d+, \d\.\d of 5 trainings\] trial \d+", line) for line in lines)
    assert lines[-1] == "ended: 5 trainings are spent"


def test_a_run_that_is_killed_is_not_said_to_have_ended(tmp_path: Path, study: StudyFile) -> None:
    folder = create(tmp_path / "run", study, command="test")
    executor = FormulaExecutor(folder)
    executor.die_after = 38  # all 40 are drawn by then
    ticks: list[Tick] = []
    with pytest.raises(KeyboardInterrupt):
        sweep_of(folder, study, executor, ticks=ticks).run()
    assert ticks
    assert not any(tick.ended for tick in ticks)


def test_a_larger_budget_is_proposed_of_the_kind_that_ended_the_run() -> None:
    budget = Budget.model_validate({"trials": 50, "trainings": 6, "plateau": {"trials": 8}})
    assert way_on(budget, "6 trainings are spent") == "-o budget.trainings=12"
    assert way_on(budget, "50 trials were drawn") == "--trials 100"
    assert way_on(budget, "the front did not grow over the last 8 trials") == "-o budget.plateau.trials=16"
    assert way_on(budget, "every design of the space was drawn") is None


def test_no_budget_of_training_falls_below_what_was_spent(tmp_path: Path, study: StudyFile) -> None:
    study = with_budget(study, trainings=5)
    folder = create(tmp_path / "run", study, command="test")
    assert sweep_of(folder, study, FormulaExecutor(folder)).run()
    with pytest.raises(RunFolderError, match=r"`budget.trainings` counts all .* already spent, but got 2"):
        change(folder, ["budget.trainings=2"])
    with pytest.raises(RunFolderError, match=r"`budget.training_minutes` counts all training minutes"):
        change(folder, ["budget.training_minutes=0.0001"])
    assert change(folder, ["executor=in_process"]).budget == study.budget  # overshot by what was in flight
    assert change(folder, ["budget.trainings=50"]).budget.trainings == 50


def test_wall_minutes_do_not_fall_below_what_is_over(tmp_path: Path, study: StudyFile) -> None:
    folder = create(tmp_path / "run", with_budget(study, wall_minutes=60), command="test")
    folder.log_session({"wall_s": 1200.0})
    with pytest.raises(
        RunFolderError, match=r"`budget.wall_minutes` counts all wall minutes .* the 20 already"
    ):
        change(folder, ["budget.wall_minutes=10"])
    assert change(folder, ["budget.wall_minutes=30"]).budget.wall_minutes == 30


def test_a_resumed_run_does_not_tell_its_trials_again(tmp_path: Path, study: StudyFile) -> None:
    folder = create(tmp_path / "run", study, command="test")
    executor = FormulaExecutor(folder)
    executor.die_after = 12
    with pytest.raises(KeyboardInterrupt):
        sweep_of(folder, study, executor).run()
    ticks: list[Tick] = []
    assert sweep_of(folder, study, FormulaExecutor(folder), ticks=ticks).run()
    screen = io.StringIO()
    with Progress(study=study, console=Console(file=screen, width=200)) as progress:
        for tick in ticks:
            progress(tick)
    _, earlier, *lines = screen.getvalue().splitlines()
    found = re.match(
        r"\[(\d+)/40\] (\d+) trials were over before, \d+ on the front \(hypervolume 0\.", earlier
    )
    assert found is not None
    assert found[1] == found[2]
    trials = [line for line in lines if " trial " in line]
    assert len(trials) == 40 - int(found[1])
    assert trials[-1].startswith("[40/40]")


def test_wall_time_is_shown_and_a_plateau_explains_the_end(tmp_path: Path, study: StudyFile) -> None:
    study = with_budget(study, wall_minutes=100, plateau={"trials": 8})
    lines = shown(tmp_path / "run", study).splitlines()
    assert any(re.match(r"\[\d+, 0\.\d of 100 minutes\] trial", line) for line in lines)
    assert lines[-1] in (
        "ended: the front did not grow over the last 8 trials",
        "ended: every design of the space was drawn",
    )


def test_a_run_that_ended_on_a_plateau_stays_ended(tmp_path: Path, study: StudyFile) -> None:
    study = with_budget(study, plateau={"trials": 4, "tolerance": 0.1})
    for seed in range(5):
        seeded = study.model_copy(update={"seed": seed})
        folder = create(tmp_path / str(seed), seeded, command="test")
        assert sweep_of(folder, seeded, FormulaExecutor(folder)).run()
        drawn = folder.asked()
        assert sweep_of(folder, seeded, FormulaExecutor(folder)).run()
        assert folder.asked() == drawn


def test_a_terminal_shows_what_is_spent_and_how_many_were_stopped(tmp_path: Path, study: StudyFile) -> None:
    study = with_budget(study, training_minutes=30, trials=400)
    study = study.model_copy(update={"fidelity": Fidelity(eta=3, epochs=(1, 2))})
    screen = shown(tmp_path / "run", study, stages=3, terminal=True)
    assert re.search(r"formula  \d+ of 400 trials, \d+\.\d of 30 minutes of training; \d:\d\d gone", screen)
    assert re.search(r"[1-9]\d* stopped", screen)
    assert "ended: 30 minutes of training are spent" in screen


@pytest.mark.parametrize(
    ("budget", "spent", "left"),
    [
        ({"trials": 40}, {}, "0:30"),  # 10 trials in 10 s, 30 to go
        ({"training_minutes": 2}, {"training_s": 20.0}, "0:50"),  # 20 s of 120 in 10 s
        ({"trainings": 9}, {"trainings": 1.5}, "0:50"),
        ({"wall_minutes": 1}, {"wall_s": 10.0}, "0:50"),
        ({"trials": 40, "wall_minutes": 0.5}, {"wall_s": 10.0}, "0:20"),  # the first that is spent
        ({"training_minutes": 2}, {}, "?"),  # nothing trained yet: no pace
    ],
)
def test_the_time_left_follows_the_first_budget_that_will_be_spent(
    folder: RunFolder, study: StudyFile, budget: dict[str, float], spent: dict[str, float], left: str
) -> None:
    study = with_budget(study, **budget)
    ticks: list[Tick] = []
    assert sweep_of(folder, with_budget(study, trials=10), FormulaExecutor(folder), ticks=ticks).run()
    begun = replace(ticks[0], planned=study.budget.trials, told=0, training_s=0.0, trainings=0.0, wall_s=0.0)
    now = replace(begun, told=10, elapsed_s=10.0, **spent)
    screen = io.StringIO()
    progress = Progress(study=study, console=Console(file=screen, width=200))
    progress(begun)
    progress(replace(now, fresh=folder.results()[:1]))
    assert screen.getvalue().rstrip().endswith(f"{left} left)")
