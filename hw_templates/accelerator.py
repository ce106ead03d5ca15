"""The accelerator: PE array, dataflow, memory levels, special units. A frozen value with every number in it.

An `Accelerator` holds no reference to a template or a table: what it costs is written in its fields, so a
chip that was exported evaluates the same for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from math import prod

OPERANDS = ("I", "W", "O")
"""The operands of a contraction as the hardware sees them: streamed input, weight, accumulated output."""

LOOPS = ("B", "K", "C", "OY", "OX", "FY", "FX", "G")
"""The loop dimensions, in ZigZag's letters; G counts groups."""


class HardwareError(ValueError):
    """A chip, template or component that cannot be: the message has the field, its value, the legal ones."""


class Dataflow(Enum):
    """Which operand the array holds still; it decides what the array axes unroll when a chip does not say."""

    WEIGHT_STATIONARY = "weight_stationary"
    OUTPUT_STATIONARY = "output_stationary"
    ROW_STATIONARY = "row_stationary"
    INPUT_STATIONARY = "input_stationary"
    NO_LOCAL_REUSE = "no_local_reuse"


class Precision(Enum):
    """What operands narrower than the multiplier save.

    FIXED: nothing in the multiplier (storage and traffic always shrink).
    GATED: energy, because the unused bits are held still; no cycles.
    DECOMPOSABLE: the multiplier splits into 2-bit bricks, as in Bit Fusion: energy and cycles.
    BIT_SERIAL: weights are processed one bit a cycle, as in Stripes and UNPU: energy and cycles.
    """

    FIXED = "fixed"
    GATED = "gated"
    DECOMPOSABLE = "decomposable"
    BIT_SERIAL = "bit_serial"


class MemoryKind(Enum):
    """What a memory level is made of."""

    REGISTER = "register"
    SRAM = "sram"
    DRAM = "dram"
    FLASH = "flash"

    @property
    def off_chip(self) -> bool:
        """True for DRAM: its traffic is the `dram_bits` of a report, its area belongs to no chip."""
        return self is MemoryKind.DRAM


class Ports(Enum):
    """How accesses share the memory: one port for both directions, or one for each."""

    READ_WRITE = "read_write"
    READ_AND_WRITE = "read_and_write"


@dataclass(frozen=True, kw_only=True, slots=True)
class ZeroHandling:
    """What the chip does about an operand's zeros: nothing, gate the MAC's energy, or skip its cycle too."""

    gates: tuple[str, ...] = ()
    skips: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for letter in (*self.gates, *self.skips):
            if letter not in ("I", "W"):
                raise HardwareError(f"zeros of I or W can be gated or skipped, but got {letter!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryLevel:
    """One level of the memory hierarchy; the fields describe one instance of it.

    `shared_over` names the array axes whose PEs share one instance: none for a memory in every PE, all of
    them for a global buffer. A word is what the port moves in one cycle; `granularity_bits` is the smallest
    part of a word that an access pays for. `compressed` says that operands stay in their compressed form.
    `resident_fraction` is the part of the level that may keep whole tensors from one op to the next.
    """

    name: str
    kind: MemoryKind
    operands: tuple[str, ...]
    capacity_bits: int
    word_bits: int
    granularity_bits: int
    read_energy_pj: float
    write_energy_pj: float
    area_mm2: float = 0.0
    leakage_mw: float = 0.0
    shared_over: tuple[str, ...] = ()
    ports: Ports = Ports.READ_AND_WRITE
    read_cycles_per_word: float = 1.0
    write_cycles_per_word: float = 1.0
    compressed: bool = False
    double_buffered: bool = False
    resident_fraction: float = 0.0

    def __post_init__(self) -> None:
        if not self.operands or any(letter not in OPERANDS for letter in self.operands):
            raise HardwareError(f"{self.name}.operands must be some of {OPERANDS}, but got {self.operands}")
        if self.word_bits < 1 or self.capacity_bits < self.word_bits:
            raise HardwareError(
                f"{self.name} must hold at least one word, but got capacity_bits={self.capacity_bits} "
                f"and word_bits={self.word_bits}; enlarge the capacity or narrow the word"
            )
        if not 1 <= self.granularity_bits <= self.word_bits:
            raise HardwareError(
                f"{self.name}: 1 <= granularity_bits <= word_bits must hold, but got "
                f"granularity_bits={self.granularity_bits} and word_bits={self.word_bits}"
            )
        for quantity in ("read_energy_pj", "write_energy_pj", "area_mm2", "leakage_mw"):
            if not 0 <= getattr(self, quantity) < float("inf"):
                raise HardwareError(
                    f"{self.name}.{quantity} must be finite and >= 0, got {getattr(self, quantity)}"
                )
        if min(self.read_cycles_per_word, self.write_cycles_per_word) <= 0:
            raise HardwareError(f"{self.name}: cycles per word must be > 0")
        if not 0 <= self.resident_fraction < 1:
            raise HardwareError(
                f"{self.name}: 0 <= resident_fraction < 1 must hold, but got {self.resident_fraction}; "
                "the rest of the level holds the tiles of the op at work"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class ArrayAxis:
    """One axis of the PE array: its size and the loops that it may unroll, preferred first.

    `unroll` is written for the forward pass; backward passes use the loops that play the same part in them
    (`evaluators.cost.spatial`). `mixed` says that several loops may share the axis.
    """

    name: str
    size: int
    unroll: tuple[str, ...]
    mixed: bool = True

    def __post_init__(self) -> None:
        if self.size < 1:
            raise HardwareError(f"axis {self.name} must have size >= 1, but got {self.size}")
        if not self.unroll or any(loop not in LOOPS for loop in self.unroll):
            raise HardwareError(f"axis {self.name} must unroll some of {LOOPS}, but got {self.unroll}")


@dataclass(frozen=True, kw_only=True, slots=True)
class MacUnit:
    """The multiply-accumulate unit in every PE.

    `energy_pj` and `area_mm2` are of one MAC at the native precision. `energy_by_bits` scales the energy of
    a narrower product: pairs of (bits, energy relative to native), ascending, used by `Precision`s that save.
    """

    weight_bits: int
    activation_bits: int
    accumulator_bits: int
    precision: Precision
    energy_pj: float
    area_mm2: float
    leakage_mw: float = 0.0
    cycles_per_mac: float = 1.0
    energy_by_bits: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if min(self.weight_bits, self.activation_bits, self.accumulator_bits) < 1:
            raise HardwareError("weight_bits, activation_bits and accumulator_bits must be >= 1")
        if self.cycles_per_mac <= 0 or self.energy_pj < 0:
            raise HardwareError("cycles_per_mac must be > 0 and energy_pj >= 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class VectorUnit:
    """The unit for element-wise work: pooling, normalisation, activation functions, the weights' update."""

    lanes: int
    energy_pj_per_op: float
    area_mm2: float

    def __post_init__(self) -> None:
        if self.lanes < 1:
            raise HardwareError(f"a vector unit has at least one lane, but got lanes={self.lanes}")


class SpecialKind(Enum):
    """What a special unit does beside the array."""

    REBUILD_ENGINE = "rebuild_engine"  # rebuilds weights from basis and coefficients (SmartExchange)
    NORMALIZATION_UNIT = "normalization_unit"  # statistics and normalisation in one pass (LightNorm)
    CODEC = "codec"  # compresses what leaves the chip, restores what comes back

    @property
    def operation(self) -> str:
        """What one operation of the unit is."""
        return {
            SpecialKind.REBUILD_ENGINE: "one shift-and-add: a coefficient times an element of its basis row",
            SpecialKind.NORMALIZATION_UNIT: "one element normalised",
            SpecialKind.CODEC: "one element coded or decoded",
        }[self]


@dataclass(frozen=True, kw_only=True, slots=True)
class SpecialUnit:
    """A special unit: what an operation costs (`SpecialKind.operation`), and how many it does in a cycle.

    Without `operations_per_cycle` the unit always keeps up with the array.
    """

    kind: SpecialKind
    energy_pj_per_operation: float
    area_mm2: float
    operations_per_cycle: float | None = None

    def __post_init__(self) -> None:
        throughput = self.operations_per_cycle
        slow = throughput is not None and throughput <= 0
        if slow or self.energy_pj_per_operation < 0 or self.area_mm2 < 0:
            raise HardwareError(
                f"special unit {self.kind.value}: throughput > 0, energy and area >= 0 must hold, but got "
                f"operations_per_cycle={throughput}, energy_pj_per_operation={self.energy_pj_per_operation}, "
                f"area_mm2={self.area_mm2}"
            )

    def cycles(self, operations: float) -> float:
        """Return the time that `operations` take; none where the unit always keeps up."""
        return 0.0 if self.operations_per_cycle is None else operations / self.operations_per_cycle


@dataclass(frozen=True, kw_only=True, slots=True)
class Accelerator:
    """A chip. `memories` stand innermost first; every operand needs a way to the outermost one.

    `pass_overhead_cycles` is what the array idles at the start of each processing pass (ramp-up): whenever
    the innermost memories of the weights are filled anew.
    """

    name: str
    technology: str
    source: str
    dataflow: Dataflow
    axes: tuple[ArrayAxis, ...]
    mac: MacUnit
    vector: VectorUnit
    memories: tuple[MemoryLevel, ...]
    clock_hz: float
    zeros: ZeroHandling = field(default_factory=ZeroHandling)
    special_units: tuple[SpecialUnit, ...] = ()
    other_area_mm2: float = 0.0
    pass_overhead_cycles: float = 0.0

    def __post_init__(self) -> None:
        if self.clock_hz <= 0:
            raise HardwareError(f"clock_hz must be > 0, but got {self.clock_hz}")
        kinds = [unit.kind.value for unit in self.special_units]
        if len(set(kinds)) != len(kinds):
            raise HardwareError(f"a chip has one special unit of a kind, but got {kinds}")
        names = [level.name for level in self.memories]
        if len(set(names)) != len(names):
            raise HardwareError(f"memory levels must have distinct names, but got {names}")
        axis_names = {axis.name for axis in self.axes}
        for level in self.memories:
            unknown = set(level.shared_over) - axis_names
            if unknown:
                raise HardwareError(
                    f"{level.name}.shared_over must name axes of {sorted(axis_names)}, "
                    f"but got {sorted(unknown)}"
                )
        for letter in OPERANDS:
            chain = self.chain(letter)
            if not chain:
                raise HardwareError(f"operand {letter} has no memory; add it to a level's operands")
            if set(chain[-1].shared_over) != axis_names:
                raise HardwareError(
                    f"the outermost memory of operand {letter} must be shared over every axis of "
                    f"{sorted(axis_names)}, but {chain[-1].name} is shared over {chain[-1].shared_over}"
                )

    def __hash__(self) -> int:
        """Return a hash of what most often differs: hashing every field costs as much as mapping a layer."""
        sizes = tuple(axis.size for axis in self.axes)
        return hash((self.name, self.clock_hz, sizes, tuple(level.capacity_bits for level in self.memories)))

    def chain(self, operand: str) -> tuple[MemoryLevel, ...]:
        """Return the memories that hold `operand` ("I", "W" or "O"), innermost first."""
        return tuple(level for level in self.memories if operand in level.operands)

    @property
    def pe_count(self) -> int:
        """Number of PEs in the array."""
        return prod(axis.size for axis in self.axes)

    def instances(self, level: MemoryLevel) -> int:
        """Return how many instances of `level` the chip has."""
        return prod(axis.size for axis in self.axes if axis.name not in level.shared_over)

    def special_unit(self, kind: SpecialKind) -> SpecialUnit | None:
        """Return the special unit of a kind, or None where the chip has none."""
        return next((unit for unit in self.special_units if unit.kind is kind), None)

    @property
    def unit_kinds(self) -> frozenset[SpecialKind]:
        """Which special units the chip has."""
        return frozenset(unit.kind for unit in self.special_units)

    @property
    def on_chip_bits(self) -> int:
        """Total capacity of all on-chip memory instances."""
        return sum(
            level.capacity_bits * self.instances(level) for level in self.memories if not level.kind.off_chip
        )

    @property
    def leakage_mw(self) -> float:
        """Static power of the whole chip."""
        memories = sum(level.leakage_mw * self.instances(level) for level in self.memories)
        return memories + self.mac.leakage_mw * self.pe_count

    def to_yaml(self) -> str:
        """Return this chip as YAML; `accelerator_from_yaml` reads it back exactly."""
        from hw_templates.chip_writer import accelerator_to_yaml

        return accelerator_to_yaml(self)
