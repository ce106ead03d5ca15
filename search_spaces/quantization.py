"""The quantization knob family: bits of weights and activations, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from search_spaces.ask import Ask, LayerInfo
from search_spaces.choice import SpaceError, choice
from search_spaces.family import layer_family
from search_spaces.values import Values

LEGAL_BITS = (2, 3, 4, 5, 6, 7, 8, 16)
"""One bit needs another quantizer (sign and scale); 9 to 15 bits have no datapath in the catalog."""


class Granularity(Enum):
    """How many scales a weight tensor has.

    With 8 filters of 3x3 over 4 channels, `PER_TENSOR` has 1 scale and `PER_CHANNEL` has 8, one a filter.
    Activations always have one scale a tensor: a scale for each input channel could not be taken out of
    the sum over the channels.
    """

    PER_TENSOR = "per_tensor"
    PER_CHANNEL = "per_channel"


@choice(family="quantization")
@dataclass(frozen=True, kw_only=True, slots=True)
class FullPrecision:
    """Weights and activations stay 32-bit floating point."""


@choice(family="quantization")
@dataclass(frozen=True, kw_only=True, slots=True)
class UniformQuantization:
    """Equally spaced levels: signed, symmetric weights; activations with a learned step.

    Raises:
        SpaceError: bits that are not in `LEGAL_BITS`.

    Source: Jacob et al., CVPR 2018, eq. 1 (uniform affine quantization); Esser et al., ICLR 2020 (the
    learned step).
    """

    weight_bits: int
    activation_bits: int
    granularity: Granularity = Granularity.PER_CHANNEL

    def __post_init__(self) -> None:
        for name, bits in (("weight_bits", self.weight_bits), ("activation_bits", self.activation_bits)):
            if type(bits) is not int or bits not in LEGAL_BITS:
                raise SpaceError(f"`{name}` must be one of {list(LEGAL_BITS)}, but got {name}={bits!r}")


def _legal(bits: int) -> int:
    if bits not in LEGAL_BITS:
        closest = min(LEGAL_BITS, key=lambda legal: abs(legal - bits))
        raise ValueError(f"bits must be one of {list(LEGAL_BITS)}, but got {bits}; the nearest is {closest}")
    return bits


Bits = Annotated[int, AfterValidator(_legal)]


@layer_family("quantization", order=20)  # after sparsity: the scales are those of the weights that stay
class QuantizationSpace(BaseModel):
    """Which bits of weights and activations may be chosen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight_bits: Values[Bits] = Field(default=(8,), description="Bits a weight: 2 to 8, or 16.")
    activation_bits: Values[Bits] = Field(default=(8,), description="Bits an activation: 2 to 8, or 16.")
    granularity: Granularity = Field(
        default=Granularity.PER_CHANNEL, description="One weight scale a filter, or one a tensor."
    )
    per_layer: bool = Field(default=True, description="Each layer its own bits, or one choice for all.")

    def reference(self) -> dict[str, object]:
        """Return the section of the default reference design: 8 bits everywhere."""
        return {"weight_bits": 8, "activation_bits": 8}

    def suggest(self, ask: Ask, layer: LayerInfo) -> UniformQuantization:
        """Ask for the layer's bits (or the network's, once for every layer) and return the choice."""
        prefix = layer.name if self.per_layer else "all"
        return UniformQuantization(
            weight_bits=int(ask.ordinal(f"{prefix}.weight_bits", self.weight_bits)),
            activation_bits=int(ask.ordinal(f"{prefix}.activation_bits", self.activation_bits)),
            granularity=self.granularity,
        )
