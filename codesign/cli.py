"""The command line: `cosearch`. Printing and exiting happen here and in `__main__`, nowhere else.

Nothing heavy is imported before a command runs, so that `--help` answers at once.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from codesign.compare_command import compare
from codesign.cost_command import cost, crosscheck
from codesign.doctor_command import doctor
from codesign.inspection_command import inspect

if TYPE_CHECKING:
    from collections.abc import Callable

    from codesign.progress import Progress
    from codesign.run_folder import RunFolder
    from codesign.study_file import StudyFile

app = typer.Typer(
    name="cosearch",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Search networks, compression and accelerators together, and keep the Pareto front.\n\n"
    "A first run, in a few minutes: `cosearch run quickstart`, then `cosearch front runs/quickstart`.",
)

RunDir = Annotated[Path, typer.Argument(metavar="DIR", help="A run folder, such as runs/quickstart.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON (with a `version`) instead of text.")]
Trials = Annotated[int | None, typer.Option("--trials", min=1, help="Trials in all, reference included.")]
DataRoot = Annotated[
    Path | None, typer.Option("--data-root", help="Folder that holds the data sets' own folders.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("-o", "--override", metavar="KEY=VALUE", help="Set one key of the study, e.g. -o seed=3."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]


@app.command()
def run(
    study: Annotated[str, typer.Argument(metavar="STUDY|FILE", help="A bundled study, or a study file.")],
    out: Annotated[Path | None, typer.Option("--out", help="Run folder (default: runs/<study>).")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed of draws and training.")] = None,
    trials: Trials = None,
    data_root: DataRoot = None,
    override: Overrides = None,
    quiet: Quiet = False,
) -> None:
    """Start a study: draw designs, evaluate them, keep the front.

    Ctrl-C once finishes the trials that run, twice (or SIGTERM) stops at once; `cosearch resume` continues
    either way.
    """
    from codesign.drive import start
    from codesign.study_reader import load_study, said_of

    overrides = list(override or [])
    overrides += [f"seed={seed}"] if seed is not None else []
    overrides += [f"budget.trials={trials}"] if trials is not None else []
    overrides += [f"dataset.data_root={json.dumps(str(data_root.resolve()))}"] if data_root else []
    question = load_study(study, overrides)
    path = out or Path("runs") / question.name
    with said_of(study):
        _sweep(path, question, quiet, lambda watch: start(path, question, " ".join(sys.argv), watch)[1])


@app.command()
def resume(
    run_dir: RunDir,
    trials: Trials = None,
    data_root: DataRoot = None,
    override: Overrides = None,
    quiet: Quiet = False,
) -> None:
    """Continue a run that was stopped or killed, or give it more trials.

    With -o also its budget, its storage and its executor can change, e.g. -o executor.local.workers=4; all
    else is the question itself, and stays.
    """
    from codesign.budget import way_on
    from codesign.drive import change, drive
    from codesign.run_folder import open_run

    folder = open_run(run_dir)
    overrides = list(override or [])
    overrides += [f"budget.trials={trials}"] if trials is not None else []
    overrides += [f"dataset.data_root={json.dumps(str(data_root.resolve()))}"] if data_root else []
    question = change(folder, overrides)
    before = len(folder.results())
    ended = _sweep(run_dir, question, quiet, lambda watch: drive(folder, question, watch))
    if len(folder.results()) == before:
        option = way_on(question.budget, ended)
        hint = f": a larger budget goes on, e.g. {option}" if option else ""
        typer.echo(f"nothing was left to do ({ended or f'{question.budget.text} planned'}){hint}")


def _sweep(path: Path, question: StudyFile, quiet: bool, driven: Callable[[Progress], bool]) -> str | None:
    """Show the progress of a sweep, then its front; or say how to go on where it was stopped.

    Returns:
        Which budget ended it, in words.
    """
    from rich.console import Console

    from codesign.progress import Progress
    from codesign.run_folder import open_run

    try:
        with Progress(study=question, console=Console(), quiet=quiet) as progress:
            complete = driven(progress)
    except KeyboardInterrupt:
        complete = False
    if not complete:
        way_on = f"cosearch resume {path}" if path.exists() else "nothing was drawn yet"
        typer.echo(f"stopped; nothing that was finished is lost: {way_on}", err=True)
        raise typer.Exit(130)
    folder = open_run(path)
    _print_front(folder, question)
    _refuse_all_failed(folder)
    typer.echo(f"report   {folder.report_path}")
    if question.dataset.shapes is None:
        typer.echo(f"export   cosearch export {folder.path} --front")
    else:  # nothing was trained: there is nothing to export, and designs are to be held side by side
        typer.echo(f"matrix   cosearch matrix {folder.path}")
    return progress.ended


def _refuse_all_failed(folder: RunFolder) -> None:
    """Say why, and end with an error, where not one trial could be scored."""
    from collections import Counter

    from codesign.errors import CodesignError
    from codesign.results import TrialState

    results = folder.results()
    if results and all(result.state is TrialState.FAILED for result in results):
        reason, times = Counter(result.reason for result in results).most_common(1)[0]
        raise CodesignError(
            f"every trial of {folder.path} failed, {times} of {len(results)} for this reason: {reason}"
        )


@app.command()
def status(run_dir: RunDir, as_json: Json = False) -> None:
    """Say how far a run is; a live run is not disturbed."""
    from codesign.progress import duration
    from codesign.run_folder import open_run
    from codesign.views import status_view

    folder = open_run(run_dir)
    question = folder.study()
    view = status_view(folder, question)
    if as_json:
        typer.echo(json.dumps(view, indent=1))
        return
    state = "running" if view["driven"] else "not running"
    typer.echo(f"{view['study']}: {state}, {question.budget.text} planned")
    for name in ("completed", "stopped", "gated", "failed", "running", "interrupted", "trained", "front"):
        typer.echo(f"  {name:<12} {view[name]}")
    typer.echo(f"  {'hypervolume':<12} {view['hypervolume']:.4f}")
    spent = view["training_s"]
    if isinstance(spent, float) and spent > 0:
        typer.echo(f"  {'training':<12} {duration(spent)} on all workers, {view['epochs']:g} epochs")
    wall = view["wall_s"]
    if isinstance(wall, float) and wall > 0:
        typer.echo(f"  {'wall time':<12} {duration(wall)}")
    if isinstance(view["overhead"], float):
        typer.echo(f"  {'overhead':<12} {100 * view['overhead']:.1f} % of the workers' time, last session")


@app.command()
def front(
    run_dir: RunDir,
    as_json: Json = False,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write the front as CSV to this file.")] = None,
) -> None:
    """Show the designs nobody beats; `front.json` in the run folder is brought up to date."""
    from codesign.files import write_atomic, write_json
    from codesign.run_folder import open_run
    from codesign.tables import front_csv
    from codesign.views import front_view

    folder = open_run(run_dir)
    question = folder.study()
    view = front_view(folder, question)
    write_json(folder.front_path, view)
    if csv is not None:
        write_atomic(csv, front_csv(folder, question))
    if as_json:
        typer.echo(json.dumps(view, indent=1))
    else:
        _print_front(folder, question)


def _print_front(folder: RunFolder, question: StudyFile) -> None:
    from codesign.screen import show
    from codesign.tables import front_table, headline

    show(front_table(folder, question))
    typer.echo(headline(folder, question))


@app.command()
def evaluate(
    design_dir: Annotated[Path, typer.Argument(metavar="DESIGN_DIR", help="An exported design.")],
    data_root: DataRoot = None,
    as_json: Json = False,
) -> None:
    """Score an exported design again: its cost exactly, its accuracy from the saved weights."""
    from codesign.exported import evaluate_exported
    from codesign.report.quantities import format_quantity
    from evaluators.scores import score_kinds

    scores = evaluate_exported(design_dir, data_root)
    if as_json:
        typer.echo(json.dumps({"version": 1, "scores": scores}, indent=1))
        return
    kinds = score_kinds()
    for name, value in scores.items():
        typer.echo(f"{name:<24} {format_quantity(value, kinds[name].unit)}")


@app.command()
def export(
    run_dir: RunDir,
    numbers: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TRIAL]...", help="Trials to export; 12.3 is trial 12 on its third chip."),
    ] = None,
    whole_front: Annotated[bool, typer.Option("--front", help="Every design of the front.")] = False,
    only_knee: Annotated[bool, typer.Option("--knee", help="The knee of the front.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Where to (default: DIR/export).")] = None,
) -> None:
    """Write designs as folders: design, accelerator, scores, weights, and a README each."""
    from codesign.chosen import chosen_designs
    from codesign.exported import export_design
    from codesign.run_folder import open_run

    folder = open_run(run_dir)
    question = folder.study()
    for result in chosen_designs(folder.results(), question, numbers or [], whole_front, only_knee):
        path = export_design(folder, question, result, out or folder.path / "export")
        typer.echo(str(path))


@app.command()
def report(
    run_dir: RunDir,
    out: Annotated[Path | None, typer.Option("--out", help="File (default: DIR/report.html).")] = None,
) -> None:
    """Write the report: one HTML file that opens offline.

    The energy of chips that hardware sweeps found is worked out, layer by layer, where it is not there yet.
    """
    from codesign.files import write_atomic
    from codesign.report import render
    from codesign.report_data import drawn_in_energy, report_data
    from codesign.run_folder import open_run

    folder = open_run(run_dir)
    path, question = out or folder.report_path, folder.study()
    data = report_data(folder, question)
    if _write_ledgers(folder, question, [one for one in drawn_in_energy(data) if one not in data.breakdowns]):
        data = report_data(folder, question)
    write_atomic(path, render(data))
    typer.echo(str(path))


def _write_ledgers(folder: RunFolder, question: StudyFile, labels: list[str]) -> bool:
    """Work out where the energy of sweeps' chips goes, and say of which that cannot be; False: none asked."""
    if not any("." in label and not folder.ledger_path(label).is_file() for label in labels):
        return False
    from codesign.chip_ledgers import write_ledgers  # torch: seconds, so only where there is need

    for label, reason in write_ledgers(folder, question, labels).items():
        typer.echo(f"no layer-by-layer energy of trial {label}: {reason}", err=True)
    return True


@app.command()
def matrix(
    run_dir: RunDir,
    score: Annotated[
        str | None, typer.Option("--score", help="What to compare (default: the study's first cost).")
    ] = None,
    breakdown: Annotated[bool, typer.Option("--breakdown", help="Say where the energy goes, too.")] = False,
    as_json: Json = False,
) -> None:
    """Hold one score of all designs side by side: networks and techniques down, chips across."""
    from codesign.comparison import compare, comparison_json, parts_table, score_table
    from codesign.run_folder import open_run

    folder = open_run(run_dir)
    question = folder.study()
    comparison = compare(folder.results(), question, score)
    if breakdown:
        _write_ledgers(folder, question, [cell.label for cell in comparison.cells])
    if as_json:
        typer.echo(json.dumps(comparison_json(comparison, folder), indent=1))
        return
    from codesign.screen import show

    show(score_table(comparison))
    if breakdown:
        show(parts_table(comparison, folder))


@app.command("list")
def list_(
    kind: Annotated[str | None, typer.Argument(metavar="[KIND]", help="One kind only.")] = None,
    as_json: Json = False,
) -> None:
    """List what is registered: studies, networks, datasets, accelerators, scores, knob families, samplers."""
    from codesign.listing import listing

    found = listing(kind)
    if as_json:
        typer.echo(json.dumps({"version": 1, **found}, indent=1))
        return
    for name, rows in found.items():
        typer.echo(name)
        width = max((len(row["name"]) for row in rows), default=0)
        for row in rows:
            typer.echo(f"  {row['name']:<{width}}  {row['description']}")


@app.command()
def check(
    study: Annotated[
        str | None, typer.Argument(metavar="FILE", help="A study file, or a bundled study.")
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of study files.")] = False,
    override: Overrides = None,
    data_root: DataRoot = None,
) -> None:
    """Check a study file: every problem at once, each with its path, line and the nearest valid name."""
    from codesign.study_file import schema_json
    from codesign.study_reader import load_study, said_of

    if schema:
        typer.echo(json.dumps(schema_json(), indent=1))
        return
    if study is None:
        raise typer.BadParameter("name a study file, or use --schema")
    from codesign.problem import dry_run
    from codesign.storage import check_address

    overrides = list(override or [])
    overrides += [f"dataset.data_root={json.dumps(str(data_root.resolve()))}"] if data_root else []
    question = load_study(study, overrides)
    check_address(question.storage)
    with said_of(study):
        lines = dry_run(question)
    for line in lines:
        typer.echo(line)


# Commands that live in modules of their own; each imports what is heavy when it runs.
app.command()(compare)
app.command()(inspect)
app.command()(cost)
app.command()(crosscheck)
app.command()(doctor)
