"""Tracing: exact nests and phases, lifetimes that match real runs, the user's model left alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from evaluators.workload.errors import TraceError, WorkloadError
from evaluators.workload.graph import LoopNest, Operand, Phase, Role, Workload
from evaluators.workload.measure import measure_peak_bytes
from evaluators.workload.memory import peak_bits
from evaluators.workload.optimizers import Optimizer
from evaluators.workload.trace import trace

torch.set_num_threads(1)


def small_cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 8, 3, groups=8, bias=False),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * 7 * 7, 10),
    )


IMAGES = torch.zeros(4, 3, 32, 32)


@pytest.fixture(scope="module")
def step() -> Workload:
    return trace(small_cnn(), (IMAGES,), loss="cross_entropy", optimizer=Optimizer.MOMENTUM)


def test_layers_in_execution_order(step: Workload) -> None:
    assert step.layers == ("0", "3", "6")
    assert [step.tensors[step.weight_of(layer)].name for layer in step.layers] == [
        "0.weight",
        "3.weight",
        "6.weight",
    ]
    assert [step.tensors[i].shape for layer in step.layers for i in step.inputs_of(layer)] == [
        (4, 3, 32, 32),
        (4, 8, 16, 16),
        (4, 8, 7, 7),
    ]


def test_nests_in_closed_form(step: Workload) -> None:
    nests = {op.layer: op.contraction.nest for op in step.ops if op.contraction and op.phase is Phase.FORWARD}
    assert nests["0"] == LoopNest(
        b=4, k=8, c=3, oy=16, ox=16, fy=3, fx=3, stride_y=2, stride_x=2, iy=32, ix=32
    )
    assert nests["3"] == LoopNest(b=4, k=1, c=1, oy=14, ox=14, fy=3, fx=3, groups=8, iy=16, ix=16)
    assert nests["6"] == LoopNest(b=4, k=10, c=392)
    assert step.macs == 4 * (8 * 3 * 9 * 16 * 16 + 8 * 9 * 14 * 14 + 392 * 10)
    first = 4 * 8 * 3 * 9 * 16 * 16  # the first layer has no input gradient
    assert step.backward_macs == 2 * step.macs - first


def test_the_three_passes_share_a_nest(step: Workload) -> None:
    for layer in step.layers:
        passes = {
            op.phase: op.contraction for op in step.ops if op.layer == layer and op.contraction is not None
        }
        assert {c.nest for c in passes.values()} == {passes[Phase.FORWARD].nest}
        assert passes[Phase.FORWARD].output is Operand.OUTPUT
        assert passes[Phase.WEIGHT_GRADIENT].output is Operand.WEIGHT
        weight = step.weight_of(layer)
        gradient = passes[Phase.WEIGHT_GRADIENT].tensors[Operand.WEIGHT]
        assert step.structure.gradients[weight] == gradient
        assert passes[Phase.WEIGHT_GRADIENT].tensors[Operand.INPUT] in step.inputs_of(layer)
        if Phase.INPUT_GRADIENT in passes:
            assert passes[Phase.INPUT_GRADIENT].output is Operand.INPUT
            assert passes[Phase.INPUT_GRADIENT].tensors[Operand.WEIGHT] == weight


def test_roles(step: Workload) -> None:
    roles = {tensor.name: tensor.role for tensor in step.tensors}
    assert roles["0.weight"] is Role.WEIGHT
    assert roles["grad(0.weight)"] is Role.GRADIENT
    assert roles["0.weight.state0"] is Role.OPTIMIZER_STATE
    assert roles["1.running_mean"] is Role.BUFFER
    assert roles["input0"] is Role.INPUT
    assert roles["6/addmm"] is Role.OUTPUT
    assert roles["1/native_batch_norm"] is Role.SAVED


def test_inference_has_no_other_phase() -> None:
    inference = trace(small_cnn(), (IMAGES,), training=False)
    assert {op.phase for op in inference.ops} == {Phase.FORWARD}
    assert inference.macs == trace(small_cnn(), (IMAGES,), loss="cross_entropy").macs
    assert peak_bits(inference) == 8 * measure_peak_bytes(small_cnn(), (IMAGES,), training=False)


@pytest.mark.parametrize("optimizer", [None, *Optimizer])
@pytest.mark.parametrize("trainable", [None, ("6.weight", "6.bias"), ("0.bias", "6.bias"), ()])
def test_peak_matches_the_real_step(optimizer: Optimizer | None, trainable: tuple[str, ...] | None) -> None:
    model = small_cnn()
    traced = trace(model, (IMAGES,), loss="cross_entropy", optimizer=optimizer, trainable=trainable)
    measured = measure_peak_bytes(
        model, (IMAGES,), loss="cross_entropy", optimizer=optimizer, trainable=trainable
    )
    assert peak_bits(traced) == 8 * measured


def test_the_users_model_is_left_alone() -> None:
    model = small_cnn().eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    identities = [id(parameter) for parameter in model.parameters()]
    trace(model, (IMAGES,), loss="cross_entropy", optimizer=Optimizer.ADAM, trainable=("0.bias",))
    assert not model.training
    assert [id(parameter) for parameter in model.parameters()] == identities
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_meta_model_needs_no_weights() -> None:
    with torch.device("meta"):
        model, images = small_cnn(), torch.empty(4, 3, 32, 32)
    traced = trace(model, (images,), loss="cross_entropy", optimizer=Optimizer.SGD)
    real = trace(small_cnn(), (IMAGES,), loss="cross_entropy", optimizer=Optimizer.SGD)
    assert peak_bits(traced) == peak_bits(real)
    assert traced.ops == real.ops


def test_rewrite_is_an_overlay(step: Workload) -> None:
    weight = step.weight_of("6")
    lighter = step.rewrite(bits={weight: 4}, density={weight: 0.5}, index_bits={weight: 1})
    assert lighter.structure is step.structure
    assert lighter.stored_bits[weight] == 3920 * (4 * 0.5 + 1)
    assert step.stored_bits[weight] == 3920 * 32
    assert peak_bits(step) - peak_bits(lighter) == 3920 * 29
    same = step.rewrite()
    assert same.bits is step.bits


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits": {10_000: 4}}, r"must be in \[0, \d+\), but got bits\[10000\]"),
        ({"bits": {0: -1.0}}, r"0 <= bits <= inf must hold, but got bits\[0\]=-1.0"),
        ({"density": {0: 1.5}}, r"0 <= density <= 1.0 must hold, but got density\[0\]=1.5"),
    ],
)
def test_rewrite_refuses_nonsense(step: Workload, change: dict[str, dict[int, float]], message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        step.rewrite(**change)


def test_unknown_layer_names_the_nearest(step: Workload) -> None:
    with pytest.raises(WorkloadError, match=r"no layer named '66'; did you mean '6'\? \(known: 0, 3, 6\)"):
        step.weight_of("66")


def test_the_graph_is_acyclic(step: Workload) -> None:
    import networkx as nx

    assert nx.is_directed_acyclic_graph(step.graph)
    assert sum(node[0] == "op" for node in step.graph) == len(step.ops)


def test_wrong_shape_names_the_line() -> None:
    with pytest.raises(TraceError, match=r"the trace stopped at module '0' \(Conv2d.*check the shapes"):
        trace(small_cnn(), (torch.zeros(4, 1, 32, 32),), loss="cross_entropy")
