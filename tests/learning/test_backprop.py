"""Training: the figures that the quickstart relies on, determinism, and what happens when it diverges."""

from __future__ import annotations

import copy
import functools
import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from evaluators.data import DataSplits, Split, limited, load
from evaluators.learning.backprop import accuracy, fine_tune, pretrain
from evaluators.learning.checkpoint import EpochRecord
from evaluators.learning.optimizer import peak_rate
from evaluators.learning.recipe import Recipe
from evaluators.learning.schedule import rate_at
from evaluators.learning.training import DivergedError
from evaluators.networks import build, layer_infos
from evaluators.techniques import bake_model, compress_model
from evaluators.threads import one_thread
from search_spaces.choice import Choice
from search_spaces.learning import Backpropagation, Optimizer
from search_spaces.quantization import UniformQuantization
from search_spaces.sparsity import Dense, Unstructured

RECIPE = Recipe()
LEARNING = Backpropagation()


@functools.cache
def _digits() -> DataSplits:
    return load("digits")


def _fresh(seed: int = 0) -> nn.Module:
    return build("small_cnn", width=1.0, depth=1, input_shape=(1, 8, 8), num_classes=10, seed=seed)


@functools.cache
def _pretrained() -> nn.Module:
    model = _fresh()
    pretrain(model, _digits(), RECIPE, seed=0)
    return model


def _compressed(bits: int, density: float = 1.0) -> tuple[nn.Module, dict[str, tuple[Choice, ...]]]:
    model = copy.deepcopy(_pretrained())
    sparsity: Choice = Dense() if density == 1 else Unstructured(density=density)
    quantization = UniformQuantization(weight_bits=bits, activation_bits=bits)
    choices: dict[str, tuple[Choice, ...]] = {
        info.name: (sparsity, quantization) for info in layer_infos(model)
    }
    compress_model(model, choices)
    return model, choices


@functools.cache
def _test_accuracy(bits: int, density: float = 1.0) -> float:
    model, choices = _compressed(bits, density)
    outcome = fine_tune(model, _digits(), RECIPE, LEARNING, seed=0)
    bake_model(model, choices)
    assert accuracy(model, _digits().test) == outcome.test_accuracy  # what is exported is what was measured
    return outcome.test_accuracy


def test_eight_bits_are_accurate() -> None:
    assert _test_accuracy(8) >= 0.97


def test_four_bits_and_half_the_weights_cost_less_than_a_point() -> None:
    assert _test_accuracy(4, 0.5) >= _test_accuracy(8) - 0.01


def test_two_bits_train_usefully() -> None:
    assert _test_accuracy(2) >= 0.93


def _few() -> DataSplits:
    return limited(_digits(), train=128, validation=32)


@pytest.mark.parametrize("optimizer", Optimizer)
def test_every_optimizer_lowers_the_loss_at_the_same_recipe(optimizer: Optimizer) -> None:
    learning = Backpropagation(optimizer=optimizer, batch_size=32)
    outcome = fine_tune(_fresh(), _few(), Recipe(epochs=6), learning, seed=0)
    assert outcome.history[-1].training_loss < 0.7 * outcome.history[0].training_loss


def test_the_seed_decides_everything() -> None:
    def weights(seed: int) -> list[torch.Tensor]:
        linear = nn.utils.skip_init(nn.Linear, 64, 10)
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
        model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), linear)
        pretrain(model, _few(), Recipe(pretrain_epochs=2), seed=seed)
        return list(model.state_dict().values())

    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    first = weights(3)
    assert torch.equal(torch.rand(2), expected)  # nobody else's random state is touched
    torch.manual_seed(6)
    assert all(torch.equal(a, b) for a, b in zip(first, weights(3), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, weights(4), strict=True))


SCRIPT = """
from evaluators.data import limited, load
from evaluators.learning.backprop import fine_tune
from evaluators.learning.recipe import Recipe
from evaluators.networks import build, layer_infos
from evaluators.techniques import compress_model
from search_spaces.learning import Backpropagation
from search_spaces.quantization import UniformQuantization
from search_spaces.sparsity import Unstructured

model = build("small_cnn", width=1.0, depth=1, input_shape=(1, 8, 8), num_classes=10, seed=0)
choices = (Unstructured(density=0.5), UniformQuantization(weight_bits=3, activation_bits=3))
compress_model(model, {info.name: choices for info in layer_infos(model)})
splits = limited(load("digits"), train=128, validation=32)
fine_tune(model, splits, Recipe(epochs=3), Backpropagation(batch_size=16), seed=0)
print(sum(parameter.double().sum().item() for parameter in model.parameters()).hex())
"""


@pytest.mark.slow
def test_two_processes_give_the_same_weights() -> None:
    first, second = (
        subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    assert first == second
    assert float.fromhex(first) != 0


def test_every_epoch_is_reported() -> None:
    seen: list[EpochRecord] = []
    outcome = fine_tune(_fresh(), _few(), Recipe(epochs=3), LEARNING, seed=0, on_epoch=seen.append)
    assert [record.epoch for record in seen] == [1, 2, 3]
    assert all(record.epochs == 3 and record.seconds > 0 for record in seen)
    assert outcome.history == tuple(seen)


def test_a_callback_may_end_it() -> None:
    def stop(record: EpochRecord) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tune(_fresh(), _few(), RECIPE, LEARNING, seed=0, on_epoch=stop)


def test_a_loss_that_is_not_finite_is_an_error_with_its_place() -> None:
    splits = _few()
    images = splits.train.images.clone()
    images[:] = torch.inf
    broken = DataSplits(
        train=Split(images=images, labels=splits.train.labels),
        validation=splits.validation,
        test=splits.test,
        num_classes=10,
    )
    message = r"the training loss must stay finite, but it is nan in epoch 1, step 1, at .*lower"
    with pytest.raises(DivergedError, match=message) as caught:
        fine_tune(_fresh(), broken, RECIPE, LEARNING, seed=0)
    assert (caught.value.epoch, caught.value.step) == (1, 1)


def test_too_large_a_rate_diverges_and_says_so() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Linear(64, 10))
    with pytest.raises(DivergedError, match=r"lower the recipe's learning rate"):
        fine_tune(model, _few(), Recipe(learning_rate=1e30), LEARNING, seed=0)


def test_no_pretraining_is_a_choice() -> None:
    model = _fresh()
    before = copy.deepcopy(model.state_dict())
    outcome = pretrain(model, _few(), Recipe(pretrain_epochs=0), seed=0)
    assert outcome.history == ()
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert not model.training


def test_a_batch_larger_than_the_data_takes_it_whole() -> None:
    learning = Backpropagation(batch_size=10_000)
    outcome = fine_tune(_fresh(), _few(), Recipe(epochs=1), learning, seed=0)
    assert math.isfinite(outcome.history[0].training_loss)


def test_accuracy_leaves_the_mode_as_it_was() -> None:
    model = _fresh().train()
    accuracy(model, _few().validation)
    assert model.training


def test_one_thread_gives_the_threads_back() -> None:
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


@given(steps=st.integers(1, 500), peak=st.floats(1e-4, 10))
def test_the_rate_rises_to_the_peak_then_falls(steps: int, peak: float) -> None:
    rates = [rate_at(step, steps, peak) for step in range(steps)]
    top = rates.index(max(rates))
    assert max(rates) == pytest.approx(peak)
    assert all(rate > 0 for rate in rates)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_the_rate_in_closed_form() -> None:
    """Ten steps: two of rise, then cosine over eight; the fifth of those stands at cos(5 pi / 9)."""
    assert rate_at(0, 10, 2.0) == 1.0
    assert rate_at(1, 10, 2.0) == 2.0
    assert rate_at(6, 10, 2.0) == pytest.approx(1 + math.cos(5 * math.pi / 9))


def test_one_rate_serves_every_optimizer_and_batch() -> None:
    def rate(optimizer: Optimizer, batch_size: int) -> float:
        return peak_rate(0.1, Backpropagation(optimizer=optimizer, batch_size=batch_size))

    assert rate(Optimizer.MOMENTUM, 64) == pytest.approx(0.1)
    assert rate(Optimizer.MOMENTUM, 128) == pytest.approx(0.2)  # linear
    assert rate(Optimizer.SGD, 64) == pytest.approx(1.0)  # 1 / (1 - 0.9)
    assert rate(Optimizer.ADAM, 256) == pytest.approx(2 * rate(Optimizer.ADAM, 64))  # square root
