"""Component tables: points are reproduced, the rest is interpolated, what lies outside says so."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw_templates.accelerator import HardwareError
from hw_templates.components import NumberFormat, technologies, technology


@pytest.mark.parametrize("name", technologies())
def test_every_technology_reproduces_its_own_points(name):
    tech = technology(name)
    for point in tech.sram:
        cost = tech.memory(point.capacity_bits, point.word_bits)
        assert cost.read_energy_pj == pytest.approx(point.read_pj)
        assert cost.write_energy_pj == pytest.approx(point.write_pj)
        assert not cost.extrapolated
    for row in tech.integer_mac:
        assert tech.mac(row.bits).energy_pj == pytest.approx(row.energy_pj)


@pytest.mark.parametrize("name", technologies())
def test_every_technology_has_a_source_and_positive_figures(name):
    tech = technology(name)
    assert tech.name == name
    assert len(tech.source) > 20
    assert tech.add(8).energy_pj > 0
    assert all(value > 0 for value in tech.dram_pj_per_bit.values())


def test_cacti_45nm_108_kb_is_the_published_point():
    """CACTI 7 at 45 nm, 108 KB, 64-bit word: 29.45 pJ a read, 0.3715 mm2."""
    cost = technology("cacti_aladdin_45nm").memory(108 * 8192, 64)
    assert cost.read_energy_pj == pytest.approx(29.4494)
    assert cost.area_mm2 == pytest.approx(0.371477)


def test_horowitz_mac_is_multiply_plus_add():
    """Horowitz 2014: 8-bit multiply 0.2 pJ, 32-bit add 0.1 pJ; fp32 3.7 and 0.9 pJ."""
    tech = technology("horowitz_45nm")
    assert tech.mac(8).energy_pj == pytest.approx(0.3)
    assert tech.mac(32, NumberFormat.FLOAT).energy_pj == pytest.approx(4.6)


@given(st.floats(min_value=64, max_value=2**26), st.floats(min_value=1.01, max_value=4))
def test_a_larger_memory_costs_more_per_access_and_more_area(capacity, ratio):
    tech = technology("cacti_aladdin_45nm")
    small, large = tech.memory(capacity, 64), tech.memory(capacity * ratio, 64)
    assert large.read_energy_pj > small.read_energy_pj
    assert large.area_mm2 is not None
    assert small.area_mm2 is not None
    assert large.area_mm2 > small.area_mm2


def test_outside_the_table_is_marked_as_extrapolated():
    tech = technology("cacti_aladdin_45nm")
    assert tech.memory(96, 8).extrapolated
    assert tech.mac(2).extrapolated
    assert not tech.mac(6).extrapolated


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(HardwareError, match=r"Did you mean 'horowitz_45nm'"):
        technology("horowitz45nm")
    with pytest.raises(HardwareError, match=r"has no DRAM 'DDR9'; it has: LPDDR4"):
        technology("cacti_aladdin_45nm").dram("DDR9")
