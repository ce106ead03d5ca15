"""Plan one arena for the transient tensors of a workload."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluators.workload.best_fit import plan_best
from evaluators.workload.dataflow import PlanOptions, skeleton
from evaluators.workload.graph import Workload
from evaluators.workload.planners import (
    Offsets,
    Planner,
    Requests,
    SimplePlanner,
    plan_basic,
    plan_v1,
    plan_v2,
    plan_v3,
)

PLANNERS: dict[Planner, SimplePlanner] = {
    Planner.BASIC: plan_basic,
    Planner.V1: plan_v1,
    Planner.V2: plan_v2,
    Planner.V3: plan_v3,
    Planner.BEST: plan_best,
}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Arena:
    """A memory plan.

    Attributes:
        planner: Who made it.
        persistent_bytes: Weights, buffers, optimizer state, inputs: beside the arena, for ever.
        arena_bytes: Size of the arena of everything else.
        lower_bound_bytes: The most that is alive in it at once.
        requests: What was planned, in bytes.
        offsets: `(n,)`, where each request lies.
        request_of: `(t,)`, the request that holds each tensor, -1 where none does.
    """

    planner: Planner
    persistent_bytes: int
    arena_bytes: int
    lower_bound_bytes: int
    requests: Requests
    offsets: Offsets
    request_of: npt.NDArray[np.int64]

    @property
    def total_bytes(self) -> int:
        """All the memory that the step needs."""
        return self.persistent_bytes + self.arena_bytes

    @property
    def efficiency(self) -> float:
        """Lower bound over arena, 1 where the plan is optimal."""
        return self.lower_bound_bytes / self.arena_bytes if self.arena_bytes else 1.0


def requests_of(workload: Workload, options: PlanOptions) -> Requests:
    """Return what the workload asks of a planner, in bytes, at the sizes of its overlay."""
    frame = skeleton(workload.structure, options)
    return Requests(
        sizes=_request_sizes(workload, frame.request_of, len(frame.starts)),
        starts=frame.starts,
        ends=frame.ends,
        is_weight_gradient=frame.is_weight_gradient,
    )


def plan(workload: Workload, planner: Planner, options: PlanOptions | None = None) -> Arena:
    """Plan the step's memory at the sizes of this workload's overlay.

    Args:
        workload: Any.
        planner: Which algorithm.
        options: What the executor does; None means neither in-place ops nor immediate updates.
    """
    options = options or PlanOptions()
    requests = requests_of(workload, options)
    offsets = PLANNERS[planner](requests)
    return Arena(
        planner=planner,
        persistent_bytes=persistent_bytes(workload),
        arena_bytes=int((offsets + requests.sizes).max()) if len(offsets) else 0,
        lower_bound_bytes=requests.lower_bound,
        requests=requests,
        offsets=offsets,
        request_of=skeleton(workload.structure, options).request_of,
    )


def persistent_bytes(workload: Workload) -> int:
    """Return the bytes of what outlives the step."""
    return int(_whole_bytes(workload.stored_bits[workload.structure.persistent]).sum())


def _request_sizes(
    workload: Workload, request_of: npt.NDArray[np.int64], count: int
) -> npt.NDArray[np.int64]:
    held = request_of >= 0
    sizes = np.zeros(count, dtype=np.int64)
    np.maximum.at(sizes, request_of[held], _whole_bytes(workload.stored_bits[held]))
    return sizes


def _whole_bytes(bits: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    # The tolerance keeps products such as 3 * (1/3) from rounding up to another byte.
    return np.ceil(bits / 8 - 1e-6).astype(np.int64)
