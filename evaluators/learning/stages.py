"""Training in stages: after each of them a search may stop a design, or let it go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class LearningError(ValueError):
    """Training cannot be done as asked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A part of fine-tuning.

    Args:
        epochs: of fine-tuning, from its very beginning to the end of this stage.
        data: share of the training examples, a stratified draw, that the epochs of this stage see.

    Raises:
        LearningError: no epoch, or a share outside (0, 1].
    """

    epochs: int
    data: float = 1.0

    def __post_init__(self) -> None:
        if self.epochs < 1 or not 0 < self.data <= 1:
            raise LearningError(f"a stage needs epochs >= 1 and 0 < data <= 1, but it is {self}")


def checked_stages(stages: Sequence[Stage], epochs: int) -> tuple[Stage, ...]:
    """Return the stages of a training of so many epochs; none given: one, the whole.

    Raises:
        LearningError: they do not rise, or do not end with the training.
    """
    if not stages:
        return (Stage(epochs=epochs),)
    ends = [stage.epochs for stage in stages]
    if ends != sorted(set(ends)) or ends[-1] != epochs:
        raise LearningError(
            f"stages must end later and later, the last one with the recipe's {epochs} epochs, but they end "
            f"after {', '.join(map(str, ends))}"
        )
    return tuple(stages)


def share_at(stages: Sequence[Stage], epoch: int) -> float:
    """Return the share of the training examples that an epoch, counted from 1, sees."""
    return next((stage.data for stage in stages if epoch <= stage.epochs), 1.0)


def smaller_shares(stages: Sequence[Stage]) -> list[list[float]]:
    """Return what stages change about the training itself: first and last epoch of each smaller share."""
    begins = [1, *(stage.epochs + 1 for stage in stages)]
    parts = zip(begins, stages, strict=False)
    return [[begin, stage.epochs, stage.data] for begin, stage in parts if stage.data < 1]
