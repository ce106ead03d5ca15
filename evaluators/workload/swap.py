"""Swapping to flash or a file with look-ahead: what stays resident, what moves, how long it takes.

NNTrainer's model: before op `o` runs, everything that the ops `o .. o + lookahead` touch is resident and the
rest is out. Weights swap too. With a look-ahead of at least one, the transfer for a later op overlaps with
the computation of this one; without, it waits.

Source: nntrainer/tensor/cache_pool.cpp and its swap policies (rules restated; no code taken): temporary
data is never written back after its last use, nothing is read before its first write, and what has not
changed since it was read is not written.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluators.workload.dataflow import PlanOptions, skeleton
from evaluators.workload.errors import PlanError
from evaluators.workload.graph import Workload


@dataclass(frozen=True, kw_only=True, slots=True)
class Store:
    """Where swapped tensors go.

    Attributes:
        read_bytes_per_s: Bandwidth towards memory.
        write_bytes_per_s: Bandwidth from memory.
        lookahead: How many ops ahead tensors are fetched.
    """

    read_bytes_per_s: float
    write_bytes_per_s: float
    lookahead: int = 1

    def __post_init__(self) -> None:
        if self.read_bytes_per_s <= 0 or self.write_bytes_per_s <= 0 or self.lookahead < 0:
            raise PlanError(
                "bandwidths must be > 0 and the look-ahead >= 0, but got "
                f"(read_bytes_per_s={self.read_bytes_per_s}, write_bytes_per_s={self.write_bytes_per_s}, "
                f"lookahead={self.lookahead})"
            )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SwapPlan:
    """What swapping costs and what it saves.

    Attributes:
        resident_bytes: `(ops,)`, in memory while each op runs.
        read_bytes: `(ops,)`, fetched for the op.
        written_bytes: `(ops,)`, written out after it.
        latency_s: `(ops,)`, time of each op with its transfers.
    """

    resident_bytes: npt.NDArray[np.float64]
    read_bytes: npt.NDArray[np.float64]
    written_bytes: npt.NDArray[np.float64]
    latency_s: npt.NDArray[np.float64]

    @property
    def resident_peak_bytes(self) -> float:
        """The most that is in memory at once."""
        return float(self.resident_bytes.max()) if len(self.resident_bytes) else 0.0

    @property
    def traffic_bytes(self) -> float:
        """Everything that moves, both ways."""
        return float(self.read_bytes.sum() + self.written_bytes.sum())


@dataclass(kw_only=True, slots=True)
class _Uses:
    reads: list[int]
    writes: list[int]


def swap(
    workload: Workload,
    store: Store,
    *,
    compute_s: npt.NDArray[np.float64] | None = None,
    options: PlanOptions | None = None,
) -> SwapPlan:
    """Run the step with everything swapped out that the next few ops do not touch.

    Args:
        workload: Any, at the sizes of its overlay.
        store: Where tensors go and how fast.
        compute_s: `(ops,)`, seconds that each op computes, in the plan's order; None: not counted.
        options: Order of the ops; in-place execution is not combined with swapping.

    Raises:
        PlanError: `compute_s` of another length.
    """
    order = skeleton(workload.structure, options or PlanOptions()).order
    steps = len(order)
    if compute_s is not None and len(compute_s) != steps:
        raise PlanError(f"compute_s must have one entry per op ({steps}), but has {len(compute_s)}")
    sizes = workload.stored_bits / 8
    change, read, written = np.zeros(steps + 1), np.zeros(steps + 1), np.zeros(steps + 1)
    for index, uses in _uses(workload, order).items():
        persists = bool(workload.structure.persistent[index])
        for start, stop in _stays(uses, store.lookahead, fetched=persists):
            change[start] += sizes[index]
            change[stop + 1] -= sizes[index]
        reads, writes = _transfers(uses, store.lookahead, persists=persists)
        read[reads] += sizes[index]
        written[writes] += sizes[index]
    moving = read[:steps] / store.read_bytes_per_s + written[:steps] / store.write_bytes_per_s
    computing = compute_s if compute_s is not None else np.zeros(steps)
    overlapped = np.maximum(computing, moving) if store.lookahead else computing + moving
    return SwapPlan(
        resident_bytes=np.cumsum(change)[:steps],
        read_bytes=read[:steps],
        written_bytes=written[:steps],
        latency_s=overlapped,
    )


def _uses(workload: Workload, order: tuple[int, ...]) -> dict[int, _Uses]:
    found: dict[int, _Uses] = {}
    tensors = workload.tensors
    for step, position in enumerate(order):
        op = workload.ops[position]
        for index in op.inputs:
            if tensors[index].materialised:
                found.setdefault(index, _Uses(reads=[], writes=[])).reads.append(step)
        for index in op.outputs:
            if tensors[index].materialised:
                found.setdefault(index, _Uses(reads=[], writes=[])).writes.append(step)
    return found


def _stays(uses: _Uses, lookahead: int, *, fetched: bool) -> list[tuple[int, int]]:
    """Return the intervals (inclusive) in which a tensor is resident.

    What is made inside the step takes its place when it is made; what comes from the store takes it when
    fetching begins.
    """
    stays: list[tuple[int, int]] = []
    for step in sorted({*uses.reads, *uses.writes}):
        begins = max(0, step - lookahead)
        if stays and begins <= stays[-1][1] + 1:
            stays[-1] = (stays[-1][0], step)
        else:
            stays.append((begins if fetched or stays else step, step))
    return stays


def _transfers(uses: _Uses, lookahead: int, *, persists: bool) -> tuple[list[int], list[int]]:
    """Return the steps at which a tensor is read from the store and written to it (each stay once)."""
    stays = _stays(uses, lookahead, fetched=persists)
    reads, writes = [], []
    for number, (start, stop) in enumerate(stays):
        last = number == len(stays) - 1
        is_made = number == 0 and not persists
        only_written = not any(start <= step <= stop for step in uses.reads)
        if not is_made and not only_written:
            reads.append(start)
        is_changed = any(start <= step <= stop for step in uses.writes)
        if is_changed and (persists or not last):
            writes.append(stop)
    return reads, writes
