"""Which designs of a run somebody asked for, by name or as the front's."""

from __future__ import annotations

from collections.abc import Sequence

from codesign.errors import ExportError
from codesign.front import front, knee
from codesign.results import TrialResult, TrialState
from codesign.study_file import StudyFile

_MOST_NAMED = 12  # trials that a message names


def chosen_designs(
    results: Sequence[TrialResult],
    study: StudyFile,
    labels: Sequence[str],
    whole_front: bool,
    only_knee: bool,
) -> tuple[TrialResult, ...]:
    """Return the designs that are asked for, each once.

    Args:
        labels: as in `12.3`.

    Raises:
        ExportError: nothing is asked for, the front is empty, or a trial has no trained design.
    """
    if not (labels or whole_front or only_knee):
        raise ExportError("nothing is asked for: name trials, or use --front or --knee")
    found: list[TrialResult] = []
    if whole_front or only_knee:
        members = front(results, study.objectives)
        best = knee(members, study.objectives)
        if not members or best is None:
            raise ExportError("the front is empty: no trained design keeps every constraint")
        found += members if whole_front else (best,)
    known = {
        variant.label: variant
        for result in results
        for variant in result.variants()
        if variant.state is TrialState.COMPLETED
    }
    for label in labels:
        if label not in known:
            raise ExportError(_why_not(label, results, list(known)))
        found.append(known[label])
    return tuple({result.label: result for result in found}.values())


def _why_not(label: str, results: Sequence[TrialResult], known: Sequence[str]) -> str:
    shown = ", ".join(known[:_MOST_NAMED]) + (
        f" and {len(known) - _MOST_NAMED} more" if len(known) > _MOST_NAMED else ""
    )
    law = f"trial {label} has no trained design to export"
    way_out = f"completed: {shown or 'none'}"
    number, point, _ = label.partition(".")
    result = next((one for one in results if str(one.trial) == number), None)
    if result is None:
        return f"{law}: no such trial has a result; {way_out}"
    if point:
        chips = len(result.hardware)
        kept = f"chips {number}.1 to {number}.{chips}" if chips else "no other chip"
        return f"{law}: its hardware sweep kept {kept}"
    broken = ", ".join(f"{one.constraint} is broken" for one in result.violations)
    reason = result.reason or broken
    was = "" if result.state is TrialState.FAILED else "was "
    return f"{law}: it {was}{result.state.value}{f' ({reason})' if reason else ''}; {way_out}"
