"""The accelerators nobody beats: against brute force, and who is left out."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from codesign.hardware_front import hardware_front
from codesign.sections.goals import Constraint, Objective, Relation
from evaluators.scores import Direction, Scores

ENERGY = Objective(name="inference_energy_pj")
LATENCY = Objective(name="inference_latency_s")
ACCURACY = Objective(name="validation_accuracy", direction=Direction.MAXIMIZE)
SMALL = Constraint(score="area_mm2", relation=Relation.AT_MOST, bound=4.0)


def scores(energy: float, latency: float, area: float = 1.0, accuracy: float = 0.5) -> Scores:
    return Scores(
        values=(
            ("inference_energy_pj", energy),
            ("inference_latency_s", latency),
            ("area_mm2", area),
            ("validation_accuracy", accuracy),
        )
    )


numbers = st.integers(0, 5).map(float)


@given(st.lists(st.tuples(numbers, numbers, numbers), max_size=20))
def test_it_agrees_with_brute_force(points: list[tuple[float, float, float]]) -> None:
    members = [scores(energy, latency, area) for energy, latency, area in points]
    allowed = [(point[:2], index) for index, point in enumerate(points) if point[2] <= 4.0]
    expected = [
        index
        for (own, index) in allowed
        if not any(
            (other[0] <= own[0] and other[1] <= own[1]) and (other != own or rank < index)
            for other, rank in allowed
        )
    ]
    assert list(hardware_front(members, (ENERGY, LATENCY), (SMALL,))) == expected


def test_gains_are_maximised() -> None:
    members = [scores(1.0, 1.0, accuracy=0.5), scores(1.0, 1.0, accuracy=0.9)]
    assert hardware_front(members, (ENERGY, ACCURACY), ()) == (1,)


def test_who_has_no_cost_is_no_member() -> None:
    unmapped = Scores(values=(("area_mm2", 0.5), ("inference_latency_s", 0.1)))
    broken = scores(math.nan, 0.1)
    infinite = scores(0.1, math.inf)
    members = [None, unmapped, broken, infinite, scores(2.0, 2.0)]
    assert hardware_front(members, (ENERGY, LATENCY), (SMALL,)) == (4,)
    assert hardware_front(members[:4], (ENERGY, LATENCY), (SMALL,)) == ()
    assert hardware_front([], (ENERGY,), ()) == ()
