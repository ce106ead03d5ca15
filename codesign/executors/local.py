"""Worker processes of this machine, each a fresh interpreter, fed one job at a time through a pipe.

A worker publishes its answers itself, so a driver that dies between an answer and its reading loses nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from codesign.errors import CodesignError
from codesign.executors.protocol import Finished
from codesign.jobs import Job
from codesign.run_folder import RunFolder
from codesign.sections.executor import Limits
from search_spaces.choice import JsonValue

_LOOK_S = 1.0  # how often a worker's memory is read: a few microseconds' work


@dataclass(slots=True)
class _Process:
    """One worker process and what it is doing."""

    process: subprocess.Popen[bytes]
    answers: IO[bytes]
    busy: Job | None = None
    since: float = 0.0
    began: bool = False  # it said that it began the job
    ended: str | None = None  # why this executor killed it
    buffer: bytes = b""


class LocalProcesses:
    """Keeps worker processes, replaces those that die, and kills those that break a limit.

    Args:
        workers: how many; one a core where None.
        limits: of one job.
    """

    def __init__(self, folder: RunFolder, workers: int | None, limits: Limits) -> None:
        self._folder = folder
        self._count = workers or len(os.sched_getaffinity(0))
        self._limits = limits
        self._looked = 0.0
        self._queue: deque[Job] = deque()
        self._selector = selectors.DefaultSelector()
        self._processes: list[_Process] = []
        self._deaths_at_start = 0
        for _ in range(self._count):
            self._start()

    @property
    def workers(self) -> int:
        """How many processes there are."""
        return self._count

    def command(self) -> list[str]:
        """Return the program of a worker process."""
        return [sys.executable, "-m", "codesign.worker", str(self._folder.path.resolve())]

    def describe(self) -> JsonValue:
        """Have the first worker describe the networks, and wait for it."""
        first = self._processes[0]
        self._send(first, {"task": "describe"})
        while first in self._processes:
            for key, _ in self._selector.select(timeout=0.2):
                for answer in self._read(key.data):
                    if "layers" in answer:
                        return answer["layers"]
        raise CodesignError(f"a worker process died at its start:\n{self._last_words()}")

    def submit(self, job: Job) -> None:
        """Queue a job and feed whoever is idle."""
        self._queue.append(job)
        self._feed()

    def wait(self, timeout_s: float) -> Finished | None:
        """Return a job that is over, or None after `timeout_s`."""
        self._feed()
        for key, _ in self._selector.select(timeout=timeout_s):
            finished = self._listen(key.data)
            self._feed()
            if finished is not None:
                return finished
        self._enforce()
        return None

    def _listen(self, process: _Process) -> Finished | None:
        """Take in what a worker says, or that it died; return its job if that is over."""
        job, over, crash = process.busy, False, None
        for answer in self._read(process):
            if "began" in answer:
                process.began, process.since = True, time.monotonic()
            over = over or "finished" in answer
        if over:
            self._deaths_at_start = 0
        elif process not in self._processes:
            crash = process.ended or f"its worker process died ({_how(process)})"
        else:
            return None
        process.busy = None
        if job is None:
            return None
        if crash is not None and not process.began and process.ended is None:
            self._queue.appendleft(job)  # no fault of the job, which the worker never saw
            return None
        return Finished(number=job.number, stage=job.stage, crash=crash, again=process.ended is None)

    def running(self) -> tuple[int, ...]:
        """Return the trials that the workers hold."""
        return tuple(process.busy.number for process in self._processes if process.busy is not None)

    def drain(self) -> None:
        """Forget what is queued and not started."""
        self._queue.clear()

    def close(self) -> None:
        """End every worker that this executor started."""
        for process in self._processes:
            process.process.kill()
        for process in self._processes:
            _release(process)
        self._selector.close()
        self._processes = []

    def _start(self) -> None:
        log = (self._folder.path / "workers.log").open("ab")
        process = subprocess.Popen(
            self.command(),
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
                process.since, process.began = time.monotonic(), False
                self._send(process, {"task": "evaluate", "job": process.busy.to_json()})

    @staticmethod
    def _send(process: _Process, task: dict[str, JsonValue]) -> None:
        if process.process.stdin is None:
            return
        try:
            process.process.stdin.write(json.dumps(task).encode() + b"\n")
            process.process.stdin.flush()
        except BrokenPipeError:
            pass  # it is dead: its closed output is the next thing that is read

    def _read(self, process: _Process) -> list[dict[str, JsonValue]]:
        """Return what a worker has said since; a dead one is replaced."""
        chunk = process.answers.read()
        if chunk == b"":
            self._bury(process)
            return []
        *lines, process.buffer = (process.buffer + (chunk or b"")).split(b"\n")
        answers: list[dict[str, JsonValue]] = [json.loads(line) for line in lines]
        for answer in answers:
            if "error" in answer:
                raise CodesignError(str(answer["error"]))
        return answers

    def _bury(self, process: _Process) -> None:
        self._selector.unregister(process.answers)
        self._processes.remove(process)
        _release(process)
        if not process.began:
            self._deaths_at_start += 1
            if self._deaths_at_start > 3 * self._count:
                raise CodesignError(f"worker processes die at their start:\n{self._last_words()}")
        self._start()

    def _enforce(self) -> None:
        """Kill a worker whose job takes too long or too much memory; its end is read as any other."""
        now = time.monotonic()
        if now - self._looked < _LOOK_S:
            return
        self._looked = now
        for process in self._processes:
            if process.busy is None or process.ended is not None:
                continue
            minutes, memory = self._limits.trial_minutes, self._limits.trial_memory_bytes
            if minutes is not None and now - process.since > 60 * minutes:
                process.ended = f"stopped after {minutes:g} minutes, the limit of a trial"
            elif memory is not None and (used := _memory_bytes(process.process.pid)) > memory:
                process.ended = (
                    f"stopped at {used / 2**20:.0f} MiB of memory; the limit of a trial is "
                    f"{memory / 2**20:.0f} MiB"
                )
            if process.ended is not None:
                process.process.kill()

    def _last_words(self) -> str:
        text = (self._folder.path / "workers.log").read_text(encoding="utf-8", errors="replace")
        return text[-2000:]


def _release(process: _Process) -> None:
    """Wait for a dead worker, and close its pipes; a task may still lie in one that nobody reads."""
    process.process.wait()
    process.answers.close()
    if process.process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.process.stdin.close()


def _how(process: _Process) -> str:
    code = process.process.returncode
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _memory_bytes(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:  # it is gone; its closed pipe says so
        return 0
