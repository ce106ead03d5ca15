"""Post-training quantization: nothing changes in training, levels are fitted afterwards."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from evaluators.bench import Bench
from evaluators.dataset_spec import DatasetSpec
from evaluators.evaluate import evaluate
from evaluators.learning.recipe import Recipe
from evaluators.networks import build, layer_infos
from evaluators.techniques import (
    TechniqueError,
    apply,
    bake_model,
    compress_model,
    finish_model,
    restore_model,
    rewrite,
    stored_densities,
)
from evaluators.techniques.post_training import is_calibrated_only
from evaluators.workload.trace import trace
from search_spaces.choice import Choice, from_json, to_json
from search_spaces.codes import Affine, CodedQuantization, Lsq
from search_spaces.learning import Optimizer
from search_spaces.quantization import FullPrecision, PostTraining, QuantizationSpace, UniformQuantization
from search_spaces.space import Space, assemble
from search_spaces.sparsity import Dense, Unstructured

EIGHT = UniformQuantization(weight_bits=8, activation_bits=8)
CODED = CodedQuantization(weights=Affine(bits=4, group_size=9), activations=Lsq(bits=6))


def _network(name: str = "small_cnn") -> nn.Module:
    return build(name, width=1.0, depth=1, input_shape=(1, 8, 8), num_classes=4, seed=0)


def _images(seed: int = 0) -> torch.Tensor:
    return torch.randn((32, 1, 8, 8), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("inner", [EIGHT, CODED], ids=["lsq", "affine"])
def test_it_acts_after_training_and_is_then_the_quantization_itself(inner: Choice) -> None:
    late, now, dense = (_network().eval() for _ in range(3))
    names = [info.name for info in layer_infos(late)]
    after = {name: (Unstructured(density=0.5), PostTraining(quantization=inner)) for name in names}  # type: ignore[arg-type]
    before = {name: (Unstructured(density=0.5), inner) for name in names}
    compress_model(late, after)
    compress_model(dense, {name: (Unstructured(density=0.5),) for name in names})
    assert torch.equal(late(_images()), dense(_images()))  # masked, and nothing more
    assert finish_model(late, after, _images())
    compress_model(now, before, _images()[:1])
    now(_images())
    assert torch.equal(late(_images(1)), now(_images(1)))
    assert stored_densities(late, after) == stored_densities(now, before)
    expected = late(_images(1))
    bake_model(late, after)
    assert torch.equal(late(_images(1)), expected)
    fresh = _network().eval()
    restore_model(fresh, after, late.state_dict(), _images()[:1])
    assert torch.equal(fresh(_images(1)), expected)


def test_without_it_nothing_is_finished() -> None:
    model = _network().eval()
    choices = {info.name: (EIGHT,) for info in layer_infos(model)}
    compress_model(model, choices)
    assert not finish_model(model, choices, _images())


def test_training_is_in_32_bits_and_inference_is_not() -> None:
    model, late = _network(), PostTraining(quantization=EIGHT)
    inference = trace(model, (torch.zeros(1, 1, 8, 8),), training=False)
    step = trace(
        model, (torch.zeros(4, 1, 8, 8),), loss="cross_entropy", optimizer=Optimizer.SGD, training=True
    )
    layer = "stage2.conv1"
    assert rewrite(late, step, layer).stored_bits.sum() == step.stored_bits.sum()
    assert (rewrite(late, inference, layer).bits == rewrite(EIGHT, inference, layer).bits).all()


def test_only_layers_with_a_weight_are_taken() -> None:
    with pytest.raises(TechniqueError, match="'pool' is a AdaptiveAvgPool2d"):
        apply(PostTraining(quantization=EIGHT), nn.AdaptiveAvgPool2d(1), "pool")  # type: ignore[arg-type]


def test_there_is_something_to_train_unless_all_layers_are_only_fitted() -> None:
    late = PostTraining(quantization=EIGHT)
    assert is_calibrated_only({"a": (Dense(), late), "b": (FullPrecision(),)})
    assert not is_calibrated_only({"a": (Unstructured(density=0.5), late)})
    assert not is_calibrated_only({"a": (FullPrecision(),)})


def test_the_mode_is_asked_once_for_all_layers() -> None:
    class Last:
        def __init__(self) -> None:
            self.asked: list[str] = []

        def ordinal(self, name: str, values: tuple[int | float, ...]) -> int | float:
            return values[-1]

        def categorical(self, name: str, values: tuple[str, ...]) -> str:
            self.asked.append(name)
            return values[0]

    space, ask = QuantizationSpace(mode=("ptq", "qat"), edge_bits=32), Last()
    made = [space.suggest(ask, info) for info in layer_infos(_network())]
    assert isinstance(made[0], FullPrecision)
    assert made[1] == PostTraining(quantization=EIGHT)
    assert from_json(to_json(made[1])) == made[1]
    assert set(ask.asked) == {"all.quantization_mode"}


def test_a_design_is_calibrated_and_not_trained() -> None:
    space = Space.model_validate(
        {"quantization": {"mode": "ptq"}, "accelerator": {"templates": "eyeriss_like"}}
    )
    spec = DatasetSpec(name="digits", train_examples=300, validation_examples=100)
    scores = []
    for epochs in (1, 3):  # of fine-tuning, of which there is none
        bench = Bench(dataset=spec, recipe=Recipe(pretrain_epochs=3, epochs=epochs), seed=0, cache=None)
        design, _ = assemble(space, {}, "small_cnn", bench.layers)
        found = evaluate(design, bench, keeps=lambda scores, traced: True)
        assert found.trained is not None
        scores.append(found.trained.accuracy)
    assert scores[0] == scores[1]
    assert scores[0].validation > 0.5
