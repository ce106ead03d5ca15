"""What a SmartDeal training step moves: activations and errors on few bits, one scale an example.

Rounded is what a chip stores between two passes: the input and the output of the layer, and the errors of
both. The gradient of a weight, over the whole batch, keeps 32 bits, and so does every sum inside a layer.

The forward values are rounded where they stand, so that whoever else reads them (the shortcut of a residual
block) sees what is stored; an error that several layers add up to is rounded after the sum, as stored.

Source: Banner et al., NeurIPS 2018 (8-bit weights, activations and layer gradients train as single precision
does, if the gradient of the weights is kept wide). One scale an example and rounding to nearest are ours.
"""

from __future__ import annotations

from functools import lru_cache, partial

import torch
from torch import nn

from evaluators.techniques.fake_quantize import symmetric_range
from evaluators.workload.graph import Op, Operand, Phase, Role, Structure, Workload

SCALE_BITS = 32  # one an example
SMALLEST_SCALE = 1e-30  # of an example of zeros
_FORWARD = (Role.INPUT, Role.ACTIVATION, Role.SAVED)
_AFTER_THE_NETWORK = ("loss", "softmax")  # kinds of ops whose operands are a few values an example


@torch.no_grad()
def rounded(values: torch.Tensor, bits: int) -> torch.Tensor:
    """Return values on the signed integers of `bits`, one scale for each index of the first axis.

    >>> rounded(torch.tensor([[0.4, 127.0], [0.8, 254.0]]), 8).tolist()
    [[0.0, 127.0], [0.0, 254.0]]
    """
    _, high = symmetric_range(bits)
    axes = tuple(range(1, values.ndim))
    scale = (values.abs().amax(dim=axes, keepdim=True) / high).clamp_min_(SMALLEST_SCALE)
    return (values * scale.reciprocal()).round_().mul_(scale)


class _Rounded(torch.autograd.Function):
    """Values on few bits forward, their error on few bits backward."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, values: torch.Tensor, bits: int) -> torch.Tensor:
        ctx.bits = bits  # type: ignore[attr-defined]
        return rounded(values, bits)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, error: torch.Tensor) -> tuple[torch.Tensor, None]:
        return rounded(error, ctx.bits), None  # type: ignore[attr-defined]


class _RoundedError(torch.autograd.Function):
    """The identity, whose error is on few bits."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, values: torch.Tensor, bits: int) -> torch.Tensor:
        ctx.bits = bits  # type: ignore[attr-defined]
        return values.view_as(values)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, error: torch.Tensor) -> tuple[torch.Tensor, None]:
        return rounded(error, ctx.bits), None  # type: ignore[attr-defined]


def round_what_is_moved(layer: nn.Module, bits: int) -> None:
    """Round what a layer reads and writes while it is trained; nothing changes in evaluation mode."""
    layer.register_forward_pre_hook(partial(_before, bits=bits))
    layer.register_forward_hook(partial(_after, bits=bits))


def _before(
    layer: nn.Module, arguments: tuple[torch.Tensor, ...], *, bits: int
) -> tuple[torch.Tensor, ...] | None:
    values = arguments[0]
    if not layer.training:
        return None
    if not values.requires_grad:  # the network's own input: it has no error, and is not ours to change
        return (rounded(values, bits),)
    values.data.copy_(rounded(values, bits))
    values.register_hook(partial(rounded, bits=bits))  # type: ignore[no-untyped-call]
    return (_RoundedError.apply(values, bits),)  # type: ignore[no-untyped-call]


def _after(
    layer: nn.Module, _arguments: tuple[torch.Tensor, ...], output: torch.Tensor, *, bits: int
) -> torch.Tensor | None:
    if not layer.training:
        return None
    result: torch.Tensor = _Rounded.apply(output, bits)  # type: ignore[no-untyped-call]
    return result


def rewritten_step(workload: Workload, layer: str, bits: int) -> Workload:
    """Return a training step whose layer moves activations and errors of few bits."""
    moved = moved_by(workload.structure, layer)
    scale_bits = {
        index: SCALE_BITS * tensor.shape[0] / tensor.numel
        for index, tensor in ((index, workload.tensors[index]) for index in moved)
    }
    return workload.rewrite(bits=dict.fromkeys(moved, bits), index_bits=scale_bits)


@lru_cache(maxsize=1024)  # one entry a layer of a traced network; a search asks for them in every trial
def moved_by(structure: Structure, layer: str) -> tuple[int, ...]:
    """Return the activations and errors of a training step that are rounded where a layer is.

    These are its input and output; what lies between its input and the contractions before it, which
    normalise, add and activate in the pass that rounds; the error that it reads and those that the same pass
    makes it from; the error that it writes, and the sum that this goes into.
    """
    made_by: dict[int, list[Op]] = {}
    for op in structure.ops:
        for index in op.outputs:
            made_by.setdefault(index, []).append(op)
    found: dict[int, None] = {}
    for op in structure.by_layer[layer]:
        assert op.contraction is not None
        found[op.contraction.tensors[Operand.OUTPUT]] = None
        _add_before(structure, made_by, op.contraction.tensors[Operand.INPUT], _FORWARD, found)
        for back in _backward_of(structure, layer):
            assert back.contraction is not None
            error = back.contraction.tensors[Operand.OUTPUT]
            _add_before(structure, made_by, error, (Role.ACTIVATION_GRADIENT,), found)
            if back.contraction.output is Operand.INPUT:
                written = back.contraction.tensors[Operand.INPUT]
                found[written] = None
                found.update((index, None) for index in _sums_of(structure, written))
    return tuple(found)


def _backward_of(structure: Structure, layer: str) -> list[Op]:
    phases = (Phase.INPUT_GRADIENT, Phase.WEIGHT_GRADIENT)
    return [op for op in structure.ops if op.layer == layer and op.contraction and op.phase in phases]


def _add_before(
    structure: Structure,
    made_by: dict[int, list[Op]],
    start: int,
    roles: tuple[Role, ...],
    found: dict[int, None],
) -> None:
    """Add a tensor and those of the roles from which ops without a contraction make it, sums excluded."""
    waiting, seen = [start], set[int]()
    while waiting:
        index = waiting.pop()
        if index in seen or structure.tensors[index].role not in roles:
            continue
        seen.add(index)
        makers = made_by.get(index, [])
        if index != start and any(op.contraction or _adds_errors(structure, op) for op in makers):
            continue  # rounded where it is made
        found[index] = None
        for op in makers:
            if (
                op.contraction is None
                and op.kind not in _AFTER_THE_NETWORK
                and not _adds_errors(structure, op)
            ):
                waiting.extend(op.inputs)


def _adds_errors(structure: Structure, op: Op) -> bool:
    """Say whether an op adds the errors of several readers of one activation."""
    errors = [index for index in op.inputs if structure.tensors[index].role is Role.ACTIVATION_GRADIENT]
    return op.contraction is None and len(errors) > 1


def _sums_of(structure: Structure, error: int) -> list[int]:
    return [
        index
        for op in structure.ops
        if op.phase is Phase.INPUT_GRADIENT and error in op.inputs and _adds_errors(structure, op)
        for index in op.outputs
    ]
