"""The quantization knob family: quantizer and bits of weights and activations, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from search_spaces.ask import Ask, LayerInfo
from search_spaces.choice import SpaceError, choice, nearest
from search_spaces.codes import (
    FULL_BITS,
    LEGAL_BITS,
    POWER_BITS,
    ActivationCode,
    Affine,
    CodedQuantization,
    DoReFa,
    Float,
    Granularity,
    Lsq,
    Pact,
    PowerOfTwo,
    Rounding,
    Sign,
    Ternary,
    WeightCode,
)
from search_spaces.family import layer_family
from search_spaces.values import Values

__all__ = [
    "LEGAL_BITS",
    "QUANTIZERS",
    "FullPrecision",
    "Granularity",
    "PostTraining",
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

    Args:
        weight_bits: of a weight; 32 leaves the weights as they are.
        activation_bits: of an activation; 32 leaves the activations as they are.
        granularity: one weight scale a filter, or one a tensor.

    Raises:
        SpaceError: bits that are neither in `LEGAL_BITS` nor 32, or 32 for both.

    Source: Jacob et al., CVPR 2018, eq. 1 (uniform affine quantization); Esser et al., ICLR 2020 (the
    learned step).
    """

    weight_bits: int
    activation_bits: int
    granularity: Granularity = Granularity.PER_CHANNEL

    def __post_init__(self) -> None:
        legal = (*LEGAL_BITS, FULL_BITS)
        for name, bits in (("weight_bits", self.weight_bits), ("activation_bits", self.activation_bits)):
            if type(bits) is not int or bits not in legal:
                raise SpaceError(f"`{name}` must be one of {list(legal)}, but got {name}={bits!r}")
        if self.weight_bits == self.activation_bits == FULL_BITS:
            raise SpaceError("a layer with weights and activations of 32 bits is `FullPrecision`")


@choice(family="quantization")
@dataclass(frozen=True, kw_only=True, slots=True)
class PostTraining:
    """The layer trains in 32 bits; only then its levels are fitted to weights and to a few examples.

    Source: Nagel et al., arXiv 2106.08295, section 3 (post-training quantization).
    """

    quantization: UniformQuantization | CodedQuantization


QuantizationChoice = UniformQuantization | CodedQuantization | FullPrecision | PostTraining


@dataclass(frozen=True, kw_only=True, slots=True)
class Grouping:
    """What the affine quantizers are told beside their bits."""

    granularity: Granularity
    group_size: int
    rounding: Rounding


@dataclass(frozen=True, kw_only=True, slots=True)
class _Coded:
    """A quantizer of the study file: how it makes its codes.

    Args:
        weights: the code of weights of some bits, under a space's granularity, groups and rounding.
        activations: the code of activations of some bits.
        legal: bits that the weights may have.
        fits_after: its levels can be fitted once training is over.
        is_affine: it has granularity, groups and rounding.
    """

    weights: Callable[[int, Grouping], WeightCode]
    activations: Callable[[int], ActivationCode] = lambda bits: Lsq(bits=bits)
    legal: tuple[int, ...] = LEGAL_BITS
    fits_after: bool = True
    is_affine: bool = False

    @property
    def is_fixed(self) -> bool:
        """Whether there is nothing to choose: its weights have one number of bits."""
        return len(self.legal) == 1


def _affine(bits: int, grouping: Grouping, *, symmetric: bool) -> Affine:
    return Affine(
        bits=bits,
        granularity=grouping.granularity,
        group_size=grouping.group_size,
        symmetric=symmetric,
        rounding=grouping.rounding,
    )


_QUANTIZERS: dict[str, _Coded] = {
    "affine": _Coded(weights=lambda bits, how: _affine(bits, how, symmetric=False), is_affine=True),
    "symmetric": _Coded(weights=lambda bits, how: _affine(bits, how, symmetric=True), is_affine=True),
    # DoReFa rescales weights to [-1, 1] (PACT does so too), which only training makes up for.
    "dorefa": _Coded(
        weights=lambda bits, how: DoReFa(bits=bits),
        activations=lambda bits: DoReFa(bits=bits),
        fits_after=False,
    ),
    "pact": _Coded(
        weights=lambda bits, how: DoReFa(bits=bits),
        activations=lambda bits: Pact(bits=bits),
        fits_after=False,
    ),
    "power_of_two": _Coded(weights=lambda bits, how: PowerOfTwo(bits=bits), legal=POWER_BITS),
    "sign": _Coded(weights=lambda bits, how: Sign(), legal=(1,)),
    "ternary": _Coded(weights=lambda bits, how: Ternary(), legal=(2,)),
}
QUANTIZERS = ("lsq", *_QUANTIZERS)
_SIGN_BITS = 1  # which no other quantizer has


def _legal(bits: int) -> int:
    legal = (*LEGAL_BITS, FULL_BITS)
    if bits not in legal:
        closest = min(legal, key=lambda one: abs(one - bits))
        one = "; one bit a weight is `quantizer: sign`" if bits == 1 else ""
        raise ValueError(f"bits must be one of {list(legal)}, but got {bits}; the nearest is {closest}{one}")
    return bits


def _legal_weight(bits: int) -> int:
    return bits if bits == _SIGN_BITS else _legal(bits)


def _legal_edge(bits: int | None) -> int | None:
    return bits if bits is None else _legal(bits)


def _known_quantizer(name: str) -> str:
    if name not in QUANTIZERS:
        raise ValueError(f"no quantizer is named {name!r}.{nearest(name, QUANTIZERS)}")
    return name


def _weight_bits(quantizer: str) -> tuple[int, ...]:
    """Return the bits that a quantizer may give to weights; two have but one number of them."""
    known = _QUANTIZERS.get(quantizer)
    if known is None:
        return (*LEGAL_BITS, FULL_BITS)
    return known.legal if known.is_fixed else (*known.legal, FULL_BITS)


Bits = Annotated[int, AfterValidator(_legal)]
WeightBits = Annotated[int, AfterValidator(_legal_weight)]
Quantizer = Annotated[str, AfterValidator(_known_quantizer)]


@layer_family("quantization", order=20)  # after sparsity: the scales are those of the weights that stay
class QuantizationSpace(BaseModel):
    """Which quantizers, which bits of weights and activations, and whether training knows of them."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    weight_bits: Values[WeightBits] = Field(
        default=(8,),
        description="Bits a weight: 2 to 8, 16, or 32 (not quantized). Left out: 8, or the bits of sign (1) "
        "and ternary (2), which have no others.",
    )
    activation_bits: Values[Bits] = Field(
        default=(8,), description="Bits an activation: 2 to 8, 16, or 32 (not quantized)."
    )
    granularity: Granularity = Field(
        default=Granularity.PER_CHANNEL,
        description="One weight scale a filter, or one a tensor (lsq, affine, symmetric).",
    )
    group_size: Values[Annotated[int, Field(ge=0)]] = Field(
        default=(0,), description="Weights of a filter that share a scale (affine, symmetric); 0: all."
    )
    rounding: Rounding = Field(
        default=Rounding.NEAREST, description="nearest or stochastic, in training (affine, symmetric)."
    )
    quantizer: Values[Quantizer] = Field(
        default=("lsq",),
        description="lsq, affine, symmetric, dorefa, pact, power_of_two, sign (1 bit a weight), "
        "ternary (2 bits).",
    )
    mode: Values[Literal["ptq", "qat"]] = Field(
        default=("qat",),
        description="qat: training knows the quantizer; ptq: fitted once training is over, for the whole "
        "network.",
    )
    edge_bits: Annotated[int | None, AfterValidator(_legal_edge)] = Field(
        default=None,
        description="Bits of the first and the last layer, 32 for none; left out, they are as the others.",
    )
    per_layer: bool = Field(default=True, description="Each layer its own bits, or one choice for all.")

    @model_validator(mode="before")
    @classmethod
    def _own_bits(cls, data: object) -> object:
        """Give quantizers that have but one number of bits those, where the bits are left out."""
        if not isinstance(data, Mapping) or data.get("weight_bits") is not None:
            return data
        rest = {name: value for name, value in data.items() if name != "weight_bits"}
        asked = rest.get("quantizer", "lsq")
        names = asked if isinstance(asked, list | tuple) else (asked,)
        found = [_QUANTIZERS.get(name) if isinstance(name, str) else None for name in names]
        own = [one.legal[0] for one in found if one is not None and one.is_fixed]
        return rest | {"weight_bits": sorted(set(own))} if own and len(own) == len(found) else rest

    def model_post_init(self, context: object, /) -> None:
        """Refuse what a quantizer of the space cannot have, and what none of them has."""
        known = {name: _QUANTIZERS[name] for name in self.quantizer if name in _QUANTIZERS}
        if "power_of_two" in known:
            low = [bits for bits in self.weight_bits if bits not in (*POWER_BITS, FULL_BITS)]
            if low:
                raise ValueError(
                    f"power_of_two takes weight bits of {list(POWER_BITS)}, but `weight_bits` has {low}; "
                    "leave them out, or that quantizer"
                )
        late = [name for name, quantizer in known.items() if not quantizer.fits_after]
        if "ptq" in self.mode and late:
            raise ValueError(
                f"`mode: ptq` fits levels to trained weights, but {' and '.join(late)} must be trained with; "
                "leave them out of `quantizer`, or ptq out of `mode`"
            )
        self._check_weight_bits()
        self._check_grouping(any(quantizer.is_affine for quantizer in known.values()))

    def _check_weight_bits(self) -> None:
        """Refuse bits that no quantizer of the space has, and a quantizer that has none of the bits."""
        legal = {name: _weight_bits(name) for name in self.quantizer}
        stray = [bits for bits in self.weight_bits if not any(bits in one for one in legal.values())]
        if stray:
            known = ", ".join(f"{name} takes weight bits of {list(one)}" for name, one in legal.items())
            hint = "; one bit a weight is `quantizer: sign`" if _SIGN_BITS in stray else ""
            raise ValueError(
                f"{known}, but `weight_bits` has {stray}; leave them out, or add a quantizer "
                f"that has them{hint}"
            )
        for name, one in legal.items():
            if len(one) > 1 and not set(one) & set(self.weight_bits):
                raise ValueError(
                    f"{name} takes weight bits of {list(one)}, but `weight_bits` has "
                    f"{list(self.weight_bits)}; add one of them, or leave that quantizer out"
                )

    def _check_grouping(self, has_affine: bool) -> None:
        grouped = any(self.group_size)
        if grouped and self.granularity is Granularity.PER_TENSOR:
            raise ValueError("groups divide filters: `group_size` needs `granularity: per_channel`")
        for field, asked in (("group_size", grouped), ("rounding", self.rounding is Rounding.STOCHASTIC)):
            if asked and not has_affine:
                raise ValueError(
                    f"`{field}` is for the quantizers affine and symmetric, but `quantizer` has "
                    f"{list(self.quantizer)}; add one of the two"
                )
        if self.rounding is Rounding.STOCHASTIC and "qat" not in self.mode:
            raise ValueError("stochastic rounding acts in training: `rounding` needs `qat` in `mode`")

    def reference(self) -> dict[str, object]:
        """Return the section of the default reference design: 8 bits everywhere, by LSQ."""
        return {
            "weight_bits": None,  # left out: another quantizer may have other bits
            "activation_bits": 8,
            "quantizer": "lsq",
            "mode": "qat",
            "group_size": 0,
            "rounding": Rounding.NEAREST,
        }

    def suggest(self, ask: Ask, layer: LayerInfo) -> QuantizationChoice:
        """Ask for the layer's quantizer and bits (or the network's, once for every layer)."""
        made = self._chosen(ask, layer)
        mode = self.mode[0] if len(self.mode) == 1 else ask.categorical("all.quantization_mode", self.mode)
        if isinstance(made, FullPrecision) or mode == "qat":
            return made
        return PostTraining(quantization=made)

    def _chosen(self, ask: Ask, layer: LayerInfo) -> UniformQuantization | CodedQuantization | FullPrecision:
        if layer.is_edge and self.edge_bits is not None:
            return self._uniform(self.edge_bits, self.edge_bits)
        prefix = layer.name if self.per_layer else "all"
        name = self.quantizer[0]
        if len(self.quantizer) > 1:
            name = ask.categorical(f"{prefix}.quantizer", self.quantizer)
        quantizer = _QUANTIZERS.get(name)
        if quantizer is not None and quantizer.is_fixed:
            weight_bits = quantizer.legal[0]
        else:
            legal = tuple(bits for bits in self.weight_bits if bits in _weight_bits(name))
            weight_bits = int(ask.ordinal(f"{prefix}.weight_bits", legal))
        activation_bits = int(ask.ordinal(f"{prefix}.activation_bits", self.activation_bits))
        if quantizer is None:
            return self._uniform(weight_bits, activation_bits)
        if weight_bits == activation_bits == FULL_BITS:
            return FullPrecision()
        how = Grouping(
            granularity=self.granularity,
            group_size=self._group_size(ask, prefix) if quantizer.is_affine else 0,
            rounding=self.rounding,
        )
        return CodedQuantization(
            weights=Float() if weight_bits == FULL_BITS else quantizer.weights(weight_bits, how),
            activations=Float() if activation_bits == FULL_BITS else quantizer.activations(activation_bits),
        )

    def _group_size(self, ask: Ask, prefix: str) -> int:
        if len(self.group_size) == 1:
            return self.group_size[0]
        return int(ask.ordinal(f"{prefix}.group_size", self.group_size))

    def _uniform(self, weight_bits: int, activation_bits: int) -> UniformQuantization | FullPrecision:
        if weight_bits == activation_bits == FULL_BITS:
            return FullPrecision()
        return UniformQuantization(
            weight_bits=weight_bits, activation_bits=activation_bits, granularity=self.granularity
        )
