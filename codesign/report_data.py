"""What stands in a run folder, in the form that the report draws."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from codesign import report
from codesign.describe import design_summary
from codesign.front import front, hypervolume_series, knee
from codesign.results import TrialResult, TrialState
from codesign.run_folder import RunFolder
from codesign.sections.goals import Objective
from codesign.study_file import StudyFile
from codesign.views import reference_of
from evaluators.scores import score_kinds
from search_spaces.choice import JsonValue
from search_spaces.design import Design, design_from_json

_LABELS = {
    "validation_accuracy": "validation accuracy",
    "inference_energy_pj": "energy per inference",
    "inference_latency_s": "latency",
    "training_energy_pj": "energy per training step",
    "area_mm2": "area",
    "storage_bits": "storage",
    "peak_inference_bytes": "peak inference memory",
    "peak_training_bytes": "peak training memory",
}
_MOST_BREAKDOWNS = 40  # designs whose energy is drawn layer by layer: beyond that the page grows too large


def report_data(folder: RunFolder, study: StudyFile) -> report.ReportData:
    """Gather everything the report shows."""
    results = folder.results()
    members = front(results, study.objectives)
    best = knee(members, study.objectives)
    reference = reference_of(results)
    states = [result.state for result in results]
    data = report.ReportData(
        study=study.name,
        description=study.description,
        seed=study.seed,
        budget=study.budget.text,
        counts=report.StatusCounts(
            completed=states.count(TrialState.COMPLETED),
            gated=states.count(TrialState.GATED),
            stopped=states.count(TrialState.STOPPED),
            failed=states.count(TrialState.FAILED),
        ),
        wall_s=folder.wall_s() or None,
        objectives=tuple(_objective(objective) for objective in study.objectives),
        score_units={name: _shown_unit(name, kind.unit) for name, kind in score_kinds().items()},
        trials=_trials(study, results, members, knee=best, reference=reference),
        hypervolume=hypervolume_series(results, study.objectives, reference),
        manifest=_manifest(folder),
        commands=_commands(folder.path),
        table_knobs=("network", "accelerator"),
    )
    return replace(data, breakdowns=_breakdowns(folder, drawn_in_energy(data)))


def drawn_in_energy(data: report.ReportData) -> tuple[str, ...]:
    """Return the labels of the designs whose energy the page draws, those that it opens with first."""
    return tuple(dict.fromkeys([*opened_with(data), *(one.label for one in data.front)]))[:_MOST_BREAKDOWNS]


def opened_with(data: report.ReportData) -> tuple[str, ...]:
    """Return the labels of the designs that the page names at once: reference, knee, and the gains."""
    named = [one.label for one in data.trials if one.reference or one.knee]
    return tuple(dict.fromkeys([*named, *(gain.label for gain in report.gains(data))]))


def _trials(
    study: StudyFile,
    results: Iterable[TrialResult],
    members: Sequence[TrialResult],
    *,
    knee: TrialResult | None,
    reference: TrialResult | None,
) -> tuple[report.TrialRecord, ...]:
    """Return every trial, and every other chip of a hardware sweep that is on the front.

    Those that are not are counted only: they can be hundreds a trial.
    """
    on_front = {member.label for member in members}
    shown = [
        variant
        for result in results
        for variant in result.variants()
        if variant.variant is None or variant.label in on_front
    ]
    chips = {result.label: len(result.hardware) for result in results}
    return tuple(
        _trial(
            result,
            study,
            chips=chips.get(result.label, 0),
            on_front=result.label in on_front,
            knee=knee is not None and knee.label == result.label,
            reference=reference is not None and reference.label == result.label,
        )
        for result in shown
    )


def _objective(objective: Objective) -> report.Objective:
    return report.Objective(
        name=objective.name,
        direction=report.Direction(objective.direction.value),
        unit=_shown_unit(objective.name, objective.kind.unit),
        label=_LABELS.get(objective.name, objective.name.replace("_", " ")),
        reported_as="test_accuracy" if objective.name == "validation_accuracy" else None,
    )


def _shown_unit(name: str, unit: str) -> str:
    """Accuracies are shares of one and are shown in per cent; the other unitless scores are counts."""
    if unit:
        return unit
    return "fraction" if name.endswith("_accuracy") else "count"


def _trial(
    result: TrialResult, study: StudyFile, *, chips: int, on_front: bool, knee: bool, reference: bool
) -> report.TrialRecord:
    design: Design = design_from_json(result.design)
    return report.TrialRecord(
        number=result.trial,
        variant=result.variant,
        chips=chips,
        reached=_reached(result, study) if result.state is TrialState.STOPPED else None,
        state=report.TrialState(result.state.value),
        scores=result.scores,
        design=design_summary(design),
        violations=tuple(f"{v.constraint}, but it is {v.value:.6g}" for v in result.violations),
        reason=result.reason,
        on_front=on_front,
        knee=knee,
        reference=reference,
    )


def _reached(result: TrialResult, study: StudyFile) -> str:
    """Return how far a stopped trial came, as in `stage 1 of 2 (epochs 1 of 3)`.

    A study that was stopped in training has a `fidelity` section.
    """
    early = () if study.fidelity is None else study.fidelity.early
    stage = f"stage {result.stage + 1} of {study.stages}"
    if study.fidelity is None or result.stage >= study.stages - 1:
        return stage
    if result.stage < len(early):
        return f"{stage} ({early[result.stage]}, before any training)"
    index = result.stage - len(early)
    share = 1.0 if study.fidelity.data is None else study.fidelity.data[index]
    examples = "" if share == 1 else f", on {share:.0%} of the examples"
    return f"{stage} (epochs {study.fidelity.epochs[index]} of {study.training.epochs}{examples})"


def _breakdowns(folder: RunFolder, labels: Iterable[str]) -> dict[str, report.Breakdown]:
    found = {}
    for label in labels:
        try:
            ledger = json.loads(folder.ledger_path(label).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # missing or damaged: the page says that this design has no breakdown
        found[label] = report.Breakdown(
            inference=_rows(ledger["inference"]), training=_rows(ledger["training"])
        )
    return found


def _rows(ledger: Mapping[str, JsonValue]) -> tuple[report.BreakdownRow, ...]:
    rows = cast("list[dict[str, object]]", ledger["rows"])
    return tuple(
        report.BreakdownRow(
            layer=str(row["layer"] or row["op"]),
            phase=str(row["phase"]).replace("_", " "),
            energy_pj=cast("dict[str, dict[str, float]]", row["energy_pj"]),
            latency_s=cast(float, row["latency_s"]),
            macs=cast(int, row["macs"]),
        )
        for row in rows
    )


def _manifest(folder: RunFolder) -> tuple[tuple[str, str], ...]:
    manifest = folder.manifest()
    packages = cast("dict[str, str]", manifest["packages"])
    pairs = [
        ("study hash", str(manifest["study_hash"])),
        ("started", str(manifest["created"])),
        ("git commit", str(manifest["git_commit"] or "not in a git checkout")),
        ("Python", str(manifest["python"])),
        ("machine", f"{manifest['platform']}, {manifest['cores']} cores"),
    ]
    return tuple(pairs + [(name, version) for name, version in packages.items()])


def _commands(path: Path) -> tuple[tuple[str, str], ...]:
    return (
        ("Run the same study again", f"cosearch run {path}/study.yaml --out {path}-again"),
        ("Continue with more trials", f"cosearch resume {path} --trials N"),
        ("Take the front's designs out", f"cosearch export {path} --front"),
    )
