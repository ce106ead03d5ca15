"""Plateaus: closed forms of two boxes, and what may never end one."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.errors import CodesignError
from codesign.plateau import MARGIN, plateaued, recent_gain
from evaluators.scores import Direction

DOWN = Direction.MINIMIZE
UP = Direction.MAXIMIZE
coordinate = st.integers(0, 9).map(float)
entry = st.one_of(st.none(), st.tuples(coordinate, coordinate, coordinate))
history = st.lists(entry, max_size=20)
THREE = (UP, DOWN, DOWN)


def test_the_gain_of_a_third_corner_in_closed_form() -> None:
    """Ends (0, 2) and (2, 0), reference 2 + 2 m; then (1, 1) adds the square [1, 2) x [1, 2)."""
    edge = 2.0 + 2.0 * MARGIN
    before = 2.0 * edge * 2.0 * MARGIN - (2.0 * MARGIN) ** 2
    gain = recent_gain([(0.0, 2.0), (2.0, 0.0), (1.0, 1.0)], (DOWN, DOWN), 1)
    assert gain == pytest.approx(1.0 / before)


def test_one_objective_in_closed_form() -> None:
    """A front of one value has no extent: the box is that of all results, 10 to 4."""
    assert recent_gain([(10.0,), (4.5,), (4.0,)], (DOWN,), 1) == pytest.approx(0.6 / 0.1 - 1.0)
    assert recent_gain([(-10.0,), (-4.5,), (-4.0,)], (UP,), 1) == pytest.approx(0.6 / 0.1 - 1.0)


def test_a_bad_design_does_not_make_a_gain_look_small() -> None:
    gain = recent_gain([(0.0, 2.0), (2.0, 0.0), (1.0, 1.0)], (DOWN, DOWN), 1)
    assert recent_gain([(1e6, 1e6), (0.0, 2.0), (2.0, 0.0), (1.0, 1.0)], (DOWN, DOWN), 1) == gain


def test_patience_counts_finished_trials_whatever_became_of_them() -> None:
    points = [(1.0, 1.0), None, (math.nan, 0.0), (math.inf, 0.0), (2.0, 2.0)]
    assert plateaued(points, (DOWN, DOWN), 4, 0.01)
    assert not plateaued(points, (DOWN, DOWN), 5, 0.01)  # the first trial's gain is among them
    assert not plateaued(points, (DOWN, DOWN), 6, 0.01)  # fewer trials than patience


def test_nothing_feasible_is_no_plateau() -> None:
    assert not plateaued([None] * 9, (DOWN, DOWN), 3, 0.01)
    assert not plateaued([], (DOWN, DOWN), 3, 0.01)


@given(history, st.integers(1, 6), st.sampled_from([0.001, 0.05, 0.5]), st.integers(1, 3), entry)
def test_a_trial_without_a_gain_never_ends_a_plateau(
    points: list, patience: int, tolerance: float, times: int, last: tuple | None
) -> None:
    def no_better(point: tuple) -> bool:
        return any(q and q[0] >= point[0] and q[1] <= point[1] and q[2] <= point[2] for q in points)

    if plateaued(points, THREE, patience, tolerance) and (last is None or no_better(last)):
        assert plateaued([*points, *[last] * times], THREE, patience, tolerance)


@given(history, st.integers(1, 6))
def test_the_gain_grows_with_patience_and_is_zero_without_a_new_member(points: list, patience: int) -> None:
    gain = recent_gain(points, THREE, patience)
    assert 0.0 <= gain <= recent_gain(points, THREE, patience + 1)
    repeated = [*points, *points]
    if any(points):
        assert recent_gain(repeated, THREE, max(1, len(points))) == 0.0


@given(history, st.integers(1, 6), st.tuples(*[st.integers(-8, 8)] * 3))
def test_units_and_signs_do_not_matter(points: list, patience: int, exponents: tuple[int, ...]) -> None:
    flipped = [None if p is None else (-p[0] * 2.0 ** exponents[0], p[1], p[2]) for p in points]
    scaled = [
        None if p is None else (p[0], p[1] * 2.0 ** exponents[1], p[2] * 2.0 ** exponents[2]) for p in flipped
    ]
    # The unit enters where no result differs from another; there the gain is 0 or infinite anyway.
    expected = recent_gain(points, THREE, patience)
    assert recent_gain(scaled, (DOWN, DOWN, DOWN), patience) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(st.permutations([(0.0, 2.0), (2.0, 0.0), (1.0, 1.0), (3.0, 3.0)]))
def test_the_order_before_the_last_trials_does_not_matter(points: list) -> None:
    assert recent_gain([*points, (0.5, 1.0)], (DOWN, DOWN), 1) == pytest.approx(
        recent_gain([*sorted(points), (0.5, 1.0)], (DOWN, DOWN), 1)
    )


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(CodesignError, match="tolerance > 0 must hold"):
        plateaued([], (DOWN,), 3, 0.0)
    with pytest.raises(CodesignError, match="patience >= 1 must hold"):
        plateaued([], (DOWN,), 0, 0.1)
    with pytest.raises(CodesignError, match="for each of the 2 objectives, but point 1 has 1"):
        plateaued([None, (1.0,)], (DOWN, DOWN), 1, 0.1)
