"""Swapping, mixed precision, freezing: the executors beyond plain planning."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from evaluators.workload.dataflow import PlanOptions
from evaluators.workload.errors import PlanError, WorkloadError
from evaluators.workload.freeze import freeze
from evaluators.workload.graph import Role, Workload
from evaluators.workload.memory import peak_bits
from evaluators.workload.optimizers import Optimizer
from evaluators.workload.plan import persistent_bytes, requests_of
from evaluators.workload.precision import mixed_precision
from evaluators.workload.swap import Store, swap
from evaluators.workload.trace import trace


@pytest.fixture(scope="module")
def step() -> Workload:
    model = nn.Sequential(*(nn.Linear(64, 64) for _ in range(8)))
    return trace(model, (torch.zeros(16, 64),), loss="mse", optimizer=Optimizer.MOMENTUM)


def store(lookahead: int) -> Store:
    return Store(read_bytes_per_s=2e6, write_bytes_per_s=1e6, lookahead=lookahead)


def test_swapping_needs_far_less_memory_and_more_with_look_ahead(step: Workload) -> None:
    peaks = [swap(step, store(ahead)).resident_peak_bytes for ahead in (0, 1, 4)]
    assert peaks == sorted(peaks)
    assert peaks[0] < peak_bits(step) / 8 / 4
    far = swap(step, store(len(step.ops)))
    assert far.resident_peak_bytes <= peak_bits(step) / 8


def test_at_no_look_ahead_the_resident_set_is_what_the_op_touches(step: Workload) -> None:
    plan = swap(step, store(0))
    sizes = step.stored_bits / 8
    for position, op in enumerate(step.ops):
        touched = {*op.inputs, *op.outputs}
        assert plan.resident_bytes[position] >= sum(sizes[index] for index in touched)
    last = step.ops[-1]
    assert plan.resident_bytes[-1] <= sum(sizes[i] for i in {*last.inputs, *last.outputs}) * 2


def test_what_never_leaves_is_read_and_written_once() -> None:
    tiny = trace(nn.Linear(4, 4, bias=False), (torch.zeros(2, 4),), loss="mse", optimizer=Optimizer.SGD)
    plan = swap(tiny, store(100))
    sizes = tiny.stored_bits / 8
    persistent = float(sizes[tiny.structure.persistent].sum())
    weight = float(sizes[tiny.weight_of("")])
    assert plan.read_bytes.sum() == persistent  # nothing that the step makes itself is read from the store
    assert plan.written_bytes.sum() == weight  # the only persistent tensor that changes
    assert plan.traffic_bytes == persistent + weight


def test_look_ahead_hides_transfers_behind_computation(step: Workload) -> None:
    compute_s = np.full(len(step.ops), 1e-2)
    waiting, hidden = (swap(step, store(ahead), compute_s=compute_s) for ahead in (0, 1))
    moving = waiting.read_bytes / 2e6 + waiting.written_bytes / 1e6
    assert np.allclose(waiting.latency_s, compute_s + moving)
    moving = hidden.read_bytes / 2e6 + hidden.written_bytes / 1e6
    assert np.allclose(hidden.latency_s, np.maximum(compute_s, moving))


def test_swapping_follows_the_plans_order(step: Workload) -> None:
    immediate = swap(step, store(1), options=PlanOptions(immediate_update=True))
    assert immediate.traffic_bytes < swap(step, store(1)).traffic_bytes  # gradients need not come back


@pytest.mark.parametrize("wrong", [{"read_bytes_per_s": 0.0}, {"write_bytes_per_s": -1.0}, {"lookahead": -1}])
def test_impossible_stores_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(PlanError, match=r"bandwidths must be > 0 and the look-ahead >= 0, but got"):
        Store(**{"read_bytes_per_s": 1.0, "write_bytes_per_s": 1.0, "lookahead": 1, **wrong})  # type: ignore[arg-type]


def test_compute_times_must_fit(step: Workload) -> None:
    with pytest.raises(PlanError, match=r"compute_s must have one entry per op \(\d+\), but has 2"):
        swap(step, store(1), compute_s=np.ones(2))


def test_mixed_precision_keeps_master_weights(step: Workload) -> None:
    mixed = mixed_precision(step)
    weights = step.parameter_count
    masters = [tensor for tensor in mixed.tensors if tensor.name.endswith(".master")]
    assert sum(tensor.numel for tensor in masters) == weights
    inputs = 2 * 16 * 64  # the data and the target
    # Half the weights and inputs, whole velocities, and a whole copy of the weights.
    assert persistent_bytes(mixed) == 2 * weights + 2 * inputs + 4 * weights + 4 * weights
    assert requests_of(mixed, PlanOptions()).lower_bound < requests_of(step, PlanOptions()).lower_bound
    assert mixed.tensors[: len(step.tensors)] == step.tensors  # indices stay valid
    updates = [op for op in mixed.ops if any(mixed.tensors[i].name.endswith(".master") for i in op.outputs)]
    assert len(updates) == len(masters)
    assert all(len(op.write_elements) in (0, len(op.outputs)) for op in mixed.ops)


@pytest.mark.parametrize("bits", [0, 32])
def test_mixed_precision_must_be_narrower(step: Workload, bits: int) -> None:
    with pytest.raises(WorkloadError, match=rf"0 < bits < 32 must hold, but got bits={bits}"):
        mixed_precision(step, bits=bits)


def test_freezing_everything_leaves_the_forward_pass(step: Workload) -> None:
    frozen = freeze(step, ())
    assert frozen.backward_macs == 0
    assert frozen.macs == step.macs
    assert not frozen.structure.gradients
    states = [i for i, tensor in enumerate(step.tensors) if tensor.role is Role.OPTIMIZER_STATE]
    assert not frozen.structure.persistent[states].any()
    assert not any(tensor.role is Role.SAVED for tensor in frozen.tensors)


def test_freezing_keeps_the_overlay(step: Workload) -> None:
    light = step.rewrite(bits={step.weight_of("7"): 4})
    assert freeze(light, ("7.weight",)).bits[step.weight_of("7")] == 4


def test_freezing_less_than_everything_saves_memory_in_order(step: Workload) -> None:
    peaks = [peak_bits(freeze(step, [f"{i}.weight" for i in range(first, 8)])) for first in (7, 4, 0)]
    assert peaks == sorted(peaks)
    assert peaks[-1] <= peak_bits(step)


def test_only_what_exists_and_has_a_gradient_can_train(step: Workload) -> None:
    with pytest.raises(WorkloadError, match=r"no parameter named '7.wieght'; did you mean '7.weight'\?"):
        freeze(step, ("7.wieght",))
    inference = trace(nn.Linear(4, 4), (torch.zeros(1, 4),), training=False)
    with pytest.raises(WorkloadError, match="'weight' has none; trace the step with it among the trainable"):
        freeze(inference, ("weight",))
