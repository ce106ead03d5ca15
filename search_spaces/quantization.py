"""The quantization knob family: quantizer and bits of weights and activations, layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from search_spaces.ask import Ask, LayerInfo
from search_spaces.choice import SpaceError, choice, nearest
from search_spaces.codes import (
    LEGAL_BITS,
    POWER_BITS,
    Affine,
    CodedQuantization,
    DoReFa,
    Granularity,
    Lsq,
    Pact,
    PowerOfTwo,
    Sign,
    Ternary,
)
from search_spaces.family import layer_family
from search_spaces.values import Values

__all__ = [
    "LEGAL_BITS",
    "QUANTIZERS",
    "FullPrecision",
    "Granularity",
    "QuantizationSpace",
    "UniformQuantization",
]


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


FULL_BITS = 32  # of `edge_bits`: the first and the last layer are not quantized

_QUANTIZERS: dict[str, Callable[[int, int], CodedQuantization]] = {
    "affine": lambda w, a: CodedQuantization(weights=Affine(bits=w), activations=Lsq(bits=a)),
    "dorefa": lambda w, a: CodedQuantization(weights=DoReFa(bits=w), activations=DoReFa(bits=a)),
    "pact": lambda w, a: CodedQuantization(weights=DoReFa(bits=w), activations=Pact(bits=a)),
    "power_of_two": lambda w, a: CodedQuantization(weights=PowerOfTwo(bits=w), activations=Lsq(bits=a)),
    "sign": lambda w, a: CodedQuantization(weights=Sign(), activations=Lsq(bits=a)),
    "ternary": lambda w, a: CodedQuantization(weights=Ternary(), activations=Lsq(bits=a)),
}
_FIXED_BITS = {"sign": 1, "ternary": 2}  # quantizers that leave no choice of weight bits
QUANTIZERS = ("lsq", *_QUANTIZERS)


def _legal(bits: int) -> int:
    if bits not in LEGAL_BITS:
        closest = min(LEGAL_BITS, key=lambda legal: abs(legal - bits))
        one = "; one bit a weight is `quantizer: sign`" if bits == 1 else ""
        raise ValueError(
            f"bits must be one of {list(LEGAL_BITS)}, but got {bits}; the nearest is {closest}{one}"
        )
    return bits


def _legal_edge(bits: int | None) -> int | None:
    return bits if bits is None or bits == FULL_BITS else _legal(bits)


def _known_quantizer(name: str) -> str:
    if name not in QUANTIZERS:
        raise ValueError(f"no quantizer is named {name!r}.{nearest(name, QUANTIZERS)}")
    return name


Bits = Annotated[int, AfterValidator(_legal)]
Quantizer = Annotated[str, AfterValidator(_known_quantizer)]


@layer_family("quantization", order=20)  # after sparsity: the scales are those of the weights that stay
class QuantizationSpace(BaseModel):
    """Which quantizers, and which bits of weights and activations, may be chosen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight_bits: Values[Bits] = Field(default=(8,), description="Bits a weight: 2 to 8, or 16.")
    activation_bits: Values[Bits] = Field(default=(8,), description="Bits an activation: 2 to 8, or 16.")
    granularity: Granularity = Field(
        default=Granularity.PER_CHANNEL, description="One weight scale a filter, or one a tensor (lsq)."
    )
    quantizer: Values[Quantizer] = Field(
        default=("lsq",),
        description="lsq, affine, dorefa, pact, power_of_two, sign (1 bit a weight), ternary (2 bits).",
    )
    edge_bits: Annotated[int | None, AfterValidator(_legal_edge)] = Field(
        default=None,
        description="Bits of the first and the last layer, 32 for none; left out, they are as the others.",
    )
    per_layer: bool = Field(default=True, description="Each layer its own bits, or one choice for all.")

    def model_post_init(self, context: object, /) -> None:
        """Refuse weight bits that a quantizer of the space cannot have."""
        low = [bits for bits in self.weight_bits if bits not in POWER_BITS]
        if "power_of_two" in self.quantizer and low:
            raise ValueError(
                f"power_of_two takes weight bits of {list(POWER_BITS)}, but `weight_bits` has {low}; "
                "leave them out, or that quantizer"
            )

    def reference(self) -> dict[str, object]:
        """Return the section of the default reference design: 8 bits everywhere, by LSQ."""
        return {"weight_bits": 8, "activation_bits": 8, "quantizer": "lsq"}

    def suggest(self, ask: Ask, layer: LayerInfo) -> UniformQuantization | CodedQuantization | FullPrecision:
        """Ask for the layer's quantizer and bits (or the network's, once for every layer)."""
        if layer.is_edge and self.edge_bits is not None:
            return self._edge(self.edge_bits)
        prefix = layer.name if self.per_layer else "all"
        name = self.quantizer[0]
        if len(self.quantizer) > 1:
            name = ask.categorical(f"{prefix}.quantizer", self.quantizer)
        weight_bits = _FIXED_BITS.get(name) or int(ask.ordinal(f"{prefix}.weight_bits", self.weight_bits))
        activation_bits = int(ask.ordinal(f"{prefix}.activation_bits", self.activation_bits))
        if name in _QUANTIZERS:
            return _QUANTIZERS[name](weight_bits, activation_bits)
        return UniformQuantization(
            weight_bits=weight_bits, activation_bits=activation_bits, granularity=self.granularity
        )

    def _edge(self, bits: int) -> UniformQuantization | FullPrecision:
        if bits == FULL_BITS:
            return FullPrecision()
        return UniformQuantization(weight_bits=bits, activation_bits=bits, granularity=self.granularity)
