"""Mixed-precision training: narrow weights, activations and gradients beside wide master weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from evaluators.workload.errors import WorkloadError
from evaluators.workload.graph import Op, Phase, Role, Structure, Workload

_NARROWED = frozenset(
    {
        Role.WEIGHT,
        Role.INPUT,
        Role.ACTIVATION,
        Role.SAVED,
        Role.OUTPUT,
        Role.GRADIENT,
        Role.ACTIVATION_GRADIENT,
    }
)
_WIDE_BITS = 32  # float32: what is narrowed, and what the master weights keep


def mixed_precision(workload: Workload, *, bits: int = 16) -> Workload:
    """Return the workload in mixed precision, with a float32 master copy of every trained weight.

    Buffers and optimizer state stay wide. Loss scaling looks at all gradients before any is applied: plan it
    with `PlanOptions(clip_gradients=True)`. Tensors added by this are at the end, so indices stay valid.

    Args:
        workload: A training step in float32.
        bits: Width of the narrow format.

    Raises:
        WorkloadError: Not a width below 32.
    """
    if not 0 < bits < _WIDE_BITS:
        raise WorkloadError(f"0 < bits < {_WIDE_BITS} must hold, but got bits={bits}")
    structure = workload.structure
    narrowed = {
        index: bits
        for index, tensor in enumerate(structure.tensors)
        if tensor.role in _NARROWED and tensor.dtype_bits == _WIDE_BITS
    }
    weights = [index for index in structure.gradients if index in narrowed]
    master_of = {weight: len(structure.tensors) + number for number, weight in enumerate(weights)}
    count = len(weights)
    wide = Workload(
        structure=_with_masters(structure, master_of),
        bits=np.concatenate([workload.bits, np.full(count, float(_WIDE_BITS))]),
        density=np.concatenate([workload.density, np.ones(count)]),
        index_bits=np.concatenate([workload.index_bits, np.zeros(count)]),
    )
    return wide.rewrite(bits=narrowed)


def _with_masters(structure: Structure, master_of: dict[int, int]) -> Structure:
    count = len(master_of)
    masters = tuple(
        replace(
            structure.tensors[weight],
            name=f"{structure.tensors[weight].name}.master",
            role=Role.OPTIMIZER_STATE,
        )
        for weight in master_of
    )
    last = max(len(structure.ops) - 1, 0)
    return Structure(
        ops=tuple(_through_master(op, master_of) for op in structure.ops),
        tensors=(*structure.tensors, *masters),
        born=np.concatenate([structure.born, np.zeros(count, dtype=np.int64)]),
        last=np.concatenate([structure.last, np.full(count, last, dtype=np.int64)]),
        persistent=np.concatenate([structure.persistent, np.ones(count, dtype=np.bool_)]),
        gradients=structure.gradients,
        parameters=structure.parameters,
        states=structure.states,
        unmodelled=structure.unmodelled,
        derived_weights=structure.derived_weights,
    )


def _through_master(op: Op, master_of: dict[int, int]) -> Op:
    """An update reads and writes the master and rounds it into the weight."""
    if op.phase is not Phase.UPDATE or not any(index in master_of for index in op.outputs):
        return op
    inputs = tuple(master_of.get(index, index) for index in op.inputs)
    masters = tuple(master_of[index] for index in op.outputs if index in master_of)
    return replace(op, inputs=inputs, outputs=(*op.outputs, *masters), write_elements=())
