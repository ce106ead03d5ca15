"""The contractions of one workload mapped on many chips: `mapper.map_all` on arrays, without a value a row.

Chips share much: the loops that a mapping leaves depend on the loops it unrolls, not on the chip around
them, and the search for the best order sees energies and capacities but no bandwidth, MAC or clock. So every
part is packed once, and every search is made once, whichever chips it is for; the results are those of
`map_all` to the last bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from evaluators.cost import layout
from evaluators.cost.chip_table import ChipTable, row_classes
from evaluators.cost.fixed import run
from evaluators.cost.mapper import (
    NEARLY_AS_GOOD,
    WIDE,
    Effort,
    Found,
    MappingObjective,
    Switches,
    nothing_found,
    search_packed,
)
from evaluators.cost.packing import Packed, pack, scalars_of
from evaluators.cost.problem import Floats, Integers, Problem
from evaluators.cost.spatial import NEARLY_AS_FAST, SpatialMapping, candidates, halved_candidates, sizes_of
from hw_templates.accelerator import Accelerator

_BANDWIDTH_FREE = (layout.MAC_CYCLES, layout.MAC_PJ, layout.PASS_CYCLES, layout.PASS_OPERAND)
"""Columns of the scalars that no search over loop orders looks at."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Tasks:
    """What is to be mapped: one contraction on one chip a task, `t` in all.

    Attributes:
        problems: distinct contractions, with nothing reserved.
        chip: `(t,)`, index into the chip table.
        problem: `(t,)`, index into `problems`.
        reserved_bits: `(t,)`, of the chip's resident level.
    """

    problems: tuple[Problem, ...]
    chip: Integers
    problem: Integers
    reserved_bits: Floats


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MappedTasks:
    """The best mapping found of every task, as arrays with the leading axis `t`.

    Attributes:
        reads, writes: `(t, o, m)`, words.
        latency_cycles: infinite where nothing fits.
        too_small: index of the level that is too small, or -1.
    """

    reads: Floats
    writes: Floats
    compute_cycles: Floats
    latency_cycles: Floats
    mac_energy_pj: Floats
    too_small: Integers


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Options:
    """Spatial mappings that compete for tasks, `r` rows: the task of each and its packed geometry."""

    task: Integers
    geometry: Integers

    def take(self, rows: Integers) -> _Options:
        return _Options(task=self.task[rows], geometry=self.geometry[rows])


@dataclass(kw_only=True, slots=True, eq=False)
class _Geometries:
    """Distinct (shape of chip, contraction, spatial mapping) triples, numbered as they are met."""

    numbers: dict[tuple[int, int, SpatialMapping], int] = field(default_factory=dict)
    rows: list[tuple[Problem, Accelerator, SpatialMapping]] = field(default_factory=list)

    def number(self, shape: int, problem: int, row: tuple[Problem, Accelerator, SpatialMapping]) -> int:
        key = (shape, problem, row[2])
        found = self.numbers.setdefault(key, len(self.rows))
        if found == len(self.rows):
            self.rows.append(row)
        return found


def map_tasks(
    table: ChipTable,
    tasks: Tasks,
    *,
    objective: MappingObjective = MappingObjective.ENERGY,
    effort: Effort | None = None,
    switches: Switches | None = None,
) -> MappedTasks:
    """Return the best mapping found of every task."""
    batch = _Batch(
        table=table,
        tasks=tasks,
        objective=objective,
        effort=effort or Effort(),
        switches=switches or Switches(),
    )
    return batch.map()


@dataclass(kw_only=True, slots=True, eq=False)
class _Batch:
    """One call's state: the geometries met so far."""

    table: ChipTable
    tasks: Tasks
    objective: MappingObjective
    effort: Effort
    switches: Switches
    geometries: _Geometries = field(default_factory=_Geometries)

    def map(self) -> MappedTasks:
        """Screen the options of every task and search for the finalists, as `mapper.map_all` does."""
        waiting = np.arange(len(self.tasks.chip))
        kept: list[_Options] = []
        for limit, slack in ((self.effort.spatial_mappings, NEARLY_AS_FAST), (WIDE, math.inf)):
            finalists = self._screened(self._options(waiting, limit, slack))
            kept.append(finalists)
            waiting = np.setdiff1d(waiting, finalists.task)
        kept.append(self._unfitting(waiting))
        options = _Options(
            task=np.concatenate([one.task for one in kept]),
            geometry=np.concatenate([one.geometry for one in kept]),
        )
        result = self._search(options, self.effort)
        best = _ranked(options.task, result.score)
        first = np.flatnonzero(np.diff(options.task[best], prepend=-1))
        return self._results(result, best[first])

    def _options(self, waiting: Integers, limit: int, slack: float) -> _Options:
        """Return the candidates of tasks; chips with equal arrays have the same ones."""
        chips, problems = self.tasks.chip[waiting], self.tasks.problem[waiting]
        key = self.table.arrays.of[chips] * len(self.tasks.problems) + problems
        _, first, group = np.unique(key, return_index=True, return_inverse=True)
        found = [self._candidates(int(chips[i]), int(problems[i]), limit, slack) for i in first]
        counts = np.array([len(one) for one in found], np.int64)
        flat = np.array([number for one in found for number in one], np.int64)
        starts = np.concatenate(([0], np.cumsum(counts)[:-1])) if len(counts) else counts
        own = counts[group]
        task = np.repeat(waiting, own)
        within = np.arange(len(task)) - np.repeat(np.cumsum(own) - own, own)
        return _Options(task=task, geometry=flat[np.repeat(starts[group], own) + within])

    def _candidates(self, chip: int, problem: int, limit: int, slack: float) -> list[int]:
        accelerator, task = self.table.chips[chip], self.tasks.problems[problem]
        mappings = halved_candidates(accelerator.axes, sizes_of(task.nest), task.accumulated, limit, slack)
        shape = int(self.table.shapes.of[chip])
        return [self.geometries.number(shape, problem, (task, accelerator, mapping)) for mapping in mappings]

    def _unfitting(self, waiting: Integers) -> _Options:
        """Return the fastest candidate of tasks that nothing fits: its search says what is too small."""
        numbers = []
        for task in waiting.tolist():
            chip, problem = int(self.tasks.chip[task]), int(self.tasks.problem[task])
            accelerator, contraction = self.table.chips[chip], self.tasks.problems[problem]
            mapping = candidates(accelerator.axes, sizes_of(contraction.nest), contraction.accumulated, 1)[0]
            row = (contraction, accelerator, mapping)
            numbers.append(self.geometries.number(int(self.table.shapes.of[chip]), problem, row))
        return _Options(task=waiting, geometry=np.array(numbers, np.int64))

    def _screened(self, options: _Options) -> _Options:
        """Return the finalists of each task that has an option that fits, the best first."""
        brief = replace(self.effort, orders=self.effort.screening, loop_factors=self.effort.coarse_factors)
        score = self._search(options, brief).score
        ranked = _ranked(options.task, score)
        task = options.task[ranked]
        begins = np.diff(task, prepend=-1) != 0
        group = np.cumsum(begins) - 1
        start = np.flatnonzero(begins)
        least = score[ranked[start]][group]
        rank = np.arange(len(ranked)) - start[group]
        good = score[ranked] <= least * NEARLY_AS_GOOD
        return options.take(ranked[(rank < self.effort.finalists) & (least < math.inf) & good])

    def _search(self, options: _Options, effort: Effort) -> _Searched:
        """Search the orders of options: once for all that are equal in what the search looks at."""
        table = self.table
        geometry, of_geometry = np.unique(options.geometry, return_inverse=True)
        chip, reserved = self.tasks.chip[options.task], self.tasks.reserved_bits[options.task]
        scalars, of_scalars = self._scalars(table.macs.of[chip], self.tasks.problem[options.task])
        rows = _Rows(
            geometries=pack([self.geometries.rows[number] for number in geometry]),
            geometry=of_geometry,
            scalars=scalars,
            scalar=of_scalars,
            chip=chip,
            reserved_bits=reserved,
        )
        alike = row_classes(_columns(of_geometry, of_scalars, table.level_classes.of[chip], reserved))
        energies = scalars.copy()
        energies[:, _BANDWIDTH_FREE] = 0.0
        seen = _columns(of_geometry, row_classes(energies).of[of_scalars], table.searched.of[chip], reserved)
        sought = row_classes(seen[alike.first])
        found = search_packed(
            rows.packed(alike.first[sought.first], table), effort=effort, switches=self.switches
        )
        # The others have a leader's order, and latency or MACs of their own.
        others = np.setdiff1d(np.arange(len(alike.first)), sought.first)
        packed = _ordered(rows.packed(alike.first[others], table), found.packed, sought.of[others])
        place = np.empty(len(alike.first), np.int64)
        place[sought.first] = np.arange(len(sought.first))
        place[others] = len(sought.first) + np.arange(len(others))
        parts = (found, _evaluated(packed, self.switches))
        outcome = np.concatenate([part.outcome for part in parts])
        row = place[alike.of]
        score = self.objective.of(outcome[:, 0], outcome[:, 2])[row]
        return _Searched(parts=parts, row=row, score=score)

    def _scalars(self, mac: Integers, problem: Integers) -> tuple[Floats, Integers]:
        """Return distinct rows of scalars, and the row of each pair of a class of MACs and a contraction."""
        count = len(self.tasks.problems)
        pairs, of_pair = np.unique(mac * count + problem, return_inverse=True)
        chips = self.table.macs.first
        rows = [
            scalars_of(self.tasks.problems[pair % count], self.table.chips[chips[pair // count]])
            for pair in pairs.tolist()
        ]
        return np.array(rows, np.float64).reshape(len(rows), layout.SCALARS), of_pair

    def _results(self, result: _Searched, rows: Integers) -> MappedTasks:
        """Return the results of option `rows[t]` as those of task `t`."""
        own = result.row[rows]
        reads, writes, outcome, order_size, loops, scalars = (
            np.concatenate(arrays)[own]
            for arrays in zip(*(_needed(part) for part in result.parts), strict=True)
        )
        filled = np.arange(order_size.shape[1]) < loops[:, None]
        iterations = np.where(filled, order_size, 1.0).prod(axis=1)
        return MappedTasks(
            reads=reads,
            writes=writes,
            compute_cycles=iterations * scalars[:, layout.MAC_CYCLES] * scalars[:, layout.EXECUTED],
            latency_cycles=outcome[:, 2],
            mac_energy_pj=scalars[:, layout.MAC_PJ],
            too_small=outcome[:, 3].astype(np.int64),
        )


def _needed(found: Found) -> tuple[Floats, Floats, Floats, Floats, Integers, Floats]:
    packed = found.packed
    return found.reads, found.writes, found.outcome, packed.order_size, packed.loops, packed.scalars


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Rows:
    """Options as indices into what they share; a row is packed where it is searched, and only there."""

    geometries: Packed
    geometry: Integers
    scalars: Floats
    scalar: Integers
    chip: Integers
    reserved_bits: Floats

    def packed(self, rows: Integers, table: ChipTable) -> Packed:
        """Return some rows as the kernel takes them."""
        geometry, chip = self.geometry[rows], self.chip[rows]
        levels = table.levels[chip]
        resident = table.resident[chip]
        homes = np.flatnonzero(resident >= 0)
        levels[homes, resident[homes], layout.RESERVED] = self.reserved_bits[rows][homes]
        return Packed(
            order_dim=self.geometries.order_dim[geometry],
            order_size=self.geometries.order_size[geometry],
            loops=self.geometries.loops[geometry],
            chain=self.geometries.chain[geometry],
            ways=self.geometries.ways[geometry],
            spatial=self.geometries.spatial[geometry],
            scalars=self.scalars[self.scalar[rows]],
            levels=levels,
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Searched:
    """Results of distinct rows, in parts; `row` (r,) and `score` (r,) are of each option."""

    parts: tuple[Found, Found]
    row: Integers
    score: Floats


def _ranked(task: Integers, score: Floats) -> Integers:
    """Return the options task by task, the lowest score first, equal scores in their order."""
    return np.lexsort((np.arange(len(task)), score, task))


def _columns(*columns: Integers | Floats) -> Floats:
    return np.stack([column.astype(np.float64) for column in columns], axis=1)


def _ordered(packed: Packed, leaders: Packed, leader: Integers) -> Packed:
    """Return rows with the orders of their leaders."""
    return replace(
        packed,
        order_dim=leaders.order_dim[leader],
        order_size=leaders.order_size[leader],
        loops=leaders.loops[leader],
    )


def _evaluated(packed: Packed, switches: Switches) -> Found:
    """Return what rows cost with the orders that they have."""
    found = nothing_found(packed)
    if len(packed.loops):
        rows = np.arange(len(packed.loops))
        run(packed, rows, packed.order_dim, packed.order_size, packed.loops, found, switches)
    return found
