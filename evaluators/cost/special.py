"""What a chip's special units take beside the array: rebuilding, normalising, coding.

Rebuild engine: a weight with a code of its own (`Workload.codes`) leaves the innermost memory that keeps it
coded as often as the array asks for it, and is decoded there each time. Codec: it codes or decodes every
element of a compressed tensor that crosses the edge of the chip, but for weights with a code of their own.
Normalization unit: it does the arithmetic of normalisation in the place of the vector unit (`memory_bound`).

Units work beside the array and one another (they are pipelined): an op takes as long as the slowest of them.
A chip without the unit pays nothing, as if the work were done elsewhere; `undecoded_layers` says where.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from evaluators.cost.problem import OPERANDS
from evaluators.cost.report import CostRow
from evaluators.cost.spatial import slot
from evaluators.workload.graph import Op, Operand, Workload
from hw_templates.accelerator import Accelerator, SpecialKind, SpecialUnit

Work = Mapping[str, float]
"""Operations of one unit by operand ("I", "W", "O")."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Traffic:
    """Words of a contraction, `(o, m)` by operand and memory level, and which operand is accumulated."""

    reads: Sequence[Sequence[float]]
    writes: Sequence[Sequence[float]]
    accumulated: Operand


def undecoded_layers(workload: Workload, units: AbstractSet[SpecialKind]) -> tuple[str, ...]:
    """Return the layers whose weights have a code that none of `units` decodes."""
    return tuple(
        layer
        for layer in workload.layers
        if (code := workload.codes.get(workload.weight_of(layer))) is not None and code.unit not in units
    )


def contraction_work(
    op: Op, workload: Workload, chip: Accelerator, traffic: Traffic
) -> Iterator[tuple[SpecialUnit, Work]]:
    """Yield what each special unit of a chip does in a contraction."""
    for unit in chip.special_units:
        work: Work = {}
        match unit.kind:
            case SpecialKind.REBUILD_ENGINE:
                work = _rebuilt(op, workload, chip, traffic)
            case SpecialKind.CODEC:
                work = _coded(op, workload, chip, traffic)
            case SpecialKind.NORMALIZATION_UNIT:
                pass  # a contraction normalises nothing
        if work:
            yield unit, work


def memory_bound_work(
    op: Op, workload: Workload, chip: Accelerator, resident: tuple[bool, ...]
) -> Iterator[tuple[SpecialUnit, Work]]:
    """Yield what each special unit does in another op, but for a normalization unit (`memory_bound`).

    Args:
        resident: of the op's inputs, then outputs: whether they stay on the chip.
    """
    codec = chip.special_unit(SpecialKind.CODEC)
    if codec is not None and chip.memories[-1].kind.off_chip:
        work = _passed(op, workload, resident)
        if work:
            yield codec, work


def with_special_units(row: CostRow, works: Iterator[tuple[SpecialUnit, Work]]) -> CostRow:
    """Return the row with the energy of special units, and the time that they add."""
    if row.infeasible is not None:
        return row
    found = list(works)
    if not found:
        return row
    ledger = dict(row.energy_by_level_pj)
    stall_cycles = row.stall_cycles
    for unit, work in found:
        ledger[unit.kind.value] = {
            operand: operations * unit.energy_pj_per_operation for operand, operations in work.items()
        }
        stall_cycles = max(stall_cycles, unit.cycles(sum(work.values())) - row.compute_cycles)
    return replace(row, energy_by_level_pj=ledger, stall_cycles=stall_cycles)


def _rebuilt(op: Op, workload: Workload, chip: Accelerator, traffic: Traffic) -> Work:
    """Return the operations that decode what is read from the innermost memory that keeps weights coded."""
    assert op.contraction is not None
    work = {}
    for o, operand in enumerate(OPERANDS):
        tensor = op.contraction.tensors[operand]
        code = workload.codes.get(tensor)
        if code is None or code.unit is not SpecialKind.REBUILD_ENGINE:
            continue
        letter = slot(traffic.accumulated, operand)
        chain = [index for index, level in enumerate(chip.memories) if letter in level.operands]
        coded = next((index for index in chain if chip.memories[index].compressed), chain[-1])
        bits = traffic.reads[o][coded] * chip.memories[coded].word_bits
        stored = _stored_bits(workload, tensor)
        elements = bits / stored if stored else 0.0  # of the dense tensor, as often as they are read
        work[operand.value] = elements * float(workload.density[tensor]) * code.operations_per_element
    return {operand: operations for operand, operations in work.items() if operations}


def _coded(op: Op, workload: Workload, chip: Accelerator, traffic: Traffic) -> Work:
    """Return the elements of a contraction's operands that cross the edge of the chip compressed."""
    assert op.contraction is not None
    work: dict[str, float] = {}
    for o, operand in enumerate(OPERANDS):
        tensor = op.contraction.tensors[operand]
        bits = sum(
            (traffic.reads[o][index] + traffic.writes[o][index]) * level.word_bits
            for index, level in enumerate(chip.memories)
            if level.kind.off_chip and level.compressed
        )
        if bits and _is_packed(workload, tensor):
            work[operand.value] = bits / _stored_bits(workload, tensor)
    return work


def _passed(op: Op, workload: Workload, resident: tuple[bool, ...]) -> Work:
    """Return the elements of another op's tensors that cross the edge of the chip in a compressed form."""
    work: dict[str, float] = {}
    for position, (tensor, stays) in enumerate(zip((*op.inputs, *op.outputs), resident, strict=True)):
        written = position >= len(op.inputs)
        given = op.write_elements if written else op.read_elements
        index = position - len(op.inputs) if written else position
        elements = float(given[index]) if given else float(workload.structure.numel[tensor])
        if not stays and _is_packed(workload, tensor):
            letter = "O" if written else "I"
            work[letter] = work.get(letter, 0.0) + elements
    return work


def _stored_bits(workload: Workload, tensor: int) -> float:
    """Return the bits of an element of the dense tensor, as it is stored."""
    stored = float(workload.bits[tensor]) * float(workload.density[tensor])
    return stored + float(workload.index_bits[tensor])


def _is_packed(workload: Workload, tensor: int) -> bool:
    """Return whether a tensor is stored in less than its elements take, and not by a code of its own."""
    return tensor not in workload.codes and 0 < _stored_bits(workload, tensor) < float(workload.bits[tensor])
