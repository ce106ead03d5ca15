"""The sweep: draw, evaluate, tell, the same for every executor.

A worker publishes a result before the driver tells it; after a kill, whatever is published is told and
whatever was drawn is evaluated again under the same number, design and seed. So no finished trial is ever
lost, and none is counted twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from codesign.executors import Executor, Finished
from codesign.files import publish, read_json, write_json
from codesign.results import TrialResult, TrialState
from codesign.run_folder import RunFolder
from codesign.trial_book import TrialBook
from search_spaces.design import Design, design_to_json

MAX_ATTEMPTS = 3  # a trial that kills its worker this often is a failed trial
_POLL_S = 0.25


@dataclass(slots=True)
class Stop:
    """What the outside asks of a running sweep: `requested` ends it after the trials in flight."""

    requested: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Tick:
    """The state of a sweep at one moment, for whoever displays it."""

    planned: int
    told: int
    running: tuple[int, ...]
    results: tuple[TrialResult, ...]
    elapsed_s: float
    stopping: bool


@dataclass(slots=True)
class Sweep:
    """One driver's session over a run folder.

    Args:
        book: draws and remembers the trials.
        executor: evaluates them.
        planned: trials in all.
        window: trials in flight (drawn and not told).
        watch: called at every change and at least every quarter of a second.
    """

    folder: RunFolder
    book: TrialBook
    executor: Executor
    planned: int
    window: int
    watch: Callable[[Tick], None]
    stop: Stop = field(default_factory=Stop)
    _results: dict[int, TrialResult] = field(default_factory=dict)
    _waiting: dict[int, TrialResult] = field(default_factory=dict)
    _exhausted: bool = False

    def run(self) -> bool:
        """Sweep to the end of the plan; True when it was reached, False when it was stopped before.

        Raises:
            CodesignError: the storage failed or workers cannot start; everything finished is on disk.
        """
        started = time.monotonic()
        for result in self.folder.results():
            if result.trial < self.book.told:
                self._results[result.trial] = result
        self._adopt()
        self._fill()  # a draw that the kill prevented comes before the next tell, as it would have
        self._tell()
        while self.book.told < self._end() and not self._done_stopping():
            self._display(started)
            finished = self.executor.wait(_POLL_S)
            if self.stop.requested:
                self.executor.drain()
            if finished is not None:
                self._collect(finished)
                self._tell()
        self._display(started)
        return self.book.told >= self._end()

    def _end(self) -> int:
        return self.book.asked if self._exhausted else self.planned

    def _done_stopping(self) -> bool:
        return self.stop.requested and not self.executor.running()

    def _adopt(self) -> None:
        """Take over what an earlier driver drew and did not tell."""
        for draw in self.book.running():
            result = self.folder.result(draw.number)
            if result is not None:
                self._waiting[draw.number] = result
            else:
                self._submit(draw.number, draw.design)

    def _fill(self) -> None:
        """Draw until the window is full; between two tells at most one trial is missing."""
        while (
            not self.stop.requested
            and not self._exhausted
            and self.book.asked < min(self.planned, self.book.told + self.window)
        ):
            draw = self.book.ask()
            if draw is None:
                self._exhausted = True
            else:
                self._submit(draw.number, draw.design)

    def _submit(self, number: int, design: Design) -> None:
        write_json(self.folder.trial_path(number) / "design.json", design_to_json(design))
        self.executor.submit(number)

    def _publish_failure(self, number: int, design: Design, reason: str) -> None:
        result = TrialResult(
            trial=number, state=TrialState.FAILED, design=design_to_json(design), reason=reason
        )
        publish(self.folder.result_path(number), result.to_json())
        self._waiting[number] = self.folder.result(number) or result

    def _collect(self, finished: Finished) -> None:
        result = self.folder.result(finished.number)
        if result is not None:
            self._waiting[finished.number] = result
            return
        draw = next(draw for draw in self.book.running() if draw.number == finished.number)
        crashes = self.folder.trial_path(draw.number) / "crashes.json"
        count = _count(crashes) + 1
        write_json(crashes, count)
        if count >= MAX_ATTEMPTS:
            reason = f"given up after {count} attempts: {finished.crash or 'no result was published'}"
            self._publish_failure(draw.number, draw.design, reason)
        elif not self.stop.requested:
            self._submit(draw.number, draw.design)

    def _tell(self) -> None:
        """Tell by number, one at a time, drawing one trial for each: this order is what is repeatable."""
        while (result := self._waiting.pop(self.book.told, None)) is not None:
            self.book.tell(result)
            self._results[result.trial] = result
            self._fill()

    def _display(self, started: float) -> None:
        done = {**self._results, **self._waiting}
        self.watch(
            Tick(
                planned=self._end(),
                told=self.book.told,
                running=self.executor.running(),
                results=tuple(done[number] for number in sorted(done)),
                elapsed_s=time.monotonic() - started,
                stopping=self.stop.requested,
            )
        )


def _count(path: Path) -> int:
    value = read_json(path) if path.is_file() else 0
    return value if isinstance(value, int) else 0
