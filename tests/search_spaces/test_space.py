"""The flat space of knobs, and the designs that assignments make."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from search_spaces.ask import LayerInfo
from search_spaces.choice import SpaceError
from search_spaces.design import Design, design_from_json, design_to_json, fingerprint
from search_spaces.network import NetworkChoice, NetworkSpace
from search_spaces.space import BaseSpace, Space, assemble, knobs
from search_spaces.sparsity import Dense

SPACE: BaseSpace = Space.model_validate(
    {
        "network": {"width": [0.5, 1.0], "depth": [1, 2]},
        "quantization": {"weight_bits": [2, 4, 8], "activation_bits": [4, 8]},
        "sparsity": {"patterns": ["dense", "unstructured", "2:4"], "density": [0.25, 0.5]},
        "accelerator": {"templates": ["eyeriss_like", "tpu_like"]},
    }
)


def describe(network: NetworkChoice) -> tuple[LayerInfo, ...]:
    channels = int(8 * network.width)
    first = LayerInfo(name="conv1", kind="conv2d", weight_shape=(channels, 3, 3, 3))
    more = tuple(
        LayerInfo(name=f"conv{i}", kind="conv2d", weight_shape=(channels, channels, 3, 3))
        for i in range(2, 2 + network.depth)
    )
    return (first, *more)


KNOBS = knobs(SPACE, "net", describe)
assignments = st.fixed_dictionaries({name: st.sampled_from(knob.values) for name, knob in KNOBS.items()})


def test_every_knob_is_found_behind_its_condition() -> None:
    assert "conv3.weight_bits" in KNOBS  # only at depth 2
    assert "conv1.density" in KNOBS  # only where unstructured is chosen
    assert "tpu_like.array_size" in KNOBS or any(name.startswith("tpu_like.") for name in KNOBS)
    assert "2:4" not in KNOBS["conv1.sparsity"].values  # three input channels
    assert "2:4" in KNOBS["conv2.sparsity"].values


def test_networks_are_a_knob_where_the_space_names_them() -> None:
    data = SPACE.model_dump() | {"network": {"name": ["b", "a"], "depth": [1, 2]}}
    space: BaseSpace = Space.model_validate(data)
    assert knobs(space, "c", describe)["network.name"].values == ("b", "a")
    assert assemble(space, {"network.name": "a"}, "c", describe)[0].network.name == "a"
    assert {one.name for one in space.network.every_choice("c")} == {"a", "b"}
    assert len(space.network.every_choice("c")) == 4
    assert space.network.reference()["name"] == ()  # the reference design is the study's own network
    assert "network.name" not in KNOBS
    with pytest.raises(ValidationError, match="the values must be distinct, but got"):
        NetworkSpace(name=("a", "a"))


@given(assignments)
def test_a_design_survives_json_exactly(assignment: dict[str, int | float | str]) -> None:
    design, _ = assemble(SPACE, assignment, "net", describe)
    text = json.dumps(design_to_json(design))
    again = design_from_json(json.loads(text))
    assert again == design
    assert hash(again) == hash(design)
    assert fingerprint(again) == fingerprint(design)


@given(assignments)
def test_only_knobs_that_mean_something_are_used(assignment: dict[str, int | float | str]) -> None:
    design, active = assemble(SPACE, assignment, "net", describe)
    for layer in design.layers:
        dense = any(isinstance(choice, Dense) for choice in layer.choices)
        assert not (dense and f"{layer.layer}.density" in active)
    chosen = design.accelerator.template
    assert all(
        not name.startswith(("eyeriss_like.", "tpu_like.")) or name.startswith(chosen) for name in active
    )
    assert ("conv3.weight_bits" in active) == (design.network.depth == 2)


@given(assignments)
def test_the_used_knobs_alone_make_the_same_design(assignment: dict[str, int | float | str]) -> None:
    design, active = assemble(SPACE, assignment, "net", describe)
    again, _ = assemble(SPACE, active, "net", describe)
    assert again == design


def test_the_algorithmic_half_forgets_the_chip() -> None:
    one, _ = assemble(SPACE, {"accelerator.template": "eyeriss_like"}, "net", describe)
    other, _ = assemble(SPACE, {"accelerator.template": "tpu_like"}, "net", describe)
    assert one != other
    assert fingerprint(one.algorithm) == fingerprint(other.algorithm)


def test_a_parameter_at_its_default_is_the_same_chip() -> None:
    space: BaseSpace = Space.model_validate(
        {"accelerator": {"templates": {"eyeriss_like": {"pe_rows": [8, 12]}}}}
    )
    design, _ = assemble(space, {"eyeriss_like.pe_rows": 12}, "net", describe)
    assert design.accelerator.parameters == ()


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"templates": ["eyeris_like"]}, "eyeriss_like"),
        ({"templates": {"eyeriss_like": {"pe_row": [8]}}}, "pe_rows"),
        ({"templates": {"eyeriss_like": {"pe_rows": [13]}}}, "must be one of"),
        ({"templates": []}, "at least one template"),
    ],
)
def test_a_wrong_accelerator_section_names_the_legal_ones(section: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Space.model_validate({"accelerator": section})


def test_what_the_layers_cannot_have_is_told_at_once_with_its_place() -> None:
    ranks = {"conv9": [1], "conv2": [4, 99]}
    data = {"decomposition": {"kind": "low_rank", "ranks": ranks}, "sparsity": {"patterns": ["dense", "2:5"]}}
    space: BaseSpace = Space.model_validate(SPACE.model_dump() | data)
    with pytest.raises(SpaceError) as caught:
        knobs(space, "net", describe)
    lines = str(caught.value).splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        "space.decomposition",
        "space.decomposition.ranks",
        "space.sparsity.patterns",
    ]
    assert "must be from 1 to 4" in lines[1]  # of the narrower network


def test_a_layer_that_no_pattern_fits_is_told_with_its_place() -> None:
    space: BaseSpace = Space.model_validate(SPACE.model_dump() | {"sparsity": {"patterns": "2:4"}})
    with pytest.raises(SpaceError, match=r"^space\.sparsity\.patterns: no pattern of \['2:4'\] fits layer"):
        knobs(space, "net", describe)
    with pytest.raises(SpaceError, match=r"^reference\.sparsity\.patterns: no pattern of"):
        assemble(space, {}, "net", describe, section="reference")


def test_repeated_and_empty_values_are_refused() -> None:
    base = {"accelerator": {"templates": ["eyeriss_like"]}}
    with pytest.raises(ValidationError, match="must be distinct"):
        Space.model_validate(base | {"network": {"width": [1.0, 1.0]}})
    with pytest.raises(ValidationError, match="at least one value"):
        Space.model_validate(base | {"network": {"width": []}})


def test_designs_are_hashable_and_equal_by_value() -> None:
    designs: set[Design] = {assemble(SPACE, {}, "net", describe)[0] for _ in range(3)}
    assert len(designs) == 1
