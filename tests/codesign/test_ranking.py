"""The order of results: against brute force, and what an order must not depend on."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from codesign.errors import CodesignError
from codesign.ranking import as_losses, best_first, spread_out

coordinates = st.sampled_from([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, math.inf])
tables = st.integers(1, 4).flatmap(
    lambda m: st.lists(st.tuples(*[coordinates] * m), min_size=1, max_size=20).map(np.array)
)
finite_tables = tables.filter(lambda values: bool(np.isfinite(values).all()))


def peeled_fronts(values: np.ndarray) -> list[int]:
    """The front of each row, by taking away the non-dominated rows again and again."""
    front = [-1] * len(values)
    left = set(range(len(values)))
    for number in range(len(values)):
        beaten = {
            i
            for i in left
            if any((values[j] <= values[i]).all() and (values[j] < values[i]).any() for j in left)
        }
        for i in left - beaten:
            front[i] = number
        left = beaten
    return front


@given(tables)
@example(np.array([[0, 0, math.inf], [0, 1, math.inf], [0, math.inf, 0], [math.inf, 0, 1]]))
def test_fronts_come_in_order_and_infinite_results_last(values: np.ndarray) -> None:
    order = best_first(values)
    assert sorted(order) == list(range(len(values)))
    finite = np.isfinite(values[order]).all(axis=1)
    assert (np.diff(finite.astype(int)) <= 0).all()
    for group in (values[order[finite]], values[order[~finite]]):
        assert peeled_fronts(group) == sorted(peeled_fronts(group))


@given(tables, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(values: np.ndarray, random: object) -> None:
    shuffled = list(range(len(values)))
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    again = values[shuffled]
    assert again[best_first(again)].tolist() == values[best_first(values)].tolist()


@given(tables, st.lists(st.integers(-8, 8), min_size=4, max_size=4), st.sampled_from([0.0, 64.0]))
def test_the_unit_of_an_objective_does_not_matter(
    values: np.ndarray, exponents: list[int], shift: float
) -> None:
    other = values * 2.0 ** np.array(exponents[: values.shape[1]]) + shift  # exact in binary
    assert best_first(other).tolist() == best_first(values).tolist()


@given(tables)
def test_of_equal_results_the_earlier_stands_first(values: np.ndarray) -> None:
    twice = np.concatenate([values, values])
    order = best_first(twice).tolist()
    for row in range(len(values)):
        assert order.index(row) < order.index(row + len(values))


def test_a_front_is_covered_from_its_ends_inwards() -> None:
    line = np.array([[0.5, 0.5], [0.0, 1.0], [0.25, 0.75], [1.0, 0.0], [0.875, 0.125]])
    assert spread_out(line).tolist() == [1, 3, 0, 2, 4]


@given(finite_tables)
def test_every_prefix_is_a_net_within_a_factor_of_two(values: np.ndarray) -> None:
    """Gonzalez 1985: the prefix's covering radius is at most twice that of any set of its size."""
    side = np.ptp(values, axis=0)
    points = (values - values.min(axis=0)) / np.where(side > 0, side, 1.0)
    order = spread_out(values)
    for size in range(1, len(values)):
        net, rest = points[order[:size]], points[order[size:]]
        gaps = np.linalg.norm(rest[:, None] - net[None], axis=2).min(axis=1)
        radius = gaps.max()
        assert radius == pytest.approx(gaps[0])  # the next to be taken is the worst covered
        if size > 1:
            apart = min(np.linalg.norm(net[i] - net[j]) for i in range(size) for j in range(i))
            assert radius <= apart + 1e-12  # so size + 1 points lie `radius` apart: no net halves it


def test_being_infinite_makes_nothing_far() -> None:
    values = np.array([[0.0, math.inf], [1.0, math.inf], [2.0, math.inf]])
    assert spread_out(values).tolist() == [0, 2, 1]
    assert spread_out(np.array([[0.0, math.inf], [1.0, 3.0], [2.0, 2.0]])).tolist() == [0, 2, 1]


def test_nothing_has_an_order() -> None:
    assert spread_out(np.zeros((0, 2))).tolist() == []
    assert best_first(np.zeros((0, 2))).tolist() == best_first(as_losses([])).tolist() == []


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_a_value_without_an_order_is_refused(bad: float) -> None:
    with pytest.raises(CodesignError, match=r"finite or \+inf in every objective, but result 1"):
        as_losses([[1.0, 2.0], [1.0, bad]])


def test_results_of_different_width_are_refused() -> None:
    with pytest.raises(CodesignError, match=r"numbers of objectives are \[1, 2\]"):
        as_losses([[1.0, 2.0], [1.0]])
    with pytest.raises(CodesignError, match=r"numbers of objectives are \[0\]"):
        as_losses([[]])
