"""The file format of a chip: pydantic models with unit strings, to and from `Accelerator`.

A figure that a chip file leaves out (the energy of an access, an area, the energy of a MAC) is taken from
the chip's technology; one that it gives stands. `accelerator_to_yaml` writes every figure out, so that what
it writes reads back to an equal chip, whatever the tables say later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite, sqrt
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from hw_templates import units
from hw_templates.accelerator import (
    Accelerator,
    ArrayAxis,
    Dataflow,
    HardwareError,
    MacUnit,
    MemoryKind,
    MemoryLevel,
    Ports,
    Precision,
    SpecialKind,
    SpecialUnit,
    VectorUnit,
    ZeroHandling,
)
from hw_templates.chip_faults import Fault, between_sections, faults_of, refuse, section_faults
from hw_templates.components import Technology, technology
from hw_templates.yaml_text import YAML_ERRORS, parse_yaml, unreadable

FORMAT_VERSION = 1


def _quantity(table: Mapping[str, float], law: str, legal: Callable[[float], bool]) -> BeforeValidator:
    def read(value: object) -> object:
        if isinstance(value, str):
            quantity = units.parse_quantity(value, table)
            if not (isfinite(quantity) and legal(quantity)):
                raise units.UnitError(f"must be {law}, but got {value!r}")
            return quantity
        example = f'"{value} {next(iter(table))}"'
        raise units.UnitError(f"{value!r} has no unit; write it as text with one, as in {example}")

    return BeforeValidator(read)


def _not_negative(quantity: float) -> bool:
    return quantity >= 0


Capacity = Annotated[float, _quantity(units.CAPACITY_BITS, "at least 1 bit", lambda bits: bits >= 1)]
Frequency = Annotated[float, _quantity(units.FREQUENCY_HZ, "above 0 Hz", lambda hertz: hertz > 0)]
Energy = Annotated[float, _quantity(units.ENERGY_PJ, "at least 0 and finite", _not_negative)]
Area = Annotated[float, _quantity(units.AREA_MM2, "at least 0 and finite", _not_negative)]
Power = Annotated[float, _quantity(units.POWER_MW, "at least 0 and finite", _not_negative)]
Letter = Literal["I", "W", "O"]
Loop = Literal["B", "K", "C", "OY", "OX", "FY", "FX", "G"]
Source = Annotated[str, Field(min_length=1, description="Where the numbers of this section are from.")]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MemorySection(_Section):
    """One memory level; energies, area and leakage default to the technology's."""

    source: Source
    kind: MemoryKind
    operands: Annotated[tuple[Letter, ...], Field(min_length=1)]
    word: Capacity
    capacity: Capacity
    granularity: Capacity | None = None
    shared_over: tuple[str, ...] = ()
    ports: Ports = Ports.READ_AND_WRITE
    dram_type: str | None = None
    read_energy: Energy | None = None
    write_energy: Energy | None = None
    area: Area | None = None
    leakage: Power | None = None
    read_cycles_per_word: Annotated[float, Field(gt=0)] = 1.0
    write_cycles_per_word: Annotated[float, Field(gt=0)] = 1.0
    compressed: bool = False
    double_buffered: bool = False
    resident_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @field_validator("capacity")
    @classmethod
    def _holds_a_word(cls, capacity: float, info: ValidationInfo) -> float:
        word = info.data.get("word")
        if word is not None and round(capacity) < round(word):
            raise units.UnitError(
                f"must hold at least one word (word: {word:g} bits), but got {capacity:g} bits; "
                "enlarge the capacity or narrow the word"
            )
        return capacity

    @field_validator("granularity")
    @classmethod
    def _part_of_a_word(cls, granularity: float | None, info: ValidationInfo) -> float | None:
        word = info.data.get("word")
        if granularity is not None and word is not None and round(granularity) > round(word):
            raise units.UnitError(
                f"must be at most one word (word: {word:g} bits), but got {granularity:g} bits; "
                "narrow the granularity or widen the word"
            )
        return granularity


class AxisSection(_Section):
    """One axis of the PE array."""

    size: Annotated[int, Field(ge=1)]
    unroll: Annotated[tuple[Loop, ...], Field(min_length=1)] | None = None
    mixed: bool = True


class MacSection(_Section):
    """The MAC unit of a PE; its energy and area default to the technology's."""

    source: Source
    weight_bits: Annotated[int, Field(ge=1)]
    activation_bits: Annotated[int, Field(ge=1)]
    accumulator_bits: Annotated[int, Field(ge=1)]
    precision: Precision = Precision.FIXED
    energy: Energy | None = None
    area: Area | None = None
    leakage: Power | None = None
    cycles_per_mac: Annotated[float, Field(gt=0)] = 1.0
    energy_by_bits: tuple[tuple[float, float], ...] | None = None


class VectorSection(_Section):
    """The element-wise unit."""

    source: Source
    lanes: Annotated[int, Field(ge=1)]
    energy: Energy | None = None
    area: Area | None = None


class ZerosSection(_Section):
    """What the chip does about zeros."""

    source: Source
    gates: tuple[Literal["I", "W"], ...] = ()
    skips: tuple[Literal["I", "W"], ...] = ()


class SpecialSection(_Section):
    """A special unit; what one operation is depends on its kind (`SpecialKind.operation`)."""

    source: Source
    energy_per_operation: Energy
    area: Area
    operations_per_cycle: Annotated[float, Field(gt=0)] | None = None


class ChipSection(_Section):
    """A whole chip."""

    technology: str
    dataflow: Dataflow
    clock: Frequency
    clock_source: Source
    array_source: Source
    array: Annotated[dict[str, AxisSection], Field(min_length=1)]
    mac: MacSection
    vector: VectorSection
    memories: Annotated[dict[str, MemorySection], Field(min_length=1)]
    zeros: ZerosSection | None = None
    special_units: dict[SpecialKind, SpecialSection] = {}
    other_area: Area = 0.0
    pass_overhead_cycles: Annotated[float, Field(ge=0)] = 0.0


class ChipFile(_Section):
    """An exported chip: every figure written out."""

    format_version: Literal[1]
    name: str
    source: Source
    chip: ChipSection


_UNROLL: dict[Dataflow, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # first axis (columns), second axis (rows); taxonomy of Sze et al., Proc. IEEE 105(12), 2017, section V
    Dataflow.WEIGHT_STATIONARY: (("K", "G"), ("C", "FY", "FX")),
    Dataflow.OUTPUT_STATIONARY: (("K", "G"), ("OX", "OY", "B")),
    Dataflow.ROW_STATIONARY: (("OY", "B", "K"), ("FY", "K", "G", "C")),
    Dataflow.INPUT_STATIONARY: (("C", "G"), ("OX", "OY", "B")),
    Dataflow.NO_LOCAL_REUSE: (("K", "G"), ("C", "FY", "FX")),
}


def build(chip: ChipSection, *, name: str, source: str) -> Accelerator:
    """Return the accelerator that `chip` describes, with the technology's figures where it gives none.

    Raises:
        HardwareError: if the technology is unknown or lacks a figure that the chip leaves out.
    """
    tech = technology(chip.technology)
    return Accelerator(
        name=name,
        technology=chip.technology,
        source=source,
        dataflow=chip.dataflow,
        axes=_axes(chip),
        mac=_mac(chip.mac, tech),
        vector=_vector(chip, tech),
        memories=tuple(_memory(label, level, tech) for label, level in chip.memories.items()),
        clock_hz=chip.clock,
        zeros=ZeroHandling(gates=chip.zeros.gates, skips=chip.zeros.skips) if chip.zeros else ZeroHandling(),
        special_units=tuple(
            SpecialUnit(
                kind=kind,
                energy_pj_per_operation=unit.energy_per_operation,
                area_mm2=unit.area,
                operations_per_cycle=unit.operations_per_cycle,
            )
            for kind, unit in chip.special_units.items()
        ),
        other_area_mm2=chip.other_area,
        pass_overhead_cycles=chip.pass_overhead_cycles,
    )


def _axes(chip: ChipSection) -> tuple[ArrayAxis, ...]:
    default = _UNROLL[chip.dataflow]
    return tuple(
        ArrayAxis(name=label, size=axis.size, unroll=axis.unroll or default[min(index, 1)], mixed=axis.mixed)
        for index, (label, axis) in enumerate(chip.array.items())
    )


def _area(given: float | None, derived: float | None, path: str, tech: Technology) -> float:
    if given is not None:
        return given
    if derived is None:
        raise HardwareError(f"chip.{path}.area: technology {tech.name} has no area for it; give this key")
    return derived


def _mac(mac: MacSection, tech: Technology) -> MacUnit:
    native = sqrt(mac.weight_bits * mac.activation_bits)  # energy grows with the product of the widths
    cost = tech.mac(native)
    accumulate = tech.add(mac.accumulator_bits)
    curve = mac.energy_by_bits
    if curve is None:
        curve = tuple(
            (float(bits), tech.mac(bits).energy_pj / cost.energy_pj) for bits in (1, 2, 4, 8, 16, 32)
        )
    return MacUnit(
        weight_bits=mac.weight_bits,
        activation_bits=mac.activation_bits,
        accumulator_bits=mac.accumulator_bits,
        precision=mac.precision,
        energy_pj=cost.energy_pj if mac.energy is None else mac.energy,
        area_mm2=_area(mac.area, cost.area_mm2, "mac", tech) if accumulate else 0.0,
        leakage_mw=mac.leakage or 0.0,
        cycles_per_mac=mac.cycles_per_mac,
        energy_by_bits=curve,
    )


def _vector(chip: ChipSection, tech: Technology) -> VectorUnit:
    unit = chip.vector
    add = tech.add(
        chip.mac.accumulator_bits
    )  # an element-wise step is taken as one wide addition: an estimate
    lane_area = _area(None if unit.area is None else 0.0, add.area_mm2, "vector", tech)
    return VectorUnit(
        lanes=unit.lanes,
        energy_pj_per_op=add.energy_pj if unit.energy is None else unit.energy,
        area_mm2=lane_area * unit.lanes if unit.area is None else unit.area,
    )


def _memory(label: str, level: MemorySection, tech: Technology) -> MemoryLevel:
    word_bits = round(level.word)
    read, write, area, leakage = level.read_energy, level.write_energy, level.area, level.leakage
    if level.kind is MemoryKind.DRAM:
        if read is None or write is None:
            per_bit = tech.dram(level.dram_type or next(iter(tech.dram_pj_per_bit)))
            read, write = per_bit * word_bits, per_bit * word_bits
        area, leakage = 0.0, leakage or 0.0
    else:
        cost = tech.memory(level.capacity, word_bits)
        read = cost.read_energy_pj if read is None else read
        write = cost.write_energy_pj if write is None else write
        area = _area(area, cost.area_mm2, f"memories.{label}", tech)
        leakage = cost.leakage_mw if leakage is None else leakage
    return MemoryLevel(
        name=label,
        kind=level.kind,
        operands=level.operands,
        capacity_bits=round(level.capacity),
        word_bits=word_bits,
        granularity_bits=round(level.granularity or level.word),
        read_energy_pj=read,
        write_energy_pj=write,
        area_mm2=area,
        leakage_mw=leakage,
        shared_over=level.shared_over,
        ports=level.ports,
        read_cycles_per_word=level.read_cycles_per_word,
        write_cycles_per_word=level.write_cycles_per_word,
        compressed=level.compressed or level.kind.off_chip,
        double_buffered=level.double_buffered,
        resident_fraction=level.resident_fraction,
    )


_M = TypeVar("_M", bound=BaseModel)


def read_model(model: type[_M], data: object, *, where: str, under: str = "") -> _M:
    """Return `data` as a `model`; every problem in one `HardwareError`, each with its path and value."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        refuse(faults_of(error, model, under), where)
        raise


def chip_faults(chip: object) -> list[Fault]:
    """Return every fault of a chip's data, by paths that start at `chip`."""
    return [*section_faults(ChipSection, chip, "chip"), *between_sections(chip)]


def read_text(path: Path) -> str:
    """Return the text of a file.

    Raises:
        HardwareError: if it cannot be read as text.
    """
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise HardwareError(f"{path} cannot be read as text: {error}") from error


def read_yaml(text: str, *, where: str) -> dict[str, object]:
    """Return the mapping that `text` holds, or raise a `HardwareError` with the place of the fault."""
    try:
        data = parse_yaml(text)
    except YAML_ERRORS as error:
        raise HardwareError(f"{where} is {unreadable(error, 'a chip file')}") from error
    if not isinstance(data, dict):
        raise HardwareError(f"{where} must hold a mapping, but holds {type(data).__name__}")
    return data


def accelerator_from_yaml(text: str, *, where: str = "the accelerator file") -> Accelerator:
    """Return the accelerator that `accelerator_to_yaml` wrote.

    Raises:
        HardwareError: with every problem of the text.
    """
    data = read_yaml(text, where=where)
    refuse([*section_faults(ChipFile, data), *between_sections(data.get("chip"))], where)
    file = ChipFile.model_validate(data)
    try:
        return build(file.chip, name=file.name, source=file.source)
    except HardwareError as error:
        raise HardwareError(f"{where}: {error}") from error


def accelerator_from_file(path: Path) -> Accelerator:
    """Return the accelerator in an exported file; see `accelerator_from_yaml`."""
    return accelerator_from_yaml(read_text(path), where=str(path))
