"""Who trains on: small cases by hand, and what the rule promises for every rung."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.errors import CodesignError
from codesign.fidelity import keeps_going

coordinate = st.integers(0, 12).map(float)
result = st.tuples(coordinate, coordinate, coordinate)
rung = st.lists(result, max_size=24)
etas = st.integers(2, 5)


def beats(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


@pytest.mark.parametrize("eta", [2, 3, 4])
def test_one_objective_is_plain_successive_halving(eta: int) -> None:
    others = [[float(v)] for v in range(1, 12)]  # with the candidate: 12
    kept = 12 // eta
    assert keeps_going([kept - 0.5], others, eta)  # place kept - 1, counted from zero
    assert not keeps_going([kept + 0.5], others, eta)


def test_the_first_results_of_a_rung_go_on() -> None:
    assert keeps_going([9.0, 9.0], [], 3)
    assert keeps_going([9.0, 9.0], [[1.0, 1.0]], 3)
    assert not keeps_going([9.0, 9.0], [[1.0, 1.0], [2.0, 2.0]], 3)


def test_a_crowded_front_keeps_what_covers_it() -> None:
    """Six results, all on one front, two go on: the best in the first objective and the furthest from it."""
    front = [(0.0, 10.0), (1.0, 9.0), (2.0, 8.0), (3.0, 7.0), (4.0, 6.0), (10.0, 0.0)]
    going = [r for r in front if keeps_going(r, [o for o in front if o != r], 3)]
    assert going == [(0.0, 10.0), (10.0, 0.0)]


def test_diverged_training_does_not_go_on_for_being_cheap() -> None:
    others = [[0.4, 5.0], [0.3, 6.0], [0.5, 5.5]]
    assert not keeps_going([math.inf, 0.1], others, 2)
    assert keeps_going([0.3, 5.0], [[math.inf, 0.1]] * 3, 2)


def test_of_equal_results_the_candidate_stands_last() -> None:
    assert not keeps_going([1.0, 1.0], [[1.0, 1.0], [1.0, 1.0]], 3)


@given(rung.filter(bool), etas, st.integers(0, 30))
def test_a_small_front_goes_on_whole(results: list, eta: int, padding: int) -> None:
    everyone = [*results, *[(13.0, 13.0, 13.0 + extra) for extra in range(padding)]]
    front = [a for a in everyone if not any(beats(b, a) for b in everyone)]
    if len(front) <= len(everyone) / eta:
        for candidate in set(front):
            others = list(everyone)
            others.remove(candidate)
            assert keeps_going(candidate, others, eta)


@given(result, rung, etas)
def test_who_is_beaten_by_enough_others_stops(candidate: tuple[float, ...], others: list, eta: int) -> None:
    count = len(others) + 1
    beaten_by = sum(beats(other, candidate) for other in others)
    if count >= eta and beaten_by >= count / eta:
        assert not keeps_going(candidate, others, eta)


@given(rung.filter(bool), etas)
def test_one_in_eta_goes_on(results: list, eta: int) -> None:
    """Each result against the others: of distinct results exactly ceil(n / eta) go on."""
    distinct = sorted(set(results))
    going = [r for r in distinct if keeps_going(r, [o for o in distinct if o != r], eta)]
    count = len(distinct)
    assert len(going) == (count if count < eta else math.ceil(count / eta))


@given(result, rung, etas, st.randoms(use_true_random=False))
def test_the_order_of_the_others_does_not_matter(
    candidate: tuple[float, ...], others: list, eta: int, random: object
) -> None:
    shuffled = list(others)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert keeps_going(candidate, shuffled, eta) == keeps_going(candidate, others, eta)


@given(result, rung, etas, st.tuples(*[st.integers(-10, 10)] * 3))
def test_units_do_not_matter(
    candidate: tuple[float, ...], others: list, eta: int, exponents: tuple[int, ...]
) -> None:
    scale = 2.0 ** np.array(exponents)  # exact in binary
    scaled = [tuple(np.array(other) * scale) for other in others]
    assert keeps_going(tuple(np.array(candidate) * scale), scaled, eta) == keeps_going(candidate, others, eta)


def test_an_eta_that_stops_nobody_is_refused() -> None:
    with pytest.raises(CodesignError, match=r"eta >= 2 trials, but eta is 1"):
        keeps_going([1.0], [], 1)
