"""What runs on a cluster: one worker, which evaluates one job at a time and tells what is new meanwhile.

A job is evaluated in a thread of its own, so that its worker can go on telling: checkpoints as they are
written, that a limit is broken, and at last the answer with everything that training made. Nobody here sees
the driver's disk; the cache is a temporary folder that the workers of one node and one run share.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import psutil

from codesign.executors.parcels import Parcel, Stamp, pack, stamps, unpack
from codesign.jobs import Answer, Job
from codesign.sections.executor import Limits
from codesign.study_file import StudyFile
from codesign.study_reader import parse_study
from codesign.worker import blame_the_machine, described
from evaluators.cache import Entry
from search_spaces.choice import JsonValue

LOOK_S = 1.0  # how often a running job is looked at: memory, time, and what is new in the cache
_SHARE = 20  # handing checkpoints over takes at most one part in this many of a job's time


class Evaluates(Protocol):
    """What a worker does with a job; `codesign.worker.Worker` is the one that trains."""

    def warm_up(self) -> None:
        """Load what every job needs."""
        ...

    def describe(self) -> JsonValue:
        """Return the layers of every network of the space."""
        ...

    def evaluate(self, job: Job) -> Answer:
        """Evaluate one job; a failure is a result with a reason."""
        ...

    def entries(self, job: Job) -> tuple[Entry, ...]:
        """Return where the cache keeps what the job's training makes."""
        ...


class Make(Protocol):
    """Makes what evaluates; a class or a function that the nodes can import, as no code is sent."""

    def __call__(self, study: StudyFile, *, cache: Path, directory: str) -> Evaluates: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What a worker is told at its start.

    Args:
        study: the resolved study file, as YAML.
        run_id: of the run; workers of one node and one run share their cache.
        limits: of one job.
    """

    study: str
    run_id: str
    limits: Limits
    make: Make


@dataclass(frozen=True, kw_only=True, slots=True)
class News:
    """What a worker has to tell of its job.

    Args:
        answer: the job is over (`Answer.to_text`).
        stopped: which limit it broke; the worker is of no use any more.
        parcels: what training made since it was told last, by the entry's finished name.
    """

    answer: str | None = None
    stopped: str | None = None
    parcels: Mapping[str, Parcel] = field(default_factory=dict)


class RayWorker:
    """One worker of a cluster.

    Args:
        fetch: reads what the driver has put into the cluster's object store.
    """

    def __init__(self, order: Order, fetch: Callable[[object], object]) -> None:
        import torch

        torch.set_num_threads(1)
        self._limits, self._fetch = order.limits, fetch
        self._cache = cache_of(order.run_id)
        self._worker = order.make(
            parse_study(order.study, "the study"), cache=self._cache, directory=os.getcwd()
        )
        self._worker.warm_up()
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._answer: Future[Answer] = Future()
        self._entries: Sequence[Entry] = ()
        self._known: dict[Path, Stamp] = {}
        self._begun = self._told = time.monotonic()
        self._pause_s = LOOK_S

    def is_ready(self) -> bool:
        """Return, once everything is loaded, that it is."""
        return True

    def describe(self) -> dict[str, JsonValue]:
        """Return `layers`, or the `error` that kept them from being known."""
        return described(self._worker)

    def evaluate(self, job: Job, goods: Mapping[str, object]) -> News:
        """Begin a job, and return the first news of it.

        Args:
            goods: what the driver has of the job's entries, in the object store, by their finished names.
        """
        self._entries = self._worker.entries(job)
        self._known = {}
        self._begun = self._told = time.monotonic()
        self._pause_s = LOOK_S
        self._answer = self._thread.submit(self._run, job, goods)
        return self.next()

    def next(self) -> News:
        """Return what is new of the job that runs, as soon as there is something."""
        now = time.monotonic()
        if now > self._told:  # the time that the last news took to be handed over
            self._pause_s = max(LOOK_S, _SHARE * (now - self._told))
        asked = now
        while True:
            wait((self._answer,), timeout=LOOK_S)
            if self._answer.done():
                news = News(answer=self._answer.result().to_text(), parcels=self._changed())
            elif (stopped := self._beyond()) is not None:
                news = News(stopped=stopped, parcels=self._changed())
            elif time.monotonic() - asked >= self._pause_s:
                news = News(parcels=self._changed())
                asked = time.monotonic()
            else:
                continue
            if news.answer is not None or news.stopped is not None or news.parcels:
                self._told = time.monotonic()
                return news

    def leave(self) -> None:
        """Remove the node's cache of this run: the driver has everything in it."""
        shutil.rmtree(self._cache, ignore_errors=True)

    def _run(self, job: Job, goods: Mapping[str, object]) -> Answer:
        import torch

        torch.set_num_threads(1)  # the number is each thread's own
        for entry in self._entries:
            if entry.home.name in goods and not entry.is_whole:
                parcel = self._fetch(goods[entry.home.name])
                if isinstance(parcel, Parcel):
                    try:
                        unpack(entry, parcel)
                    except OSError as error:
                        blame_the_machine(error)
                        raise
            if entry.home.name in goods and entry.is_whole:  # the driver has it, too
                self._known |= stamps(entry)
        return self._worker.evaluate(job)

    def _changed(self) -> dict[str, Parcel]:
        found: dict[str, Parcel] = {}
        for entry in self._entries:
            now = stamps(entry)
            parcel = pack(entry, self._known)
            if parcel is not None:
                found[entry.home.name] = parcel
                self._known |= now
        return found

    def _beyond(self) -> str | None:
        """Return which limit the job breaks."""
        minutes, memory = self._limits.trial_minutes, self._limits.trial_memory_bytes
        if minutes is not None and time.monotonic() - self._begun > 60 * minutes:
            return f"stopped after {minutes:g} minutes, the limit of a trial"
        if memory is not None and (used := psutil.Process().memory_info().rss) > memory:
            return (
                f"stopped at {used / 2**20:.0f} MiB of memory; the limit of a trial is "
                f"{memory / 2**20:.0f} MiB"
            )
        return None


def cache_of(run_id: str) -> Path:
    """Return this node's cache of a run, readable by its owner only."""
    path = Path(tempfile.gettempdir()) / f"codesign-{os.getuid()}-{run_id}"
    path.mkdir(mode=0o700, exist_ok=True)
    return path
