"""Inspect a torch model: parameters, MACs, peak memory of a step, and how it could be planned."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from codesign.inspection_source import InputSpec
from evaluators.workload.dataflow import PlanOptions
from evaluators.workload.errors import IndexInputError, TraceError, UnmodelledOpWarning
from evaluators.workload.graph import Phase, Role, Workload
from evaluators.workload.losses import Loss
from evaluators.workload.memory import Timeline, peak_bits, timeline
from evaluators.workload.optimizers import Optimizer
from evaluators.workload.plan import plan
from evaluators.workload.planners import Planner
from evaluators.workload.selection import select_parameters
from evaluators.workload.trace import trace

VERSION = 1  # of the JSON; grows when a key changes its meaning or goes away

# The executor for which memory is planned: what NNTrainer does by default.
EXECUTOR = PlanOptions(in_place=True, immediate_update=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class AliveTensor:
    """A tensor that is alive at the peak."""

    name: str
    role: str
    shape: tuple[int, ...]
    size_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MemoryCurve:
    """Memory over the ops of the training step, split by what the tensors are for.

    Attributes:
        roles: Names of the rows, from the bottom of the picture to its top.
        live_bytes: `(roles, ops)`.
        phases: Phase of each op.
        ops: Name of each op.
        peak_op: Where the sum is largest.
    """

    roles: tuple[str, ...]
    live_bytes: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
    phases: tuple[str, ...]
    ops: tuple[str, ...]
    peak_op: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Inspection:
    """What is known of a model without running it.

    Attributes:
        parameters: Elements of all parameters; tied ones count once.
        trained_parameters: Elements of those that train and that the loss reaches.
        forward_macs: Multiply-accumulates of the forward pass.
        backward_macs: Multiply-accumulates of the backward pass.
        peak_training_bytes: What torch allocates for a training step at its peak: weights, buffers,
            gradients, optimizer state, inputs and everything alive.
        peak_inference_bytes: The same for an inference; None where only the training step can be traced.
        planned: Memory of the training step by planner, and the lower bound: what persists plus the arena,
            for an executor that works in place and applies gradients at once (`EXECUTOR`).
        planned_inference: The same for an inference; empty where there is none.
        inference_error: Why an inference cannot be traced, or None.
        persistent_bytes: The part of `planned` that no planner can share.
        unmodelled_ops: Ops that are costed by their reads and writes only.
        at_peak: All tensors alive at the training peak, largest first.
        curve: Memory over the training step.
    """

    parameters: int
    trained_parameters: int
    forward_macs: int
    backward_macs: int
    peak_training_bytes: int
    peak_inference_bytes: int | None
    planned: Mapping[str, int]
    planned_inference: Mapping[str, int]
    inference_error: str | None
    persistent_bytes: int
    unmodelled_ops: tuple[str, ...]
    at_peak: tuple[AliveTensor, ...]
    curve: MemoryCurve

    def to_json(self) -> dict[str, object]:
        """Return the figures as plain data; the ten largest tensors at the peak, without the curve."""
        return {
            "version": VERSION,
            "parameters": self.parameters,
            "trained_parameters": self.trained_parameters,
            "forward_macs": self.forward_macs,
            "backward_macs": self.backward_macs,
            "peak_training_bytes": self.peak_training_bytes,
            "peak_inference_bytes": self.peak_inference_bytes,
            "persistent_bytes": self.persistent_bytes,
            "planned": dict(self.planned),
            "planned_inference": dict(self.planned_inference),
            "inference_error": self.inference_error,
            "unmodelled_ops": list(self.unmodelled_ops),
            "largest_at_peak": [
                {"name": t.name, "role": t.role, "shape": list(t.shape), "bytes": t.size_bytes}
                for t in self.at_peak[:10]
            ],
        }


def inspect_model(
    model: nn.Module,
    inputs: tuple[InputSpec, ...],
    *,
    loss: Loss = "cross_entropy",
    optimizer: Optimizer = Optimizer.SGD,
    train: str = "all",
) -> Inspection:
    """Inspect one training step and one inference of a model. Runs nothing and changes nothing.

    Args:
        model: Any module.
        inputs: Shapes of its inputs; one without a dtype is float32, or int64 where it indexes an embedding.
        loss: Name or callable, as in `evaluators.workload.trace.trace`.
        optimizer: The update rule.
        train: `all`, `none`, `bias` or `last:K`.

    Raises:
        TraceError: The model cannot be traced.
        WorkloadError: No such `train` scheme.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnmodelledOpWarning)  # named in the result instead
        inference, inference_error = None, None
        try:
            inference, examples = _with_dtypes(inputs, lambda x: trace(model, x, training=False))
        except TraceError as error:  # the training step may run other code
            inference_error = error

        def training(examples: tuple[Tensor, ...]) -> Workload:
            trainable = select_parameters(model, examples, train)
            return trace(model, examples, loss=loss, optimizer=optimizer, trainable=trainable)

        try:
            step = training(examples) if inference is not None else _with_dtypes(inputs, training)[0]
        except TraceError as error:
            raise (inference_error or error) from None
    alive = timeline(step)
    unmodelled = (*step.unmodelled, *(inference.unmodelled if inference is not None else ()))
    return Inspection(
        parameters=step.parameter_count,
        trained_parameters=sum(step.tensors[weight].numel for weight in step.structure.gradients),
        forward_macs=step.macs,
        backward_macs=step.backward_macs,
        peak_training_bytes=_bytes(peak_bits(step)),
        peak_inference_bytes=None if inference is None else _bytes(peak_bits(inference)),
        planned=_planned(step),
        planned_inference={} if inference is None else _planned(inference),
        inference_error=None if inference_error is None else str(inference_error),
        persistent_bytes=_bytes(int(alive.persistent_bits)),
        unmodelled_ops=tuple(dict.fromkeys(unmodelled)),
        at_peak=_at_peak(step, alive),
        curve=_curve(step, alive),
    )


def _with_dtypes(
    specs: tuple[InputSpec, ...], traced: Callable[[tuple[Tensor, ...]], Workload]
) -> tuple[Workload, tuple[Tensor, ...]]:
    """Trace with the dtypes given; an input without one becomes int64 if an embedding reads it."""
    dtypes = [spec.dtype for spec in specs]
    while True:
        examples = tuple(
            torch.empty(spec.shape, dtype=dtype or torch.float32, device="meta")
            for spec, dtype in zip(specs, dtypes, strict=True)
        )
        try:
            return traced(examples), examples
        except IndexInputError as error:
            if error.position is None or dtypes[error.position] is not None:
                raise
            dtypes[error.position] = torch.int64


def _planned(workload: Workload) -> dict[str, int]:
    arenas = {planner: plan(workload, planner, EXECUTOR) for planner in Planner}
    planned = {planner.value: arena.total_bytes for planner, arena in arenas.items()}
    best = arenas[Planner.BEST]
    return {**planned, "lower_bound": best.persistent_bytes + best.lower_bound_bytes}


def _at_peak(workload: Workload, alive: Timeline) -> tuple[AliveTensor, ...]:
    return tuple(
        AliveTensor(
            name=workload.tensors[index].name,
            role=workload.tensors[index].role.value,
            shape=workload.tensors[index].shape,
            size_bytes=_bytes(int(alive.stored_bits[index])),
        )
        for index in alive.alive_at(alive.peak_op)
    )


# From the ground up: what stands throughout comes first, so that the upper edge shows what comes and goes.
_STACK = (
    Role.WEIGHT,
    Role.BUFFER,
    Role.OPTIMIZER_STATE,
    Role.INPUT,
    Role.GRADIENT,
    Role.SAVED,
    Role.ACTIVATION,
    Role.OUTPUT,
    Role.ACTIVATION_GRADIENT,
)


def _curve(workload: Workload, alive: Timeline) -> MemoryCurve:
    count = len(workload.ops)
    row_of = {role: row for row, role in enumerate(_STACK)}
    change = np.zeros((len(_STACK), count + 1))
    rows = np.array([row_of[tensor.role] for tensor in workload.tensors])
    held = alive.last >= alive.born
    np.add.at(change, (rows[held], alive.born[held]), alive.stored_bits[held] / 8)
    np.subtract.at(change, (rows[held], alive.last[held] + 1), alive.stored_bits[held] / 8)
    return MemoryCurve(
        roles=tuple(role.value for role in _STACK),
        live_bytes=np.cumsum(change, axis=1)[:, :count],
        phases=tuple(_phase(op.phase) for op in workload.ops),
        ops=tuple(op.name for op in workload.ops),
        peak_op=alive.peak_op,
    )


def _phase(phase: Phase) -> str:
    names = {Phase.FORWARD: "forward", Phase.UPDATE: "update"}
    return names.get(phase, "backward")


def _bytes(bits: int) -> int:
    return -(-bits // 8)
