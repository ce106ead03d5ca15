"""The cost of ops without a contraction: element-wise work, normalisation, pooling, copies, the update.

Such an op reads its inputs and writes its outputs once. A tensor that is not resident on chip comes from
the outermost memory through the level below it; the vector unit does the arithmetic. A training step has
hundreds of them, so all are costed at once, on arrays of what moves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from evaluators.cost.problem import Floats, Integers
from evaluators.cost.report import ALL_OPERANDS, VECTOR_ENTRY, CostRow
from evaluators.cost.residency import Residency
from evaluators.workload.graph import Op, Role, Structure, Workload
from hw_templates.accelerator import Accelerator, MemoryLevel, Ports, SpecialKind

NORMALIZATION: Final = "normalization"
"""The kind of op that a normalization unit takes from the vector unit."""

_ALLOCATE: Final = "allocate"  # moves nothing

OPERATIONS_PER_ELEMENT: Final[dict[str, float]] = {
    # Vector operations an element, by kind of op; estimates from the arithmetic of the definition.
    NORMALIZATION: 4.0,  # subtract the mean, scale, shift, and one for the statistics
    "softmax": 4.0,  # maximum, exponential, sum, divide
    "loss": 2.0,
    "resampling": 4.0,
    "copy": 0.0,
    "fill": 0.0,
    _ALLOCATE: 0.0,
    "embedding": 0.0,
}

_LETTERS = ("I", "W", "O")

Booleans = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Moves:
    """What the ops without a contraction read and write: one row a tensor and op, in the ops' order.

    Attributes:
        ops: those ops.
        op: `(v,)`, index into `ops`.
        tensor: `(v,)`.
        letter: `(v,)`, index into `_LETTERS`: the operand in the ledger.
        elements: `(v,)`, how many of the tensor's move.
        written: `(v,)`, whether they are written.
        touched: `(ops,)`, elements read or written, whichever are more.
        operations: `(ops,)`, vector operations an element.
        normalises: `(ops,)`.
    """

    ops: tuple[Op, ...]
    op: Integers
    tensor: Integers
    letter: Integers
    elements: Floats
    written: Booleans
    touched: Floats
    operations: Floats
    normalises: Booleans


_MOVES: WeakKeyDictionary[Structure, _Moves] = WeakKeyDictionary()
"""By structure, which every rewrite of a trace shares."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Level:
    """What all ops do at one memory: energy `(ops, 3)` in pJ, which of it is there, and busy cycles."""

    name: str
    energy_pj: Floats
    there: Booleans
    busy_cycles: Floats


def memory_bound_rows(workload: Workload, accelerator: Accelerator, plan: Residency) -> Iterator[CostRow]:
    """Yield the cost of every op without a contraction, in the ops' order.

    Args:
        plan: which tensors stay on chip, and where.
    """
    moves = _moves(workload.structure)
    resident = plan.resident[moves.tensor]
    dense_bits = workload.bits[moves.tensor]
    bits = moves.elements * dense_bits
    outer, inner = accelerator.memories[-1], buffer_of(accelerator, plan.level)
    outer_bits = bits
    if outer.compressed:
        stored_bits = dense_bits * workload.density[moves.tensor] + workload.index_bits[moves.tensor]
        outer_bits = moves.elements * stored_bits
    outer_words = np.where(resident, 0.0, _words(outer_bits, outer))
    dram_bits = np.zeros(len(moves.ops))
    if outer.kind.off_chip:
        dram_bits = _by_op(moves, outer_words * outer.word_bits)
    flows = {outer: (outer_words * ~moves.written, outer_words * moves.written)}
    if inner is not None:
        words = _words(bits, inner)  # what is not resident passes through: both written and read
        read = np.where(resident & moves.written, 0.0, words)
        written = np.where(resident & ~moves.written, 0.0, words)
        more = flows.get(inner, (0.0, 0.0))
        flows[inner] = (more[0] + read, more[1] + written)
    levels = [
        _level(memory, moves, *flow, there=~resident | (memory is inner)) for memory, flow in flows.items()
    ]
    return _rows(moves, accelerator, levels, dram_bits)


def _rows(
    moves: _Moves, accelerator: Accelerator, levels: list[_Level], dram_bits: Floats
) -> Iterator[CostRow]:
    entries, arithmetic_pj, compute = _arithmetic(moves, accelerator)
    busiest = np.max([level.busy_cycles for level in levels], axis=0)
    stalls = np.maximum(0.0, busiest - compute)
    columns = (arithmetic_pj, compute, stalls, dram_bits)
    ledgers = [(level.name, level.energy_pj.tolist(), level.there.tolist()) for level in levels]
    numbers = zip(*(column.tolist() for column in columns), strict=True)
    for index, (op, entry, own) in enumerate(zip(moves.ops, entries, numbers, strict=True)):
        energy: dict[str, dict[str, float]] = {}
        for name, energies_pj, there in ledgers:
            held = {
                letter: energy_pj
                for letter, energy_pj, moved in zip(_LETTERS, energies_pj[index], there[index], strict=True)
                if moved
            }
            if held:
                energy[name] = held
        if op.kind != _ALLOCATE:
            energy[entry] = {ALL_OPERANDS: own[0]}
        yield _row(op, own[1], own[2], own[3], energy)


def _arithmetic(moves: _Moves, accelerator: Accelerator) -> tuple[list[str], Floats, Floats]:
    """Return of every op the ledger's entry, the energy in pJ and the cycles of its arithmetic."""
    vector = accelerator.vector
    operations = moves.touched * moves.operations
    energy_pj, cycles = operations * vector.energy_pj_per_op, operations / vector.lanes
    entries = [VECTOR_ENTRY] * len(moves.ops)
    unit = accelerator.special_unit(SpecialKind.NORMALIZATION_UNIT)
    if unit is not None:
        for index in np.flatnonzero(moves.normalises).tolist():
            elements = float(moves.touched[index])
            entries[index] = unit.kind.value
            energy_pj[index] = elements * unit.energy_pj_per_operation
            cycles[index] = unit.cycles(elements)
    return entries, energy_pj, cycles


def _moves(structure: Structure) -> _Moves:
    """Return what a structure's ops move, worked out once."""
    found = _MOVES.get(structure)
    if found is None:
        found = _MOVES[structure] = _moves_of(structure)
    return found


def _moves_of(structure: Structure) -> _Moves:
    ops = tuple(op for op in structure.ops if op.contraction is None)
    rows: list[tuple[int, int, int, float, bool]] = []
    for number, op in enumerate(ops):
        if op.kind == _ALLOCATE:
            continue
        for tensors, given, written in (
            (op.inputs, op.read_elements, False),
            (op.outputs, op.write_elements, True),
        ):
            for index, tensor in enumerate(tensors):
                elements = float(given[index]) if given else float(structure.numel[tensor])
                weight = structure.tensors[tensor].role in (Role.WEIGHT, Role.OPTIMIZER_STATE)
                letter = _LETTERS.index("O" if written else ("W" if weight else "I"))
                rows.append((number, tensor, letter, elements, written))
    table = np.array(rows, np.float64).reshape(len(rows), 5)
    op_of, written_of = table[:, 0].astype(np.int64), table[:, 4] > 0
    read, write = (_sums(op_of[chosen], table[chosen, 3], len(ops)) for chosen in (~written_of, written_of))
    return _Moves(
        ops=ops,
        op=op_of,
        tensor=table[:, 1].astype(np.int64),
        letter=table[:, 2].astype(np.int64),
        elements=table[:, 3].copy(),
        written=written_of,
        touched=np.maximum(read, write),
        operations=np.array([OPERATIONS_PER_ELEMENT.get(op.kind, 1.0) for op in ops]),
        normalises=np.array([op.kind == NORMALIZATION for op in ops], np.bool_),
    )


def buffer_of(accelerator: Accelerator, level: int | None) -> MemoryLevel | None:
    """Return the level through which data reaches the vector unit: the outermost one on chip."""
    if level is not None:
        return accelerator.memories[level]
    inner = accelerator.memories[:-1]
    shared = [memory for memory in inner if accelerator.instances(memory) == 1]
    return shared[-1] if shared else None


def _words(bits: Floats, memory: MemoryLevel) -> Floats:
    return np.ceil(bits / memory.granularity_bits) * memory.granularity_bits / memory.word_bits


def _sums(cells: Integers, amounts: Floats, count: int) -> Floats:
    """Return the sums (count,) of the amounts of each cell."""
    return np.bincount(cells, amounts, count).astype(np.float64, copy=False)


def _by_op(moves: _Moves, amounts: Floats) -> Floats:
    return _sums(moves.op, amounts, len(moves.ops))


def _level(memory: MemoryLevel, moves: _Moves, read: Floats, written: Floats, *, there: Booleans) -> _Level:
    """Return what happens at a memory, of the words `(v,)` that each move reads and writes there."""
    cells = moves.op * len(_LETTERS) + moves.letter
    shape = len(moves.ops), len(_LETTERS)
    energy_pj = read * memory.read_energy_pj + written * memory.write_energy_pj
    reading = _by_op(moves, read) * memory.read_cycles_per_word
    writing = _by_op(moves, written) * memory.write_cycles_per_word
    one_port = memory.ports is Ports.READ_WRITE
    return _Level(
        name=memory.name,
        energy_pj=_sums(cells, energy_pj, shape[0] * shape[1]).reshape(shape),
        there=np.bincount(cells[there], minlength=shape[0] * shape[1]).reshape(shape) > 0,
        busy_cycles=reading + writing if one_port else np.maximum(reading, writing),
    )


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
