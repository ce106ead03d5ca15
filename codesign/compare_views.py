"""What a comparison says: medians, quartiles and paired differences, as data, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from codesign.compare import Part
from codesign.errors import CodesignError
from codesign.front import front, hypervolume
from codesign.results import TrialState
from codesign.run_folder import RunFolder
from codesign.sections.budget import Budget
from codesign.strategies import DEFINITIONS, Strategy
from codesign.study_file import StudyFile
from codesign.views import reference_of

VERSION = 1
_QUARTILES = (0.25, 0.5, 0.75)


def comparison_view(parts: Sequence[Part], study: StudyFile, budget: Budget) -> dict[str, object]:
    """Return a comparison as JSON data.

    Differences are paired: the first strategy's hypervolume less the other's with the same seed.
    """
    by_strategy = grouped(parts)
    first = next(iter(by_strategy))
    return {
        "version": VERSION,
        "study": study.name,
        "budget": budget.text,
        "objectives": [objective.name for objective in study.objectives],
        "constraints": [constraint.text for constraint in study.constraints],
        "strategies": {
            strategy.value: {
                "definition": DEFINITIONS[strategy],
                "hypervolume": _quartiles([part.volume for part in found]),
            }
            for strategy, found in by_strategy.items()
        },
        "differences": {
            f"{first.value} - {strategy.value}": {
                "hypervolume": _quartiles(differences(by_strategy[first], found)),
                "won": sum(difference > 0 for difference in differences(by_strategy[first], found)),
                "lost": sum(difference < 0 for difference in differences(by_strategy[first], found)),
            }
            for strategy, found in by_strategy.items()
            if strategy is not first and differences(by_strategy[first], found)
        },
        "parts": [asdict(part) | {"strategy": part.strategy.value} for part in parts],
    }


def grouped(parts: Sequence[Part]) -> dict[Strategy, list[Part]]:
    """Return the parts by strategy, in the order in which strategies come first."""
    found: dict[Strategy, list[Part]] = {}
    for part in parts:
        found.setdefault(part.strategy, []).append(part)
    return found


def differences(ours: Sequence[Part], theirs: Sequence[Part]) -> list[float]:
    """Return by how much one strategy's hypervolume exceeds another's, seed by seed."""
    known = {part.seed: part.volume for part in theirs}
    return [part.volume - known[part.seed] for part in ours if part.seed in known]


def _quartiles(values: Sequence[float]) -> dict[str, float]:
    low, median, high = np.quantile(np.array(values), _QUARTILES).tolist()
    return {"lower_quartile": low, "median": median, "upper_quartile": high}


def comparison_table(parts: Sequence[Part], study: StudyFile, budget: Budget) -> Table:
    """Return a comparison as a table, one row a strategy."""
    by_strategy = grouped(parts)
    first = next(iter(by_strategy))
    table = Table(title=f"{study.name}, {budget.text} each", title_justify="left", box=SIMPLE_HEAD)
    for label in ("strategy", "seeds", "hypervolume", "quartiles", f"{first.value} has more by", "quartiles"):
        table.add_column(label, justify="left" if label == "strategy" else "right")
    for label in ("wins", "trials", "gated", "training"):
        table.add_column(label, justify="right")
    for strategy, found in by_strategy.items():
        table.add_row(strategy.value, str(len(found)), *_volumes(found), *_rivalry(by_strategy[first], found))
    return table


def _volumes(found: Sequence[Part]) -> tuple[str, str]:
    low, median, high = np.quantile([part.volume for part in found], _QUARTILES).tolist()
    return f"{median:.4f}", f"{low:.4f} to {high:.4f}"


def _rivalry(first: Sequence[Part], found: Sequence[Part]) -> tuple[str, ...]:
    """Return the paired differences to the first strategy, and what the budget was spent on."""
    effort = (
        f"{np.median([part.trials for part in found]):.0f}",
        f"{np.median([part.gated for part in found]):.0f}",
        f"{np.median([part.training_s for part in found]) / 60:.1f} min",
    )
    gains = differences(first, found)
    if first is found or not gains:
        return ("", "", "", *effort)
    low, median, high = np.quantile(gains, _QUARTILES).tolist()
    won = f"{sum(gain > 0 for gain in gains)} of {len(gains)}"
    return (f"{median:+.4f}", f"{low:+.4f} to {high:+.4f}", won, *effort)


def runs_view(folders: Sequence[RunFolder]) -> dict[str, object]:
    """Return the hypervolumes of several runs in one box, that of the first run's reference design.

    Raises:
        CodesignError: the first run has no scored reference design, or another one lacks an objective.
    """
    study = folders[0].study()
    reference = reference_of(folders[0].results())
    if reference is None:
        raise CodesignError(f"{folders[0].path} has no scored reference design, so there is no box")
    rows = []
    for folder in folders:
        results = folder.results()
        own = {objective.name for objective in folder.study().objectives}
        lacking = [objective.name for objective in study.objectives if objective.name not in own]
        if lacking:
            raise CodesignError(
                f"runs are compared by the objectives of the first, but {folder.path} has no "
                f"{', no '.join(lacking)}"
            )
        members = front(results, study.objectives)
        rows.append(
            {
                "run": str(folder.path),
                "study": folder.study().name,
                "seed": folder.study().seed,
                "hypervolume": hypervolume(members, study.objectives, reference),
                "front": len(members),
                "trials": len(results),
                "trained": sum(r.state is TrialState.COMPLETED and not r.cached for r in results),
                "training_s": sum(_training_s(folder, result.trial, result.stage) for result in results),
            }
        )
    return {"version": VERSION, "reference": str(folders[0].path), "runs": rows}


def _training_s(folder: RunFolder, trial: int, stage: int) -> float:
    answers = [folder.answer(trial, number) for number in range(stage + 1)]
    return sum(answer.seconds.get("training", 0.0) for answer in answers if answer is not None)


def runs_table(folders: Sequence[RunFolder]) -> Table:
    """Return the same as a table."""
    view = runs_view(folders)
    rows = view["runs"]
    assert isinstance(rows, list)
    table = Table(title=f"in the box of {view['reference']}", title_justify="left", box=SIMPLE_HEAD)
    for label in ("run", "study", "seed", "hypervolume", "less than the first", "front", "trials", "trained"):
        table.add_column(label, justify="left" if label in ("run", "study") else "right")
    table.add_column("training", justify="right")
    for row in rows:
        table.add_row(
            row["run"],
            row["study"],
            str(row["seed"]),
            f"{row['hypervolume']:.4f}",
            "" if row is rows[0] else f"{rows[0]['hypervolume'] - row['hypervolume']:+.4f}",
            str(row["front"]),
            str(row["trials"]),
            str(row["trained"]),
            f"{row['training_s'] / 60:.1f} min",
        )
    return table
