"""Checkpoints: training that was killed goes on, and ends with the same bits in every tensor."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from evaluators.data import DataSplits, limited, load
from evaluators.data.splits import stratified_share
from evaluators.learning.backprop import Outcome, fine_tune, fine_tuning, pretrain
from evaluators.learning.checkpoint import (
    EpochRecord,
    load_checkpoint,
    restore_checkpoint,
    save_checkpoint,
    scalars_of,
    tensors_of,
)
from evaluators.learning.recipe import Recipe
from evaluators.learning.stages import LearningError, Stage, share_at
from evaluators.networks import build
from evaluators.networks.layers import compressible_layers
from evaluators.techniques import apply, bake_model, compress_model
from evaluators.techniques.model import copy_model
from evaluators.techniques.structure import choices_of_parts, parts_of, restructure_model, structure_of
from search_spaces.choice import Choice
from search_spaces.codes import (
    Affine,
    CodedQuantization,
    DoReFa,
    Lsq,
    Pact,
    PowerOfTwo,
    Rounding,
    Sign,
    Ternary,
)
from search_spaces.decomposition import Grouped, LowRank, Separable, Tucker2
from search_spaces.learning import Backpropagation, Optimizer
from search_spaces.quantization import FullPrecision, Granularity, PostTraining, UniformQuantization
from search_spaces.smartdeal import CoefficientUpdate, SmartDeal
from search_spaces.sparsity import NM, Dense, FilterPruned, Masks, RowPruned, Unstructured

RECIPE = Recipe(epochs=4, pretrain_epochs=3, learning_rate=0.1)
W4 = UniformQuantization(weight_bits=4, activation_bits=4)
CONV, LINEAR = "stage2.conv1", "classifier"

TECHNIQUES: dict[str, dict[str, tuple[Choice, ...]]] = {
    "none": {CONV: (Dense(), FullPrecision())},
    "lsq": {CONV: (W4,), LINEAR: (W4,)},
    "lsq per tensor": {
        CONV: (UniformQuantization(weight_bits=2, activation_bits=3, granularity=Granularity.PER_TENSOR),)
    },
    "after training": {CONV: (PostTraining(quantization=W4),), LINEAR: (W4,)},
    "unstructured": {CONV: (Unstructured(density=0.3), W4), LINEAR: (Unstructured(density=0.5),)},
    "regrown": {
        CONV: (Unstructured(density=0.3, masks=Masks.REGROWN), W4),
        LINEAR: (NM(n=2, m=4, masks=Masks.REGROWN),),
    },
    "rows": {CONV: (RowPruned(density=0.5), W4)},
    "n:m": {CONV: (NM(n=2, m=4), W4)},
    "filters": {CONV: (FilterPruned(density=0.5),)},
    "sign, lsq": {CONV: (CodedQuantization(weights=Sign(), activations=Lsq(bits=4)),)},
    "ternary, pact": {CONV: (CodedQuantization(weights=Ternary(), activations=Pact(bits=4)),)},
    "power of two": {CONV: (CodedQuantization(weights=PowerOfTwo(bits=4), activations=Pact(bits=2)),)},
    "dorefa": {LINEAR: (CodedQuantization(weights=DoReFa(bits=3), activations=DoReFa(bits=3)),)},
    "stochastic rounding": {
        CONV: (
            CodedQuantization(weights=Affine(bits=4, rounding=Rounding.STOCHASTIC), activations=Lsq(bits=4)),
        )
    },
    "smartdeal, latent": {CONV: (SmartDeal(threshold=0.05),)},
    "smartdeal, projected": {CONV: (SmartDeal(threshold=0.05, update=CoefficientUpdate.PROJECTED), W4)},
    "smartdeal, bucket switch": {
        CONV: (SmartDeal(threshold=0.05, update=CoefficientUpdate.BUCKET_SWITCH, switch_bar=2),),
        LINEAR: (SmartDeal(update=CoefficientUpdate.BUCKET_SWITCH),),
    },
    "tucker": {CONV: (Tucker2(rank_in=4, rank_out=6), W4)},
    "grouped": {CONV: (Grouped(groups=2), W4)},
    "separable": {CONV: (Separable(), W4)},
    "low rank": {LINEAR: (LowRank(rank=4), Unstructured(density=0.5), W4)},
}


class KilledError(Exception):
    """What ends a process in these tests."""


@functools.cache
def _splits() -> DataSplits:
    return limited(load("digits"), train=160, validation=40)


def _compressed(choices: dict[str, tuple[Choice, ...]]) -> nn.Module:
    model = build("small_cnn", width=1.0, depth=1, input_shape=(1, 8, 8), num_classes=10, seed=0)
    restructure_model(model, structure_of(choices))
    compress_model(model, choices_of_parts(choices))
    return model


def _kill_after(epoch: int) -> Callable[[EpochRecord], None]:
    def die(record: EpochRecord) -> None:
        if record.epoch == epoch:
            raise KilledError

    return die


def _assert_same(model: nn.Module, other: nn.Module) -> None:
    tensors, others = tensors_of(model), tensors_of(other)
    assert tensors.keys() == others.keys()
    assert not [name for name in tensors if not torch.equal(tensors[name], others[name])]
    assert scalars_of(model) == scalars_of(other)


def _figures(outcome: Outcome) -> tuple[float, float, list[float]]:
    losses = [record.training_loss for record in outcome.history]
    return outcome.validation_accuracy, outcome.test_accuracy, losses


@pytest.mark.parametrize("name", TECHNIQUES)
def test_what_was_killed_ends_as_if_it_had_not_been(name: str, tmp_path: Path) -> None:
    choices, path = TECHNIQUES[name], tmp_path / "checkpoint.pt"
    learning = Backpropagation(batch_size=32)
    whole = _compressed(choices)
    expected = fine_tune(whole, _splits(), RECIPE, learning, seed=0)
    for epoch in (1, 3):
        with pytest.raises(KilledError):
            fine_tune(
                _compressed(choices),
                _splits(),
                RECIPE,
                learning,
                seed=0,
                checkpoint=path,
                on_epoch=_kill_after(epoch),
            )
    seen: list[EpochRecord] = []
    model = _compressed(choices)
    torch.manual_seed(99)  # another process is in another random state
    found = fine_tune(model, _splits(), RECIPE, learning, seed=0, checkpoint=path, on_epoch=seen.append)
    assert [record.epoch for record in seen] == [4]
    assert _figures(found) == _figures(expected)
    _assert_same(model, whole)
    bake_model(model, choices_of_parts(choices))
    bake_model(whole, choices_of_parts(choices))
    _assert_same(model, whole)


@pytest.mark.parametrize("name", TECHNIQUES)
def test_baking_a_copy_does_not_disturb_what_is_trained(name: str) -> None:
    choices, learning = TECHNIQUES[name], Backpropagation(batch_size=32)
    baked = choices_of_parts(choices)
    one, other = (fine_tuning(_compressed(choices), _splits(), RECIPE, learning, seed=0) for _ in range(2))
    one.run(1)
    copied = copy_model(one.model)
    before = {name: tensor.clone() for name, tensor in tensors_of(one.model).items()}
    answers = one.model(_splits().test.images)
    bake_model(copied, baked)
    assert torch.equal(copied(_splits().test.images), answers)
    assert all(torch.equal(tensor, before[name]) for name, tensor in tensors_of(one.model).items())
    one.run(2)
    other.run(2)
    _assert_same(one.model, other.model)


def test_every_technique_is_among_them() -> None:
    tried = {type(one) for choices in TECHNIQUES.values() for several in choices.values() for one in several}
    registered = {kind for kind in apply.registry if kind is not object}
    replacing = {kind for kind in parts_of.registry if kind is not object}
    assert registered | replacing <= tried  # a new technique needs a line in TECHNIQUES


@pytest.mark.parametrize("optimizer", Optimizer)
def test_the_optimizer_goes_on_too(optimizer: Optimizer, tmp_path: Path) -> None:
    learning, path = Backpropagation(optimizer=optimizer, batch_size=16), tmp_path / "checkpoint.pt"
    choices = TECHNIQUES["unstructured"]
    whole, model = _compressed(choices), _compressed(choices)
    expected = fine_tune(whole, _splits(), RECIPE, learning, seed=3)
    fine_tune(_compressed(choices), _splits(), RECIPE, learning, seed=3, checkpoint=path, until=2)
    assert _figures(fine_tune(model, _splits(), RECIPE, learning, seed=3, checkpoint=path)) == _figures(
        expected
    )
    _assert_same(model, whole)


def test_pretraining_with_dropout_goes_on_too(tmp_path: Path) -> None:
    def network() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))

    path, whole, model = tmp_path / "checkpoint.pt", network(), network()
    expected = pretrain(whole, _splits(), RECIPE, seed=0)
    with pytest.raises(KilledError):
        pretrain(network(), _splits(), RECIPE, seed=0, checkpoint=path, on_epoch=_kill_after(2))
    assert _figures(pretrain(model, _splits(), RECIPE, seed=0, checkpoint=path)) == _figures(expected)
    _assert_same(model, whole)


def test_a_student_goes_on_under_the_same_teacher(tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"distillation": 0.5})
    teacher = _compressed({}).eval()
    path, choices = tmp_path / "checkpoint.pt", TECHNIQUES["lsq"]
    whole, model = _compressed(choices), _compressed(choices)
    learning = Backpropagation(batch_size=32)
    fine_tune(whole, _splits(), recipe, learning, seed=0, teacher=teacher)
    for until in (2, 4):
        model = _compressed(choices)
        fine_tune(model, _splits(), recipe, learning, seed=0, teacher=teacher, checkpoint=path, until=until)
    _assert_same(model, whole)


def _trained(path: Path, *, seed: int = 0, until: int = 2) -> Outcome:
    return fine_tune(
        _compressed(TECHNIQUES["lsq"]),
        _splits(),
        RECIPE,
        Backpropagation(batch_size=32),
        seed=seed,
        checkpoint=path,
        until=until,
    )


@pytest.mark.parametrize("damage", ["emptied", "cut", "noise", "no checkpoint", "poisoned"])
def test_a_damaged_file_costs_a_fresh_start_only(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "checkpoint.pt"
    expected = _trained(path)
    whole = path.read_bytes()
    if damage == "no checkpoint":
        torch.save({"version": 1}, path)
    elif damage == "poisoned":
        torch.save(KilledError, path)  # a class: weights_only refuses to import it
    else:
        path.write_bytes(
            {"emptied": b"", "cut": whole[: len(whole) // 2], "noise": b"\x80noise" * 99}[damage]
        )
    assert _figures(_trained(path)) == _figures(expected)
    assert "not readable as a checkpoint" in caplog.text
    assert len(path.read_bytes()) == len(whole)  # written anew


def test_the_checkpoint_of_another_training_is_not_followed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "checkpoint.pt"
    _trained(path, seed=1)
    assert _figures(_trained(path, seed=0)) == _figures(_trained(tmp_path / "other.pt", seed=0))
    assert "checkpoint of another training" in caplog.text


def test_a_checkpoint_that_does_not_fit_leaves_model_and_optimizer_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "checkpoint.pt"
    _trained(path)
    identity = str(torch.load(path, weights_only=True)["identity"])
    found = load_checkpoint(path, identity)
    assert found is not None
    model = _compressed(TECHNIQUES["none"])
    before = {name: tensor.clone() for name, tensor in tensors_of(model).items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    assert not restore_checkpoint(model, optimizer, found)
    model = _compressed(TECHNIQUES["lsq"])
    assert not restore_checkpoint(model, torch.optim.SGD(model.parameters(), lr=0.5), found)  # one group
    assert all(
        torch.equal(before[name], tensor) for name, tensor in tensors_of(model).items() if name in before
    )
    assert not optimizer.state_dict()["state"]
    assert caplog.text.count("does not fit") == 2


def test_a_killed_writer_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.pt"
    _trained(path)
    before = path.read_bytes()
    identity = str(torch.load(path, weights_only=True)["identity"])
    found = load_checkpoint(path, identity)
    assert found is not None

    def die(*arguments: object) -> None:
        raise KilledError

    monkeypatch.setattr(torch, "save", die)
    with pytest.raises(KilledError):
        save_checkpoint(path, dataclasses.replace(found, history=()))
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_checkpoint_beyond_the_epoch_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "checkpoint.pt"
    _trained(path, until=3)
    before = path.read_bytes()
    with caplog.at_level(logging.INFO):
        earlier = _trained(path, until=1)
    assert [record.epoch for record in earlier.history] == [1]
    assert path.read_bytes() == before
    assert "beyond epoch 1" in caplog.text


def test_stages_with_all_data_change_nothing(tmp_path: Path) -> None:
    choices, learning, path = TECHNIQUES["lsq"], Backpropagation(batch_size=32), tmp_path / "checkpoint.pt"
    whole = _compressed(choices)
    fine_tune(whole, _splits(), RECIPE, learning, seed=0)
    stages = (Stage(epochs=1), Stage(epochs=3), Stage(epochs=4))
    model = whole
    for stage in stages:
        model = _compressed(choices)
        fine_tune(
            model,
            _splits(),
            RECIPE,
            learning,
            seed=0,
            stages=stages,
            until=stage.epochs,
            checkpoint=path,
        )
    _assert_same(model, whole)


def test_a_stage_sees_its_share_of_the_examples(tmp_path: Path) -> None:
    sizes: list[int] = []
    model = _compressed({})
    model.register_forward_pre_hook(lambda _model, inputs: sizes.append(len(inputs[0])))
    stages = (Stage(epochs=1, data=0.25), Stage(epochs=2, data=0.5), Stage(epochs=4))
    training = fine_tuning(model, _splits(), RECIPE, Backpropagation(batch_size=20), seed=0, stages=stages)
    seen = []
    for epoch in (1, 2, 3):
        sizes.clear()
        training.run(epoch)
        seen.append(sum(sizes))
    assert seen == [40, 80, 160]
    assert [share_at(stages, epoch) for epoch in (1, 2, 3, 4)] == [0.25, 0.5, 1.0, 1.0]


def test_a_smaller_share_is_part_of_a_larger_and_has_its_classes() -> None:
    train = _splits().train
    small, large = stratified_share(train, 0.25), stratified_share(train, 0.5)
    rows = {row.numpy().tobytes() for row in large.images}
    assert all(row.numpy().tobytes() in rows for row in small.images)
    assert (torch.bincount(small.labels) - 0.25 * torch.bincount(train.labels)).abs().max() <= 1
    assert len(stratified_share(train, 1e-9)) == 1


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ((Stage(epochs=2), Stage(epochs=2), Stage(epochs=4)), "must end later and later.*2, 2, 4"),
        ((Stage(epochs=2),), "recipe's 4 epochs, but they end after 2"),
        ((Stage(epochs=8),), "recipe's 4 epochs, but they end after 8"),
    ],
)
def test_stages_must_be_those_of_the_recipe(stages: tuple[Stage, ...], message: str) -> None:
    with pytest.raises(LearningError, match=message):
        fine_tune(_compressed({}), _splits(), RECIPE, Backpropagation(), seed=0, stages=stages)


@pytest.mark.parametrize(("epochs", "data"), [(0, 1.0), (1, 0.0), (1, 1.1)])
def test_a_stage_is_checked(epochs: int, data: float) -> None:
    with pytest.raises(LearningError, match="a stage needs epochs >= 1 and 0 < data <= 1"):
        Stage(epochs=epochs, data=data)


def test_the_layers_named_here_exist() -> None:
    assert {CONV, LINEAR} <= set(compressible_layers(_compressed({})))
