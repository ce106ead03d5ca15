"""Fronts: against brute force, and the properties that any front has."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.errors import CodesignError
from codesign.front import (
    RunningFront,
    front,
    hypervolume,
    hypervolume_series,
    knee,
    losses,
    nondominated,
    reference_box,
)
from codesign.results import TrialResult, TrialState, Violation
from codesign.sections.goals import Objective
from evaluators.scores import Direction

OBJECTIVES = (
    Objective(name="validation_accuracy", direction=Direction.MAXIMIZE),
    Objective(name="inference_energy_pj", direction=Direction.MINIMIZE),
)


def trial(number: int, accuracy: float, energy: float, **changes: object) -> TrialResult:
    values: dict[str, object] = {
        "trial": number,
        "state": TrialState.COMPLETED,
        "design": None,
        "scores": {"validation_accuracy": accuracy, "inference_energy_pj": energy},
    }
    return TrialResult(**(values | changes))  # type: ignore[arg-type]


coordinates = st.integers(min_value=0, max_value=6).map(float)
points = st.lists(st.tuples(coordinates, coordinates, coordinates), min_size=1, max_size=25).map(np.array)


@given(points)
def test_nondominated_agrees_with_brute_force(values: np.ndarray) -> None:
    def beaten(i: int) -> bool:
        return any(
            (values[j] <= values[i]).all() and (values[j] < values[i]).any() for j in range(len(values))
        )

    kept = nondominated(values)
    expected = {tuple(values[i]) for i in range(len(values)) if not beaten(i)}
    assert {tuple(row) for row in values[kept]} == expected
    assert kept.sum() == len(expected)  # of equal points one is kept


def test_of_equal_designs_the_first_drawn_is_kept() -> None:
    members = front([trial(4, 0.9, 5.0), trial(2, 0.9, 5.0)], OBJECTIVES)
    assert [member.trial for member in members] == [2]


@given(st.permutations([trial(0, 0.9, 9.0), trial(1, 0.8, 4.0), trial(2, 0.85, 4.5), trial(3, 0.7, 8.0)]))
def test_a_front_does_not_depend_on_the_order_of_its_trials(results: list[TrialResult]) -> None:
    assert [member.trial for member in front(results, OBJECTIVES)] == [0, 2, 1]


@given(st.lists(st.tuples(coordinates, coordinates), max_size=25))
def test_a_running_front_is_the_front_of_all_so_far(pairs: list[tuple[float, float]]) -> None:
    results = [trial(number, *pair) for number, pair in enumerate(pairs)]
    running = RunningFront(OBJECTIVES)
    for result in results:
        running.add(result)
    assert running.members == front(results, OBJECTIVES)


def test_gated_failed_and_infeasible_trials_are_never_on_the_front() -> None:
    broken = Violation(constraint="area_mm2 <= 1", value=2.0, bound=1.0, excess=1.0)
    results = [
        trial(0, 0.5, 9.0),
        trial(1, 0.99, 1.0, violations=(broken,)),
        trial(2, 0.0, 1.0, state=TrialState.GATED, scores={"inference_energy_pj": 1.0}),
        trial(3, 0.0, 1.0, state=TrialState.FAILED, scores={}),
    ]
    assert [member.trial for member in front(results, OBJECTIVES)] == [0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_cannot_be_ranked(bad: float) -> None:
    with pytest.raises(CodesignError, match="NaN or infinite objective cannot be ranked"):
        losses([trial(0, bad, 1.0)], OBJECTIVES)


def test_a_missing_objective_cannot_be_ranked() -> None:
    with pytest.raises(CodesignError, match="without the objective 'inference_energy_pj'"):
        losses([trial(0, 0.5, 1.0, scores={"validation_accuracy": 0.5})], OBJECTIVES)


def test_an_empty_front_has_no_knee_and_no_hypervolume() -> None:
    assert front([], OBJECTIVES) == ()
    assert knee([], OBJECTIVES) is None
    assert hypervolume([], OBJECTIVES, trial(0, 0.9, 1.0)) == 0.0
    assert hypervolume([trial(1, 0.9, 1.0)], OBJECTIVES, None) == 0.0


def test_the_knee_is_the_point_furthest_inside_the_line_through_the_extremes() -> None:
    members = [trial(0, 1.0, 10.0), trial(1, 0.9, 2.0), trial(2, 0.5, 1.0)]
    # Scaled losses: (0, 1), (.2, 1/9), (1, 0); their sums are 1, .311, 1.
    best = knee(members, OBJECTIVES)
    assert best is not None
    assert best.trial == 1


def test_the_reference_alone_covers_half_of_each_cost() -> None:
    reference = trial(0, 0.8, 4.0)
    assert hypervolume([reference], OBJECTIVES, reference) == pytest.approx(0.5)


def test_hypervolume_of_two_points_by_hand() -> None:
    reference = trial(0, 0.8, 4.0)
    results = [reference, trial(1, 0.4, 1.0)]
    # In units of the reference, box 1 x 2: 1 x (2 - 1) from the first, then 0.5 x (1 - 0.25) from the second.
    assert hypervolume(results, OBJECTIVES, reference) == pytest.approx((1.0 + 0.375) / 2)


@given(st.lists(st.tuples(st.floats(0.01, 1.0), st.floats(0.1, 20.0)), min_size=1, max_size=20))
def test_hypervolume_never_falls_as_trials_come_in(scored: list[tuple[float, float]]) -> None:
    reference = trial(0, 0.8, 4.0)
    results = [reference, *(trial(i, a, e) for i, (a, e) in enumerate(scored, start=1))]
    series = hypervolume_series(results, OBJECTIVES, reference)
    values = [value for _, value in series]
    assert all(later >= earlier for earlier, later in itertools.pairwise(values))
    assert values[-1] == pytest.approx(hypervolume(results, OBJECTIVES, reference))


def test_the_box_reaches_from_nothing_to_twice_the_references_cost() -> None:
    best, worst = reference_box(np.array([-0.5, 8.0]), OBJECTIVES)
    assert best.tolist() == [-0.5, 0.0]
    assert worst.tolist() == [0.0, 16.0]
