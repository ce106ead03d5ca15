"""Evaluates jobs of one study; as a program (`python -m codesign.worker DIR`), on order.

It reads one JSON task a line from its standard input and answers one line each. Whatever user code prints
goes to the log. It ends when its input ends, and (on Linux) when its driver dies.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from codesign.errors import MachineError
from codesign.jobs import Answer, Job, deliver, job_from_json
from codesign.run_folder import RunFolder, open_run
from codesign.study_file import StudyFile
from search_spaces.choice import JsonValue
from search_spaces.design import design_from_json

if TYPE_CHECKING:
    from codesign.problem import Problem
    from evaluators.cache import Entry

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


class Describes(Protocol):
    """Whoever knows the networks of a study."""

    def describe(self) -> JsonValue:
        """Return the layers of every network of the space."""
        ...


class Worker:
    """Evaluates jobs; what is costly to load is loaded once.

    Args:
        cache: folder of trained halves.
        directory: where the user's `module:callable` was found when the run began.
    """

    def __init__(self, study: StudyFile, *, cache: Path, directory: str) -> None:
        if directory and directory not in sys.path:
            sys.path.append(directory)
        self._study = study
        self._cache = cache
        self._loaded: Problem | None = None

    def _problem(self) -> Problem:
        if self._loaded is None:
            from codesign.problem import Problem

            self._loaded = Problem(self._study, cache=self._cache)
        return self._loaded

    def warm_up(self) -> None:
        """Import and read what every trial needs, while the driver is still busy; problems wait."""
        with contextlib.suppress(
            Exception, SystemExit
        ):  # said where it matters: when the networks are described
            from evaluators.cost.compiled import is_compiled

            bench = self._problem().bench
            if bench.can_train:
                _ = bench.splits
            if is_compiled():
                return
            # The first worker after an installation compiles the cost model; the others wait and read it.
            lock = Path(tempfile.gettempdir()) / f"codesign-warm-up-{os.getuid()}.lock"
            with lock.open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                bench.warm_up()

    def describe(self) -> JsonValue:
        """Return the layers of every network of the space."""
        return self._problem().describe_all()

    def entries(self, job: Job) -> tuple[Entry, ...]:
        """Return where the cache keeps what the job's training makes."""
        return self._problem().bench.entries(design_from_json(job.design).algorithm)

    def evaluate(self, job: Job) -> Answer:
        """Evaluate one job; a failure is a result with a reason.

        Raises:
            MachineError: the disk is full, or cannot be written.
        """
        from codesign.problem import failure_to_result

        design = design_from_json(job.design)
        try:
            return self._problem().answer(job.number, design, job.stage)
        except (Exception, SystemExit) as error:  # whatever a user's code does, the sweep goes on
            traceback.print_exc()
            blame_the_machine(error)
            reason = f"{type(error).__name__}: {error}"
            return Answer(result=failure_to_result(job.number, design, reason, stage=job.stage))


def blame_the_machine(error: BaseException) -> None:
    """Do nothing, but where an error comes of a disk that is full or cannot be written.

    Raises:
        MachineError: it does.
    """
    cause: BaseException | None = error
    while cause is not None:
        number = cause.errno if isinstance(cause, OSError) else None
        # safetensors says what the system said, and torch may say nothing but raise from what it was told.
        said = any(f"(os error {fault})" in str(cause) for fault in _DISK_FAULTS)
        if number in _DISK_FAULTS or said or isinstance(cause, MachineError):
            raise MachineError(
                f"a design cannot be evaluated here: {cause}. Nothing is recorded of it, and nothing that "
                "was finished is lost: make room, then `cosearch resume` continues"
            ) from error
        cause = cause.__cause__ or cause.__context__


def evaluate_into(folder: RunFolder, worker: Worker, job: Job) -> None:
    """Evaluate a job, and publish its answer in the run folder.

    Raises:
        MachineError: the disk is full, or cannot be written.
    """
    try:
        deliver(folder, worker.evaluate(job))
    except MachineError:
        raise
    except Exception as error:
        blame_the_machine(error)
        raise


def main(path: str) -> None:
    """Serve tasks until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to answer
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1, encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    import torch

    torch.set_num_threads(1)
    folder = open_run(Path(path))
    worker = Worker(folder.study(), cache=folder.cache_path, directory=folder.directory())
    worker.warm_up()
    for line in sys.stdin:
        task = json.loads(line)
        if task["task"] == "describe":
            answers.write(json.dumps(described(worker)) + "\n")
        else:
            job = job_from_json(task["job"])
            answers.write(json.dumps({"began": job.number}) + "\n")
            try:
                evaluate_into(folder, worker, job)
            except MachineError as error:
                answers.write(json.dumps({"error": str(error)}) + "\n")
                continue
            answers.write(json.dumps({"finished": job.number}) + "\n")


def described(worker: Describes) -> dict[str, JsonValue]:
    """Return the layers, or the `error` that kept them from being known: data, networks, user code."""
    try:
        return {"layers": worker.describe()}
    except (Exception, SystemExit) as error:  # the driver says it
        traceback.print_exc()
        return {"error": str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    main(sys.argv[1])
