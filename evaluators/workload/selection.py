"""Which parameters train: all, none, the biases, the last few layers."""

from __future__ import annotations

import re

import torch
from torch import nn

from evaluators.workload.errors import WorkloadError
from evaluators.workload.graph import Structure
from evaluators.workload.trace import trace


def select_parameters(model: nn.Module, inputs: tuple[torch.Tensor, ...], scheme: str) -> tuple[str, ...]:
    """Return the paths of the parameters that a scheme trains.

    Args:
        model: Any.
        inputs: Example inputs; `last:K` traces an inference to learn the order of the layers.
        scheme: `all` (those with `requires_grad`), `none`, `bias`, or `last:K`: the last K modules that own
            the weight of a contraction, in execution order, and everything behind the first of them.

    Raises:
        WorkloadError: No such scheme, or a K beyond the layers.
        TraceError: The model cannot be traced.
    """
    check_scheme(scheme)
    trained = [path for path, parameter in model.named_parameters() if parameter.requires_grad]
    if scheme == "all":
        return tuple(trained)
    if scheme == "none":
        return ()
    if scheme == "bias":
        return tuple(path for path in trained if _is_bias(path.rpartition(".")[2]))
    structure = trace(model, inputs, training=False).structure
    chosen = set(_last_layers(structure, int(scheme.removeprefix("last:"))))
    return tuple(path for path in trained if path in chosen)


def check_scheme(scheme: str) -> None:
    """Raise where there is no such scheme.

    Raises:
        WorkloadError: No such scheme.
    """
    if scheme not in ("all", "none", "bias") and not re.fullmatch(r"last:0*[1-9][0-9]{0,8}", scheme):
        raise WorkloadError(f"what trains must be all, none, bias or last:K with K >= 1, but got {scheme!r}")


def _is_bias(name: str) -> bool:
    """Whether torch names biases so: `bias`, `in_proj_bias`, `bias_ih_l0`."""
    return name.endswith("bias") or name.startswith("bias_")


def _last_layers(structure: Structure, count: int) -> list[str]:
    read_at: dict[int, int] = {}
    for position, op in enumerate(structure.ops):
        read_at.update((index, position) for index in op.inputs)
    owners: dict[str, int] = {}  # module -> where its first contraction with a weight stands
    paths = {index: path for path, index in structure.parameters.items()}
    for position, op in enumerate(structure.ops):
        weight = structure.weight_index(op)
        if weight is not None:
            owners.setdefault(paths.get(weight, f"{op.layer}.").rpartition(".")[0], position)
    if count > len(owners):
        raise WorkloadError(f"last:K needs 1 <= K <= {len(owners)} (layers with a weight), but got K={count}")
    first = sorted(owners.values())[-count]
    return [path for path, index in structure.parameters.items() if read_at.get(index, -1) >= first]
