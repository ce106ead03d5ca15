"""How much memory a workload needs: the peak of what is alive, step by step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluators.workload.graph import Workload


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Timeline:
    """What is alive at each op.

    Attributes:
        persistent_bits: Weights, buffers, optimizer state and inputs: alive throughout.
        transient_bits: `(ops,)`, everything else.
        born: `(t,)`, first op of each tensor.
        last: `(t,)`, last op of each tensor, inclusive.
        stored_bits: `(t,)`, size of each tensor.
    """

    persistent_bits: float
    transient_bits: npt.NDArray[np.float64]
    born: npt.NDArray[np.int64]
    last: npt.NDArray[np.int64]
    stored_bits: npt.NDArray[np.float64]

    @property
    def peak_op(self) -> int:
        """The first op at which most is alive."""
        return int(np.argmax(self.transient_bits)) if len(self.transient_bits) else 0

    @property
    def peak_bits(self) -> int:
        """Most that is alive at once, rounded up to whole bits."""
        transient = float(self.transient_bits.max()) if len(self.transient_bits) else 0.0
        return int(np.ceil(self.persistent_bits + transient))

    def alive_at(self, op: int) -> tuple[int, ...]:
        """Return the tensors alive at an op, largest first."""
        alive = np.flatnonzero((self.born <= op) & (self.last >= op) & (self.stored_bits > 0))
        return tuple(int(i) for i in alive[np.argsort(-self.stored_bits[alive], kind="stable")])


def timeline(workload: Workload) -> Timeline:
    """Return what torch keeps alive at each op, at the sizes of this workload's overlay."""
    structure = workload.structure
    sizes = workload.stored_bits
    count = len(structure.ops)
    moving = ~structure.persistent & (structure.last >= structure.born)
    change = np.bincount(structure.born[moving], weights=sizes[moving], minlength=count + 1)
    change -= np.bincount(structure.last[moving] + 1, weights=sizes[moving], minlength=count + 1)
    return Timeline(
        persistent_bits=float(sizes[structure.persistent].sum()),
        transient_bits=np.cumsum(change, dtype=np.float64)[:count],
        born=structure.born,
        last=structure.last,
        stored_bits=sizes,
    )


def peak_bits(workload: Workload) -> int:
    """Return the peak memory of the step in bits: what persists plus the most that is alive at once.

    Lifetimes are the framework's own, so that the peak of an unrewritten training step is what torch
    allocates for it: weights, buffers, optimizer state and inputs are held throughout, gradients from their
    making to the end of the step, the rest as the recorded step holds it.
    """
    return timeline(workload).peak_bits
