"""What `cosearch export` takes out, and why it takes something not."""

from __future__ import annotations

import pytest

from codesign.chosen import chosen_designs
from codesign.errors import ExportError
from codesign.results import HardwarePoint, TrialResult, TrialState, Violation
from codesign.study_file import StudyFile

CHIP = HardwarePoint(accelerator=None, knobs={}, scores={})
BROKEN = Violation(constraint="area_mm2 <= 1", value=2.0, bound=1.0, excess=1.0)
RESULTS = (
    TrialResult(trial=0, state=TrialState.COMPLETED, design=None),
    TrialResult(trial=1, state=TrialState.GATED, design=None, violations=(BROKEN,)),
    TrialResult(trial=2, state=TrialState.FAILED, design=None, reason="the loss must stay finite"),
    TrialResult(trial=3, state=TrialState.COMPLETED, design={}, hardware=(CHIP,)),
    TrialResult(trial=4, state=TrialState.STOPPED, design=None),
)


def test_a_design_that_is_asked_for_twice_comes_once(
    study: StudyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codesign.results.with_accelerator", lambda design, chip: design)
    found = chosen_designs(RESULTS, study, ["3.1", "0", "3.1"], False, False)
    assert [result.label for result in found] == ["3.1", "0"]


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("9", "trial 9 has no trained design to export: no such trial has a result; completed: 0, 3, 3.1"),
        ("abc", "trial abc has no trained design to export: no such trial has a result"),
        ("1", r"it was gated \(area_mm2 <= 1 is broken\); completed: 0, 3, 3.1"),
        ("2", r"it failed \(the loss must stay finite\)"),
        ("4", "it was stopped; completed"),
        ("0.1", "its hardware sweep kept no other chip"),
        ("3.2", "its hardware sweep kept chips 3.1 to 3.1"),
    ],
)
def test_what_cannot_be_exported_says_why(
    study: StudyFile, monkeypatch: pytest.MonkeyPatch, label: str, message: str
) -> None:
    monkeypatch.setattr("codesign.results.with_accelerator", lambda design, chip: design)
    with pytest.raises(ExportError, match=message):
        chosen_designs(RESULTS, study, [label], False, False)


def test_nothing_asked_for_and_an_empty_front_are_told_apart(study: StudyFile) -> None:
    with pytest.raises(ExportError, match="nothing is asked for"):
        chosen_designs(RESULTS, study, [], False, False)
    for front, knee in ((True, False), (False, True)):
        with pytest.raises(ExportError, match="the front is empty"):
            chosen_designs(RESULTS[1:3], study, [], front, knee)


def test_a_message_names_some_trials_of_many(study: StudyFile) -> None:
    many = tuple(TrialResult(trial=n, state=TrialState.COMPLETED, design=None) for n in range(20))
    with pytest.raises(ExportError, match=r"completed: 0, .*, 11 and 8 more"):
        chosen_designs(many, study, ["99"], False, False)
