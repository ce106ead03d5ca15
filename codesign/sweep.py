"""The sweep: draw, evaluate, tell, the same for every executor.

A trial passes through stages (one, without fidelity); a job takes one trial to the end of one stage. Jobs
are numbered by the order in which they are submitted, and told in that order: each telling decides the one
job that comes in its place, the same trial's next stage or a new trial. So what is decided, and what the
sampler knows when it draws, never depends on which worker was faster.

A job's answer is published before it is told, and a restart goes through all jobs again from the first:
those with an answer are told at once, the others are evaluated again under the same number, design and
seed. So no finished job is ever lost and none is counted twice, and a run that was killed, or given a
larger budget later, is the run it would have been.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from codesign.budget import Meter
from codesign.collector import without_collector
from codesign.executors import Executor, Finished
from codesign.files import publish, read_json, write_json
from codesign.front import RunningFront
from codesign.halving import Halving
from codesign.jobs import Job
from codesign.results import TrialResult, TrialState
from codesign.run_folder import RunFolder
from codesign.trial_book import TrialBook

MAX_ATTEMPTS = 3  # a job that kills its worker this often is a failed trial
_POLL_S = 0.25


@dataclass(slots=True)
class Stop:
    """What the outside asks of a running sweep: `requested` ends it after the trials in flight."""

    requested: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Tick:
    """The state of a sweep at one moment, for whoever displays it.

    Args:
        planned: trials in all; None where the budget is not in trials.
        told: trials that are over.
        counts: of these, how many ended in which state.
        fresh: results since the last tick.
        members: the front so far.
        reference: the reference design's result, once it is there.
        ended: which budget is spent; None while there is some left.
        training_s: training of all workers so far.
        trainings: the same in whole trainings, see `codesign.budget`.
        wall_s: time so far, earlier sessions included.
    """

    planned: int | None
    told: int
    counts: Counter[TrialState]
    running: tuple[int, ...]
    fresh: tuple[TrialResult, ...]
    members: tuple[TrialResult, ...]
    reference: TrialResult | None
    elapsed_s: float
    stopping: bool
    ended: str | None = None
    training_s: float = 0.0
    trainings: float = 0.0
    wall_s: float = 0.0


@dataclass(slots=True)
class Sweep:
    """One driver's session over a run folder.

    Args:
        book: draws and remembers the trials.
        executor: evaluates jobs.
        halving: decides who trains on.
        meter: says when no more is drawn.
        window: jobs in flight (submitted and not told).
        ordered: tell strictly in the order of submission; else as they finish, which keeps more workers
            busy where trials differ in length, and repeats no run exactly.
        watch: called at every change and at least every quarter of a second.
    """

    folder: RunFolder
    book: TrialBook
    executor: Executor
    halving: Halving
    meter: Meter
    window: int
    ordered: bool
    watch: Callable[[Tick], None]
    stop: Stop = field(default_factory=Stop)
    busy_s: float = 0.0  # what this session's jobs took
    _flights: deque[Job] = field(default_factory=deque)
    _answers: dict[tuple[int, int], TrialResult] = field(default_factory=dict)
    _ended: str | None = None
    _counts: Counter[TrialState] = field(default_factory=Counter)
    _fresh: list[TrialResult] = field(default_factory=list)
    _front: RunningFront = field(init=False)
    _reference: TrialResult | None = None

    def __post_init__(self) -> None:
        self._front = RunningFront(self.meter.study.objectives)

    def run(self) -> bool:
        """Sweep to the end of the budget; True when it was reached, False when it was stopped before.

        Raises:
            CodesignError: the storage failed or workers cannot start; everything finished is on disk.
        """
        started = time.monotonic()
        with without_collector():
            self._fill()
            self._advance()
        while self._flights and not self._done_stopping():
            self._display(started)
            finished = self.executor.wait(_POLL_S)
            if self.stop.requested:
                self.executor.drain()
            if finished is not None:
                self._collect(finished)
                self._advance()
        self._display(started)
        return not self._flights and not self._cut_short

    @property
    def _cut_short(self) -> bool:
        return self.stop.requested and self._ended is None

    def _done_stopping(self) -> bool:
        return self.stop.requested and not self.executor.running()

    def _fill(self) -> None:
        while len(self._flights) < self.window and self._draw():
            pass

    def _draw(self) -> bool:
        """Submit one new trial; False where none may be drawn."""
        replayed = self.book.asked < self.book.stored
        if self.stop.requested and not replayed:
            return False
        if not replayed:
            self._ended = self.meter.spent(self.book.asked)
            if self._ended is not None:
                return False
        draw = self.book.ask()
        if draw is None:
            self._ended = "every design of the space was drawn"
            return False
        self._submit(Job(number=draw.number, stage=0, design=draw.design))
        return True

    def _submit(self, job: Job) -> None:
        """Put a job in flight; one that was answered before needs no executor."""
        self._flights.append(job)
        answer = self.folder.answer(job.number, job.stage)
        if answer is not None:
            self._answers[job.number, job.stage] = answer
            return
        path = self.folder.trial_path(job.number) / "design.json"
        if not path.is_file():
            write_json(path, job.design, durable=False, readable=False)  # the storage has it
        if not self.stop.requested:
            self.executor.submit(job)

    def _advance(self) -> None:
        """Tell what can be told, one job at a time; each telling puts one job in the place of another."""
        while (job := self._next_told()) is not None:
            self._flights.remove(job)
            result = self._answers.pop((job.number, job.stage))
            self.meter.count(result)
            if result.state is TrialState.PARTIAL:
                if self._goes_on(result):
                    self._submit(replace(job, stage=job.stage + 1))
                    continue
                result = self._stopped(result)
            self._tell(result)
            self._draw()

    def _next_told(self) -> Job | None:
        for job in self._flights:
            if (job.number, job.stage) in self._answers:
                return job
            if self.ordered:
                return None
        return None

    def _goes_on(self, result: TrialResult) -> bool:
        """Decide, or do what was decided in an earlier session and has left its trace."""
        decided = self.halving.goes_on(result)
        known = self.folder.result(result.trial)
        if known is not None:
            return known.state is not TrialState.STOPPED or known.stage > result.stage
        return decided or self.folder.stage_path(result.trial, result.stage + 1).is_file()

    def _stopped(self, partial: TrialResult) -> TrialResult:
        result = replace(partial, state=TrialState.STOPPED, hardware=())
        publish(self.folder.result_path(result.trial), result.to_json())
        return self.folder.result(result.trial) or result

    def _tell(self, result: TrialResult) -> None:
        self.book.tell(result)
        self.meter.count_trial(result)
        self._counts[result.state] += 1
        self._fresh.append(result)
        if result.trial == 0 and result.state is TrialState.COMPLETED:
            self._reference = result
        self._front.add(result)

    def _collect(self, finished: Finished) -> None:
        job = next(
            (job for job in self._flights if (job.number, job.stage) == (finished.number, finished.stage)),
            None,
        )
        if job is None:  # told already: a second answer to the same job
            return
        answer = self.folder.answer(job.number, job.stage)
        if answer is not None:
            self.busy_s += answer.seconds.get("total", 0.0)
            self._answers[job.number, job.stage] = answer
            return
        crash = finished.crash or "no result was published"
        crashes = self.folder.trial_path(job.number) / "crashes.json"
        count = _count(crashes) + 1
        write_json(crashes, count)
        if not finished.again:
            self._give_up(job, crash)
        elif count >= MAX_ATTEMPTS:
            self._give_up(job, f"given up after {count} attempts: {crash}")
        elif not self.stop.requested:
            self.executor.submit(job)

    def _give_up(self, job: Job, reason: str) -> None:
        result = TrialResult(
            trial=job.number, state=TrialState.FAILED, design=job.design, reason=reason, stage=job.stage
        )
        publish(self.folder.result_path(job.number), result.to_json())
        self._answers[job.number, job.stage] = self.folder.answer(job.number, job.stage) or result

    def _display(self, started: float) -> None:
        fresh, self._fresh = tuple(self._fresh), []
        self.watch(
            Tick(
                planned=self.meter.study.budget.trials,
                told=self.book.told,
                counts=Counter(self._counts),
                running=self.executor.running(),
                fresh=fresh,
                members=self._front.members,
                reference=self._reference,
                elapsed_s=time.monotonic() - started,
                stopping=self.stop.requested,
                ended=None if self._flights else self._ended,
                training_s=self.meter.training_s,
                trainings=self.meter.trainings,
                wall_s=self.meter.wall_s,
            )
        )


def _count(path: Path) -> int:
    value = read_json(path) if path.is_file() else 0
    return value if isinstance(value, int) else 0
