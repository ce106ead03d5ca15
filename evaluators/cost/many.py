"""`table_totals`: a workload on many chips, in totals. What `model.cost` sums up, without a ledger a row.

A search over chips reads a handful of totals of each; the ledgers behind them take longer to write than to
compute. Sums run over the same terms in the same order as a report's, so they are equal to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf

import numpy as np

from evaluators.cost import layout
from evaluators.cost.chip_table import ChipTable, Classes, classes_of
from evaluators.cost.mapper import missing_room
from evaluators.cost.mapping_batch import MappedTasks, Tasks, map_tasks
from evaluators.cost.memory_bound import buffer_of, memory_bound_rows
from evaluators.cost.model import problems_of
from evaluators.cost.problem import OPERANDS, Floats, Problem
from evaluators.cost.report import Infeasible, total
from evaluators.cost.residency import Residency, plan_residency
from evaluators.cost.special import Traffic, contraction_work, memory_bound_work, with_special_units
from evaluators.workload.graph import Op, Workload
from hw_templates.units import cycles_to_seconds, leakage_pj


@dataclass(frozen=True, kw_only=True, slots=True)
class Lack:
    """An op that no mapping fits, and the memory that is too small for it."""

    op: str
    room: Infeasible


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Totals:
    """What a workload costs on each of `n` chips; `CostReport` says what each total is.

    Attributes:
        lacks: by chip, ops that no mapping fits; energy and latency are infinite there.
    """

    energy_pj: Floats
    contraction_energy_pj: Floats
    latency_s: Floats
    dram_bits: Floats
    macs: int
    lacks: tuple[tuple[Lack, ...], ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _OpCost:
    """One op on each of `n` chips, without leakage."""

    energy_pj: Floats
    compute_cycles: Floats
    stall_cycles: Floats
    dram_bits: Floats

    @property
    def cycles(self) -> Floats:
        return self.compute_cycles + self.stall_cycles


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Residence:
    """Which tensors stay on chip: a plan for each class of chips that plan alike."""

    plans: tuple[Residency, ...]
    classes: Classes

    def plan(self, chip: int) -> Residency:
        return self.plans[int(self.classes.of[chip])]


def table_totals(workload: Workload, table: ChipTable) -> Totals:
    """Return what `workload` costs on each chip of a table, in its order."""
    chips = table.chips
    homes = _Residence(
        plans=tuple(plan_residency(workload, chips[first]) for first in table.homes.first),
        classes=table.homes,
    )
    tasks = _tasks(workload, table, homes)
    mapped = map_tasks(table, tasks)
    energy, contractions, cycles, dram = (np.zeros(len(chips)) for _ in range(4))
    lacks: list[list[Lack]] = [[] for _ in chips]
    others = _memory_bound(workload, table, homes)
    done = 0
    for op in workload.ops:
        if op.contraction is None:
            cost = next(others)
        else:
            own = slice(done, done + len(chips))
            cost = _with_units(_contraction(table, mapped, own), op, workload, table, mapped, own)
            _note(lacks, op, table, tasks, mapped, own)
            done += len(chips)
        row = cost.energy_pj + _leakage_pj(table, cost.cycles)
        energy += row
        contractions += row if op.contraction is not None else 0.0
        cycles += cost.cycles
        dram += cost.dram_bits
    return Totals(
        energy_pj=energy,
        contraction_energy_pj=contractions,
        latency_s=cycles_to_seconds(cycles, table.clock_hz),
        dram_bits=dram,
        macs=sum(op.contraction.nest.macs for op in workload.ops if op.contraction is not None),
        lacks=tuple(tuple(own) for own in lacks),
    )


def _tasks(workload: Workload, table: ChipTable, homes: _Residence) -> Tasks:
    """Return every contraction on every chip: contraction by contraction, of each all chips in order."""
    problems: dict[Problem, int] = {}
    numbers, reserved = [], []
    by_plan = (
        problems_of(workload, table.chips[first], plan)
        for plan, first in zip(homes.plans, homes.classes.first.tolist(), strict=True)
    )
    for together in zip(*by_plan, strict=True):
        of_plan, reserved_of_plan = [], []
        for problem in together:
            of_plan.append(problems.setdefault(replace(problem, reserved_bits=0), len(problems)))
            reserved_of_plan.append(problem.reserved_bits)
        numbers.append(np.array(of_plan, np.int64)[homes.classes.of])
        reserved.append(np.array(reserved_of_plan, np.float64)[homes.classes.of])
    n = len(table.chips)
    return Tasks(
        problems=tuple(problems),
        chip=np.tile(np.arange(n), len(numbers)),
        problem=np.concatenate([np.zeros(0, np.int64), *numbers]),
        reserved_bits=np.concatenate([np.zeros(0), *reserved]),
    )


def _contraction(table: ChipTable, mapped: MappedTasks, own: slice) -> _OpCost:
    """Return one contraction on every chip: accesses level by level, operand by operand, then the MACs."""
    energy, dram = np.zeros(len(table.chips)), np.zeros(len(table.chips))
    reads, writes = mapped.reads[own], mapped.writes[own]
    for m in range(layout.MAX_LEVELS):
        level = np.zeros(len(table.chips))
        for o in range(len(OPERANDS)):
            level += (
                reads[:, o, m] * table.levels[:, m, layout.READ_PJ]
                + writes[:, o, m] * table.levels[:, m, layout.WRITE_PJ]
            )
            words = reads[:, o, m] + writes[:, o, m]
            dram += np.where(table.off_chip[:, m], words * table.levels[:, m, layout.WORD], 0.0)
        energy += level
    energy += mapped.mac_energy_pj[own]
    fits = mapped.too_small[own] < 0
    compute = mapped.compute_cycles[own]
    stall = np.maximum(0.0, np.where(fits, mapped.latency_cycles[own], inf) - compute)
    return _OpCost(
        energy_pj=np.where(fits, energy, inf), compute_cycles=compute, stall_cycles=stall, dram_bits=dram
    )


def _with_units(
    cost: _OpCost, op: Op, workload: Workload, table: ChipTable, mapped: MappedTasks, own: slice
) -> _OpCost:
    """Return the cost of a contraction with what the special units of some chips take."""
    with_units = [
        index
        for index, chip in enumerate(table.chips)
        if chip.special_units and mapped.too_small[own.start + index] < 0
    ]
    if not with_units:
        return cost
    assert op.contraction is not None
    energy, stall = cost.energy_pj.copy(), cost.stall_cycles.copy()
    for index in with_units:
        task = own.start + index
        traffic = Traffic(
            reads=mapped.reads[task].tolist(),
            writes=mapped.writes[task].tolist(),
            accumulated=op.contraction.output,
        )
        for unit, work in contraction_work(op, workload, table.chips[index], traffic):
            parts = (operations * unit.energy_pj_per_operation for operations in work.values())
            energy[index] += total(parts)
            busy = unit.cycles(sum(work.values()))
            stall[index] = max(stall[index], busy - cost.compute_cycles[index])
    return replace(cost, energy_pj=energy, stall_cycles=stall)


def _note(
    lacks: list[list[Lack]], op: Op, table: ChipTable, tasks: Tasks, mapped: MappedTasks, own: slice
) -> None:
    """Write down on which chips an op does not fit, and why."""
    for chip in np.flatnonzero(mapped.too_small[own] >= 0).tolist():
        task = own.start + chip
        problem = tasks.problems[tasks.problem[task]]
        room = missing_room(table.chips[chip], problem, int(mapped.too_small[task]))
        lacks[chip].append(Lack(op=op.name, room=room))


def _memory_bound(workload: Workload, table: ChipTable, homes: _Residence) -> Iterator[_OpCost]:
    """Yield the ops without a contraction on every chip; chips equal in what it touches share a row."""
    alike = classes_of(
        (
            plan,
            chip.memories[-1],
            buffer_of(chip, homes.plans[plan].level),
            chip.vector,
            chip.special_units,
        )
        for plan, chip in zip(homes.classes.of.tolist(), table.chips, strict=True)
    )
    count = sum(op.contraction is None for op in workload.ops)
    costs = np.empty((len(alike.first), count, 4))
    for number, first in enumerate(alike.first.tolist()):
        costs[number] = _memory_bound_costs(workload, table, homes, first)
    for energy, compute, stall, dram in costs[alike.of].transpose(1, 2, 0):
        yield _OpCost(energy_pj=energy, compute_cycles=compute, stall_cycles=stall, dram_bits=dram)


def _memory_bound_costs(workload: Workload, table: ChipTable, homes: _Residence, chip: int) -> Floats:
    """Return `(ops, 4)`: energy, computing and stalls, DRAM bits of the ops without a contraction."""
    accelerator, plan = table.chips[chip], homes.plan(chip)
    costs = []
    others = (op for op in workload.ops if op.contraction is None)
    for op, row in zip(others, memory_bound_rows(workload, accelerator, plan), strict=True):
        if accelerator.special_units:
            row = with_special_units(row, memory_bound_work(op, workload, accelerator, plan.of(op)))
        costs.append((row.energy_pj, row.compute_cycles, row.stall_cycles, row.dram_bits))
    return np.array(costs, np.float64).reshape(len(costs), 4)


def _leakage_pj(table: ChipTable, cycles: Floats) -> Floats:
    """Return the static energy of an op; an op that never ends leaks nothing on a chip that does not leak."""
    leaking = table.leakage_mw != 0.0
    energy = np.zeros(len(cycles))
    seconds = cycles_to_seconds(cycles[leaking], table.clock_hz[leaking])
    energy[leaking] = leakage_pj(table.leakage_mw[leaking], seconds)
    return energy
