"""The codec of choices: exact round trips, and a message for everything that is not a choice."""

from __future__ import annotations

import dataclasses
import json
import typing
from dataclasses import dataclass
from enum import Enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import choice as registry
from search_spaces.choice import SpaceError, choice, families, family_of, from_json, to_json
from search_spaces.quantization import (
    LEGAL_BITS,
    FullPrecision,
    Granularity,
    PostTraining,
    UniformQuantization,
)
from search_spaces.sparsity import NM, Dense, FilterPruned, RowPruned, Unstructured


class Colour(Enum):
    RED = "r"
    BLUE = "b"


@choice(family="test of the codec")
@dataclass(frozen=True, kw_only=True, slots=True)
class Inner:
    number: int
    share: float = 0.5


@choice(family="test of the codec", version=3)
@dataclass(frozen=True, kw_only=True, slots=True)
class Everything:
    flag: bool
    text: str
    colour: Colour
    inner: Inner
    several: tuple[Inner, ...]
    pair: tuple[int, str]
    maybe: Inner | None
    mixed: int | float | str
    colours: tuple[Colour, ...] = (Colour.RED,)


INNERS = st.builds(Inner, number=st.integers(), share=st.floats(allow_nan=False, allow_infinity=False))
EVERYTHING = st.builds(
    Everything,
    flag=st.booleans(),
    text=st.text(),
    colour=st.sampled_from(Colour),
    inner=INNERS,
    several=st.lists(INNERS, max_size=3).map(tuple),
    pair=st.tuples(st.integers(), st.text()),
    maybe=st.none() | INNERS,
    mixed=st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    colours=st.lists(st.sampled_from(Colour)).map(tuple),
)
EXAMPLE = Everything(
    flag=True,
    text="t",
    colour=Colour.BLUE,
    inner=Inner(number=1),
    several=(),
    pair=(1, "one"),
    maybe=None,
    mixed=2.0,
)
DENSITIES = st.floats(min_value=0, max_value=1, exclude_min=True)
COMPRESSION = st.one_of(
    st.just(FullPrecision()),
    st.just(Dense()),
    st.builds(
        UniformQuantization,
        weight_bits=st.sampled_from(LEGAL_BITS),
        activation_bits=st.sampled_from(LEGAL_BITS),
        granularity=st.sampled_from(Granularity),
    ),
    st.builds(Unstructured, density=DENSITIES),
    st.builds(FilterPruned, density=DENSITIES),
    st.integers(2, 16).flatmap(lambda m: st.builds(NM, n=st.integers(1, m - 1), m=st.just(m))),
)


@given(EVERYTHING | COMPRESSION)
def test_round_trip_through_json_text_is_exact(value: registry.Choice) -> None:
    again = from_json(json.loads(json.dumps(to_json(value))))
    assert again == value
    assert hash(again) == hash(value)
    assert [type(getattr(again, f.name)) for f in dataclasses.fields(again)] == [
        type(getattr(value, f.name)) for f in dataclasses.fields(value)
    ]


def test_the_written_form() -> None:
    assert to_json(UniformQuantization(weight_bits=4, activation_bits=8)) == {
        "type": "UniformQuantization",
        "version": 1,
        "data": {"weight_bits": 4, "activation_bits": 8, "granularity": "PER_CHANNEL"},
    }


@pytest.mark.parametrize("kind", [kind for members in families().values() for kind in members])
def test_every_registered_type_is_a_value(kind: type) -> None:
    """The contract of a choice, over whatever is registered: frozen, hashable, keyword-only, decodable."""
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert kind.__hash__ is not None
    assert all(field.kw_only for field in dataclasses.fields(kind))
    assert set(typing.get_type_hints(kind)) >= {field.name for field in dataclasses.fields(kind)}


def test_families_are_sorted_and_hold_their_types() -> None:
    assert list(families()) == sorted(families())
    assert families()["sparsity"] == (Dense, FilterPruned, NM, RowPruned, Unstructured)
    assert families()["quantization"][-3:] == (FullPrecision, PostTraining, UniformQuantization)
    assert family_of(Dense()) == "sparsity"


def test_a_name_is_registered_once() -> None:
    @dataclass(frozen=True)
    class Dense:
        """Another type of a name that is taken."""

    with pytest.raises(SpaceError, match=r"'Dense' is registered twice: by search_spaces.sparsity and by"):
        choice(family="sparsity")(Dense)


def test_a_choice_is_frozen() -> None:
    @dataclass
    class Mutable:
        number: int = 0

    with pytest.raises(SpaceError, match="must be a frozen dataclass, but Mutable is not"):
        choice(family="x")(Mutable)
    with pytest.raises(SpaceError, match="must be a frozen dataclass, but Plain is not"):
        choice(family="x")(type("Plain", (), {}))


def test_only_registered_types_are_written() -> None:
    @dataclass(frozen=True)
    class Stranger:
        """Never registered."""

    with pytest.raises(SpaceError, match=r"must be of a registered type, but .* is a Stranger: put @choice"):
        to_json(Stranger())


@pytest.mark.parametrize("share", [float("nan"), float("inf")])
def test_what_json_cannot_say_is_refused(share: float) -> None:
    with pytest.raises(SpaceError, match=r"Inner.share must be finite to be written as JSON"):
        to_json(Inner(number=1, share=share))


def test_what_no_field_may_hold_is_refused() -> None:
    with pytest.raises(SpaceError, match=r"Inner.number must hold numbers, .* but it holds a list"):
        to_json(Inner(number=[1]))  # type: ignore[arg-type]
    with pytest.raises(SpaceError, match=r"Inner.number must hold numbers"):
        to_json(Inner(number=Dense))  # type: ignore[arg-type]


def _with(**changes: object) -> dict[str, object]:
    document = json.loads(json.dumps(to_json(EXAMPLE)))
    document["data"] |= changes
    return document  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (7, r"\$ must be a choice with exactly the keys type, version, data, but is 7"),
        ({"type": "Dense", "data": {}}, r"exactly the keys"),
        (
            {"type": "Unstructed", "version": 1, "data": {}},
            r"no choice is named 'Unstructed'. Did you mean 'Unstructured'\? Known: .*Dense",
        ),
        ({"type": ["Dense"], "version": 1, "data": {}}, r"no choice is named \['Dense'\]"),
        ({"type": "Dense", "version": 2, "data": {}}, r"Dense must have version 1, but the file has 2"),
        ({"type": "Dense", "version": 1, "data": []}, r"\$.data must map field names to values, but is \[\]"),
        (
            {"type": "NM", "version": 1, "data": {"n": 2, "mm": 4}},
            r"\$.data: NM has no field 'mm'. Did you mean 'm'\? Known: m, masks, n",
        ),
        (
            {"type": "NM", "version": 1, "data": {"n": 2}},
            r"\$.data: NM needs the field 'm', but it is missing",
        ),
        ({"type": "NM", "version": 1, "data": {"n": 4, "m": 2}}, r"\$: `1 <= n < m` must hold .* n=4, m=2"),
        ({"type": "NM", "version": 1, "data": {"n": 2.0, "m": 4}}, r"\$.data.n must be a int, but is 2.0"),
        ({"type": "NM", "version": 1, "data": {"n": True, "m": 4}}, r"\$.data.n must be a int, but is True"),
        (_with(flag=1), r"\$.data.flag must be a bool, but is 1"),
        (_with(colour="BLU"), r"\$.data.colour: no Colour is named 'BLU'. Did you mean 'BLUE'\?"),
        (_with(inner=to_json(Dense())), r"\$.data.inner must be a Inner, but is a Dense"),
        (_with(several="no"), r"\$.data.several must be a list, but is 'no'"),
        (_with(several=[3]), r"\$.data.several\[0\] must be a choice with exactly the keys"),
        (_with(pair=[1, "a", "b"]), r"\$.data.pair must have 2 items, but has 3"),
        (_with(maybe=3), r"\$.data.maybe fits none of its 2 forms: "),
    ],
)
def test_what_cannot_be_read_is_explained(document: object, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        from_json(document)  # type: ignore[arg-type]


def test_a_whole_number_may_stand_for_a_float() -> None:
    assert from_json({"type": "Unstructured", "version": 1, "data": {"density": 1}}) == Unstructured(
        density=1.0
    )


def test_defaults_may_be_left_out() -> None:
    assert from_json({"type": "Inner", "version": 1, "data": {"number": 3}}) == Inner(number=3)


def test_an_exact_member_of_a_union_goes_first() -> None:
    assert type(from_json(_with(mixed=2)).mixed) is int  # type: ignore[arg-type, attr-defined]
    assert type(from_json(_with(mixed=2.0)).mixed) is float  # type: ignore[arg-type, attr-defined]
