"""The structure knob family: a layer replaced by several smaller ones, low-rank or depthwise-separable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from search_spaces.ask import Ask, LayerInfo
from search_spaces.choice import SpaceError, choice
from search_spaces.family import layer_family
from search_spaces.values import Values


def _check_rank(name: str, rank: int) -> None:
    if type(rank) is not int or rank < 1:
        raise SpaceError(f"`{name} >= 1` must hold, but got {name}={rank!r}")


@choice(family="decomposition")
@dataclass(frozen=True, kw_only=True, slots=True)
class LowRank:
    """A linear layer or a 1x1 convolution as two: c inputs to `rank`, `rank` to k outputs.

    Raises:
        SpaceError: a rank below one.

    Source: Denton et al., NeurIPS 2014 (singular value decomposition).
    """

    rank: int

    def __post_init__(self) -> None:
        _check_rank("rank", self.rank)


@choice(family="decomposition")
@dataclass(frozen=True, kw_only=True, slots=True)
class Tucker2:
    """A k x k convolution as three: 1x1 to `rank_in`, k x k to `rank_out`, 1x1 to the outputs.

    Raises:
        SpaceError: a rank below one.

    Source: Kim et al., ICLR 2016.
    """

    rank_in: int
    rank_out: int

    def __post_init__(self) -> None:
        _check_rank("rank_in", self.rank_in)
        _check_rank("rank_out", self.rank_out)


@choice(family="decomposition")
@dataclass(frozen=True, kw_only=True, slots=True)
class Separable:
    """A k x k convolution as two: depthwise k x k, then 1x1.

    Source: Howard et al., arXiv 1704.04861 (MobileNets).
    """


DecompositionChoice = LowRank | Tucker2 | Separable


def full_rank(layer: LayerInfo) -> int:
    """Return the rank above which nothing is saved: the smaller of outputs and inputs."""
    return min(layer.weight_shape[:2])


def _is_spatial(layer: LayerInfo) -> bool:
    return layer.kind == "conv2d" and max(layer.weight_shape[2:]) > 1


@layer_family("decomposition", order=5)  # first of all: the others act on the layers that it leaves
class DecompositionSpace(BaseModel):
    """Which layers may be replaced by smaller ones; depthwise layers never are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Values[Literal["off", "low_rank", "separable"]] = Field(
        default=("off",), description="off, low_rank (SVD, Tucker-2), separable (k x k convolutions)."
    )
    rank_fraction: Values[Annotated[float, Field(gt=0, le=1)]] = Field(
        default=(0.5,), description="Ranks as fractions of the full one."
    )
    ranks: Mapping[str, Values[int]] = Field(
        default_factory=dict, description="Ranks of single layers by name, in the place of the fractions."
    )

    def reference(self) -> dict[str, object]:
        """Return the section of the default reference design: every layer as it is."""
        return {"kind": "off"}

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The layers that the section names, which the network must have."""
        return tuple(self.ranks)

    def suggest(self, ask: Ask, layer: LayerInfo) -> DecompositionChoice | None:
        """Ask for kind and rank of the layer; None where it stays whole.

        Raises:
            SpaceError: a rank of `ranks` that the layer cannot have.
        """
        for rank in self.ranks.get(layer.name, ()):
            if not 1 <= rank <= full_rank(layer):
                raise SpaceError(
                    f"the rank of layer {layer.name!r} must be from 1 to {full_rank(layer)}, the smaller of "
                    f"its {layer.weight_shape[0]} outputs and {layer.weight_shape[1]} inputs, but `ranks` "
                    f"has {rank}"
                )
        legal = tuple(kind for kind in self.kind if kind != "separable" or _is_spatial(layer))
        if layer.weight_shape[1] == 1 or legal in ((), ("off",)):
            return None
        kind = legal[0] if len(legal) == 1 else ask.categorical(f"{layer.name}.decomposition", legal)
        if kind == "off":
            return None
        return Separable() if kind == "separable" else self._low_rank(ask, layer)

    def _low_rank(self, ask: Ask, layer: LayerInfo) -> LowRank | Tucker2:
        outputs, inputs = layer.weight_shape[:2]
        if layer.name in self.ranks:
            share = float(ask.ordinal(f"{layer.name}.rank", self.ranks[layer.name])) / full_rank(layer)
        else:
            share = float(ask.ordinal(f"{layer.name}.rank_fraction", self.rank_fraction))
        if _is_spatial(layer):
            return Tucker2(rank_in=max(1, round(share * inputs)), rank_out=max(1, round(share * outputs)))
        return LowRank(rank=max(1, round(share * full_rank(layer))))
