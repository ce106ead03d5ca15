"""Joint against sequential search at equal training budget: every strategy, every seed, one run folder each.

A comparison that was stopped or killed goes on where it was: each part is an ordinary run.
"""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from codesign.budget import share_of_training
from codesign.drive import adopt, drive
from codesign.errors import CodesignError, RunFolderError
from codesign.files import read_json, write_json
from codesign.front import front, hypervolume
from codesign.results import TrialResult, TrialState
from codesign.run_folder import RunFolder, create, open_run
from codesign.sections.budget import Budget
from codesign.sections.goals import Constraint
from codesign.strategies import Strategy, choosing_chips, chosen_chips, compressing, on_chips, prepared
from codesign.study_file import StudyFile
from codesign.sweep import Tick
from codesign.views import reference_of
from codesign.warm_start import assignments_of, keep_first
from evaluators.scores import Source
from search_spaces.accelerator import AcceleratorChoice
from search_spaces.choice import JsonValue, from_json, to_json

_DONE = "compared"  # the manifest's entry of a part that came to its end
Watch = Callable[[Tick], None]
Announce = Callable[[str], Watch]
"""Called with the name of every run before it is driven; what it returns watches that run."""


class ComparisonStoppedError(CodesignError):
    """The user stopped a comparison; the same command goes on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """One trial that was counted, and what training had taken once it was told."""

    result: TrialResult
    training_s: float
    trainings: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One strategy with one seed.

    Args:
        series: (budget spent, hypervolume) after every trial that added some, and at the end.
        volume: hypervolume at the end of the budget.
        training_s: seconds of training within the budget.
        trainings: whole trainings within the budget.
        trials: trials within the budget, and how many of them were gated.
        members: designs of the front.
    """

    strategy: Strategy
    seed: int
    series: tuple[tuple[float, float], ...]
    volume: float
    training_s: float
    trainings: float
    trials: int
    gated: int
    members: int


def budget_of(study: StudyFile, minutes: float | None, trainings: int | None) -> Budget:
    """Return what each strategy may spend on training: as asked for, else as the study's own budget says.

    Raises:
        CodesignError: both are given, or the study's budget is in wall time alone.
    """
    if minutes is not None and trainings is not None:
        raise CodesignError("a comparison has one budget: give --minutes or --trials, not both")
    if minutes is not None and not 0 < minutes < math.inf:
        raise CodesignError(f"--minutes must be a finite number above 0, but got {minutes:g}")
    if minutes is not None:
        return Budget(training_minutes=minutes)
    if trainings is None and study.budget.training_minutes is not None:
        return Budget(training_minutes=study.budget.training_minutes)
    trainings = trainings or study.budget.trainings or study.budget.trials
    if trainings is None:
        raise CodesignError(
            "strategies are compared at equal training budgets, but the study's is in wall time alone: "
            "give --minutes or --trials"
        )
    return Budget(trainings=trainings)


def run_part(
    strategy: Strategy, study: StudyFile, seed: int, budget: Budget, out: Path, announce: Announce
) -> Part:
    """Run one strategy with one seed to the end of its budget, from wherever it stands.

    Raises:
        ComparisonStoppedError: the user stopped it.
        CodesignError: nothing can be compared in this study, or a run cannot be driven.
    """
    if study.dataset.shapes is not None or all(o.kind.source is not Source.COST for o in study.objectives):
        raise CodesignError(
            "strategies are compared by what they find for equal training: the study needs a data set with "
            "examples, and a cost among its objectives"
        )
    whole = prepared(study, seed, budget)
    path = out / f"{strategy.value}-{seed}"
    match strategy:
        case Strategy.JOINT:
            told = within(_driven(path, whole, announce), whole, budget)
            return _part(strategy, whole, told, ())
        case Strategy.HARDWARE_FIRST:
            chips = _chips(out / f"chips-{seed}.json", whole)
            second = on_chips(whole, chips)
            return _part(strategy, whole, within(_driven(path, second, announce), second, budget), ())
        case Strategy.COMPRESS_FIRST:
            first = compressing(whole)
            folder = _driven(path, first, announce)
            told = within(folder, first, budget)
            priced = _on_all_chips(out / f"{path.name}-chips", whole, first, folder, told, announce)
            return _part(strategy, whole, told, priced)


def within(folder: RunFolder, study: StudyFile, budget: Budget) -> tuple[Spent, ...]:
    """Return the trials that a budget paid for, in their order; what was in flight at its end is left out."""
    found: list[Spent] = []
    seconds = trainings = 0.0
    for result in folder.results():
        answers = [folder.answer(result.trial, stage) for stage in range(result.stage + 1)]
        known = [answer for answer in answers if answer is not None]
        seconds += sum(answer.seconds.get("training", 0.0) for answer in known)
        trainings += sum(share_of_training(answer, study) for answer in known)
        if trainings > (budget.trainings or trainings) + 1e-9:
            break
        if seconds > 60 * (budget.training_minutes or seconds) and found:
            break
        found.append(Spent(result=result, training_s=seconds, trainings=trainings))
    return tuple(found)


def _driven(path: Path, study: StudyFile, announce: Announce) -> RunFolder:
    """Return the run folder of a study that was driven to its end, now or before."""
    if (path / "manifest.json").is_file():
        folder = open_run(path)
        folder.check_unchanged(study)
        if folder.manifest().get(_DONE) == study.budget.text:
            return folder
        adopt(folder, study)
    else:
        shutil.rmtree(path, ignore_errors=True)  # of a run that was killed before it had begun
        folder = create(path, study, " ".join(sys.argv))
    _drive(folder, study, announce)
    folder.note(_DONE, study.budget.text)
    return folder


def _drive(folder: RunFolder, study: StudyFile, announce: Announce) -> None:
    if not drive(folder, study, announce(folder.path.name)):
        raise ComparisonStoppedError("stopped; nothing that was finished is lost: the same command goes on")


def _chips(path: Path, study: StudyFile) -> tuple[AcceleratorChoice, ...]:
    """Return the chips of `hardware_first`, and keep them in a file."""
    if not path.is_file():
        write_json(path, [to_json(chip) for chip in chosen_chips(study)])
    found = read_json(path)
    chips = [from_json(data) for data in cast("list[JsonValue]", found if isinstance(found, list) else [])]
    known = tuple(chip for chip in chips if isinstance(chip, AcceleratorChoice))
    if not known or len(known) != len(chips):
        raise RunFolderError(f"{path} is not a list of accelerators: remove it, and they are chosen again")
    return known


def _on_all_chips(
    path: Path,
    whole: StudyFile,
    first: StudyFile,
    trained: RunFolder,
    told: Sequence[Spent],
    announce: Announce,
) -> tuple[TrialResult, ...]:
    """Price the trained front of `compress_first` on every accelerator; nothing is trained.

    What an interrupted or smaller comparison left of it is made again, for it takes seconds.
    """
    members = front([spent.result for spent in told], first.objectives)
    searched = [member for member in members if member.trial > 0]  # the reference is trial 0 here as there
    study = choosing_chips(whole, len(searched))
    if (path / "manifest.json").is_file() and open_run(path).manifest().get(_DONE) == whole.budget.text:
        folder = open_run(path)
        folder.check_unchanged(study)
        return folder.results()
    shutil.rmtree(path, ignore_errors=True)
    folder = create(path, study, " ".join(sys.argv))
    folder.cache_path.symlink_to(Path("..") / trained.path.name / trained.cache_path.name)
    keep_first(folder, assignments_of(trained, searched))
    _drive(folder, study, announce)
    folder.note(_DONE, whole.budget.text)
    return folder.results()


def _part(strategy: Strategy, study: StudyFile, told: Sequence[Spent], priced: Sequence[TrialResult]) -> Part:
    """Measure what was found.

    Args:
        told: the trials that the budget paid for.
        priced: what came of them for nothing at the end.
    """
    reference = reference_of([spent.result for spent in told])
    in_minutes = study.budget.training_minutes is not None
    kept: tuple[TrialResult, ...] = ()
    series: list[tuple[float, float]] = []
    for spent in told:
        kept = front([*kept, *_feasible(spent.result, study.constraints)], study.objectives)
        volume = hypervolume(kept, study.objectives, reference)
        if not series or volume > series[-1][1] or spent is told[-1]:
            series.append((spent.training_s / 60 if in_minutes else spent.trainings, volume))
    free = [variant for result in priced for variant in _feasible(result, study.constraints)]
    kept = front([*kept, *free], study.objectives)
    volume = hypervolume(kept, study.objectives, reference)
    series.append((series[-1][0] if series else 0.0, volume))
    return Part(
        strategy=strategy,
        seed=study.seed,
        series=tuple(series),
        volume=volume,
        training_s=told[-1].training_s if told else 0.0,
        trainings=told[-1].trainings if told else 0.0,
        trials=len(told),
        gated=sum(spent.result.state is TrialState.GATED for spent in told),
        members=len(kept),
    )


def _feasible(result: TrialResult, constraints: Sequence[Constraint]) -> list[TrialResult]:
    """Return a trial's designs that keep all constraints of the study, waiting ones included."""
    return [
        variant
        for variant in result.variants()
        if variant.feasible and all(c.violation(variant.scores[c.score]) <= 0 for c in constraints)
    ]
