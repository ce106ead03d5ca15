"""The whole model on a training step: sums, passes, residency, zeros, precision, infeasibility, leakage."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.cost.area import area_breakdown_mm2, area_mm2
from evaluators.cost.model import cost, cost_many
from evaluators.cost.problem import Problem, Storage, mac_work, resident_level
from evaluators.cost.residency import plan_residency
from evaluators.workload.graph import LoopNest, Operand, Phase
from hw_templates import templates
from hw_templates.accelerator import HardwareError, Precision, ZeroHandling
from tests.cost.cost_fakes import SMALL, chip, problem, skipping, with_capacity, workload

CATALOG = templates.names()
REFERENCE = LoopNest(k=16, c=8, oy=14, ox=14, fy=3, fx=3, iy=14, ix=14)


@pytest.mark.parametrize("name", CATALOG)
def test_every_chip_costs_a_training_step_finite_and_positive(name):
    report = cost(workload(REFERENCE), templates.load(name).build())
    assert 0 < report.energy_pj < math.inf
    assert 0 < report.latency_s < math.inf
    assert not report.infeasible
    assert all(0 <= row.utilization <= 1 for row in report.rows)


@pytest.mark.parametrize("name", CATALOG)
def test_parts_sum_to_the_total(name):
    report = cost(workload(SMALL), templates.load(name).build())
    ledger = sum(pj for row in report.rows for ops in row.energy_by_level_pj.values() for pj in ops.values())
    assert ledger == pytest.approx(report.energy_pj, rel=1e-12)
    assert report.latency_cycles == pytest.approx(
        sum(row.compute_cycles + row.stall_cycles for row in report.rows), rel=1e-12
    )
    assert report.dram_bits == sum(row.dram_bits for row in report.rows)


def test_json_has_version_rows_and_a_ledger_that_sums():
    report = cost(workload(SMALL), templates.load("eyeriss_like").build())
    data = json.loads(json.dumps(report.to_json(mappings=True)))
    assert data["version"] == 1
    assert [row["phase"] for row in data["rows"]] == [
        "forward",
        "forward",
        "input_gradient",
        "weight_gradient",
        "update",
    ]
    total = sum(pj for row in data["rows"] for ops in row["energy_pj"].values() for pj in ops.values())
    assert total == pytest.approx(data["energy_pj"], rel=1e-12)
    assert data["rows"][0]["mapping"]["order"]
    assert "mapping" not in data["rows"][1]


def test_the_three_passes_of_a_convolution_have_the_same_macs():
    report = cost(workload(SMALL), templates.load("tpu_like").build())
    macs = {row.phase: row.macs for row in report.rows if row.macs}
    assert macs == dict.fromkeys(
        (Phase.FORWARD, Phase.INPUT_GRADIENT, Phase.WEIGHT_GRADIENT), 4 * 3 * 5 * 5 * 3 * 3
    )
    assert report.macs == 3 * 2700


def test_many_accelerators_at_once_cost_what_each_costs_alone():
    template = templates.load("eyeriss_like")
    accelerators = [template.build({"pe_rows": rows}) for rows in (4, 8, 12)]
    together = cost_many(workload(SMALL), accelerators)
    for accelerator, report in zip(accelerators, together, strict=True):
        assert report.to_json() == cost(workload(SMALL), accelerator).to_json()


def test_element_wise_work_is_counted_by_hand():
    """ReLU on 100 elements, all through DRAM: 100 words in and out, each passing the buffer both ways."""
    report = cost(workload(SMALL), chip())
    row = next(row for row in report.rows if row.op == "relu")
    assert row.energy_by_level_pj["dram"] == {"I": 100 * 100.0, "O": 100 * 200.0}
    assert row.energy_by_level_pj["buffer"] == {"I": 100 * 5.0, "O": 100 * 5.0}
    assert row.energy_by_level_pj["vector"] == {"all": 25.0}
    assert row.compute_cycles == 50
    assert row.latency_cycles == 200  # one DRAM port, a word a cycle
    assert row.dram_bits == 1600


def test_a_tensor_stays_on_chip_only_where_it_fits():
    roomy = replace(
        chip(),
        memories=tuple(replace(m, resident_fraction=0.5 * (m.name == "buffer")) for m in chip().memories),
    )
    assert resident_level(roomy) == 0
    plan = plan_residency(workload(SMALL), roomy)
    assert plan.resident[2]  # y: made by the convolution, read by the ReLU
    assert not plan.resident[:2].any()  # input and weight are not made on chip
    assert plan.occupied_bits.max() <= 4096
    through_dram, on_chip = cost(workload(SMALL), chip()), cost(workload(SMALL), roomy)
    assert on_chip.dram_bits < through_dram.dram_bits
    tight = with_capacity(roomy, "buffer", 1024)
    assert not plan_residency(workload(SMALL), tight).resident[2]  # y has 800 bits, more than half


def test_zero_density_costs_zero_macs_where_skipping_is_declared():
    work = workload(SMALL).rewrite(density={1: 0.0})
    skipped = cost(work, skipping(chip(), ("W",))).rows[0]
    dense = cost(work, chip()).rows[0]
    assert skipped.executed_macs == 0
    assert skipped.compute_cycles == 0
    assert skipped.energy_by_level_pj["mac"] == {"all": 0.0}
    assert dense.executed_macs == dense.macs == skipped.macs


def test_gating_saves_energy_and_no_cycles():
    gated = replace(chip(), zeros=ZeroHandling(gates=("I",)))
    half = Storage(bits=8.0, density=0.5)
    full = Storage(bits=8.0)
    task = Problem(nest=SMALL, accumulated=Operand.OUTPUT, storage=(half, full, full))
    work = mac_work(gated, task)
    assert (work.cycles, work.energy_pj, work.executed) == (1.0, 0.5, 1.0)


@pytest.mark.parametrize(
    ("precision", "bits", "cycles", "energy"),
    [
        (Precision.FIXED, 4, 1, 1),
        (Precision.FIXED, 16, 4, 4),
        (Precision.FIXED, 32, 16, 16),
        (Precision.GATED, 4, 1, 0.25),
        (Precision.GATED, 32, 16, 16),
        (Precision.DECOMPOSABLE, 4, 0.25, 0.25),
        (Precision.DECOMPOSABLE, 3, 0.25, 0.25),
        (Precision.DECOMPOSABLE, 16, 4, 4),
        (Precision.BIT_SERIAL, 4, 0.5, 0.5),
        (Precision.BIT_SERIAL, 1, 0.125, 0.125),
    ],
)
def test_what_operands_of_other_widths_cost(precision, bits, cycles, energy):
    mac = replace(chip().mac, precision=precision, energy_by_bits=((1, 1 / 64), (4, 0.25), (8, 1.0)))
    work = mac_work(replace(chip(), mac=mac), problem(SMALL, bits=bits))
    assert work.cycles == pytest.approx(cycles)
    assert work.energy_pj == pytest.approx(energy)


def test_gating_needs_its_curve():
    mac = replace(chip().mac, precision=Precision.GATED)
    with pytest.raises(HardwareError, match="a MAC of precision `gated` needs energy_by_bits"):
        mac_work(replace(chip(), mac=mac), problem(SMALL))


def test_a_contraction_that_fits_nowhere_is_infinite_and_says_where():
    report = cost(workload(SMALL), with_capacity(chip(), "buffer", 24))
    assert report.energy_pj == math.inf
    row = report.infeasible[0]
    assert row.infeasible.level == "buffer"
    assert row.infeasible.demand_bits > row.infeasible.capacity_bits == 24


def test_the_json_of_what_fits_nowhere_has_nulls_and_the_reason():
    report = cost(workload(SMALL), with_capacity(chip(), "buffer", 24))
    data = json.loads(json.dumps(report.to_json(mappings=True), allow_nan=False))
    assert data["energy_pj"] is data["latency_s"] is data["dram_bits"] is None
    assert data["macs"] == report.macs
    infeasible = [row for row in data["rows"] if "infeasible" in row]
    assert len(infeasible) == len(report.infeasible) > 0
    for row in infeasible:
        assert row["infeasible"]["demand_bits"] > row["infeasible"]["capacity_bits"] == 24
        assert row["energy_pj"] is row["latency_s"] is row["dram_bits"] is row["utilization"] is None
    assert any(row["energy_pj"] for row in data["rows"])  # the ReLU fits


def test_leakage_is_apart_and_grows_with_time():
    leaking = replace(chip(), mac=replace(chip().mac, leakage_mw=3.0))
    dry, wet = cost(workload(SMALL), chip()), cost(workload(SMALL), leaking)
    leaked = sum(row.energy_by_level_pj["leakage"]["all"] for row in wet.rows)
    assert leaked == pytest.approx(2 * 3e-3 * wet.latency_s * 1e12)
    assert wet.energy_pj == pytest.approx(dry.energy_pj + leaked)


def test_area_adds_up_and_leaves_dram_out():
    assert area_breakdown_mm2(chip()) == {
        "buffer": 1.0,
        "mac": 1.0,
        "vector": 0.125,
        "special": 0.0,
        "other": 0.0,
    }
    assert area_mm2(chip()) == 2.125


@given(
    name=st.sampled_from(["eyeriss_like", "tpu_like"]),
    weights=st.integers(1, 7),
    density=st.floats(0.1, 1.0),
)
@settings(max_examples=10, deadline=None)
def test_fewer_weight_bits_or_weights_never_cost_more_dram(name, weights, density):
    accelerator = templates.load(name).build()
    dense = cost(workload(SMALL), accelerator)
    less = cost(workload(SMALL).rewrite(bits={1: float(weights)}, density={1: density}), accelerator)
    assert less.rows[0].dram_bits <= dense.rows[0].dram_bits
    assert np.isfinite(less.energy_pj)
