"""`cost`: a workload on an accelerator, in energy, latency and traffic.

Every contraction is mapped (`evaluators.cost.mapper`), every other op is costed by its reads and writes
(`evaluators.cost.memory_bound`), tensors stay on chip where they fit (`evaluators.cost.residency`), and ops
run one after another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from math import inf

from evaluators.cost.mapper import Effort, Mapped, MappingObjective, Row, Switches, map_all
from evaluators.cost.memory_bound import memory_bound_rows
from evaluators.cost.problem import OPERANDS, Problem, Storage, resident_level
from evaluators.cost.report import ALL_OPERANDS, LEAKAGE_ENTRY, MAC_ENTRY, CostReport, CostRow
from evaluators.cost.residency import Residency, plan_residency
from evaluators.cost.special import Traffic, contraction_work, memory_bound_work, with_special_units
from evaluators.workload.graph import Op, Workload
from hw_templates.accelerator import Accelerator, MemoryLevel
from hw_templates.units import cycles_to_seconds, leakage_pj

__all__ = ["CostReport", "CostRow", "cost", "cost_many"]

LETTERS = tuple(operand.value for operand in OPERANDS)

Levels = tuple[tuple[str, MemoryLevel, bool], ...]
"""A chip's memories: name, level, whether it is off chip."""

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
        rows += [(problem, accelerator) for problem in problems_of(workload, accelerator, plan)]
    mapped = iter(map_all(rows, objective=objective, effort=effort, switches=switches))
    return tuple(
        _report(workload, accelerator, plan, mapped)
        for accelerator, plan in zip(accelerators, plans, strict=True)
    )


def problems_of(workload: Workload, chip: Accelerator, plan: Residency) -> Iterator[Problem]:
    """Yield the contractions of a workload as the mapper takes them, in the ops' order."""
    level = resident_level(chip)
    capacity_bits = chip.memories[level].capacity_bits if level is not None else 0
    step = capacity_bits / RESERVE_STEPS
    occupied_bits, resident = plan.occupied_bits.tolist(), plan.resident.tolist()
    storage = _storage(workload)
    for position, op in enumerate(workload.ops):
        if op.contraction is None:
            continue
        reserved_bits = 0
        if level is not None:
            rounded = -(-occupied_bits[position] // step) * step
            reserved_bits = int(min(rounded, capacity_bits - step))
        inputs, weights, outputs = (op.contraction.tensors[operand] for operand in OPERANDS)
        yield Problem(
            nest=op.contraction.nest,
            accumulated=op.contraction.output,
            storage=(storage(inputs), storage(weights), storage(outputs)),
            resident=(resident[inputs], resident[weights], resident[outputs]),
            reserved_bits=reserved_bits,
        )


def _storage(workload: Workload) -> Callable[[int], Storage]:
    """Return what says how a tensor is stored."""
    bits, density = workload.bits.tolist(), workload.density.tolist()
    index_bits = workload.index_bits.tolist()

    @cache
    def of(tensor: int) -> Storage:
        return Storage(bits=bits[tensor], density=density[tensor], index_bits=index_bits[tensor])

    return of


def _report(workload: Workload, chip: Accelerator, plan: Residency, mapped: Iterator[Mapped]) -> CostReport:
    rows = []
    leakage_mw = chip.leakage_mw
    levels = tuple((level.name, level, level.kind.off_chip) for level in chip.memories)
    others = memory_bound_rows(workload, chip, plan)
    for op in workload.ops:
        if op.contraction is not None:
            found = next(mapped)
            row = _contraction_row(op, chip, levels, found)
            if chip.special_units:
                traffic = Traffic(reads=found.reads, writes=found.writes, accumulated=op.contraction.output)
                row = with_special_units(row, contraction_work(op, workload, chip, traffic))
        else:
            row = next(others)
            if chip.special_units:
                row = with_special_units(row, memory_bound_work(op, workload, chip, plan.of(op)))
        rows.append(_with_leakage(row, chip, leakage_mw))
    return CostReport(
        accelerator=chip.name, technology=chip.technology, clock_hz=chip.clock_hz, rows=tuple(rows)
    )


def _contraction_row(op: Op, chip: Accelerator, levels: Levels, mapped: Mapped) -> CostRow:
    energy: dict[str, dict[str, float]] = {}
    dram_bits = 0.0
    for index, (name, level, off_chip) in enumerate(levels):
        entry = {}
        for o, letter in enumerate(LETTERS):
            reads, writes = mapped.reads[o][index], mapped.writes[o][index]
            if reads or writes:
                entry[letter] = reads * level.read_energy_pj + writes * level.write_energy_pj
                dram_bits += (reads + writes) * level.word_bits if off_chip else 0.0
        if entry:
            energy[name] = entry
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
