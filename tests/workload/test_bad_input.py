"""What cannot be traced: one message with the law, the user's line and the way out."""

from __future__ import annotations

import pickle
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluators.workload.errors import IndexInputError, TraceError, WorkloadError
from evaluators.workload.losses import make_targets
from evaluators.workload.selection import select_parameters
from evaluators.workload.trace import trace

X = torch.zeros(2, 4)


class Branches(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        if y.sum() > 0:  # the line that is named
            return y
        return -y


class Picks(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y[y > 0]  # the line that is named


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), Branches(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


@pytest.mark.parametrize("model", [Branches(4, 4), Picks(4, 4)])
def test_a_value_that_decides_is_named_with_its_line(model: nn.Module) -> None:
    with pytest.raises(TraceError) as caught:
        trace(model, (X,), loss="mse")
    text = str(caught.value)
    assert "test_bad_input.py" in text
    assert "the line that is named" in text
    assert "must not depend on the values of tensors" in text
    assert "torch.where" in text


def test_the_module_that_failed_is_named() -> None:
    with pytest.raises(TraceError, match=r"\(in module 'body.1' \(Branches\("):
        trace(Inner(), (X,), loss="mse")


def test_a_wrong_shape_is_one_message(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(
        TraceError, match=r"\(in module 'body.0' \(Linear.*check the shapes and dtypes of the inputs"
    ):
        trace(Inner(), (torch.zeros(2, 5),), loss="mse")
    assert not caplog.records  # torch's own report of the same error is kept quiet


class Sequence(nn.Sequential):
    """A user's class without a line of its own in the traceback."""


def test_where_torch_runs_all_the_code_the_module_and_the_class_are_named() -> None:
    model = Sequence(nn.Linear(4, 9), nn.Linear(4, 4))
    with pytest.raises(
        TraceError, match=r"at module '1' \(Linear\(in_features=4, .* of Sequence \(.*test_bad_input.py:\d+\)"
    ):
        trace(model, (X,), loss="mse")
    with pytest.raises(TraceError, match=r"at module '1' .* of Sequential: .*check the shapes"):
        trace(nn.Sequential(*model), (X,), loss="mse")


class Says(nn.Linear):
    """A layer that first does something that no trace survives."""

    def __init__(self, does: Callable[[Tensor], object]) -> None:
        super().__init__(4, 4)
        self.does = does

    def forward(self, x: Tensor) -> Tensor:
        self.does(x)
        return super().forward(x)


def fails() -> None:
    raise KeyError("of the user")


@pytest.mark.parametrize(
    ("does", "message"),
    [
        (lambda x: x.numpy(), "no data to give to NumPy"),
        (lambda x: x + torch.zeros(4, device="cuda"), "build and run the model on the CPU"),
        (lambda x: fails(), "the model's own code raised it"),
        (lambda x: sys.exit(3), r"must not end the program, but it called sys.exit\(3\)"),
        (lambda x: x.long() @ x.T, "the operands of mm must have one dtype, but they are int64 and float32"),
        (
            lambda x: nn.utils.rnn.pack_padded_sequence(x[None], torch.tensor([2]), batch_first=True),
            "trace the model on padded batches",
        ),
        (
            lambda x: nn.Linear(4, 4)(x, x),
            "one example input per argument of forward .on the command line: --input, once for each",
        ),
    ],
)
def test_the_way_out_fits_what_went_wrong(does: Callable[[Tensor], object], message: str) -> None:
    with pytest.raises(TraceError, match=rf"stopped at .*test_bad_input.py:\d+: .*{message}"):
        trace(Says(does), (X,), loss="mse")


@pytest.mark.parametrize("dtype", [torch.int64, torch.float64])
def test_an_input_of_the_wrong_dtype(dtype: torch.dtype) -> None:
    with pytest.raises(TraceError, match=r"the operands of addmm must have one dtype.*8x128:float32"):
        trace(nn.Linear(4, 4), (X.to(dtype),), loss="mse")


def test_torchs_own_layer_that_reads_a_value_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluators.workload.trace.masks_by_shape", nullcontext)
    monkeypatch.setattr("evaluators.workload.trace.without_nesting", lambda twin: None)
    layer = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)

    class Masked(nn.Module):
        def __init__(self, **masks: Tensor) -> None:
            super().__init__()
            self.layers, self.masks = nn.TransformerEncoder(layer, 1), masks

        def forward(self, x: Tensor) -> Tensor:
            return self.layers(x, **{name: mask + x[0, 0, 0] for name, mask in self.masks.items()})

    with pytest.raises(
        TraceError, match=r"torch's own layer reads one \(.*transformer.py:\d+\).* is_causal="
    ):
        trace(Masked(mask=torch.zeros(4, 4)), (torch.zeros(2, 4, 8),), training=False)
    with pytest.raises(TraceError, match="sizes that are values: pad, and give encoders enable_nested"):
        trace(Masked(src_key_padding_mask=torch.zeros(2, 4)), (torch.zeros(2, 4, 8),), training=False)


def test_a_scripted_model() -> None:
    from torch.jit import _script

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nn.Sequential(_script.script(nn.Linear(4, 4)))
    with pytest.raises(
        TraceError, match="must be Python code, but 0 is a RecursiveScriptModule; give the module"
    ):
        trace(model, (X,), training=False)


def test_an_error_of_the_loss_names_its_line() -> None:
    def broken(output: Tensor) -> Tensor:
        return output @ output  # the line that is named

    with pytest.raises(TraceError, match=r"test_bad_input.py:\d+: `return output @ output"):
        trace(nn.Linear(4, 3), (X,), loss=broken)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            lambda output: output,
            r"a loss must be one number, but it has shape \(2, 4\); reduce it with .mean\(\)",
        ),
        (lambda output: 0.5, r"a loss must return a tensor with one element, but it returned float"),
        ("cross_entorpy", r"no loss named 'cross_entorpy'; did you mean 'cross_entropy'\?"),
    ],
)
def test_a_loss_that_is_none(loss: object, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        trace(nn.Linear(4, 4), (X,), loss=loss)  # type: ignore[arg-type]


def test_a_model_without_a_floating_point_output() -> None:
    class Counts(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.argmax(-1)

    with pytest.raises(
        TraceError, match=r"must return a floating-point tensor .* but it returned one of int64"
    ):
        trace(Counts(), (X,), loss="mse")


def test_floating_point_indices_name_the_input() -> None:
    with pytest.raises(
        IndexInputError, match="must be integers, but input 0 has a floating-point dtype"
    ) as caught:
        trace(nn.Embedding(10, 4), (X,), training=False)
    assert caught.value.position == 0


def test_floating_point_indices_of_a_bag() -> None:
    with pytest.raises(IndexInputError, match="must be integers, but input 0"):
        trace(nn.EmbeddingBag(10, 4), (X,), training=False)


def test_floating_point_indices_that_are_computed() -> None:
    class Scaled(nn.Embedding):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x * 2.0)

    with pytest.raises(IndexInputError, match="indices that are computed") as caught:
        trace(Scaled(10, 4), (torch.zeros(2, dtype=torch.long),), training=False)
    assert caught.value.position is None


def test_a_lazy_parameter() -> None:
    with pytest.raises(
        TraceError, match=r"every parameter must have a shape, but \.weight is lazy; run the model"
    ):
        trace(nn.LazyLinear(4), (X,), training=False)


def test_a_sparse_buffer() -> None:
    model = nn.Linear(4, 4)
    model.register_buffer("mask", torch.eye(4).to_sparse())
    with pytest.raises(TraceError, match=r"must be dense, but got torch.sparse_coo of \(4, 4\)"):
        trace(model, (X,), training=False)


def test_a_model_that_cannot_be_copied() -> None:
    model = nn.Linear(4, 4)
    model.lock = threading.Lock()  # type: ignore[assignment]
    with pytest.raises(
        TraceError, match=r"the model must be copyable .* but Linear is not: .*keep open files, locks"
    ):
        trace(model, (X,), training=False)


def test_an_unknown_trainable_parameter() -> None:
    with pytest.raises(TraceError, match=r"no parameter named 'wieght'; did you mean 'weight'\?"):
        trace(nn.Linear(4, 4), (X,), loss="mse", trainable=("wieght",))


@pytest.mark.parametrize("scheme", ["some", "last", "last:0", "last:x", ""])
def test_an_unknown_scheme(scheme: str) -> None:
    with pytest.raises(WorkloadError, match="must be all, none, bias or last:K with K >= 1, but got"):
        select_parameters(nn.Linear(4, 4), (X,), scheme)


def test_more_layers_than_there_are() -> None:
    with pytest.raises(WorkloadError, match=r"1 <= K <= 2 \(layers with a weight\), but got K=3"):
        select_parameters(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), (X,), "last:3")


def test_schemes_select_what_they_say() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
    images = (torch.zeros(1, 3, 4, 4),)
    assert select_parameters(model, images, "none") == ()
    assert select_parameters(model, images, "bias") == ("0.bias", "1.bias", "3.bias")
    assert select_parameters(model, images, "last:1") == ("3.weight", "3.bias")
    assert (
        len(select_parameters(model, images, "last:2")) == len(select_parameters(model, images, "all")) == 6
    )
    model[0].weight.requires_grad_(False)
    assert "0.weight" not in select_parameters(model, images, "all")


@pytest.mark.parametrize(
    ("shape", "target"), [((4, 10), (4,)), ((4, 7, 10), (4, 7)), ((4, 10, 5, 6), (4, 5, 6)), ((10,), ())]
)
def test_targets_of_cross_entropy(shape: tuple[int, ...], target: tuple[int, ...]) -> None:
    (found,) = make_targets("cross_entropy", torch.zeros(shape))
    assert found.shape == target
    assert found.dtype == torch.long


def test_targets_of_callables() -> None:
    output = {"a": torch.zeros(2, 3), "b": torch.zeros(2)}
    assert make_targets(lambda output: output["a"].sum(), output) == []
    assert [t.shape for t in make_targets(F.l1_loss, output)] == [(2, 3), (2,)]
    assert [t.shape for t in make_targets(nn.HuberLoss(), output)] == [(2, 3), (2,)]
    assert [t.dtype for t in make_targets(nn.CrossEntropyLoss(), output["a"])] == [torch.long]
    assert [t.shape for t in make_targets("mse", output)] == [(2, 3), (2,)]


@dataclass
class Answer:
    scores: Tensor
    extra: dict[str, list[Tensor]]


def test_outputs_may_be_nested() -> None:
    class Nested(nn.Linear):
        def forward(self, x: Tensor) -> Answer:  # type: ignore[override]
            y = super().forward(x)
            return Answer(scores=y, extra={"more": [y * 2]})

    step = trace(Nested(4, 4), (X,), loss="mse")
    assert sum(tensor.name.startswith("target") for tensor in step.tensors) == 2


def test_a_workload_can_be_pickled() -> None:
    step = trace(nn.Linear(4, 4), (X,), loss="mse")
    again = pickle.loads(pickle.dumps(step))
    assert again.ops == step.ops
    assert again.stored_bits.tolist() == step.stored_bits.tolist()


def test_tied_and_aliased_parameters_stay_so() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(10, 4), nn.Linear(4, 10, bias=False)
            self.head.weight = self.embed.weight
            self.register_buffer("table", torch.zeros(6, 4))
            self.register_buffer("first", self.table[:2])

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.embed(x) + self.first.sum() + self.table.sum())

    step = trace(Tied(), (torch.zeros(2, dtype=torch.long),), loss="cross_entropy")
    parameters = step.structure.parameters
    assert parameters["embed.weight"] == parameters["head.weight"]
    assert step.parameter_count == 40
    assert len(step.structure.gradients) == 1
    assert step.layers == ("head",)
    names = [tensor.name for tensor in step.tensors]
    assert "table" in names
    assert "first" not in names  # a view of the table, not another tensor


def test_a_loss_that_reaches_no_parameter() -> None:
    with pytest.raises(TraceError, match="must depend on a parameter that trains, but it depends on none"):
        trace(nn.Linear(4, 4), (X,), loss=lambda output: output.detach().mean())
    assert trace(nn.Linear(4, 4), (X,), loss="mse", trainable=()).backward_macs == 0


def test_what_is_a_bias() -> None:
    class Names(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.rnn = nn.MultiheadAttention(4, 2), nn.GRU(4, 4)
            self.biased_weight = nn.Parameter(torch.zeros(4))

    chosen = select_parameters(Names(), (X,), "bias")
    assert chosen == ("attention.in_proj_bias", "attention.out_proj.bias", "rnn.bias_ih_l0", "rnn.bias_hh_l0")
