"""Weights that do something of their own between the steps of an optimizer."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn


class Stepping(ABC):
    """A module whose parameters live on a grid: told of every epoch and every step."""

    @abstractmethod
    def begin_epoch(self) -> None:
        """Forget what was counted in the last epoch."""

    @abstractmethod
    def after_step(self) -> None:
        """Take the optimizer's step, which is in the parameters already, in the way of the grid."""


def stepping_parts(model: nn.Module) -> tuple[Stepping, ...]:
    """Return the modules of a model that want to be told."""
    return tuple(part for part in model.modules() if isinstance(part, Stepping))
