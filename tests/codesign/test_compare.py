"""Strategies at equal training budget: what each may do, that all pay alike, and what a kill costs."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from codesign.budget import Meter, share_of_training
from codesign.cli import app
from codesign.compare import ComparisonStoppedError, Part, budget_of, run_part, within
from codesign.compare_picture import comparison_picture
from codesign.compare_views import comparison_view, differences, runs_table, runs_view
from codesign.errors import CodesignError, RunFolderError
from codesign.hardware import Hardware
from codesign.hardware_front import hardware_front
from codesign.problem import Problem
from codesign.results import TrialResult, TrialState
from codesign.run_folder import create, open_run
from codesign.sections.budget import Budget
from codesign.sections.search import Fidelity
from codesign.strategies import (
    CHIPS,
    DEFINITIONS,
    Strategy,
    choosing_chips,
    chosen_chips,
    compressing,
    on_chips,
    prepared,
)
from codesign.study_file import StudyFile
from codesign.study_reader import parse_study
from codesign.sweep import Tick
from tests.codesign.conftest import FormulaExecutor
from tests.codesign.test_sweep import sweep_of

TINY = """
name: tiny
network: small_cnn
dataset: {name: digits, train_examples: 100, validation_examples: 100}
space:
  network: {width: [0.25, 0.5]}
  quantization: {weight_bits: [2, 4, 8], activation_bits: [4, 8]}
  accelerator: {templates: {eyeriss_like: {pe_rows: [8, 12]}, tpu_like: {pe_rows: [16, 32]}}}
reference: {accelerator: {templates: tpu_like}}
objectives: [validation_accuracy, inference_energy_pj, inference_latency_s]
constraints: [area_mm2 <= 20, peak_memory_bytes <= 1000000]
training: {pretrain_epochs: 0, epochs: 2}
sampler: {name: random, window: 1}
budget: {trials: 8}
executor: in_process
"""
BUDGET = Budget(trainings=3)


def watch_nothing(name: str) -> object:
    return lambda tick: None


@pytest.fixture
def tiny() -> StudyFile:
    return parse_study(TINY, "tiny")


def test_a_budget_is_as_asked_for_else_the_studys_own(tiny: StudyFile) -> None:
    assert budget_of(tiny, 2.0, None) == Budget(training_minutes=2)
    assert budget_of(tiny, None, 5) == Budget(trainings=5)
    assert budget_of(tiny, None, None) == Budget(trainings=8)
    timed = tiny.model_copy(update={"budget": Budget(trials=8, training_minutes=3)})
    assert budget_of(timed, None, None) == Budget(training_minutes=3)
    assert budget_of(timed, None, 5) == Budget(trainings=5)
    with pytest.raises(CodesignError, match="give --minutes or --trials, not both"):
        budget_of(tiny, 1.0, 1)
    with pytest.raises(CodesignError, match="in wall time alone"):
        budget_of(tiny.model_copy(update={"budget": Budget(wall_minutes=1)}), None, None)


def answer(stage: int, state: TrialState = TrialState.COMPLETED, **given: object) -> TrialResult:
    seconds = {"training": 1.0}
    return TrialResult(trial=1, state=state, design=None, stage=stage, **({"seconds": seconds} | given))  # type: ignore[arg-type]


def test_the_stages_of_a_training_add_up_to_one(tiny: StudyFile) -> None:
    recipe = tiny.training.model_copy(update={"epochs": 9})
    staged = tiny.model_copy(update={"training": recipe, "fidelity": Fidelity(epochs=(1, 3))})
    partial = TrialState.PARTIAL
    shares = [
        share_of_training(answer(0, partial), staged),
        share_of_training(answer(1, partial), staged),
        share_of_training(answer(2), staged),
    ]
    assert shares == pytest.approx([1 / 9, 2 / 9, 6 / 9])
    thin = staged.model_copy(
        update={"fidelity": Fidelity(epochs=(1, 3), data=(0.5, 1.0), early=("synflow",))}
    )
    assert share_of_training(answer(0, partial), thin) == 0.0
    assert share_of_training(answer(1, partial), thin) == pytest.approx(1 / 18)
    assert share_of_training(answer(0), tiny) == 1.0


def test_what_trains_nothing_costs_nothing(tiny: StudyFile) -> None:
    assert share_of_training(answer(0, cached=True), tiny) == 0.0
    assert share_of_training(answer(0, TrialState.GATED), tiny) == 0.0
    assert share_of_training(answer(0, TrialState.FAILED), tiny) == 0.0
    assert share_of_training(answer(0, seconds={"training": 0.0}), tiny) == 0.0


def test_a_sweep_ends_with_its_trainings(tmp_path: Path, study: StudyFile) -> None:
    asked = study.model_copy(update={"budget": Budget(trainings=6)})
    folder = create(tmp_path / "run", asked, command="test")
    sweep = sweep_of(folder, asked, FormulaExecutor(folder))
    assert sweep.run()
    trained = [share_of_training(result, asked) for result in folder.results()]
    assert sum(trained) >= 6
    assert sum(trained[: -asked.sampler.window]) < 6
    assert sum(spent.trainings <= 6 for spent in within(folder, asked, asked.budget)) == len(
        within(folder, asked, asked.budget)
    )
    meter = Meter(study=asked, trainings=6.0)
    assert meter.spent(10) == "6 trainings are spent"


def test_every_strategy_has_the_same_reference_and_survives_yaml(tiny: StudyFile) -> None:
    whole = prepared(tiny, 4, BUDGET)
    chips = chosen_chips(whole)
    for study in (whole, compressing(whole), choosing_chips(whole, 3), on_chips(whole, chips)):
        assert study.reference_space == tiny.reference_space.model_copy(
            update={"accelerator": study.reference_space.accelerator}
        )
        assert study.reference_space.accelerator == tiny.reference_space.accelerator
        assert parse_study(study.to_yaml(), "again").hash() == study.hash()
        assert study.seed == 4
    assert whole.hardware_sweep is not None
    assert whole.hardware_sweep.designs == CHIPS


def test_compression_first_knows_one_chip_and_no_area(tiny: StudyFile) -> None:
    first = compressing(prepared(tiny, 0, BUDGET))
    assert list(first.space_.accelerator.templates) == ["tpu_like"]
    assert all(len(values) == 1 for values in first.space_.accelerator.templates["tpu_like"].values())
    assert [constraint.score for constraint in first.constraints] == ["peak_memory_bytes"]
    assert first.hardware_sweep is None


def test_the_second_step_of_compression_first_stops_nobody(tiny: StudyFile) -> None:
    staged = tiny.model_copy(update={"fidelity": Fidelity(eta=2, epochs=(1,), early=("synflow",))})
    second = choosing_chips(staged, 7)
    assert second.budget == Budget(trials=8)
    assert second.fidelity is not None
    assert second.fidelity.eta > 1000
    assert second.fidelity.early == ()
    only_early = tiny.model_copy(update={"fidelity": Fidelity(eta=2, early=("synflow",))})
    assert choosing_chips(only_early, 7).fidelity is None


def test_hardware_first_takes_members_of_the_reference_networks_front(tiny: StudyFile) -> None:
    whole = prepared(tiny, 0, BUDGET)
    chips = chosen_chips(whole)
    priced = Hardware(whole).price(Problem(whole, cache=None).price_reference().traced)
    costs = [o for o in whole.objectives if o.name != "validation_accuracy"]
    front = {
        priced[index].accelerator
        for index in hardware_front([chip.scores for chip in priced], costs, whole.constraints)
    }
    assert set(chips) <= front
    assert len({chip.template for chip in chips}) == len(chips) == len({chip.template for chip in front})
    second = on_chips(whole, chips)
    assert set(second.space_.accelerator.templates) == {chip.template for chip in chips}


def test_where_no_chip_keeps_the_constraints_the_least_broken_are_taken(tiny: StudyFile) -> None:
    tight = parse_study(TINY.replace("area_mm2 <= 20", "area_mm2 <= 0.001"), "tight")
    whole = prepared(tight, 0, BUDGET)
    areas = {
        chip.accelerator: chip.scores["area_mm2"]
        for chip in Hardware(whole).price(Problem(whole, cache=None).price_reference().traced)
        if chip.scores is not None
    }
    (chosen,) = chosen_chips(whole)
    assert areas[chosen] == min(areas.values())


def test_a_reference_that_runs_nowhere_is_refused(tiny: StudyFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hardware, "price", lambda self, traced: ())
    with pytest.raises(CodesignError, match="no accelerator of the space can run it"):
        chosen_chips(prepared(tiny, 0, BUDGET))


def test_nothing_to_compare_is_refused(tiny: StudyFile, tmp_path: Path) -> None:
    accurate = parse_study(
        TINY.replace(
            "[validation_accuracy, inference_energy_pj, inference_latency_s]", "[validation_accuracy]"
        ),
        "accurate",
    )
    with pytest.raises(CodesignError, match="a cost among its objectives"):
        run_part(Strategy.JOINT, accurate, 0, BUDGET, tmp_path, watch_nothing)  # type: ignore[arg-type]


@pytest.mark.slow
def test_all_strategies_pay_alike_and_a_second_time_is_free(tiny: StudyFile, tmp_path: Path) -> None:
    driven: list[str] = []

    def announce(name: str) -> object:
        driven.append(name)
        return lambda tick: None

    def run() -> list[Part]:
        return [run_part(strategy, tiny, 0, BUDGET, tmp_path, announce) for strategy in Strategy]  # type: ignore[arg-type]

    parts = run()
    assert all(part.trainings == 3 for part in parts)
    assert driven == ["joint-0", "compress_first-0", "compress_first-0-chips", "hardware_first-0"]
    # The chips of compress_first cost no training at all.
    chips = open_run(tmp_path / "compress_first-0-chips").results()
    assert len(chips) > 1
    assert all(result.cached and result.seconds["training"] == 0 for result in chips)
    assert run() == parts
    assert len(driven) == 4
    (tmp_path / "chips-0.json").write_text("[]")
    with pytest.raises(RunFolderError, match="not a list of accelerators"):
        run_part(Strategy.HARDWARE_FIRST, tiny, 0, BUDGET, tmp_path, watch_nothing)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_killed_comparison_goes_on_where_it_was(tiny: StudyFile, tmp_path: Path) -> None:
    def kill(name: str) -> object:
        def watch(tick: Tick) -> None:
            if tick.told >= 2:
                raise KeyboardInterrupt

        return watch

    strategy = Strategy.COMPRESS_FIRST
    whole = run_part(strategy, tiny, 0, BUDGET, tmp_path / "whole", watch_nothing)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        run_part(strategy, tiny, 0, BUDGET, tmp_path / "cut", kill)  # type: ignore[arg-type]
    again = run_part(strategy, tiny, 0, BUDGET, tmp_path / "cut", watch_nothing)  # type: ignore[arg-type]
    assert again.series == whole.series
    assert again.volume == whole.volume


def test_a_stopped_run_says_how_to_go_on(
    tiny: StudyFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codesign.compare.drive", lambda folder, study, watch: False)
    with pytest.raises(ComparisonStoppedError, match="the same command goes on"):
        run_part(Strategy.JOINT, tiny, 0, BUDGET, tmp_path, watch_nothing)  # type: ignore[arg-type]


def part(strategy: Strategy, seed: int, volume: float) -> Part:
    return Part(
        strategy=strategy,
        seed=seed,
        series=((1.0, volume / 2), (3.0, volume)),
        volume=volume,
        training_s=30.0,
        trainings=3.0,
        trials=5,
        gated=2,
        members=4,
    )


PARTS = [
    *(part(Strategy.JOINT, seed, volume) for seed, volume in enumerate((0.5, 0.7, 0.9))),
    *(part(Strategy.HARDWARE_FIRST, seed, volume) for seed, volume in enumerate((0.4, 0.8, 0.6))),
]


def test_differences_are_taken_seed_by_seed(tiny: StudyFile) -> None:
    assert differences(PARTS[:3], PARTS[3:]) == pytest.approx([0.1, -0.1, 0.3])
    view = comparison_view(PARTS, tiny, BUDGET)
    rivalry = view["differences"]["joint - hardware_first"]  # type: ignore[index]
    assert rivalry["hypervolume"]["median"] == pytest.approx(0.1)
    assert (rivalry["won"], rivalry["lost"]) == (2, 1)
    assert json.loads(json.dumps(view)) == view | {"parts": json.loads(json.dumps(view["parts"]))}
    assert set(view["strategies"]) == {"joint", "hardware_first"}  # type: ignore[call-overload]


def test_the_picture_is_xml_that_says_every_strategy(tiny: StudyFile) -> None:
    text = comparison_picture(PARTS, tiny, BUDGET)
    root = ElementTree.fromstring(text)
    said = " ".join("".join(element.itertext()) for element in root.iter())
    assert "joint 0.7000" in said
    assert DEFINITIONS[Strategy.HARDWARE_FIRST] in said
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


def formula_run(path: Path, study: StudyFile) -> Path:
    folder = create(path, study, command="test")
    assert sweep_of(folder, study, FormulaExecutor(folder)).run()
    return path


def test_runs_are_measured_in_the_box_of_the_first(tmp_path: Path, study: StudyFile) -> None:
    short = study.model_copy(update={"budget": Budget(trials=5)})
    folders = [open_run(formula_run(tmp_path / name, asked)) for name, asked in (("a", study), ("b", short))]
    rows = runs_view(folders)["runs"]
    assert isinstance(rows, list)
    assert rows[0]["hypervolume"] >= rows[1]["hypervolume"] > 0
    assert [row["trials"] for row in rows] == [40, 5]
    assert runs_table(folders).row_count == 2
    (folders[0].result_path(0)).unlink()
    with pytest.raises(CodesignError, match="no scored reference design"):
        runs_view(folders)


def test_runs_of_other_objectives_are_refused(tmp_path: Path, study: StudyFile) -> None:
    first = open_run(formula_run(tmp_path / "a", study))
    fewer = study.model_copy(update={"objectives": study.objectives[:1]})
    second = create(tmp_path / "b", fewer, command="test")
    with pytest.raises(CodesignError, match="has no inference_energy_pj"):
        runs_view([first, second])


def test_the_command_says_what_it_can_compare(
    tmp_path: Path, study: StudyFile, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(formula_run(tmp_path / name, study)) for name in ("a", "b")]
    app(["compare", *paths], standalone_mode=False)
    assert "in the box of" in capsys.readouterr().out
    app(["compare", *paths, "--json"], standalone_mode=False)
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 2
    with pytest.raises(CodesignError, match="no-run is not a run folder"):
        app(["compare", paths[0], "no-run"], standalone_mode=False)
    with pytest.raises(CodesignError, match=r"no strategy is named 'jointly'.*'joint'"):
        app(["compare", "quickstart", "--strategies", "jointly"], standalone_mode=False)
