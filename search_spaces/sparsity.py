"""The sparsity knob family: which weights of a layer are zero, in which pattern, and how many."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from search_spaces.ask import Ask, LayerInfo
from search_spaces.choice import SpaceError, choice
from search_spaces.family import layer_family
from search_spaces.values import Values


def _check_density(density: float) -> None:
    if not 0 < density <= 1:
        raise SpaceError(f"`0 < density <= 1` must hold, but got density={density}")


@choice(family="sparsity")
@dataclass(frozen=True, kw_only=True, slots=True)
class Dense:
    """Every weight is kept."""


class IndexFormat(Enum):
    """How the places of kept weights are stored.

    `BITMAP`: one bit a weight. `CSR`: the column of each kept weight and a pointer a filter. `RUN_LENGTH`:
    four bits before each kept weight, the zeros that it follows; longer runs store a zero in between.
    """

    BITMAP = "bitmap"
    CSR = "csr"
    RUN_LENGTH = "run_length"


class Masks(Enum):
    """Whether the places of kept weights move in training.

    `FROZEN`: never. `REGROWN`: once an epoch some are dropped, and as many grown where the gradient is
    largest.
    """

    FROZEN = "frozen"
    REGROWN = "regrown"


@choice(family="sparsity")
@dataclass(frozen=True, kw_only=True, slots=True)
class Unstructured:
    """The weights of largest magnitude are kept, wherever they stand.

    Args:
        density: fraction of the weights that is kept.
        index: how their places are stored.
        masks: whether places move in training.

    Raises:
        SpaceError: a density outside (0, 1].

    Source: magnitude pruning, Han et al., NeurIPS 2015.
    """

    density: float
    index: IndexFormat = IndexFormat.BITMAP
    masks: Masks = Masks.FROZEN

    def __post_init__(self) -> None:
        _check_density(self.density)


@choice(family="sparsity")
@dataclass(frozen=True, kw_only=True, slots=True)
class RowPruned:
    """Kernel rows of smallest L1 norm are zero, each filter its own; at least one row is kept.

    Args:
        density: fraction of the kernel rows that is kept.
        masks: whether places move in training.

    Raises:
        SpaceError: a density outside (0, 1].

    Source: Mao et al., CVPR Workshops 2017 (vector-level pruning).
    """

    density: float
    masks: Masks = Masks.FROZEN

    def __post_init__(self) -> None:
        _check_density(self.density)


@choice(family="sparsity")
@dataclass(frozen=True, kw_only=True, slots=True)
class NM:
    """In every run of `m` weights along the input channels, the `n` of largest magnitude are kept.

    Args:
        n: kept of each run.
        m: length of a run.
        masks: whether places move in training.

    Raises:
        SpaceError: `1 <= n < m` does not hold.

    Source: Mishra et al., arXiv 2104.08378 (2:4).
    """

    n: int
    m: int
    masks: Masks = Masks.FROZEN

    def __post_init__(self) -> None:
        if not 1 <= self.n < self.m:
            raise SpaceError(f"`1 <= n < m` must hold for n:m sparsity, but got n={self.n}, m={self.m}")

    @property
    def density(self) -> float:
        """Fraction of the weights that is kept."""
        return self.n / self.m


@choice(family="sparsity")
@dataclass(frozen=True, kw_only=True, slots=True)
class FilterPruned:
    """Whole filters (output channels) of smallest L1 norm are zero; at least one is kept.

    Args:
        density: fraction of the filters that is kept.

    Raises:
        SpaceError: a density outside (0, 1].

    Source: Li et al., ICLR 2017.
    """

    density: float

    def __post_init__(self) -> None:
        _check_density(self.density)


SparsityChoice = Dense | Unstructured | RowPruned | NM | FilterPruned
_WITH_DENSITY: dict[str, Callable[[float, IndexFormat, Masks], SparsityChoice]] = {
    "unstructured": lambda density, index, masks: Unstructured(density=density, index=index, masks=masks),
    "row": lambda density, index, masks: RowPruned(density=density, masks=masks),
    "filter": lambda density, index, masks: FilterPruned(density=density),
}


def parse_nm(pattern: str) -> NM | None:
    """Return the `NM` that a name such as `"2:4"` means; None for any other name."""
    n, colon, m = pattern.partition(":")
    return NM(n=int(n), m=int(m)) if colon and n.isdecimal() and m.isdecimal() else None


def fits(pattern: str, layer: LayerInfo) -> bool:
    """Say whether a pattern can be laid on a layer.

    n:m needs a whole number of runs of m input channels, and rows a kernel wider than one. Filters
    are pruned in convolutions of two filters or more: the outputs of a linear layer are mostly classes,
    which nobody wants to lose.
    """
    nm = parse_nm(pattern)
    if nm is not None:
        return layer.weight_shape[1] % nm.m == 0
    if pattern == "row":
        return layer.kind == "conv2d" and layer.weight_shape[3] > 1
    if pattern == "filter":
        return layer.kind == "conv2d" and layer.weight_shape[0] > 1
    return pattern == "dense" or math.prod(layer.weight_shape) > 1


def _fits_all(pattern: str, layer: LayerInfo) -> bool:
    return all(fits(pattern, part) for part in layer.acted_on)


_MOST_NAMED = 4  # layers that a sentence names
_NEED_OF = {
    "n:m": "a multiple of m input channels",
    "row": "a kernel wider than one",
    "filter": "a convolution of two filters or more",
}
_NEEDS = ", ".join(f"{name} needs {need}" for name, need in _NEED_OF.items())


def _known_pattern(pattern: str) -> str:
    try:
        nm = parse_nm(pattern)
    except SpaceError as error:
        raise ValueError(f"pattern {pattern!r}: {error}") from error
    named = ["dense", *_WITH_DENSITY]
    if nm is None and pattern not in named:
        close = difflib.get_close_matches(pattern, named, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"no pattern is named {pattern!r}.{hint} Known: {', '.join(named)}, or n:m ('2:4').")
    return pattern


def _from_sexagesimal(pattern: object) -> object:
    # NOTE: YAML 1.1 reads an unquoted 2:4 as base 60, that is 124; no pattern is a number, so undo it.
    if type(pattern) is int:
        n, m = divmod(pattern, 60)
        return f"{n}:{m}"
    return pattern


Pattern = Annotated[str, BeforeValidator(_from_sexagesimal), AfterValidator(_known_pattern)]
Density = Annotated[float, Field(gt=0, lt=1)]


@layer_family("sparsity", order=10)  # before quantization, which then scales the weights that stay
class SparsitySpace(BaseModel):
    """Which patterns of zeros, and which densities, may be chosen."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    patterns: Values[Pattern] = Field(
        default=("dense",),
        description="dense, unstructured, row (kernel rows), filter (output channels), or n:m such as 2:4.",
    )
    density: Values[Density] = Field(
        default=(0.5,), description="Fractions of weights, of rows or of filters to keep."
    )
    index: IndexFormat = Field(
        default=IndexFormat.BITMAP,
        description="How unstructured weights store their places: bitmap, csr or run_length.",
    )
    masks: Values[Literal["frozen", "regrown"]] = Field(
        default=("frozen",),
        description="Whether kept places move in training (not those of filters, which are taken out).",
    )
    per_layer: bool = Field(
        default=True,
        description="Each layer its own pattern of those that fit it, or one choice for all, with which a "
        "layer that it does not fit stays dense.",
    )

    def reference(self) -> dict[str, object]:
        """Return the section of the default reference design: every weight kept."""
        return {"patterns": "dense", "masks": "frozen"}

    def check_layers(self, layers: tuple[LayerInfo, ...]) -> None:
        """Refuse a pattern that fits no layer.

        Raises:
            SpaceError: with the pattern, and those that fit somewhere.
        """
        stray = [one for one in self.patterns if not any(fits(one, layer) for layer in layers)]
        if stray:
            others = [one for one in ("dense", *_WITH_DENSITY) if any(fits(one, any_) for any_ in layers)]
            said = f"fits no layer of any network: {_NEEDS}; legal here: {', '.join(others)}"
            raise SpaceError("\n".join(f"pattern {one!r} {said}" for one in stray), key="patterns")

    def passed_over(self, layers: tuple[LayerInfo, ...]) -> tuple[str, ...]:
        """Return for each pattern which layers cannot have it, and what those get."""
        said = []
        for pattern in self.patterns:
            names = list(dict.fromkeys(layer.name for layer in layers if not fits(pattern, layer)))
            if names:
                shown = ", ".join(names[:_MOST_NAMED])
                shown += f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
                nm = parse_nm(pattern)
                need = _NEED_OF[pattern] if nm is None else f"a multiple of {nm.m} input channels"
                instead = "so it is not offered there" if self.per_layer else "so with it these stay dense"
                said.append(f"pattern {pattern} does not fit {shown} (it needs {need}), {instead}")
        return tuple(said)

    def suggest(self, ask: Ask, layer: LayerInfo) -> SparsityChoice:
        """Ask for the pattern and, only where it has one, for the density.

        A layer is offered the patterns that fit it, or that fit each of the parts that stand for it. With
        one choice for all, a layer that the choice does not fit stays dense, as NVIDIA's ASP does it.

        Raises:
            SpaceError: no pattern of the space fits the layer.
        """
        if not self.per_layer:
            pattern = ask.categorical("all.sparsity", self.patterns)
            return self._chosen(ask, pattern, "all") if _fits_all(pattern, layer) else Dense()
        legal = tuple(pattern for pattern in self.patterns if _fits_all(pattern, layer))
        if not legal:
            shapes = ", ".join(
                f"{part.name!r} ({part.kind}, weights {'x'.join(map(str, part.weight_shape))})"
                for part in layer.acted_on
            )
            raise SpaceError(
                f"no pattern of {list(self.patterns)} fits layer {shapes}: {_NEEDS}; "
                "legal here: dense, unstructured. Add one of them to `patterns`",
                key="patterns",
            )
        return self._chosen(ask, ask.categorical(f"{layer.name}.sparsity", legal), layer.name)

    def _chosen(self, ask: Ask, pattern: str, prefix: str) -> SparsityChoice:
        if pattern == "dense":
            return Dense()
        density = self.density[0]
        if pattern in _WITH_DENSITY:
            density = float(ask.ordinal(f"{prefix}.density", self.density))
        masks = Masks(self.masks[0])
        if len(self.masks) > 1 and pattern != "filter":
            masks = Masks(ask.categorical(f"{prefix}.masks", self.masks))
        nm = parse_nm(pattern)
        return _WITH_DENSITY[pattern](density, self.index, masks) if nm is None else replace(nm, masks=masks)
