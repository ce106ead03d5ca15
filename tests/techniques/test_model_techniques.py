"""The techniques on torch models: masks, quantizers, baking, restoring, densities."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from evaluators.networks import build, compressible_layers, layer_infos, names
from evaluators.techniques import (
    Choices,
    TechniqueError,
    apply,
    bake,
    bake_model,
    compress_model,
    measure_densities,
    restore,
    restore_model,
    rewrite,
    stored_densities,
    stored_density,
)
from evaluators.techniques.masks import filter_mask, nm_mask, unstructured_mask
from evaluators.techniques.quantizers import ActivationQuantizer, WeightQuantizer
from search_spaces.choice import Choice, families
from search_spaces.quantization import FullPrecision, Granularity, UniformQuantization
from search_spaces.sparsity import NM, Dense, FilterPruned, Unstructured, fits

FOUR_BITS = UniformQuantization(weight_bits=4, activation_bits=4)
SPARSITY: tuple[Choice, ...] = (Dense(), Unstructured(density=0.3), NM(n=2, m=4), FilterPruned(density=0.5))
QUANTIZATION: tuple[Choice, ...] = (
    FullPrecision(),
    FOUR_BITS,
    UniformQuantization(weight_bits=2, activation_bits=3, granularity=Granularity.PER_TENSOR),
)


def _network(name: str = "small_cnn", seed: int = 0) -> nn.Module:
    return build(name, width=1.0, depth=1, input_shape=(1, 8, 8), num_classes=10, seed=seed)


def _images(seed: int = 0, count: int = 32) -> torch.Tensor:
    return torch.randn((count, 1, 8, 8), generator=torch.Generator().manual_seed(seed))


def _choices(model: nn.Module, sparsity: Choice, quantization: Choice) -> Choices:
    """Every layer the two choices, or dense where the pattern does not fit."""
    names_of = {NM: "2:4", FilterPruned: "filter"}
    return {
        info.name: (
            sparsity if fits(names_of.get(type(sparsity), "dense"), info) else Dense(),
            quantization,
        )
        for info in layer_infos(model)
    }


def _train_a_little(model: nn.Module) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    labels = torch.arange(32) % 10
    model.train()
    for step in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(_images(step)), labels).backward()
        optimizer.step()
    model.eval()


@given(density=st.floats(0.01, 1.0), seed=st.integers(0, 99))
def test_unstructured_mask_keeps_the_largest(density: float, seed: int) -> None:
    weight = torch.randn((6, 5), generator=torch.Generator().manual_seed(seed))
    mask = unstructured_mask(weight, density)
    kept = max(1, round(density * 30))
    assert int(mask.sum()) == kept
    if kept < 30:
        assert weight.abs()[mask == 1].min() >= weight.abs()[mask == 0].max()


def test_ties_are_broken_by_place() -> None:
    assert unstructured_mask(torch.ones(2, 4), 0.5).tolist() == [[1, 1, 1, 1], [0, 0, 0, 0]]
    assert nm_mask(torch.ones(1, 4), 1, 4).tolist() == [[1, 0, 0, 0]]
    assert filter_mask(torch.ones(4, 2), 0.5)[:, 0].tolist() == [1, 1, 0, 0]


@given(
    runs=st.integers(1, 4),
    pattern=st.sampled_from([(1, 2), (1, 4), (2, 4), (3, 4), (4, 8)]),
    seed=st.integers(0, 99),
)
def test_nm_mask_keeps_n_of_every_m_input_channels(runs: int, pattern: tuple[int, int], seed: int) -> None:
    n, m = pattern
    weight = torch.randn((3, runs * m, 2, 2), generator=torch.Generator().manual_seed(seed))
    mask = nm_mask(weight, n, m)
    grouped = mask.reshape(3, runs, m, 2, 2)
    assert (grouped.sum(dim=2) == n).all()
    magnitudes = weight.abs().reshape(3, runs, m, 2, 2)
    least_kept = torch.where(grouped == 1, magnitudes, torch.inf).amin(dim=2)
    most_dropped = torch.where(grouped == 0, magnitudes, 0.0).amax(dim=2)
    assert (least_kept >= most_dropped).all()


def test_filter_mask_keeps_whole_filters_and_at_least_one() -> None:
    weight = torch.tensor([1.0, -4.0, 3.0, 0.5]).view(4, 1, 1, 1).expand(4, 2, 3, 3)
    assert filter_mask(weight, 0.5)[:, 0, 0, 0].tolist() == [0, 1, 1, 0]
    assert filter_mask(weight, 0.01).flatten(1).sum(dim=1).tolist() == [0, 18, 0, 0]


@pytest.mark.parametrize("sparsity", SPARSITY, ids=lambda choice: type(choice).__name__)
@pytest.mark.parametrize("quantization", QUANTIZATION, ids=["full", "4-bit", "2-bit"])
def test_baked_and_restored_models_predict_the_same(sparsity: Choice, quantization: Choice) -> None:
    """Training model, baked model and the restored export: identical outputs, to the bit."""
    model = _network()
    choices = _choices(model, sparsity, quantization)
    compress_model(model, choices)
    _train_a_little(model)
    with torch.no_grad():
        before = model(_images(9))
        densities = stored_densities(model, choices)
        bake_model(model, choices)
        baked = model(_images(9))
        fresh = _network(seed=1)
        restore_model(fresh, choices, model.state_dict())
        restored = fresh.eval()(_images(9))
    assert torch.equal(before, baked)
    assert torch.equal(before, restored)
    assert stored_densities(fresh, choices) == densities


@pytest.mark.parametrize("granularity", Granularity)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_baked_weights_are_integers_times_the_scale(bits: int, granularity: Granularity) -> None:
    model = _network()
    quantization = UniformQuantization(weight_bits=bits, activation_bits=8, granularity=granularity)
    choices = _choices(model, Unstructured(density=0.5), quantization)
    compress_model(model, choices)
    _train_a_little(model)
    bake_model(model, choices)
    for layer in compressible_layers(model).values():
        integers = layer.weight / layer.get_buffer("weight_scale")
        torch.testing.assert_close(integers, integers.round(), rtol=0, atol=1e-4)
        assert int(integers.abs().max().round()) <= 2 ** (bits - 1) - 1
        assert (layer.weight == 0).float().mean() >= 0.49  # the mask survives quantization


def test_masks_stay_through_training() -> None:
    model = _network()
    choices = _choices(model, Unstructured(density=0.25), FOUR_BITS)
    compress_model(model, choices)
    layer = compressible_layers(model)["stage2.conv1"]
    kept = {index for index, value in enumerate(layer.weight.flatten().tolist()) if value}
    _train_a_little(model)
    assert {index for index, value in enumerate(layer.weight.flatten().tolist()) if value} - kept == set()
    assert layer.weight.count_nonzero() <= round(0.25 * layer.weight.numel())


def test_a_copy_has_quantizers_of_its_own() -> None:
    model = _network()
    choices = _choices(model, Dense(), FOUR_BITS)
    compress_model(model, choices)
    model(_images())
    twin = copy.deepcopy(model)
    for part in twin.modules():
        if isinstance(part, ActivationQuantizer):
            part.log_scale.data.add_(1.0)
    model.eval()
    twin.eval()
    with torch.no_grad():
        assert not torch.equal(model(_images()), twin(_images()))


def test_nothing_changes_in_full_precision() -> None:
    model, same = _network(), _network()
    compress_model(model, _choices(model, Dense(), FullPrecision()))
    assert model.state_dict().keys() == same.state_dict().keys()
    with torch.no_grad():
        assert torch.equal(model.eval()(_images()), same.eval()(_images()))


@pytest.mark.parametrize("name", names())
def test_sixteen_bits_are_nearly_full_precision(name: str) -> None:
    """The contract over every network: it can be compressed, and many bits change little."""
    model = build(name, width=1.0, depth=1, input_shape=(1, 16, 16), num_classes=10, seed=0).eval()
    images = torch.randn((8, 1, 16, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(images)
        compress_model(
            model, _choices(model, Dense(), UniformQuantization(weight_bits=16, activation_bits=16))
        )
        torch.testing.assert_close(model(images), expected, rtol=2e-3, atol=2e-3)


def test_an_unsigned_input_has_zero_point_zero_and_uses_every_code() -> None:
    quantizer = ActivationQuantizer(3)
    levels = quantizer(torch.linspace(0, 7, 100).view(1, -1))
    assert quantizer.zero_point.item() == 0
    assert len(levels.unique()) == 8
    signed = ActivationQuantizer(3)
    signed(torch.linspace(-3.5, 3.5, 100).view(1, -1))
    assert signed.zero_point.item() in (3, 4)


def test_a_constant_input_is_calibrated_without_a_nan() -> None:
    quantizer = ActivationQuantizer(4)
    assert torch.equal(quantizer(torch.zeros(2, 3)), torch.zeros(2, 3))
    assert torch.isfinite(quantizer.log_scale)


@settings(deadline=None)
@given(st.sampled_from([2, 3, 4, 8]), st.integers(0, 20))
def test_the_fitted_clip_beats_the_largest_magnitude(bits: int, seed: int) -> None:
    weight = torch.randn((4, 3, 3, 3), generator=torch.Generator().manual_seed(seed))
    fitted = WeightQuantizer(weight, bits, Granularity.PER_CHANNEL)
    largest = WeightQuantizer(weight, bits, Granularity.PER_CHANNEL)
    top = weight.abs().amax(dim=(1, 2, 3), keepdim=True) / (2 ** (bits - 1) - 1)
    largest.log_scale.data.copy_(top.log())
    with torch.no_grad():
        assert (fitted(weight) - weight).square().sum() <= (largest(weight) - weight).square().sum() * 1.0001


def test_densities_are_of_what_is_stored() -> None:
    model = _network()
    choices: Choices = {
        "stage1.conv1": (Dense(), UniformQuantization(weight_bits=2, activation_bits=8)),
        "stage2.conv1": (NM(n=1, m=4), FOUR_BITS),
        "stage3.conv1": (FilterPruned(density=0.25), FOUR_BITS),
        "classifier": (Unstructured(density=0.9), UniformQuantization(weight_bits=2, activation_bits=8)),
    }
    compress_model(model, choices)
    model(_images())
    densities = measure_densities(model.eval(), choices, _images())
    assert densities["stage1.conv1"].weights == 1.0  # 2-bit zeros of a dense layer are stored
    assert densities["stage2.conv1"].weights == 0.25
    assert densities["stage3.conv1"].weights == 0.25
    assert 0.3 < densities["classifier"].weights < 0.8  # kept weights that 2 bits round to zero drop out
    assert densities["stage1.conv1"].inputs > 0.9  # Gaussian images
    assert 0.2 < densities["stage2.conv1"].inputs < 0.8  # behind a ReLU, about a half


def test_densities_leave_no_hooks_behind() -> None:
    model = _network().eval()
    measure_densities(model, {}, _images())
    assert all(not layer._forward_hooks for layer in compressible_layers(model).values())


@pytest.mark.parametrize(
    "kind", [kind for family in ("quantization", "sparsity") for kind in families()[family]]
)
def test_every_choice_of_the_families_has_a_whole_technique(kind: type) -> None:
    """The contract over the registry: a new choice must come with all five functions."""
    for function in (apply, bake, restore, rewrite, stored_density):
        assert function.dispatch(kind) is not function.dispatch(object), function


def test_a_choice_without_a_technique_is_named() -> None:
    layer = nn.Linear(2, 2)
    message = r"no technique is registered for str; known choices: .*Dense, .*UniformQuantization"
    for call in (
        lambda: apply("int4", layer, "fc"),
        lambda: bake("int4", layer),
        lambda: restore("int4", layer),
        lambda: stored_density("int4", layer),
    ):
        with pytest.raises(TechniqueError, match=message):
            call()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(TechniqueError, match=r"2:4 sparsity needs a multiple of 4 input.*'fc'.*\(2, 6\)"):
        apply(NM(n=2, m=4), nn.Linear(6, 2), "fc")
    with pytest.raises(TechniqueError, match=r"quantization acts on Conv2d and.*'norm' is a BatchNorm2d"):
        apply(FOUR_BITS, nn.BatchNorm2d(2), "norm")  # type: ignore[arg-type]
    with pytest.raises(TechniqueError, match=r"sparsity acts on Conv2d and.*'norm' is a BatchNorm2d"):
        apply(Unstructured(density=0.5), nn.BatchNorm2d(2), "norm")  # type: ignore[arg-type]


def test_an_unknown_layer_is_refused() -> None:
    with pytest.raises(TechniqueError, match=r"names layer 'stage9', but the network has only: stage1\."):
        compress_model(_network(), {"stage9": (Dense(),)})


def test_weights_of_another_design_are_refused() -> None:
    model = _network()
    with pytest.raises(TechniqueError, match="saved weights are not those of this network and design"):
        restore_model(model, _choices(model, Dense(), FOUR_BITS), _network().state_dict())
