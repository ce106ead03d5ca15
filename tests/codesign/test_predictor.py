"""The predictor: its parts against references, and what its choice may and may not depend on."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import moocore
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from codesign.errors import CodesignError
from codesign.plateau import MARGIN
from codesign.predictor import MIN_SEEN, choose, improvement, predictions, ranked

ROOT = Path(__file__).parents[2]
share = st.integers(0, 10).map(lambda tenths: tenths / 10)
point = st.tuples(share, share, share)


def losses(rows: np.ndarray) -> np.ndarray:
    """Two objectives that pull against each other, and one of knobs of its own, shape (n, 3)."""
    size = rows[:, :4].sum(axis=1)
    return np.stack([-np.sqrt(1 + size), size * (1 + rows[:, 4]), (rows[:, 5] - 2) ** 2 + rows[:, 6]], axis=1)


def drawn(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 6, size=(count, 8)).astype(float)


SEEN = drawn(60, 1)
VALUES = losses(SEEN)
CANDIDATES = drawn(12, 2)


@given(st.lists(st.sampled_from([0.0, 1.0, 2.5, math.inf]), min_size=2, max_size=20))
def test_ranks_are_scipys_mean_ranks_scaled(values: list[float]) -> None:
    expected = (rankdata(values) - 1) / (len(values) - 1)
    assert ranked(np.array(values)) == pytest.approx(expected)


def test_a_single_value_has_a_rank() -> None:
    assert ranked(np.array([7.0])).tolist() == [0.0]


@given(point, st.lists(point, min_size=1, max_size=12))
def test_the_improvement_is_the_difference_of_two_hypervolumes(new: tuple, front: list) -> None:
    reference = [1.0 + MARGIN] * 3
    before = moocore.hypervolume(np.array(front), ref=reference)
    after = moocore.hypervolume(np.array([*front, new]), ref=reference)
    gain = improvement(np.array(new), np.array(front), 1.0 + MARGIN)
    assert gain == pytest.approx(after - before, abs=1e-12)
    if any(all(f <= x for f, x in zip(old, new, strict=True)) for old in front):
        assert gain == 0.0


def test_a_point_beyond_the_reference_improves_nothing() -> None:
    assert improvement(np.array([-1.0, 1.0 + MARGIN]), np.array([[0.5, 0.5]]), 1.0 + MARGIN) == 0.0


def test_the_choice_is_better_than_the_first_proposal() -> None:
    """Twenty rounds of eight random candidates; the true ranks of what is chosen, against the first's."""
    chosen, first = [], []
    for round_number in range(20):
        candidates = drawn(8, 100 + round_number)
        true = losses(candidates)
        places = np.stack([(row > VALUES).mean(axis=0) for row in true])
        gains = [improvement(place, np.apply_along_axis(ranked, 0, VALUES), 1.0 + MARGIN) for place in places]
        chosen.append(gains[choose(candidates, SEEN, VALUES, seed=round_number)])
        first.append(gains[0])
    assert np.mean(chosen) > 2 * np.mean(first)


def test_a_candidate_that_is_best_in_everything_is_chosen() -> None:
    rows = drawn(80, 3)
    values = np.stack([rows[:, 0] + 0.1 * rows[:, 1], rows[:, 0] + 0.1 * rows[:, 2]], axis=1)
    candidates = drawn(6, 4)
    candidates[:, 0] = np.maximum(candidates[:, 0], 2)
    candidates[4, :3] = 0
    assert choose(candidates, rows, values, seed=0) == 4


def test_where_nothing_improves_the_least_bad_is_chosen() -> None:
    """The one trial at 0 beats what the trees, which smooth, can promise anybody."""
    rows = drawn(40, 5)
    rows[:, 0] = np.maximum(rows[:, 0], 1)
    rows[0, 0] = 0
    values = rows[:, :1] ** 3
    candidates = np.stack([np.full(8, 5.0), np.full(8, 3.0), np.full(8, 1.0), np.full(8, 4.0)])
    assert choose(candidates, rows, values, seed=0) == 2


@pytest.mark.parametrize("transform", [np.cbrt, lambda v: v * [1e6, 1e-6, 3.0] + 5.0, np.arctan])
def test_units_and_outliers_do_not_matter(transform: object) -> None:
    moved = transform(VALUES)  # type: ignore[operator]
    assert choose(CANDIDATES, SEEN, moved, seed=0) == choose(CANDIDATES, SEEN, VALUES, seed=0)


def test_the_order_of_the_candidates_does_not_matter() -> None:
    best = CANDIDATES[choose(CANDIDATES, SEEN, VALUES, seed=0)]
    backwards = CANDIDATES[::-1]
    assert backwards[choose(backwards, SEEN, VALUES, seed=0)].tolist() == best.tolist()


def test_what_diverged_is_kept_away_from() -> None:
    values = VALUES.copy()
    values[SEEN[:, 7] >= 3, 0] = math.inf
    candidates = np.repeat(CANDIDATES[:1], 2, axis=0)
    candidates[:, 7] = (5, 0)
    assert choose(candidates, SEEN, values, seed=0) == 1


def test_a_knob_may_mean_nothing_for_some_designs() -> None:
    rows, candidates = SEEN.copy(), CANDIDATES.copy()
    rows[rows[:, 6] < 3, 7] = candidates[candidates[:, 6] < 3, 7] = math.nan
    assert 0 <= choose(candidates, rows, VALUES, seed=0) < len(candidates)


def test_too_few_trials_leave_the_sampler_alone() -> None:
    assert choose(CANDIDATES, [], [], seed=0) == 0
    assert choose(CANDIDATES, SEEN[: MIN_SEEN - 1], VALUES[: MIN_SEEN - 1], seed=0) == 0
    assert choose(CANDIDATES[:1], SEEN, VALUES, seed=0) == 0


def test_another_process_with_more_threads_predicts_the_same_bits() -> None:
    script = (
        "import numpy as np; from codesign.predictor import predictions; x = np.random.default_rng(0)"
        ".random((500, 8)); print(predictions(x[:9], x, x[:, :2] ** 2 + x[:, 2:4], 0).tobytes().hex())"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "4"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, env=environment, check=True
    )
    x = np.random.default_rng(0).random((500, 8))
    assert predictions(x[:9], x, x[:, :2] ** 2 + x[:, 2:4], 0).tobytes().hex() == done.stdout.strip()


@pytest.mark.parametrize(
    ("candidates", "rows", "values"),
    [([], [[1.0]], [[1.0]]), ([[1.0, 2.0]], [[1.0]], [[1.0]]), ([[1.0]], [[1.0]], [])],
)
def test_tables_that_do_not_belong_together_are_refused(candidates: list, rows: list, values: list) -> None:
    with pytest.raises(CodesignError, match="candidates and trials of the same knobs, and values for each"):
        choose(candidates, rows, values, seed=0)


def test_values_without_an_order_are_refused() -> None:
    values = VALUES.copy()
    values[3, 1] = math.nan
    with pytest.raises(CodesignError, match="result 3 is"):
        choose(CANDIDATES, SEEN, values, seed=0)


BOX = np.array([VALUES.min(axis=0), np.quantile(VALUES, 0.7, axis=0)])


def test_in_a_box_the_choice_gains_more_of_it_than_the_first_proposal() -> None:
    best, worst = BOX
    front = np.minimum((VALUES - worst) / (worst - best), 0.0)
    chosen, first = [], []
    for round_number in range(20):
        candidates = drawn(8, 100 + round_number)
        gains = [improvement(place, front, 0.0) for place in (losses(candidates) - worst) / (worst - best)]
        chosen.append(gains[choose(candidates, SEEN, VALUES, round_number, (best, worst))])
        first.append(gains[0])
    assert np.mean(chosen) > 2 * np.mean(first)


def test_in_a_box_units_do_not_matter_nor_what_lies_beyond_its_worst_corner() -> None:
    plain = [choose(drawn(12, n), SEEN, VALUES, 0, (BOX[0], BOX[1])) for n in range(5)]
    scaled = [choose(drawn(12, n), SEEN, 4 * VALUES, 0, (4 * BOX[0], 4 * BOX[1])) for n in range(5)]
    far = VALUES.copy()
    far[BOX[1] <= VALUES] = math.inf
    beyond = [choose(drawn(12, n), SEEN, far, 0, (BOX[0], BOX[1])) for n in range(5)]
    assert plain == scaled == beyond


def test_where_the_box_is_empty_a_point_gains_all_that_it_dominates() -> None:
    outside = np.array([[0.0, 0.0], [0.0, -1.0]])
    assert improvement(np.array([-0.5, -0.5]), outside, 0.0) == pytest.approx(0.25)
