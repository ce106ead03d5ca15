"""Plans of traced workloads: executors, overlays, timelines."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from evaluators.workload.dataflow import PlanOptions, skeleton, update_components
from evaluators.workload.graph import Phase, Role, Workload
from evaluators.workload.memory import peak_bits, timeline
from evaluators.workload.optimizers import Optimizer
from evaluators.workload.plan import persistent_bytes, plan, requests_of
from evaluators.workload.planners import Planner
from evaluators.workload.trace import trace

CONVENTIONAL = PlanOptions()
IN_PLACE = PlanOptions(in_place=True)
IMMEDIATE = PlanOptions(in_place=True, immediate_update=True)
CLIPPED = PlanOptions(in_place=True, immediate_update=True, clip_gradients=True)


def mlp_step(
    optimizer: Optimizer | None = Optimizer.SGD, *, widths: tuple[int, ...] = (64, 128, 256, 32)
) -> Workload:
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return trace(nn.Sequential(*layers), (torch.zeros(4, widths[0]),), loss="mse", optimizer=optimizer)


def gradient_bytes(step: Workload) -> int:
    return sum(4 * step.tensors[index].numel for index in step.structure.gradients.values())


def test_each_option_lowers_the_bound_and_clipping_undoes_one() -> None:
    step = mlp_step()
    conventional, in_place, immediate, clipped = (
        requests_of(step, options).lower_bound for options in (CONVENTIONAL, IN_PLACE, IMMEDIATE, CLIPPED)
    )
    assert immediate < in_place <= conventional
    assert clipped == in_place
    assert clipped >= gradient_bytes(step)  # all gradients at once
    assert immediate < gradient_bytes(step)


def test_immediate_update_waits_for_the_last_use_of_the_old_weight() -> None:
    step = mlp_step(Optimizer.ADAM)
    order = skeleton(step.structure, IMMEDIATE).order
    assert sorted(order) == list(range(len(step.ops)))
    at = {position: when for when, position in enumerate(order)}
    for component in update_components(step.structure):
        written = {i for p in component for i in step.ops[p].outputs if step.tensors[i].role is Role.WEIGHT}
        assert len(written) == 1
        (weight,) = written
        used = [p for p, op in enumerate(step.ops) if op.phase is not Phase.UPDATE and weight in op.inputs]
        first = min(at[p] for p in component)
        assert all(at[p] < first for p in used)
        assert [at[p] for p in component] == sorted(at[p] for p in component)


def test_plans_run_the_same_ops_on_the_same_tensors() -> None:
    step = mlp_step()
    assert len(step.ops) == len(skeleton(step.structure, IMMEDIATE).order)


def test_a_gradient_that_nobody_applies_lives_to_the_end() -> None:
    step = mlp_step(None)
    frame = skeleton(step.structure, CONVENTIONAL)
    for gradient in step.structure.gradients.values():
        assert frame.ends[frame.request_of[gradient]] == len(step.ops)


def test_an_inferences_outputs_live_to_the_end() -> None:
    class TwoHeads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.a(x), self.b(x)

    workload = trace(TwoHeads(), (torch.zeros(2, 8),), training=False)
    assert plan(workload, Planner.BEST).arena_bytes == 2 * 2 * 8 * 4


def test_in_place_ops_share_a_request_where_the_input_dies() -> None:
    workload = trace(
        nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.Softmax(-1)),
        (torch.zeros(2, 8),),
        training=False,
    )
    tensors = {tensor.name: index for index, tensor in enumerate(workload.tensors)}
    shared = skeleton(workload.structure, IN_PLACE).request_of
    assert shared[tensors["0/addmm"]] == shared[tensors["1/relu"]]
    assert shared[tensors["2/addmm"]] == shared[tensors["3/_softmax"]]
    apart = skeleton(workload.structure, CONVENTIONAL).request_of
    assert apart[tensors["0/addmm"]] != apart[tensors["1/relu"]]


def test_a_saved_input_is_not_overwritten() -> None:
    step = trace(nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8)), (torch.zeros(2, 8),), loss="mse")
    tensors = {tensor.name: index for index, tensor in enumerate(step.tensors)}
    request_of = skeleton(step.structure, IN_PLACE).request_of
    assert request_of[tensors["0/addmm"]] != request_of[tensors["1/gelu"]]  # GELU's backward reads its input


def test_the_overlay_scales_the_plan() -> None:
    step = mlp_step()
    halved = step.rewrite(bits={index: step.bits[index] / 2 for index in range(len(step.tensors))})
    for options in (CONVENTIONAL, IMMEDIATE):
        whole, half = plan(step, Planner.BEST, options), plan(halved, Planner.BEST, options)
        assert half.lower_bound_bytes == pytest.approx(whole.lower_bound_bytes / 2, rel=1e-3)
        assert half.persistent_bytes == pytest.approx(whole.persistent_bytes / 2, rel=1e-3)


def test_totals_and_efficiency() -> None:
    arena = plan(mlp_step(), Planner.BASIC)
    assert arena.total_bytes == arena.persistent_bytes + arena.arena_bytes
    assert arena.efficiency == arena.lower_bound_bytes / arena.arena_bytes < 1
    assert plan(trace(nn.Identity(), (torch.zeros(1),), training=False), Planner.BEST).efficiency == 1.0


def test_timeline_is_what_a_slow_count_gives() -> None:
    step = mlp_step(Optimizer.ADAM)
    curve = timeline(step)
    structure, sizes = step.structure, step.stored_bits
    for op in range(len(step.ops)):
        alive = ~structure.persistent & (structure.born <= op) & (structure.last >= op)
        assert curve.transient_bits[op] == sizes[alive].sum()
    assert curve.peak_bits == peak_bits(step)
    assert persistent_bytes(step) * 8 == curve.persistent_bits
    names = curve.alive_at(curve.peak_op)
    assert list(sizes[list(names)]) == sorted(sizes[list(names)], reverse=True)
    assert sizes[list(names)].sum() == curve.peak_bits


def test_a_timeline_without_ops_is_its_inputs() -> None:
    workload = trace(nn.Identity(), (torch.zeros(3, 5),), training=False)
    assert peak_bits(workload) == 3 * 5 * 32
    assert timeline(workload).peak_op == 0


def test_sizes_round_up_to_bytes() -> None:
    workload = trace(nn.Identity(), (torch.zeros(3),), training=False)
    assert persistent_bytes(workload.rewrite(bits={0: 3})) == 2
    assert persistent_bytes(workload.rewrite(bits={0: 8 / 3})) == 1  # 3 * (8 / 3) is one byte, not two
    assert np.isclose(workload.rewrite(bits={0: 3}).stored_bits[0], 9)
