"""`cost`: a workload on an accelerator, in energy, latency and traffic.

Every contraction is mapped (`evaluators.cost.mapper`), every other op is costed by its reads and writes
(`evaluators.cost.memory_bound`), tensors stay on chip where they fit (`evaluators.cost.residency`), and ops
run one after another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf

from evaluators.cost.mapper import Effort, Mapped, MappingObjective, Row, Switches, map_all
from evaluators.cost.memory_bound import memory_bound_row
from evaluators.cost.problem import OPERANDS, Problem, Storage, resident_level
from evaluators.cost.report import ALL_OPERANDS, LEAKAGE_ENTRY, MAC_ENTRY, CostReport, CostRow
from evaluators.cost.residency import Residency, plan_residency
from evaluators.cost.special import Traffic, contraction_work, memory_bound_work, with_special_units
from evaluators.workload.graph import Op, Workload
from hw_templates.accelerator import Accelerator
from hw_templates.units import cycles_to_seconds, leakage_pj

__all__ = ["CostReport", "CostRow", "cost", "cost_many"]

RESERVE_STEPS = 16
"""Occupied bits of the resident level are rounded up to sixteenths, so that like ops are mapped once."""


def cost(
    workload: Workload,
    accelerator: Accelerator,
    *,
    objective: MappingObjective = MappingObjective.ENERGY,
    effort: Effort | None = None,
    switches: Switches | None = None,
) -> CostReport:
    """Return what `workload` costs on `accelerator`.

    Args:
        objective: What the search over mappings minimises.
        effort: How hard it looks.
        switches: What cost models disagree on.
    """
    return cost_many(workload, (accelerator,), objective=objective, effort=effort, switches=switches)[0]


def cost_many(
    workload: Workload,
    accelerators: Sequence[Accelerator],
    *,
    objective: MappingObjective = MappingObjective.ENERGY,
    effort: Effort | None = None,
    switches: Switches | None = None,
) -> tuple[CostReport, ...]:
    """Return what `workload` costs on each of `accelerators`, all mapped in one call."""
    plans = [plan_residency(workload, accelerator) for accelerator in accelerators]
    rows: list[Row] = []
    for accelerator, plan in zip(accelerators, plans, strict=True):
        rows += [
            (problem_of(workload, accelerator, plan, position, op), accelerator)
            for position, op in enumerate(workload.ops)
            if op.contraction is not None
        ]
    mapped = iter(map_all(rows, objective=objective, effort=effort, switches=switches))
    return tuple(
        _report(workload, accelerator, plan, mapped)
        for accelerator, plan in zip(accelerators, plans, strict=True)
    )


def problem_of(workload: Workload, chip: Accelerator, plan: Residency, position: int, op: Op) -> Problem:
    """Return the contraction of an op, at `position` among the workload's ops, as the mapper takes it."""
    assert op.contraction is not None
    tensors = [op.contraction.tensors[operand] for operand in OPERANDS]
    reserved = 0
    level = resident_level(chip)
    if level is not None:
        step = chip.memories[level].capacity_bits / RESERVE_STEPS
        rounded = -(-float(plan.occupied_bits[position]) // step) * step
        reserved = int(min(rounded, chip.memories[level].capacity_bits - step))
    return Problem(
        nest=op.contraction.nest,
        accumulated=op.contraction.output,
        storage=(
            _storage(workload, tensors[0]),
            _storage(workload, tensors[1]),
            _storage(workload, tensors[2]),
        ),
        resident=(
            bool(plan.resident[tensors[0]]),
            bool(plan.resident[tensors[1]]),
            bool(plan.resident[tensors[2]]),
        ),
        reserved_bits=reserved,
    )


def _storage(workload: Workload, tensor: int) -> Storage:
    return Storage(
        bits=float(workload.bits[tensor]),
        density=float(workload.density[tensor]),
        index_bits=float(workload.index_bits[tensor]),
    )


def _report(workload: Workload, chip: Accelerator, plan: Residency, mapped: Iterator[Mapped]) -> CostReport:
    rows = []
    leakage_mw = chip.leakage_mw
    for op in workload.ops:
        if op.contraction is not None:
            found = next(mapped)
            row = _contraction_row(op, chip, found)
            traffic = Traffic(reads=found.reads, writes=found.writes, accumulated=op.contraction.output)
            row = with_special_units(row, contraction_work(op, workload, chip, traffic))
        else:
            resident = tuple(bool(plan.resident[tensor]) for tensor in (*op.inputs, *op.outputs))
            row = memory_bound_row(op, workload, chip, resident, plan.level)
            row = with_special_units(row, memory_bound_work(op, workload, chip, resident))
        rows.append(_with_leakage(row, chip, leakage_mw))
    return CostReport(
        accelerator=chip.name, technology=chip.technology, clock_hz=chip.clock_hz, rows=tuple(rows)
    )


def _contraction_row(op: Op, chip: Accelerator, mapped: Mapped) -> CostRow:
    energy: dict[str, dict[str, float]] = {}
    dram_bits = 0.0
    for index, level in enumerate(chip.memories):
        entry = {}
        for o, operand in enumerate(OPERANDS):
            reads, writes = mapped.reads[o][index], mapped.writes[o][index]
            if reads or writes:
                entry[operand.value] = reads * level.read_energy_pj + writes * level.write_energy_pj
                dram_bits += (reads + writes) * level.word_bits if level.kind.off_chip else 0.0
        if entry:
            energy[level.name] = entry
    energy[MAC_ENTRY] = {ALL_OPERANDS: mapped.mac_energy_pj}
    latency = inf if mapped.infeasible else mapped.latency_cycles
    if mapped.infeasible:
        energy = {MAC_ENTRY: {ALL_OPERANDS: inf}}
    slots = latency * chip.pe_count
    return CostRow(
        op=op.name,
        layer=op.layer,
        phase=op.phase,
        macs=mapped.problem.nest.macs,
        executed_macs=mapped.executed_macs,
        compute_cycles=mapped.compute_cycles,
        stall_cycles=max(0.0, latency - mapped.compute_cycles),
        utilization=mapped.executed_macs / slots if slots > 0 else 0.0,
        dram_bits=dram_bits,
        energy_by_level_pj=energy,
        mapping=mapped.mapping,
        infeasible=mapped.infeasible,
    )


def _with_leakage(row: CostRow, chip: Accelerator, leakage_mw: float) -> CostRow:
    if leakage_mw == 0.0:
        return row
    energy_pj = leakage_pj(leakage_mw, cycles_to_seconds(row.latency_cycles, chip.clock_hz))
    ledger = {**row.energy_by_level_pj, LEAKAGE_ENTRY: {ALL_OPERANDS: energy_pj}}
    return CostRow(
        op=row.op,
        layer=row.layer,
        phase=row.phase,
        macs=row.macs,
        executed_macs=row.executed_macs,
        compute_cycles=row.compute_cycles,
        stall_cycles=row.stall_cycles,
        utilization=row.utilization,
        dram_bits=row.dram_bits,
        energy_by_level_pj=ledger,
        mapping=row.mapping,
        infeasible=row.infeasible,
    )
