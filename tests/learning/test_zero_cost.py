"""Zero-cost scores: closed forms, brute force, and networks that must come back as they went in."""

from __future__ import annotations

import copy
import math
from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize, prune

from evaluators.learning import zero_cost
from evaluators.learning.zero_cost.naswot import log_determinant
from evaluators.learning.zero_cost.registry import ZeroCostError, score
from evaluators.networks import registry as networks
from evaluators.networks.layers import compressible_layers
from evaluators.techniques.model import bake_model, compress_model
from search_spaces.choice import Choice
from search_spaces.quantization import Granularity, UniformQuantization
from search_spaces.sparsity import NM, IndexFormat, Unstructured

SHAPE = (1, 16, 16)
QUANTIZED = UniformQuantization(weight_bits=4, activation_bits=4, granularity=Granularity.PER_CHANNEL)
sizes = st.integers(1, 4)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int = 6) -> torch.Tensor:
    return torch.randn(count, *SHAPE, generator=seeded(1))


def built(name: str) -> nn.Module:
    return networks.build(name, width=1.0, depth=1, input_shape=SHAPE, num_classes=4, seed=0)


def compressed() -> tuple[nn.Module, dict[str, tuple[Choice, ...]]]:
    model = built("small_cnn")
    choices: dict[str, tuple[Choice, ...]] = dict.fromkeys(compressible_layers(model), (QUANTIZED,))
    name = list(choices)[1]
    choices[name] = (NM(n=2, m=4), QUANTIZED)
    compress_model(model, choices)
    return model, choices


# --- synflow --------------------------------------------------------------------------------------------


@given(sizes, sizes, sizes, st.integers(0, 99))
@settings(max_examples=25)
def test_synflow_of_a_two_layer_linear_network_in_closed_form(i: int, j: int, k: int, seed: int) -> None:
    """R = sum over the hidden units of (absolute weights out) x (absolute weights in); each layer gives R."""
    first, second = nn.Linear(i, j, bias=False).double(), nn.Linear(j, k, bias=False).double()
    with torch.no_grad():
        for layer in (first, second):
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=seeded(seed)))
    flow = (second.weight.abs().sum(0) @ first.weight.abs().sum(1)).detach()
    assert score("synflow", nn.Sequential(first, second), torch.zeros(1, i)) == pytest.approx(2 * float(flow))


def test_synflow_by_brute_force_with_biases_and_relu() -> None:
    """Each weight is moved; R is linear in a single one, so the difference quotient is exact."""
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    w1, b1, w2, b2 = (parameter.detach().abs().numpy() for parameter in model.parameters())

    def flow(w1: np.ndarray, w2: np.ndarray) -> float:
        return float((w2 @ np.maximum(w1 @ np.ones(3) + b1, 0) + b2).sum())

    total = 0.0
    for which in (0, 1):
        for place in np.ndindex((w1, w2)[which].shape):
            moved = [w1.copy(), w2.copy()]
            moved[which][place] += 1.0
            total += abs((w1, w2)[which][place] * (flow(*moved) - flow(w1, w2)))
    assert score("synflow", model, torch.zeros(5, 3)) == pytest.approx(total)


def test_synflow_takes_batch_norms_running_statistics() -> None:
    model = nn.Sequential(nn.Linear(3, 2, bias=False), nn.BatchNorm1d(2))
    plain = score("synflow", model, torch.zeros(1, 3))
    model[1].running_var.fill_(4.0 - model[1].eps)
    assert score("synflow", model, torch.zeros(1, 3)) == pytest.approx(
        plain * math.sqrt(1.0 + model[1].eps) / 2.0
    )


@given(st.floats(0.25, 4.0), st.integers(0, 2))
@settings(max_examples=10)
def test_a_layer_without_bias_scales_the_flow(factor: float, which: int) -> None:
    model = nn.Sequential(OrderedDict((f"l{n}", nn.Linear(3, 3, bias=False)) for n in range(3))).double()
    before = score("synflow", model, torch.zeros(1, 3))
    with torch.no_grad():
        model[which].weight.mul_(-factor)
    assert score("synflow", model, torch.zeros(1, 3)) == pytest.approx(factor * before)


def test_synflow_of_a_parametrized_network_is_that_of_its_weights() -> None:
    model, choices = compressed()
    flow = score("synflow", model, images())
    plain = built("small_cnn")
    with torch.no_grad():
        for name, layer in compressible_layers(plain).items():
            layer.weight.copy_(compressible_layers(model)[name].weight)
    assert score("synflow", plain, images()) == flow
    model.eval()(images())  # calibrates the quantizers of the activations, which synflow passes by
    bake_model(model, choices)
    assert score("synflow", model, images()) == flow


def test_pruning_lowers_the_flow() -> None:
    flows = []
    for density in (1.0, 0.5, 0.25):
        model = built("small_cnn")
        if density < 1:
            compress_model(
                model, {"stage2.conv1": (Unstructured(density=density, index=IndexFormat.BITMAP),)}
            )
        flows.append(score("synflow", model, images()))
    assert flows[0] > flows[1] > flows[2] > 0


# --- naswot ---------------------------------------------------------------------------------------------


def hamming_log_determinant(codes: np.ndarray) -> float:
    """The definition, pair by pair: units less Hamming distance, then numpy's determinant."""
    count, units = codes.shape
    kernel = np.array(
        [[units - (codes[a] != codes[b]).sum() for b in range(count)] for a in range(count)], dtype=float
    )
    return float(np.linalg.slogdet(kernel)[1])


def test_naswot_is_the_log_determinant_of_the_hamming_kernel() -> None:
    model = built("mlp")
    batch = images()
    model.train()
    with torch.no_grad():
        inner = copy.deepcopy(model)
        hidden = inner.norm1(inner.hidden1(batch.flatten(1)))
    expected = hamming_log_determinant((hidden > 0).numpy())
    assert score("naswot", model, batch) == pytest.approx(expected)


@pytest.mark.parametrize(
    "module", [nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(), nn.LeakyReLU(0.1), nn.PReLU()]
)
def test_naswot_reads_every_activation_with_one_kink_at_zero(module: nn.Module) -> None:
    linear = nn.Linear(5, 40)
    batch = torch.randn(6, 5, generator=seeded(2))
    expected = hamming_log_determinant((linear(batch) > 0).numpy())
    assert score("naswot", nn.Sequential(linear, module), batch) == pytest.approx(expected)


class Functional(nn.Module):
    """ReLUs that are no modules."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return F.relu6(self.linear(batch)).relu() + torch.relu_(self.linear(batch))


def test_naswot_sees_functions_as_it_sees_modules() -> None:
    linear = nn.Linear(5, 40)
    batch = torch.randn(6, 5, generator=seeded(2))
    code = (linear(batch) > 0).numpy()
    expected = hamming_log_determinant(np.concatenate([code, code, code], axis=1))
    assert score("naswot", Functional(linear), batch) == pytest.approx(expected)


def test_images_with_equal_codes_have_no_determinant() -> None:
    batch = images(3)
    batch[2] = batch[0]
    assert score("naswot", built("small_cnn"), batch) == -math.inf
    few_units = nn.Sequential(nn.Linear(4, 2), nn.ReLU())  # rank of the kernel: at most 2 + 1
    assert score("naswot", few_units, torch.randn(8, 4, generator=seeded(3))) == -math.inf


@given(st.integers(2, 6), st.integers(1, 12), st.integers(0, 999))
def test_the_determinant_agrees_with_that_of_the_integers(count: int, units: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 2, size=(count, units))
    kernel = codes @ codes.T + (1 - codes) @ (1 - codes).T
    exact = round(float(np.linalg.det(kernel)))  # a whole number below 2 ** 53 / 12 ** 6 of rounding
    value = log_determinant(kernel.astype(float))
    assert value == (pytest.approx(math.log(exact), abs=1e-6) if exact else -math.inf)


def test_the_order_of_the_images_does_not_matter() -> None:
    model, batch = built("resnet"), images()
    assert score("naswot", model, batch.flip(0)) == pytest.approx(score("naswot", model, batch))


# --- every score ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", zero_cost.names())
@pytest.mark.parametrize("training", [True, False])
def test_the_network_and_the_random_state_come_back_as_they_went_in(name: str, training: bool) -> None:
    model, _ = compressed()
    model.train(training)
    model.stage3.eval()
    frozen = next(model.parameters()).requires_grad_(False)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [part.training for part in model.modules()]
    layers = list(compressible_layers(model).values())
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = score(name, model, images())
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert [part.training for part in model.modules()] == modes
    assert all(parametrize.is_parametrized(layer, "weight") for layer in layers)
    assert all(not layer.input_quantizer.is_calibrated for layer in layers)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not frozen.requires_grad
    assert score(name, model, images()) == first  # and so the second is the first
    assert math.isfinite(first)


def depth_score(model: nn.Module, images: torch.Tensor) -> float:
    """A user's own score."""
    return float(len(list(model.modules())))


def test_a_user_brings_a_score_by_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    import types

    module = types.ModuleType("users_scores")
    module.depth_score = depth_score  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "users_scores", module)
    assert score("users_scores:depth_score", nn.ReLU(), images()) == 1.0


# --- what is refused ------------------------------------------------------------------------------------


class Drawn(nn.Module):
    """Returns something that does not depend on a weight, or is no tensor."""

    def __init__(self, *, tensor: bool) -> None:
        super().__init__()
        self.tensor = tensor
        self.weight = nn.Parameter(torch.ones(2, 2))

    def forward(self, batch: torch.Tensor) -> object:
        return torch.zeros(1) if self.tensor else (batch,)


@pytest.mark.parametrize(
    ("name", "model", "batch", "message"),
    [
        ("synfow", nn.Linear(2, 2), torch.zeros(2, 2), "no zero-cost score is named 'synfow'. Did you mean"),
        ("synflow", nn.Linear(2, 2), torch.zeros(2, 2, dtype=torch.int64), "floating-point images"),
        ("synflow", nn.Linear(2, 2), torch.zeros(0, 2), r"of shape \(0, 2\)"),
        ("synflow", nn.ReLU(), torch.zeros(2, 2), "this one has 0 weights"),
        ("synflow", Drawn(tensor=False), torch.zeros(2, 2), "returns a tuple"),
        ("synflow", Drawn(tensor=True), torch.zeros(2, 2), "nothing flows back"),
        ("naswot", nn.Sequential(nn.Linear(2, 2), nn.GELU()), torch.zeros(2, 2), "this one uses gelu"),
        ("naswot", nn.Hardtanh(), torch.zeros(2, 2), "this one uses hardtanh"),
        ("naswot", nn.Linear(2, 2), torch.zeros(2, 2), "ReLU activations, but this one has none"),
        ("naswot", nn.ReLU(), torch.zeros(1, 2), "two or more, but it has 1"),
        (
            "naswot",
            nn.Sequential(nn.Flatten(0), nn.ReLU()),
            torch.zeros(2, 2),
            r"begin with the batch of 2 images, but aten.relu got \(4,\)",
        ),
    ],
)
def test_what_a_score_is_not_defined_for_is_refused(
    name: str, model: nn.Module, batch: torch.Tensor, message: str
) -> None:
    with pytest.raises(ZeroCostError, match=message):
        score(name, model, batch)


def test_a_network_that_cannot_be_copied_is_refused() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    prune.l1_unstructured(model[0], "weight", amount=1)
    with pytest.raises(ZeroCostError, match=r"a Sequential cannot be copied: .* should be parametrizations"):
        score("synflow", model, torch.zeros(1, 2))


def test_a_flow_beyond_all_numbers_is_refused() -> None:
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(math.inf)
    with pytest.raises(ZeroCostError, match="'synflow' must be a number, but it is"):
        score("synflow", model, torch.zeros(1, 1))
