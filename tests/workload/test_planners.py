"""Planners: NNTrainer's pools of the paper sheet, and what must hold for any lifetimes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.memory_networks import CASES
from evaluators.workload import best_fit
from evaluators.workload.errors import PlanError
from evaluators.workload.nntrainer import Kind, Layer, chain, execution_orders, published_cases
from evaluators.workload.nntrainer import requests as nntrainer_requests
from evaluators.workload.optimizers import Optimizer
from evaluators.workload.plan import PLANNERS, plan
from evaluators.workload.planners import Offsets, Planner, Requests, check
from evaluators.workload.trace import trace

KIB = 1024

# Pools in KiB: weights, Basic, V1, V3, ideal. Source: the fact sheet on on-device training, table 2(e),
# computed from NNTrainer's rules (not measured with its binary).
TABLE_2E = {
    "Linear": (176401.2, 176551.2, 176551.2, 176550.0, 176476.2),
    "Conv": (0.3, 18816.3, 18816.3, 18816.0, 18816.0),
    "Model_A_Linear": (46136.4, 146040.4, 81928.0, 81928.0, 81928.0),
    "Model_A_Conv": (1.0, 24697.0, 12936.3, 12936.0, 12936.0),
    "Model_C_Linear": (5880.0, 5885.0, 5885.0, 5885.0, 5882.5),
    "Model_C_Conv": (0.3, 18816.3, 18816.3, 18816.0, 18816.0),
}


def arena(requests: Requests, planner: Planner) -> int:
    offsets = PLANNERS[planner](requests)
    check(requests, offsets)
    return int((offsets + requests.sizes).max())


@pytest.mark.parametrize("case", TABLE_2E)
def test_published_pools(case: str) -> None:
    layers = published_cases()[case]
    requests = nntrainer_requests(layers)
    weights = 4 * sum(weight for layer in layers for weight in layer.weights)
    pools = [
        weights,
        *(arena(requests, p) for p in (Planner.BASIC, Planner.V1, Planner.V3)),
        requests.lower_bound,
    ]
    assert [round(pool / KIB, 1) for pool in pools] == list(TABLE_2E[case])


def test_every_published_case_is_checked() -> None:
    assert set(published_cases()) == set(TABLE_2E)


@st.composite
def lifetimes(draw: st.DrawFn) -> Requests:
    count = draw(st.integers(1, 24))
    sizes = draw(st.lists(st.integers(0, 40), min_size=count, max_size=count))
    starts = draw(st.lists(st.integers(0, 20), min_size=count, max_size=count))
    lengths = draw(st.lists(st.integers(1, 12), min_size=count, max_size=count))
    gradients = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    return Requests(
        sizes=np.array(sizes, dtype=np.int64),
        starts=np.array(starts, dtype=np.int64),
        ends=np.array(starts, dtype=np.int64) + np.array(lengths, dtype=np.int64),
        is_weight_gradient=np.array(gradients, dtype=np.bool_),
    )


@given(lifetimes())
@settings(max_examples=150, deadline=None)
def test_no_plan_overlaps_and_none_beats_the_bound(requests: Requests) -> None:
    arenas = {planner: arena(requests, planner) for planner in Planner}  # `arena` checks the overlap
    assert all(requests.lower_bound <= size <= arenas[Planner.BASIC] for size in arenas.values())
    assert arenas[Planner.BASIC] == requests.sizes.sum()


@given(lifetimes())
@settings(max_examples=50, deadline=None)
def test_the_live_sum_is_what_a_slow_count_gives(requests: Requests) -> None:
    rows = list(zip(requests.sizes, requests.starts, requests.ends, strict=True))
    for step, live in enumerate(requests.live):
        assert live == sum(size for size, start, end in rows if start <= step < end)


def of(*rows: tuple[int, int, int]) -> Requests:
    sizes, starts, ends = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    return Requests(
        sizes=sizes, starts=starts, ends=ends, is_weight_gradient=np.zeros(len(rows), dtype=np.bool_)
    )


def test_v1_stacks_all_where_all_overlap_and_one_where_none_does() -> None:
    assert arena(of((3, 0, 9), (4, 1, 9), (5, 2, 9)), Planner.V1) == 12
    assert arena(of((3, 0, 1), (4, 1, 2), (5, 2, 3)), Planner.V1) == 5


def test_v1_reuses_a_hole_of_equal_size_only() -> None:
    under = (4, 0, 2), (1, 1, 9)  # the first expires below the second
    assert arena(of(*under, (4, 3, 5)), Planner.V1) == 5
    assert arena(of(*under, (3, 3, 5)), Planner.V1) == 8
    assert arena(of(*under, (3, 3, 5)), Planner.V3) == 5


def test_v2_lets_gradients_that_never_meet_share() -> None:
    requests = Requests(
        sizes=np.array([10, 6, 5]),
        starts=np.array([0, 1, 4]),
        ends=np.array([9, 3, 6]),
        is_weight_gradient=np.array([False, True, True]),
    )
    assert arena(requests, Planner.V2) == 16


@given(st.lists(st.integers(1, 100), min_size=1, max_size=12))
def test_nested_lifetimes_are_planned_without_waste(sizes: list[int]) -> None:
    """Saved activations nest and gradients all end together: the skyline is optimal for both at once."""
    count = len(sizes)
    saved = [(size, i, 2 * count - i) for i, size in enumerate(sizes)]
    gradients = [(size, 2 * count - i - 1, 2 * count + 1) for i, size in enumerate(sizes)]
    requests = of(*saved, *gradients)
    assert arena(requests, Planner.BEST) == requests.lower_bound


def test_nothing_needs_nothing() -> None:
    empty = Requests(
        sizes=np.zeros(0, dtype=np.int64),
        starts=np.zeros(0, dtype=np.int64),
        ends=np.zeros(0, dtype=np.int64),
        is_weight_gradient=np.zeros(0, dtype=np.bool_),
    )
    assert all(len(planner(empty)) == 0 for planner in PLANNERS.values())
    assert empty.lower_bound == 0


@pytest.mark.parametrize("row", [(-1, 0, 1), (1, 2, 2), (1, -1, 1)])
def test_impossible_requests_are_refused(row: tuple[int, int, int]) -> None:
    with pytest.raises(PlanError, match=r"0 <= size and 0 <= start < end must hold, but request 1 is"):
        of((1, 0, 1), row)


def test_requests_need_equal_lengths() -> None:
    one, two = np.ones(1, dtype=np.int64), np.ones(2, dtype=np.int64)
    with pytest.raises(
        PlanError, match=r"need a size, a start, an end and a gradient flag each, but got 1, 2, 1, 1"
    ):
        Requests(sizes=one, starts=two, ends=one, is_weight_gradient=np.ones(1, dtype=np.bool_))


def test_an_overlapping_plan_is_refused() -> None:
    with pytest.raises(PlanError, match="must not share memory, but requests 0 and 1 do"):
        check(of((4, 0, 2), (4, 1, 3)), np.array([0, 3]))


def test_execution_orders_of_the_sheet() -> None:
    orders = execution_orders(published_cases()["Linear"])
    assert [order.forward for order in orders] == [0, 1, 2]
    assert [order.calc_gradient for order in orders] == [9, 6, 3]
    assert [order.apply_gradient for order in orders] == [11, 8, 5]


def test_clipping_keeps_every_gradient() -> None:
    layers = published_cases()["Model_A_Linear"]
    gradients = 4 * sum(weight for layer in layers for weight in layer.weights)
    clipped = nntrainer_requests(layers, clip_gradients=True)
    assert clipped.lower_bound >= gradients
    assert clipped.lower_bound > nntrainer_requests(layers).lower_bound


def test_a_frozen_prefix_shortens_lifespans() -> None:
    whole = chain(
        (Kind.INPUT, 100, ()),
        (Kind.WEIGHTED, 80, (10,)),
        (Kind.ACTIVATION, 80, ()),
        (Kind.WEIGHTED, 60, (10,)),
        (Kind.LOSS, 60, ()),
    )
    prefix = [
        Layer(kind=x.kind, source=x.source, outputs=x.outputs, weights=x.weights, trains=i > 2)
        for i, x in enumerate(whole)
    ]
    assert nntrainer_requests(prefix).lower_bound < nntrainer_requests(whole).lower_bound
    assert len(nntrainer_requests(prefix).sizes) < len(nntrainer_requests(whole).sizes)


def test_kinds_keep_what_the_sheet_says() -> None:
    def pool(kind: Kind) -> int:
        return nntrainer_requests(
            chain((Kind.INPUT, 10, ()), (Kind.WEIGHTED, 50, (5,)), (kind, 50, ()), (Kind.LOSS, 50, ()))
        ).lower_bound

    assert pool(Kind.RESHAPE) <= pool(Kind.MULTIOUT)  # branching shares the output, not the derivative
    assert pool(Kind.BATCH_NORM) > pool(Kind.RESHAPE)  # in place, but the deviation is kept
    assert pool(Kind.POOLING) > pool(Kind.RESHAPE)  # the indices


def test_layers_out_of_order_are_refused() -> None:
    layers = [Layer(kind=Kind.INPUT, source=0, outputs=1), Layer(kind=Kind.LOSS, source=1, outputs=1)]
    with pytest.raises(PlanError, match=r"topological order .* layer 1 \(LOSS\) is fed by layer 1"):
        nntrainer_requests(layers)


def test_the_more_requests_the_sooner_the_search_is_content(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gap-filling pass costs the square of the requests: a network of 900 is planned again without one."""
    case = CASES["mobilenet_v2"]
    step = trace(case.build(), case.inputs(), loss=case.loss, optimizer=Optimizer.ADAM)
    passes = []
    greedy = best_fit._Conflicts.greedy

    def counted(conflicts: best_fit._Conflicts, order: best_fit.Order) -> Offsets:
        passes.append(len(order))
        return greedy(conflicts, order)

    monkeypatch.setattr(best_fit._Conflicts, "greedy", counted)
    planned = plan(step, Planner.BEST)
    assert len(planned.requests.sizes) > 800
    assert not passes
    assert planned.arena_bytes <= 1.02 * planned.lower_bound_bytes
