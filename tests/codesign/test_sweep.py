"""The sweep: nothing lost, nothing twice, the same trials whoever is fast and whatever is killed."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codesign.budget import Meter
from codesign.front import front
from codesign.halving import Halving
from codesign.results import TrialState
from codesign.run_folder import RunFolder, create
from codesign.search_space import space_of
from codesign.sections.budget import Budget
from codesign.sections.search import Fidelity, HardwareSweep, Sampler, WarmStart
from codesign.storage import move_trials, open_storage
from codesign.study_file import StudyFile
from codesign.sweep import Stop, Sweep, Tick
from codesign.trial_book import TrialBook
from codesign.warm_start import read_first, write_first
from search_spaces.design import design_from_json
from tests.codesign.conftest import FormulaExecutor, describe_formula


def sweep_of(
    folder: RunFolder,
    study: StudyFile,
    executor: FormulaExecutor,
    *,
    stop: Stop | None = None,
    ticks: list[Tick] | None = None,
) -> Sweep:
    storage = open_storage(study.storage, folder.journal_path)
    book = TrialBook(study, space_of(study, describe_formula), storage, first=read_first(folder))
    return Sweep(
        folder=folder,
        book=book,
        executor=executor,
        halving=Halving(study=study),
        meter=Meter(study=study),
        window=study.sampler.window,
        ordered=study.sampler.deterministic,
        watch=(ticks.append if ticks is not None else lambda tick: None),
        stop=stop or Stop(),
    )


def drawn(folder: RunFolder) -> list[str]:
    return [(folder.trial_path(number) / "design.json").read_text() for number in folder.asked()]


def uninterrupted(path: Path, study: StudyFile, **options: int) -> list[str]:
    folder = create(path, study, command="test")
    assert sweep_of(folder, study, FormulaExecutor(folder, **options)).run()
    return drawn(folder)


def with_budget(study: StudyFile, **budget: object) -> StudyFile:
    return study.model_copy(update={"budget": Budget.model_validate(budget)})


def with_sampler(study: StudyFile, name: str) -> StudyFile:
    return study.model_copy(update={"sampler": Sampler(name=name, population=8, window=5)})  # type: ignore[arg-type]


@pytest.mark.parametrize("sampler", ["nsga2", "nsga3", "tpe", "random"])
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
    assert sorted(executor.evaluated) == [(number, 0) for number in range(40)]


def test_a_trial_that_always_kills_its_worker_fails_with_a_reason(
    folder: RunFolder, study: StudyFile
) -> None:
    class Poisoned(FormulaExecutor):
        def wait(self, timeout_s: float) -> object:  # type: ignore[override]
            if self.queue and self.queue[0].number == 4:
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


@pytest.mark.parametrize("first", [3, 15, 29])
def test_more_trials_continue_the_same_sequence(tmp_path: Path, study: StudyFile, first: int) -> None:
    short = with_budget(study, trials=first)
    folder = create(tmp_path / "grown", short, command="test")
    assert sweep_of(folder, short, FormulaExecutor(folder)).run()
    assert sweep_of(folder, study, FormulaExecutor(folder)).run()
    assert drawn(folder) == uninterrupted(tmp_path / "whole", study)


def test_gated_trials_are_told_with_their_broken_constraint(folder: RunFolder, study: StudyFile) -> None:
    assert sweep_of(folder, study, FormulaExecutor(folder)).run()
    import optuna

    stored = optuna.load_study(study_name="formula", storage=open_storage("journal", folder.journal_path))
    gated = [trial for trial in stored.trials if trial.user_attrs["result"]["state"] == "gated"]
    assert gated
    assert all(trial.constraints["inference_energy_pj <= 14"] > 0 for trial in gated)
    assert not {trial.number for trial in gated} & {trial.number for trial in stored.best_trials}


def halved(study: StudyFile, **sampler: object) -> StudyFile:
    settings = Sampler.model_validate({"name": "nsga2", "population": 8, "window": 5} | sampler)
    fidelity = Fidelity(eta=3, epochs=(1, 2))
    return study.model_copy(update={"fidelity": fidelity, "sampler": settings})


def states(folder: RunFolder) -> dict[int, tuple[TrialState, int]]:
    return {result.trial: (result.state, result.stage) for result in folder.results()}


def test_the_worse_part_of_each_stage_is_stopped(folder: RunFolder, study: StudyFile) -> None:
    study = halved(study)
    executor = FormulaExecutor(folder, stages=3)
    assert sweep_of(folder, study, executor).run()
    found = states(folder)
    assert found[0] == (TrialState.COMPLETED, 2)  # the reference is never stopped
    stopped = [stage for state, stage in found.values() if state is TrialState.STOPPED]
    assert {0, 1} >= set(stopped)
    assert len(stopped) > 10
    assert all(stage == 2 for state, stage in found.values() if state is TrialState.COMPLETED)
    reached = [sum(1 for _, stage in executor.evaluated if stage == wanted) for wanted in range(3)]
    assert reached[0] == 40
    assert reached[0] > reached[1] > reached[2]


def test_stages_survive_kills_as_whole_trials_do(tmp_path: Path, study: StudyFile) -> None:
    study = halved(study)
    whole = create(tmp_path / "whole", study, command="test")
    assert sweep_of(whole, study, FormulaExecutor(whole, stages=3)).run()
    killed = create(tmp_path / "killed", study, command="test")
    evaluated = []
    for die_after in (2, 7, 1, 11, 5, 3, None):
        executor = FormulaExecutor(killed, workers=4, seed=die_after or 0, stages=3)
        executor.die_after = die_after
        with contextlib.suppress(KeyboardInterrupt):
            assert sweep_of(killed, study, executor).run()
        evaluated += executor.evaluated
    assert drawn(killed) == drawn(whole)
    assert states(killed) == states(whole)
    assert len(evaluated) == len(set(evaluated))  # every job once, for each answer was published


def test_without_an_order_every_trial_still_ends_once(tmp_path: Path, study: StudyFile) -> None:
    study = halved(study, deterministic=False)
    folder = create(tmp_path / "run", study, command="test")
    for die_after in (4, 9, 2, None):
        executor = FormulaExecutor(folder, workers=5, seed=3, stages=3)
        executor.die_after = die_after
        try:
            sweep_of(folder, study, executor).run()
        except KeyboardInterrupt:
            continue
    assert sorted(states(folder)) == list(range(40))
    assert len(set(drawn(folder))) == 40


@pytest.mark.parametrize("sampler", ["nsga2", "tpe"])
def test_the_sampler_learns_from_hardware_sweeps_and_forgets_nothing(
    tmp_path: Path, study: StudyFile, sampler: str
) -> None:
    plain = with_sampler(study, sampler)
    swept = plain.model_copy(update={"hardware_sweep": HardwareSweep(designs=8, told=2)})
    whole = create(tmp_path / "whole", swept, command="test")
    assert sweep_of(whole, swept, FormulaExecutor(whole, chips=3)).run()
    killed = create(tmp_path / "killed", swept, command="test")
    for die_after in (3, 12, None):
        executor = FormulaExecutor(killed, workers=3, chips=3)
        executor.die_after = die_after
        try:
            sweep_of(killed, swept, executor).run()
        except KeyboardInterrupt:
            continue
    assert drawn(killed) == drawn(whole)
    assert drawn(whole) != uninterrupted(tmp_path / "plain", plain)
    members = front(whole.results(), swept.objectives)
    assert any(member.variant == 3 for member in members)  # the cheapest of each sweep
    assert {member.label.partition(".")[0] for member in members} <= {str(n) for n in range(40)}


def test_a_budget_of_training_minutes_ends_the_sweep(folder: RunFolder, study: StudyFile) -> None:
    study = with_budget(study, training_minutes=10)
    ticks: list[Tick] = []
    assert sweep_of(folder, study, FormulaExecutor(folder), ticks=ticks).run()
    trained = sum(result.state is TrialState.COMPLETED for result in folder.results())
    assert 10 <= trained <= 10 + study.sampler.window
    assert ticks[-1].ended == "10 minutes of training are spent"


def test_a_front_that_does_not_grow_ends_the_sweep(folder: RunFolder, study: StudyFile) -> None:
    study = with_budget(study, trials=4000, plateau={"trials": 30})
    ticks: list[Tick] = []
    assert sweep_of(folder, study, FormulaExecutor(folder), ticks=ticks).run()
    assert 31 <= ticks[-1].told < 4000
    assert ticks[-1].ended is not None


def test_trials_move_to_another_storage(tmp_path: Path, study: StudyFile) -> None:
    expected = uninterrupted(tmp_path / "whole", study)
    folder = create(tmp_path / "moved", study, command="test")
    executor = FormulaExecutor(folder)
    executor.die_after = 20
    with pytest.raises(KeyboardInterrupt):
        sweep_of(folder, study, executor).run()
    moved = study.model_copy(update={"storage": f"sqlite:///{tmp_path}/trials.db"})
    storage = open_storage(moved.storage, folder.journal_path)
    move_trials(folder, moved, storage, "formula")
    assert folder.manifest()["storage"] == moved.storage
    folder.journal_path.unlink()
    assert sweep_of(folder, moved, FormulaExecutor(folder)).run()
    assert drawn(folder) == expected


def test_a_run_begins_with_the_designs_of_an_earlier_one(tmp_path: Path, study: StudyFile) -> None:
    earlier = create(tmp_path / "earlier", study, command="test")
    earlier.note("run_id", "x")
    storage = open_storage("journal", earlier.journal_path)
    space = space_of(study, describe_formula)
    book = TrialBook(study, space, storage, name=earlier.storage_name(study))
    sweep = sweep_of(earlier, study, FormulaExecutor(earlier))
    sweep.book = book
    assert sweep.run()
    wider = study.model_dump(mode="json")
    wider["space"]["quantization"]["weight_bits"] = [2, 3, 5, 8]
    later_study = StudyFile.model_validate(wider)
    later = create(tmp_path / "later", later_study, command="test")
    write_first(later, WarmStart(run=earlier.path, designs=3))
    assert sweep_of(later, later_study, FormulaExecutor(later)).run()
    best = front(earlier.results(), study.objectives)[0]
    second = design_from_json(later.results()[1].design)
    assert second.network == design_from_json(best.design).network
    assert second.accelerator == design_from_json(best.design).accelerator
