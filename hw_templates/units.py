"""Physical quantities as text ("108 KiB", "200 MHz") and their conversion to the units that names carry.

Everything inside the program is a plain number whose name ends in its unit (`capacity_bits`, `clock_hz`,
`energy_pj`, `area_mm2`, `power_mw`, `duration_s`). Text with units stands only in files, and is read here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Number = TypeVar("Number", float, "NDArray[np.float64]")


class UnitError(ValueError):
    """A quantity that cannot be read: no unit, an unknown unit, or a unit of another dimension."""


CAPACITY_BITS: Final[Mapping[str, float]] = MappingProxyType(
    {
        "b": 1,
        "bit": 1,
        "bits": 1,
        "B": 8,
        "byte": 8,
        "bytes": 8,
        "KB": 8e3,
        "MB": 8e6,
        "GB": 8e9,
        "KiB": 8 * 2**10,
        "MiB": 8 * 2**20,
        "GiB": 8 * 2**30,
    }
)
FREQUENCY_HZ: Final[Mapping[str, float]] = MappingProxyType({"Hz": 1, "kHz": 1e3, "MHz": 1e6, "GHz": 1e9})
ENERGY_PJ: Final[Mapping[str, float]] = MappingProxyType(
    {"fJ": 1e-3, "pJ": 1, "nJ": 1e3, "uJ": 1e6, "mJ": 1e9}
)
AREA_MM2: Final[Mapping[str, float]] = MappingProxyType({"um2": 1e-6, "mm2": 1})
POWER_MW: Final[Mapping[str, float]] = MappingProxyType({"nW": 1e-6, "uW": 1e-3, "mW": 1, "W": 1e3})
DURATION_S: Final[Mapping[str, float]] = MappingProxyType(
    {"ps": 1e-12, "ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1}
)

BITS_PER_BYTE: Final = 8
PJ_PER_JOULE: Final = 1e12
PJ_PER_MILLIJOULE: Final = 1e9
MM2_PER_UM2: Final = 1e-6

_QUANTITY: Final = re.compile(r"^\s*([+-]?[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z][A-Za-z0-9]*)?\s*$")


def parse_quantity(text: str, units: Mapping[str, float] = CAPACITY_BITS) -> float:
    """Return the quantity that `text` names, in the base unit of `units`.

    Args:
        text: a number and a unit, as in "108 KiB".
        units: the size of every legal unit in base units, one of this module's tables.

    Raises:
        UnitError: if `text` isn't a number with a unit, or the unit is not in `units`.

    >>> parse_quantity("108 KiB")
    884736.0
    >>> parse_quantity("200 MHz", FREQUENCY_HZ)
    200000000.0
    """
    match = _QUANTITY.match(text)
    legal = ", ".join(units)
    if match is None:
        raise UnitError(
            f'a quantity is a number and a unit, as in "12 {next(iter(units))}", but got {text!r}'
        )
    number, unit = match.groups()
    if unit is None:
        raise UnitError(f"{text!r} has no unit; write one of: {legal}")
    if unit not in units:
        near = difflib.get_close_matches(unit, units, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UnitError(f"unit {unit!r} of {text!r} is not one of: {legal}{hint}")
    return float(number) * units[unit]


def bits_to_bytes(bits: float) -> float:
    """Return `bits` in bytes.

    >>> bits_to_bytes(16)
    2.0
    """
    return bits / BITS_PER_BYTE


def pj_to_joule(energy_pj: float) -> float:
    """Return `energy_pj` in joule."""
    return energy_pj / PJ_PER_JOULE


def cycles_to_seconds(cycles: Number, clock_hz: Number) -> Number:
    """Return how long `cycles` last at `clock_hz`.

    >>> cycles_to_seconds(200, 200e6)
    1e-06
    """
    return cycles / clock_hz


def leakage_pj(power_mw: Number, duration_s: Number) -> Number:
    """Return the energy that `power_mw` of leakage costs over `duration_s`.

    >>> leakage_pj(1.0, 1e-9)
    1.0
    """
    return power_mw * duration_s * PJ_PER_MILLIJOULE
