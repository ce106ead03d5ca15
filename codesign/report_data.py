"""What stands in a run folder, in the form that the report draws."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from codesign import report
from codesign.describe import design_summary
from codesign.front import front, hypervolume_series, knee
from codesign.results import TrialResult, TrialState
from codesign.run_folder import RunFolder
from codesign.study_file import Objective, StudyFile
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
    on_front = {member.trial for member in members}
    states = [result.state for result in results]
    return report.ReportData(
        study=study.name,
        description=study.description,
        seed=study.seed,
        counts=report.StatusCounts(
            planned=study.budget.trials or len(results),
            completed=states.count(TrialState.COMPLETED),
            gated=states.count(TrialState.GATED),
            failed=states.count(TrialState.FAILED),
        ),
        wall_s=sum(session["wall_s"] for session in folder.sessions()) or None,
        objectives=tuple(_objective(objective) for objective in study.objectives),
        score_units={name: _shown_unit(name, kind.unit) for name, kind in score_kinds().items()},
        trials=tuple(
            _trial(
                result,
                on_front=result.trial in on_front,
                knee=best is not None and best.trial == result.trial,
                reference=reference is not None and reference.trial == result.trial,
            )
            for result in results
            if result.state is not TrialState.STOPPED
        ),
        hypervolume=hypervolume_series(results, study.objectives, reference),
        breakdowns=_breakdowns(folder, [*([reference] if reference else []), *members][:_MOST_BREAKDOWNS]),
        manifest=_manifest(folder),
        commands=_commands(folder.path),
        table_knobs=("network", "accelerator"),
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


def _trial(result: TrialResult, *, on_front: bool, knee: bool, reference: bool) -> report.TrialRecord:
    design: Design = design_from_json(result.design)
    return report.TrialRecord(
        number=result.trial,
        state=report.TrialState(result.state.value),
        scores=result.scores,
        design=design_summary(design),
        violations=tuple(f"{v.constraint}, but it is {v.value:.6g}" for v in result.violations),
        reason=result.reason,
        on_front=on_front,
        knee=knee,
        reference=reference,
    )


def _breakdowns(folder: RunFolder, results: list[TrialResult]) -> dict[int, report.Breakdown]:
    found = {}
    for result in results:
        path = folder.trial_path(result.trial) / "cost.json"
        try:
            ledger = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # missing or damaged: the page says that this design has no breakdown
        found[result.trial] = report.Breakdown(
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
