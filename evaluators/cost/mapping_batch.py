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
from evaluators.cost.problem import Floats, Integers, Packed, Problem, pack, scalars_of
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
        return self._results(result, best[first], options.task[best[first]])

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
        table, tasks = self.table, self.tasks
        geometry, of_geometry = np.unique(options.geometry, return_inverse=True)
        geometries = pack([self.geometries.rows[number] for number in geometry], effort.loop_factors)
        chip, reserved = tasks.chip[options.task], tasks.reserved_bits[options.task]
        scalars, of_scalars = self._scalars(table.macs.of[chip], tasks.problem[options.task])
        alike = row_classes(_columns(of_geometry, of_scalars, table.level_classes.of[chip], reserved))
        energies = scalars.copy()
        energies[:, _BANDWIDTH_FREE] = 0.0
        distinct = alike.first
        sought = row_classes(
            _columns(
                of_geometry[distinct],
                row_classes(energies).of[of_scalars[distinct]],
                table.searched.of[chip[distinct]],
                reserved[distinct],
            )
        )
        packed = self._packed(
            geometries,
            of_geometry[distinct],
            scalars[of_scalars[distinct]],
            chip[distinct],
            reserved[distinct],
        )
        leaders = _rows(packed, sought.first)
        found = search_packed(leaders, effort=effort, switches=self.switches)
        if len(sought.first) < len(distinct):
            found = _evaluated(packed, found, sought.of, self.switches)
        else:
            found = _reordered(found, sought.of)
        score = self.objective.of(found.outcome[:, 0], found.outcome[:, 2])
        return _Searched(found=found, row=alike.of, score=score[alike.of])

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

    def _packed(
        self, geometries: Packed, row: Integers, scalars: Floats, chip: Integers, reserved: Floats
    ) -> Packed:
        levels = self.table.levels[chip]
        resident = self.table.resident[chip]
        homes = np.flatnonzero(resident >= 0)
        levels[homes, resident[homes], layout.RESERVED] = reserved[homes]
        return Packed(
            order_dim=geometries.order_dim[row],
            order_size=geometries.order_size[row],
            loops=geometries.loops[row],
            chain=geometries.chain[row],
            ways=geometries.ways[row],
            spatial=geometries.spatial[row],
            scalars=scalars,
            levels=levels,
        )

    def _results(self, result: _Searched, rows: Integers, task: Integers) -> MappedTasks:
        """Return the results of option `rows[i]` as those of task `i`; `task` is ascending and complete."""
        found, own = result.found, result.row[rows]
        packed = found.packed
        filled = np.arange(packed.order_size.shape[1]) < packed.loops[own, None]
        iterations = np.where(filled, packed.order_size[own], 1.0).prod(axis=1)
        scalars = packed.scalars[own]
        assert np.array_equal(task, np.arange(len(self.tasks.chip)))
        return MappedTasks(
            reads=found.reads[own],
            writes=found.writes[own],
            compute_cycles=iterations * scalars[:, layout.MAC_CYCLES] * scalars[:, layout.EXECUTED],
            latency_cycles=found.outcome[own, 2],
            mac_energy_pj=scalars[:, layout.MAC_PJ],
            too_small=found.outcome[own, 3].astype(np.int64),
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Searched:
    """Results of distinct rows; `row` (r,) is the distinct row of each option, `score` (r,) its objective."""

    found: Found
    row: Integers
    score: Floats


def _ranked(task: Integers, score: Floats) -> Integers:
    """Return the options task by task, the lowest score first, equal scores in their order."""
    return np.lexsort((np.arange(len(task)), score, task))


def _columns(*columns: Integers | Floats) -> Floats:
    return np.stack([column.astype(np.float64) for column in columns], axis=1)


def _rows(packed: Packed, rows: Integers) -> Packed:
    return Packed(
        order_dim=packed.order_dim[rows],
        order_size=packed.order_size[rows],
        loops=packed.loops[rows],
        chain=packed.chain[rows],
        ways=packed.ways[rows],
        spatial=packed.spatial[rows],
        scalars=packed.scalars[rows],
        levels=packed.levels[rows],
    )


def _evaluated(packed: Packed, leaders: Found, leader: Integers, switches: Switches) -> Found:
    """Return what the order of row `leader[i]` costs on row `i` of `packed`."""
    ordered = replace(
        packed,
        order_dim=leaders.packed.order_dim[leader],
        order_size=leaders.packed.order_size[leader],
        loops=leaders.packed.loops[leader],
    )
    found = nothing_found(ordered)
    rows = np.arange(len(leader))
    run(ordered, rows, ordered.order_dim, ordered.order_size, ordered.loops, found, switches)
    return found


def _reordered(found: Found, row: Integers) -> Found:
    """Return the results in another order of rows."""
    return Found(
        packed=_rows(found.packed, row),
        reads=found.reads[row],
        writes=found.writes[row],
        prefix=found.prefix[row],
        outcome=found.outcome[row],
    )
