"""Training that may pause after any epoch and go on, here or in another process, as if it had not paused."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from evaluators.data.splits import Split, stratified_share
from evaluators.digests import digest
from evaluators.learning.checkpoint import (
    Checkpoint,
    EpochRecord,
    load_checkpoint,
    restore_checkpoint,
    save_checkpoint,
    scalars_of,
    tensors_of,
)
from evaluators.learning.optimizer import build_optimizer, peak_rate
from evaluators.learning.recipe import Recipe
from evaluators.learning.schedule import rate_at
from evaluators.learning.stages import LearningError, Stage, share_at, smaller_shares
from evaluators.learning.stepping import stepping_parts
from evaluators.threads import one_thread
from search_spaces.choice import JsonValue, to_json
from search_spaces.learning import Backpropagation

log = logging.getLogger(__name__)

OnEpoch = Callable[[EpochRecord], None]


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
        self.loss = loss
        self.learning_rate = learning_rate

    def to_json(self) -> dict[str, object]:
        """Return the place as JSON data."""
        return {
            "version": 1,
            "epoch": self.epoch,
            "step": self.step,
            "loss": str(self.loss),  # JSON has no NaN
            "learning_rate": self.learning_rate,
        }


def diverged_from_json(data: Mapping[str, Any]) -> DivergedError:
    """Return the error that `DivergedError.to_json` wrote.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    return DivergedError(
        epoch=int(data["epoch"]),
        step=int(data["step"]),
        loss=float(data["loss"]),
        learning_rate=float(data["learning_rate"]),
    )


class Training:
    """Training that may pause after any epoch, and go on in this process or, from a checkpoint, in another.

    Args:
        model: trained in place.
        examples: what it is trained on.
        epochs: of the whole training, over which the learning rate runs, wherever it pauses.
        rate: the recipe's peak learning rate.
        teacher: in evaluation mode; its answers are learned too. No part of the checkpoint.
        stages: which epochs see which share of the examples.
    """

    def __init__(
        self,
        model: nn.Module,
        examples: Split,
        recipe: Recipe,
        learning: Backpropagation,
        *,
        epochs: int,
        rate: float,
        seed: int,
        teacher: nn.Module | None = None,
        stages: Sequence[Stage] = (),
    ) -> None:
        self.model = model
        self.history: tuple[EpochRecord, ...] = ()
        self._examples = examples
        self._in_use = (1.0, examples)  # the share of the examples in use, and they
        self._recipe = recipe
        self._batch_size = learning.batch_size
        self._epochs = epochs
        self._teacher = teacher
        self._stages = tuple(stages)
        self._peak = peak_rate(rate, learning)
        self._optimizer = build_optimizer(model, learning, self._peak, recipe.weight_decay)
        self._order = torch.Generator().manual_seed(seed)
        # Of dropout, stochastic rounding and the like, where a network has them.
        self._random = torch.Generator().manual_seed(seed).get_state()
        settings: dict[str, JsonValue] = {
            "torch": torch.__version__,
            "recipe": recipe.model_dump(mode="json"),
            "learning": to_json(learning),
            "epochs": epochs,
            "rate": rate,
            "seed": seed,
            "examples": len(examples),
            "taught": teacher is not None,
            "smaller_shares": [list(part) for part in smaller_shares(stages)],
            "scalars": {path: dict(scalars) for path, scalars in scalars_of(model).items()},
        }
        self._identity = digest(settings, tensors_of(model))

    @property
    def epoch(self) -> int:
        """Epochs that are done."""
        return len(self.history)

    def follow(self, path: Path, until: int) -> bool:
        """Go on from a checkpoint; return whether the file is this training's to write.

        It is not where it is beyond the epoch that is asked for: training then starts afresh, and the file,
        in which more work lies, stays.
        """
        found = load_checkpoint(path, self._identity)
        if found is None:
            return True
        if found.epoch > until:
            log.info("%s is beyond epoch %d: starting afresh beside it", path, until)
            return False
        if restore_checkpoint(self.model, self._optimizer, found):
            self._order.set_state(found.order)
            self._random = found.random
            self.history = found.history
        return True

    def run(self, until: int, *, checkpoint: Path | None = None, on_epoch: OnEpoch | None = None) -> None:
        """Train to the end of an epoch; the model is left in evaluation mode.

        Args:
            until: the last epoch to run, counted from 1; nothing is done where it is over already.
            checkpoint: written after every epoch.
            on_epoch: called after that.

        Raises:
            DivergedError: the loss is NaN or infinite.
        """
        with one_thread(), torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._random)
            self.model.train()
            for epoch in range(self.epoch + 1, until + 1):
                self._run_epoch(epoch)
                self._random = torch.get_rng_state()
                if checkpoint is not None:
                    save_checkpoint(checkpoint, self._checkpoint())
                if on_epoch is not None:
                    on_epoch(self.history[-1])
            self.model.eval()

    def _run_epoch(self, epoch: int) -> None:
        started = time.perf_counter()
        share = share_at(self._stages, epoch)
        if share != self._in_use[0]:
            self._in_use = (share, stratified_share(self._examples, share))
        split = self._in_use[1]
        batches = _batches(len(split), self._batch_size, self._order)
        loss = _epoch(
            self.model,
            split,
            self._optimizer,
            batches,
            self._recipe,
            self._peak,
            epoch,
            self._epochs,
            self._teacher,
        )
        record = EpochRecord(
            epoch=epoch, epochs=self._epochs, training_loss=loss, seconds=time.perf_counter() - started
        )
        self.history = (*self.history, record)

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(
            identity=self._identity,
            tensors=tensors_of(self.model),
            scalars=scalars_of(self.model),
            optimizer=self._optimizer.state_dict(),
            random=self._random,
            order=self._order.get_state(),
            history=self.history,
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
