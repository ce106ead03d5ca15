"""Layers replaced by several: exact at full rank, best approximations below, traced and trained."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from evaluators.bench import Bench, DatasetSpec
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
from search_spaces.decomposition import DecompositionSpace, LowRank, Separable, Tucker2
from search_spaces.network import NetworkChoice
from search_spaces.quantization import UniformQuantization
from search_spaces.space import Space, assemble
from search_spaces.sparsity import Dense

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


def test_other_choices_of_a_layer_go_to_its_parts() -> None:
    choices = {"a": (LowRank(rank=2), Dense(), W8), "b": (Dense(), W8)}
    assert structure_of(choices) == (("a", LowRank(rank=2)),)
    assert choices_of_parts(choices) == {
        "a.reduce": (Dense(), W8),
        "a.expand": (Dense(), W8),
        "b": (Dense(), W8),
    }


def test_a_design_with_replaced_layers_is_priced_and_trained() -> None:
    space = Space.model_validate(
        {
            "decomposition": {"kind": "low_rank", "rank_fraction": 0.5},
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
    found = evaluate(design, bench, keeps=lambda scores: True)
    other = evaluate(whole, bench, keeps=lambda scores: False)
    assert found.trained is not None
    assert found.priced.inference.macs < other.priced.inference.macs
    assert found.priced.facts.storage_bits < other.priced.facts.storage_bits
    names = {layer for layer, _ in found.trained.densities}
    assert any(name.endswith(".core") for name in names)


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
