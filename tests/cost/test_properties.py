"""What holds for any contraction on any chip: sums, larger buffers, batches, bits and zeros.

Contractions have few loop factors and the search is given many orders, so that what is compared are optima of
the model: on large layers a hill climb may end a few percent above them (docs/cost_model.md has figures).
"""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.cost.mapper import Effort, map_all
from evaluators.cost.model import cost
from evaluators.cost.problem import Problem, Storage
from evaluators.workload.graph import LoopNest, Operand
from hw_templates import templates
from tests.cost.cost_fakes import skipping, workload

CHIPS = {
    name: templates.load(name).build()
    for name in ("eyeriss_like", "tpu_like", "gemmini_like", "nvdla_like", "bit_serial", "bit_fusion_like")
}
THOROUGH = Effort(orders=4000, screening=1000, coarse_factors=12)
ROUNDING = 1 + 1e-9

accumulated = st.sampled_from(list(Operand))
chips = st.sampled_from(sorted(CHIPS))
widths = st.tuples(*[st.integers(1, 8)] * 3)


@st.composite
def nests(draw):
    size, kernel, stride = (
        draw(st.integers(1, 8)),
        draw(st.sampled_from([1, 3])),
        draw(st.sampled_from([1, 2])),
    )
    depthwise = draw(st.booleans())
    return LoopNest(
        b=draw(st.sampled_from([1, 2, 3])),
        k=1 if depthwise else draw(st.sampled_from([1, 4, 10, 19])),
        c=1 if depthwise else draw(st.sampled_from([1, 3, 8, 23])),
        groups=draw(st.sampled_from([4, 9, 32])) if depthwise else 1,
        oy=size,
        ox=size,
        fy=kernel,
        fx=kernel,
        stride_y=stride,
        stride_x=stride,
        iy=size * stride,
        ix=size * stride,
    )


def problem(nest, operand, bits=(8, 8, 8)):
    return Problem(nest=nest, accumulated=operand, storage=tuple(Storage(bits=float(b)) for b in bits))


def least_pj(task, chip):
    found = map_all([(task, chip)], effort=THOROUGH)[0]
    return float("inf") if found.infeasible else found.energy_pj(chip)


@given(nest=nests(), name=chips)
@settings(max_examples=15, deadline=None, derandomize=True)
def test_parts_sum_to_the_total(nest, name):
    report = cost(workload(nest), CHIPS[name])
    parts = [pj for row in report.rows for entry in row.energy_by_level_pj.values() for pj in entry.values()]
    assert sum(parts) == pytest.approx(report.energy_pj, rel=1e-12)
    assert min(parts) >= 0
    assert sum(row.latency_cycles for row in report.rows) == pytest.approx(report.latency_cycles, rel=1e-12)
    assert sum(row.dram_bits for row in report.rows) == pytest.approx(report.dram_bits, rel=1e-12)


@given(nest=nests(), operand=accumulated, name=chips, level=st.integers(0, 9), factor=st.sampled_from([2, 3]))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_a_larger_buffer_never_raises_the_best_energy(nest, operand, name, level, factor):
    chip = CHIPS[name]
    on_chip = [index for index, memory in enumerate(chip.memories) if not memory.kind.off_chip]
    chosen = on_chip[level % len(on_chip)]
    memories = list(chip.memories)
    memories[chosen] = replace(memories[chosen], capacity_bits=memories[chosen].capacity_bits * factor)
    larger = replace(chip, memories=tuple(memories))
    task = problem(nest, operand)
    assert least_pj(task, larger) <= least_pj(task, chip) * ROUNDING


@given(nest=nests(), operand=accumulated, name=chips)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_twice_the_batch_never_costs_more_than_twice(nest, operand, name):
    once = least_pj(problem(nest, operand), CHIPS[name])
    twice = least_pj(problem(replace(nest, b=2 * nest.b), operand), CHIPS[name])
    assert twice <= 2 * once * ROUNDING


@given(nest=nests(), operand=accumulated, name=chips, bits=widths, more=st.tuples(*[st.integers(0, 8)] * 3))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_energy_is_monotone_in_bits(nest, operand, name, bits, more):
    wider = tuple(low + extra for low, extra in zip(bits, more, strict=True))
    chip = CHIPS[name]
    assert (
        least_pj(problem(nest, operand, bits), chip)
        <= least_pj(problem(nest, operand, wider), chip) * ROUNDING
    )


@given(nest=nests(), name=chips, letter=st.sampled_from(["I", "W"]))
@settings(max_examples=15, deadline=None, derandomize=True)
def test_zero_density_costs_zero_macs_where_skipping_is_declared(nest, name, letter):
    empty = workload(nest).rewrite(density={"IW".index(letter): 0.0})
    row = cost(empty, skipping(CHIPS[name], (letter,))).rows[0]
    assert (row.executed_macs, row.compute_cycles, row.energy_by_level_pj["mac"]["all"]) == (0, 0, 0)
    kept = cost(empty, replace(skipping(CHIPS[name], ()))).rows[0]
    assert kept.executed_macs == kept.macs == nest.macs


@given(nest=nests(), operand=accumulated)
@settings(max_examples=15, deadline=None, derandomize=True)
def test_ramp_up_delays_by_whole_passes_and_costs_no_energy(nest, operand):
    chip = CHIPS["eyeriss_like"]
    (before,) = map_all([(problem(nest, operand), chip)])
    (after,) = map_all([(problem(nest, operand), replace(chip, pass_overhead_cycles=7.0))])
    passes = (after.latency_cycles - before.latency_cycles) / 7
    assert passes >= 1 - 1e-6
    assert passes == pytest.approx(round(passes), abs=1e-6)
    assert after.mapping == before.mapping
    assert after.energy_pj(chip) == before.energy_pj(chip)
