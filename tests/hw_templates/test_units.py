"""Quantities with units: what is read, and what every refusal says."""

import pytest

from hw_templates import units


@pytest.mark.parametrize(
    ("text", "table", "value"),
    [
        ("108 KiB", units.CAPACITY_BITS, 108 * 1024 * 8),
        ("448 B", units.CAPACITY_BITS, 3584),
        ("64 bits", units.CAPACITY_BITS, 64),
        ("200 MHz", units.FREQUENCY_HZ, 2e8),
        ("1.5 nJ", units.ENERGY_PJ, 1500),
        ("782.5um2", units.AREA_MM2, 782.5e-6),
        ("3e-2 mW", units.POWER_MW, 0.03),
    ],
)
def test_a_quantity_is_read_in_base_units(text, table, value):
    assert units.parse_quantity(text, table) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("108", "has no unit; write one of"),
        ("108 Kib", "'Kib' of '108 Kib' is not one of.*did you mean 'KiB'"),
        ("many KiB", "a quantity is a number and a unit"),
    ],
)
def test_a_refusal_names_the_legal_units(text, message):
    with pytest.raises(units.UnitError, match=message):
        units.parse_quantity(text)


def test_leakage_is_power_times_time():
    assert units.leakage_pj(2.0, 1e-6) == pytest.approx(2e-3 * 1e-6 / 1e-12)
