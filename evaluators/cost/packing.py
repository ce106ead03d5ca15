"""Pack (contraction, accelerator, spatial mapping) into the arrays of `evaluators.cost.kernel`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from math import gcd

import numpy as np

from evaluators.cost import layout
from evaluators.cost.problem import (
    INDEX,
    OPERANDS,
    Booleans,
    Floats,
    Integers,
    Problem,
    innermost_compressed,
    loop_factors,
    mac_work,
    resident_level,
)
from evaluators.cost.spatial import PLACE, SpatialMapping, sizes_of, slot
from evaluators.workload.graph import Operand
from hw_templates.accelerator import Accelerator, HardwareError, MemoryLevel, Ports


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


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Wiring:
    """What all contractions share whose operands take the same ways through a chip.

    Attributes:
        chain: `(4, m)`, see `layout.Row`.
        below: `(o, m, a)`, whether an axis is below a memory of an operand's chain.
        compressed: `(m,)`, whether a level keeps operands compressed.
        levels: `(m, columns)`.
        resident: index of the level where tensors may stay, or -1.
    """

    chain: Integers
    below: Booleans
    compressed: Booleans
    levels: Floats
    resident: int


@lru_cache(maxsize=4096)
def _wiring(accelerator: Accelerator, accumulated: Operand, resident: tuple[bool, bool, bool]) -> _Wiring:
    """Return how the operands of a pass reach the array, those that are resident from their level."""
    stop = resident_level(accelerator)
    chain = np.zeros((4, layout.MAX_LEVELS), np.int64)
    below = np.zeros((3, layout.MAX_LEVELS, len(accelerator.axes)), np.bool_)
    compressed = np.zeros(layout.MAX_LEVELS, np.bool_)
    numbers = chip_numbers(accelerator)
    compressed[: len(accelerator.memories)] = [level.compressed for level in accelerator.memories]
    chain[layout.HEADER, layout.ACCUMULATED] = INDEX[accumulated]
    chain[layout.HEADER, layout.LEVEL_COUNT] = len(accelerator.memories)
    for o, operand in enumerate(OPERANDS):
        letter = slot(accumulated, operand)
        levels = [i for i, level in enumerate(accelerator.memories) if letter in level.operands]
        if resident[o] and stop is not None:
            levels = [i for i in levels if i <= stop]
        chain[layout.HEADER, o] = len(levels)
        chain[o, : len(levels)] = levels
        seen: set[str] = set()
        for position, index in enumerate(levels):
            seen |= set(accelerator.memories[index].shared_over)
            if position == len(levels) - 1:
                seen |= {axis.name for axis in accelerator.axes}
            below[o, position] = [axis.name in seen for axis in accelerator.axes]
    return _Wiring(
        chain=chain,
        below=below,
        compressed=compressed,
        levels=numbers,
        resident=-1 if stop is None else stop,
    )


Option = tuple[Problem, Accelerator, SpatialMapping]


def pack(rows: Sequence[Option], loop_limit: int = layout.MAX_LOOPS) -> Packed:
    """Return the arrays for `rows`, with every loop order in its unsearched, canonical state."""
    heads: list[tuple[Problem, Accelerator]] = []  # of neighbours with the same problem: they share most
    head = []
    for problem, accelerator, _ in rows:
        if not heads or heads[-1][0] is not problem or heads[-1][1] is not accelerator:
            heads.append((problem, accelerator))
        head.append(len(heads) - 1)
    own = np.array(head, np.int64)
    wirings, ways, scalars, levels, of_wiring = _pack_problems(heads)
    axes = max((one.below.shape[2] for one in wirings), default=1)
    below = np.zeros((len(wirings), 3, layout.MAX_LEVELS, axes), np.bool_)
    for number, one in enumerate(wirings):
        below[number, :, :, : one.below.shape[2]] = one.below
    order_dim, order_size, loops, shares = _pack_mappings(rows, axes, loop_limit)
    under = below[of_wiring[own]]
    spatial = np.where(under[..., None], shares[:, None, None], 1.0).prod(axis=3)
    above = np.where(under, 1.0, shares.prod(axis=2)[:, None, None]).prod(axis=3)
    ways = ways[own]
    ways[:, layout.UNITS] = np.maximum(1.0, np.round(above))
    chain = np.array([one.chain for one in wirings], np.int64).reshape(len(wirings), 4, layout.MAX_LEVELS)
    return Packed(
        order_dim=order_dim,
        order_size=order_size,
        loops=loops,
        chain=chain[of_wiring[own]],
        ways=ways,
        spatial=spatial,
        scalars=scalars[own],
        levels=levels[own],
    )


def _pack_problems(
    problems: Sequence[tuple[Problem, Accelerator]],
) -> tuple[list[_Wiring], Floats, Floats, Floats, Integers]:
    """Return what all spatial mappings of a problem share.

    That is the distinct wirings, and of every problem `ways`, `scalars`, `levels` and which wiring it has.
    """
    n = len(problems)
    numbers: dict[int, int] = {}
    wirings: list[_Wiring] = []
    of_wiring = np.zeros(n, np.int64)
    bits, levels = np.zeros((n, 2, 3, 1)), np.zeros((n, layout.MAX_LEVELS, layout.LEVEL_COLUMNS))
    scalars = []
    for p, (problem, chip) in enumerate(problems):
        wiring = _wiring(chip, problem.accumulated, problem.resident)
        of_wiring[p] = numbers.setdefault(id(wiring), len(wirings))
        if of_wiring[p] == len(wirings):
            wirings.append(wiring)
        levels[p] = wiring.levels
        if wiring.resident >= 0:
            levels[p, wiring.resident, layout.RESERVED] = problem.reserved_bits
        for o, stored in enumerate(problem.storage):
            bits[p, :, o, 0] = stored.bits, stored.compressed_bits
        scalars.append(scalars_of(problem, chip))
    compressed = np.array([one.compressed for one in wirings], np.bool_).reshape(-1, layout.MAX_LEVELS)
    ways = np.ones((n, 2, 3, layout.MAX_LEVELS))
    ways[:, layout.BITS] = np.where(compressed[of_wiring][:, None], bits[:, 1], bits[:, 0])
    rows = np.array(scalars, np.float64).reshape(n, layout.SCALARS)
    return wirings, ways, rows, levels, of_wiring


def _pack_mappings(
    rows: Sequence[Option], axes: int, loop_limit: int
) -> tuple[Integers, Floats, Integers, Floats]:
    """Return what depends on the spatial mapping.

    That is the loops that are left (dimensions, sizes, how many), and the `shares` (rows, axes, d) unrolled.
    """
    n = len(rows)
    found: list[tuple[int, float]] = []
    counts, cells, parts = [], [], []
    for p, (problem, _, mapping) in enumerate(rows):
        sizes = sizes_of(problem.nest)
        temporal = mapping.temporal(sizes)
        factors = loop_factors(temporal, loop_limit)
        if len(factors) > layout.MAX_LOOPS:
            factors = loop_factors(temporal, layout.MAX_LOOPS)
        counts.append(len(factors))
        found += factors
        for axis, unrolled in enumerate(effective_factors(mapping, sizes, temporal)):
            for dim, share in unrolled:
                cells.append((p * axes + axis) * layout.DIMS + dim)
                parts.append(share)
    shares = np.ones(n * axes * layout.DIMS)
    np.multiply.at(shares, np.array(cells, np.int64), np.array(parts, np.float64))
    loops = np.array(counts, np.int64)
    filled = np.arange(layout.MAX_LOOPS) < loops[:, None]
    order_dim, order_size = np.zeros(filled.shape, np.int64), np.ones(filled.shape)
    if found:
        order_dim[filled], order_size[filled] = np.array(found, np.float64).T
    return order_dim, order_size, loops, shares.reshape(n, axes, layout.DIMS)


def scalars_of(problem: Problem, chip: Accelerator) -> tuple[float, ...]:
    """Return the kernel's row of scalars.

    Of the chip count its MACs, zero handling, pass overhead, and whether innermost memories are compressed.
    """
    nest = problem.nest
    work = mac_work(chip, problem)
    psum_bits = max(float(chip.mac.accumulator_bits), problem.storage[INDEX[problem.accumulated]].bits)
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
    if not chip.zeros.skips:
        return executed, executed, executed
    compressed = innermost_compressed(chip)
    shares = []
    for operand in OPERANDS:
        letter, density = slot(problem.accumulated, operand), problem.storage[INDEX[operand]].density
        twice = letter in chip.zeros.skips and compressed[letter] and density > 0
        shares.append(executed / density if twice else executed)
    return shares[0], shares[1], shares[2]


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
            dim = PLACE[name]
            share = left[dim] if last[name] == index else float(factor)
            left[dim] /= share
            factors.append((dim, share))
        result.append(factors)
    return result
