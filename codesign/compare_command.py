"""`cosearch compare`: strategies of search, or runs, side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from codesign.compare import Part
    from codesign.strategies import Strategy
    from codesign.study_file import StudyFile
    from codesign.sweep import Tick


def compare(
    targets: Annotated[list[str], typer.Argument(metavar="STUDY|DIR...", help="A study, or run folders.")],
    strategies: Annotated[
        str, typer.Option("--strategies", help="STUDY: which, with commas; differences are to the first.")
    ] = "joint,compress_first,hardware_first",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="STUDY: repeat with so many seeds.")] = 5,
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", min=0, help="STUDY: minutes of training for each run (default: --trials)."),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            "--trials", min=1, help="STUDY: whole trainings for each run (default: the study's budget)."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="STUDY: where to (default: runs/compare-<study>).")
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option("--data-root", help="Folder that holds the data sets' own folders.")
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option("-o", "--override", metavar="KEY=VALUE", help="STUDY: set one key of the study."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON (with a `version`) instead of text.")
    ] = False,
) -> None:
    """Compare strategies of search on a STUDY, or runs that there are.

    STUDY: joint against sequential search at equal training budget. Every strategy runs once per seed, each
    in a run folder of its own, and stops when its budget of training is spent; gated designs and halves that
    were trained before cost nothing. Killed or stopped, the same command goes on. The hypervolume is measured
    in the box of the reference design, which is the same for all strategies.

    joint: the study as it is; every trained half is priced on the chips of the hardware sweep too (256 where
    the study has none).

    compress_first: the whole budget searches network and compression on the reference design's chip; then
    every design of that front is priced on all chips of the sweep, which trains nothing. A constraint on area
    waits until then.

    hardware_first: the reference network, untrained, is priced on the chips of the sweep; of the front of its
    costs one chip of each template is kept (the knee of that part); then the whole budget searches network
    and compression on these chips.

    DIR...: the hypervolumes of run folders in one box, that of the first one's reference design.
    """
    from codesign.errors import CodesignError

    are_runs = [(Path(target) / "manifest.json").is_file() for target in targets]
    if all(are_runs):
        _runs([Path(target) for target in targets], as_json)
    elif len(targets) == 1:
        from codesign.study_reader import load_study, said_of

        overrides = list(override or [])
        overrides += [f"dataset.data_root={json.dumps(str(data_root.resolve()))}"] if data_root else []
        study = load_study(targets[0], overrides)
        with said_of(targets[0]):
            _strategies(study, strategies, seeds, (minutes, trials), out, quiet, as_json)
    else:
        wrong = targets[are_runs.index(False)]
        raise CodesignError(
            f"{wrong} is not a run folder: several targets are run folders, a study stands alone"
        )


def _runs(paths: Sequence[Path], as_json: bool) -> None:
    from codesign.compare_views import runs_table, runs_view
    from codesign.run_folder import open_run
    from codesign.screen import show

    folders = [open_run(path) for path in paths]
    if as_json:
        typer.echo(json.dumps(runs_view(folders), indent=1))
    else:
        show(runs_table(folders))


def _strategies(
    study: StudyFile,
    names: str,
    seeds: int,
    budgets: tuple[float | None, int | None],
    out: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    from codesign.compare import ComparisonStoppedError, budget_of, run_part
    from codesign.compare_picture import comparison_picture
    from codesign.compare_views import comparison_table, comparison_view
    from codesign.files import write_atomic, write_json
    from codesign.screen import show

    asked = _named(names)
    budget = budget_of(study, *budgets)
    folder = out or Path("runs") / f"compare-{study.name}"
    said = _Said(total=seeds * len(asked), quiet=quiet or as_json)
    parts: list[Part] = []
    try:
        for seed in range(study.seed, study.seed + seeds):
            for strategy in asked:
                parts.append(run_part(strategy, study, seed, budget, folder, said.watch))
                said.end(parts[-1])
    except (ComparisonStoppedError, KeyboardInterrupt):
        typer.echo("stopped; nothing that was finished is lost: the same command goes on", err=True)
        raise typer.Exit(130) from None
    view = comparison_view(parts, study, budget)
    write_json(folder / "compare.json", view)
    write_atomic(folder / "compare.svg", comparison_picture(parts, study, budget))
    if as_json:
        typer.echo(json.dumps(view, indent=1))
        return
    show(comparison_table(parts, study, budget))
    typer.echo(f"picture  {folder / 'compare.svg'}")
    typer.echo(f"data     {folder / 'compare.json'}")


def _named(names: str) -> list[Strategy]:
    from codesign.errors import CodesignError
    from codesign.strategies import Strategy
    from hw_templates.names import nearest

    known = {strategy.value: strategy for strategy in Strategy}
    asked = [name.strip() for name in names.split(",") if name.strip()]
    wrong = [name for name in asked if name not in known]
    if wrong or not asked:
        name = wrong[0] if wrong else ""
        raise CodesignError(f"no strategy is named {name!r}.{nearest(name, known)} Known: {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(asked)]


class _Said:
    """Says which run is on, how far it is, and what came of it."""

    def __init__(self, total: int, quiet: bool) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, quiet=quiet)
        self._total = total
        self._ended = 0

    def watch(self, name: str) -> Callable[[Tick], None]:
        """Announce a run; the answer shows its progress, a line every ten trials or so."""
        from codesign.progress import duration

        self._console.print(f"[{self._ended + 1}/{self._total}] {name} ...", markup=False, highlight=False)
        shown = 0

        def watch(tick: Tick) -> None:
            nonlocal shown
            if tick.told >= shown + 10:
                shown = tick.told
                self._console.print(
                    f"    {tick.told} trials in {duration(tick.elapsed_s)}, {len(tick.members)} on the front",
                    highlight=False,
                )

        return watch

    def end(self, part: Part) -> None:
        """Say what came of a run."""
        self._ended += 1
        self._console.print(
            f"[{self._ended}/{self._total}] {part.strategy.value}, seed {part.seed}: hypervolume "
            f"{part.volume:.4f}, {part.trainings:.1f} trainings in {part.training_s / 60:.1f} min",
            markup=False,
            highlight=False,
        )
