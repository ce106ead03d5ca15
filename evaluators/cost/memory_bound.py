"""The cost of ops without a contraction: element-wise work, normalisation, pooling, copies, the update.

Such an op reads its inputs and writes its outputs once. A tensor that is not resident on chip comes from
the outermost memory through the level below it; the vector unit does the arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Final

from evaluators.cost.report import ALL_OPERANDS, VECTOR_ENTRY, CostRow
from evaluators.workload.graph import Op, Role, Workload
from hw_templates.accelerator import Accelerator, MemoryLevel, Ports, SpecialKind

NORMALIZATION: Final = "normalization"
"""The kind of op that a normalization unit takes from the vector unit."""

OPERATIONS_PER_ELEMENT: Final[dict[str, float]] = {
    # Vector operations an element, by kind of op; estimates from the arithmetic of the definition.
    NORMALIZATION: 4.0,  # subtract the mean, scale, shift, and one for the statistics
    "softmax": 4.0,  # maximum, exponential, sum, divide
    "loss": 2.0,
    "resampling": 4.0,
    "copy": 0.0,
    "fill": 0.0,
    "allocate": 0.0,
    "embedding": 0.0,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Transfer:
    """One tensor moved: its operand in the ledger, and its bits outside and inside the chip."""

    operand: str
    outer_bits: float
    inner_bits: float
    resident: bool
    written: bool


def memory_bound_row(
    op: Op, workload: Workload, accelerator: Accelerator, resident: tuple[bool, ...], level: int | None
) -> CostRow:
    """Return the cost of one op without a contraction.

    Args:
        resident: For each of the op's inputs, then outputs, whether its tensor stays on chip.
        level: Index of the level where resident tensors are.
    """
    if op.kind == "allocate":
        return _row(op, 0.0, 0.0, 0.0, {})
    transfers, elements = _transfers(op, workload, accelerator, resident)
    outer = accelerator.memories[-1]
    inner = buffer_of(accelerator, level)
    energy: dict[str, dict[str, float]] = {}
    reads = {memory.name: 0.0 for memory in accelerator.memories}
    writes = dict(reads)
    dram_bits = 0.0
    for transfer in transfers:
        if not transfer.resident:
            words = _words(transfer.outer_bits, outer)
            _book(energy, reads, writes, outer, transfer.operand, words, write=transfer.written)
            dram_bits += words * outer.word_bits if outer.kind.off_chip else 0.0
        if inner is not None:
            words = _words(transfer.inner_bits, inner)
            _book(energy, reads, writes, inner, transfer.operand, words, write=transfer.written)
            if not transfer.resident:  # it passes through: the other half of the way
                _book(energy, reads, writes, inner, transfer.operand, words, write=not transfer.written)
    entry, arithmetic_pj, compute = _arithmetic(op, elements, accelerator)
    energy[entry] = {ALL_OPERANDS: arithmetic_pj}
    busiest = max(_busy(memory, reads, writes) for memory in accelerator.memories)
    return _row(op, compute, max(0.0, busiest - compute), dram_bits, energy)


def _arithmetic(op: Op, elements: float, accelerator: Accelerator) -> tuple[str, float, float]:
    """Return the ledger's entry, the energy in pJ and the cycles of an op's arithmetic."""
    unit = accelerator.special_unit(SpecialKind.NORMALIZATION_UNIT)
    if unit is not None and op.kind == NORMALIZATION:
        return unit.kind.value, elements * unit.energy_pj_per_operation, unit.cycles(elements)
    operations = elements * OPERATIONS_PER_ELEMENT.get(op.kind, 1.0)
    vector = accelerator.vector
    return VECTOR_ENTRY, operations * vector.energy_pj_per_op, operations / vector.lanes


def _transfers(
    op: Op, workload: Workload, accelerator: Accelerator, resident: tuple[bool, ...]
) -> tuple[list[_Transfer], float]:
    structure = workload.structure
    compressed = accelerator.memories[-1].compressed
    transfers = []
    read = write = 0.0
    for position, tensor in enumerate((*op.inputs, *op.outputs)):
        written = position >= len(op.inputs)
        index = position - len(op.inputs) if written else position
        given = op.write_elements if written else op.read_elements
        elements = float(given[index]) if given else float(structure.numel[tensor])
        read, write = read + elements * (not written), write + elements * written
        dense_bits = float(workload.bits[tensor])
        stored = dense_bits * float(workload.density[tensor]) + float(workload.index_bits[tensor])
        role = structure.tensors[tensor].role
        operand = "O" if written else ("W" if role in (Role.WEIGHT, Role.OPTIMIZER_STATE) else "I")
        transfers.append(
            _Transfer(
                operand=operand,
                outer_bits=elements * (stored if compressed else dense_bits),
                inner_bits=elements * dense_bits,
                resident=resident[position],
                written=written,
            )
        )
    return transfers, max(read, write)


def buffer_of(accelerator: Accelerator, level: int | None) -> MemoryLevel | None:
    """Return the level through which data reaches the vector unit: the outermost one on chip."""
    if level is not None:
        return accelerator.memories[level]
    inner = accelerator.memories[:-1]
    shared = [memory for memory in inner if accelerator.instances(memory) == 1]
    return shared[-1] if shared else None


def _words(bits: float, memory: MemoryLevel) -> float:
    return ceil(bits / memory.granularity_bits) * memory.granularity_bits / memory.word_bits


def _book(
    energy: dict[str, dict[str, float]],
    reads: dict[str, float],
    writes: dict[str, float],
    memory: MemoryLevel,
    operand: str,
    words: float,
    *,
    write: bool,
) -> None:
    cost = memory.write_energy_pj if write else memory.read_energy_pj
    (writes if write else reads)[memory.name] += words
    entry = energy.setdefault(memory.name, {})
    entry[operand] = entry.get(operand, 0.0) + words * cost


def _busy(memory: MemoryLevel, reads: dict[str, float], writes: dict[str, float]) -> float:
    read = reads[memory.name] * memory.read_cycles_per_word
    write = writes[memory.name] * memory.write_cycles_per_word
    return read + write if memory.ports is Ports.READ_WRITE else max(read, write)


def _row(
    op: Op, compute: float, stall: float, dram_bits: float, energy: dict[str, dict[str, float]]
) -> CostRow:
    return CostRow(
        op=op.name,
        layer=op.layer,
        phase=op.phase,
        macs=0,
        executed_macs=0.0,
        compute_cycles=compute,
        stall_cycles=stall,
        utilization=0.0,
        dram_bits=dram_bits,
        energy_by_level_pj=energy,
    )
