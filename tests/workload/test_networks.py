"""Peaks of the benchmark's networks: predicted against measured, planned against the bound."""

from __future__ import annotations

import pytest

from benchmarks.memory_networks import CASES
from evaluators.workload.dataflow import PlanOptions
from evaluators.workload.freeze import freeze
from evaluators.workload.graph import Phase
from evaluators.workload.measure import measure_peak_bytes
from evaluators.workload.memory import peak_bits
from evaluators.workload.optimizers import Optimizer
from evaluators.workload.plan import plan
from evaluators.workload.planners import Planner, check
from evaluators.workload.trace import trace

FAST = (
    "mlp",
    "lenet5",
    "unet",
    "autoencoder",
    "lstm",
    "lstm_bidirectional",
    "transformer_encoder",
    "gpt",
    "squeezenet",
    "gan_step",
    "two_in_two_out",
    "audio_cnn",
    "video_cnn",
)
SLOW = tuple(name for name in CASES if name not in FAST)


def check_network(name: str) -> None:
    case = CASES[name]
    model, inputs = case.build(), case.inputs()
    measured = measure_peak_bytes(model, inputs, loss=case.loss, optimizer=Optimizer.ADAM)
    step = trace(model, inputs, loss=case.loss, optimizer=Optimizer.ADAM)
    assert peak_bits(step) / 8 == pytest.approx(measured, rel=0.01)
    assert step.unmodelled == ()
    inference = measure_peak_bytes(model, inputs, training=False)
    assert peak_bits(trace(model, inputs, training=False)) / 8 == pytest.approx(inference, rel=0.01)
    for options in (PlanOptions(), PlanOptions(in_place=True, immediate_update=True)):
        arena = plan(step, Planner.BEST, options)
        check(arena.requests, arena.offsets)
        assert arena.lower_bound_bytes <= arena.arena_bytes <= 1.02 * arena.lower_bound_bytes


@pytest.mark.parametrize("name", FAST)
def test_peak_and_plan(name: str) -> None:
    check_network(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_peak_and_plan_of_large_networks(name: str) -> None:
    check_network(name)


@pytest.mark.parametrize("name", ["lenet5", "unet", "densenet", "gan_step"])
@pytest.mark.parametrize("part", ["bias", "tail", "half"])
def test_freezing_a_trace_prunes_what_tracing_frozen_does(name: str, part: str) -> None:
    case = CASES[name]
    model, inputs = case.build(), case.inputs()
    names = [path for path, _ in model.named_parameters()]
    trainable = {
        "bias": [path for path in names if path.endswith("bias")],
        "tail": names[-2:],
        "half": names[len(names) // 2 :],
    }[part]
    step = trace(model, inputs, loss=case.loss, optimizer=Optimizer.ADAM)
    pruned = freeze(step, trainable)
    traced = trace(model, inputs, loss=case.loss, optimizer=Optimizer.ADAM, trainable=trainable)
    assert pruned.macs == traced.macs
    assert pruned.backward_macs == traced.backward_macs
    for phases in ((Phase.FORWARD,), (Phase.INPUT_GRADIENT, Phase.WEIGHT_GRADIENT), (Phase.UPDATE,)):
        assert sum(op.phase in phases for op in pruned.ops) == sum(op.phase in phases for op in traced.ops)
    # torch saves for a frozen layer more than its input gradient will read: never less than dataflow needs.
    assert peak_bits(pruned) <= peak_bits(traced)
    bounds = [plan(w, Planner.BEST).lower_bound_bytes for w in (pruned, traced)]
    assert bounds[0] == pytest.approx(bounds[1], rel=1e-3)
