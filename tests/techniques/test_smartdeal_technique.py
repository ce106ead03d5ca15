"""SmartDeal on layers and workloads: rebuilt weights, frozen zeros, the bucket switch, bits by hand."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from evaluators.data.splits import DataSplits, Split
from evaluators.learning.backprop import fine_tune
from evaluators.learning.recipe import Recipe
from evaluators.networks import build
from evaluators.networks.layers import layer_infos
from evaluators.techniques import (
    LayerDensity,
    TechniqueError,
    apply,
    bake_model,
    compress_model,
    observe,
    restore_model,
    rewrite,
    stored_densities,
)
from evaluators.techniques.smartdeal import SmartDealWeight, expected_densities
from evaluators.techniques.smartdeal_layout import slice_layout
from evaluators.workload.graph import Workload
from evaluators.workload.trace import trace
from search_spaces.choice import SpaceError, from_json, to_json
from search_spaces.learning import Backpropagation, Optimizer
from search_spaces.quantization import UniformQuantization
from search_spaces.smartdeal import CoefficientUpdate, SmartDeal, SmartDealSpace, remodels

LAYER = "stage2.conv1"  # 16 x 8 x 3 x 3: 16 filters, one slice of 24 rows each
NUMEL = 16 * 8 * 9
W8 = UniformQuantization(weight_bits=8, activation_bits=8)


def _layer(choice: SmartDeal) -> tuple[nn.Conv2d, SmartDealWeight]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = nn.Conv2d(8, 6, 3)
    apply(choice, layer, "layer")
    part = layer.get_submodule("parametrizations.weight.0")
    assert isinstance(part, SmartDealWeight)
    return layer, part


@functools.cache
def _workload(optimizer: Optimizer | None = None) -> Workload:
    model = build("small_cnn", width=1.0, depth=1, input_shape=(1, 8, 8), num_classes=10, seed=0)
    images = (torch.zeros(4 if optimizer else 1, 1, 8, 8),)
    loss = "cross_entropy" if optimizer else None
    return trace(model, images, loss=loss, optimizer=optimizer, training=optimizer is not None)  # type: ignore[arg-type]


def test_the_weight_is_powers_of_two_times_integers_on_a_scale() -> None:
    layer, part = _layer(SmartDeal(threshold=0.05))
    with torch.no_grad():
        coefficients, basis = part.quantized_coefficients(), part.quantized_basis()
        assert torch.equal(layer.weight, (coefficients @ basis).reshape(6, 8, 3, 3))
    exponents = coefficients[coefficients != 0].abs().log2()
    assert torch.equal(exponents, exponents.round())
    assert 0 < int((coefficients == 0).sum()) < coefficients.numel()
    for one in basis:
        steps = one / (one.abs().max() / 127)
        torch.testing.assert_close(steps, steps.round(), atol=1e-3, rtol=0)


def test_gradients_reach_coefficients_and_bases_but_never_the_zeros() -> None:
    layer, part = _layer(SmartDeal(threshold=0.08))
    layer.weight.square().sum().backward()
    gradient = part.coefficients.grad
    assert gradient is not None
    assert part.basis.grad is not None
    assert float(part.basis.grad.abs().sum()) > 0
    assert torch.equal(gradient != 0, part.kept.bool())
    assert layer.get_parameter("parametrizations.weight.original").grad is None


def test_the_bucket_switch_moves_exponents_by_one() -> None:
    _, part = _layer(SmartDeal(threshold=0.05, update=CoefficientUpdate.BUCKET_SWITCH))
    before = part.coefficients.detach().clone()
    step = torch.randn(before.shape, generator=torch.Generator().manual_seed(1)) * 1e-3
    part.begin_epoch()
    with torch.no_grad():
        part.coefficients += step
    part.after_step()
    after = part.coefficients.detach()
    for old, new, move, kept, largest, smallest in zip(
        before.flatten().tolist(),
        after.flatten().tolist(),
        step.flatten().tolist(),
        part.kept.flatten().tolist(),
        part.largest.expand_as(before).flatten().tolist(),
        part.smallest.expand_as(before).flatten().tolist(),
        strict=True,
    ):
        if not kept:
            assert new == 0
        elif old * move > 0:
            assert new == pytest.approx(max(-largest, min(largest, 2 * old)))
        elif abs(old) == smallest:
            assert new == 0
        else:
            assert new == pytest.approx(old / 2)


def test_a_coefficient_that_fell_to_zero_comes_back_as_the_smallest_power() -> None:
    _, part = _layer(SmartDeal(threshold=0.0, update=CoefficientUpdate.BUCKET_SWITCH))
    with torch.no_grad():
        part.coefficients.zero_()
        part.before.zero_()
        part.coefficients[0, 0, 0] = -1e-4  # what an optimizer's step leaves
        part.after_step()
    assert float(part.coefficients.detach()[0, 0, 0]) == -float(part.smallest[0])
    assert int(part.coefficients.count_nonzero()) == 1


def test_a_bar_of_three_waits_for_three_steps_and_an_epoch_starts_again() -> None:
    _, part = _layer(SmartDeal(update=CoefficientUpdate.BUCKET_SWITCH, switch_bar=3))
    start = part.coefficients.detach().clone()

    def step() -> bool:
        with torch.no_grad():
            part.coefficients += 1e-4
            part.after_step()
        return torch.equal(part.coefficients, start)

    assert step()
    assert step()
    part.begin_epoch()
    assert step()
    assert step()
    assert not step()


def test_projected_coefficients_are_powers_of_two_after_every_step() -> None:
    _, part = _layer(SmartDeal(update=CoefficientUpdate.PROJECTED))
    with torch.no_grad():
        part.coefficients += 0.01
    part.after_step()
    values = part.coefficients.detach()
    exponents = values[values != 0].abs().log2()
    assert torch.equal(exponents, exponents.round())


def test_bases_are_stored_on_their_grid_after_every_step() -> None:
    _, part = _layer(SmartDeal(basis_bits=8, update=CoefficientUpdate.PROJECTED))
    with torch.no_grad():
        part.basis += 0.01
    part.after_step()
    for one in part.basis.detach():
        steps = one / (one.abs().max() / 127)
        torch.testing.assert_close(steps, steps.round(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("update", list(CoefficientUpdate))
def test_training_lowers_the_loss_and_the_zeros_stay(update: CoefficientUpdate) -> None:
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(128, 1, 8, 8, generator=draw)
    labels = (images.mean(dim=(1, 2, 3)) > 0).long() + 2 * (images[:, 0, :4].mean(dim=(1, 2)) > 0).long()
    split = Split(images=images, labels=labels)
    splits = DataSplits(train=split, validation=split, test=split, num_classes=4)
    model = build("small_cnn", width=0.5, depth=1, input_shape=(1, 8, 8), num_classes=4, seed=0)
    infos = [info for info in layer_infos(model) if remodels(info)]
    compress_model(model, {info.name: (SmartDeal(threshold=0.05, update=update),) for info in infos})
    parts = [part for part in model.modules() if isinstance(part, SmartDealWeight)]
    zeros = [part.quantized_coefficients() == 0 for part in parts]
    with torch.no_grad():
        before = float(F.cross_entropy(model.eval()(images), labels))
    recipe = Recipe(pretrain_epochs=1, epochs=6, learning_rate=0.02)
    fine_tune(model, splits, recipe, Backpropagation(batch_size=32), seed=0)
    with torch.no_grad():
        after = float(F.cross_entropy(model.eval()(images), labels))
    assert after < before
    for part, were_zero in zip(parts, zeros, strict=True):
        assert bool((part.quantized_coefficients()[were_zero] == 0).all())


def test_baked_restored_and_measured() -> None:
    choices = {LAYER: (SmartDeal(threshold=0.05, prune_fraction=0.5), W8)}
    images = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))

    def fresh() -> nn.Module:
        return build("small_cnn", width=1.0, depth=1, input_shape=(1, 8, 8), num_classes=10, seed=0)

    model = fresh()
    compress_model(model, choices)
    model.eval()
    with torch.no_grad():
        model(images)
        before = model(images)
        density = stored_densities(model, choices)
        bake_model(model, choices)
        assert torch.equal(model(images), before)
        assert stored_densities(model, choices) == density
    assert density[LAYER] <= 0.5
    again = fresh()
    restore_model(again, choices, model.state_dict())
    with torch.no_grad():
        assert torch.equal(again.eval()(images), before)


def test_bits_of_an_inference() -> None:
    workload = rewrite(W8, rewrite(SmartDeal(threshold=0.0, prune_fraction=0.5), _workload(), LAYER), LAYER)
    weight = workload.weight_of(LAYER)
    rows, slices, filters = 16 * 24, 16, 16
    by_hand = rows * 0.5 * 3 * 4 + rows + slices * 9 * 8 + filters * 32  # and the quantizer's scales:
    assert workload.stored_bits[weight] == pytest.approx(by_hand + filters * 32)
    assert workload.bits[workload.inputs_of(LAYER)[0]] == 8
    measured = observe(workload, {LAYER: LayerDensity(weights=0.25, inputs=1.0)})
    assert measured.density[weight] == 0.25


@pytest.mark.parametrize(
    ("update", "bar", "bits"),
    [
        (CoefficientUpdate.LATENT, 1, 32),
        (CoefficientUpdate.PROJECTED, 1, 4),
        (CoefficientUpdate.BUCKET_SWITCH, 1, 4),
        (CoefficientUpdate.BUCKET_SWITCH, 4, 4 + 3),  # a counter from -3 to 3
    ],
)
def test_bits_of_a_training_step(update: CoefficientUpdate, bar: int, bits: int) -> None:
    choice = SmartDeal(threshold=0.0, prune_fraction=0.25, update=update, switch_bar=bar)
    workload = rewrite(choice, _workload(Optimizer.MOMENTUM), LAYER)
    weight = workload.weight_of(LAYER)
    is_latent = update is CoefficientUpdate.LATENT
    rows = 16 * 24 / 16  # one bit a row for the 16 filters, which lost the same rows
    basis = 16 * 9 * 32 if is_latent else 16 * (9 * 8 + 32)  # one scale a filter
    assert workload.stored_bits[weight] == pytest.approx(NUMEL * 0.75 * bits + rows + basis)
    for companion in (workload.structure.gradients[weight], *workload.structure.states[weight]):
        assert workload.density[companion] == 0.75
        assert workload.stored_bits[companion] == pytest.approx((NUMEL * 0.75 + 16 * 9) * 32)


def test_a_threshold_needs_a_mask_of_coefficients() -> None:
    update = CoefficientUpdate.PROJECTED
    choice = SmartDeal(threshold=0.01, prune_fraction=0.25, basis_bits=32, update=update)
    workload = rewrite(choice, _workload(Optimizer.MOMENTUM), LAYER)
    weight = workload.weight_of(LAYER)
    kept = workload.density[weight]
    assert 0 < kept < 0.75
    assert workload.stored_bits[weight] == pytest.approx(NUMEL * kept * 4 + NUMEL + 16 * 9 * 32)


def test_without_a_threshold_only_removed_rows_are_frozen() -> None:
    _, part = _layer(SmartDeal(threshold=0.0, prune_fraction=0.5, coefficient_bits=3))
    free = part.kept.any(dim=2)
    assert int(free.sum()) == free.numel() // 2
    assert torch.equal(part.kept, free[:, :, None].expand_as(part.kept).to(part.kept.dtype))
    assert int((part.coefficients[part.kept.bool()] == 0).sum()) > 0  # too small for the code, and free


def test_small_steps_are_not_counted() -> None:
    choice = SmartDeal(update=CoefficientUpdate.BUCKET_SWITCH, smallest_step=1e-3)
    _, part = _layer(choice)
    before = part.coefficients.detach().clone()
    steps = torch.full_like(before, 5e-4)
    steps[:, :2] = 2e-3
    with torch.no_grad():
        part.coefficients += steps
        part.after_step()
    assert torch.equal(part.coefficients[:, 2:], before[:, 2:])
    assert not torch.equal(part.coefficients[:, :2], before[:, :2])


def test_expected_densities_are_near_those_of_gaussian_weights() -> None:
    weight = torch.randn(64, 64, 3, 3, generator=torch.Generator().manual_seed(0)) * 0.05
    choice = SmartDeal(threshold=0.035, row_factor=5.0, basis_bits=32)
    layout = slice_layout(weight.shape)
    assert layout is not None
    part = SmartDealWeight(weight, choice, layout)
    rows = float(part.kept.any(dim=2).float().mean())
    expected_rows, expected_elements = expected_densities(choice, layout)
    assert expected_rows == pytest.approx(rows, abs=0.08)
    assert expected_elements <= expected_rows


@pytest.mark.parametrize("module", [nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(3, 8, 7), nn.Conv2d(8, 8, 5)])
def test_layers_without_slices_are_refused(module: nn.Module) -> None:
    with pytest.raises(TechniqueError, match=r"'odd' has weights .* leave SmartDeal out there"):
        apply(SmartDeal(), module, "odd")


def test_other_modules_are_refused() -> None:
    with pytest.raises(TechniqueError, match="acts on Conv2d and Linear layers, but 'norm' is a BatchNorm2d"):
        apply(SmartDeal(), nn.BatchNorm2d(4), "norm")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"threshold": 1.0}, "`0 <= threshold < 1`.*got threshold=1.0"),
        ({"row_factor": -1.0}, "row_factor=-1.0"),
        ({"prune_fraction": 1.0}, "prune_fraction=1.0"),
        ({"coefficient_bits": 6}, r"one of \[3, 4, 5\].*got 6"),
        ({"basis_bits": 7}, r"one of \[4, 6, 8, 16, 32\].*7"),
        ({"slice_rows": 0}, "must be >= 1"),
        ({"step_bits": 4}, r"`step_bits` must be one of \[8, 16, 32\].*got 4"),
        ({"smallest_step": -1.0}, r"`smallest_step >= 0`.*-1\.0"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        SmartDeal(**values)  # type: ignore[arg-type]


class Last:
    """Answers every knob with its last value, and remembers the names."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def ordinal(self, name: str, values: tuple[int | float, ...]) -> int | float:
        self.asked.append(name)
        return values[-1]

    def categorical(self, name: str, values: tuple[str, ...]) -> str:
        self.asked.append(name)
        return values[-1]


def test_the_space_asks_only_where_it_means_something() -> None:
    model = build("mobilenet", width=0.5, depth=1, input_shape=(1, 8, 8), num_classes=4, seed=0)
    space = SmartDealSpace(use=("off", "on"), threshold=(0.01, 0.05), coefficient_bits=(3, 5))
    for info in layer_infos(model):
        ask = Last()
        made = space.suggest(ask, info)
        if info.weight_shape[1] == 1:  # depthwise, and the first layer of a grey image
            assert (made, ask.asked) == (None, [])
        else:
            assert isinstance(made, SmartDeal)
            assert (made.threshold, made.coefficient_bits) == (0.05, 5)
            assert from_json(to_json(made)) == made
    ask = Last()
    assert SmartDealSpace().suggest(ask, layer_infos(model)[-1]) is None
    assert ask.asked == []
    SmartDealSpace(use=("on",), per_layer=False).suggest(ask, layer_infos(model)[-1])
    assert set(ask.asked) == {
        f"all.smartdeal{rest}"
        for rest in (
            "", ".threshold", ".row_factor", ".prune_fraction", ".coefficient_bits", ".basis_bits",
            ".slice_rows",
        )
    }  # fmt: skip
