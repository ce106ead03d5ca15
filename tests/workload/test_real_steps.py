"""Steps whose memory is easily told wrong: the prediction must be what the real step allocates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluators.workload.graph import Role
from evaluators.workload.measure import measure_peak_bytes
from evaluators.workload.memory import peak_bits
from evaluators.workload.optimizers import Optimizer
from evaluators.workload.trace import trace

Body = Callable[[nn.ModuleDict, Tensor], Tensor]


class Net(nn.Module):
    """Modules by name, and a function of them and of the input."""

    def __init__(self, body: Body, **parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(parts)
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.parts, x)


def unused() -> nn.Module:
    return Net(
        lambda m, x: m["o"](m["a"](x).relu()), a=nn.Linear(16, 32), o=nn.Linear(32, 5), u=nn.Linear(99, 99)
    )


def detached() -> nn.Module:
    return Net(lambda m, x: m["o"](x + m["t"](x).detach()), o=nn.Linear(16, 5), t=nn.Linear(16, 16))


def only_in_evaluation() -> nn.Module:
    head, probe = nn.Linear(16, 5), nn.Linear(16, 500)
    return Net(lambda m, x: m["o"](x) if m["o"].training else m["p"](x), o=head, p=probe)


@pytest.mark.parametrize("build", [unused, detached, only_in_evaluation])
@pytest.mark.parametrize("optimizer", [Optimizer.MOMENTUM, Optimizer.ADAM])
def test_only_parameters_that_the_loss_reaches_have_state(
    build: Callable[[], nn.Module], optimizer: Optimizer
) -> None:
    model, x = build(), torch.zeros(8, 16)
    step = trace(model, (x,), loss="mse", optimizer=optimizer)
    assert set(step.structure.states) == set(step.structure.gradients)
    assert peak_bits(step) == 8 * measure_peak_bytes(model, (x,), loss="mse", optimizer=optimizer)
    # Independent of both: torch's own optimizer, run.
    rule = torch.optim.Adam(model.train().parameters())
    F.mse_loss(model(x), torch.zeros(8, 5)).backward()  # type: ignore[no-untyped-call]
    rule.step()
    assert len(rule.state) == len(step.structure.gradients)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Sequential(nn.ConvTranspose1d(64, 64, 5), nn.ReLU(), nn.ConvTranspose1d(64, 64, 5)), (2, 64, 16)),
        (
            nn.Sequential(nn.ConvTranspose2d(32, 32, 3), nn.ReLU(), nn.ConvTranspose2d(32, 32, 3)),
            (2, 32, 6, 6),
        ),
    ],
)
def test_biases_of_transposed_convolutions(model: nn.Module, shape: tuple[int, ...]) -> None:
    x = torch.zeros(shape)
    step = trace(model, (x,), loss="mse", trainable=("0.bias", "2.bias"))
    assert peak_bits(step) == 8 * measure_peak_bytes(model, (x,), loss="mse", trainable=("0.bias", "2.bias"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_lstm_workspace_has_the_dtype_of_its_input(dtype: torch.dtype, bias: bool) -> None:
    if dtype is torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this CPU's oneDNN has no bfloat16")
    model = Net(lambda m, x: m["l"](x)[0], l=nn.LSTM(32, 64, bias=bias)).to(dtype)
    x = torch.zeros(10, 8, 32, dtype=dtype)
    measured = measure_peak_bytes(model, (x,), loss="mse")
    # oneDNN rounds the parts of its workspace to pages, by their address: 4 KiB is that rounding.
    assert abs(peak_bits(trace(model, (x,), loss="mse")) / 8 - measured) <= 4096


def test_fold_keeps_the_columns() -> None:
    def body(m: nn.ModuleDict, x: Tensor) -> Tensor:
        return F.fold(m["l"](F.unfold(x, 3, padding=1)), (16, 16), 3, padding=1)

    model, x = Net(body, l=nn.Linear(256, 256)), torch.zeros(4, 3, 16, 16)
    assert peak_bits(trace(model, (x,), loss="mse")) == 8 * measure_peak_bytes(model, (x,), loss="mse")
    inner = Net(lambda m, x: F.unfold(m["c"](x), 3, padding=1), c=nn.Conv2d(3, 8, 3, padding=1))
    predicted = peak_bits(trace(inner, (x,), loss="mse", trainable=("parts.c.bias",)))
    assert predicted == 8 * measure_peak_bytes(inner, (x,), loss="mse", trainable=("parts.c.bias",))


@pytest.mark.parametrize("size", [(8, 8), (9, 9)])
def test_fold_of_few_columns_is_as_large_as_its_result(size: tuple[int, int]) -> None:
    model = Net(lambda m, x: F.fold(m["l"](x), size, 2, stride=8), l=nn.Linear(1, 1))
    x = torch.zeros(64, 4, 1)
    assert peak_bits(trace(model, (x,), training=False)) == 8 * measure_peak_bytes(
        model, (x,), training=False
    )


def test_constants_made_in_forward_count_once() -> None:
    rows = [[float(j <= i) for j in range(64)] for i in range(64)]
    array = np.ones((64, 64), dtype=np.float32)
    for make in (lambda: torch.tensor(rows), lambda: torch.from_numpy(array)):
        model = Net(lambda m, x, make=make: m["l"](make() @ x), l=nn.Linear(8, 5))  # type: ignore[misc]
        step = trace(model, (torch.zeros(64, 8),), loss="mse")
        assert peak_bits(step) == 8 * measure_peak_bytes(model, (torch.zeros(64, 8),), loss="mse")
        assert sum(tensor.shape == (64, 64) for tensor in step.tensors) == 1
        assert not any(tensor.role is Role.BUFFER for tensor in step.tensors)


def test_inference_keeps_requires_grad() -> None:
    """Where a weight requires a gradient, torch multiplies a transposed view by another kernel."""

    def body(m: nn.ModuleDict, x: Tensor) -> Tensor:
        return m["l"](F.unfold(m["c"](x), 3, padding=1).transpose(1, 2)).mean(1)

    model = Net(body, c=nn.Conv2d(3, 32, 3, padding=1), l=nn.Linear(288, 10))
    x = torch.zeros(4, 3, 16, 16)
    peaks = set()
    for requires_grad in (True, False):
        model.requires_grad_(requires_grad)
        measured = measure_peak_bytes(model, (x,), training=False)
        assert peak_bits(trace(model, (x,), training=False)) == 8 * measured
        peaks.add(measured)
    assert len(peaks) == 2


class Encoder(nn.Module):
    """Tokens through an encoder (and a decoder), masked as torch's examples mask them."""

    def __init__(self, masks: str) -> None:
        super().__init__()
        self.masks = masks
        self.embed, self.head = nn.Embedding(50, 16), nn.Linear(16, 50)
        encoder = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(encoder, 2)
        self.whole = nn.Transformer(16, 2, 1, 1, 32, batch_first=True) if masks == "decoder" else None

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        causal = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        if self.whole is not None:
            return self.head(self.whole(x, x, tgt_mask=causal))
        if self.masks == "causal":
            return self.head(self.encoder(x, mask=causal))
        return self.head(self.encoder(x, src_key_padding_mask=tokens == 0))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")  # torch's, in the real inference
@pytest.mark.parametrize("masks", ["causal", "decoder", "padding"])
def test_masked_transformers(masks: str) -> None:
    model, tokens = Encoder(masks), torch.ones(4, 12, dtype=torch.long)
    step = trace(model, (tokens,), loss="cross_entropy", optimizer=Optimizer.ADAM)
    measured = measure_peak_bytes(model, (tokens,), loss="cross_entropy", optimizer=Optimizer.ADAM)
    assert peak_bits(step) == 8 * measured
    inference = peak_bits(trace(model, (tokens,), training=False)) / 8
    # A batch without padding, packed into a nested tensor, takes its sizes besides: a few hundred bytes.
    assert inference == pytest.approx(measure_peak_bytes(model, (tokens,), training=False), rel=0.02)
