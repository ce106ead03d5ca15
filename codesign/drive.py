"""One driver session: lock, workers, storage, sweep, and the pages that are written at its end."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from codesign.errors import RunFolderError
from codesign.executors import Executor, InProcess, LocalProcesses
from codesign.files import write_atomic, write_json
from codesign.layers import read_layers
from codesign.run_folder import RunFolder, create
from codesign.storage import open_storage
from codesign.study_file import StudyFile
from codesign.sweep import Stop, Sweep, Tick
from codesign.trial_book import TrialBook
from codesign.views import front_view

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
    folder = create(path, study, command)
    try:
        return folder, drive(folder, study, watch)
    except BaseException:
        if not folder.asked():
            shutil.rmtree(path, ignore_errors=True)
            if not fresh:
                path.mkdir()  # it was the user's empty folder before
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
    with folder.driver_lock():
        folder.check_unchanged(study)
        executor = _executor(folder, study)
        try:
            with _interruptible() as stop:
                _describe(folder, executor)
                storage = open_storage(study.storage, folder.journal_path)
                book = TrialBook(
                    study,
                    storage,
                    read_layers(folder.layers_path),
                    study.budget.trials,
                    name=folder.storage_name(study),
                )
                sweep = Sweep(
                    folder=folder,
                    book=book,
                    executor=executor,
                    planned=study.budget.trials,
                    window=study.sampler.window,
                    watch=watch,
                    stop=stop,
                )
                told = book.told
                complete = sweep.run()
        finally:
            executor.close()
        _log(folder, started, time.monotonic() - wall, executor.workers, told)
        write_pages(folder, study)
    return complete


def write_pages(folder: RunFolder, study: StudyFile) -> None:
    """Write `front.json` and `report.html` from what stands in the folder."""
    from codesign.report import render
    from codesign.report_data import report_data

    write_json(folder.front_path, front_view(folder, study))
    write_atomic(folder.report_path, render(report_data(folder, study)))


def _executor(folder: RunFolder, study: StudyFile) -> Executor:
    if study.executor.in_process or study.executor.local is None:
        return InProcess(folder)
    return LocalProcesses(folder, study.executor.local.workers)


def _describe(folder: RunFolder, executor: Executor) -> None:
    """Have the networks described, which also finds the data."""
    if not folder.layers_path.is_file():
        executor.describe()


def _log(folder: RunFolder, started: datetime, wall_s: float, workers: int, told_before: int) -> None:
    """Append the session: how long it took, and how much of that was evaluation."""
    busy = sum(result.seconds.get("total", 0.0) for result in folder.results() if result.trial >= told_before)
    folder.log_session(
        {
            "started": started.isoformat(timespec="seconds"),
            "wall_s": wall_s,
            "workers": workers,
            "evaluation_s": busy,
            "overhead": max(0.0, 1.0 - busy / (wall_s * workers)),
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


def grow_budget(folder: RunFolder, study: StudyFile, trials: int | None) -> StudyFile:
    """Return the study with a larger budget, and write it down.

    Raises:
        RunFolderError: the budget would shrink below what was drawn.
    """
    if trials is None or trials == study.budget.trials:
        return study
    folder.check_unchanged(study)
    if folder.is_driven():
        raise RunFolderError(
            f"{folder.path} is driven by another process: wait for it before changing its budget"
        )
    asked = len(folder.asked())
    if trials < asked:
        raise RunFolderError(
            f"`--trials` counts all trials of the study and may not be below the {asked} already drawn, "
            f"but got {trials}"
        )
    grown = study.model_copy(update={"budget": study.budget.model_copy(update={"trials": trials})})
    write_atomic(folder.study_path, grown.to_yaml())
    return grown
