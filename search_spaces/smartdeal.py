"""The SmartDeal knob family: weights as sparse powers of two times small bases, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from search_spaces.ask import Ask, LayerInfo
from search_spaces.choice import SpaceError, choice
from search_spaces.family import layer_family
from search_spaces.values import Values

COEFFICIENT_BITS = (3, 4, 5)  # a sign and an exponent: 3, 7 or 15 powers of two beside zero
BASIS_BITS = (4, 6, 8, 16, 32)
STEP_BITS = (8, 16, 32)
SLICE_COLUMNS = 3  # width of a slice and of its basis, as in the paper


class CoefficientUpdate(Enum):
    """How a training step moves a coefficient.

    `LATENT` keeps 32-bit copies behind coefficients and bases; the others store both as they are. `PROJECTED`
    rounds to a power of two after every step; `BUCKET_SWITCH` moves the exponent by one in the direction of
    the step.
    """

    LATENT = "latent"
    PROJECTED = "projected"
    BUCKET_SWITCH = "bucket_switch"


@choice(family="smartdeal")
@dataclass(frozen=True, kw_only=True, slots=True)
class SmartDeal:
    """A weight is a sparse matrix of powers of two times a 3x3 basis a slice; which are zero never changes.

    Args:
        threshold: coefficients below it become zero; columns have unit norm.
        row_factor: kernel rows whose L1 norm is below `row_factor * threshold` become zero; 0 keeps all.
        prune_fraction: of the rows, removed beforehand by magnitude, the same ones in a group of filters.
        prune_group: filters that lose the same rows.
        coefficient_bits: sign and exponent of a coefficient.
        basis_bits: of an element of a basis; 32 is floating point.
        slice_rows: the most rows that share one basis.
        iterations: of the alternating least squares.
        update: how training moves coefficients.
        switch_bar: steps in one direction that move an exponent (`BUCKET_SWITCH` only).
        smallest_step: steps below it are not counted (`BUCKET_SWITCH` only); columns have unit norm.
        step_bits: of the activations, the errors and the rebuilt weights of a training step; 32 is floating
            point.

    Raises:
        SpaceError: a value out of its range.

    Source: Zhao et al., ISCA 2020, section III; Chen et al., arXiv 2101.01163 (training).
    """

    threshold: float = 0.02
    row_factor: float = 0.0
    prune_fraction: float = 0.0
    prune_group: int = 32
    coefficient_bits: int = 4
    basis_bits: int = 8
    slice_rows: int = 192
    iterations: int = 10
    update: CoefficientUpdate = CoefficientUpdate.LATENT
    switch_bar: int = 1
    smallest_step: float = 0.0
    step_bits: int = 32

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < 1 or self.row_factor < 0 or not 0 <= self.prune_fraction < 1:
            raise SpaceError(
                "`0 <= threshold < 1`, `row_factor >= 0` and `0 <= prune_fraction < 1` must hold, but got "
                f"threshold={self.threshold}, row_factor={self.row_factor}, "
                f"prune_fraction={self.prune_fraction}"
            )
        if self.coefficient_bits not in COEFFICIENT_BITS or self.basis_bits not in BASIS_BITS:
            raise SpaceError(
                f"`coefficient_bits` must be one of {list(COEFFICIENT_BITS)} and `basis_bits` one of "
                f"{list(BASIS_BITS)}, but got {self.coefficient_bits} and {self.basis_bits}"
            )
        if min(self.prune_group, self.slice_rows, self.iterations, self.switch_bar) < 1:
            raise SpaceError(
                "prune_group, slice_rows, iterations and switch_bar must be >= 1, but got "
                f"{self.prune_group}, {self.slice_rows}, {self.iterations}, {self.switch_bar}"
            )
        if self.step_bits not in STEP_BITS or self.smallest_step < 0:
            raise SpaceError(
                f"`step_bits` must be one of {list(STEP_BITS)} and `smallest_step >= 0`, but got "
                f"{self.step_bits} and {self.smallest_step}"
            )


def remodels(layer: LayerInfo) -> bool:
    """Say whether SmartDeal acts on a layer: 1x1, linear and 3x3 over several input channels.

    Depthwise kernels would grow (108 bits for 72), other kernels have no 3x3 basis: both stay as they are.
    """
    kernel = layer.weight_shape[2:]
    return layer.weight_shape[1] > 1 and kernel in ((), (1, 1), (SLICE_COLUMNS, SLICE_COLUMNS))


@layer_family(
    "smartdeal", order=15
)  # after sparsity, whose zeros it keeps; quantization rounds what it rebuilds
class SmartDealSpace(BaseModel):
    """Which layers may be remodelled, and with which SmartDeal parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    use: Values[Literal["off", "on"]] = Field(
        default=("off",), description="off, on, or both to choose from."
    )
    threshold: Values[Annotated[float, Field(ge=0, lt=1)]] = Field(
        default=(0.02,), description="Coefficients below it are zero (columns have unit norm)."
    )
    row_factor: Values[Annotated[float, Field(ge=0)]] = Field(
        default=(0.0,),
        description="Rows below `row_factor * threshold` (L1) are zero; 5 in the paper, 0 off.",
    )
    prune_fraction: Values[Annotated[float, Field(ge=0, lt=1)]] = Field(
        default=(0.0,), description="Fractions of the rows to remove beforehand."
    )
    coefficient_bits: Values[Literal[3, 4, 5]] = Field(default=(4,), description="Bits a coefficient.")
    basis_bits: Values[Literal[4, 6, 8, 16, 32]] = Field(
        default=(8,), description="Bits an element of a basis."
    )
    slice_rows: Values[Annotated[int, Field(ge=3)]] = Field(
        default=(192,), description="Rows that share a basis."
    )
    update: CoefficientUpdate = Field(
        default=CoefficientUpdate.LATENT, description="latent, projected or bucket_switch."
    )
    switch_bar: Annotated[int, Field(ge=1)] = Field(default=1, description="Steps that move an exponent.")
    smallest_step: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="Steps that the bucket switch does not count."
    )
    step_bits: Literal[8, 16, 32] = Field(
        default=32, description="Bits of the activations and errors that a training step moves."
    )
    per_layer: bool = Field(default=True, description="Each layer its own parameters, or one choice for all.")

    def reference(self) -> dict[str, object]:
        """Return the section of the default reference design: nothing is remodelled."""
        return {"use": "off"}

    def suggest(self, ask: Ask, layer: LayerInfo) -> SmartDeal | None:
        """Ask whether and how the layer is remodelled; None where it is left as it is."""
        if self.use == ("off",) or not all(remodels(part) for part in layer.acted_on):
            return None
        prefix = f"{layer.name}.smartdeal" if self.per_layer else "all.smartdeal"
        if ask.categorical(prefix, self.use) == "off":
            return None
        return SmartDeal(
            threshold=float(ask.ordinal(f"{prefix}.threshold", self.threshold)),
            row_factor=float(ask.ordinal(f"{prefix}.row_factor", self.row_factor)),
            prune_fraction=float(ask.ordinal(f"{prefix}.prune_fraction", self.prune_fraction)),
            coefficient_bits=int(ask.ordinal(f"{prefix}.coefficient_bits", self.coefficient_bits)),
            basis_bits=int(ask.ordinal(f"{prefix}.basis_bits", self.basis_bits)),
            slice_rows=int(ask.ordinal(f"{prefix}.slice_rows", self.slice_rows)),
            update=self.update,
            switch_bar=self.switch_bar,
            smallest_step=self.smallest_step,
            step_bits=self.step_bits,
        )
