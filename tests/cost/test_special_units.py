"""Special units in the ledger: closed forms on a small chip, exact sums, time, and chips without the unit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evaluators.cost.chip_table import chip_table
from evaluators.cost.many import table_totals
from evaluators.cost.model import cost
from evaluators.cost.special import undecoded_layers
from evaluators.techniques.dispatch import rewrite
from evaluators.workload.graph import LoopNest, WeightCode
from hw_templates import templates
from hw_templates.accelerator import HardwareError, SpecialKind, SpecialUnit
from hw_templates.chip_file import accelerator_from_yaml
from search_spaces.smartdeal import SmartDeal
from tests.cost.cost_fakes import SMALL, chip, skipping, workload

CONV = LoopNest(k=4, c=6, oy=5, ox=5, fy=3, fx=3, iy=5, ix=5)  # 216 weights: 4 filters of 18 rows of 3


def unit(kind, energy_pj=0.5, per_cycle=None):
    return SpecialUnit(
        kind=kind, energy_pj_per_operation=energy_pj, area_mm2=0.25, operations_per_cycle=per_cycle
    )


def with_unit(accelerator, *units):
    return replace(accelerator, special_units=units)


def sums_to_total(report):
    ledger = sum(pj for row in report.rows for ops in row.energy_by_level_pj.values() for pj in ops.values())
    return ledger == pytest.approx(report.energy_pj, rel=1e-12)


def coded(nest=CONV, bits=4.0, density=1.0, operations=3.0):
    code = WeightCode(unit=SpecialKind.REBUILD_ENGINE, operations_per_element=operations)
    return workload(nest).rewrite(bits={1: bits}, density={1: density}, codes={1: code})


ENGINE = unit(SpecialKind.REBUILD_ENGINE)


def test_a_weight_that_is_read_once_is_rebuilt_once():
    """A layer of one output: each of 54 weights is read once: three shift-and-adds each, 0.5 pJ apiece."""
    nest = LoopNest(k=2, c=3, fy=3, fx=3, iy=3, ix=3)
    plain, report = (cost(coded(nest), one) for one in (chip(), with_unit(chip(), ENGINE)))
    row = report.rows[0]
    assert row.energy_by_level_pj["rebuild_engine"] == {"W": pytest.approx(54 * 3 * 0.5)}
    assert row.energy_pj == pytest.approx(plain.rows[0].energy_pj + 81)
    assert sums_to_total(report)


def test_it_is_rebuilt_as_often_as_it_leaves_the_memory_that_keeps_it_coded():
    report = cost(coded(), with_unit(chip(), ENGINE))
    plain = cost(coded(), chip()).rows[0]
    dram_reads = plain.energy_by_level_pj["dram"]["W"] / 100.0  # words of 8 bits; the buffer holds it decoded
    assert report.rows[0].energy_by_level_pj["rebuild_engine"]["W"] == pytest.approx(dram_reads * 2 * 3 * 0.5)


@pytest.mark.parametrize("skips", [(), ("W",)])
def test_rows_of_zeros_are_not_rebuilt(skips):
    """Half the coefficients: half the work, whether the array skips what they would have been or not."""
    memories = tuple(
        replace(level, compressed=True, word_bits=4, granularity_bits=4) for level in chip().memories
    )
    accelerator = with_unit(skipping(replace(chip(), memories=memories), skips), ENGINE)
    nest = LoopNest(k=2, c=8, iy=1, ix=1)
    full, half = (cost(coded(nest, density=part), accelerator).rows[0] for part in (1.0, 0.5))
    assert full.energy_by_level_pj["rebuild_engine"]["W"] == pytest.approx(16 * 3 * 0.5)
    assert half.energy_by_level_pj["rebuild_engine"]["W"] == pytest.approx(16 * 3 * 0.5 / 2)


def test_both_passes_that_read_the_weight_rebuild_it_and_no_other():
    report = cost(coded(), with_unit(chip(), ENGINE))
    assert [row.op for row in report.rows if "rebuild_engine" in row.energy_by_level_pj] == ["conv", "dx"]


def test_a_slow_engine_holds_the_array_up_and_a_fast_one_does_not():
    plain = cost(coded(), chip()).rows[0]
    work = cost(coded(), with_unit(chip(), unit(SpecialKind.REBUILD_ENGINE, energy_pj=1.0))).rows[0]
    operations = work.energy_by_level_pj["rebuild_engine"]["W"]
    assert work.latency_cycles == plain.latency_cycles
    for per_cycle in (1e9, 1e-3):
        row = cost(coded(), with_unit(chip(), unit(SpecialKind.REBUILD_ENGINE, per_cycle=per_cycle))).rows[0]
        assert row.compute_cycles == plain.compute_cycles
        assert row.latency_cycles == pytest.approx(max(plain.latency_cycles, operations / per_cycle))


def test_a_chip_without_the_unit_costs_what_it_did_and_says_so():
    plain = workload(CONV).rewrite(bits={1: 4.0})
    assert cost(coded(), chip()).to_json() == cost(plain, chip()).to_json()
    assert undecoded_layers(coded(), chip().unit_kinds) == ("conv",)
    assert undecoded_layers(coded(), with_unit(chip(), ENGINE).unit_kinds) == ()
    assert undecoded_layers(plain, chip().unit_kinds) == ()


def test_many_chips_at_once_book_their_units_as_each_does_alone():
    work = coded().rewrite(density={2: 0.25}, index_bits={2: 1.0})
    units = [unit(kind, energy_pj=0.3, per_cycle=0.07) for kind in SpecialKind]
    small = replace(
        with_unit(chip(), *units),
        memories=tuple(replace(m, capacity_bits=min(m.capacity_bits, 24)) for m in chip().memories),
    )
    chips = [chip(), with_unit(chip(), *units), with_unit(chip(), units[0]), small]
    totals = table_totals(work, chip_table(chips))
    for index, one in enumerate(chips):
        report = cost(work, one)
        assert totals.energy_pj[index] == report.energy_pj
        assert totals.contraction_energy_pj[index] == report.contraction_energy_pj
        assert totals.latency_s[index] == report.latency_s


def test_smartdeal_rebuilds_three_elements_for_every_coefficient_that_is_not_zero():
    """W = Q B with a 3x3 basis: each coefficient multiplies a basis row of three elements."""
    dense = rewrite(SmartDeal(threshold=0.0), workload(CONV), "conv")
    assert dense.codes[1].operations_per_element == 3.0
    pruned = rewrite(SmartDeal(threshold=0.0, prune_fraction=0.5), workload(CONV), "conv")
    assert pruned.codes[1].operations_per_element == 3.0  # of the rows that are stored
    sparse = rewrite(SmartDeal(threshold=0.1), workload(CONV), "conv")
    assert 0 < sparse.codes[1].operations_per_element < 3.0


def test_the_smartdeal_chip_books_its_engines():
    smartdeal = templates.load("smartdeal").build()
    report = cost(rewrite(SmartDeal(threshold=0.0), workload(CONV), "conv"), smartdeal)
    row = report.rows[0]
    assert row.energy_by_level_pj["rebuild_engine"]["W"] >= 216 * 3 * 0.019 * (1 - 1e-9)
    assert sums_to_total(report)


def test_a_normalization_unit_stands_in_the_vector_units_place():
    plain = workload(SMALL)
    structure = replace(
        plain.structure,
        ops=tuple(replace(op, kind="normalization") if op.name == "relu" else op for op in plain.ops),
    )
    work = replace(plain, structure=structure)
    slow = cost(work, chip()).rows[1]
    assert slow.energy_by_level_pj["vector"] == {"all": 100 * 4 * 0.25}
    normalizer = unit(SpecialKind.NORMALIZATION_UNIT, per_cycle=0.1)
    report = cost(work, with_unit(chip(), normalizer))
    row = report.rows[1]
    assert row.energy_by_level_pj["normalization_unit"] == {"all": 100 * 0.5}
    assert "vector" not in row.energy_by_level_pj
    assert row.compute_cycles == row.latency_cycles == 100 / 0.1
    assert sums_to_total(report)


def test_a_codec_takes_what_crosses_the_edge_of_the_chip_compressed():
    codec = with_unit(chip(), unit(SpecialKind.CODEC, per_cycle=0.01))
    plain = cost(workload(SMALL), codec)
    assert not any("codec" in row.energy_by_level_pj for row in plain.rows)
    work = workload(SMALL).rewrite(density={2: 0.25}, index_bits={2: 1.0})  # y: 100 elements, 3 of 8 bits
    report = cost(work, codec)
    conv, relu = report.rows[:2]
    assert conv.energy_by_level_pj["codec"]["O"] >= 100 * 0.5 * (1 - 1e-9)  # sums of another width ride along
    assert relu.energy_by_level_pj["codec"] == {"I": 100 * 0.5}
    assert relu.latency_cycles == 100 / 0.01
    assert sums_to_total(report)


def test_a_codec_leaves_weights_with_a_code_of_their_own_alone():
    report = cost(coded(), with_unit(chip(), unit(SpecialKind.CODEC)))
    assert not any("codec" in row.energy_by_level_pj for row in report.rows)


def test_units_survive_the_chips_file_and_impossible_ones_are_refused():
    for per_cycle in (None, 384.0):
        accelerator = with_unit(
            templates.load("tpu_like").build(), unit(SpecialKind.CODEC, per_cycle=per_cycle)
        )
        assert accelerator_from_yaml(accelerator.to_yaml()) == accelerator
    with pytest.raises(HardwareError, match=r"special unit codec: throughput > 0.*operations_per_cycle=0"):
        unit(SpecialKind.CODEC, per_cycle=0.0)
    with pytest.raises(HardwareError, match="one special unit of a kind, but got"):
        with_unit(chip(), ENGINE, ENGINE)
    assert all(kind.operation for kind in SpecialKind)
