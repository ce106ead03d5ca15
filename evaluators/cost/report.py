"""What a workload costs on an accelerator: rows per op, a ledger that sums to the total."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import add

from evaluators.workload.graph import Phase

MAC_ENTRY = "mac"
VECTOR_ENTRY = "vector"
LEAKAGE_ENTRY = "leakage"
ALL_OPERANDS = "all"

_COSTS = ("latency_cycles", "latency_s", "stall_cycles", "utilization", "dram_bits", "energy_pj")
"""What a row's JSON says of a contraction's cost; null where no mapping fits."""

Ledger = Mapping[str, Mapping[str, float]]
"""Energy in pJ by memory level (or "mac", "vector", "leakage"), then by operand ("I", "W", "O", "all")."""


def total(terms: Iterable[float]) -> float:
    """Return the sum of `terms` from left to right.

    `sum` compensates rounding from Python 3.12 on: another last bit, and not what sums on arrays give.
    """
    return reduce(add, terms, 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Infeasible:
    """A contraction that a memory cannot hold one element's worth of: the level, its demand, its capacity."""

    level: str
    demand_bits: float
    capacity_bits: float


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopMapping:
    """How a contraction was mapped: loops over the array, and the temporal order, innermost first.

    `held` gives for each operand the memory levels of its chain and how many loops of the order each holds.
    """

    spatial: tuple[tuple[tuple[str, int], ...], ...]
    order: tuple[tuple[str, int], ...]
    held: Mapping[str, tuple[tuple[str, int], ...]]

    def to_json(self) -> dict[str, object]:
        """Return this mapping as JSON data."""
        return {
            "spatial": [[[loop, factor] for loop, factor in axis] for axis in self.spatial],
            "order": [[loop, factor] for loop, factor in self.order],
            "held": {
                operand: [[level, loops] for level, loops in held] for operand, held in self.held.items()
            },
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class CostRow:
    """The cost of one op.

    `macs` counts the nest's, `executed_macs` those that zero skipping leaves. `compute_cycles` and
    `stall_cycles` add up to `latency_cycles`; `utilization` is the share of the array's MAC slots in that
    time that do a MAC.
    """

    op: str
    layer: str | None
    phase: Phase
    macs: int
    executed_macs: float
    compute_cycles: float
    stall_cycles: float
    utilization: float
    dram_bits: float
    energy_by_level_pj: Ledger
    mapping: LoopMapping | None = None
    infeasible: Infeasible | None = None

    @property
    def latency_cycles(self) -> float:
        """Cycles from the op's first to its last."""
        return self.compute_cycles + self.stall_cycles

    @property
    def energy_pj(self) -> float:
        """Energy of the op, the sum of its ledger."""
        return total(total(operands.values()) for operands in self.energy_by_level_pj.values())


@dataclass(frozen=True, kw_only=True)
class CostReport:
    """The cost of a workload: one row an op, in execution order. Totals are sums of the rows."""

    accelerator: str
    technology: str
    clock_hz: float
    rows: tuple[CostRow, ...]

    @cached_property
    def energy_pj(self) -> float:
        """Energy of all ops, leakage included."""
        return total(row.energy_pj for row in self.rows)

    @cached_property
    def contraction_energy_pj(self) -> float:
        """Energy of the ops that multiply and accumulate."""
        return total(row.energy_pj for row in self.rows if row.macs)

    @cached_property
    def latency_cycles(self) -> float:
        """Cycles of all ops, one after another."""
        return total(row.latency_cycles for row in self.rows)

    @property
    def latency_s(self) -> float:
        """Time of all ops, one after another."""
        return self.latency_cycles / self.clock_hz

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of all contractions, zeros included."""
        return sum(row.macs for row in self.rows)

    @cached_property
    def executed_macs(self) -> float:
        """Multiply-accumulates that zero skipping leaves."""
        return total(row.executed_macs for row in self.rows)

    @cached_property
    def dram_bits(self) -> float:
        """Bits moved to and from DRAM."""
        return total(row.dram_bits for row in self.rows)

    @property
    def energy_delay_product(self) -> float:
        """Energy times latency, in pJ s."""
        return self.energy_pj * self.latency_s

    @property
    def infeasible(self) -> tuple[CostRow, ...]:
        """Rows that no mapping fits; their cost is infinite."""
        return tuple(row for row in self.rows if row.infeasible is not None)

    def to_json(self, *, mappings: bool = False) -> dict[str, object]:
        """Return the report as JSON data; `mappings` adds how every contraction was mapped.

        What a contraction that no mapping fits would cost is null, in its row and in the totals: JSON has no
        infinity. Its `infeasible` has the level, its demand and its capacity.
        """
        known = not self.infeasible
        return {
            "version": 1,
            "accelerator": self.accelerator,
            "technology": self.technology,
            "energy_pj": self.energy_pj if known else None,
            "latency_s": self.latency_s if known else None,
            "macs": self.macs,
            "dram_bits": self.dram_bits if known else None,
            "rows": [self._row(row, mappings) for row in self.rows],
        }

    def _row(self, row: CostRow, mappings: bool) -> dict[str, object]:
        data: dict[str, object] = {
            "op": row.op,
            "layer": row.layer,
            "phase": row.phase.value,
            "macs": row.macs,
            "latency_cycles": row.latency_cycles,
            "latency_s": row.latency_cycles / self.clock_hz,
            "stall_cycles": row.stall_cycles,
            "utilization": row.utilization,
            "dram_bits": row.dram_bits,
            "energy_pj": {level: dict(operands) for level, operands in row.energy_by_level_pj.items()},
        }
        if mappings and row.mapping is not None:
            data["mapping"] = row.mapping.to_json()
        if row.infeasible is not None:
            data |= dict.fromkeys(_COSTS)
            data["infeasible"] = {
                "level": row.infeasible.level,
                "demand_bits": row.infeasible.demand_bits,
                "capacity_bits": row.infeasible.capacity_bits,
            }
        return data
