"""What the techniques ask of a workload beyond its own questions."""

from __future__ import annotations

from functools import lru_cache

from evaluators.workload.graph import Phase, Role, Structure, Workload


def is_training(workload: Workload) -> bool:
    """Say whether the workload has a backward pass."""
    return bool(workload.structure.gradients)


@lru_cache(maxsize=1024)  # one entry a weight of a traced network; a search asks for them in every trial
def companions_of(structure: Structure, weight: int) -> tuple[int, ...]:
    """Return a trained weight's gradient and optimizer states; nothing in an inference.

    A state belongs to the weight if an update touches it together with the weight or with its gradient,
    and if it has the weight's shape (Adam's step counter has not).
    """
    gradient = structure.gradients.get(weight)
    if gradient is None:
        return ()
    shape = structure.tensors[weight].shape
    found: dict[int, None] = {gradient: None}
    for op in structure.ops:
        touched = {*op.inputs, *op.outputs}
        if op.phase is Phase.UPDATE and touched & {weight, gradient}:
            found.update(
                (index, None)
                for index in sorted(touched)
                if structure.tensors[index].role is Role.OPTIMIZER_STATE
                and structure.tensors[index].shape == shape
            )
    return tuple(found)
