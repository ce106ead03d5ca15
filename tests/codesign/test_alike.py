"""The first designs: all layers alike, values dealt evenly, and legal everywhere."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codesign.alike import alike
from codesign.drive import open_sweep
from codesign.files import write_json
from codesign.layers import layers_to_json
from codesign.run_folder import create
from codesign.search_space import SearchSpace, space_of
from codesign.study_file import StudyFile
from search_spaces.ask import LayerInfo
from search_spaces.design import design_from_json
from tests.codesign.conftest import FormulaExecutor

LAYERS = (
    LayerInfo(name="first", kind="conv2d", weight_shape=(8, 1, 3, 3)),
    LayerInfo(name="second", kind="conv2d", weight_shape=(8, 8, 3, 3)),
)


@pytest.fixture
def space(study: StudyFile) -> SearchSpace:
    return space_of(study, lambda network: LAYERS)


@given(count=st.integers(1, 40), seed=st.integers(0, 5))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_value_comes_equally_often_and_in_all_layers(space: SearchSpace, count: int, seed: int) -> None:
    drawn = alike(space, count, seed)
    assert len(drawn) == count
    for knob in ("weight_bits", "activation_bits"):
        assert all(one[f"first.{knob}"] == one[f"second.{knob}"] for one in drawn)
        counts = Counter(one[f"first.{knob}"] for one in drawn)
        levels = space.knobs[f"first.{knob}"].values
        assert all(count // len(levels) <= counts[level] <= -(-count // len(levels)) for level in levels)


def test_the_same_seed_gives_the_same_designs_and_another_seed_others(space: SearchSpace) -> None:
    assert alike(space, 12, 0) == alike(space, 12, 0)
    assert alike(space, 12, 0) != alike(space, 12, 1)


def test_a_layer_that_cannot_have_a_value_keeps_the_reference_designs(study: StudyFile) -> None:
    layers = (LAYERS[0], replace(LAYERS[1], name="second"), replace(LAYERS[1], name="third"))
    section = {"patterns": ["dense", "filter", "2:4"]}  # 2:4 fits no layer of one input channel
    space = study.space_.model_copy(
        update={"sparsity": type(getattr(study.space_, "sparsity")).model_validate(section)}  # noqa: B009
    )
    found = space_of(study.model_copy(update={"space": space}), lambda network: layers)
    filled = [found.nearest(one) for one in alike(found, 12, 0)]
    patterns = {(one["first.sparsity"], one["second.sparsity"], one["third.sparsity"]) for one in filled}
    assert patterns == {("dense",) * 3, ("filter",) * 3, ("dense", "2:4", "2:4")}


def test_a_sweep_begins_with_them(tmp_path: Path, study: StudyFile) -> None:
    study = study.model_copy(update={"sampler": study.sampler.model_copy(update={"alike": 6})})
    folder = create(tmp_path / "run", study, command="test")
    space = study.space_
    networks = space.network.every_choice(study.network.name)
    write_json(folder.layers_path, layers_to_json(dict.fromkeys(networks, LAYERS)))
    with folder.driver_lock():
        assert open_sweep(folder, study, FormulaExecutor(folder), lambda tick: None).run()
    designs = [design_from_json(result.design) for result in folder.results()]
    kinds = [len({layer.choices for layer in design.layers}) for design in designs]
    assert kinds[:7] == [1] * 7  # the reference design too
    assert max(kinds) > 1
