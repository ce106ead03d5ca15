"""One driver session: lock, workers, storage, sweep, and the pages that are written at its end."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from optuna.storages import BaseStorage

from codesign.alike import alike
from codesign.budget import Meter
from codesign.collector import without_collector
from codesign.errors import RunFolderError
from codesign.executors import Executor, InProcess, LocalProcesses
from codesign.files import write_atomic, write_json
from codesign.halving import Halving
from codesign.layers import read_layers
from codesign.masking import has_login
from codesign.run_folder import RunFolder, create
from codesign.search_space import space_of
from codesign.storage import check_reachable, move_trials, open_storage
from codesign.study_file import StudyFile
from codesign.study_reader import parse_study
from codesign.sweep import Stop, Sweep, Tick
from codesign.trial_book import TrialBook
from codesign.views import front_view
from codesign.warm_start import read_first, write_first

Watch = Callable[[Tick], None]


def start(path: Path, study: StudyFile, command: str, watch: Watch) -> tuple[RunFolder, bool]:
    """Make a run folder and drive it; one that fails before its first trial leaves no trace.

    Returns:
        The folder, and whether the plan was completed.

    Raises:
        RunFolderError: the folder exists already.
        ValueError: as `drive`, and the floors' own errors for data and networks.
    """
    fresh = not path.exists()
    made = [parent for parent in path.parents if not parent.exists()]
    folder = create(path, study, command)
    try:
        if study.warm_start is not None:
            write_first(folder, study.warm_start)
        return folder, drive(folder, study, watch)
    except BaseException:
        if not folder.asked():
            shutil.rmtree(path, ignore_errors=True)
            if not fresh:
                path.mkdir()  # it was the user's empty folder before
            for parent in made:
                with suppress(OSError):  # somebody else has put something there
                    parent.rmdir()
        raise


def drive(folder: RunFolder, study: StudyFile, watch: Watch) -> bool:
    """Run the study in its folder to the end of its budget, from wherever it stands.

    Returns:
        True when the plan was completed, False when the user stopped it before.

    Raises:
        CodesignError: another driver holds the folder, the storage or the workers fail, the data is
            missing. Everything that was finished stays, and `resume` continues.
    """
    started, wall = datetime.now(UTC), time.monotonic()
    _check_shared_cache(study)
    with folder.driver_lock():
        folder.check_unchanged(study)
        storage = open_storage(study.storage, folder.journal_path)  # before anything that takes long
        executor = open_executor(folder, study)
        try:
            with _interruptible() as stop:
                if not folder.layers_path.is_file():
                    write_json(folder.layers_path, executor.describe())
                sweep = open_sweep(folder, study, executor, watch, stop, storage)
                complete = sweep.run()
        finally:
            executor.close()
        _log(folder, started, time.monotonic() - wall, executor.workers, sweep.busy_s)
        write_pages(folder, study)
    return complete


def _check_shared_cache(study: StudyFile) -> None:
    """Refuse a shared cache that cannot be written, which would otherwise share nothing and say nothing."""
    cache = study.shared_cache
    if cache is None:
        return
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"shared_cache: {cache} cannot be made: {error.strerror}") from None
    if not os.access(cache, os.W_OK):
        raise RunFolderError(f"shared_cache: {cache} cannot be written by this user")


def open_sweep(
    folder: RunFolder,
    study: StudyFile,
    executor: Executor,
    watch: Watch,
    stop: Stop | None = None,
    storage: BaseStorage | None = None,
) -> Sweep:
    """Return the sweep of a run folder, ready to go on from wherever the folder stands.

    Call it with the driver lock held.

    Args:
        storage: the study's own, where it is open already.
    """
    space = space_of(study, read_layers(folder.layers_path))
    name = folder.storage_name(study)
    first = (*read_first(folder), *alike(space, study.sampler.alike, study.seed))
    with without_collector():
        storage = storage or open_storage(study.storage, folder.journal_path)
        move_trials(folder, study, storage, name)
        book = TrialBook(study, space, storage, name=name, first=first)
    return Sweep(
        folder=folder,
        book=book,
        executor=executor,
        halving=Halving(study=study),
        meter=Meter(study=study, wall_before_s=folder.wall_s()),
        window=study.sampler.window,
        ordered=study.sampler.deterministic,
        watch=watch,
        stop=stop or Stop(),
    )


def write_pages(folder: RunFolder, study: StudyFile) -> None:
    """Write `front.json` and `report.html` from what stands in the folder.

    Where the page opens with chips that hardware sweeps found, their energy is worked out first.
    """
    from codesign.report import render
    from codesign.report_data import opened_with, report_data

    write_json(folder.front_path, front_view(folder, study))
    data = report_data(folder, study)
    write_atomic(folder.report_path, render(data))
    missing = [label for label in opened_with(data) if not folder.ledger_path(label).is_file()]
    if any("." in label for label in missing):
        from codesign.chip_ledgers import write_ledgers  # torch: seconds, so only where there is need

        write_ledgers(folder, study, missing)
        write_atomic(folder.report_path, render(report_data(folder, study)))


def open_executor(folder: RunFolder, study: StudyFile) -> Executor:
    """Start what evaluates the trials of a study.

    Raises:
        CodesignError: it cannot be started or reached.
    """
    if study.executor.ray is not None:
        from codesign.executors.ray_cluster import RayCluster  # Ray takes seconds to import

        return RayCluster(folder, study.executor.ray)
    if study.executor.in_process or study.executor.local is None:
        return InProcess(folder)
    return LocalProcesses(folder, study.executor.local.workers, limits=study.executor.local)


def _log(folder: RunFolder, started: datetime, wall_s: float, workers: int, busy_s: float) -> None:
    """Append the session: how long it took, and how much of that was evaluation."""
    folder.log_session(
        {
            "started": started.isoformat(timespec="seconds"),
            "wall_s": wall_s,
            "workers": workers,
            "evaluation_s": busy_s,
            "overhead": max(0.0, 1.0 - busy_s / (wall_s * workers)),
        }
    )


@contextmanager
def _interruptible() -> Iterator[Stop]:
    """Ctrl-C once asks the sweep to finish what runs; twice (or a SIGTERM) stops it at once."""
    stop = Stop()

    def ask(signum: int, frame: FrameType | None) -> None:
        if stop.requested or signum == signal.SIGTERM:
            raise KeyboardInterrupt
        stop.requested = True

    try:
        previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals are somebody else's
        yield stop
        return
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def change(folder: RunFolder, overrides: Sequence[str]) -> StudyFile:
    """Return the study of a run with its budget, storage, executor or data folder changed, and write it down.

    Raises:
        StudyFileError: an override is wrong.
        RunFolderError: something else would change, the run is driven, or the budget would fall below what
            was drawn or spent.
    """
    old = folder.study()
    if not overrides:
        return old
    study = parse_study(old.to_yaml(), str(folder.study_path), overrides)
    return adopt(folder, study)


def adopt(folder: RunFolder, study: StudyFile) -> StudyFile:
    """Write down, in a run that nobody drives, a study that asks the same question; see `change`."""
    if study == folder.study():
        return study
    folder.check_unchanged(study)
    if folder.is_driven():
        raise RunFolderError(
            f"{folder.path} is driven by another process: wait for it before changing its study"
        )
    asked, trials = len(folder.asked()), study.budget.trials
    if trials is not None and trials < asked:
        raise RunFolderError(
            f"`--trials` counts all trials of the study and may not be below the {asked} already drawn, "
            f"but got {trials}"
        )
    _check_spent(folder, study)
    check_reachable(study.storage)
    write_atomic(folder.study_path, study.to_yaml(), private=has_login(study.storage))
    return study


def _check_spent(folder: RunFolder, study: StudyFile) -> None:
    """Refuse to lower a budget below what was spent; what was in flight may have overshot it."""
    meter, old, new = Meter(study=study), folder.study().budget, study.budget
    for number in folder.asked():
        for answer in folder.answers(number):
            meter.count(answer)
    for name, before, limit, spent in (
        ("trainings", old.trainings, new.trainings, meter.trainings),
        ("training_minutes", old.training_minutes, new.training_minutes, meter.training_s / 60),
        ("wall_minutes", old.wall_minutes, new.wall_minutes, folder.wall_s() / 60),
    ):
        lowered = limit is not None and (before is None or limit < before)
        if lowered and limit is not None and limit < spent - 1e-9:
            raise RunFolderError(
                f"`budget.{name}` counts all {name.replace('_', ' ')} of the run and may not be below the "
                f"{spent:.4g} already spent, but got {limit:g}"
            )
