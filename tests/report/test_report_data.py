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
from tests.report.report_fakes import OBJECTIVES, fake_report


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
    with pytest.raises(ReportError, match=r"counts must be >= 0, but got .*\(4, -1, 0, 0\)"):
        StatusCounts(planned=4, completed=-1, gated=0, failed=0)


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


def test_trial_numbers_differ() -> None:
    data = fake_report(3)
    with pytest.raises(ReportError, match=r"trial numbers must differ, but \[0\] are repeated"):
        dataclasses.replace(data, trials=(*data.trials, data.trials[0]))


@pytest.mark.parametrize("role", ["reference", "knee"])
def test_a_role_is_played_once(role: str) -> None:
    data = fake_report(3)
    both = tuple(
        TrialRecord(number=n, state=TrialState.COMPLETED, **{role: True})  # type: ignore[arg-type]
        for n in (1, 2)
    )
    with pytest.raises(ReportError, match=rf"at most one trial may be the {role}, but trials \[1, 2\] are"):
        dataclasses.replace(data, trials=both, breakdowns={})


def test_breakdowns_belong_to_trials() -> None:
    with pytest.raises(ReportError, match=r"trials \[99\] are not among the 3 trials"):
        dataclasses.replace(fake_report(3), breakdowns={99: Breakdown()})


def test_front_and_reference_are_views_of_the_trials() -> None:
    data = fake_report(40)
    assert data.reference is data.trials[0]
    assert [trial.number for trial in data.front] == [t.number for t in data.trials if t.on_front]
    assert Direction("minimize") is Direction.MINIMIZE
