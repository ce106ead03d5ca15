"""Which tensors stay on chip from one op to the next: those whose lifetimes fit in the resident level.

A chip declares a level with a `resident_fraction`. Tensors that live inside the step (activations and their
gradients, not weights, inputs or optimizer state) are admitted shortest life times size first, as long as
everything admitted fits at every op of their lives. What isn't admitted goes through the outermost memory
at every use; nothing is ever assumed to fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluators.cost.problem import resident_level
from evaluators.workload.graph import Op, Workload
from hw_templates.accelerator import Accelerator


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Residency:
    """What stays on chip.

    Attributes:
        level: Index of the accelerator's level that keeps tensors, or None.
        resident: `(t,)`, whether the tensor stays there for all its life.
        occupied_bits: `(ops,)`, bits of the level that resident tensors hold while each op runs.
    """

    level: int | None
    resident: npt.NDArray[np.bool_]
    occupied_bits: npt.NDArray[np.float64]

    def of(self, op: Op) -> tuple[bool, ...]:
        """Return for each of an op's inputs, then outputs, whether it stays on chip."""
        return tuple(bool(self.resident[tensor]) for tensor in (*op.inputs, *op.outputs))


def plan_residency(workload: Workload, accelerator: Accelerator) -> Residency:
    """Return which tensors of `workload` stay in the resident level of `accelerator`."""
    structure = workload.structure
    resident = np.zeros(len(structure.tensors), np.bool_)
    occupied = np.zeros(len(structure.ops))
    level = resident_level(accelerator)
    if level is None or not len(structure.ops):
        return Residency(level=None, resident=resident, occupied_bits=occupied)
    memory = accelerator.memories[level]
    room = memory.capacity_bits * memory.resident_fraction
    sizes = workload.stored_bits if memory.compressed else structure.numel * workload.bits
    lifetime = structure.last - structure.born + 1
    moving = ~structure.persistent & (lifetime > 0) & (sizes > 0) & (sizes <= room)
    candidates = np.flatnonzero(moving)
    for tensor in candidates[np.argsort(sizes[candidates] * lifetime[candidates], kind="stable")]:
        life = slice(structure.born[tensor], structure.last[tensor] + 1)
        if occupied[life].max() + sizes[tensor] <= room:
            occupied[life] += sizes[tensor]
            resident[tensor] = True
    return Residency(level=level, resident=resident, occupied_bits=occupied)
