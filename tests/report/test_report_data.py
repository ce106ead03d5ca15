"""Contradictions in what the report is handed are refused, each with the law, the values and the way out."""

import dataclasses

import pytest

from codesign.report import (
    Breakdown,
    Direction,
    Objective,
    ReportError,
    StatusCounts,
    TrialRecord,
    TrialState,
)
from tests.report.report_fakes import OBJECTIVES, fake_report, with_stages_and_chips


def test_direction_must_be_the_enum() -> None:
    with pytest.raises(ReportError, match=r"direction must be a Direction, but objective 'e' has 'minimise'"):
        Objective(name="e", direction="minimise", unit="pJ", label="energy")  # type: ignore[arg-type]


def test_state_must_be_the_enum() -> None:
    with pytest.raises(ReportError, match=r"state must be a TrialState, but trial 3 has 'done'.*COMPLETED"):
        TrialRecord(number=3, state="done")  # type: ignore[arg-type]


def test_only_completed_trials_stand_on_the_front() -> None:
    with pytest.raises(ReportError, match=r"trial 3 is gated; take the front of completed trials"):
        TrialRecord(number=3, state=TrialState.GATED, on_front=True)


def test_counts_are_not_negative() -> None:
    with pytest.raises(ReportError, match=r"counts must be >= 0, but got .*\(-1, 0, 2, 0\)"):
        StatusCounts(completed=-1, gated=0, stopped=2, failed=0)


def test_a_study_has_an_objective() -> None:
    with pytest.raises(ReportError, match="at least one objective"):
        dataclasses.replace(fake_report(3), objectives=())


def test_objectives_differ() -> None:
    with pytest.raises(ReportError, match=r"\['validation_accuracy'\] are repeated"):
        dataclasses.replace(fake_report(3), objectives=OBJECTIVES[:1] * 2)


@pytest.mark.parametrize(
    ("name", "hint"), [("test_acuracy", "did you mean 'test_accuracy'"), ("zzz", "known scores: area_mm2")]
)
def test_reported_as_names_a_known_score(name: str, hint: str) -> None:
    wrong = dataclasses.replace(OBJECTIVES[0], reported_as=name)
    with pytest.raises(ReportError, match=f"has '{name}'; {hint}"):
        dataclasses.replace(fake_report(3), objectives=(wrong,))


def test_trial_labels_differ() -> None:
    data = fake_report(3)
    with pytest.raises(ReportError, match=r"trial labels must differ, but \['0'\] are repeated"):
        dataclasses.replace(data, trials=(*data.trials, data.trials[0]))
    chip = dataclasses.replace(data.trials[0], variant=10, reference=False, knee=False)
    assert dataclasses.replace(data, trials=(*data.trials, chip)).trials[-1].label == "0.10"


def test_only_stopped_trials_say_how_far_they_came() -> None:
    with pytest.raises(ReportError, match=r"`reached` says .* but trial 3 is stopped with None"):
        TrialRecord(number=3, state=TrialState.STOPPED)
    with pytest.raises(ReportError, match=r"`reached` says .* but trial 3 is gated with 'stage 1 of 2'"):
        TrialRecord(number=3, state=TrialState.GATED, reached="stage 1 of 2")


@pytest.mark.parametrize(("variant", "state"), [(0, TrialState.COMPLETED), (2, TrialState.GATED)])
def test_other_chips_are_completed_and_count_from_one(variant: int, state: TrialState) -> None:
    with pytest.raises(ReportError, match=rf"counts from 1, but trial 3\.{variant} is {state.value}"):
        TrialRecord(number=3, state=state, variant=variant)


def test_a_stopped_trial_never_stands_on_the_front() -> None:
    with pytest.raises(ReportError, match=r"trial 3 is stopped; take the front of completed trials"):
        TrialRecord(number=3, state=TrialState.STOPPED, reached="stage 1 of 2", on_front=True)


def test_chips_that_are_no_records_are_counted() -> None:
    data = with_stages_and_chips(fake_report(60), chips=4)
    assert data.chips_kept == 4 * sum(t.on_front and t.variant is None for t in data.trials) > 0
    assert data.chips_left_out == data.chips_kept * 3 // 4
    places = [t.place for t in data.front]
    assert places == sorted(places)
    assert fake_report(60).chips_kept == fake_report(60).chips_left_out == 0


@pytest.mark.parametrize("role", ["reference", "knee"])
def test_a_role_is_played_once(role: str) -> None:
    data = fake_report(3)
    both = tuple(
        TrialRecord(number=n, state=TrialState.COMPLETED, **{role: True})  # type: ignore[arg-type]
        for n in (1, 2)
    )
    with pytest.raises(
        ReportError, match=rf"at most one trial may be the {role}, but trials \['1', '2'\] are"
    ):
        dataclasses.replace(data, trials=both, breakdowns={})


def test_breakdowns_belong_to_trials() -> None:
    with pytest.raises(ReportError, match=r"trials \['99'\] are not among the 3 trials"):
        dataclasses.replace(fake_report(3), breakdowns={"99": Breakdown()})


def test_front_and_reference_are_views_of_the_trials() -> None:
    data = fake_report(40)
    assert data.reference is data.trials[0]
    assert [trial.number for trial in data.front] == [t.number for t in data.trials if t.on_front]
    assert Direction("minimize") is Direction.MINIMIZE
