"""Many chips at once against one at a time: the same numbers, to the last bit, for every way to ask."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.cost.chip_table import chip_table, chip_tables, classes_of, row_classes
from evaluators.cost.many import table_totals
from evaluators.cost.mapper import Effort, MappingObjective, map_all
from evaluators.cost.mapping_batch import Tasks, map_tasks
from evaluators.cost.model import cost
from evaluators.workload.graph import LoopNest, Operand
from hw_templates import templates
from hw_templates.accelerator import HardwareError
from tests.cost.cost_fakes import SMALL, chip, problem, with_capacity, workload

STEP = workload(SMALL)
EYERISS = templates.load("eyeriss_like")


def assert_equal_to_alone(step, chips):
    totals = table_totals(step, chip_table(chips))
    for index, one in enumerate(chips):
        report = cost(step, one)
        assert totals.energy_pj[index] == report.energy_pj
        assert totals.contraction_energy_pj[index] == report.contraction_energy_pj
        assert totals.latency_s[index] == report.latency_s
        assert totals.dram_bits[index] == report.dram_bits
        assert totals.macs == report.macs
        assert [lack.op for lack in totals.lacks[index]] == [row.op for row in report.infeasible]
        assert [lack.room for lack in totals.lacks[index]] == [row.infeasible for row in report.infeasible]


knobs = st.fixed_dictionaries({name: st.sampled_from(knob.values) for name, knob in EYERISS.knobs.items()})


@settings(max_examples=15, deadline=None)
@given(st.lists(knobs, min_size=1, max_size=6), st.sampled_from([2.0, 8.0, 32.0]))
def test_any_chips_cost_together_what_each_costs_alone(several, bits):
    step = STEP.rewrite(bits=dict.fromkeys(range(len(STEP.tensors)), bits))
    assert_equal_to_alone(step, [EYERISS.build(parameters) for parameters in several])


def test_chips_that_differ_in_one_part_share_no_result_that_depends_on_it():
    base = chip()
    buffer, dram = base.memories
    chips = [
        base,
        replace(base, clock_hz=2e6),
        replace(base, mac=replace(base.mac, energy_pj=2.0)),
        replace(base, mac=replace(base.mac, leakage_mw=0.5)),
        replace(base, vector=replace(base.vector, energy_pj_per_op=1.0)),
        replace(base, memories=(replace(buffer, read_cycles_per_word=2.0), dram)),
        replace(base, memories=(replace(buffer, read_energy_pj=4.0), dram)),
        replace(base, memories=(replace(buffer, resident_fraction=0.5), dram)),
        replace(base, memories=(replace(buffer, leakage_mw=0.25), dram)),
        replace(base, pass_overhead_cycles=100.0),
        with_capacity(base, "buffer", 512),
    ]
    assert_equal_to_alone(STEP, chips)
    totals = table_totals(STEP, chip_table(chips))
    pairs = list(zip(totals.energy_pj.tolist(), totals.latency_s.tolist(), strict=True))
    assert len(set(pairs)) == len(chips)


@pytest.mark.parametrize("leakage_mw", [0.0, 0.5])
def test_a_chip_that_runs_nothing_is_infinite_with_leakage_or_without(leakage_mw):
    base = chip(mac=replace(chip().mac, leakage_mw=leakage_mw))
    assert_equal_to_alone(STEP, [base, with_capacity(base, "buffer", 8)])
    totals = table_totals(STEP, chip_table([base, with_capacity(base, "buffer", 8)]))
    assert np.isfinite(totals.energy_pj[0])
    assert np.isinf(totals.energy_pj[1])
    assert np.isinf(totals.latency_s[1])


def test_a_workload_without_contractions_and_a_table_without_chips():
    assert len(table_totals(STEP, chip_table([])).energy_pj) == 0
    chips = [chip(), EYERISS.build()]
    ops = tuple(op for op in STEP.ops if op.contraction is None)
    bare = replace(
        STEP,
        structure=replace(STEP.structure, ops=ops, born=np.zeros(7, np.int64), last=np.ones(7, np.int64)),
    )
    assert_equal_to_alone(bare, chips)


NESTS = (
    SMALL,
    LoopNest(b=8, k=24, c=6, oy=6, ox=6, fy=1, fx=1, iy=6, ix=6),
    LoopNest(b=2, k=1, c=1, groups=32, oy=14, ox=14, fy=3, fx=3, iy=14, ix=14),
)


@pytest.mark.parametrize("objective", MappingObjective)
@pytest.mark.parametrize("finalists", [1, 3])
def test_tasks_get_the_mappings_that_the_mapper_finds(objective, finalists):
    chips = [EYERISS.build(), templates.load("tpu_like").build(), templates.load("gemmini_like").build()]
    problems = tuple(problem(nest, accumulated) for nest in NESTS for accumulated in Operand)
    tasks = Tasks(
        problems=problems,
        chip=np.tile(np.arange(len(chips)), len(problems)),
        problem=np.repeat(np.arange(len(problems)), len(chips)),
        reserved_bits=np.full(len(chips) * len(problems), 4096.0),
    )
    effort = Effort(finalists=finalists)
    found = map_tasks(chip_table(chips), tasks, objective=objective, effort=effort)
    rows = [(replace(one, reserved_bits=4096), on) for one in problems for on in chips]
    for index, mapped in enumerate(map_all(rows, objective=objective, effort=effort)):
        levels = len(mapped.reads[0])
        assert found.reads[index, :, :levels].tolist() == [list(row) for row in mapped.reads]
        assert found.writes[index, :, :levels].tolist() == [list(row) for row in mapped.writes]
        assert found.latency_cycles[index] == mapped.latency_cycles
        assert found.compute_cycles[index] == mapped.compute_cycles
        assert found.mac_energy_pj[index] == mapped.mac_energy_pj


def test_tables_part_the_chips_and_lose_none():
    chips = [
        EYERISS.build({"pe_rows": rows, "global_buffer_kib": kib}) for rows in (4, 8) for kib in (16, 32)
    ]
    parts = chip_tables(chips, at_once=3)
    assert [len(table.chips) for _, table in parts] == [3, 1]
    found = {
        int(index): one for indices, table in parts for index, one in zip(indices, table.chips, strict=True)
    }
    assert [found[index] for index in range(4)] == chips
    assert chip_tables([]) == ()


def test_a_table_refuses_a_chip_with_too_many_memories():
    level = chip().memories[0]
    many = chip(memories=(*(replace(level, name=f"level{i}") for i in range(8)), chip().memories[1]))
    with pytest.raises(HardwareError, match="at most 8 memory levels, but two_pes has 9"):
        chip_table([many])


def test_classes_number_equals_alike():
    classes = classes_of(["b", "a", "b"])
    assert classes.of.tolist() == [0, 1, 0]
    assert classes.first.tolist() == [0, 1]
    rows = np.array([[1.0, 2.0], [0.0, 2.0], [1.0, 2.0]])
    classes = row_classes(rows)
    assert classes.of[0] == classes.of[2] != classes.of[1]
    assert rows[classes.first][classes.of].tolist() == rows.tolist()
    assert len(row_classes(np.zeros((0, 2))).of) == 0
