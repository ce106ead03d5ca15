"""Backpropagation: pretrain the dense network once, fine-tune every compressed design from there.

Everything random comes from the seed, and one thread computes: the same call gives the same weights, bit
for bit, in any process on the same machine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from evaluators.data.splits import DataSplits, Split
from evaluators.learning.recipe import Recipe
from evaluators.learning.schedule import rate_at
from evaluators.learning.stepping import stepping_parts
from evaluators.networks.layers import compressible_layers
from evaluators.threads import one_thread
from search_spaces.learning import Backpropagation, Optimizer

PRETRAINING = Backpropagation(optimizer=Optimizer.MOMENTUM, batch_size=32)
"""How the dense network is made; it happens before the device sees it, so it is no knob."""

RATED_BATCH_SIZE = 64  # the recipe's rate is that of momentum SGD at this batch size
MOMENTUM = 0.9
EVALUATION_BATCH_SIZE = 128  # stays in cache: 4 x as fast as 1000 on 28x28 images; no effect on results


class LearningError(ValueError):
    """Training cannot be done as asked."""


class DivergedError(LearningError):
    """The loss became NaN or infinite."""

    def __init__(self, *, epoch: int, step: int, loss: float, learning_rate: float) -> None:
        """Keep where it happened: `epoch` and `step` within the epoch, both from 1."""
        super().__init__(
            f"the training loss must stay finite, but it is {loss} in epoch {epoch}, step {step}, at "
            f"learning rate {learning_rate:.3g}; lower the recipe's learning rate"
        )
        self.epoch = epoch
        self.step = step


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochRecord:
    """One epoch of training: its number from 1, its mean loss, and what it took."""

    epoch: int
    epochs: int
    training_loss: float
    seconds: float


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


OnEpoch = Callable[[EpochRecord], None]


def pretrain(
    model: nn.Module, splits: DataSplits, recipe: Recipe, *, seed: int, on_epoch: OnEpoch | None = None
) -> Outcome:
    """Train a fresh, dense, full-precision network in place.

    Args:
        model: the network; left in evaluation mode.
        splits: its data.
        recipe: epochs, rate and the rest.
        seed: of the order of the examples and of whatever the network draws.
        on_epoch: called after every epoch, for progress or a checkpoint.

    Raises:
        DivergedError: the loss is NaN or infinite.
    """
    return _train(
        model,
        splits,
        recipe,
        PRETRAINING,
        recipe.pretrain_epochs,
        recipe.pretrain_learning_rate,
        seed,
        on_epoch,
    )


def fine_tune(
    model: nn.Module,
    splits: DataSplits,
    recipe: Recipe,
    learning: Backpropagation,
    *,
    seed: int,
    on_epoch: OnEpoch | None = None,
    teacher: nn.Module | None = None,
) -> Outcome:
    """Train a compressed network further, in place; masks stay, scales are learned with the weights.

    Args:
        model: the pretrained network with its techniques applied; left in evaluation mode.
        splits: its data.
        recipe: epochs, rate and the rest.
        learning: the design's optimizer and batch size.
        seed: of the order of the examples and of whatever the network draws.
        on_epoch: called after every epoch, for progress or a checkpoint.
        teacher: the dense network, in evaluation mode, whose answers are learned too; None: labels alone.

    Raises:
        DivergedError: the loss is NaN or infinite.
    """
    rate = recipe.learning_rate
    return _train(model, splits, recipe, learning, recipe.epochs, rate, seed, on_epoch, teacher)


def distillation_loss(
    student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, recipe: Recipe
) -> torch.Tensor:
    """Return the loss of logits against labels and against another network's logits.

    Args:
        student: (n, classes).
        teacher: (n, classes).
        labels: (n,).
        recipe: the share of each, and the temperature.

    Source: Hinton, Vinyals and Dean, arXiv 1503.02531, section 2.
    """
    hard = F.cross_entropy(student, labels, label_smoothing=recipe.label_smoothing)
    heat = recipe.temperature
    soft = F.kl_div(
        F.log_softmax(student / heat, dim=1),
        F.log_softmax(teacher / heat, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    # The gradient of the soft part shrinks with the temperature's square, which is put back here.
    return (1 - recipe.distillation) * hard + recipe.distillation * heat**2 * soft


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


def peak_rate(rate: float, learning: Backpropagation) -> float:
    """Return the peak learning rate of an optimizer and batch size, from that of momentum SGD at batch 64.

    So one rate in the recipe is fair to every optimizer that a design may choose: plain SGD moves by
    1 / (1 - momentum) less at the same rate; Adam's steps do not depend on the gradient's size.

    Source: Goyal et al., arXiv 1706.02677 (SGD: linear in the batch); Malladi et al., NeurIPS 2022 (Adam:
    its square root); Adam's own factor is ours, measured on digits.
    """
    batches = learning.batch_size / RATED_BATCH_SIZE
    factors = {
        Optimizer.SGD: batches / (1 - MOMENTUM),
        Optimizer.MOMENTUM: batches,
        Optimizer.ADAM: math.sqrt(batches) * ADAM_FACTOR,
        Optimizer.ADAMW: math.sqrt(batches) * ADAM_FACTOR,
    }
    return rate * factors[learning.optimizer]


ADAM_FACTOR = 0.2  # of momentum SGD's rate


def _train(
    model: nn.Module,
    splits: DataSplits,
    recipe: Recipe,
    learning: Backpropagation,
    epochs: int,
    rate: float,
    seed: int,
    on_epoch: OnEpoch | None,
    teacher: nn.Module | None = None,
) -> Outcome:
    order = torch.Generator().manual_seed(seed)
    peak = peak_rate(rate, learning)
    optimizer = _optimizer(model, learning, peak, recipe.weight_decay)
    history = []
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # dropout and the like, where a network has them
        model.train()
        for epoch in range(1, epochs + 1):
            batches = _batches(len(splits.train), learning.batch_size, order)
            started = time.perf_counter()
            loss = _epoch(model, splits.train, optimizer, batches, recipe, peak, epoch, epochs, teacher)
            record = EpochRecord(
                epoch=epoch, epochs=epochs, training_loss=loss, seconds=time.perf_counter() - started
            )
            history.append(record)
            if on_epoch is not None:
                on_epoch(record)
        model.eval()
    return Outcome(
        validation_accuracy=accuracy(model, splits.validation),
        test_accuracy=accuracy(model, splits.test),
        history=tuple(history),
    )


def _epoch(
    model: nn.Module,
    split: Split,
    optimizer: torch.optim.Optimizer,
    batches: tuple[torch.Tensor, ...],
    recipe: Recipe,
    peak: float,
    epoch: int,
    epochs: int,
    teacher: nn.Module | None,
) -> float:
    """Run one epoch and return its mean loss."""
    total = 0.0
    parts = stepping_parts(model)
    for part in parts:
        part.begin_epoch()
    for position, batch in enumerate(batches):
        rate = rate_at((epoch - 1) * len(batches) + position, epochs * len(batches), peak)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss = _loss(model, teacher, split.images[batch], split.labels[batch], recipe)
        value = loss.item()
        if not math.isfinite(value):
            raise DivergedError(epoch=epoch, step=position + 1, loss=value, learning_rate=rate)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        for part in parts:
            part.after_step()
        total += value
    return total / len(batches)


def _loss(
    model: nn.Module, teacher: nn.Module | None, images: torch.Tensor, labels: torch.Tensor, recipe: Recipe
) -> torch.Tensor:
    answers: torch.Tensor = model(images)
    if teacher is None:
        return F.cross_entropy(answers, labels, label_smoothing=recipe.label_smoothing)
    with torch.no_grad():
        asked: torch.Tensor = teacher(images)
    return distillation_loss(answers, asked, labels, recipe)


def _batches(examples: int, batch_size: int, order: torch.Generator) -> tuple[torch.Tensor, ...]:
    """Deal a new order of the examples into whole batches; those left over get their turn next epoch.

    Whole batches only, because that is the step whose cost is traced.
    """
    size = min(batch_size, examples)
    permutation = torch.randperm(examples, generator=order)
    return tuple(permutation[start : start + size] for start in range(0, examples - size + 1, size))


def _optimizer(
    model: nn.Module, learning: Backpropagation, rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Return the optimizer; only weights of contractions decay, no normalisation and no scale."""
    decaying = {id(_trained_weight(layer)) for layer in compressible_layers(model).values()}
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [one for one in parameters if id(one) in decaying], "weight_decay": weight_decay},
        {"params": [one for one in parameters if id(one) not in decaying], "weight_decay": 0.0},
    ]
    match learning.optimizer:
        case Optimizer.SGD:
            return torch.optim.SGD(groups, lr=rate)
        case Optimizer.MOMENTUM:
            return torch.optim.SGD(groups, lr=rate, momentum=MOMENTUM)
        case Optimizer.ADAM:
            return torch.optim.Adam(groups, lr=rate)
        case Optimizer.ADAMW:
            return torch.optim.AdamW(groups, lr=rate)


def _trained_weight(layer: nn.Module) -> torch.Tensor | nn.Module:
    """Return the parameter behind a layer's weight, which a technique may have wrapped."""
    if parametrize.is_parametrized(layer, "weight"):
        return layer.get_parameter("parametrizations.weight.original")
    return layer.get_parameter("weight")
