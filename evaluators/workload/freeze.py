"""Freeze parameters of a traced step without tracing again: what nothing needs any more vanishes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from evaluators.workload.dataflow import update_components
from evaluators.workload.errors import WorkloadError, unknown
from evaluators.workload.graph import Op, Phase, Role, Structure, Workload


def freeze(workload: Workload, trainable: Collection[str]) -> Workload:
    """Return the step in which only the named parameters train.

    The backward graph is pruned by reachability: an op stays if some gradient of a trained parameter, or an
    update of it, depends on what it writes. Forward ops stay. Tensor indices stay valid, so that overlays
    carry over; what vanished is never alive. Activations that only vanished ops read are not saved: they
    live to their last use, which is shorter than torch holds them for a frozen layer.

    Args:
        workload: A training step in which at least these parameters train.
        trainable: Paths of parameters.

    Raises:
        WorkloadError: A path that is no parameter, or a parameter without a gradient in this step.
    """
    structure = workload.structure
    for path in trainable:
        if path not in structure.parameters:
            raise WorkloadError(unknown("parameter", path, structure.parameters))
        if structure.parameters[path] not in structure.gradients:
            raise WorkloadError(
                f"a parameter must have a gradient in the traced step to be trained, but {path!r} has none; "
                "trace the step with it among the trainable parameters"
            )
    kept = frozenset(structure.parameters[path] for path in trainable)
    return replace(workload, structure=_frozen(structure, kept))


@lru_cache(maxsize=1024)  # a search revisits the same update schemes
def _frozen(structure: Structure, trained: frozenset[int]) -> Structure:
    needed = _needed_ops(structure, trained)
    ops = tuple(needed.values())
    gradients = {w: g for w, g in structure.gradients.items() if w in trained}
    born, last, persistent = _lifetimes(structure, needed)
    read_back = {index for op in ops if op.phase not in (Phase.FORWARD, Phase.UPDATE) for index in op.inputs}
    tensors = tuple(
        replace(tensor, role=Role.ACTIVATION) if tensor.role is Role.SAVED and i not in read_back else tensor
        for i, tensor in enumerate(structure.tensors)
    )
    return Structure(
        ops=ops,
        tensors=tensors,
        born=born,
        last=last,
        persistent=persistent,
        gradients=gradients,
        parameters=structure.parameters,
        states={w: s for w, s in structure.states.items() if w in trained},
        unmodelled=structure.unmodelled,
        derived_weights=structure.derived_weights,
    )


def _needed_ops(structure: Structure, trained: frozenset[int]) -> dict[int, Op]:
    """Walk the step backwards and keep what the trained gradients and their updates depend on.

    `wanted` holds the tensors whose present content somebody later needs. A backward op that writes one of
    them is kept, writes nothing else, and wants its own inputs. Where it reads what it writes (a gradient
    that is added to), the content before it is wanted too.
    """
    wanted = {structure.gradients[weight] for weight in trained}
    applied = {
        position
        for component in update_components(structure)
        if any(wanted.intersection(structure.ops[position].inputs) for position in component)
        for position in component
    }
    needed: dict[int, Op] = {}
    for position in range(len(structure.ops) - 1, -1, -1):
        op = structure.ops[position]
        if op.phase is Phase.FORWARD or position in applied:
            needed[position] = op
        elif op.phase is not Phase.UPDATE and wanted.intersection(op.outputs):
            needed[position] = _writing_only(op, wanted)
            wanted.difference_update(op.outputs)
            wanted.update(op.inputs)
    return dict(sorted(needed.items()))


def _writing_only(op: Op, wanted: set[int]) -> Op:
    """Return the op without the outputs that nobody wants (a normalisation's frozen scale)."""
    kept = [position for position, index in enumerate(op.outputs) if index in wanted]
    if len(kept) == len(op.outputs):
        return op
    elements = tuple(op.write_elements[position] for position in kept) if op.write_elements else ()
    return replace(op, outputs=tuple(op.outputs[position] for position in kept), write_elements=elements)


def _lifetimes(
    structure: Structure, needed: dict[int, Op]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return born, last and persistent, counted in the ops that are left."""
    count = len(structure.tensors)
    first_access, last_access = np.full(count, -1, dtype=np.int64), np.full(count, -1, dtype=np.int64)
    forward_end = 0
    for step, op in enumerate(needed.values()):
        touched = [*op.inputs, *op.outputs]
        last_access[touched] = step
        for index in touched:
            if first_access[index] < 0:
                first_access[index] = step
        forward_end = step if op.phase is Phase.FORWARD else forward_end
    accessed = last_access >= 0
    weights = np.zeros(count, dtype=np.bool_)
    weights[[i for i, t in enumerate(structure.tensors) if t.role is not Role.OPTIMIZER_STATE]] = True
    persistent = structure.persistent & (accessed | weights)
    # kept[p]: how many of the ops up to and including p are left; the last of them is the new position of p.
    kept = np.cumsum(np.isin(np.arange(len(structure.ops)), list(needed)))
    held = kept[np.maximum(structure.last, 0)] - 1
    end = len(needed) - 1
    released_in_forward = held < forward_end
    to_the_end = structure.last == len(structure.ops) - 1
    last = np.where(released_in_forward, np.maximum(held, last_access), last_access)
    last = np.where(to_the_end, end, last)
    born = np.where(accessed, first_access, 0)
    is_alive = (accessed & (structure.last >= structure.born)) | persistent
    return np.where(persistent, 0, born), np.where(is_alive, np.where(persistent, end, last), -1), persistent
