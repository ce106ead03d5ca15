"""Map problems on accelerators: all spatial mappings and loop orders of all rows searched in one call."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache

import numpy as np

from evaluators.cost import kernel, layout
from evaluators.cost.compiled import exclusive
from evaluators.cost.problem import OPERANDS, Floats, Packed, Problem, mac_work, pack
from evaluators.cost.report import Infeasible, LoopMapping
from evaluators.cost.spatial import (
    NEARLY_AS_FAST,
    SpatialMapping,
    candidates,
    halved_candidates,
    sizes_of,
    slot,
)
from hw_templates.accelerator import LOOPS, Accelerator

WIDE = 64  # spatial mappings that are tried where none of the fastest fits
NEARLY_AS_GOOD = 1.1  # a brief search misjudges a spatial mapping by about a tenth
_TIE = 1e-9  # relative: what counts as equal
_LEAST_PER_THREAD = 64  # fewer problems are not worth starting a thread for


class MappingObjective(Enum):
    """What decides among spatial mappings; loop orders are always searched for least energy."""

    ENERGY = "energy"
    LATENCY = "latency"
    EDP = "energy_delay_product"

    def of(self, energy_pj: Floats, cycles: Floats) -> Floats:
        """Return the objective of mappings; the other quantity decides between equals."""
        if self is MappingObjective.ENERGY:
            return energy_pj * (1 + _TIE * (1 - 1 / (1 + cycles)))
        if self is MappingObjective.LATENCY:
            return cycles * (1 + _TIE * (1 - 1 / (1 + energy_pj)))
        return energy_pj * cycles


@dataclass(frozen=True, kw_only=True, slots=True)
class Switches:
    """What cost models disagree on; the defaults are what this tool counts.

    `pin_holding`: an operand that the array reads again and again is read once, and held at the memory's
    output (ZigZag's `access_same_data_considered_as_no_access`).
    `read_back_first`: a partial sum is read back as often as it is written (ZigZag); otherwise the first
    visit finds nothing to read (Timeloop; Chen et al., ISCA 2016, Eq. 4).
    `halo_once`: input rows that neighbouring PEs share are read from the shared memory once; otherwise the
    tile of one PE is multiplied by a rounded number of tiles (ZigZag).
    `whole_pes`: where a loop does not fill its axis evenly, latency counts the data of the average number of
    active PEs, rounded down (ZigZag); otherwise of the average itself.
    `greedy_allocation`: memories take the longest prefixes of the order that fit (LOMA); otherwise those of
    least energy.
    """

    pin_holding: bool = True
    read_back_first: bool = False
    halo_once: bool = True
    whole_pes: bool = False
    greedy_allocation: bool = False

    def to_array(self) -> Floats:
        """Return the kernel's switch row."""
        flags = (
            self.pin_holding,
            self.read_back_first,
            self.halo_once,
            self.whole_pes,
            self.greedy_allocation,
        )
        return np.array(flags, dtype=np.float64)


ZIGZAG = Switches(
    pin_holding=True, read_back_first=True, halo_once=False, whole_pes=True, greedy_allocation=True
)
"""The switches with which ZigZag 3.9.1 counts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """How hard the mapper looks.

    The `spatial_mappings` with the fewest cycles compete with `screening` orders each; for the best of them,
    and up to `finalists` in all that are within a tenth of it, `orders` are evaluated, first with at most
    `coarse_factors` loops, then with at most `loop_factors`.
    """

    orders: int = 500
    screening: int = 30
    loop_factors: int = 12
    coarse_factors: int = 7
    spatial_mappings: int = 6
    finalists: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Mapped:
    """The best mapping found of one problem: its accesses and cycles.

    `reads` and `writes` are words by operand and memory level, in the order of `OPERANDS` and of the
    accelerator's memories.
    """

    problem: Problem
    spatial: SpatialMapping
    compute_cycles: float
    latency_cycles: float
    stall_cycles: float
    loading_cycles: float
    unloading_cycles: float
    executed_macs: float
    mac_energy_pj: float
    reads: tuple[tuple[float, ...], ...]
    writes: tuple[tuple[float, ...], ...]
    mapping: LoopMapping
    infeasible: Infeasible | None

    def energy_pj(self, accelerator: Accelerator) -> float:
        """Return the energy of all accesses and MACs, without leakage."""
        accesses = sum(
            reads * level.read_energy_pj + writes * level.write_energy_pj
            for o in range(len(OPERANDS))
            for level, reads, writes in zip(accelerator.memories, self.reads[o], self.writes[o], strict=True)
        )
        return self.mac_energy_pj + accesses

    def dram_bits(self, accelerator: Accelerator) -> float:
        """Return the bits that move to and from off-chip memory."""
        return sum(
            (self.reads[o][index] + self.writes[o][index]) * level.word_bits
            for o in range(len(OPERANDS))
            for index, level in enumerate(accelerator.memories)
            if level.kind.off_chip
        )


Row = tuple[Problem, Accelerator]
Option = tuple[Problem, Accelerator, SpatialMapping]


def map_all(
    rows: Sequence[Row],
    *,
    objective: MappingObjective = MappingObjective.ENERGY,
    effort: Effort | None = None,
    switches: Switches | None = None,
) -> list[Mapped]:
    """Return the best mapping found of every row; equal rows are searched once."""
    effort = effort or Effort()
    unique = list(dict.fromkeys(rows))
    options, owner = _promising(unique, objective, effort, switches or Switches())
    found = search(options, effort=effort, switches=switches or Switches())
    best = _best(objective.of(found.outcome[:, 0], found.outcome[:, 2]), owner, 1)
    mapped = {row: unpack(found, best[i][0], *options[best[i][0]]) for i, row in enumerate(unique)}
    return [mapped[row] for row in rows]


def _promising(
    unique: Sequence[Row], objective: MappingObjective, effort: Effort, switches: Switches
) -> tuple[list[Option], list[int]]:
    """Return rows with their most promising spatial mappings, and which row each option belongs to.

    Where none of the fastest fits the memories (an adder tree cannot add what belongs to different results,
    as filter rows do in an input gradient), slower ones are tried too.
    """
    chosen: dict[int, list[Option]] = {}
    for limit, slack in ((effort.spatial_mappings, NEARLY_AS_FAST), (WIDE, math.inf)):
        options: list[Option] = []
        owner: list[int] = []
        for index, (problem, chip) in enumerate(unique):
            if index in chosen:
                continue
            sizes = sizes_of(problem.nest)
            for mapping in halved_candidates(chip.axes, sizes, problem.accumulated, limit, slack):
                options.append((problem, chip, mapping))
                owner.append(index)
        if options:
            chosen |= _screened(options, owner, objective, effort, switches)
    for index, (problem, chip) in enumerate(unique):
        if index not in chosen:  # nothing fits: the search says which level is too small
            mapping = candidates(chip.axes, sizes_of(problem.nest), problem.accumulated, 1)[0]
            chosen[index] = [(problem, chip, mapping)]
    owned = [(option, index) for index in range(len(unique)) for option in chosen[index]]
    return [option for option, _ in owned], [index for _, index in owned]


def _screened(
    options: Sequence[Option],
    owner: Sequence[int],
    objective: MappingObjective,
    effort: Effort,
    switches: Switches,
) -> dict[int, list[Option]]:
    """Return the finalists of each owner that has an option that fits, after a search of little effort."""
    brief = replace(effort, orders=effort.screening, loop_factors=effort.coarse_factors)
    found = search(options, effort=brief, switches=switches)
    score = objective.of(found.outcome[:, 0], found.outcome[:, 2])
    kept = {}
    for index, ranked in _best(score, owner, effort.finalists).items():
        limit = score[ranked[0]] * NEARLY_AS_GOOD
        if score[ranked[0]] < math.inf:
            kept[index] = [options[option] for option in ranked if score[option] <= limit]
    return kept


def _best(score: Floats, owner: Sequence[int], count: int) -> dict[int, list[int]]:
    """Return for each owner the indices of its `count` lowest scores, the lowest first."""
    options: dict[int, list[int]] = {}
    for option, index in enumerate(owner):
        options.setdefault(index, []).append(option)
    return {index: sorted(own, key=lambda option: score[option])[:count] for index, own in options.items()}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Found:
    """The kernel's results.

    `outcome` (p, 8) holds energy, energy without MACs, cycles, the level that is too small or -1, and the
    parts of the cycles: compute, stalls, loading, unloading.
    """

    packed: Packed
    reads: Floats
    writes: Floats
    prefix: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    outcome: Floats


def search(
    options: Sequence[Option],
    *,
    effort: Effort,
    switches: Switches,
) -> Found:
    """Search the loop orders of every option in one call of the kernel."""
    return search_packed(pack(options, effort.loop_factors), effort=effort, switches=switches)


def search_packed(packed: Packed, *, effort: Effort, switches: Switches) -> Found:
    """Search the loop orders of packed rows in one call of the kernel; their orders become the best found."""
    found = nothing_found(packed)
    rows = len(packed.loops)
    if rows:
        compile_once()
        _in_threads(rows, lambda low, high: _run(packed, found, effort, switches, low, high))
    return found


def nothing_found(packed: Packed) -> Found:
    """Return room for the results of packed rows."""
    n = len(packed.loops)
    return Found(
        packed=packed,
        reads=np.zeros((n, 3, layout.MAX_LEVELS)),
        writes=np.zeros((n, 3, layout.MAX_LEVELS)),
        prefix=np.zeros((n, 3, layout.MAX_LEVELS), np.int64),
        outcome=np.zeros((n, 8)),
    )


def _run(
    packed: Packed,
    found: Found,
    effort: Effort,
    switches: Switches,
    low: int,
    high: int,
) -> None:
    """Search and then evaluate problems `low` to `high` of `packed`."""
    scratch = layout.new_scratch()
    flags = switches.to_array()
    kernel.search_range(
        low,
        high,
        packed.order_dim,
        packed.order_size,
        packed.loops,
        packed.chain,
        packed.ways,
        packed.spatial,
        packed.scalars,
        packed.levels,
        flags,
        effort.orders,
        effort.coarse_factors,
        scratch,
    )
    kernel.evaluate_range(
        low,
        high,
        packed.order_dim,
        packed.order_size,
        packed.loops,
        np.arange(len(packed.loops)),
        packed.chain,
        packed.ways,
        packed.spatial,
        packed.scalars,
        packed.levels,
        flags,
        scratch,
        found.reads,
        found.writes,
        found.prefix,
        found.outcome,
    )


@lru_cache(maxsize=1)
def compile_once() -> None:
    """Compile the kernels or load them from the cache; one process at a time, the others then load.

    Takes about twenty seconds after an installation and half a second later.
    """
    with exclusive():
        packed = pack([])
        found = nothing_found(packed)
        _run(packed, found, Effort(), Switches(), 0, 0)


def _in_threads(count: int, work: Callable[[int, int], None]) -> None:
    """Run `work` on parts of `range(count)`, one thread a core; compiled code holds no interpreter lock."""
    threads = min(thread_count(), -(-count // _LEAST_PER_THREAD))
    if threads <= 1:
        work(0, count)
        return
    bounds = np.linspace(0, count, threads * 4 + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, bounds[:-1], bounds[1:]))


def thread_count() -> int:
    """Return how many threads a call may use: `OMP_NUM_THREADS` where set, else the cores of this process."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) > 0 else len(os.sched_getaffinity(0))


def unpack(found: Found, p: int, problem: Problem, chip: Accelerator, spatial: SpatialMapping) -> Mapped:
    """Return option `p` of the kernel's results as a value."""
    packed = found.packed
    n_levels = len(chip.memories)
    loops = int(packed.loops[p])
    order = tuple((LOOPS[int(packed.order_dim[p, i])], int(packed.order_size[p, i])) for i in range(loops))
    work = mac_work(chip, problem)
    infeasible = None
    if found.outcome[p, 3] >= 0:
        infeasible = missing_room(chip, problem, int(found.outcome[p, 3]))
    compute = float(np.prod(packed.order_size[p, :loops])) * work.cycles * work.executed
    held = {
        operand.value: tuple(
            (chip.memories[int(packed.chain[p, o, j])].name, int(found.prefix[p, o, j]))
            for j in range(int(packed.chain[p, layout.HEADER, o]))
        )
        for o, operand in enumerate(OPERANDS)
    }
    return Mapped(
        problem=problem,
        spatial=spatial,
        compute_cycles=compute,
        latency_cycles=float(found.outcome[p, 2]),
        stall_cycles=float(found.outcome[p, 5]),
        loading_cycles=float(found.outcome[p, 6]),
        unloading_cycles=float(found.outcome[p, 7]),
        executed_macs=problem.nest.macs * work.executed,
        mac_energy_pj=float(packed.scalars[p, layout.MAC_PJ]),
        reads=tuple(tuple(map(float, row[:n_levels])) for row in found.reads[p]),
        writes=tuple(tuple(map(float, row[:n_levels])) for row in found.writes[p]),
        mapping=LoopMapping(spatial=spatial.axes, order=order, held=held),
        infeasible=infeasible,
    )


def missing_room(chip: Accelerator, problem: Problem, level: int) -> Infeasible:
    """Return the record of a level that cannot hold one element of each of its operands."""
    memory = chip.memories[level]
    demand = 0.0
    for index, operand in enumerate(OPERANDS):
        if slot(problem.accumulated, operand) in memory.operands:
            stored = problem.storage[index]
            bits = stored.compressed_bits if memory.compressed else stored.bits
            if operand is problem.accumulated:
                bits = max(bits, chip.mac.accumulator_bits)
            demand += bits
    return Infeasible(level=memory.name, demand_bits=demand, capacity_bits=memory.capacity_bits)
