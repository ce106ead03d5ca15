"""How a unit is shown: percent, SI prefix, binary prefix, or as it stands.

A share of one whole (an accuracy) has the unit ``fraction``; a bare ``""`` or ``count`` is a number.

One table serves the words written in Python and, embedded in the page, the numbers formatted by its script.
"""

import math
from dataclasses import dataclass
from enum import StrEnum


class Style(StrEnum):
    """How numbers of a unit are written."""

    PERCENT = "percent"
    SI = "si"
    BINARY = "binary"
    PLAIN = "plain"


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantity:
    """A unit on display.

    Args:
        style: How numbers are written.
        symbol: What follows the number and its prefix; empty for bare numbers.
        factor: Multiplies the stored number to give one ``symbol`` (1e-12 for pJ shown as J).
    """

    style: Style
    symbol: str
    factor: float = 1.0


_QUANTITIES: dict[str, Quantity] = {
    "fraction": Quantity(style=Style.PERCENT, symbol="%"),
    "pj": Quantity(style=Style.SI, symbol="J", factor=1e-12),  # SI: pico is 1e-12
    "j": Quantity(style=Style.SI, symbol="J"),
    "s": Quantity(style=Style.SI, symbol="s"),
    "w": Quantity(style=Style.SI, symbol="W"),
    "hz": Quantity(style=Style.SI, symbol="Hz"),
    "pj s": Quantity(style=Style.SI, symbol="Js", factor=1e-12),  # energy-delay product
    "bit": Quantity(style=Style.SI, symbol="bit"),
    "bits": Quantity(style=Style.SI, symbol="bit"),
    "b": Quantity(style=Style.BINARY, symbol="B"),
    "bytes": Quantity(style=Style.BINARY, symbol="B"),
    "mm2": Quantity(style=Style.PLAIN, symbol="mm²"),
    "count": Quantity(style=Style.SI, symbol=""),
    "macs": Quantity(style=Style.SI, symbol=""),
    "cycles": Quantity(style=Style.SI, symbol="cycles"),
}

_SI_PREFIXES: tuple[tuple[float, str], ...] = (
    (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""),
    (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"), (1e-12, "p"), (1e-15, "f"),
)  # fmt: skip
_BINARY_PREFIXES: tuple[tuple[float, str], ...] = (
    (2.0**40, "Ti"), (2.0**30, "Gi"), (2.0**20, "Mi"), (2.0**10, "Ki"), (1.0, ""),
)  # fmt: skip

MISSING = "–"
"""Shown where a score was not taken or is not a finite number."""


def quantity_of(unit: str) -> Quantity:
    """Look a unit up; an unknown one is shown as it stands.

    >>> quantity_of("pJ").symbol
    'J'
    >>> quantity_of("frames/s").symbol
    'frames/s'
    """
    return _QUANTITIES.get(unit.lower(), Quantity(style=Style.PLAIN, symbol=unit))


def format_quantity(value: float, unit: str) -> str:
    """Write a value with its unit, three significant digits.

    >>> format_quantity(1_234_000.0, "pJ")
    '1.23 µJ'
    >>> format_quantity(0.9731, "fraction"), format_quantity(262_144, "bytes")
    ('97.3 %', '256 KiB')
    """
    if not math.isfinite(value):
        return MISSING
    quantity = quantity_of(unit)
    if quantity.style is Style.PERCENT:
        return f"{100 * value:.1f} %"
    if quantity.style is Style.PLAIN:
        return f"{_digits(value)} {quantity.symbol}".rstrip()
    prefixes = _SI_PREFIXES if quantity.style is Style.SI else _BINARY_PREFIXES
    shown = value * quantity.factor
    # NOTE: the factor 0.9995 sends 999.7 k to "1 M", as rounding to three digits would write "1000 k".
    scale, prefix = next(
        ((s, p) for s, p in prefixes if abs(shown) >= 0.9995 * s), prefixes[-1] if shown else (1.0, "")
    )
    return f"{_digits(shown / scale)} {prefix}{quantity.symbol}".rstrip()


def _digits(value: float) -> str:
    """Write three significant digits without an exponent and without trailing zeros."""
    if value == 0:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{decimals}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return text.replace("-", "−")


_AS_WRITTEN = {"macs": "MACs", "bops": "BOPs", "edp": "EDP", "dram": "DRAM"}
_UNIT_SUFFIXES = ("_pj_s", "_pj", "_s", "_bytes", "_bits", "_mm2", "_hz", "_cycles")


def score_label(name: str) -> str:
    """Turn a score name into words, its unit suffix dropped.

    >>> score_label("peak_training_bytes"), score_label("test_accuracy")
    ('peak training memory', 'test accuracy')
    """
    words = next((name.removesuffix(suffix) for suffix in _UNIT_SUFFIXES if name.endswith(suffix)), name)
    tail = " memory" if name.startswith("peak_") and name.endswith("_bytes") and "memory" not in name else ""
    return " ".join(_AS_WRITTEN.get(word, word) for word in words.split("_")) + tail
