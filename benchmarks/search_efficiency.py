"""What the search saves over plain Optuna: training until it has found as much.

    python -m benchmarks.search_efficiency tables --tables FOLDER --out DIR
    python -m benchmarks.search_efficiency real --data-root FOLDER --out DIR

`tables`: NAS-Bench-201 and NAS-Bench-Macro, whose true fronts are known; one unit is one network trained.
`real`: digits and a part of Fashion-MNIST; processor seconds of training, and of all evaluation.
For each seed plain Optuna runs to its end with each of two samplers, then the sweep runs on part of that
budget. Told is what the sweep had spent when its hypervolume first reached plain Optuna's final one, as a
share of all that plain Optuna spent (`ratio`: how many times less). Every run is a file in DIR, so that a
benchmark that was stopped goes on; `--report` only reads them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import search_on_tables, search_real
from benchmarks.search_rivals import SAMPLERS, Curve
from benchmarks.search_tables import Table, nas_bench_201, nas_bench_macro
from codesign.study_file import StudyFile

TABLE_BUDGET = 500  # networks that plain Optuna trains
TABLE_SHARE = 0.3  # of it, the sweep may use


def kept(path: Path, make: Callable[[], Curve]) -> Curve:
    """Return the curve in a file, or make it and write the file."""
    if path.is_file():
        return Curve(**json.loads(path.read_text()))
    started = time.process_time()
    made = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dataclasses.asdict(made)))
    print(
        f"{path.parent.name} {path.stem}: {made.spent[-1]:.1f} spent in {len(made.spent)} trials, "
        f"hypervolume {made.final:.4f}, {time.process_time() - started:.0f} s of processor time in all",
        flush=True,
    )
    return made


def run_table(table: Table, seed: int, variants: Sequence[str], out: Path) -> None:
    """Run both samplers of plain Optuna, and variants of the sweep, over a table."""
    for sampler in SAMPLERS:
        path = out / table.name / f"{sampler}-{seed}.json"
        kept(path, partial(search_on_tables.plain, table, seed, TABLE_BUDGET, sampler))
    for name in variants:
        path = out / table.name / f"{name}-{seed}.json"
        budget = round(TABLE_SHARE * TABLE_BUDGET)
        kept(
            path,
            partial(search_on_tables.searched, table, seed, budget, *search_on_tables.VARIANTS[name]),
        )


def run_real(study: StudyFile, variants: Sequence[str], out: Path) -> None:
    """Run both samplers of plain Optuna, and variants of the sweep, on a real question."""
    spent = []
    for sampler in SAMPLERS:
        path = out / study.name / f"{sampler}-{study.seed}.json"
        spent.append(kept(path, partial(search_real.plain, study, sampler)).spent[-1])
    for name in variants:
        path = out / study.name / f"{name}-{study.seed}.json"
        budget_s = search_real.SHARE * min(spent)
        kept(path, partial(search_real.searched, study, search_real.VARIANTS[name], budget_s))


def read(folder: Path) -> dict[str, dict[int, Curve]]:
    """Return the curves of one question by name and seed."""
    found: dict[str, dict[int, Curve]] = {}
    for path in sorted(folder.glob("*.json")):
        name, _, seed = path.stem.rpartition("-")
        found.setdefault(name, {})[int(seed)] = Curve(**json.loads(path.read_text()))
    return found


def quartiles(values: Sequence[float]) -> str:
    """Return the median and the quartiles in words; an infinite value is one that was not reached."""
    low, middle, high = np.quantile(np.array(values), (0.25, 0.5, 0.75), method="nearest").tolist()
    return f"{middle:.3g} ({low:.3g} to {high:.3g})"


def report(folder: Path, best: float | None) -> None:
    """Print what was saved over each sampler, and what each mechanism gives.

    Args:
        best: the hypervolume of the true front; None where it is not known.
    """
    found = read(folder)
    plain = {name: found[name] for name in SAMPLERS if name in found}
    print(f"\n{folder.name}" + ("" if best is None else f": the true front has {best:.4f}"))
    for name, curves in found.items():
        regret = (
            "" if best is None else f"regret {quartiles([1 - c.final / best for c in curves.values()])}, "
        )
        spent = quartiles([c.spent[-1] for c in curves.values()])
        finals = quartiles([c.final for c in curves.values()])
        print(f"  {name:18} {len(curves):2} seeds, {regret}hypervolume {finals} for {spent}")
    for work in (False, True) if best is None else (False,):
        what = "evaluation, pricing included," if work else "training"
        print(f"  times less {what} until the final hypervolume of {' / '.join(plain)}; median (quartiles)")
        for name, curves in found.items():
            if name not in plain:
                print(f"  {name:18} {' / '.join(_savings(curves, rival, work) for rival in plain.values())}")


def _savings(curves: dict[int, Curve], rivals: dict[int, Curve], work: bool) -> str:
    """Return how many times less, over the seeds; 0 where it was not reached at all."""
    ratios = []
    for seed in sorted(set(curves) & set(rivals)):
        rival = rivals[seed]
        reached = curves[seed].reaches(rival.final, work=work)
        total = rival.work[-1] if work else rival.spent[-1]
        ratios.append(0.0 if reached is None else total / reached)
    missed = sum(ratio == 0 for ratio in ratios)
    return quartiles(ratios) + (f", not reached by {missed} of {len(ratios)}" if missed else "")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("part", choices=("tables", "real"))
    parser.add_argument("--tables", type=Path, help="folder of the two tables")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--only", help="one question only")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--first-seed", type=int, default=0, help="seeds on which nothing was chosen")
    parser.add_argument("--variants", default="full", help="of the sweep, with commas; `all`: leave-one-out")
    parser.add_argument("--report", action="store_true")
    given = parser.parse_args()
    seeds = () if given.report else range(given.first_seed, given.first_seed + given.seeds)
    if given.part == "tables":
        names = list(search_on_tables.VARIANTS) if given.variants == "all" else given.variants.split(",")
        for table in (nas_bench_201(given.tables), nas_bench_macro(given.tables)):
            if given.only in (None, table.name):
                for seed in seeds:
                    run_table(table, seed, names, given.out)
                report(given.out / table.name, table.best_hypervolume())
        return
    names = list(search_real.VARIANTS) if given.variants == "all" else given.variants.split(",")
    for name in search_real.STUDIES:
        if given.only in (None, name):
            if seeds:
                search_real.warm_up(search_real.load(name, 0, given.data_root))
            for seed in seeds:
                run_real(search_real.load(name, seed, given.data_root), names, given.out)
            report(given.out / name, None)


if __name__ == "__main__":
    main()
