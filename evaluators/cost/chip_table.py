"""Many chips as arrays: what mapping and costing read of each, with equal parts numbered alike."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from evaluators.cost import layout
from evaluators.cost.packing import chip_numbers, level_numbers
from evaluators.cost.problem import Floats, Integers, innermost_compressed, resident_level
from hw_templates.accelerator import Accelerator, MemoryLevel

LATENCY_ONLY = (layout.READ_CYCLES, layout.WRITE_CYCLES, layout.ONE_PORT)
"""Columns of a level that no search over loop orders looks at: orders are searched for least energy."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Classes:
    """Equal things numbered alike: `of` (n,) is the number of each, `first` (k,) where each number begins."""

    of: Integers
    first: Integers


def classes_of(keys: Iterable[Hashable]) -> Classes:
    """Return the classes of `keys`, numbered in the order in which they appear."""
    numbers: dict[Hashable, int] = {}
    first: list[int] = []
    found: list[int] = []
    for position, key in enumerate(keys):
        number = numbers.setdefault(key, len(numbers))
        if number == len(first):
            first.append(position)
        found.append(number)
    return Classes(of=np.array(found, np.int64), first=np.array(first, np.int64))


def row_classes(rows: Floats) -> Classes:
    """Return the classes of the rows (n, k) of an array, bit by bit."""
    packed = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1])))
    _, first, of = np.unique(packed.ravel(), return_index=True, return_inverse=True)
    return Classes(of=of.reshape(-1).astype(np.int64), first=first.astype(np.int64))


CHIPS_AT_ONCE = 2048
"""Chips in one table: its rows in the search take some tens of kilobytes a chip."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ChipTable:
    """`n` chips as arrays, and the classes of chips that share a part.

    Attributes:
        levels: `(n, m, columns)`, the kernel's rows of their memories.
        level_classes: equal rows.
        searched: rows that are equal but for `LATENCY_ONLY`.
        shapes: equal memories' wiring; what a packed spatial mapping depends on, beside the mapping.
        arrays: equal axes and wiring.
        macs: equal MACs, zero handling and pass overhead.
        homes: equal room in equal resident levels: the same tensors stay on chip.
        resident: `(n,)`, index of the resident level or -1.
        off_chip: `(n, m)`, whether a level is off chip.
        clock_hz, leakage_mw: `(n,)`.
    """

    chips: tuple[Accelerator, ...]
    levels: Floats
    level_classes: Classes
    searched: Classes
    shapes: Classes
    arrays: Classes
    macs: Classes
    homes: Classes
    resident: Integers
    off_chip: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
    clock_hz: Floats
    leakage_mw: Floats


def chip_table(chips: Sequence[Accelerator]) -> ChipTable:
    """Return `chips` as arrays.

    Raises:
        HardwareError: a chip has more memories than the kernel takes.
    """
    n = len(chips)
    levels = np.zeros((n, layout.MAX_LEVELS, layout.LEVEL_COLUMNS))
    off_chip = np.zeros((n, layout.MAX_LEVELS), np.bool_)
    for index, chip in enumerate(chips):
        levels[index] = chip_numbers(chip)
        off_chip[index, : len(chip.memories)] = [level.kind.off_chip for level in chip.memories]
    energies = levels.copy()
    energies[:, :, LATENCY_ONLY] = 0.0
    resident = [resident_level(chip) for chip in chips]
    shapes = classes_of(map(_shape, chips))
    return ChipTable(
        chips=tuple(chips),
        levels=levels,
        level_classes=row_classes(levels.reshape(n, layout.MAX_LEVELS * layout.LEVEL_COLUMNS)),
        searched=row_classes(energies.reshape(n, layout.MAX_LEVELS * layout.LEVEL_COLUMNS)),
        shapes=shapes,
        arrays=classes_of((chip.axes, shape) for chip, shape in zip(chips, shapes.of.tolist(), strict=True)),
        macs=classes_of(
            (chip.mac, chip.zeros, chip.pass_overhead_cycles, tuple(innermost_compressed(chip).items()))
            for chip in chips
        ),
        homes=classes_of(
            None if level is None else (level, *_room(chip.memories[level]))
            for chip, level in zip(chips, resident, strict=True)
        ),
        resident=np.array([-1 if level is None else level for level in resident], np.int64),
        off_chip=off_chip,
        clock_hz=np.array([chip.clock_hz for chip in chips]),
        leakage_mw=np.array([chip.leakage_mw for chip in chips]),
    )


def chip_tables(
    chips: Sequence[Accelerator], at_once: int = CHIPS_AT_ONCE
) -> tuple[tuple[Integers, ChipTable], ...]:
    """Return `chips` in tables of at most `at_once`, each with the indices of its chips.

    Chips with the same memories stand together, for they share most.
    """
    order = sorted(range(len(chips)), key=lambda index: [level_numbers(m) for m in chips[index].memories])
    parts = [order[start : start + at_once] for start in range(0, len(chips), at_once)]
    return tuple((np.array(part, np.int64), chip_table([chips[index] for index in part])) for part in parts)


def _shape(chip: Accelerator) -> Hashable:
    """Return how operands reach the array: the axes less their sizes, and which memories hold what where."""
    return (
        tuple(axis.name for axis in chip.axes),
        tuple((level.operands, level.shared_over, level.compressed) for level in chip.memories),
        resident_level(chip),
    )


def _room(level: MemoryLevel) -> tuple[int, float, bool]:
    """Return what decides which tensors stay in a level."""
    return level.capacity_bits, level.resident_fraction, level.compressed
