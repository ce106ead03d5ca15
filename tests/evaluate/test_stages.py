"""A half trained in stages, killed or asked for twice: the same facts and weights as in one go, once paid."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from evaluators.bench import Bench
from evaluators.dataset_spec import DatasetSpec
from evaluators.evaluate import evaluate
from evaluators.learning.recipe import Recipe
from evaluators.learning.stages import LearningError, Stage
from evaluators.learning.training import DivergedError, Training
from evaluators.trained import Trained, TrainedHalf
from search_spaces.design import AlgorithmicHalf, Design
from search_spaces.space import Space, assemble

RECIPE = Recipe(pretrain_epochs=1, epochs=4)
STAGES = (Stage(epochs=1), Stage(epochs=3), Stage(epochs=4))
PARTS = (Stage(epochs=1, data=0.5), Stage(epochs=3, data=0.5), Stage(epochs=4))


def bench(cache: Path | None, stages: Sequence[Stage] = STAGES, recipe: Recipe = RECIPE) -> Bench:
    dataset = DatasetSpec(name="digits", train_examples=120, validation_examples=60)
    return Bench(dataset=dataset, recipe=recipe, seed=0, cache=cache, stages=stages)


def design(weight_bits: int = 4) -> Design:
    space = Space.model_validate(
        {
            "quantization": {"weight_bits": weight_bits, "activation_bits": 8},
            "smartdeal": {"threshold": 0.02, "update": "bucket_switch"},
            "learning": {"batch_size": 20},
            "accelerator": {"templates": "eyeriss_like"},
        }
    )
    return assemble(space, {}, "small_cnn", bench(None).layers)[0]


HALF: AlgorithmicHalf = design().algorithm


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, dict[str, torch.Tensor]]:
    """One go, no stages."""
    one = bench(tmp_path_factory.mktemp("whole"), stages=())
    answer = one.train(HALF)
    assert (answer.cached, answer.epochs) == (False, 4)
    return answer.trained, weights(one)


def weights(one: Bench) -> dict[str, torch.Tensor]:
    home = one.half_path(HALF)
    assert home is not None
    return load_file(home / "weights.safetensors")


def assert_whole(one: Bench, found: TrainedHalf, whole: tuple[Trained, dict[str, torch.Tensor]]) -> None:
    assert found.trained == whole[0]
    tensors = weights(one)
    assert tensors.keys() == whole[1].keys()
    assert all(torch.equal(tensor, whole[1][name]) for name, tensor in tensors.items())
    home = one.half_path(HALF)
    assert home is not None
    assert not list(home.parent.glob("partial-*"))


def test_stage_by_stage_is_as_in_one_go(
    tmp_path: Path, whole: tuple[Trained, dict[str, torch.Tensor]]
) -> None:
    spent = []
    for stage in (0, 1, 2):
        answer = bench(tmp_path).train(HALF, stage)  # a fresh bench: another process would do as well
        assert not answer.cached
        assert answer.seconds > 0
        spent.append(answer.epochs)
        assert bench(tmp_path).train(HALF, stage) == TrainedHalf(trained=answer.trained, cached=True)
        assert len(list(tmp_path.glob("half-*/"))) == (stage == 2)
        assert len(list(tmp_path.glob("partial-*/"))) == (stage < 2)
    assert spent == [1, 2, 1]
    assert_whole(bench(tmp_path), answer, whole)


def test_straight_to_the_end_keeps_the_facts_of_every_stage(
    tmp_path: Path, whole: tuple[Trained, dict[str, torch.Tensor]]
) -> None:
    one, other = bench(tmp_path / "one"), bench(tmp_path / "other")
    assert_whole(one, one.train(HALF), whole)
    for stage in (0, 1):
        answer = one.train(HALF, stage)
        assert answer.cached
        assert answer.trained == other.train(HALF, stage).trained
        assert answer.trained != whole[0]


def test_other_stages_of_the_same_training_find_the_half(
    tmp_path: Path, whole: tuple[Trained, dict[str, torch.Tensor]]
) -> None:
    others = (Stage(epochs=2), Stage(epochs=4))
    bench(tmp_path).train(HALF, 1)
    answer = bench(tmp_path, others).train(HALF, 0)  # the checkpoint is beyond epoch 2 already
    assert answer.epochs == 2
    answer = bench(tmp_path, others).train(HALF)
    assert answer.epochs == 1  # and it is still there
    assert_whole(bench(tmp_path), answer, whole)
    late = bench(tmp_path, (Stage(epochs=3), Stage(epochs=4)))
    assert late.train(HALF, 0).cached
    one = (Stage(epochs=1), Stage(epochs=4))
    assert bench(tmp_path, one).train(HALF, 0).cached
    assert bench(tmp_path / "fresh", ()).train(HALF).trained == answer.trained


def test_facts_of_a_stage_that_nobody_asked_for_are_added_to_a_finished_half(tmp_path: Path) -> None:
    bench(tmp_path, ()).train(HALF)
    answer = bench(tmp_path).train(HALF, 0)
    assert (answer.cached, answer.epochs) == (False, 1)
    assert bench(tmp_path).train(HALF, 0).cached
    assert bench(tmp_path).train(HALF).cached
    assert answer.trained == bench(None).train(HALF, 0).trained


def test_without_a_cache_a_stage_is_trained_from_its_beginning(
    whole: tuple[Trained, dict[str, torch.Tensor]],
) -> None:
    one = bench(None)
    assert one.train(HALF, 1).epochs == 3
    answer = one.train(HALF, 2)
    assert answer.epochs == 4
    assert answer.trained == whole[0]


def test_a_share_of_the_data_is_another_half(
    tmp_path: Path, whole: tuple[Trained, dict[str, torch.Tensor]]
) -> None:
    assert bench(tmp_path, PARTS).half_path(HALF) != bench(tmp_path).half_path(HALF)
    assert bench(tmp_path, STAGES).half_path(HALF) == bench(tmp_path, ()).half_path(HALF)
    assert bench(tmp_path, PARTS).train(HALF, 0).epochs == 0.5
    assert bench(tmp_path, PARTS).train(HALF, 1).epochs == 1.0
    answer = bench(tmp_path, PARTS).train(HALF)
    assert answer.epochs == 1.0
    assert answer.trained != whole[0]
    assert answer.trained == bench(None, PARTS).train(HALF).trained


def _train_and_die(cache: Path, epoch: int) -> None:
    ran = Training._run_epoch

    def run_epoch(training: Training, number: int) -> None:
        if number > epoch and training._epochs == RECIPE.epochs:
            os.kill(os.getpid(), signal.SIGKILL)
        ran(training, number)

    Training._run_epoch = run_epoch  # type: ignore[method-assign]
    bench(cache).train(HALF)


def _train(cache: Path, stage: int | None) -> None:
    bench(cache).train(HALF, stage)


def in_processes(*calls: tuple[Callable[..., None], tuple[object, ...]]) -> list[int | None]:
    context = multiprocessing.get_context("spawn")  # a fork of a process whose torch has threads may hang
    processes = [context.Process(target=function, args=arguments) for function, arguments in calls]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    return [process.exitcode for process in processes]


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_killed_process_blocks_nobody_and_its_epochs_are_not_run_again(
    epoch: int, tmp_path: Path, whole: tuple[Trained, dict[str, torch.Tensor]]
) -> None:
    assert in_processes((_train_and_die, (tmp_path, epoch))) == [-signal.SIGKILL]
    assert not list(tmp_path.glob("half-*/"))
    one = bench(tmp_path)
    answer = one.train(HALF)
    assert answer.epochs == 4 - epoch
    assert_whole(one, answer, whole)


def test_processes_that_ask_for_different_stages_get_on(
    tmp_path: Path, whole: tuple[Trained, dict[str, torch.Tensor]]
) -> None:
    calls = [(_train, (tmp_path, stage)) for stage in (2, 0, 1)]
    assert in_processes(*calls) == [0, 0, 0]
    one = bench(tmp_path)
    answer = one.train(HALF)
    assert answer.cached
    assert_whole(one, answer, whole)
    assert one.train(HALF, 0).cached
    assert one.train(HALF, 1).cached


def test_the_walk_passes_the_stage_through(tmp_path: Path) -> None:
    one = bench(tmp_path)
    first = evaluate(design(), one, keeps=lambda scores, traced: True, stage=0)
    assert (first.stage, first.epochs, first.cached) == (0, 1, False)
    assert 0 < first.seconds["training"] < first.seconds["total"]
    again = evaluate(design(), one, keeps=lambda scores, traced: True, stage=0)
    assert (again.epochs, again.cached, again.seconds["training"]) == (0, True, 0.0)
    last = evaluate(design(), one, keeps=lambda scores, traced: True)
    assert (last.stage, last.epochs) == (None, 3)
    gated = evaluate(design(), one, keeps=lambda scores, traced: False, stage=1)
    assert (gated.stage, gated.epochs) == (1, 0)


@pytest.mark.parametrize("stage", [-1, 3])
def test_a_stage_that_is_not_there_is_refused(stage: int) -> None:
    with pytest.raises(LearningError, match=f"stages are 0 to 2, but stage {stage} is asked for"):
        bench(None).train(HALF, stage)


def test_stages_are_checked_before_anything_is_trained() -> None:
    with pytest.raises(LearningError, match="recipe's 4 epochs, but they end after 3"):
        bench(None, (Stage(epochs=3),))


HOT = Recipe(pretrain_epochs=0, epochs=4, learning_rate=1e30)


def test_what_diverged_once_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DivergedError) as first:
        bench(tmp_path, recipe=HOT).train(HALF)
    assert not list(tmp_path.glob("partial-*/checkpoint.pt"))

    def train(*arguments: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(Training, "_run_epoch", train)
    with pytest.raises(DivergedError) as second:
        bench(tmp_path, recipe=HOT).train(HALF)
    assert str(second.value) == str(first.value)
    assert (second.value.epoch, second.value.step) == (first.value.epoch, first.value.step)


def test_a_stage_before_the_divergence_is_still_a_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = Training._run_epoch

    def run_epoch(training: Training, epoch: int) -> None:
        if epoch == 3:
            raise DivergedError(epoch=3, step=2, loss=float("nan"), learning_rate=0.5)
        ran(training, epoch)

    monkeypatch.setattr(Training, "_run_epoch", run_epoch)
    early = bench(tmp_path).train(HALF, 0)
    with pytest.raises(DivergedError, match=r"it is nan in epoch 3, step 2, at learning rate 0\.5"):
        bench(tmp_path).train(HALF, 1)
    monkeypatch.undo()
    assert bench(tmp_path).train(HALF, 0) == TrainedHalf(trained=early.trained, cached=True)
    for stage in (1, 2, None):
        with pytest.raises(DivergedError, match="in epoch 3, step 2"):
            bench(tmp_path).train(HALF, stage)


def test_pretraining_that_diverged_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe(pretrain_epochs=2, epochs=4, pretrain_learning_rate=1e30)
    with pytest.raises(DivergedError) as first:
        bench(tmp_path, recipe=recipe).train(HALF)

    def train(*arguments: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(Training, "_run_epoch", train)
    with pytest.raises(DivergedError) as second:
        bench(tmp_path, recipe=recipe).train(design(2).algorithm)  # another half of the same network
    assert str(second.value) == str(first.value)


def test_pretraining_that_was_killed_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: tuple[Trained, dict[str, torch.Tensor]]
) -> None:
    recipe = Recipe(pretrain_epochs=3, epochs=1)
    ran, epochs = Training._run_epoch, []

    def run_epoch(training: Training, epoch: int) -> None:
        if epoch == 3 and not epochs.count(2) > 1 and len(epochs) == 2:
            raise KeyboardInterrupt
        epochs.append(epoch)
        ran(training, epoch)

    monkeypatch.setattr(Training, "_run_epoch", run_epoch)
    with pytest.raises(KeyboardInterrupt):
        bench(tmp_path, (), recipe).train(HALF)
    epochs.append(0)
    found = bench(tmp_path, (), recipe).train(HALF)
    assert epochs == [1, 2, 0, 3, 1]
    assert found.trained == bench(tmp_path / "other", (), recipe).train(HALF).trained
