"""The one interface behind which trials are evaluated somewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from codesign.jobs import Job
from search_spaces.choice import JsonValue


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """A job is over; its answer stands in the run folder, unless `crash` says how its worker ended.

    Args:
        crash: how the worker died before it answered; None where it answered.
        again: whether another try may end better; a trial that was stopped at a limit is not tried again.
    """

    number: int
    stage: int
    crash: str | None = None
    again: bool = True


class Executor(Protocol):
    """Evaluates jobs somewhere, and publishes each answer in the run folder before it tells of it."""

    @property
    def workers(self) -> int:
        """How many jobs run at once."""
        ...

    def describe(self) -> JsonValue:
        """Return the layers of every network of the space (`codesign.layers`).

        Raises:
            CodesignError: the data or a network is not as the study says.
        """
        ...

    def submit(self, job: Job) -> None:
        """Queue a job."""
        ...

    def wait(self, timeout_s: float) -> Finished | None:
        """Return a job that is over, or None after `timeout_s`."""
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
