"""Pack (contraction, accelerator, spatial mapping) into the arrays of `evaluators.cost.kernel`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from math import ceil, gcd, log2, prod

import numpy as np
import numpy.typing as npt

from evaluators.cost import layout
from evaluators.cost.spatial import SpatialMapping, sizes_of, slot
from evaluators.workload.graph import LoopNest, Operand
from hw_templates.accelerator import LOOPS, Accelerator, HardwareError, MacUnit, MemoryLevel, Ports, Precision

OPERANDS = (Operand.INPUT, Operand.WEIGHT, Operand.OUTPUT)
_INDEX = {operand: index for index, operand in enumerate(OPERANDS)}

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


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
    by_slot = {slot(problem.accumulated, operand): problem.storage[_INDEX[operand]] for operand in OPERANDS}
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


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Packed:
    """Problems as arrays; the leading axis of each counts problems (see `kernel.search_range`)."""

    order_dim: Integers
    order_size: Floats
    loops: Integers
    chain: Integers
    ways: Floats
    spatial: Floats
    scalars: Floats
    levels: Floats

    def select(self, rows: Sequence[int]) -> Packed:
        """Return some of the problems, as copies."""
        chosen = np.array(rows, np.int64)
        return Packed(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})


def join(parts: Sequence[Packed]) -> Packed:
    """Return the problems of all parts, one part after the other."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return pack([])
    return Packed(
        **{
            field.name: np.concatenate([getattr(part, field.name) for part in parts])
            for field in fields(Packed)
        }
    )


def level_numbers(level: MemoryLevel) -> list[float]:
    """Return the kernel's row of a memory level."""
    return [
        float(level.capacity_bits),
        float(level.word_bits),
        float(level.granularity_bits),
        level.read_energy_pj,
        level.write_energy_pj,
        level.read_cycles_per_word,
        level.write_cycles_per_word,
        float(level.ports is Ports.READ_WRITE),
        float(level.double_buffered),
        0.0,
    ]


@lru_cache(maxsize=4096)
def chip_numbers(accelerator: Accelerator) -> Floats:
    """Return the kernel's rows of a chip's memories.

    Raises:
        HardwareError: it has more of them than a row of the kernel holds.
    """
    if len(accelerator.memories) > layout.MAX_LEVELS:
        raise HardwareError(
            f"a chip has at most {layout.MAX_LEVELS} memory levels, but {accelerator.name} has "
            f"{len(accelerator.memories)}"
        )
    numbers = np.zeros((layout.MAX_LEVELS, layout.LEVEL_COLUMNS))
    for index, level in enumerate(accelerator.memories):
        numbers[index] = level_numbers(level)
    return numbers


@lru_cache(maxsize=4096)
def _chains(
    accelerator: Accelerator, accumulated: Operand, resident: tuple[bool, bool, bool]
) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[tuple[int, ...], ...], ...]]:
    """Return per operand its memories' indices, and per memory of each the axes below it."""
    stop = resident_level(accelerator)
    chains, below = [], []
    for operand in OPERANDS:
        letter = slot(accumulated, operand)
        levels = [i for i, level in enumerate(accelerator.memories) if letter in level.operands]
        if resident[_INDEX[operand]] and stop is not None:
            levels = [i for i in levels if i <= stop]
        seen: set[str] = set()
        under = []
        for position, index in enumerate(levels):
            seen |= set(accelerator.memories[index].shared_over)
            if position == len(levels) - 1:
                seen |= {axis.name for axis in accelerator.axes}
            under.append(tuple(i for i, axis in enumerate(accelerator.axes) if axis.name in seen))
        chains.append(tuple(levels))
        below.append(tuple(under))
    return tuple(chains), tuple(below)


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


def pack(
    rows: Sequence[tuple[Problem, Accelerator, SpatialMapping]], loop_limit: int = layout.MAX_LOOPS
) -> Packed:
    """Return the arrays for `rows`, with every loop order in its unsearched, canonical state."""
    n = len(rows)
    axes = max((len(accelerator.axes) for _, accelerator, _ in rows), default=1)
    packed = Packed(
        order_dim=np.zeros((n, layout.MAX_LOOPS), np.int64),
        order_size=np.ones((n, layout.MAX_LOOPS)),
        loops=np.zeros(n, np.int64),
        chain=np.zeros((n, 4, layout.MAX_LEVELS), np.int64),
        ways=np.ones((n, 2, 3, layout.MAX_LEVELS)),
        spatial=np.ones((n, 3, layout.MAX_LEVELS, layout.DIMS)),
        scalars=np.ones((n, layout.SCALARS)),
        levels=np.zeros((n, layout.MAX_LEVELS, layout.LEVEL_COLUMNS)),
    )
    shares = np.ones((n, axes, layout.DIMS))
    below = np.zeros((n, 3, layout.MAX_LEVELS, axes), np.bool_)
    same_problem = np.arange(n)  # the first row of the same problem, which has what its mappings share
    for p, (problem, accelerator, mapping) in enumerate(rows):
        if p and rows[p - 1][0] is problem and rows[p - 1][1] is accelerator:
            same_problem[p] = same_problem[p - 1]
        else:
            _pack_problem(packed, p, problem, accelerator)
            for o, levels in enumerate(_chains(accelerator, problem.accumulated, problem.resident)[1]):
                for j, under in enumerate(levels):
                    below[p, o, j, list(under)] = True
        _pack_mapping(packed, p, problem, mapping, loop_limit, shares[p])
    for shared in (packed.chain, packed.ways, packed.scalars, packed.levels, below):
        shared[:] = shared[same_problem]
    packed.spatial[:] = np.where(below[..., None], shares[:, None, None], 1.0).prod(axis=3)
    above = np.where(below, 1.0, shares.prod(axis=2)[:, None, None]).prod(axis=3)
    packed.ways[:, layout.UNITS] = np.maximum(1.0, np.round(above))
    return packed


def _pack_mapping(
    packed: Packed, p: int, problem: Problem, mapping: SpatialMapping, loop_limit: int, shares: Floats
) -> None:
    """Fill in what depends on the spatial mapping: loops that are left, the `shares` (axes, d) unrolled."""
    sizes = sizes_of(problem.nest)
    temporal = mapping.temporal(sizes)
    factors = loop_factors(temporal, loop_limit)
    if len(factors) > layout.MAX_LOOPS:
        factors = loop_factors(temporal, layout.MAX_LOOPS)
    packed.loops[p] = len(factors)
    if factors:
        packed.order_dim[p, : len(factors)], packed.order_size[p, : len(factors)] = zip(*factors, strict=True)
    for axis, unrolled in enumerate(effective_factors(mapping, sizes, temporal)):
        for dim, share in unrolled:
            shares[axis, dim] *= share


def _pack_problem(packed: Packed, p: int, problem: Problem, chip: Accelerator) -> None:
    """Fill in what all spatial mappings of a problem share."""
    packed.chain[p, layout.HEADER, layout.ACCUMULATED] = _INDEX[problem.accumulated]
    packed.chain[p, layout.HEADER, layout.LEVEL_COUNT] = len(chip.memories)
    packed.levels[p] = chip_numbers(chip)
    chains, _ = _chains(chip, problem.accumulated, problem.resident)
    for o in range(3):
        packed.chain[p, layout.HEADER, o] = len(chains[o])
        packed.chain[p, o, : len(chains[o])] = chains[o]
    for o, stored in enumerate(problem.storage):
        packed.ways[p, layout.BITS, o, : len(chip.memories)] = [
            stored.compressed_bits if level.compressed else stored.bits for level in chip.memories
        ]
    stop = resident_level(chip)
    if stop is not None:
        packed.levels[p, stop, layout.RESERVED] = problem.reserved_bits
    packed.scalars[p] = scalars_of(problem, chip)


def scalars_of(problem: Problem, chip: Accelerator) -> tuple[float, ...]:
    """Return the kernel's row of scalars.

    Of the chip count its MACs, zero handling, pass overhead, and whether innermost memories are compressed.
    """
    nest = problem.nest
    work = mac_work(chip, problem)
    psum_bits = max(float(chip.mac.accumulator_bits), problem.storage[_INDEX[problem.accumulated]].bits)
    return (
        psum_bits,
        work.executed,
        work.cycles,
        work.energy_pj * nest.macs,
        nest.stride_y / gcd(nest.stride_y, nest.dilation_y),
        nest.stride_x / gcd(nest.stride_x, nest.dilation_x),
        nest.dilation_y / gcd(nest.stride_y, nest.dilation_y),
        nest.dilation_x / gcd(nest.stride_x, nest.dilation_x),
        max(nest.iy, 1),
        max(nest.ix, 1),
        chip.pass_overhead_cycles,
        next(o for o, operand in enumerate(OPERANDS) if slot(problem.accumulated, operand) == "W"),
        *_asked(problem, chip, work.executed),
    )


def _asked(problem: Problem, chip: Accelerator, executed: float) -> tuple[float, float, float]:
    """Return per operand the share of MACs for which the array reads its innermost memory.

    The words of a memory that keeps an operand compressed hold none of its zeros, so MACs that are skipped
    for those zeros are left out there already; only those that the other operand's zeros skip are not.
    """
    compressed = innermost_compressed(chip)
    shares = []
    for operand in OPERANDS:
        letter, density = slot(problem.accumulated, operand), problem.storage[_INDEX[operand]].density
        twice = letter in chip.zeros.skips and compressed[letter] and density > 0
        shares.append(executed / density if twice else executed)
    return shares[0], shares[1], shares[2]


def innermost_compressed(chip: Accelerator) -> dict[str, bool]:
    """Return for each operand's slot whether the memory beside the array keeps it compressed."""
    return {
        letter: next((level.compressed for level in chip.memories if letter in level.operands), False)
        for letter in "WIO"
    }


def effective_factors(
    mapping: SpatialMapping, sizes: tuple[int, ...], temporal: tuple[int, ...]
) -> list[list[tuple[int, float]]]:
    """Return per axis (dimension, factor) with factors that multiply up to size over rounds.

    A loop of 128 on 12 PEs takes 11 rounds, in which 11.6 PEs work on average: that average is what energy
    is counted with, on the last axis that unrolls the loop (ZigZag's greedy spatial mapping does the same).
    """
    left: list[float] = [size / rounds for size, rounds in zip(sizes, temporal, strict=True)]
    result: list[list[tuple[int, float]]] = []
    last = {name: index for index, axis in enumerate(mapping.axes) for name, _ in axis}
    for index, axis in enumerate(mapping.axes):
        factors = []
        for name, factor in axis:
            dim = LOOPS.index(name)
            share = left[dim] if last[name] == index else float(factor)
            left[dim] /= share
            factors.append((dim, share))
        result.append(factors)
    return result
