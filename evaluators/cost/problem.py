"""What is to be mapped: a contraction, its operands as they are stored, and what a chip makes of a MAC."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, log2, prod

import numpy as np
import numpy.typing as npt

from evaluators.cost.spatial import slot
from evaluators.workload.graph import LoopNest, Operand
from hw_templates.accelerator import Accelerator, HardwareError, MacUnit, Precision

OPERANDS = (Operand.INPUT, Operand.WEIGHT, Operand.OUTPUT)
INDEX = {operand: index for index, operand in enumerate(OPERANDS)}

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class Storage:
    """How a tensor is stored: bits of an element, fraction of elements stored, index bits per element."""

    bits: float
    density: float = 1.0
    index_bits: float = 0.0

    @property
    def compressed_bits(self) -> float:
        """Bits per element of the dense tensor, bookkeeping included."""
        return self.bits * self.density + self.index_bits


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One contraction to be mapped: all that the mapping depends on, so equal problems are computed once.

    `resident` says for each operand (I, W, O) whether its tensor stays in the accelerator's resident level;
    `reserved_bits` of that level hold resident tensors while this op runs.
    """

    nest: LoopNest
    accumulated: Operand
    storage: tuple[Storage, Storage, Storage]
    resident: tuple[bool, bool, bool] = (False, False, False)
    reserved_bits: int = 0


def resident_level(accelerator: Accelerator) -> int | None:
    """Return the index of the level that may keep tensors between ops, or None."""
    axes = {axis.name for axis in accelerator.axes}
    for index in reversed(range(len(accelerator.memories))):
        level = accelerator.memories[index]
        shared = set(level.operands) == {"I", "W", "O"} and set(level.shared_over) == axes
        if level.resident_fraction > 0 and shared:
            return index
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class MacWork:
    """How a MAC of given operands runs: its cycles, its energy, and the share of MACs not skipped."""

    cycles: float
    energy_pj: float
    executed: float


def mac_work(accelerator: Accelerator, problem: Problem) -> MacWork:
    """Return the work of one MAC of `problem`.

    An operand wider than the multiplier is composed of ceil(bits / native) partial products, so a 32-bit
    gradient against 32-bit activations costs sixteen passes of an 8-bit multiplier.
    """
    by_slot = {slot(problem.accumulated, operand): problem.storage[INDEX[operand]] for operand in OPERANDS}
    weight, streamed = by_slot["W"], by_slot["I"]
    cycles, energy = _passes(accelerator.mac, max(weight.bits, 1.0), max(streamed.bits, 1.0))
    density = {"W": weight.density, "I": streamed.density}
    skipped = prod(density[letter] for letter in accelerator.zeros.skips)
    gated = prod(density[letter] for letter in set(accelerator.zeros.gates) - set(accelerator.zeros.skips))
    return MacWork(
        cycles=cycles * accelerator.mac.cycles_per_mac,
        energy_pj=energy * accelerator.mac.energy_pj * skipped * gated,
        executed=skipped,
    )


def _passes(mac: MacUnit, weight_bits: float, streamed_bits: float) -> tuple[float, float]:
    """Return (cycles, energy) of one MAC, relative to the native one."""
    composed = float(ceil(weight_bits / mac.weight_bits) * ceil(streamed_bits / mac.activation_bits))
    if mac.precision is Precision.FIXED:
        return composed, composed
    if mac.precision is Precision.GATED:
        narrow = (min(weight_bits, mac.weight_bits) * min(streamed_bits, mac.activation_bits)) ** 0.5
        native = (mac.weight_bits * mac.activation_bits) ** 0.5
        return composed, composed * _relative(mac, narrow) / _relative(mac, native)
    if mac.precision is Precision.DECOMPOSABLE:  # operands round up to 2, 4, 8, ... bits of bricks
        bricks = _bricks(weight_bits) / mac.weight_bits * _bricks(streamed_bits) / mac.activation_bits
        return bricks, bricks
    serial = ceil(weight_bits) / mac.weight_bits * ceil(streamed_bits / mac.activation_bits)
    return serial, serial


def _bricks(bits: float) -> float:
    return float(2 ** max(1, ceil(log2(bits))))


def _relative(mac: MacUnit, bits: float) -> float:
    """Return the energy of a `bits`-wide product relative to native, linear between the chip's points."""
    if not mac.energy_by_bits:
        raise HardwareError("a MAC of precision `gated` needs energy_by_bits")
    widths, energies = zip(*mac.energy_by_bits, strict=True)
    return float(np.interp(bits, widths, energies))


def prime_factors(size: int) -> list[int]:
    """Return the prime factors of `size`, ascending.

    >>> prime_factors(12)
    [2, 2, 3]
    """
    factors = []
    divisor = 2
    while divisor * divisor <= size:
        while size % divisor == 0:
            factors.append(divisor)
            size //= divisor
        divisor += 1
    if size > 1:
        factors.append(size)
    return factors


@lru_cache(maxsize=65536)
def loop_factors(temporal: tuple[int, ...], limit: int) -> tuple[tuple[int, int], ...]:
    """Return (dimension, factor) pairs of all temporal loops, at most `limit` of them where that can be.

    Beyond the limit the two smallest factors of the loop with the most factors are merged, as LOMA does.
    """
    factors = {d: prime_factors(size) for d, size in enumerate(temporal) if size > 1}
    while sum(map(len, factors.values())) > limit:
        longest = max(factors, key=lambda d: len(factors[d]))
        if len(factors[longest]) < 2:
            break
        first, second, *rest = factors[longest]
        factors[longest] = sorted([first * second, *rest])
    return tuple((d, factor) for d, sizes in factors.items() for factor in sizes)


def innermost_compressed(chip: Accelerator) -> dict[str, bool]:
    """Return for each operand's slot whether the memory beside the array keeps it compressed."""
    return {
        letter: next((level.compressed for level in chip.memories if letter in level.operands), False)
        for letter in "WIO"
    }
