"""The network knob family: which network, its width and its depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from search_spaces.ask import Ask
from search_spaces.choice import SpaceError, choice
from search_spaces.values import Names, Values


@choice(family="network")
@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkChoice:
    """One network: a registered name or the user's `module:callable`, scaled.

    Args:
        name: the registered name, or `module:callable`.
        width: multiplies every layer's number of channels.
        depth: layers per stage.

    Raises:
        SpaceError: a width or depth that is not positive.
    """

    name: str
    width: float = 1.0
    depth: int = 1

    def __post_init__(self) -> None:
        if not self.width > 0 or self.depth < 1:
            raise SpaceError(
                f"`width > 0` and `depth >= 1` must hold, but got width={self.width}, depth={self.depth}"
            )


class NetworkSpace(BaseModel):
    """Which networks may be chosen, and which widths and depths of them."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Names = Field(
        default=(), description="Networks to choose from; the study's `network` alone where absent."
    )
    width: Values[Annotated[float, Field(gt=0, le=16)]] = Field(
        default=(1.0,), description="Channel multipliers to choose from."
    )
    depth: Values[Annotated[int, Field(ge=1, le=64)]] = Field(
        default=(1,), description="Layers per stage to choose from."
    )

    def reference(self) -> dict[str, object]:
        """Return the section of the default reference design: the study's network, at its largest."""
        return {"name": (), "width": self.width[-1], "depth": self.depth[-1]}

    def suggest(self, ask: Ask, name: str) -> NetworkChoice:
        """Ask for the network, its width and its depth, and return what they make.

        Args:
            ask: answers the questions.
            name: the study's network, which is not asked for where the space names none.
        """
        return NetworkChoice(
            name=ask.categorical("network.name", self.name) if self.name else name,
            width=float(ask.ordinal("network.width", self.width)),
            depth=int(ask.ordinal("network.depth", self.depth)),
        )

    def every_choice(self, name: str) -> tuple[NetworkChoice, ...]:
        """Return all networks of this space, each from small to large; `name` is the study's network."""
        return tuple(
            NetworkChoice(name=one, width=width, depth=depth)
            for one in self.name or (name,)
            for width in self.width
            for depth in self.depth
        )
