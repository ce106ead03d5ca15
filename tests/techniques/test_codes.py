"""Quantizers by code: papers' formulas, torch's own kernels, gradients, bits by hand, the space's knobs."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from evaluators.networks import build
from evaluators.networks.layers import layer_infos
from evaluators.techniques import TechniqueError, apply, bake_model, compress_model, restore_model, rewrite
from evaluators.techniques.activation_codes import PactActivation, UnitActivation, activation_module
from evaluators.techniques.weight_codes import CodedWeight, coded
from evaluators.workload.trace import trace
from search_spaces.ask import LayerInfo
from search_spaces.choice import SpaceError, from_json, to_json
from search_spaces.codes import (
    Affine,
    CodedQuantization,
    DoReFa,
    Granularity,
    Lsq,
    Pact,
    PowerOfTwo,
    Rounding,
    Sign,
    Ternary,
)
from search_spaces.quantization import FullPrecision, QuantizationSpace, UniformQuantization

CODES = (Sign(), Ternary(), PowerOfTwo(bits=4), DoReFa(bits=3), Affine(bits=4), Affine(bits=4, group_size=8))


def _weight(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("symmetric", [False, True])
def test_affine_per_channel_is_torchs_to_the_bit(bits: int, symmetric: bool) -> None:
    weight = _weight(6, 5, 3, 3) + 0.3
    low, high = (-(2 ** (bits - 1)) + 1, 2 ** (bits - 1) - 1) if symmetric else (0, 2**bits - 1)
    flat = weight.flatten(1)
    if symmetric:
        scale, zero = flat.abs().amax(dim=1) / high, torch.zeros(6)
    else:
        smallest, largest = flat.amin(dim=1).clamp_max(0), flat.amax(dim=1).clamp_min(0)
        scale = (largest - smallest) / high
        zero = (-smallest / scale).round()
    expected = torch.fake_quantize_per_channel_affine(weight, scale, zero.int(), 0, low, high)
    assert torch.equal(coded(Affine(bits=bits, symmetric=symmetric), weight, False), expected)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_affine_per_tensor_is_torchs_to_the_bit(bits: int) -> None:
    weight = _weight(6, 5, 3, 3) - 0.2
    smallest, largest = float(weight.min()), float(weight.max())
    scale = torch.tensor(largest - smallest) / (2**bits - 1)
    zero = int((-weight.min() / scale).round())
    expected = torch.fake_quantize_per_tensor_affine(weight, float(scale), zero, 0, 2**bits - 1)
    code = Affine(bits=bits, granularity=Granularity.PER_TENSOR)
    torch.testing.assert_close(coded(code, weight, False), expected, rtol=0, atol=0)


def test_affine_per_group_is_per_channel_of_the_groups() -> None:
    weight = _weight(4, 6, 1, 1)
    grouped = coded(Affine(bits=3, group_size=3), weight, False)
    alone = coded(Affine(bits=3), weight.reshape(8, 3), False)
    assert torch.equal(grouped, alone.reshape(weight.shape))
    uneven = coded(Affine(bits=3, group_size=4), weight, False)  # 4 weights and 2: the rest is padding
    assert torch.equal(uneven.flatten(1)[:, 4:], coded(Affine(bits=3), weight.flatten(1)[:, 4:], False))


def test_sign_and_ternary_are_their_papers_formulas() -> None:
    weight = torch.tensor([[0.5, -1.0, 0.1, 0.0], [2.0, 2.0, -2.0, 2.0]])
    torch.testing.assert_close(
        coded(Sign(), weight, False), torch.tensor([[0.4, -0.4, 0.4, 0.4], [2.0, 2.0, -2.0, 2.0]])
    )
    # threshold 0.7 * 0.4 = 0.28; mean of 0.5 and 1.0
    torch.testing.assert_close(
        coded(Ternary(), weight, False), torch.tensor([[0.75, -0.75, 0.0, 0.0], [2.0, 2.0, -2.0, 2.0]])
    )


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_dorefa_is_its_papers_formula(bits: int) -> None:
    weight, steps = _weight(4, 3, 3, 3), 2**bits - 1
    unit = weight.tanh() / (2 * weight.tanh().abs().max()) + 0.5
    torch.testing.assert_close(
        coded(DoReFa(bits=bits), weight, False), 2 * (steps * unit).round() / steps - 1
    )
    values = torch.tensor([-1.0, 0.0, 0.26, 0.9, 3.0])
    expected = (values.clamp(0, 1) * steps).round() / steps
    torch.testing.assert_close(UnitActivation(bits)(values), expected)


def test_pact_and_its_gradient_are_its_papers_formulas() -> None:
    quantizer = PactActivation(2)
    values = torch.tensor([-1.0, 0.4, 1.1, 3.0, 5.0], requires_grad=True)
    quantizer(torch.tensor([0.0, 3.0]))  # the first batch sets alpha to 3
    found = quantizer(values)
    torch.testing.assert_close(found.detach(), torch.tensor([0.0, 0.0, 1.0, 3.0, 3.0]))
    quantizer(values * 2)
    (found * torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])).sum().backward()
    assert quantizer.alpha.grad is not None
    assert float(quantizer.alpha.grad) >= 16.0  # 5 is clipped
    assert values.grad is not None
    assert values.grad[[0, 1, 2, 4]].tolist() == [0.0, 2.0, 4.0, 0.0]


@pytest.mark.parametrize("code", CODES, ids=repr)
def test_a_code_has_no_more_levels_than_its_bits_and_passes_the_gradient(code: Sign) -> None:
    weight = _weight(4, 8, 3, 3).requires_grad_()
    levels = coded(code, weight, True)
    for one in levels.detach().flatten(1):
        runs = one.split(8) if isinstance(code, Affine) and code.group_size else (one,)
        for run in runs:
            assert len(run.unique()) <= 2**code.bits
    levels.sum().backward()
    assert weight.grad is not None
    assert bool(weight.grad.isfinite().all())
    assert float(weight.grad.abs().sum()) > 0


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000))
def test_more_bits_never_hurt(seed: int) -> None:
    weight = _weight(3, 40, seed=seed)
    errors = [float((coded(Affine(bits=bits), weight, False) - weight).norm()) for bits in (2, 4, 8, 16)]
    assert errors == sorted(errors, reverse=True)


def test_zeros_stay_zero_except_where_a_code_says_otherwise() -> None:
    weight = _weight(4, 40)
    weight[:, ::2] = 0.0
    for code in (Ternary(), PowerOfTwo(bits=4), Affine(bits=4), Affine(bits=4, symmetric=True)):
        assert not coded(code, weight, False)[:, ::2].any()
    assert coded(DoReFa(bits=4), weight, False).all()


def test_stochastic_rounding_is_right_on_average_and_for_training_only() -> None:
    weight = _weight(2, 200).abs()
    code = Affine(bits=3, rounding=Rounding.STOCHASTIC)
    module = CodedWeight(code)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        mean = torch.stack([module(weight) for _ in range(400)]).mean(dim=0)
    step = float(weight.max()) / 7
    assert float((mean - weight).abs().mean()) < 0.03 * step
    module.eval()
    assert torch.equal(module(weight), coded(Affine(bits=3), weight, False))


@pytest.mark.parametrize("weights", CODES, ids=repr)
@pytest.mark.parametrize("activations", [Lsq(bits=4), DoReFa(bits=4), Pact(bits=4)], ids=repr)
def test_baked_and_restored_models_predict_the_same(weights: Sign, activations: Lsq) -> None:
    choice = CodedQuantization(weights=weights, activations=activations)
    images = _weight(2, 1, 8, 8)

    def fresh() -> nn.Module:
        return build("small_cnn", width=0.5, depth=1, input_shape=(1, 8, 8), num_classes=4, seed=0)

    model = fresh()
    choices = {info.name: (choice,) for info in layer_infos(model)}
    compress_model(model, choices)
    with torch.no_grad():
        model.eval()(images)
        before = model(images)
        bake_model(model, choices)
        assert torch.equal(model(images), before)
        again = fresh()
        restore_model(again, choices, model.state_dict())
        assert torch.equal(again.eval()(images), before)


@pytest.mark.parametrize(
    ("code", "bits"),
    [
        (Sign(), 1152 + 16 * 32),
        (Ternary(), 1152 * 2 + 16 * 32),
        (PowerOfTwo(bits=4), 1152 * 4 + 16 * 8),
        (DoReFa(bits=3), 1152 * 3),
        (Affine(bits=4), 1152 * 4 + 16 * (32 + 4)),
        (Affine(bits=4, symmetric=True), 1152 * 4 + 16 * 32),
        (Affine(bits=4, granularity=Granularity.PER_TENSOR), 1152 * 4 + 36),
        (Affine(bits=4, group_size=32), 1152 * 4 + 16 * 3 * 36),  # 72 weights a filter: 3 groups
    ],
    ids=repr,
)
def test_stored_bits_by_hand(code: Sign, bits: float) -> None:
    model = build("small_cnn", width=1.0, depth=1, input_shape=(1, 8, 8), num_classes=10, seed=0)
    workload = trace(model, (torch.zeros(1, 1, 8, 8),), loss=None, optimizer=None, training=False)
    rewritten = rewrite(CodedQuantization(weights=code, activations=Pact(bits=3)), workload, "stage2.conv1")
    assert rewritten.stored_bits[rewritten.weight_of("stage2.conv1")] == pytest.approx(bits)
    assert rewritten.bits[rewritten.inputs_of("stage2.conv1")[0]] == 3


@pytest.mark.parametrize("function", [coded, activation_module])
def test_an_unknown_code_is_refused(function: object) -> None:
    with pytest.raises(TypeError, match="code is a str"):
        coded("sign", _weight(2, 2), False) if function is coded else activation_module("x", calibrated=False)


def test_only_convolutions_and_linear_layers_are_quantized() -> None:
    choice = CodedQuantization(weights=Sign(), activations=Lsq(bits=8))
    with pytest.raises(TechniqueError, match="quantization acts on Conv2d and Linear layers"):
        apply(choice, nn.BatchNorm2d(2), "norm")


@pytest.mark.parametrize("make", [lambda: DoReFa(bits=1), lambda: PowerOfTwo(bits=2), lambda: Pact(bits=32)])
def test_bits_that_a_code_has_not_are_refused(make: object) -> None:
    with pytest.raises(SpaceError, match=r"bits of .* must be one of"):
        make()  # type: ignore[operator]


def test_groups_of_a_whole_tensor_are_refused() -> None:
    with pytest.raises(SpaceError, match="groups divide filters"):
        Affine(bits=4, granularity=Granularity.PER_TENSOR, group_size=4)


class Scripted:
    """Answers knobs by name, others with their first value."""

    def __init__(self, **answers: str | int) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def _answer(self, name: str, values: tuple[object, ...]) -> object:
        self.asked.append(name)
        return self.answers.get(name.rpartition(".")[2], values[0])

    def ordinal(self, name: str, values: tuple[int | float, ...]) -> int | float:
        return self._answer(name, values)  # type: ignore[return-value]

    def categorical(self, name: str, values: tuple[str, ...]) -> str:
        return self._answer(name, values)  # type: ignore[return-value]


MIDDLE = LayerInfo(name="conv", kind="conv2d", weight_shape=(8, 8, 3, 3))
EDGE = LayerInfo(name="first", kind="conv2d", weight_shape=(8, 3, 3, 3), is_edge=True)


def test_a_space_without_new_fields_asks_what_it_always_asked() -> None:
    ask = Scripted()
    made = QuantizationSpace(weight_bits=(2, 4)).suggest(ask, EDGE)
    assert made == UniformQuantization(weight_bits=2, activation_bits=8)
    assert ask.asked == ["first.weight_bits", "first.activation_bits"]


@pytest.mark.parametrize(
    ("quantizer", "weights"),
    [
        ("sign", Sign()), ("ternary", Ternary()), ("affine", Affine(bits=4)), ("dorefa", DoReFa(bits=4)),
        ("pact", DoReFa(bits=4)), ("power_of_two", PowerOfTwo(bits=4)),
    ],
)  # fmt: skip
def test_every_quantizer_can_be_chosen(quantizer: str, weights: Sign) -> None:
    space = QuantizationSpace(quantizer=("lsq", quantizer), weight_bits=(4,), activation_bits=(3,))
    ask = Scripted(quantizer=quantizer)
    made = space.suggest(ask, MIDDLE)
    assert isinstance(made, CodedQuantization)
    assert made.weights == weights
    assert made.activations.bits == 3
    assert from_json(to_json(made)) == made
    assert ("conv.weight_bits" in ask.asked) == (quantizer not in ("sign", "ternary"))


def test_affine_quantizers_have_granularity_groups_and_rounding() -> None:
    fields = {"quantizer": "symmetric", "weight_bits": 4, "group_size": [0, 16], "rounding": "stochastic"}
    ask = Scripted(group_size=16)
    made = QuantizationSpace.model_validate(fields).suggest(ask, MIDDLE)
    assert isinstance(made, CodedQuantization)
    assert made.weights == Affine(bits=4, symmetric=True, group_size=16, rounding=Rounding.STOCHASTIC)
    assert "conv.group_size" in ask.asked
    whole = QuantizationSpace(quantizer=("affine",), granularity=Granularity.PER_TENSOR).suggest(ask, MIDDLE)
    assert isinstance(whole, CodedQuantization)
    assert whole.weights == Affine(bits=8, granularity=Granularity.PER_TENSOR)


@pytest.mark.parametrize("quantizer", ["lsq", "affine"])
def test_weights_alone_activations_alone_or_neither(quantizer: str) -> None:
    space = QuantizationSpace(quantizer=(quantizer,), weight_bits=(4, 32), activation_bits=(8, 32))
    made = {
        (weights, activations): space.suggest(
            Scripted(weight_bits=weights, activation_bits=activations), MIDDLE
        )
        for weights in (4, 32)
        for activations in (8, 32)
    }
    assert made[32, 32] == FullPrecision()
    for (weights, activations), choice in made.items():
        layer = nn.Conv2d(8, 8, 3)
        before = layer.weight.detach().clone()
        images = _weight(2, 8, 5, 5)
        apply(choice, layer, "conv")
        layer(images)
        assert torch.equal(layer.weight, before) == (weights == 32)
        seen: list[torch.Tensor] = []
        layer.register_forward_hook(lambda _layer, inputs, _output, seen=seen: seen.append(inputs[0]))
        layer(images)
        assert torch.equal(seen[0], images) == (activations == 32)


def test_32_bits_for_both_have_a_choice_of_their_own() -> None:
    with pytest.raises(SpaceError, match="is `FullPrecision`"):
        UniformQuantization(weight_bits=32, activation_bits=32)


def test_the_edge_policy_is_explicit() -> None:
    for bits, expected in (
        (8, UniformQuantization(weight_bits=8, activation_bits=8)),
        (32, FullPrecision()),
    ):
        ask = Scripted()
        assert QuantizationSpace(weight_bits=(2,), edge_bits=bits).suggest(ask, EDGE) == expected
        assert ask.asked == []
    infos = layer_infos(build("resnet", width=0.5, depth=1, input_shape=(1, 8, 8), num_classes=4, seed=0))
    assert [info.name for info in infos if info.is_edge] == ["conv", "classifier"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"quantizer": "lsqq"}, "no quantizer is named 'lsqq'. Did you mean 'lsq'"),
        ({"weight_bits": 1}, "one bit a weight is `quantizer: sign`"),
        (
            {"weight_bits": [2, 3], "quantizer": "ternary"},
            r"ternary takes weight bits of \[2\], but .* \[3\]",
        ),
        ({"weight_bits": 8, "quantizer": "sign"}, r"sign takes weight bits of \[1\], but .* has \[8\]"),
        ({"weight_bits": [2, 32], "quantizer": ["sign", "ternary"]}, r"sign .* ternary .* has \[32\]"),
        (
            {"weight_bits": [1], "quantizer": ["lsq", "sign"]},
            r"lsq takes .* but `weight_bits` has \[1\]; add",
        ),
        ({"edge_bits": 1}, "bits must be one of"),
        ({"quantizer": "power_of_two", "weight_bits": [2, 4]}, r"`weight_bits` has \[2\]"),
        (
            {"quantizer": ["dorefa", "pact", "lsq"], "mode": ["ptq", "qat"]},
            "but dorefa and pact must be trained",
        ),
        ({"group_size": 8}, r"`group_size` is for the quantizers affine and symmetric, but .* \['lsq'\]"),
        ({"rounding": "stochastic"}, "`rounding` is for the quantizers affine and symmetric"),
        (
            {"quantizer": "affine", "rounding": "stochastic", "mode": "ptq"},
            "`rounding` needs `qat` in `mode`",
        ),
        ({"quantizer": "affine", "group_size": 8, "granularity": "per_tensor"}, "groups divide filters"),
    ],
)
def test_bad_fields_are_refused_when_the_study_is_read(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        QuantizationSpace.model_validate(fields)


def test_bits_left_out_are_those_of_the_quantizer() -> None:
    for quantizer, bits in (("sign", (1,)), ("ternary", (2,)), (["sign", "ternary"], (1, 2)), ("lsq", (8,))):
        space = QuantizationSpace.model_validate({"quantizer": quantizer})
        assert space.weight_bits == bits
        assert QuantizationSpace.model_validate(space.model_dump()) == space  # as a run folder writes it
    reference = QuantizationSpace().model_dump() | QuantizationSpace().reference()
    assert QuantizationSpace.model_validate(reference).weight_bits == (8,)
    assert QuantizationSpace.model_validate(reference | {"quantizer": "ternary"}).weight_bits == (2,)


def test_one_bit_is_offered_to_no_quantizer_but_sign() -> None:
    space = QuantizationSpace.model_validate({"quantizer": ["lsq", "sign"], "weight_bits": [1, 4]})
    made = space.suggest(Scripted(quantizer="lsq"), MIDDLE)
    assert made == UniformQuantization(weight_bits=4, activation_bits=8)


def test_calibration_alone_is_worse_than_training_with_the_quantizer() -> None:
    """Post-training calibration fixes scales on one batch; fine-tuning then lowers the error further."""
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(256, 4, generator=draw) @ torch.randn(4, 16, generator=draw)  # weights have slack
    layer = nn.Linear(16, 4)
    target = (inputs @ torch.randn(16, 4, generator=draw)).detach()
    with torch.no_grad():
        layer.weight.copy_(torch.linalg.lstsq(inputs, target).solution.T)
        layer.bias.zero_()
    apply(UniformQuantization(weight_bits=2, activation_bits=8), layer, "linear")
    with torch.no_grad():
        calibrated = float((layer(inputs) - target).square().mean())
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
    best = math.inf
    for _ in range(200):
        optimizer.zero_grad()
        loss = (layer(inputs) - target).square().mean()
        loss.backward()
        optimizer.step()
        best = min(best, loss.item())
    assert best < 0.95 * calibrated
