"""Errors of the workload.

WorkloadError (ValueError)
 ├─ TraceError            the user's model could not be traced
 │   └─ IndexInputError   an input that indexes an embedding was given as floating-point numbers
 └─ PlanError             a memory plan that breaks its own law, or options that make no sense
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class WorkloadError(ValueError):
    """Something is wrong with a workload or with what was asked of it."""


class TraceError(WorkloadError):
    """The model could not be traced; the message names the line of the user's code and the way out."""


class IndexInputError(TraceError):
    """An input that indexes an embedding was given as floating-point numbers.

    Args:
        position: Which input; None where the indices are computed from several or from none.
    """

    def __init__(self, position: int | None) -> None:
        self.position = position
        what = "indices that are computed" if position is None else f"input {position}"
        super().__init__(
            f"the indices of an embedding must be integers, but {what} has a floating-point dtype; give an "
            "integer tensor (on the command line: 8x128:int64)"
        )


class PlanError(WorkloadError):
    """A memory plan that breaks its own law, or options that make no sense."""


class UnmodelledOpWarning(UserWarning):
    """Some ops do arithmetic that the workload does not know; they are costed as memory-bound."""


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Return the message for a name that does not exist: the nearest legal one, and the list."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"no {what} named {name!r}{hint} (known: {', '.join(names) or 'none'})"
