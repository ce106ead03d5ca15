"""The learning knob family: how the network is trained on the device."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from search_spaces.ask import Ask
from search_spaces.choice import SpaceError, choice
from search_spaces.values import Values


class Optimizer(Enum):
    """The update rule; momentum keeps one state per weight, Adam and AdamW keep two."""

    SGD = "sgd"
    MOMENTUM = "momentum"
    ADAM = "adam"
    ADAMW = "adamw"

    @property
    def states_per_weight(self) -> int:
        """State elements kept for each trained weight (torch adds one step counter per tensor for Adam)."""
        return {Optimizer.SGD: 0, Optimizer.MOMENTUM: 1, Optimizer.ADAM: 2, Optimizer.ADAMW: 2}[self]


@choice(family="learning")
@dataclass(frozen=True, kw_only=True, slots=True)
class Backpropagation:
    """Ordinary training of every weight: one optimizer, one batch size.

    Raises:
        SpaceError: a batch size below one.
    """

    optimizer: Optimizer = Optimizer.MOMENTUM
    batch_size: int = 64

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise SpaceError(f"`batch_size >= 1` must hold, but got batch_size={self.batch_size}")


class LearningSpace(BaseModel):
    """Which optimizers and batch sizes may be chosen."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    optimizer: Values[str] = Field(default=("momentum",), description="sgd, momentum, adam, adamw.")
    batch_size: Values[Annotated[int, Field(ge=1, le=65536)]] = Field(
        default=(64,), description="Examples in one training step."
    )

    def model_post_init(self, context: object, /) -> None:
        """Refuse an optimizer that does not exist."""
        legal = [member.value for member in Optimizer]
        for name in self.optimizer:
            if name not in legal:
                raise ValueError(f"no optimizer is named {name!r}; known: {', '.join(legal)}")

    def reference(self) -> dict[str, object]:
        """Return the section of the default reference design: the first of each."""
        return {"optimizer": self.optimizer[0], "batch_size": self.batch_size[0]}

    def suggest(self, ask: Ask) -> Backpropagation:
        """Ask for the optimizer and the batch size."""
        return Backpropagation(
            optimizer=Optimizer(ask.categorical("learning.optimizer", self.optimizer)),
            batch_size=int(ask.ordinal("learning.batch_size", self.batch_size)),
        )
