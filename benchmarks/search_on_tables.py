"""The sweep and plain Optuna over a table; one unit is one network trained."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from optuna.storages import InMemoryStorage

from benchmarks.search_rivals import SAMPLERS, Curve, Evaluated, curve, plain_optuna
from benchmarks.search_tables import UNIT_S, Mechanisms, Table, TableExecutor
from codesign.budget import Meter
from codesign.halving import Halving
from codesign.results import TrialResult
from codesign.run_folder import create
from codesign.sections.budget import Budget
from codesign.sections.search import HardwareSweep, Sampler
from codesign.sweep import Sweep
from codesign.trial_book import TrialBook
from search_spaces.design import Design

# The search with everything, and with one thing less each.
FULL = Sampler(name="tpe", candidates=32, window=1)
VARIANTS: Mapping[str, tuple[Mechanisms, Sampler]] = {
    "full": (Mechanisms(), FULL),
    "no gate": (Mechanisms(gate=False), FULL),
    "no cache": (Mechanisms(cache=False), FULL),
    "no hardware sweep": (Mechanisms(hardware_sweep=False), FULL),
    "no predictor": (Mechanisms(), FULL.model_copy(update={"candidates": 1})),
}


def searched(table: Table, seed: int, budget: int, mechanisms: Mechanisms, sampler: Sampler) -> Curve:
    """Run the sweep over a table until so many networks are trained."""
    study = table.study.model_copy(
        update={
            "seed": seed,
            "sampler": sampler,
            "budget": Budget(training_minutes=budget * UNIT_S / 60, trials=40 * budget),
            "hardware_sweep": HardwareSweep(designs=len(table.devices))
            if mechanisms.hardware_sweep
            else None,
        }
    )
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        folder = create(Path(name) / "run", study, "benchmark")
        results: list[TrialResult] = []
        sweep = Sweep(
            folder=folder,
            book=TrialBook(study, table.space, InMemoryStorage()),
            executor=TableExecutor(folder=folder, table=table, study=study, mechanisms=mechanisms),
            halving=Halving(study=study),
            meter=Meter(study=study),
            window=sampler.window,
            ordered=True,
            watch=lambda tick: results.extend(tick.fresh),
        )
        sweep.run()
    spent = [result.seconds.get("training", 0.0) / UNIT_S for result in results]
    return curve(results, spent, spent, study.objectives, table.result(0, *table.reference))


def plain(table: Table, seed: int, budget: int, sampler: str) -> Curve:
    """Run plain Optuna over a table, one training a trial."""
    study = table.study
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        folder = create(Path(name) / "run", study, "benchmark")
        answers = TableExecutor(
            folder=folder,
            table=table,
            study=study,
            mechanisms=Mechanisms(gate=False, cache=False, hardware_sweep=False),
        )

        def evaluate(number: int, design: Design) -> Evaluated:
            result = answers.evaluate(number, design)
            spent = result.seconds.get("training", 0.0) / UNIT_S
            return Evaluated(result=result, spent=spent, work=spent)

        done = plain_optuna(study, table.space, evaluate, SAMPLERS[sampler](seed), training=budget)
    spent = [one.spent for one in done]
    reference = table.result(0, *table.reference)
    return curve([one.result for one in done], spent, spent, study.objectives, reference)
