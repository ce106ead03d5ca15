"""Backpropagation: pretrain the dense network once, fine-tune every compressed design from there.

Everything random comes from the seed, and one thread computes: the same call gives the same weights, bit
for bit, in any process on the same machine. So does training that was interrupted and goes on from a
checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from evaluators.data.splits import DataSplits, Split
from evaluators.learning.checkpoint import EpochRecord
from evaluators.learning.recipe import Recipe
from evaluators.learning.stages import Stage, checked_stages
from evaluators.learning.training import OnEpoch, Training
from evaluators.threads import one_thread
from search_spaces.learning import Backpropagation, Optimizer

PRETRAINING = Backpropagation(optimizer=Optimizer.MOMENTUM, batch_size=32)
"""How the dense network is made; it happens before the device sees it, so it is no knob."""

EVALUATION_BATCH_SIZE = 128  # stays in cache: 4 x as fast as 1000 on 28x28 images; no effect on results


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What training gave; the weights are in the model.

    Args:
        validation_accuracy: share of the validation split that is classified right; for choosing.
        test_accuracy: the same of the test split; for reporting only.
        history: one record an epoch.
    """

    validation_accuracy: float
    test_accuracy: float
    history: tuple[EpochRecord, ...]


def pretrain(
    model: nn.Module,
    splits: DataSplits,
    recipe: Recipe,
    *,
    seed: int,
    on_epoch: OnEpoch | None = None,
    checkpoint: Path | None = None,
) -> Outcome:
    """Train a fresh, dense, full-precision network in place.

    Args:
        model: the network; left in evaluation mode.
        splits: its data.
        recipe: epochs, rate and the rest.
        seed: of the order of the examples and of whatever the network draws.
        on_epoch: called after every epoch, for progress.
        checkpoint: the file from which training goes on, and which is written after every epoch.

    Raises:
        DivergedError: the loss is NaN or infinite.
    """
    training = pretraining(model, splits, recipe, seed=seed)
    return _finished(training, splits, recipe.pretrain_epochs, checkpoint, on_epoch)


def fine_tune(
    model: nn.Module,
    splits: DataSplits,
    recipe: Recipe,
    learning: Backpropagation,
    *,
    seed: int,
    on_epoch: OnEpoch | None = None,
    teacher: nn.Module | None = None,
    stages: Sequence[Stage] = (),
    until: int | None = None,
    checkpoint: Path | None = None,
) -> Outcome:
    """Train a compressed network further, in place; masks stay, scales are learned with the weights.

    Args:
        model: the pretrained network with its techniques applied; left in evaluation mode.
        splits: its data.
        recipe: epochs, rate and the rest.
        learning: the design's optimizer and batch size.
        seed: of the order of the examples and of whatever the network draws.
        on_epoch: called after every epoch, for progress.
        teacher: the dense network, in evaluation mode, whose answers are learned too; None: labels alone.
        stages: which epochs see which share of the examples; none: all of them see all.
        until: the epoch after which to pause; None: the recipe's last. The learning rate is that of the
            whole recipe in any case.
        checkpoint: the file from which training goes on, and which is written after every epoch.

    Raises:
        DivergedError: the loss is NaN or infinite.
        LearningError: stages that are not those of the recipe.
    """
    training = fine_tuning(model, splits, recipe, learning, seed=seed, teacher=teacher, stages=stages)
    return _finished(training, splits, recipe.epochs if until is None else until, checkpoint, on_epoch)


def _finished(
    training: Training, splits: DataSplits, until: int, checkpoint: Path | None, on_epoch: OnEpoch | None
) -> Outcome:
    followed = checkpoint if checkpoint is not None and training.follow(checkpoint, until) else None
    training.run(until, checkpoint=followed, on_epoch=on_epoch)
    return Outcome(
        validation_accuracy=accuracy(training.model, splits.validation),
        test_accuracy=accuracy(training.model, splits.test),
        history=training.history,
    )


def pretraining(model: nn.Module, splits: DataSplits, recipe: Recipe, *, seed: int) -> Training:
    """Return the training that `pretrain` runs, not yet begun."""
    return Training(
        model,
        splits.train,
        recipe,
        PRETRAINING,
        epochs=recipe.pretrain_epochs,
        rate=recipe.pretrain_learning_rate,
        seed=seed,
    )


def fine_tuning(
    model: nn.Module,
    splits: DataSplits,
    recipe: Recipe,
    learning: Backpropagation,
    *,
    seed: int,
    teacher: nn.Module | None = None,
    stages: Sequence[Stage] = (),
) -> Training:
    """Return the training that `fine_tune` runs, not yet begun.

    Raises:
        LearningError: stages that are not those of the recipe.
    """
    return Training(
        model,
        splits.train,
        recipe,
        learning,
        epochs=recipe.epochs,
        rate=recipe.learning_rate,
        seed=seed,
        teacher=teacher,
        stages=checked_stages(stages, recipe.epochs),
    )


def accuracy(model: nn.Module, split: Split) -> float:
    """Return the share of a split that the model, in evaluation mode, classifies right."""
    was_training = model.training
    model.eval()
    right = 0
    with torch.no_grad(), one_thread():
        for start in range(0, len(split), EVALUATION_BATCH_SIZE):
            part = slice(start, start + EVALUATION_BATCH_SIZE)
            right += int((model(split.images[part]).argmax(dim=1) == split.labels[part]).sum())
    model.train(was_training)
    return right / len(split)
