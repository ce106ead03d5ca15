"""Layers replaced by several: exact at full rank, best approximations below, traced and trained."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from evaluators.bench import Bench
from evaluators.dataset_spec import DatasetSpec
from evaluators.evaluate import evaluate
from evaluators.learning.recipe import Recipe
from evaluators.networks import build
from evaluators.networks.layers import layer_infos
from evaluators.techniques import TechniqueError
from evaluators.techniques.structure import (
    choices_of_parts,
    parts_of,
    replaced,
    restructure_model,
    structure_of,
)
from search_spaces.ask import LayerInfo
from search_spaces.choice import Choice, SpaceError, from_json, to_json
from search_spaces.decomposition import DecompositionSpace, Grouped, LowRank, Separable, Tucker2
from search_spaces.family import Replaces
from search_spaces.network import NetworkChoice
from search_spaces.quantization import UniformQuantization
from search_spaces.smartdeal import SmartDeal
from search_spaces.space import Space, assemble, knobs
from search_spaces.sparsity import NM, Dense

W8 = UniformQuantization(weight_bits=8, activation_bits=8)


def _draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("layer", "choice", "shape"),
    [
        (nn.Linear(6, 9), LowRank(rank=6), (2, 6)),
        (nn.Conv2d(6, 4, 1, stride=2), LowRank(rank=4), (2, 6, 5, 5)),
        (nn.Conv2d(6, 4, 3, padding=1, stride=2), Tucker2(rank_in=6, rank_out=4), (2, 6, 7, 7)),
        (nn.Conv2d(4, 6, 3, dilation=2, bias=False), Tucker2(rank_in=4, rank_out=6), (2, 4, 9, 9)),
    ],
    ids=repr,
)
def test_full_rank_changes_nothing(layer: nn.Module, choice: Choice, shape: tuple[int, ...]) -> None:
    inputs = _draw(*shape)
    parts = replaced(choice, layer)
    assert len(parts) == len(parts_of(choice))
    with torch.no_grad():
        torch.testing.assert_close(nn.Sequential(*parts)(inputs), layer(inputs), rtol=1e-4, atol=1e-5)


def test_low_rank_is_the_best_of_its_rank() -> None:
    layer = nn.Linear(8, 10, bias=False)
    first, second = replaced(LowRank(rank=3), layer)
    with torch.no_grad():
        found = second.weight @ first.weight  # type: ignore[operator]
        sizes = torch.linalg.svdvals(layer.weight)
        error = float((found - layer.weight).norm())
    assert error == pytest.approx(float(sizes[3:].norm()), rel=1e-4)  # Eckart and Young


def test_a_separable_kernel_is_found_again() -> None:
    layer = nn.Conv2d(3, 5, 3, padding=1)
    with torch.no_grad():
        layer.weight.copy_(torch.einsum("cyx,kc->kcyx", _draw(3, 3, 3), _draw(5, 3)))
        inputs = _draw(2, 3, 6, 6)
        parts = replaced(Separable(), layer)
        assert isinstance(parts[0], nn.Conv2d)
        assert parts[0].groups == 3
        torch.testing.assert_close(nn.Sequential(*parts)(inputs), layer(inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("groups", [2, 4])
def test_a_grouped_convolution_is_the_whole_one_without_the_weights_across_groups(groups: int) -> None:
    layer = nn.Conv2d(8, 12, 3, padding=1, stride=2)
    inputs = _draw(2, 8, 7, 7)
    shuffle, grouped = replaced(Grouped(groups=groups), layer)
    assert isinstance(grouped, nn.Conv2d)
    assert grouped.groups == groups
    assert grouped.weight.numel() * groups == layer.weight.numel()
    order = torch.arange(8).reshape(groups, -1).T.flatten()  # the shuffle: read the groups column by column
    with torch.no_grad():
        for output in range(12):
            mine = order.reshape(groups, -1)[output // (12 // groups)]
            layer.weight[output, [c for c in range(8) if c not in mine]] = 0.0
        found = nn.Sequential(shuffle, grouped)(inputs)
        torch.testing.assert_close(found, layer(inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("choice", "layer"),
    [
        (LowRank(rank=3), nn.Linear(6, 9)),
        (LowRank(rank=3), nn.Conv2d(6, 4, 1)),
        (Tucker2(rank_in=3, rank_out=2), nn.Conv2d(6, 4, 3)),
        (Separable(), nn.Conv2d(6, 4, 3)),
        (Grouped(groups=2), nn.Conv2d(6, 4, 3)),
    ],
    ids=repr,
)
def test_the_parts_that_the_space_knows_are_those_that_are_made(choice: Choice, layer: nn.Module) -> None:
    (whole,) = layer_infos(nn.Sequential(layer))
    model = nn.Sequential(layer)
    restructure_model(model, (("0", choice),))
    made = {info.name: info for info in layer_infos(model)}
    assert isinstance(choice, Replaces)
    parts = choice.parts(whole)
    assert [part.name for part in parts] == [f"0.{name}" for name in parts_of(choice)] == list(made)
    for part in parts:
        found = made[part.name]
        assert (part.kind, part.weight_shape, part.groups) == (found.kind, found.weight_shape, found.groups)


def test_a_pattern_must_fit_every_part() -> None:
    """A rank that is no multiple of four has no 2:4; refused where the study is checked, not in a trial."""
    fields = {
        "decomposition": {"kind": ["off", "low_rank"], "ranks": {"conv": [6, 8]}},
        "sparsity": {"patterns": ["dense", "2:4"]},
        "accelerator": {"templates": "eyeriss_like"},
    }
    layer = LayerInfo(name="conv", kind="conv2d", weight_shape=(16, 16, 3, 3))

    def describe(network: NetworkChoice) -> tuple[LayerInfo, ...]:
        return (layer,)

    space = Space.model_validate(fields)
    found = knobs(space, "any", describe)
    assert set(found["conv.sparsity"].values) == {"2:4", "dense"}
    for kind, rank, pattern in itertools.product(("off", "low_rank"), (6, 8), ("dense", "2:4")):
        asked = {"conv.decomposition": kind, "conv.rank": rank, "conv.sparsity": pattern}
        (made,) = assemble(space, asked, "any", describe)[0].layers
        is_sparse = any(isinstance(choice, NM) for choice in made.choices)
        assert is_sparse == (pattern == "2:4" and (kind == "off" or rank == 8))
    alone = Space.model_validate(fields | {"sparsity": {"patterns": "2:4"}})
    with pytest.raises(
        SpaceError, match=r"no pattern of \['2:4'\] fits .*'conv.core' \(conv2d, weights 6x6x3x3\)"
    ):
        knobs(alone, "any", describe)


def test_smartdeal_is_not_offered_to_parts_that_it_does_not_act_on() -> None:
    space = Space.model_validate(
        {
            "decomposition": {"kind": ["off", "separable"]},
            "smartdeal": {"use": "on"},
            "accelerator": {"templates": "eyeriss_like"},
        }
    )
    layer = LayerInfo(name="conv", kind="conv2d", weight_shape=(8, 8, 3, 3))
    for kind, expected in (("off", True), ("separable", False)):
        design, _ = assemble(space, {"conv.decomposition": kind}, "any", lambda network: (layer,))
        assert any(isinstance(one, SmartDeal) for one in design.layers[0].choices) == expected


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"decomposition": {"kind": ["off", "grouped"], "groups": [2, 3]}},
         r"space.decomposition.groups: `groups: 3` must divide .*conv 8x8"),
        ({"sparsity": {"patterns": ["dense", "2:5"]}},
         r"space.sparsity.patterns: pattern '2:5' fits no layer .*legal here: dense, unstructured, row"),
    ],
)  # fmt: skip
def test_what_fits_no_layer_is_refused(section: dict[str, object], message: str) -> None:
    space = Space.model_validate(section | {"accelerator": {"templates": "eyeriss_like"}})
    layer = LayerInfo(name="conv", kind="conv2d", weight_shape=(8, 8, 3, 3))
    with pytest.raises(SpaceError, match=message):
        knobs(space, "any", lambda network: (layer,))


def test_other_choices_of_a_layer_go_to_its_parts() -> None:
    choices = {"a": (LowRank(rank=2), Dense(), W8), "b": (Dense(), W8)}
    assert structure_of(choices) == (("a", LowRank(rank=2)),)
    assert choices_of_parts(choices) == {
        "a.reduce": (Dense(), W8),
        "a.expand": (Dense(), W8),
        "b": (Dense(), W8),
    }


@pytest.mark.parametrize(("kind", "part"), [("low_rank", ".core"), ("grouped", ".grouped")])
def test_a_design_with_replaced_layers_is_priced_and_trained(kind: str, part: str) -> None:
    space = Space.model_validate(
        {
            "decomposition": {"kind": kind, "rank_fraction": 0.5},
            "accelerator": {"templates": "eyeriss_like"},
        }
    )
    plain = Space.model_validate({"accelerator": {"templates": "eyeriss_like"}})
    bench = Bench(
        dataset=DatasetSpec(name="digits", train_examples=200, validation_examples=50),
        recipe=Recipe(pretrain_epochs=1, epochs=1),
        seed=0,
        cache=None,
    )
    design, _ = assemble(space, {}, "small_cnn", bench.layers)
    whole, _ = assemble(plain, {}, "small_cnn", bench.layers)
    found = evaluate(design, bench, keeps=lambda scores, traced: True)
    other = evaluate(whole, bench, keeps=lambda scores, traced: False)
    assert found.trained is not None
    assert found.priced.inference.macs < other.priced.inference.macs
    assert found.priced.facts.storage_bits < other.priced.facts.storage_bits
    names = {layer for layer, _ in found.trained.densities}
    assert any(name.endswith(part) for name in names)


@pytest.mark.parametrize(
    ("choice", "layer", "message"),
    [
        (LowRank(rank=9), nn.Linear(4, 8), "a rank must be from 1 to 4, the full one, but it is 9"),
        (LowRank(rank=1), nn.Conv2d(4, 8, 3), "needs a linear layer or a 1x1 convolution"),
        (LowRank(rank=1), nn.Conv2d(4, 8, 1, groups=2), "grouped convolution"),
        (Tucker2(rank_in=5, rank_out=1), nn.Conv2d(4, 8, 3), "from 1 to 4"),
        (Tucker2(rank_in=1, rank_out=1), nn.Linear(4, 8), "Tucker2 needs a convolution"),
        (Tucker2(rank_in=1, rank_out=1), nn.Conv2d(4, 8, 3, groups=4), r"grouped convolution \(here 4"),
        (Separable(), nn.Linear(4, 8), "stands for a convolution"),
        (Grouped(groups=2), nn.Linear(4, 8), "stands for a convolution"),
        (Grouped(groups=3), nn.Conv2d(6, 8, 3), "3 groups must divide .* 8 and 6"),
        (Grouped(groups=2), nn.Conv2d(4, 8, 1, groups=2), "grouped convolution"),
        (W8, nn.Linear(4, 8), "no structure is registered for UniformQuantization"),
    ],
    ids=repr,
)
def test_what_does_not_fit_is_refused(choice: Choice, layer: nn.Module, message: str) -> None:
    with pytest.raises(TechniqueError, match=message):
        replaced(choice, layer)


def test_the_layer_is_named() -> None:
    model = build("small_cnn", width=0.5, depth=1, input_shape=(1, 8, 8), num_classes=4, seed=0)
    with pytest.raises(TechniqueError, match=r"layer 'stage2.conv1': a low rank needs"):
        restructure_model(model, (("stage2.conv1", LowRank(rank=1)),))
    with pytest.raises(TechniqueError, match="the design names layer 'nowhere', but the network has only"):
        restructure_model(model, (("nowhere", LowRank(rank=1)),))


class Last:
    """Answers every knob with its last value."""

    def ordinal(self, name: str, values: tuple[int | float, ...]) -> int | float:
        return values[-1]

    def categorical(self, name: str, values: tuple[str, ...]) -> str:
        return values[-1]


CONV = LayerInfo(name="conv", kind="conv2d", weight_shape=(16, 8, 3, 3))
LINEAR = LayerInfo(name="fc", kind="linear", weight_shape=(10, 32))
DEPTHWISE = LayerInfo(name="dw", kind="conv2d", weight_shape=(16, 1, 3, 3))


@pytest.mark.parametrize(
    ("layer", "expected"),
    [(CONV, Tucker2(rank_in=4, rank_out=8)), (LINEAR, LowRank(rank=5)), (DEPTHWISE, None)],
)
def test_ranks_are_fractions_of_the_full_one(layer: LayerInfo, expected: Choice | None) -> None:
    made = DecompositionSpace(kind=("low_rank",), rank_fraction=(0.25, 0.5)).suggest(Last(), layer)
    assert made == expected
    assert made is None or from_json(to_json(made)) == made


def test_separable_is_offered_to_kernels_only() -> None:
    space = DecompositionSpace(kind=("separable",))
    assert space.suggest(Last(), CONV) == Separable()
    assert space.suggest(Last(), LINEAR) is None
    assert DecompositionSpace().suggest(Last(), CONV) is None


def test_groups_are_offered_where_they_divide_the_channels() -> None:
    space = DecompositionSpace(kind=("off", "grouped"), groups=(2, 4))
    wide = LayerInfo(name="c", kind="conv2d", weight_shape=(8, 8, 3, 3))
    narrow = LayerInfo(name="c", kind="conv2d", weight_shape=(8, 4, 1, 1))  # 4 groups would be depthwise
    assert space.suggest(Last(), wide) is None  # "off" is the last kind
    only = DecompositionSpace(kind=("grouped",), groups=(2, 4))
    assert only.suggest(Last(), wide) == Grouped(groups=4)
    assert only.suggest(Last(), narrow) == Grouped(groups=2)
    for layer in (
        LayerInfo(name="c", kind="conv2d", weight_shape=(8, 3, 3, 3)),
        LayerInfo(name="c", kind="conv2d", weight_shape=(8, 4, 3, 3), groups=2),
        LayerInfo(name="c", kind="linear", weight_shape=(8, 8)),
    ):
        assert only.suggest(Last(), layer) is None


def test_a_rank_above_the_full_one_is_refused_with_layer_value_and_legal_ones() -> None:
    space = DecompositionSpace(kind=("low_rank",), ranks={"fc": (4, 64)})
    with pytest.raises(SpaceError, match=r"rank of layer 'fc' must be from 1 to 10.*32 inputs.*has 64"):
        space.suggest(Last(), LINEAR)
    assert DecompositionSpace(kind=("low_rank",), ranks={"fc": (4,)}).suggest(Last(), LINEAR) == LowRank(
        rank=4
    )


def test_a_layer_that_is_not_there_is_refused_with_the_nearest_name() -> None:
    space = Space.model_validate(
        {
            "decomposition": {"kind": "low_rank", "ranks": {"stage2.conv2": 4}},
            "accelerator": {"templates": "eyeriss_like"},
        }
    )

    def describe(network: NetworkChoice) -> tuple[LayerInfo, ...]:
        return layer_infos(
            build("small_cnn", width=0.5, depth=1, input_shape=(1, 8, 8), num_classes=4, seed=0)
        )

    with pytest.raises(
        SpaceError, match=r"decomposition: the network has no layer 'stage2.conv2'. Did you mean"
    ):
        assemble(space, {}, "small_cnn", describe)


@pytest.mark.parametrize("make", [lambda: LowRank(rank=0), lambda: Tucker2(rank_in=1, rank_out=0)])
def test_ranks_below_one_are_refused(make: object) -> None:
    with pytest.raises(SpaceError, match=r"`rank.* >= 1` must hold"):
        make()  # type: ignore[operator]


def test_one_group_is_refused() -> None:
    with pytest.raises(SpaceError, match=r"`groups >= 2` must hold, but got groups=1"):
        Grouped(groups=1)
