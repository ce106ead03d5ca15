"""Workers on a Ray cluster: Ray places them and says when one dies; what they do is decided here.

The driver and its workers share no disk. The study, each job and all that training makes travel through
Ray; the driver puts what comes back into its run folder before it tells of it. What a worker is killed
over is at most what it made since it was last asked (a second, or a twentieth of the time).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from codesign.errors import ClusterError, CodesignError, RunFolderError
from codesign.executors.parcels import Stamp, pack, stamps, unpack
from codesign.executors.protocol import Finished
from codesign.executors.ray_connection import (
    Connection,
    WorkerFailedError,
    WorkerLostError,
    connect,
    lost,
)
from codesign.executors.ray_worker import Evaluates, Make, News, Order
from codesign.jobs import Job, answer_from_text, deliver
from codesign.run_folder import RunFolder
from codesign.sections.executor import RayCluster as Settings
from codesign.study_file import StudyFile
from codesign.worker import Worker
from evaluators.cache import Entry, Kind
from search_spaces.choice import JsonValue

START_S = 600.0  # our choice: how long the first worker may take, where a cluster is busy or grows
_LOOK_S = 5.0  # how often the cluster itself is looked at
_MISSED = 4  # looks without an answer before it counts as lost: a head node may restart in between
_GRACE_S = 60.0  # how long beyond the limit a worker may take to say that the limit is broken
_LEAVE_S = 5.0  # how long the end may take


@dataclass(slots=True, eq=False)
class _Hand:
    """One worker, and what it is doing."""

    worker: object
    asked: object  # what it owes an answer to: whether it is ready, or its job
    is_ready: bool = False
    busy: Job | None = None
    since: float = 0.0
    entries: tuple[Entry, ...] = ()
    ended: str | None = None  # why this executor killed it


class RayCluster:
    """Keeps workers on a cluster, and replaces those that die.

    Args:
        most: workers, where the settings name no number: more could never be busy.
        make: what evaluates the jobs there.
        open_connection: connects to the cluster.

    Raises:
        ClusterError: it cannot be reached, or has no room for one worker.
    """

    def __init__(
        self,
        folder: RunFolder,
        settings: Settings,
        *,
        make: Make = Worker,
        open_connection: Callable[[Settings, Path | None], Connection] = connect,
    ) -> None:
        study = folder.study()
        self._folder, self._settings = folder, settings
        self._most = settings.workers or study.sampler.window
        sent = Path(folder.directory()) if names_user_code(study) else None
        self._connection = open_connection(settings, sent)
        run_id = str(folder.manifest().get("run_id", "run"))
        self._order = Order(study=study.to_yaml(), run_id=run_id, limits=settings, make=make)
        self._books: Evaluates = make(study, cache=folder.cache_path, directory=folder.directory())
        self._queue: deque[Job] = deque()
        self._hands: list[_Hand] = []
        self._put: dict[str, tuple[dict[Path, Stamp], object]] = {}
        self._began = self._looked = time.monotonic()
        self._deaths_at_start = self._missed = 0
        self._hired = 0
        self._was_ready = False
        try:
            self._hire()
        except BaseException:
            self._connection.close()
            raise

    @property
    def workers(self) -> int:
        """How many workers there were at most, waiting for room among them."""
        return self._hired

    def describe(self) -> JsonValue:
        """Have the first worker that is ready describe the networks, and wait for it."""
        while True:
            hand = next((hand for hand in self._hands if hand.is_ready), None)
            if hand is None:
                self._one_answer(1.0)
                continue
            asked = self._connection.ask(hand.worker, "describe")
            while self._connection.first([asked], 1.0) is None:
                self._look()
            try:
                answer = self._connection.answer(asked)
            except WorkerLostError as error:
                self._bury(hand, str(error))
                continue
            except WorkerFailedError as error:
                raise CodesignError(str(error)) from None
            if isinstance(answer, dict) and "layers" in answer:
                layers: JsonValue = answer["layers"]
                return layers
            raise CodesignError(str(answer["error"]) if isinstance(answer, dict) else "no layers were told")

    def submit(self, job: Job) -> None:
        """Queue a job and feed whoever is idle."""
        self._queue.append(job)
        self._feed()

    def wait(self, timeout_s: float) -> Finished | None:
        """Return a job that is over, or None after `timeout_s`."""
        until = time.monotonic() + timeout_s
        while True:
            finished = self._one_answer(max(0.0, until - time.monotonic()))
            if finished is not None or time.monotonic() >= until:
                return finished

    def running(self) -> tuple[int, ...]:
        """Return the trials that the workers hold."""
        return tuple(hand.busy.number for hand in self._hands if hand.busy is not None)

    def drain(self) -> None:
        """Forget what is queued and not started."""
        self._queue.clear()

    def close(self) -> None:
        """End every worker, clear their caches where nobody was interrupted, and leave the cluster."""
        if not self._connection.is_there():  # nobody is left to be told
            self._hands = []
        idle = [hand for hand in self._hands if hand.busy is None and hand.is_ready]
        for hand in self._hands:
            if hand not in idle:
                self._connection.fire(hand.worker)
        with suppress(ClusterError):
            if not self.running():
                asked = [self._connection.ask(hand.worker, "leave") for hand in idle]
                until = time.monotonic() + _LEAVE_S
                while asked and (left := until - time.monotonic()) > 0:
                    done = self._connection.first(asked, left)
                    asked = [one for one in asked if one is not done]
        for hand in idle:
            self._connection.fire(hand.worker)
        self._hands = []
        self._connection.close()

    def _hire(self) -> None:
        room = self._connection.room() if self._settings.workers is None else self._most
        if room == 0 and not self._hands:
            raise ClusterError(
                f"no node of the Ray cluster at {self._settings.address!r} has room for one trial "
                f"({_needs(self._settings)}): ask for less, or say how many `workers` to wait for where the "
                "cluster grows by itself"
            )
        for _ in range(min(room, self._most) - len(self._hands)):
            worker = self._connection.hire(self._order)
            self._hands.append(_Hand(worker=worker, asked=self._connection.ask(worker, "is_ready")))
        self._hired = max(self._hired, len(self._hands))

    def _feed(self) -> None:
        for hand in self._hands:
            if not self._queue:
                return
            if hand.is_ready and hand.busy is None:
                job = self._queue.popleft()
                entries = self._books.entries(job)
                goods = {entry.home.name: put for entry in entries if (put := self._goods(entry)) is not None}
                hand.busy, hand.since, hand.entries = job, time.monotonic(), entries
                hand.asked = self._connection.ask(hand.worker, "evaluate", job, goods)

    def _goods(self, entry: Entry) -> object | None:
        """Return what an entry's files are known by on the cluster; None where there are none."""
        now = stamps(entry)
        if not now:
            return None
        name = entry.home.name
        known = self._put.get(name)
        if known is not None and known[0] == now:
            return known[1]
        parcel = pack(entry)
        if parcel is None:
            return None
        put = self._connection.put(parcel)
        if entry.kind is Kind.PRETRAINED:  # few, and wanted by many; a half is wanted once
            self._put[name] = (now, put)
        return put

    def _one_answer(self, timeout_s: float) -> Finished | None:
        """Take one answer of a worker; return the job where that was the end of one."""
        self._look()
        owed = {hand.asked: hand for hand in self._hands if hand.asked is not None}
        if not owed:
            time.sleep(timeout_s)
            return None
        asked = self._connection.first(list(owed), timeout_s)
        if asked is None:
            return None
        hand = owed[asked]
        job, hand.asked = hand.busy, None
        try:
            answer = self._connection.answer(asked)
        except WorkerLostError as error:
            reason = hand.ended or f"its worker died ({error})"
            return self._bury(hand, reason, again=hand.ended is None)
        except WorkerFailedError as error:
            return self._bury(hand, f"its worker failed ({error})")
        if job is None or not isinstance(answer, News):
            hand.is_ready = self._was_ready = True
            self._feed()
            return None
        return self._take(hand, job, answer)

    def _take(self, hand: _Hand, job: Job, news: News) -> Finished | None:
        """Put what a worker told into the run folder, and have it go on."""
        homes = {entry.home.name: entry for entry in hand.entries}
        try:
            for name, parcel in news.parcels.items():
                if name in homes:
                    unpack(homes[name], parcel)
        except OSError as error:
            raise RunFolderError(
                f"{self._folder.cache_path} cannot be written: {error.strerror or error}"
            ) from None
        if news.stopped is not None:
            return self._bury(hand, news.stopped, again=False)
        if news.answer is None:
            hand.asked = self._connection.ask(hand.worker, "next")
            return None
        hand.busy = None
        self._feed()
        deliver(self._folder, answer_from_text(news.answer))
        return Finished(number=job.number, stage=job.stage)

    def _bury(self, hand: _Hand, reason: str, *, again: bool = True) -> Finished | None:
        """Replace a worker; return the job that it held."""
        self._wait_for_cluster()
        self._hands.remove(hand)
        self._connection.fire(hand.worker)
        if not hand.is_ready:
            self._deaths_at_start += 1
            if self._deaths_at_start > 3 * max(1, len(self._hands)):
                raise ClusterError(
                    f"workers on the Ray cluster at {self._settings.address!r} die at their start: {reason}. "
                    "Every node needs the same codesign as the driver; `cosearch doctor --ray "
                    f"{self._settings.address}` compares"
                )
        self._hire()
        job = hand.busy
        if job is None:
            return None
        self._feed()
        return Finished(number=job.number, stage=job.stage, crash=reason, again=again)

    def _wait_for_cluster(self) -> None:
        """Return once the cluster listens: Ray's calls wait for it, and after a minute end the process."""
        for _ in range(_MISSED):
            if self._connection.is_there():
                return
            time.sleep(_LOOK_S)
        raise ClusterError(lost(self._settings.address, "nobody listens there any more"))

    def _look(self) -> None:
        """See now and then that the cluster is there, and whether there is room for more workers."""
        now = time.monotonic()
        if now - self._looked < _LOOK_S:
            return
        self._looked = now
        self._missed = 0 if self._connection.is_there() else self._missed + 1
        if self._missed >= _MISSED:
            raise ClusterError(lost(self._settings.address, "nobody listens there any more"))
        if self._missed:
            return
        if self._settings.workers is None:
            self._hire()
        if not self._was_ready and now - self._began > START_S:
            raise ClusterError(
                f"no worker could start on the Ray cluster at {self._settings.address!r} within "
                f"{START_S / 60:.0f} minutes: it is full, or no node has {_needs(self._settings)} "
                "(`ray status` says who holds what)"
            )
        minutes = self._settings.trial_minutes
        if minutes is not None:
            for hand in self._hands:  # one that does not even say so
                if hand.busy is not None and now - hand.since > 60 * minutes + _GRACE_S:
                    hand.ended = f"stopped after {minutes:g} minutes, the limit of a trial"
                    self._connection.fire(hand.worker)


def names_user_code(study: StudyFile) -> bool:
    """Return whether a study names a `module:callable`, which lies in the user's folder."""
    names = [study.network.name, study.dataset.name]
    names += [*study.space_.network.name, *study.reference_space.network.name]
    return any(":" in name for name in names)


def _needs(settings: Settings) -> str:
    parts = [f"{settings.cpus_per_trial:g} CPU"]
    parts += [f"{settings.gpus_per_trial:g} GPU"] if settings.gpus_per_trial else []
    memory = settings.trial_memory_bytes
    parts += [f"{memory / 2**30:.1f} GiB of memory"] if memory else []
    return ", ".join(parts)
