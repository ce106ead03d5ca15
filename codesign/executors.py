"""Where trials are evaluated: this process, or worker processes of this machine.

An executor takes trial numbers and gives back, one by one, those that are over. A worker reads the
design from the run folder and publishes the result there itself, so nothing but a number crosses, no code
is pickled, and a worker that outlives its driver does no harm.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from codesign.errors import CodesignError
from codesign.run_folder import RunFolder
from codesign.worker import Worker


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """A trial is over; `crash` says how its worker died where it did not finish."""

    number: int
    crash: str | None = None


class Executor(Protocol):
    """Evaluates trials somewhere."""

    @property
    def workers(self) -> int:
        """How many trials run at once."""
        ...

    def describe(self) -> None:
        """Have `layers.json` written."""
        ...

    def submit(self, number: int) -> None:
        """Queue a trial whose design is in the run folder."""
        ...

    def wait(self, timeout_s: float) -> Finished | None:
        """Return a trial that is over, or None after `timeout_s`."""
        ...

    def running(self) -> tuple[int, ...]:
        """Return the trials that are being evaluated right now."""
        ...

    def drain(self) -> None:
        """Forget what is queued and not started."""
        ...

    def close(self) -> None:
        """Stop everything, at once."""
        ...


class InProcess:
    """Evaluates in this process, one trial at a time: simplest, and easiest to debug."""

    def __init__(self, folder: RunFolder) -> None:
        self._worker = Worker(folder.path)
        self._queue: deque[int] = deque()

    @property
    def workers(self) -> int:
        """One."""
        return 1

    def describe(self) -> None:
        """Have `layers.json` written."""
        self._worker.describe()

    def submit(self, number: int) -> None:
        """Queue a trial."""
        self._queue.append(number)

    def wait(self, timeout_s: float) -> Finished | None:
        """Evaluate the next queued trial."""
        if not self._queue:
            return None
        number = self._queue.popleft()
        self._worker.evaluate(number)
        return Finished(number=number)

    def running(self) -> tuple[int, ...]:
        """Return nothing: between calls nothing runs."""
        return ()

    def drain(self) -> None:
        """Forget what is queued."""
        self._queue.clear()

    def close(self) -> None:
        """Nothing to stop."""


@dataclass(slots=True)
class _Process:
    """One worker process and what it is doing."""

    process: subprocess.Popen[bytes]
    answers: IO[bytes]
    busy: int | None = None
    buffer: bytes = b""


class LocalProcesses:
    """Worker processes, each a fresh interpreter, fed one trial number at a time."""

    def __init__(self, folder: RunFolder, workers: int | None) -> None:
        self._folder = folder
        self._count = workers or len(os.sched_getaffinity(0))
        self._queue: deque[int] = deque()
        self._selector = selectors.DefaultSelector()
        self._processes: list[_Process] = []
        self._deaths_at_start = 0
        for _ in range(self._count):
            self._start()

    @property
    def workers(self) -> int:
        """How many processes there are."""
        return self._count

    def describe(self) -> None:
        """Have the first worker write `layers.json`, and wait for it."""
        first = self._processes[0]
        self._send(first, {"task": "describe"})
        while not self._folder.layers_path.is_file():
            for key, _ in self._selector.select(timeout=0.2):
                self._read(key.data)
            if first not in self._processes:
                raise CodesignError(f"a worker process died at its start:\n{self._last_words()}")

    def submit(self, number: int) -> None:
        """Queue a trial and feed whoever is idle."""
        self._queue.append(number)
        self._feed()

    def wait(self, timeout_s: float) -> Finished | None:
        """Return a trial that is over, or None after `timeout_s`."""
        self._feed()
        for key, _ in self._selector.select(timeout=timeout_s):
            process: _Process = key.data
            finished = self._read(process)
            if finished is not None:
                self._feed()
                return finished
        return None

    def running(self) -> tuple[int, ...]:
        """Return the trials that the workers hold."""
        return tuple(process.busy for process in self._processes if process.busy is not None)

    def drain(self) -> None:
        """Forget what is queued and not started."""
        self._queue.clear()

    def close(self) -> None:
        """End every worker that this executor started."""
        for process in self._processes:
            process.process.kill()
        for process in self._processes:
            process.process.wait()
            process.answers.close()
            if process.process.stdin is not None:
                process.process.stdin.close()
        self._selector.close()
        self._processes = []

    def _start(self) -> None:
        log = (self._folder.path / "workers.log").open("ab")
        process = subprocess.Popen(
            [sys.executable, "-m", "codesign.worker", str(self._folder.path.resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=Path.cwd(),
            env=os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        )
        log.close()
        if process.stdout is None:
            raise CodesignError("a worker process was started without a pipe")
        os.set_blocking(process.stdout.fileno(), False)
        worker = _Process(process=process, answers=process.stdout)
        self._processes.append(worker)
        self._selector.register(process.stdout, selectors.EVENT_READ, data=worker)

    def _feed(self) -> None:
        for process in self._processes:
            if process.busy is None and self._queue:
                process.busy = self._queue.popleft()
                self._send(process, {"task": "evaluate", "number": process.busy})

    @staticmethod
    def _send(process: _Process, task: dict[str, str | int]) -> None:
        if process.process.stdin is None:
            return
        try:
            process.process.stdin.write(json.dumps(task).encode() + b"\n")
            process.process.stdin.flush()
        except BrokenPipeError:
            pass  # it is dead: its closed output is the next thing that is read

    def _read(self, process: _Process) -> Finished | None:
        chunk = process.answers.read()
        if chunk == b"":
            return self._bury(process)
        process.buffer += chunk or b""
        if b"\n" not in process.buffer:
            return None
        line, process.buffer = process.buffer.split(b"\n", 1)
        answer = json.loads(line)
        if "error" in answer:
            raise CodesignError(answer["error"])
        process.busy = None
        return Finished(number=answer["finished"])

    def _bury(self, process: _Process) -> Finished | None:
        """Replace a dead worker, and say which trial it held."""
        self._selector.unregister(process.answers)
        self._processes.remove(process)
        code = process.process.wait()
        if process.busy is None:
            self._deaths_at_start += 1
            if self._deaths_at_start > 3 * self._count:
                raise CodesignError(f"worker processes die at their start:\n{self._last_words()}")
        self._start()
        if process.busy is None:
            return None
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return Finished(number=process.busy, crash=f"its worker process died ({how})")

    def _last_words(self) -> str:
        text = (self._folder.path / "workers.log").read_text(encoding="utf-8", errors="replace")
        return text[-2000:]
