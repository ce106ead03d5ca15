"""Energy and area of SRAM, registers, MACs, adders and DRAM, per named technology.

Every technology is one JSON file in `hw_templates/tables/` with its source, and the tables never mix:
a chip names one technology and every derived figure of it comes from there. Between the points of a table
the figures are interpolated on log-log axes; outside them they are extrapolated along the outermost
segment, and the result says so (`extrapolated`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from importlib import resources
from math import exp, log
from types import MappingProxyType
from typing import TypeVar

from hw_templates.accelerator import HardwareError
from hw_templates.names import nearest

_P = TypeVar("_P")


class NumberFormat(Enum):
    """How a number is written in its bits."""

    INTEGER = "integer"
    FLOAT = "float"


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryCost:
    """One memory instance: energy of an access of one word, area, leakage."""

    read_energy_pj: float
    write_energy_pj: float
    area_mm2: float | None
    leakage_mw: float
    extrapolated: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitCost:
    """One arithmetic operation: its energy, and the area of the unit that does it."""

    energy_pj: float
    area_mm2: float | None
    extrapolated: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class SramPoint:
    """One row of an SRAM table; `area_mm2` is None where the source gives none."""

    capacity_bits: float
    word_bits: int
    read_pj: float
    write_pj: float
    area_mm2: float | None = None
    leakage_mw: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ArithmeticPoint:
    """One row of a table of arithmetic units."""

    bits: int
    energy_pj: float
    area_mm2: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Technology:
    """A named set of component tables that belong together."""

    name: str
    title: str
    source: str
    notes: tuple[str, ...]
    node_nm: float
    energy_unit: str
    sram: tuple[SramPoint, ...]
    integer_mac: tuple[ArithmeticPoint, ...]
    integer_add: tuple[ArithmeticPoint, ...]
    float_mac: tuple[ArithmeticPoint, ...]
    dram_pj_per_bit: Mapping[str, float]

    def memory(self, capacity_bits: float, word_bits: int) -> MemoryCost:
        """Return the cost of an SRAM or register file of `capacity_bits` with words of `word_bits`.

        The energy of an access scales linearly with the word (an estimate: the tables hold one width).
        """
        width = word_bits / self.sram[0].word_bits
        at = float(capacity_bits)
        read_pj = _curve(self.sram, lambda p: p.capacity_bits, lambda p: p.read_pj, at)
        write_pj = _curve(self.sram, lambda p: p.capacity_bits, lambda p: p.write_pj, at)
        area = None
        if all(point.area_mm2 is not None for point in self.sram):
            area = _curve(self.sram, lambda p: p.capacity_bits, lambda p: p.area_mm2 or 0.0, at)
        leakage = 0.0
        if all(point.leakage_mw > 0 for point in self.sram):
            leakage = _curve(self.sram, lambda p: p.capacity_bits, lambda p: p.leakage_mw, at)
        return MemoryCost(
            read_energy_pj=read_pj * width,
            write_energy_pj=write_pj * width,
            area_mm2=area,
            leakage_mw=leakage,
            extrapolated=not self.sram[0].capacity_bits <= at <= self.sram[-1].capacity_bits,
        )

    def mac(self, bits: float, number_format: NumberFormat = NumberFormat.INTEGER) -> UnitCost:
        """Return the cost of a multiply-accumulate of two operands of `bits`.

        For operands of different widths pass the geometric mean of both: a multiplier's energy and area
        grow with the product of its operands' widths.
        """
        points = self.integer_mac
        if number_format is NumberFormat.FLOAT and self.float_mac:
            points = self.float_mac
        return _unit(points, bits)

    def add(self, bits: float) -> UnitCost:
        """Return the cost of an integer addition; where the table has none, one `bits`-th of a MAC."""
        if self.integer_add:
            return _unit(self.integer_add, bits)
        mac = self.mac(bits)
        area = None if mac.area_mm2 is None else mac.area_mm2 / bits
        return UnitCost(energy_pj=mac.energy_pj / bits, area_mm2=area, extrapolated=True)

    def dram(self, kind: str) -> float:
        """Return the energy in pJ of moving one bit to or from a DRAM of `kind`.

        Raises:
            HardwareError: if the technology has no DRAM of that kind.
        """
        if kind not in self.dram_pj_per_bit:
            raise HardwareError(
                f"technology {self.name} has no DRAM {kind!r}; it has: {', '.join(self.dram_pj_per_bit)}"
            )
        return self.dram_pj_per_bit[kind]


def _curve(points: tuple[_P, ...], x: Callable[[_P], float], y: Callable[[_P], float], at: float) -> float:
    """Return y at `at`, interpolated on log-log axes; with one point, y is proportional to x squared."""
    if len(points) == 1:
        return y(points[0]) * (at / x(points[0])) ** 2  # a multiplier's energy grows with bits squared
    index = 1
    while index < len(points) - 1 and at > x(points[index]):
        index += 1
    low, high = points[index - 1], points[index]
    slope = log(y(high) / y(low)) / log(x(high) / x(low))
    return y(low) * exp(slope * log(at / x(low)))


def _unit(points: tuple[ArithmeticPoint, ...], bits: float) -> UnitCost:
    area = None
    if all(point.area_mm2 is not None for point in points):
        area = _curve(points, lambda p: p.bits, lambda p: p.area_mm2 or 0.0, bits)
    return UnitCost(
        energy_pj=_curve(points, lambda p: p.bits, lambda p: p.energy_pj, bits),
        area_mm2=area,
        extrapolated=not points[0].bits <= bits <= points[-1].bits,
    )


def technologies() -> tuple[str, ...]:
    """Return the names of all technologies, sorted."""
    folder = resources.files("hw_templates.tables")
    return tuple(sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".json")))


@cache
def technology(name: str) -> Technology:
    """Return the technology called `name`.

    Raises:
        HardwareError: if there is none; the message has the nearest name and the list.
    """
    known = technologies()
    if name not in known:
        raise HardwareError(
            f"there is no technology {name!r}.{nearest(name, known)} Known: {', '.join(known)}"
        )
    text = (resources.files("hw_templates.tables") / f"{name}.json").read_text("utf-8")
    data = json.loads(text)
    return Technology(
        name=data["name"],
        title=data["title"],
        source=data["source"],
        notes=tuple(data["notes"]),
        node_nm=data["node_nm"],
        energy_unit=data["energy_unit"],
        sram=tuple(SramPoint(**row) for row in data["sram"]),
        integer_mac=tuple(ArithmeticPoint(**row) for row in data["integer_mac"]),
        integer_add=tuple(ArithmeticPoint(**row) for row in data.get("integer_add", ())),
        float_mac=tuple(ArithmeticPoint(**row) for row in data.get("float_mac", ())),
        dram_pj_per_bit=MappingProxyType(data["dram_pj_per_bit"]),
    )
