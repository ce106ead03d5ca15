"""Map problems on accelerators: all spatial mappings and loop orders of all rows searched in one call."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum

import numpy as np

from evaluators.cost import kernel, layout
from evaluators.cost.problem import OPERANDS, Floats, Packed, Problem, mac_work, pack
from evaluators.cost.report import Infeasible, LoopMapping
from evaluators.cost.spatial import SpatialMapping, candidates, sizes_of, slot
from hw_templates.accelerator import LOOPS, Accelerator

_LEAST_PER_THREAD = 64  # fewer problems are not worth starting a thread for


class MappingObjective(Enum):
    """What the search over mappings minimises."""

    ENERGY = kernel.ENERGY
    LATENCY = kernel.LATENCY
    EDP = kernel.EDP


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

    `orders` are evaluated per spatial mapping, first with at most `coarse_factors` loops, then with at most
    `loop_factors`; the `spatial_mappings` with the fewest cycles compete.
    """

    orders: int = 800
    loop_factors: int = 14
    coarse_factors: int = 7
    spatial_mappings: int = 3


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
    unique = list(dict.fromkeys(rows))
    options: list[tuple[Problem, Accelerator, SpatialMapping]] = []
    owner: list[int] = []
    for index, (problem, chip) in enumerate(unique):
        for mapping in candidates(
            chip.axes, sizes_of(problem.nest), problem.accumulated, effort.spatial_mappings
        ):
            options.append((problem, chip, mapping))
            owner.append(index)
    found = search(options, objective=objective, effort=effort, switches=switches or Switches())
    best: dict[int, int] = {}
    for option, index in enumerate(owner):
        if index not in best or found.outcome[option, 0] < found.outcome[best[index], 0]:
            best[index] = option
    mapped = {unique[i]: unpack(found, option, *options[option]) for i, option in best.items()}
    return [mapped[row] for row in rows]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Found:
    """The kernel's results.

    `outcome` (p, 8) holds score, memory energy, cycles, the level that is too small or -1, and the parts of
    the cycles: compute, stalls, loading, unloading.
    """

    packed: Packed
    reads: Floats
    writes: Floats
    prefix: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    outcome: Floats


def search(
    options: Sequence[tuple[Problem, Accelerator, SpatialMapping]],
    *,
    objective: MappingObjective,
    effort: Effort,
    switches: Switches,
) -> Found:
    """Search the loop orders of every option in one call of the kernel."""
    packed = pack(options, effort.loop_factors)
    n = len(options)
    found = Found(
        packed=packed,
        reads=np.zeros((n, 3, layout.MAX_LEVELS)),
        writes=np.zeros((n, 3, layout.MAX_LEVELS)),
        prefix=np.zeros((n, 3, layout.MAX_LEVELS), np.int64),
        outcome=np.zeros((n, 8)),
    )
    _in_threads(
        n,
        lambda low, high: kernel.search_range(
            low,
            high,
            packed.order_dim,
            packed.order_size,
            packed.loops,
            *packed.problem_arrays(),
            switches.to_array(),
            objective.value,
            effort.orders,
            effort.coarse_factors,
            found.reads,
            found.writes,
            found.prefix,
            found.outcome,
        ),
    )
    return found


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
        infeasible = _infeasible(chip, problem, int(found.outcome[p, 3]))
    compute = float(np.prod(packed.order_size[p, :loops])) * work.cycles * work.executed
    held = {
        operand.value: tuple(
            (chip.memories[int(packed.chain[p, o, j])].name, int(found.prefix[p, o, j]))
            for j in range(int(packed.chain_length[p, o]))
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
        mac_energy_pj=float(packed.scalars[p, 3]),
        reads=tuple(tuple(map(float, row[:n_levels])) for row in found.reads[p]),
        writes=tuple(tuple(map(float, row[:n_levels])) for row in found.writes[p]),
        mapping=LoopMapping(spatial=spatial.axes, order=order, held=held),
        infeasible=infeasible,
    )


def _infeasible(chip: Accelerator, problem: Problem, level: int) -> Infeasible:
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
