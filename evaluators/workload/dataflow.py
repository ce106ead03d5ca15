"""Lifetimes by dataflow: from the op that makes a tensor to the last op that reads it.

torch's own lifetimes (`Structure.born`, `Structure.last`) are longer: it holds what a Python name or a saved
graph still points at. A compiler that plans its memory needs only what will still be read, may run an op in
the place of its input, and may apply a gradient as soon as it is complete.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from evaluators.workload.graph import Op, Phase, Role, Structure


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanOptions:
    """What the executor of a plan does.

    Attributes:
        in_place: An elementwise op or a normalisation writes over an input that nothing reads later.
        immediate_update: A weight is updated as soon as its gradient is complete and its old value is no
            longer needed, instead of at the end of the step.
        clip_gradients: The global norm of all gradients is taken before any is applied: every gradient
            lives to the end of the backward pass, and `immediate_update` has no effect. Loss scaling
            (mixed precision) checks all gradients first too.
    """

    in_place: bool = False
    immediate_update: bool = False
    clip_gradients: bool = False


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Skeleton:
    """The requests of a plan without their sizes, which are all that a design changes.

    Attributes:
        order: `(ops,)`, positions of the ops in the order in which the plan runs them.
        request_of: `(t,)`, the request that holds each tensor, -1 where none does (persistent, fused).
        starts: `(n,)`, first step of each request, counted in `order`.
        ends: `(n,)`, the step at which it lives no more.
        is_weight_gradient: `(n,)`.
    """

    order: tuple[int, ...]
    request_of: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    is_weight_gradient: npt.NDArray[np.bool_]


@lru_cache(maxsize=64)  # one entry a traced network and executor: a search plans the same ones every trial
def skeleton(structure: Structure, options: PlanOptions) -> Skeleton:
    """Return when each tensor lives under dataflow lifetimes."""
    moves = options.immediate_update and not options.clip_gradients
    order = _immediate_order(structure) if moves else tuple(range(len(structure.ops)))
    first, last = _accesses(structure, order)
    groups = _in_place_groups(structure, order, first, last) if options.in_place else {i: i for i in first}
    request_of = np.full(len(structure.tensors), -1, dtype=np.int64)
    number: dict[int, int] = {}
    starts: list[int] = []
    ends: list[int] = []
    gradient: list[bool] = []
    for index in sorted(first, key=lambda index: first[index]):
        request = number.setdefault(_root(groups, index), len(number))
        if request == len(starts):
            starts.append(first[index])
            ends.append(last[index] + 1)
            gradient.append(False)
        ends[request] = max(ends[request], last[index] + 1)
        gradient[request] |= structure.tensors[index].role is Role.GRADIENT
        request_of[index] = request
    return Skeleton(
        order=order,
        request_of=request_of,
        starts=np.array(starts, dtype=np.int64),
        ends=np.array(ends, dtype=np.int64),
        is_weight_gradient=np.array(gradient, dtype=np.bool_),
    )


def _accesses(structure: Structure, order: Iterable[int]) -> tuple[dict[int, int], dict[int, int]]:
    """Return the first and last step at which each transient tensor must exist."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for step, position in enumerate(order):
        op = structure.ops[position]
        for index in (*op.inputs, *op.outputs):
            if not structure.persistent[index] and structure.tensors[index].materialised:
                first.setdefault(index, step)
                last[index] = step
    end = len(structure.ops) - 1
    applied = {index for op in structure.ops if op.phase is Phase.UPDATE for index in op.inputs}
    kept = {index for index in structure.gradients.values() if index not in applied}
    if not structure.gradients:
        kept |= {index for index in first if structure.tensors[index].role is Role.OUTPUT}
    for index in kept & last.keys():
        last[index] = end  # the caller reads it after the step
    return first, last


def _root(groups: dict[int, int], index: int) -> int:
    while groups[index] != index:
        index = groups[index]
    return index


_IN_PLACE_KINDS = frozenset({"elementwise", "normalization", "softmax"})


def _in_place_groups(
    structure: Structure, order: Iterable[int], first: dict[int, int], last: dict[int, int]
) -> dict[int, int]:
    """Return, for each tensor, one whose place it takes; itself where it has its own."""
    groups = {index: index for index in first}
    for step, position in enumerate(order):
        op = structure.ops[position]
        if op.kind not in _IN_PLACE_KINDS or op.contraction is not None:
            continue
        free = [index for index in _overwritable(op) if index in first and last[index] == step]
        for output in op.outputs:
            if first.get(output) != step:
                continue
            for index in free:
                if index != output and _same_layout(structure, index, output):
                    groups[output] = _root(groups, index)
                    free.remove(index)
                    break
    return groups


def _overwritable(op: Op) -> tuple[int, ...]:
    """Return the inputs that are read element by element as the output is written.

    A normalisation and a softmax read their first input twice; the statistics are taken before anything is
    written, and the second reading goes element by element.
    """
    return op.inputs if op.kind == "elementwise" else op.inputs[:1]


def _same_layout(structure: Structure, a: int, b: int) -> bool:
    one, other = structure.tensors[a], structure.tensors[b]
    return one.numel == other.numel and one.dtype_bits == other.dtype_bits


def _immediate_order(structure: Structure) -> tuple[int, ...]:
    """Move the update of each weight behind the last op that needs its old value or adds to its gradient."""
    rest = [position for position, op in enumerate(structure.ops) if op.phase is not Phase.UPDATE]
    last_use: dict[int, int] = {}
    for position in rest:
        op = structure.ops[position]
        last_use.update((index, position) for index in (*op.inputs, *op.outputs))
    after: dict[int, list[int]] = {}
    for component in update_components(structure):
        touched = {
            i
            for position in component
            for i in (*structure.ops[position].inputs, *structure.ops[position].outputs)
        }
        anchor = max(
            (last_use[index] for index in touched if index in last_use), default=rest[-1] if rest else -1
        )
        after.setdefault(anchor, []).extend(component)
    order = list(after.get(-1, ()))
    for position in rest:
        order.append(position)
        order.extend(after.get(position, ()))
    return tuple(order)


def update_components(structure: Structure) -> list[list[int]]:
    """Split the update ops by the weight that they update, each part in execution order."""
    groups: dict[int, int] = {}  # tensor -> tensor: ops that share one belong together

    def join(indices: Iterable[int]) -> None:
        first, *rest = [_root(groups, groups.setdefault(index, index)) for index in indices]
        groups.update((root, first) for root in rest)

    for weight, states in structure.states.items():
        join((weight, *states))
    updates = [position for position, op in enumerate(structure.ops) if op.phase is Phase.UPDATE]
    for position in updates:
        join((*structure.ops[position].inputs, *structure.ops[position].outputs))
    components: dict[int, list[int]] = {}
    for position in updates:
        op = structure.ops[position]
        components.setdefault(_root(groups, (*op.inputs, *op.outputs)[0]), []).append(position)
    return list(components.values())
