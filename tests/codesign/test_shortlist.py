"""The accelerators of the shortlist: against a by-hand ranking, and kept for the other workers."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.hardware import listed
from codesign.problem import Problem
from codesign.search_space import space_of
from codesign.sections.goals import Constraint, Objective, Relation
from codesign.shortlist import PROBES, probes, shortlisted
from codesign.study_file import StudyFile
from codesign.study_reader import parse_study
from evaluators.scores import Direction, Scores

STUDY = """
name: short
network: small_cnn
dataset: {name: shapes, input_shape: [1, 8, 8], num_classes: 10}
space:
  network: {width: [0.25, 0.5]}
  quantization: {weight_bits: [4, 8], activation_bits: [8]}
  accelerator: {templates: {eyeriss_like: {pe_rows: [4, 8, 12], pe_columns: [4, 7, 14]}, stm32f746_like: {}}}
objectives: [inference_energy_pj, inference_latency_s]
constraints: [area_mm2 <= 20]
hardware_sweep: {designs: 10, shortlist: 3}
budget: {trials: 3}
"""


@pytest.fixture(scope="module")
def study() -> StudyFile:
    return parse_study(STUDY, "short.yaml")


def scores(energy: float, latency: float, area: float = 1.0) -> Scores:
    values = (("inference_energy_pj", energy), ("inference_latency_s", latency), ("area_mm2", area))
    return Scores(values=values)


def test_each_probe_takes_its_best_in_turns(study: StudyFile) -> None:
    first = [scores(1, 4), scores(4, 1), scores(5, 5), scores(9, 9)]  # 0 and 1 are its front
    second = [scores(9, 9), scores(8, 8), scores(7, 7), scores(1, 1)]  # 3, then 2
    assert shortlisted(study, [first, second], 1) == (0,)
    assert shortlisted(study, [first, second], 2) == (0, 3)
    assert shortlisted(study, [first, second], 3) == (0, 1, 3)
    assert shortlisted(study, [first, second], 9) == (0, 1, 2, 3)


def test_chips_that_break_a_constraint_or_have_no_cost_come_last(study: StudyFile) -> None:
    unmapped = Scores(values=(("area_mm2", 1.0),))
    tried = [[scores(1, 1, area=30), None, unmapped, scores(5, 5), scores(0.5, 0.5, area=21)]]
    assert shortlisted(study, tried, 1) == (3,)
    assert shortlisted(study, tried, 2) == (2, 3)  # of an area that is kept, though it cannot run this one
    assert shortlisted(study, tried, 3) == (2, 3, 4)
    assert shortlisted(study, tried, 4) == (0, 2, 3, 4)


costs = st.floats(0, 10) | st.just(math.inf)


@given(st.lists(st.lists(st.tuples(costs, costs), min_size=6, max_size=6), min_size=1, max_size=4))
def test_the_list_grows_by_one_chip_at_a_time(rows: list[list[tuple[float, float]]]) -> None:
    study = parse_study(STUDY, "short.yaml")
    tried = [[scores(*point) for point in row] for row in rows]
    lists = [set(shortlisted(study, tried, length)) for length in range(1, 7)]
    assert [len(one) for one in lists] == [1, 2, 3, 4, 5, 6]
    assert all(less < more for less, more in itertools.pairwise(lists))


def test_gains_count_upwards_and_energy_stands_in_where_no_objective_is_a_cost(study: StudyFile) -> None:
    accuracy = Objective(name="validation_accuracy", direction=Direction.MAXIMIZE)
    alone = study.model_copy(update={"objectives": (accuracy,), "constraints": ()})
    assert shortlisted(alone, [[scores(3, 1), scores(1, 3)]], 1) == (1,)
    far = Constraint(score="inference_latency_s", relation=Relation.AT_MOST, bound=2.0)
    assert shortlisted(
        alone.model_copy(update={"constraints": (far,)}), [[scores(3, 1), scores(1, 3)]], 1
    ) == (0,)


def test_probes_begin_with_the_reference_design_and_repeat(study: StudyFile) -> None:
    space = space_of(study, Problem(study, None).describe)
    found = probes(study, space)
    assert len(found) == PROBES
    assert found[0] == space.reference
    assert found == probes(study, space)


def test_a_problem_prices_the_shortlist_alone_and_keeps_it_for_other_workers(
    tmp_path: Path, study: StudyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = Problem(study, tmp_path)
    reference = space_of(study, problem.describe).reference
    points = problem.answer(0, reference, 0).result.hardware
    (kept,) = tmp_path.glob("accelerators-*.json")
    assert 0 < len(points) <= 3 < len(listed(study))
    monkeypatch.setattr("codesign.problem.shortlisted", None)  # another worker reads it
    assert Problem(study, tmp_path).answer(0, reference, 0).result.hardware == points
    monkeypatch.undo()
    for damage in ("", "[]", '{"of": 10, "places": [99]}', '{"of": 3, "places": [0]}'):
        kept.write_text(damage)
        assert Problem(study, tmp_path).answer(0, reference, 0).result.hardware == points
