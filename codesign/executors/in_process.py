"""Evaluates in the driver's own process, one job at a time: simplest, and easiest to debug."""

from __future__ import annotations

from collections import deque

from codesign.executors.protocol import Finished
from codesign.jobs import Job
from codesign.run_folder import RunFolder
from codesign.worker import Worker, evaluate_into
from search_spaces.choice import JsonValue


class InProcess:
    """Evaluates where it is called."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._worker = Worker(folder.study(), cache=folder.cache_path, directory=folder.directory())
        self._queue: deque[Job] = deque()

    @property
    def workers(self) -> int:
        """One."""
        return 1

    def describe(self) -> JsonValue:
        """Return the layers of every network."""
        return self._worker.describe()

    def submit(self, job: Job) -> None:
        """Queue a job."""
        self._queue.append(job)

    def wait(self, timeout_s: float) -> Finished | None:
        """Evaluate the next queued job."""
        if not self._queue:
            return None
        job = self._queue.popleft()
        evaluate_into(self._folder, self._worker, job)
        return Finished(number=job.number, stage=job.stage)

    def running(self) -> tuple[int, ...]:
        """Return nothing: between calls nothing runs."""
        return ()

    def drain(self) -> None:
        """Forget what is queued."""
        self._queue.clear()

    def close(self) -> None:
        """Nothing to stop."""
