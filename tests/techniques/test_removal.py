"""Filters taken out of networks: the small one computes what the large one does with those filters silent."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from evaluators.bench import Bench
from evaluators.dataset_spec import DatasetSpec
from evaluators.evaluate import compress, evaluate, parameter_bits
from evaluators.half_choices import replacements_of
from evaluators.learning.recipe import Recipe
from evaluators.networks import build, compressible_layers, layer_infos
from evaluators.techniques import compress_model
from evaluators.techniques.channel_groups import channel_groups
from evaluators.techniques.masks import filter_mask
from evaluators.techniques.removal import remove_filters
from evaluators.techniques.structure import choices_of_parts, restructure_model, structure_of
from evaluators.workload.trace import trace
from search_spaces.choice import Choice
from search_spaces.decomposition import LowRank, Tucker2
from search_spaces.smartdeal import SmartDeal
from search_spaces.space import Space, assemble
from search_spaces.sparsity import NM, Dense, FilterPruned

HALF = FilterPruned(density=0.5)
NETWORKS = ["small_cnn", "mlp", "resnet", "mobilenet"]


def _network(name: str, depth: int = 2, seed: int = 0) -> nn.Module:
    """Return a network whose normalisations have seen something, in evaluation mode."""
    model = build(name, width=1.0, depth=depth, input_shape=(1, 8, 8), num_classes=4, seed=seed)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d) and part.running_mean is not None:
                part.running_mean.copy_(torch.randn(part.num_features, generator=draw))
                part.weight.copy_(torch.randn(part.num_features, generator=draw))
                part.bias.copy_(torch.randn(part.num_features, generator=draw))
    return model.eval()


def _images(count: int = 8) -> torch.Tensor:
    return torch.randn((count, 1, 8, 8), generator=torch.Generator().manual_seed(1))


def _all(model: nn.Module, choice: Choice = HALF) -> dict[str, tuple[Choice, ...]]:
    """Every layer but the last one."""
    return dict.fromkeys(list(compressible_layers(model))[:-1], (choice,))


def _silenced(model: nn.Module, small: nn.Module) -> nn.Module:
    """Return the large network with what the small one has not set to zero: filters and their norms."""
    silent, left = copy.deepcopy(model), dict(small.named_parameters())
    with torch.no_grad():
        for group in channel_groups(model):
            maker = model.get_submodule(group.makers[0]).get_parameter("weight").flatten(1)
            kept = left[f"{group.makers[0]}.weight"]
            if len(kept) == len(maker):
                continue
            gone = _gone(model, small, group.makers[0])
            for name in (*group.makers, *group.depthwise, *group.norms):
                for parameter in silent.get_submodule(name).parameters():
                    parameter[gone] = 0.0
    return silent


def _gone(model: nn.Module, small: nn.Module, maker: str) -> list[int]:
    """Return the filters of a layer that the small network has not, by their biases or norms' values."""
    norm = next(group.norms[0] for group in channel_groups(model) if group.makers[0] == maker)
    values = model.get_submodule(norm).get_parameter("weight").tolist()
    kept = small.get_submodule(norm).get_parameter("weight").tolist()
    assert len(set(values)) == len(values)  # random, so each says which it is
    return [index for index, value in enumerate(values) if value not in kept]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_small_network_computes_what_the_silenced_one_does(name: str) -> None:
    model = _network(name)
    small = copy.deepcopy(model)
    removed = remove_filters(small, _all(model))
    assert removed
    before, after = (sum(part.numel() for part in net.parameters()) for net in (model, small))
    assert after < 0.6 * before
    with torch.no_grad():
        torch.testing.assert_close(small(_images()), _silenced(model, small)(_images()), rtol=1e-4, atol=1e-4)
        assert not torch.allclose(small(_images()), model(_images()), atol=1e-2)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_shapes_are_those_of_torch_pruning(name: str) -> None:
    """Reference: the library follows dependencies through autograd; ours through symbols."""
    pruning = pytest.importorskip("torch_pruning", reason="torch-pruning is not installed")
    model = _network(name)
    for group in channel_groups(model):
        small, other = copy.deepcopy(model), copy.deepcopy(model)
        remove_filters(small, dict.fromkeys(group.makers, (HALF,)))
        graph = pruning.DependencyGraph().build_dependency(other, example_inputs=_images(1))
        maker = other.get_submodule(group.makers[0])
        prune = pruning.prune_conv_out_channels
        if isinstance(maker, nn.Linear):
            prune = pruning.prune_linear_out_channels
        graph.get_pruning_group(maker, prune, idxs=_gone(model, small, group.makers[0])).prune()
        assert {key: value.shape for key, value in small.state_dict().items()} == {
            key: value.shape for key, value in other.state_dict().items()
        }
        with torch.no_grad():
            torch.testing.assert_close(small(_images()), other(_images()))


def test_the_strongest_filters_stay() -> None:
    model = _network("small_cnn")
    weight = model.get_submodule("stage2.conv1").get_parameter("weight").detach().clone()
    assert remove_filters(model, {"stage2.conv1": (HALF,)}) == {"stage2.conv1"}
    mask = filter_mask(weight, 0.5).flatten(1).any(dim=1)
    assert torch.equal(model.get_submodule("stage2.conv1").get_parameter("weight"), weight[mask])


def test_a_sum_keeps_its_channels_unless_all_of_its_layers_lose_theirs() -> None:
    group = next(group for group in channel_groups(_network("resnet")) if "conv" in group.makers)
    assert set(group.makers) == {"conv", "stage1.block1.conv2", "stage1.block2.conv2"}
    model = _network("resnet")
    some = dict.fromkeys(group.makers[1:], (HALF,))
    assert remove_filters(model, some) == frozenset()
    assert model.get_submodule("conv").get_parameter("weight").shape[0] == 16
    wider: dict[str, tuple[Choice, ...]] = {**some, group.makers[0]: (FilterPruned(density=0.75),)}
    assert remove_filters(model, wider) == set(group.makers)
    for name in group.makers:
        assert model.get_submodule(name).get_parameter("weight").shape[0] == 12  # of the one that keeps most


def test_a_depthwise_layer_follows_and_can_ask_for_fewer() -> None:
    expand, depthwise = "stage2.block1.body.expand_conv", "stage2.block1.body.depthwise_conv"
    for choices, kept, removed in (
        ({expand: (HALF,)}, 32, {expand}),
        ({expand: (HALF,), depthwise: (FilterPruned(density=0.25),)}, 16, {expand, depthwise}),
        ({depthwise: (HALF,)}, 64, set()),
    ):
        model = _network("mobilenet")
        assert remove_filters(model, choices) == removed
        layer = model.get_submodule(depthwise)
        assert isinstance(layer, nn.Conv2d)
        assert layer.groups == layer.in_channels == layer.out_channels == kept
        assert model(_images()).isfinite().all()


@pytest.mark.parametrize(
    ("reading", "kept"), [(NM(n=2, m=4), 4), (NM(n=1, m=8), 8), (SmartDeal(), 2), (Dense(), 1)], ids=repr
)
def test_enough_channels_stay_for_the_patterns_of_their_readers(reading: Choice, kept: int) -> None:
    model = _network("small_cnn")
    choices: dict[str, tuple[Choice, ...]] = {
        "stage1.conv1": (FilterPruned(density=0.1),),
        "stage1.conv2": (reading,),
    }
    removed = restructure_model(model, structure_of(choices))
    assert model.get_submodule("stage1.conv1").get_parameter("weight").shape[0] == kept
    assert (removed == {"stage1.conv1"}) == (kept < 8)
    compress_model(model, choices_of_parts(choices, removed))
    assert model(_images()).isfinite().all()


def test_parts_of_a_replaced_layer_lose_filters_too() -> None:
    model = _network("small_cnn")
    choices: dict[str, tuple[Choice, ...]] = {
        "stage2.conv1": (Tucker2(rank_in=4, rank_out=8), HALF),
        "classifier": (LowRank(rank=2), Dense()),
    }
    removed = restructure_model(model, structure_of(choices))
    assert removed == {"stage2.conv1.reduce", "stage2.conv1.core", "stage2.conv1.expand"}
    shapes = [layer.weight.shape[:2] for name, layer in compressible_layers(model).items() if name in removed]
    assert shapes == [(2, 8), (4, 2), (8, 4)]
    assert choices_of_parts(choices, removed)["stage2.conv1.core"] == ()


class Branching(nn.Module):
    """Its forward depends on the values, which symbols have not."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.first(images)
        made: torch.Tensor = self.second(hidden if bool(hidden.sum() > 0) else -hidden)
        return made


class Twice(nn.Module):
    """One layer reads two tensors: their channels must go together."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.one, self.other = nn.Conv2d(1, 4, 3), nn.Conv2d(1, width, 3)
        self.shared = nn.Conv2d(4, 2, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.shared(self.one(images)) + self.shared(self.other(images))
        return made


class Odd(nn.Module):
    """What follows its first layer is given as a function."""

    def __init__(self, then: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.first, self.last, self.then = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 2, 1), then

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.last(self.then(self.first(images)))
        return made


def test_a_network_that_cannot_be_followed_keeps_its_filters() -> None:
    assert channel_groups(Branching()) == ()


def test_a_layer_that_is_called_twice_joins_what_it_reads() -> None:
    (group, *_) = channel_groups(Twice(4))
    assert set(group.makers) == {"one", "other"}


@pytest.mark.parametrize(
    ("then", "is_followed"),
    [
        (lambda x: x.relu(), True),
        (lambda x: torch.nn.functional.max_pool2d(x, 2), True),
        (lambda x: x + x.relu(), True),
        (lambda x: x + 1.0, False),  # silent channels would not stay silent
        (lambda x: x.sigmoid(), False),
        (lambda x: x.flip(1), False),
        (lambda x: x * x.mean(dim=1, keepdim=True), False),
    ],
)
def test_what_does_not_pass_channels_one_by_one_closes_the_group(
    then: Callable[[torch.Tensor], torch.Tensor], is_followed: bool
) -> None:
    found = channel_groups(Odd(then))
    assert bool(found) == is_followed


@settings(max_examples=20, deadline=None)
@given(
    densities=st.lists(st.floats(0.05, 1.0), min_size=8, max_size=8),
    name=st.sampled_from(["small_cnn", "resnet", "mobilenet"]),
)
def test_any_densities_leave_a_network_that_runs_and_costs_no_more(densities: list[float], name: str) -> None:
    model = build(name, width=0.5, depth=1, input_shape=(1, 8, 8), num_classes=4, seed=0).eval()
    whole = trace(model, (_images(1),), training=False)
    names = list(compressible_layers(model))
    remove_filters(
        model,
        {layer: (FilterPruned(density=one),) for layer, one in zip(names, densities, strict=False)},
    )
    small = trace(model, (_images(1),), training=False)
    assert [info.name for info in layer_infos(model)] == names
    assert small.macs <= whole.macs
    assert parameter_bits(small) <= parameter_bits(whole)
    assert model(_images()).shape == (8, 4)


def test_a_design_counts_what_is_gone_downstream_and_trains_the_small_network() -> None:
    space = Space.model_validate(
        {
            "network": {"depth": [1]},
            "sparsity": {"patterns": ["dense", "filter"], "density": 0.5},
            "accelerator": {"templates": "eyeriss_like"},
        }
    )
    bench = Bench(
        dataset=DatasetSpec(name="digits", train_examples=200, validation_examples=50),
        recipe=Recipe(pretrain_epochs=1, epochs=1),
        seed=0,
        cache=None,
    )
    design, _ = assemble(space, {"stage2.conv1.sparsity": "filter"}, "small_cnn", bench.layers)
    dense, _ = assemble(space, {}, "small_cnn", bench.layers)
    half = design.algorithm
    traced = bench.trace(design.network, design.learning, replacements_of(half))
    whole = bench.trace(dense.network, dense.learning)
    assert traced.removed == {"stage2.conv1"}
    for layer in ("stage2.conv1", "stage3.conv1"):
        before, after = (
            sum(op.contraction.nest.macs for op in passes.inference.contractions_of(layer) if op.contraction)
            for passes in (whole, traced)
        )
        assert after * 2 == before
    stored = compress(traced, half).inference
    weight = stored.weight_of("stage2.conv1")
    assert stored.density[weight] == 1  # nothing is masked, and no bit says which filters stay
    assert math.prod(stored.tensors[weight].shape) == 8 * 8 * 3 * 3
    found = evaluate(design, bench, keeps=lambda scores, traced: True)
    assert found.trained is not None
    other = evaluate(dense, bench, keeps=lambda scores, traced: False)
    for facts in ("inference", "training"):
        small, large = (getattr(one.priced.facts, facts) for one in (found, other))
        assert small.energy_pj < large.energy_pj
        assert small.macs < large.macs
        assert small.peak_bits <= large.peak_bits
