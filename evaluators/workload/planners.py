"""Offline planners: give every tensor an offset in one arena, knowing all lifetimes in advance.

NNTrainer's Basic, V1, V2 and V3, and our own. All of them are pure functions from requests to offsets; sizes
are in whatever unit the requests have.

Source: nntrainer/tensor/*_planner.cpp (rules restated; no code taken).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from evaluators.workload.errors import PlanError

Offsets = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Requests:
    """What wants memory, when.

    Attributes:
        sizes: `(n,)`, >= 0.
        starts: `(n,)`, first step at which the request lives.
        ends: `(n,)`, step at which it lives no more (exclusive); `starts < ends`.
        is_weight_gradient: `(n,)`, V2 plans these apart.
    """

    sizes: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    is_weight_gradient: npt.NDArray[np.bool_]

    def __post_init__(self) -> None:
        count = len(self.sizes)
        if not count == len(self.starts) == len(self.ends) == len(self.is_weight_gradient):
            raise PlanError(
                "requests need a size, a start, an end and a gradient flag each, but got "
                f"{count}, {len(self.starts)}, {len(self.ends)}, {len(self.is_weight_gradient)}"
            )
        if (
            bool(np.any(self.sizes < 0))
            or bool(np.any(self.starts >= self.ends))
            or bool(np.any(self.starts < 0))
        ):
            bad = int(np.argmax((self.sizes < 0) | (self.starts >= self.ends) | (self.starts < 0)))
            raise PlanError(
                "0 <= size and 0 <= start < end must hold, but request "
                f"{bad} is (size={self.sizes[bad]}, start={self.starts[bad]}, end={self.ends[bad]})"
            )

    @property
    def live(self) -> npt.NDArray[np.int64]:
        """Sum of the sizes alive at each step."""
        if not len(self.sizes):
            return np.zeros(1, dtype=np.int64)
        change = np.zeros(int(self.ends.max()) + 1, dtype=np.int64)
        np.add.at(change, self.starts, self.sizes)
        np.subtract.at(change, self.ends, self.sizes)
        return np.cumsum(change)

    @property
    def lower_bound(self) -> int:
        """The most that is alive at one step: no arena can be smaller ("ideal" in NNTrainer)."""
        return int(self.live.max())


class Planner(Enum):
    """How an arena is laid out."""

    BASIC = "basic"
    V1 = "v1"
    V2 = "v2"
    V3 = "v3"
    BEST = "best"


@dataclass(kw_only=True, slots=True)
class _Block:
    size: int
    end: int
    offset: int


def _in_order_of_start(requests: Requests) -> list[int]:
    return [int(i) for i in np.lexsort((requests.ends, requests.starts))]


def plan_basic(requests: Requests) -> Offsets:
    """Lay everything side by side: nothing is shared."""
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(requests.sizes)[:-1]])[
        : len(requests.sizes)
    ]


def plan_v1(requests: Requests) -> Offsets:
    """Stack in order of start; an expired block inside the stack is reused only by an equal size."""
    offsets = np.zeros(len(requests.sizes), dtype=np.int64)
    _stack(requests, _in_order_of_start(requests), offsets, 0)
    return offsets


def _stack(requests: Requests, order: list[int], offsets: Offsets, base: int) -> None:
    stack: list[_Block] = []
    for i in order:
        size, start, end = int(requests.sizes[i]), int(requests.starts[i]), int(requests.ends[i])
        while stack and stack[-1].end <= start:
            stack.pop()
        for block in reversed(stack):
            if block.end <= start and block.size == size:
                block.end = end
                offsets[i] = block.offset
                break
        else:
            offset = stack[-1].offset + stack[-1].size if stack else base
            stack.append(_Block(size=size, end=end, offset=offset))
            offsets[i] = offset


def plan_v2(requests: Requests) -> Offsets:
    """Plan as V1 what is no weight gradient; above it, the gradients by size, sharing compatible slots."""
    offsets = np.zeros(len(requests.sizes), dtype=np.int64)
    order = _in_order_of_start(requests)
    rest = [i for i in order if not requests.is_weight_gradient[i]]
    _stack(requests, rest, offsets, 0)
    top = max((int(offsets[i] + requests.sizes[i]) for i in rest), default=0)
    gradients = sorted(
        (i for i in order if requests.is_weight_gradient[i]), key=lambda i: -int(requests.sizes[i])
    )
    slots: list[tuple[int, list[int]]] = []  # offset, tenants; in order of size, so any slot is large enough
    for i in gradients:
        for offset, tenants in slots:
            if all(_apart(requests, i, j) for j in tenants):
                tenants.append(i)
                offsets[i] = offset
                break
        else:
            slots.append((top, [i]))
            offsets[i] = top
            top += int(requests.sizes[i])
    return offsets


def _apart(requests: Requests, i: int, j: int) -> bool:
    return bool(requests.ends[i] <= requests.starts[j] or requests.ends[j] <= requests.starts[i])


def plan_v3(requests: Requests) -> Offsets:
    """In order of start, take the lowest gap between living blocks that is large enough, else the top."""
    offsets = np.zeros(len(requests.sizes), dtype=np.int64)
    alive: list[_Block] = []  # by offset
    for i in _in_order_of_start(requests):
        size, start, end = int(requests.sizes[i]), int(requests.starts[i]), int(requests.ends[i])
        alive = [block for block in alive if block.end > start]
        offset, position = 0, len(alive)
        for index, block in enumerate(alive):
            if block.offset - offset >= size:
                position = index
                break
            offset = max(offset, block.offset + block.size)
        alive.insert(position, _Block(size=size, end=end, offset=offset))
        offsets[i] = offset
    return offsets


def check(requests: Requests, offsets: Offsets) -> None:
    """Check a plan: nothing that lives at the same time shares a place.

    Raises:
        PlanError: Two requests overlap in time and space.
    """
    tops = offsets + requests.sizes
    for i in np.flatnonzero(requests.sizes > 0):
        together = (requests.starts < requests.ends[i]) & (requests.ends > requests.starts[i])
        clash = together & (offsets < tops[i]) & (tops > offsets[i]) & (requests.sizes > 0)
        clash[i] = False
        if bool(clash.any()):
            raise PlanError(
                "tensors alive together must not share memory, but requests "
                f"{int(i)} and {int(np.argmax(clash))} do"
            )


SimplePlanner = Callable[[Requests], Offsets]
