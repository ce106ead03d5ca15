"""The front as a table on a terminal and as CSV."""

from __future__ import annotations

import csv
import io

from rich.box import SIMPLE_HEAD
from rich.table import Table

from codesign.describe import accelerator_parameters, accelerator_text, bits_text, design_summary
from codesign.front import front, knee
from codesign.report.quantities import format_quantity, score_label
from codesign.results import TrialResult
from codesign.run_folder import RunFolder
from codesign.study_file import StudyFile
from codesign.views import best_gain, reference_of
from evaluators.scores import Direction, score_kinds
from search_spaces.design import Design, design_from_json


def front_table(folder: RunFolder, study: StudyFile) -> Table:
    """Return the front as a table: objectives, test accuracy, and the design in short."""
    results = folder.results()
    members = front(results, study.objectives)
    best = knee(members, study.objectives)
    reference = reference_of(results)
    names = [o.name for o in study.objectives]
    names += [name for name in ("test_accuracy",) if study.dataset.shapes is None and name not in names]
    table = Table(
        title=f"{study.name}: {len(members)} designs on the front", title_justify="left", box=SIMPLE_HEAD
    )
    table.add_column("trial", no_wrap=True)
    for name in names:
        table.add_column(score_label(name), justify="right")
    for label in ("network", "mean bits", "accelerator"):
        table.add_column(label)
    for result in members:
        mark = " knee" if best is not None and result.label == best.label else ""
        table.add_row(*_cells(result, names, mark))
    if reference is not None:
        table.add_section()
        table.add_row(*_cells(reference, names, " reference"), style="dim")
    return table


def _cells(result: TrialResult, names: list[str], mark: str) -> list[str]:
    design = design_from_json(result.design)
    kinds = score_kinds()
    shown = [format_quantity(result.scores[name], kinds[name].unit) for name in names]
    network = f"{design.network.name}, width {design.network.width:g}, depth {design.network.depth}"
    return [f"{result.label}{mark}", *shown, network, bits_text(design), accelerator_text(design)]


def headline(folder: RunFolder, study: StudyFile) -> str:
    """Return the best saving at equal quality in a sentence."""
    results = folder.results()
    gain = best_gain(results, study.objectives, reference_of(results))
    if reference_of(results) is None:
        return "The reference design was not scored, so there is nothing to hold the front against."
    if gain is None:
        feasible = any(result.feasible for result in results)
        if not feasible:
            return "No feasible design: every trial breaks a constraint or failed; see the report for which."
        return "No feasible design is as good as the reference design."
    if gain.factor <= 1:
        return f"No feasible design within 1 percentage point of the reference needs less {gain.objective}."
    if all(objective.direction is Direction.MINIMIZE for objective in study.objectives):
        return (
            f"least    {gain.factor:.2f}x less {gain.objective} than the reference design, trial "
            f"{gain.label}, of whatever quality: no objective measures it"
        )
    return (
        f"best     {gain.factor:.2f}x less {gain.objective} than the reference design within 1 percentage "
        f"point of its quality (trial {gain.label})"
    )


def front_csv(folder: RunFolder, study: StudyFile) -> str:
    """Return the front as CSV: one row a design, a column for every score and every part of the design.

    Every parameter of the chips is a column, too.
    """
    results = folder.results()
    members = front(results, study.objectives)
    reference = reference_of(results)
    rows = [("front", result) for result in members]
    rows += [("reference", reference)] if reference is not None else []
    designs = {result.label: _columns(design_from_json(result.design)) for _, result in rows}
    scores = sorted({name for _, result in rows for name in result.scores})
    parts = list(dict.fromkeys(part for design in designs.values() for part in design))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["role", "trial", *scores, *parts])
    for role, result in rows:
        design = designs[result.label]
        writer.writerow(
            [
                role,
                result.label,
                *(result.scores.get(name, "") for name in scores),
                *(design.get(part, "") for part in parts),
            ]
        )
    return text.getvalue()


def _columns(design: Design) -> dict[str, object]:
    chip = accelerator_parameters(design.accelerator)
    return {**dict(design_summary(design)), **{f"accelerator.{name}": value for name, value in chip.items()}}
