"""Loop nests of every kind of contraction: closed forms, and torch's own FLOP counter as the reference."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from evaluators.workload.errors import UnmodelledOpWarning
from evaluators.workload.graph import Contraction, LoopNest, Op, Operand, Phase, Workload
from evaluators.workload.optimizers import Optimizer
from evaluators.workload.trace import trace


class Wrapped(nn.Module):
    """A module from a function, with the submodules that it uses."""

    def __init__(self, function: Callable[..., Tensor], **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(self, *inputs)


def contractions(workload: Workload, phase: Phase) -> list[Contraction]:
    return [op.contraction for op in workload.ops if op.contraction is not None and op.phase is phase]


def only_nest(module: nn.Module, *inputs: Tensor) -> LoopNest:
    (found,) = contractions(trace(module, inputs, training=False), Phase.FORWARD)
    return found.nest


def test_convolution_1d_lies_along_x() -> None:
    nest = only_nest(nn.Conv1d(6, 10, 5, stride=2, padding=2, dilation=1), torch.zeros(3, 6, 20))
    assert nest == LoopNest(b=3, k=10, c=6, ox=10, fx=5, stride_x=2, ix=20)


def test_convolution_2d_grouped_and_dilated() -> None:
    nest = only_nest(nn.Conv2d(6, 12, 3, groups=3, dilation=(2, 1)), torch.zeros(2, 6, 9, 7))
    assert nest == LoopNest(b=2, k=4, c=2, oy=5, ox=5, fy=3, fx=3, groups=3, dilation_y=2, iy=9, ix=7)


def test_convolution_3d_keeps_macs_and_operand_sizes() -> None:
    nest = only_nest(nn.Conv3d(3, 4, (3, 2, 1)), torch.zeros(2, 3, 6, 5, 4))
    out = (4, 4, 4)
    assert nest.macs == 2 * 4 * 3 * (3 * 2 * 1) * out[0] * out[1] * out[2]
    assert nest.b * nest.c * nest.iy * nest.ix == 2 * 3 * 6 * 5 * 4
    assert nest.b * nest.k * nest.oy * nest.ox == 2 * 4 * 4 * 4 * 4
    assert nest.k * nest.c * nest.fy * nest.fx == 4 * 3 * 3 * 2 * 1


def test_unbatched_convolution_has_one_sample() -> None:
    assert only_nest(nn.Conv2d(3, 8, 3), torch.zeros(3, 8, 8)).b == 1


def test_transposed_convolution_accumulates_the_input_of_what_it_transposes() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2))
    step = trace(model, (torch.zeros(2, 4, 8, 8),), loss="mse")
    found = contractions(step, Phase.FORWARD)[1]
    assert found.output is Operand.INPUT
    assert found.nest == LoopNest(
        b=2, k=2, c=3, oy=8, ox=8, fy=3, fx=3, groups=2, stride_y=2, stride_x=2, iy=17, ix=17
    )
    assert found.nest.macs == 2 * (4 * 8 * 8) * (6 // 2) * 9
    assert step.tensors[found.tensors[Operand.INPUT]].shape == (2, 6, 17, 17)
    assert [step.tensors[i].shape for i in step.inputs_of("1")] == [(2, 4, 8, 8)]
    assert [step.tensors[i].shape for i in step.outputs_of("1")] == [(2, 6, 17, 17)]
    backward = [
        op.contraction.output
        for op in step.ops
        if op.layer == "1" and op.contraction is not None and op.phase is not Phase.FORWARD
    ]
    assert backward == [Operand.OUTPUT, Operand.WEIGHT]


def test_linear_is_a_product_with_rows_as_batch() -> None:
    step = trace(nn.Linear(12, 5), (torch.zeros(2, 7, 12),), loss="mse")
    assert {c.nest for op in step.ops if (c := op.contraction)} == {LoopNest(b=14, k=5, c=12)}
    assert step.layers == ("",)  # the path of a model that is itself a layer


def test_weight_on_the_left_is_still_the_weight() -> None:
    model = Wrapped(lambda self, x: self.a.weight @ x, a=nn.Linear(6, 4, bias=False))
    step = trace(model, (torch.zeros(6, 9),), loss="mse")
    (found,) = contractions(step, Phase.FORWARD)
    assert found.nest == LoopNest(b=9, k=4, c=6)
    assert step.tensors[found.tensors[Operand.WEIGHT]].name == "a.weight"
    (gradient,) = contractions(step, Phase.WEIGHT_GRADIENT)
    assert gradient.nest == found.nest


def test_batched_product_puts_the_batch_in_groups() -> None:
    model = Wrapped(lambda _, a, b: a @ b)
    nest = only_nest(model, torch.zeros(3, 5, 4, 6), torch.zeros(3, 5, 6, 7))
    assert nest == LoopNest(b=4, k=7, c=6, groups=15)


def test_product_with_one_shared_matrix_is_one_taller_product() -> None:
    model = Wrapped(
        lambda self, x: torch.matmul(self.a.weight.expand(3, 4, 6), x), a=nn.Linear(6, 4, bias=False)
    )
    nest = only_nest(model, torch.zeros(3, 6, 9))
    assert nest == LoopNest(b=27, k=4, c=6)


def test_matrix_vector_product() -> None:
    model = Wrapped(lambda self, x: self.a.weight @ x, a=nn.Linear(6, 4, bias=False))
    assert only_nest(model, torch.zeros(6)) == LoopNest(b=1, k=4, c=6)


ATTENTION = (2, 3, 10, 8)  # batch, heads, tokens, width of a head


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(24, 72)

    def forward(self, x: Tensor) -> Tensor:
        b, h, t, d = ATTENTION
        q, k, v = self.qkv(x).view(b, t, 3, h, d).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, h * d)


def test_fused_attention_is_two_products_and_five_backward() -> None:
    b, h, t, d = ATTENTION
    step = trace(SelfAttention(), (torch.zeros(b, t, h * d),), loss="mse")
    fused = [op for op in step.ops if op.kind == "attention"]
    product = b * h * t * t * d
    assert [op.contraction.nest.macs for op in fused if op.contraction] == [product] * 7
    assert [op.phase for op in fused].count(Phase.FORWARD) == 2
    assert [op.phase for op in fused].count(Phase.WEIGHT_GRADIENT) == 0  # no weight among q, k and v
    scores = [i for op in fused for i in op.outputs if not step.tensors[i].materialised]
    assert {step.tensors[i].shape for i in scores} == {(b, h, t, t)}


def test_lstm_layer_is_two_products_a_direction() -> None:
    model = Wrapped(lambda self, x: self.rnn(x)[0], rnn=nn.LSTM(5, 8, batch_first=True))
    step = trace(model, (torch.zeros(4, 6, 5),), loss="mse", optimizer=Optimizer.SGD)
    assert step.layers == ("rnn.weight_ih_l0", "rnn.weight_hh_l0")
    assert step.macs == 6 * 4 * 32 * (5 + 8)
    weights = {
        op.layer for op in step.ops if op.phase is Phase.WEIGHT_GRADIENT and op.contraction is not None
    }
    assert weights == set(step.layers)


def test_gru_has_the_macs_of_its_three_gates() -> None:
    model = Wrapped(lambda self, x: self.rnn(x)[0], rnn=nn.GRU(5, 8, batch_first=True))
    assert trace(model, (torch.zeros(4, 6, 5),), training=False).macs == 6 * 4 * 24 * (5 + 8)


def test_embedding_reads_only_its_rows() -> None:
    step = trace(nn.Embedding(1000, 16), (torch.zeros(4, 7, dtype=torch.long),), training=False)
    (op,) = step.ops
    assert op.kind == "embedding"
    assert op.contraction is None
    reads = dict(zip(op.inputs, op.read_elements, strict=True))
    assert reads[step.structure.parameters["weight"]] == 4 * 7 * 16


def test_encoder_layer_fused_for_inference_has_the_macs_of_its_training_path() -> None:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    tokens = (torch.zeros(2, 6, 16),)
    inference, step = trace(layer, tokens, training=False), trace(layer, tokens, loss="mse")
    assert [op.name for op in inference.ops if "transformer_encoder_layer" in op.name]
    assert inference.macs == step.macs
    assert set(inference.layers) == set(step.layers)


class Reshaped(nn.Module):
    """Without groups: torch's counter takes the weight gradient of a grouped convolution for a dense one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.wide = nn.Conv2d(8, 8, 5, padding=2)
        self.up = nn.ConvTranspose2d(8, 4, 2, 2)
        self.mix = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(self.wide(F.silu(self.stem(x)))).flatten(2)
        x = self.mix(x.view(*x.shape[:2], -1, 16))
        return (x @ x.transpose(-1, -2)).mean((1, 2))


@pytest.mark.parametrize(
    ("module", "inputs"),
    [
        (Reshaped(), (torch.zeros(2, 3, 16, 16),)),
        (nn.MultiheadAttention(16, 2, batch_first=True), (torch.zeros(2, 5, 16),) * 3),
        (Wrapped(lambda self, x: self.rnn(x)[0], rnn=nn.RNN(5, 8)), (torch.zeros(6, 2, 5),)),
        (nn.Sequential(nn.Conv1d(4, 6, 3), nn.Flatten(), nn.Linear(36, 3)), (torch.zeros(2, 4, 8),)),
    ],
    ids=["mixed", "multi-head attention", "rnn", "conv1d"],
)
def test_macs_match_torchs_flop_counter(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    def loss(output: object) -> Tensor:
        first = output[0] if isinstance(output, tuple) else output
        assert isinstance(first, Tensor)
        return first.square().mean()

    step = trace(module, inputs, loss=loss)
    module.train()
    with FlopCounterMode(display=False) as forward:
        value = loss(module(*inputs))
    with FlopCounterMode(display=False) as backward:
        value.backward()
    assert 2 * step.macs == forward.get_total_flops()
    assert 2 * step.backward_macs == backward.get_total_flops()


def test_an_unknown_op_is_kept_and_named() -> None:
    model = Wrapped(lambda self, x: torch.fft.rfft(self.a(x)).real, a=nn.Linear(8, 8))
    with pytest.warns(UnmodelledOpWarning, match="costed as memory-bound.*aten::_fft_r2c"):
        workload = trace(model, (torch.zeros(2, 8),), training=False)
    (op,) = [op for op in workload.ops if op.kind == "unmodelled"]
    assert isinstance(op, Op)
    assert op.inputs
    assert op.outputs


def test_recomputation_counts_as_backward() -> None:
    from torch.utils.checkpoint import checkpoint

    body = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 8))
    plain = trace(body, (torch.zeros(4, 8),), loss="mse")
    model = Wrapped(lambda self, x: checkpoint(self.body, x, use_reentrant=False), body=body)
    again = trace(model, (torch.zeros(4, 8),), loss="mse")
    assert again.macs == plain.macs
    # torch stops recomputing at the last tensor that backward needs: the second layer is not run again.
    assert again.backward_macs == plain.backward_macs + 4 * 8 * 32


def test_a_weight_made_of_parameters_owns_a_layer() -> None:
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(8, 4))
    step = trace(nn.Sequential(normed, nn.ReLU()), (torch.zeros(2, 8),), loss="mse")
    assert step.layers == ("0",)
    assert step.tensors[step.weight_of("0")].shape == (4, 8)
