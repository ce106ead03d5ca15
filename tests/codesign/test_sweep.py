"""The sweep: nothing lost, nothing twice, the same trials whoever is fast and whatever is killed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codesign.results import TrialState
from codesign.run_folder import RunFolder, create
from codesign.storage import open_storage
from codesign.study_file import Sampler, StudyFile
from codesign.sweep import Stop, Sweep, Tick
from codesign.trial_book import TrialBook
from tests.codesign.conftest import FormulaExecutor, describe_formula


def sweep_of(
    folder: RunFolder,
    study: StudyFile,
    executor: FormulaExecutor,
    *,
    stop: Stop | None = None,
    ticks: list[Tick] | None = None,
) -> Sweep:
    storage = open_storage("journal", folder.journal_path)
    book = TrialBook(study, storage, describe_formula, study.budget.trials)
    return Sweep(
        folder=folder,
        book=book,
        executor=executor,
        planned=study.budget.trials,
        window=study.sampler.window,
        watch=(ticks.append if ticks is not None else lambda tick: None),
        stop=stop or Stop(),
    )


def drawn(folder: RunFolder) -> list[str]:
    return [(folder.trial_path(number) / "design.json").read_text() for number in folder.asked()]


def uninterrupted(path: Path, study: StudyFile, **options: int) -> list[str]:
    folder = create(path, study, command="test")
    assert sweep_of(folder, study, FormulaExecutor(folder, **options)).run()
    return drawn(folder)


def with_sampler(study: StudyFile, name: str) -> StudyFile:
    return study.model_copy(update={"sampler": Sampler(name=name, population=8, window=5)})  # type: ignore[arg-type]


@pytest.mark.parametrize("sampler", ["nsga2", "tpe", "random"])
def test_one_worker_and_many_draw_the_same_trials(tmp_path: Path, study: StudyFile, sampler: str) -> None:
    study = with_sampler(study, sampler)
    one = uninterrupted(tmp_path / "one", study, workers=1)
    many = uninterrupted(tmp_path / "many", study, workers=4, seed=7)
    assert one == many
    assert len(one) == 40


@pytest.mark.parametrize("sampler", ["nsga2", "tpe"])
def test_a_killed_sweep_continues_as_if_it_had_not_been(
    tmp_path: Path, study: StudyFile, sampler: str
) -> None:
    study = with_sampler(study, sampler)
    expected = uninterrupted(tmp_path / "whole", study)
    folder = create(tmp_path / "killed", study, command="test")
    for die_after in (0, 1, 3, 8, 2, 9, 1, None):
        executor = FormulaExecutor(folder, workers=3, seed=die_after or 0)
        executor.die_after = die_after
        sweep = sweep_of(folder, study, executor)
        if die_after is None:
            assert sweep.run()
        else:
            with pytest.raises(KeyboardInterrupt):
                sweep.run()
    assert drawn(folder) == expected
    assert [result.trial for result in folder.results()] == list(range(40))


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 12), max_size=4), st.integers(1, 6))
def test_any_kills_and_any_workers_give_one_answer(
    tmp_path_factory: pytest.TempPathFactory, study: StudyFile, kills: list[int], workers: int
) -> None:
    expected = uninterrupted(tmp_path_factory.mktemp("a") / "run", study)
    folder = create(tmp_path_factory.mktemp("b") / "run", study, command="test")
    for die_after in [*kills, None]:
        executor = FormulaExecutor(folder, workers=workers, seed=len(kills))
        executor.die_after = die_after
        try:
            sweep_of(folder, study, executor).run()
        except KeyboardInterrupt:
            continue
    assert drawn(folder) == expected


def test_another_seed_draws_other_trials(tmp_path: Path, study: StudyFile) -> None:
    other = study.model_copy(update={"seed": 1})
    first, second = uninterrupted(tmp_path / "a", study), uninterrupted(tmp_path / "b", other)
    assert first[0] == second[0]  # the reference
    assert first[1:] != second[1:]


def test_the_reference_is_trial_zero_and_no_design_comes_twice(tmp_path: Path, study: StudyFile) -> None:
    designs = uninterrupted(tmp_path / "run", study)
    assert '"weight_bits": 8' in designs[0]
    assert '"eyeriss_like"' in designs[0]
    assert len(set(designs)) == len(designs)


def test_a_crashed_worker_costs_an_attempt_and_no_trial(folder: RunFolder, study: StudyFile) -> None:
    executor = FormulaExecutor(folder)
    executor.crash_once = {3, 7}
    assert sweep_of(folder, study, executor).run()
    assert [result.trial for result in folder.results()] == list(range(40))
    assert sorted(executor.evaluated) == list(range(40))


def test_a_trial_that_always_kills_its_worker_fails_with_a_reason(
    folder: RunFolder, study: StudyFile
) -> None:
    class Poisoned(FormulaExecutor):
        def wait(self, timeout_s: float) -> object:  # type: ignore[override]
            if self.queue and self.queue[0] == 4:
                self.crash_once = {4}
                self.workers = 1
            return super().wait(timeout_s)

    assert sweep_of(folder, study, Poisoned(folder, workers=1)).run()
    poisoned = folder.result(4)
    assert poisoned is not None
    assert poisoned.state is TrialState.FAILED
    assert "given up after 3 attempts" in (poisoned.reason or "")


def test_failed_trials_are_recorded_and_the_sweep_goes_on(folder: RunFolder, study: StudyFile) -> None:
    assert sweep_of(folder, study, FormulaExecutor(folder, failing=frozenset({2, 5}))).run()
    states = {result.trial: result.state for result in folder.results()}
    assert states[2] is states[5] is TrialState.FAILED
    assert len(states) == 40


def test_a_stop_finishes_what_runs_and_draws_nothing_more(folder: RunFolder, study: StudyFile) -> None:
    stop, executor = Stop(), FormulaExecutor(folder)

    def watch(tick: Tick) -> None:
        stop.requested = stop.requested or tick.told >= 10

    sweep = sweep_of(folder, study, executor, stop=stop)
    sweep.watch = watch
    assert not sweep.run()
    assert 10 <= len(folder.results()) <= 10 + study.sampler.window
    assert sweep_of(folder, study, FormulaExecutor(folder)).run()
    assert [result.trial for result in folder.results()] == list(range(40))


def test_a_small_space_ends_the_sweep_when_it_is_exhausted(tmp_path: Path, study: StudyFile) -> None:
    tiny = study.model_copy(
        update={
            "space": type(study.space).model_validate(
                {
                    "quantization": {"weight_bits": [4, 8], "per_layer": False},
                    "accelerator": {"templates": {"eyeriss_like": {}}},
                }
            )
        }
    )
    designs = uninterrupted(tmp_path / "run", tiny)
    assert len(designs) == 2


def test_more_trials_continue_the_same_sequence(tmp_path: Path, study: StudyFile) -> None:
    short = study.model_copy(update={"budget": study.budget.model_copy(update={"trials": 15})})
    folder = create(tmp_path / "grown", short, command="test")
    assert sweep_of(folder, short, FormulaExecutor(folder)).run()
    assert sweep_of(folder, study, FormulaExecutor(folder)).run()
    assert drawn(folder) == uninterrupted(tmp_path / "whole", study)


def test_gated_trials_are_told_with_their_broken_constraint(folder: RunFolder, study: StudyFile) -> None:
    assert sweep_of(folder, study, FormulaExecutor(folder)).run()
    import optuna

    stored = optuna.load_study(study_name="formula", storage=open_storage("journal", folder.journal_path))
    gated = [trial for trial in stored.trials if trial.user_attrs["state"] == "gated"]
    assert gated
    assert all(trial.constraints["inference_energy_pj <= 14"] > 0 for trial in gated)
    assert not {trial.number for trial in gated} & {trial.number for trial in stored.best_trials}
