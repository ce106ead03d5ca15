"""The structure knob family: a layer replaced by smaller ones: low-rank, depthwise-separable or grouped."""

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

    def parts(self, layer: LayerInfo) -> tuple[LayerInfo, ...]:
        """Return the two layers, `reduce` and `expand`."""
        outputs, inputs, *kernel = layer.weight_shape
        return (
            _part(layer, "reduce", (self.rank, inputs, *kernel)),
            _part(layer, "expand", (outputs, self.rank, *kernel)),
        )


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

    def parts(self, layer: LayerInfo) -> tuple[LayerInfo, ...]:
        """Return the three layers, `reduce`, `core` and `expand`."""
        outputs, inputs, *kernel = layer.weight_shape
        return (
            _part(layer, "reduce", (self.rank_in, inputs, 1, 1)),
            _part(layer, "core", (self.rank_out, self.rank_in, *kernel)),
            _part(layer, "expand", (outputs, self.rank_out, 1, 1)),
        )


@choice(family="decomposition")
@dataclass(frozen=True, kw_only=True, slots=True)
class Separable:
    """A k x k convolution as two: depthwise k x k, then 1x1.

    Source: Howard et al., arXiv 1704.04861 (MobileNets).
    """

    def parts(self, layer: LayerInfo) -> tuple[LayerInfo, ...]:
        """Return the two layers, `depthwise` and `pointwise`."""
        outputs, inputs, *kernel = layer.weight_shape
        return (
            _part(layer, "depthwise", (inputs, 1, *kernel), groups=inputs),
            _part(layer, "pointwise", (outputs, inputs, 1, 1)),
        )


@choice(family="decomposition")
@dataclass(frozen=True, kw_only=True, slots=True)
class Grouped:
    """A convolution in groups, each of which sees its share of the inputs; these are shuffled before.

    Raises:
        SpaceError: fewer than two groups.

    Source: Zhang et al., CVPR 2018 (ShuffleNet: grouped convolutions and the channel shuffle).
    """

    groups: int

    def __post_init__(self) -> None:
        if type(self.groups) is not int or self.groups < 2:
            raise SpaceError(f"`groups >= 2` must hold, but got groups={self.groups!r}")

    def parts(self, layer: LayerInfo) -> tuple[LayerInfo, ...]:
        """Return the one layer, `grouped`."""
        outputs, inputs, *kernel = layer.weight_shape
        return (_part(layer, "grouped", (outputs, inputs // self.groups, *kernel), groups=self.groups),)


def _part(layer: LayerInfo, name: str, shape: tuple[int, ...], *, groups: int = 1) -> LayerInfo:
    return LayerInfo(
        name=f"{layer.name}.{name}",
        kind=layer.kind,
        weight_shape=shape,
        is_edge=layer.is_edge,
        groups=groups,
    )


DecompositionChoice = LowRank | Tucker2 | Separable | Grouped


def full_rank(layer: LayerInfo) -> int:
    """Return the rank above which nothing is saved: the smaller of outputs and inputs."""
    return min(layer.weight_shape[:2])


def _channels(layer: LayerInfo) -> str:
    return f"{layer.weight_shape[0]}x{layer.weight_shape[1] * layer.groups}"


def _is_spatial(layer: LayerInfo) -> bool:
    return layer.kind == "conv2d" and max(layer.weight_shape[2:]) > 1


def can_group(layer: LayerInfo, groups: int) -> bool:
    """Say whether a convolution can be cut in so many groups: whole ones, of two inputs or more."""
    outputs, inputs = layer.weight_shape[:2]
    is_whole = layer.kind == "conv2d" and layer.groups == 1
    return is_whole and outputs % groups == 0 and inputs % groups == 0 and inputs > groups


@layer_family("decomposition", order=5)  # first of all: the others act on the layers that it leaves
class DecompositionSpace(BaseModel):
    """Which layers may be replaced by smaller ones; layers that are grouped or depthwise never are."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Values[Literal["grouped", "low_rank", "off", "separable"]] = Field(
        default=("off",),
        description="off, low_rank (SVD, Tucker-2), separable (k x k convolutions), grouped (convolutions).",
    )
    groups: Values[Annotated[int, Field(ge=2)]] = Field(
        default=(2,), description="Groups of a grouped convolution; they divide its inputs and outputs."
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

    def check_layers(self, layers: tuple[LayerInfo, ...]) -> None:
        """Refuse ranks that their layer cannot have, and groups that divide the channels of no layer.

        Raises:
            SpaceError: with the value and what the layers can have.
        """
        self._check_ranks(layers)
        for groups in self.groups if "grouped" in self.kind else ():
            if not any(can_group(layer, groups) for layer in layers):
                shapes = ", ".join(f"{one.name} {_channels(one)}" for one in layers if one.kind == "conv2d")
                raise SpaceError(
                    f"`groups: {groups}` must divide the outputs and the inputs of a convolution, and leave "
                    f"two inputs a group, but it does so in no layer; outputs x inputs: {shapes or 'none'}",
                    key="groups",
                )

    def _check_ranks(self, layers: tuple[LayerInfo, ...]) -> None:
        # Where networks of the space differ in the layer's size, the smallest is the law.
        wrong = {
            (
                layer.name,
                rank,
            ): f"the rank of layer {layer.name!r} must be from 1 to {full_rank(layer)}, "
            f"the smaller of its {layer.weight_shape[0]} outputs and {layer.weight_shape[1]} inputs, "
            f"but `ranks` has {rank}"
            for layer in sorted(layers, key=full_rank, reverse=True)
            for rank in self.ranks.get(layer.name, ())
            if not 1 <= rank <= full_rank(layer)
        }
        if wrong:
            raise SpaceError("\n".join(wrong.values()), key="ranks")

    def suggest(self, ask: Ask, layer: LayerInfo) -> DecompositionChoice | None:
        """Ask for kind and rank of the layer; None where it stays whole.

        Raises:
            SpaceError: a rank of `ranks` that the layer cannot have.
        """
        self._check_ranks((layer,))
        if layer.groups > 1 or layer.weight_shape[1] == 1:
            return None
        groups = tuple(groups for groups in self.groups if can_group(layer, groups))
        fits = {"off": True, "low_rank": True, "separable": _is_spatial(layer), "grouped": bool(groups)}
        legal = tuple(kind for kind in self.kind if fits[kind])
        if legal in ((), ("off",)):
            return None
        kind = legal[0] if len(legal) == 1 else ask.categorical(f"{layer.name}.decomposition", legal)
        match kind:
            case "low_rank":
                return self._low_rank(ask, layer)
            case "separable":
                return Separable()
            case "grouped":
                few = len(groups) == 1
                return Grouped(groups=groups[0] if few else int(ask.ordinal(f"{layer.name}.groups", groups)))
            case _:
                return None

    def _low_rank(self, ask: Ask, layer: LayerInfo) -> LowRank | Tucker2:
        outputs, inputs = layer.weight_shape[:2]
        if layer.name in self.ranks:
            share = float(ask.ordinal(f"{layer.name}.rank", self.ranks[layer.name])) / full_rank(layer)
        else:
            share = float(ask.ordinal(f"{layer.name}.rank_fraction", self.rank_fraction))
        if _is_spatial(layer):
            return Tucker2(rank_in=max(1, round(share * inputs)), rank_out=max(1, round(share * outputs)))
        return LowRank(rank=max(1, round(share * full_rank(layer))))
