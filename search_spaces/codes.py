"""Codes: the ways in which weights or activations become few bits, beside the learned uniform step (LSQ)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from search_spaces.choice import SpaceError, choice

LEGAL_BITS = (2, 3, 4, 5, 6, 7, 8, 16)
"""One bit needs another quantizer (sign and scale); 9 to 15 bits have no datapath in the catalog."""

FULL_BITS = 32  # floating point: not quantized

POWER_BITS = (3, 4, 5, 6, 7, 8)  # a sign and an exponent; two bits would leave one power, which is `Ternary`


class Granularity(Enum):
    """How many scales a weight tensor has.

    With 8 filters of 3x3 over 4 channels, `PER_TENSOR` has 1 scale and `PER_CHANNEL` has 8, one a filter.
    Activations always have one scale a tensor: a scale for each input channel could not be taken out of
    the sum over the channels.
    """

    PER_TENSOR = "per_tensor"
    PER_CHANNEL = "per_channel"


class Rounding(Enum):
    """Where a value between two levels goes in training; evaluation always takes the nearest."""

    NEAREST = "nearest"
    STOCHASTIC = "stochastic"


def _check_bits(name: str, bits: int, legal: tuple[int, ...]) -> None:
    if type(bits) is not int or bits not in legal:
        raise SpaceError(f"the bits of {name} must be one of {list(legal)}, but got bits={bits!r}")


@choice(family="code")
@dataclass(frozen=True, kw_only=True, slots=True)
class Float:
    """32-bit floating point: the weights, or the activations, stay as they are."""

    @property
    def bits(self) -> int:
        """Bits a value."""
        return FULL_BITS


@choice(family="code")
@dataclass(frozen=True, kw_only=True, slots=True)
class Sign:
    """One bit: the sign, times the filter's mean magnitude.

    Source: Rastegari et al., ECCV 2016, eq. 6 (binary-weight networks).
    """

    @property
    def bits(self) -> int:
        """Bits a weight."""
        return 1


@choice(family="code")
@dataclass(frozen=True, kw_only=True, slots=True)
class Ternary:
    """Minus, zero or plus, times the mean magnitude of a filter's weights that are not zero.

    Source: Li et al., arXiv 1605.04711, eq. 6 and 7 (ternary weight networks).
    """

    @property
    def bits(self) -> int:
        """Bits a weight."""
        return 2


@choice(family="code")
@dataclass(frozen=True, kw_only=True, slots=True)
class PowerOfTwo:
    """Zero, or a sign and one of 2^(bits - 1) - 1 powers of two below the filter's largest.

    Raises:
        SpaceError: bits that are not in `POWER_BITS`.

    Source: Zhou et al., ICLR 2017 (incremental network quantization).
    """

    bits: int

    def __post_init__(self) -> None:
        _check_bits("PowerOfTwo", self.bits, POWER_BITS)


@choice(family="code")
@dataclass(frozen=True, kw_only=True, slots=True)
class DoReFa:
    """Weights: 2 Q(tanh w / (2 max |tanh w|) + 1/2) - 1. Activations: Q(clip(a, 0, 1)).

    There is no level at zero for weights, so pruned weights do not stay zero under it.

    Raises:
        SpaceError: bits that are not in `LEGAL_BITS`.

    Source: Zhou et al., arXiv 1606.06160, eq. 9 and 11.
    """

    bits: int

    def __post_init__(self) -> None:
        _check_bits("DoReFa", self.bits, LEGAL_BITS)


@choice(family="code")
@dataclass(frozen=True, kw_only=True, slots=True)
class Pact:
    """Activations from 0 to a learned clip, uniformly spaced.

    Raises:
        SpaceError: bits that are not in `LEGAL_BITS`.

    Source: Choi et al., arXiv 1805.06085, eq. 1 to 3.
    """

    bits: int

    def __post_init__(self) -> None:
        _check_bits("Pact", self.bits, LEGAL_BITS)


@choice(family="code")
@dataclass(frozen=True, kw_only=True, slots=True)
class Lsq:
    """Activations on a uniform grid of a learned step, as `UniformQuantization` has them.

    Raises:
        SpaceError: bits that are not in `LEGAL_BITS`.

    Source: Esser et al., ICLR 2020.
    """

    bits: int

    def __post_init__(self) -> None:
        _check_bits("Lsq", self.bits, LEGAL_BITS)


@choice(family="code")
@dataclass(frozen=True, kw_only=True, slots=True)
class Affine:
    """Weights between their smallest and largest, uniformly spaced; the range follows the weights.

    Args:
        bits: of a weight.
        granularity: one range a tensor, or one a filter.
        group_size: weights in a row of one filter that share a range; 0 where `granularity` decides.
        symmetric: the range is symmetric about zero and needs no zero point.
        rounding: in training.

    Raises:
        SpaceError: bits that are not in `LEGAL_BITS`, or a group size with one range a tensor.

    Source: Jacob et al., CVPR 2018, eq. 1.
    """

    bits: int
    granularity: Granularity = Granularity.PER_CHANNEL
    group_size: int = 0
    symmetric: bool = False
    rounding: Rounding = Rounding.NEAREST

    def __post_init__(self) -> None:
        _check_bits("Affine", self.bits, LEGAL_BITS)
        if self.group_size < 0 or (self.group_size and self.granularity is Granularity.PER_TENSOR):
            raise SpaceError(
                "groups divide filters, so `group_size >= 0` and per-channel granularity must hold, but got "
                f"group_size={self.group_size}, granularity={self.granularity.value}"
            )


WeightCode = Float | Sign | Ternary | PowerOfTwo | DoReFa | Affine
ActivationCode = Float | Lsq | DoReFa | Pact


@choice(family="quantization")
@dataclass(frozen=True, kw_only=True, slots=True)
class CodedQuantization:
    """A layer whose weights and inputs have a code each."""

    weights: WeightCode
    activations: ActivationCode

    @property
    def weight_bits(self) -> int:
        """Bits a weight."""
        return self.weights.bits

    @property
    def activation_bits(self) -> int:
        """Bits an activation."""
        return self.activations.bits
