"""Map problems on accelerators: all spatial mappings and loop orders of all rows searched in one call."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from evaluators.cost import kernel, layout
from evaluators.cost.compiled import exclusive
from evaluators.cost.packing import Option, Packed, join, pack
from evaluators.cost.problem import OPERANDS, Floats, Problem
from evaluators.cost.report import Infeasible, LoopMapping
from evaluators.cost.settings import ZIGZAG, Effort, MappingObjective, Switches
from evaluators.cost.spatial import (
    NEARLY_AS_FAST,
    SpatialMapping,
    candidates,
    halved_candidates,
    sizes_of,
    slot,
)
from hw_templates.accelerator import LOOPS, Accelerator

__all__ = ["ZIGZAG", "Effort", "Mapped", "MappingObjective", "Switches", "map_all", "search"]

WIDE = 64  # spatial mappings that are tried where none of the fastest fits
NEARLY_AS_GOOD = 1.1  # a brief search misjudges a spatial mapping by about a tenth
_LEAST_PER_THREAD = 64  # fewer problems are not worth starting a thread for


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


def map_all(
    rows: Sequence[Row],
    *,
    objective: MappingObjective = MappingObjective.ENERGY,
    effort: Effort | None = None,
    switches: Switches | None = None,
) -> list[Mapped]:
    """Return the best mapping found of every row; equal rows are searched once."""
    effort = effort or Effort()
    numbers: dict[Row, int] = {}
    which = [numbers.setdefault(row, len(numbers)) for row in rows]
    unique = list(numbers)
    options, owner, packed = _promising(unique, objective, effort, switches or Switches())
    found = search_packed(packed, effort=effort, switches=switches or Switches())
    best = _best(objective.of(found.outcome[:, 0], found.outcome[:, 2]), owner, 1)
    mapped = [unpack(found, best[i][0], *options[best[i][0]]) for i in range(len(unique))]
    return [mapped[i] for i in which]


def _promising(
    unique: Sequence[Row], objective: MappingObjective, effort: Effort, switches: Switches
) -> tuple[list[Option], list[int], Packed]:
    """Return rows with their most promising spatial mappings, which row each belongs to, and all packed.

    Where none of the fastest fits the memories (an adder tree cannot add what belongs to different results,
    as filter rows do in an input gradient), slower ones are tried too.
    """
    chosen: list[Option] = []
    owner: list[int] = []
    parts: list[Packed] = []
    left = list(range(len(unique)))
    for limit, slack in ((effort.spatial_mappings, NEARLY_AS_FAST), (WIDE, math.inf)):
        options: list[Option] = []
        owners: list[int] = []
        for index in left:
            problem, chip = unique[index]
            sizes = sizes_of(problem.nest)
            for mapping in halved_candidates(chip.axes, sizes, problem.accumulated, limit, slack):
                options.append((problem, chip, mapping))
                owners.append(index)
        if options:
            packed = pack(options)
            kept = _screened(packed, owners, objective, effort, switches)
            chosen += [options[option] for option in kept]
            owner += [owners[option] for option in kept]
            parts.append(packed.select(kept))
            left = sorted(set(left) - set(owner))
    if left:  # nothing fits: the search says which level is too small
        options = []
        for index in left:
            problem, chip = unique[index]
            (mapping,) = candidates(chip.axes, sizes_of(problem.nest), problem.accumulated, 1)
            options.append((problem, chip, mapping))
        chosen += options
        owner += left
        parts.append(pack(options))
    return chosen, owner, join(parts)


def _screened(
    packed: Packed,
    owner: Sequence[int],
    objective: MappingObjective,
    effort: Effort,
    switches: Switches,
) -> list[int]:
    """Return the finalists of each owner that has an option that fits, after a search of little effort."""
    brief = replace(effort, orders=effort.screening, loop_factors=effort.coarse_factors)
    copied = replace(packed, order_dim=packed.order_dim.copy(), order_size=packed.order_size.copy())
    found = search_packed(replace(copied, loops=packed.loops.copy()), effort=brief, switches=switches)
    score = objective.of(found.outcome[:, 0], found.outcome[:, 2])
    kept = []
    for ranked in _best(score, owner, effort.finalists).values():
        limit = score[ranked[0]] * NEARLY_AS_GOOD
        if score[ranked[0]] < math.inf:
            kept += [option for option in ranked if score[option] <= limit]
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
    return search_packed(pack(options), effort=effort, switches=switches)


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
        effort.loop_factors,
        scratch,
    )
    kernel.evaluate_range(
        low,
        high,
        packed.order_dim,
        packed.order_size,
        packed.loops,
        np.arange(len(packed.loops)),
        False,
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

    Takes 25 to 35 seconds after an installation and half a second later.
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
    sizes = packed.order_size[p, :loops].tolist()
    order = tuple(
        (LOOPS[dim], int(size)) for dim, size in zip(packed.order_dim[p, :loops].tolist(), sizes, strict=True)
    )
    outcome = found.outcome[p].tolist()
    scalars = packed.scalars[p].tolist()
    infeasible = None
    if outcome[3] >= 0:
        infeasible = missing_room(chip, problem, int(outcome[3]))
    names = [memory.name for memory in chip.memories]
    chain, prefix = packed.chain[p].tolist(), found.prefix[p].tolist()
    held = {
        operand.value: tuple((names[chain[o][j]], prefix[o][j]) for j in range(chain[layout.HEADER][o]))
        for o, operand in enumerate(OPERANDS)
    }
    return Mapped(
        problem=problem,
        spatial=spatial,
        compute_cycles=math.prod(sizes) * scalars[layout.MAC_CYCLES] * scalars[layout.EXECUTED],
        latency_cycles=outcome[2],
        stall_cycles=outcome[5],
        loading_cycles=outcome[6],
        unloading_cycles=outcome[7],
        executed_macs=problem.nest.macs * scalars[layout.EXECUTED],
        mac_energy_pj=scalars[layout.MAC_PJ],
        reads=tuple(map(tuple, found.reads[p, :, :n_levels].tolist())),
        writes=tuple(map(tuple, found.writes[p, :, :n_levels].tolist())),
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
