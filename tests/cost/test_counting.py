"""Access counts: a layer counted by hand, the tables against the counts, the search against every order."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.cost.counting import span
from evaluators.cost.fixed import (
    evaluate_orders,
    held_array,
    mapping_energies_pj,
    order_arrays,
    order_energies_pj,
)
from evaluators.cost.layout import OPEN, PERIODS
from evaluators.cost.mapper import ZIGZAG, Effort, Switches, map_all
from evaluators.cost.problem import Storage, prime_factors
from evaluators.cost.spatial import SpatialMapping, candidates, sizes_of
from evaluators.cost.windows import window_union
from evaluators.workload.graph import LoopNest, Operand
from hw_templates import templates
from tests.cost.cost_fakes import (
    SMALL,
    best_of_all_orders,
    chip,
    compressing,
    every_order,
    memory_energy_pj,
    problem,
    skipping,
    with_capacity,
)

MATMUL = LoopNest(b=4, k=2, c=3)
TWO_COLUMNS = SpatialMapping(axes=((("K", 2),),))


def test_a_matrix_product_counted_by_hand():
    """4 x 3 times 3 x 2 on two PEs that unroll K; C innermost, then B; everything fits in the buffer.

    Array: 12 steps. Each reads one input and two weights. Each writes two 16-bit sums, four words, and
    reads back all but the first visit of each of the 8 results: 2/3. DRAM: 12 inputs and 6 weights in, 8
    results out.
    """
    found = evaluate_orders(problem(MATMUL), chip(), TWO_COLUMNS, [[("C", 3), ("B", 4)]])[0]
    assert found.reads == ((12.0, 12.0), (24.0, 6.0), (48 * 2 / 3 + 8, 0.0))
    assert found.writes == ((12.0, 0.0), (6.0, 0.0), (48.0, 8.0))
    assert found.compute_cycles == 12
    assert found.mac_energy_pj == 24


def test_an_operand_held_at_the_pins_is_read_once():
    """With B innermost a pair of weights serves four steps."""
    order = [("B", 4), ("C", 3)]
    held = evaluate_orders(problem(MATMUL), chip(), TWO_COLUMNS, [order])[0]
    again = evaluate_orders(
        problem(MATMUL), chip(), TWO_COLUMNS, [order], switches=Switches(pin_holding=False)
    )[0]
    assert held.reads[1][0] == 6
    assert again.reads[1][0] == 24


@pytest.mark.parametrize("compressed", [True, False])
def test_zeros_that_are_skipped_are_left_out_once(compressed):
    """Half of the weights are zero: 12 of 24 are read, whether the buffer holds the zeros or not."""
    found = evaluate_orders(
        replace(problem(MATMUL), storage=(Storage(bits=8), Storage(bits=8, density=0.5), Storage(bits=8))),
        compressing(skipping(chip(), frozenset("W")), "buffer", compressed),
        TWO_COLUMNS,
        [[("C", 3), ("B", 4)]],
    )[0]
    assert found.reads[1][0] == 12
    assert found.reads[0][0] == 6  # of 12: a skipped MAC asks for no input either


def test_zigzag_reads_partial_sums_back_as_often_as_it_writes_them():
    found = evaluate_orders(problem(MATMUL), chip(), TWO_COLUMNS, [[("C", 3), ("B", 4)]], switches=ZIGZAG)[0]
    assert found.reads[2][0] == 48 + 8


def test_a_buffer_that_is_too_small_is_recorded_with_level_demand_and_capacity():
    small = with_capacity(chip(), "buffer", 16)
    found = evaluate_orders(problem(MATMUL), small, TWO_COLUMNS, [[("C", 3), ("B", 4)]])[0]
    assert found.infeasible is not None
    assert found.infeasible.level == "buffer"
    assert found.infeasible.capacity_bits == 16
    assert found.infeasible.demand_bits > 16


def test_an_order_must_cover_the_loops():
    with pytest.raises(ValueError, match=r"must cover what the array leaves.*'C': 3.*but \[\('B', 4\)\]"):
        evaluate_orders(problem(MATMUL), chip(), TWO_COLUMNS, [[("B", 4)]])


@pytest.mark.parametrize(
    ("rows", "filter_rows", "stride", "dilation"), [(5, 3, 1, 1), (4, 3, 2, 1), (6, 1, 3, 1), (3, 5, 2, 1)]
)
def test_span_counts_the_rows_that_windows_touch(rows, filter_rows, stride, dilation):
    touched = {stride * a + dilation * b for a in range(rows) for b in range(filter_rows)}
    assert span(rows, filter_rows, stride, dilation, 1e9) == len(touched)


@given(
    periods=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    shares=st.lists(st.floats(0, 1), min_size=4, max_size=4),
)
def test_the_union_of_recurring_windows_equals_counting_cycles(periods, shares):
    lengths = np.cumprod(periods) * 3
    allowed = [int(np.floor(length * share)) for length, share in zip(lengths, shares, strict=False)]
    windows = np.zeros((5, 12))
    windows[PERIODS, : len(lengths)] = lengths[::-1]
    windows[OPEN, : len(lengths)] = allowed[::-1]
    cycles = np.arange(lengths[-1])
    covered = np.zeros(len(cycles), bool)
    for length, share in zip(lengths, allowed, strict=True):
        covered |= cycles % length < share
    assert window_union(windows, len(lengths)) == covered.sum()


nests = st.builds(
    LoopNest,
    b=st.sampled_from([1, 2]),
    k=st.sampled_from([1, 2, 4, 6]),
    c=st.sampled_from([1, 2, 3]),
    oy=st.sampled_from([1, 3, 4]),
    ox=st.sampled_from([1, 2]),
    fy=st.sampled_from([1, 3]),
    fx=st.just(1),
    groups=st.sampled_from([1, 2]),
    iy=st.just(6),
    ix=st.just(6),
)
passes = st.sampled_from(list(Operand))
chips = st.sampled_from(["eyeriss_like", "tpu_like"])


@given(nest=nests, accumulated=passes, name=chips)
@settings(max_examples=30, deadline=None)
def test_the_allocators_energy_is_that_of_the_counts(nest, accumulated, name):
    accelerator = templates.load(name).build()
    task = problem(nest, accumulated)
    mapping = candidates(accelerator.axes, sizes_of(nest), accumulated, 1)[0]
    orders = every_order(task, accelerator, mapping)[:6]
    allocated_pj = order_energies_pj(task, accelerator, mapping, order_arrays(orders))
    counted = evaluate_orders(task, accelerator, mapping, orders)
    assert allocated_pj == pytest.approx([one.energy_pj(accelerator) for one in counted], rel=1e-9)


@given(nest=nests, accumulated=passes, name=chips)
@settings(max_examples=15, deadline=None)
def test_the_search_comes_within_a_hundredth_of_every_order(nest, accumulated, name):
    accelerator = templates.load(name).build()
    task = problem(nest, accumulated)
    found = map_all([(task, accelerator)], effort=Effort(spatial_mappings=1))[0]
    energy_pj = memory_energy_pj(found, accelerator) + found.mac_energy_pj
    assert energy_pj <= best_of_all_orders(task, accelerator) * 1.01


@given(nest=nests, accumulated=passes, ratio=st.sampled_from([2, 8]))
@settings(max_examples=15, deadline=None)
def test_a_larger_buffer_never_raises_the_best_energy(nest, accumulated, ratio):
    accelerator = chip()
    task = problem(nest, accumulated)
    small = with_capacity(accelerator, "buffer", 256)
    large = with_capacity(accelerator, "buffer", 256 * ratio)
    assert best_of_all_orders(task, large) <= best_of_all_orders(task, small) * (1 + 1e-12)


@given(nest=nests, accumulated=passes, name=chips)
@settings(max_examples=10, deadline=None)
def test_twice_the_batch_never_costs_more_than_twice(nest, accumulated, name):
    from dataclasses import replace

    accelerator = templates.load(name).build()
    once = best_of_all_orders(problem(nest, accumulated), accelerator)
    twice = best_of_all_orders(problem(replace(nest, b=2 * nest.b), accumulated), accelerator)
    assert twice <= 2 * once * (1 + 1e-9)


@given(nest=nests, accumulated=passes, name=chips, bits=st.sampled_from([1, 2, 3, 4, 6, 7]))
@settings(max_examples=15, deadline=None)
def test_energy_is_monotone_in_bits(nest, accumulated, name, bits):
    accelerator = templates.load(name).build()
    narrow = best_of_all_orders(problem(nest, accumulated, bits=bits), accelerator)
    wide = best_of_all_orders(problem(nest, accumulated, bits=bits + 1), accelerator)
    assert narrow <= wide * (1 + 1e-12)


def test_the_best_allocation_is_never_worse_than_the_greedy_one():
    accelerator = with_capacity(chip(), "buffer", 200)
    task = problem(LoopNest(k=4, c=6, oy=4, ox=2, iy=4, ix=2))
    orders = every_order(task, accelerator, TWO_COLUMNS)
    best = evaluate_orders(task, accelerator, TWO_COLUMNS, orders)
    greedy = evaluate_orders(
        task, accelerator, TWO_COLUMNS, orders, switches=Switches(greedy_allocation=True)
    )
    gains = [
        memory_energy_pj(a, accelerator) / memory_energy_pj(b, accelerator)
        for a, b in zip(best, greedy, strict=True)
    ]
    assert max(gains) <= 1 + 1e-12
    assert min(gains) < 1


def test_prime_factors_multiply_up():
    for size in range(1, 200):
        assert int(np.prod(prime_factors(size))) == size


def test_many_orders_at_once_cost_what_each_costs_alone():
    task, accelerator = problem(SMALL), chip()
    mapping = candidates(accelerator.axes, sizes_of(SMALL), Operand.OUTPUT, 1)[0]
    orders = every_order(task, accelerator, mapping)[::7]
    together = order_energies_pj(task, accelerator, mapping, order_arrays(orders), threads=2)
    alone = [one.energy_pj(accelerator) for one in evaluate_orders(task, accelerator, mapping, orders)]
    assert together == pytest.approx(alone, rel=1e-12)


@given(
    nest=nests, accumulated=passes, name=chips, tight=st.booleans(), switches=st.sampled_from([None, ZIGZAG])
)
@settings(max_examples=30, deadline=None)
def test_given_mappings_cost_what_the_slow_way_says(nest, accumulated, name, tight, switches):
    """Allocations of other orders: some of them fit, others do not. Equal but for the order of summation."""
    accelerator = templates.load(name).build()
    task = problem(nest, accumulated)
    mapping = candidates(accelerator.axes, sizes_of(nest), accumulated, 1)[0]
    orders = every_order(task, accelerator, mapping)[:40]
    allocated = evaluate_orders(task, accelerator, mapping, orders)
    held = held_array(accelerator, [one.mapping for one in reversed(allocated)])
    if tight:
        level = next(memory for memory in accelerator.memories if len(memory.operands) == 3)
        accelerator = with_capacity(accelerator, level.name, level.word_bits * 8)
    slow = evaluate_orders(task, accelerator, mapping, orders, held=held, switches=switches)
    expected = [np.inf if one.infeasible else one.energy_pj(accelerator) for one in slow]
    fast = mapping_energies_pj(
        task, accelerator, mapping, order_arrays(orders), held, switches=switches, threads=1
    )
    np.testing.assert_allclose(fast, expected, rtol=1e-14)


def test_given_mappings_are_refused_where_orders_or_allocations_are_no_mapping():
    mapping = candidates(chip().axes, sizes_of(SMALL), Operand.OUTPUT, 1)[0]
    orders = every_order(problem(SMALL), chip(), mapping)[:2]
    found = evaluate_orders(problem(SMALL), chip(), mapping, orders)
    held = held_array(chip(), [one.mapping for one in found])
    with pytest.raises(ValueError, match=r"held must be .* end with all loops"):
        mapping_energies_pj(problem(SMALL), chip(), mapping, order_arrays(orders), held - 1)
    with pytest.raises(ValueError, match="held must be"):
        evaluate_orders(problem(SMALL), chip(), mapping, orders, held=held[:1])
    dims, sizes, counts = order_arrays(orders)
    with pytest.raises(ValueError, match=r"an order must cover what the array leaves.*but order 0 does not"):
        mapping_energies_pj(problem(SMALL), chip(), mapping, (dims, sizes * 2, counts), held)
