"""The two compression families: what may be chosen, what is asked, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from search_spaces.ask import LayerInfo
from search_spaces.choice import SpaceError
from search_spaces.quantization import LEGAL_BITS, Granularity, QuantizationSpace, UniformQuantization
from search_spaces.sparsity import NM, Dense, FilterPruned, SparsitySpace, Unstructured, fits, parse_nm

CONV = LayerInfo(name="stage2.conv1", kind="conv2d", weight_shape=(16, 8, 3, 3))
FIRST = LayerInfo(name="stage1.conv1", kind="conv2d", weight_shape=(8, 3, 3, 3))
LINEAR = LayerInfo(name="classifier", kind="linear", weight_shape=(10, 32))


@dataclass
class Script:
    """Answers knobs by name (the first value where the script is silent), and remembers what was asked."""

    answers: dict[str, int | float | str] = field(default_factory=dict)
    asked: dict[str, tuple[int | float | str, ...]] = field(default_factory=dict)

    def ordinal(self, name: str, values: tuple[int | float, ...]) -> int | float:
        self.asked[name] = values
        answer = self.answers.get(name, values[0])
        assert not isinstance(answer, str)
        return answer

    def categorical(self, name: str, values: tuple[str, ...]) -> str:
        self.asked[name] = values
        return str(self.answers.get(name, values[0]))


@pytest.mark.parametrize("bits", [1, 0, 9, 31, 4.0, True, "4"])
@pytest.mark.parametrize("name", ["weight_bits", "activation_bits"])
def test_illegal_bits_are_refused(name: str, bits: object) -> None:
    legal = {"weight_bits": 8, "activation_bits": 8}
    with pytest.raises(SpaceError, match=rf"`{name}` must be one of \[2, 3, .*16, 32\], but got {name}="):
        UniformQuantization(**(legal | {name: bits}))  # type: ignore[arg-type]


def test_bits_are_asked_for_each_layer() -> None:
    space = QuantizationSpace.model_validate({"weight_bits": [8, 2, 4], "activation_bits": 8})
    script = Script(answers={"stage2.conv1.weight_bits": 4})
    assert space.suggest(script, CONV) == UniformQuantization(weight_bits=4, activation_bits=8)
    assert script.asked == {"stage2.conv1.weight_bits": (2, 4, 8), "stage2.conv1.activation_bits": (8,)}


def test_bits_are_asked_once_for_all_layers() -> None:
    space = QuantizationSpace.model_validate(
        {"weight_bits": [4, 8], "per_layer": False, "granularity": "per_tensor"}
    )
    script = Script()
    chosen = {space.suggest(script, layer) for layer in (FIRST, CONV, LINEAR)}
    assert chosen == {
        UniformQuantization(weight_bits=4, activation_bits=8, granularity=Granularity.PER_TENSOR)
    }
    assert set(script.asked) == {"all.weight_bits", "all.activation_bits"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"weight_bits": [4, 12]}, "bits must be one of .*, but got 12; the nearest is 8"),
        ({"weight_bits": []}, "at least one value must be given"),
        ({"weight_bits": [4, 4]}, "the values must be distinct"),
        ({"weight_bit": [4]}, "Extra inputs are not permitted"),
        ({"granularity": "per_row"}, "Input should be 'per_tensor' or 'per_channel'"),
    ],
)
def test_a_wrong_quantization_space_is_refused_when_built(data: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        QuantizationSpace.model_validate(data)


@pytest.mark.parametrize("density", [0.0, -0.5, 1.1, float("nan")])
@pytest.mark.parametrize("kind", [Unstructured, FilterPruned])
def test_a_density_outside_its_range_is_refused(kind: type, density: float) -> None:
    with pytest.raises(SpaceError, match=r"`0 < density <= 1` must hold, but got density="):
        kind(density=density)


@pytest.mark.parametrize(("n", "m"), [(0, 4), (4, 4), (5, 4), (-1, 2)])
def test_a_senseless_nm_is_refused(n: int, m: int) -> None:
    with pytest.raises(SpaceError, match=rf"`1 <= n < m` must hold for n:m sparsity, but got n={n}, m={m}"):
        NM(n=n, m=m)


@given(st.integers(2, 32).flatmap(lambda m: st.tuples(st.integers(1, m - 1), st.just(m))))
def test_nm_is_read_back_from_its_name_quoted_or_not(pair: tuple[int, int]) -> None:
    n, m = pair
    assert parse_nm(f"{n}:{m}") == NM(n=n, m=m)
    # YAML 1.1 reads 2:4 without quotes as a number in base 60; the space must see the pattern all the same.
    for text in (f"patterns: ['{n}:{m}']", f"patterns: [{n}:{m}]"):
        assert SparsitySpace.model_validate(yaml.safe_load(text)).patterns == (f"{n}:{m}",)


@pytest.mark.parametrize("name", ["dense", "2", "2:", ":4", "a:b", "-2:4", "2:4:8"])
def test_other_names_are_no_nm(name: str) -> None:
    assert parse_nm(name) is None


def test_a_density_is_asked_only_where_there_is_one() -> None:
    space = SparsitySpace(patterns=("dense", "2:4", "unstructured"), density=(0.25, 0.5))
    for pattern, expected, knobs in (
        ("dense", Dense(), {"stage2.conv1.sparsity"}),
        ("2:4", NM(n=2, m=4), {"stage2.conv1.sparsity"}),
        ("unstructured", Unstructured(density=0.25), {"stage2.conv1.sparsity", "stage2.conv1.density"}),
    ):
        script = Script(answers={"stage2.conv1.sparsity": pattern})
        assert space.suggest(script, CONV) == expected
        assert set(script.asked) == knobs


def test_a_layer_is_offered_only_what_fits() -> None:
    space = SparsitySpace(patterns=("dense", "2:4", "filter", "unstructured"))
    script = Script()
    for layer in (FIRST, CONV, LINEAR):
        space.suggest(script, layer)
    assert script.asked["stage1.conv1.sparsity"] == ("dense", "filter", "unstructured")  # 3 input channels
    assert script.asked["stage2.conv1.sparsity"] == ("2:4", "dense", "filter", "unstructured")
    assert script.asked["classifier.sparsity"] == ("2:4", "dense", "unstructured")  # its outputs are classes


def test_a_single_weight_cannot_be_pruned() -> None:
    one = LayerInfo(name="gain", kind="linear", weight_shape=(1, 1))
    assert fits("dense", one)
    assert not fits("unstructured", one)
    assert not fits("filter", LayerInfo(name="c", kind="conv2d", weight_shape=(1, 8, 3, 3)))


def test_one_pattern_for_all_leaves_the_others_dense() -> None:
    space = SparsitySpace(patterns=("2:4", "dense", "filter"), density=(0.5,), per_layer=False)
    script = Script(answers={"all.sparsity": "2:4"})
    assert [space.suggest(script, layer) for layer in (FIRST, CONV, LINEAR)] == [
        Dense(),
        NM(n=2, m=4),
        NM(n=2, m=4),
    ]
    assert set(script.asked) == {"all.sparsity"}
    script = Script(answers={"all.sparsity": "filter"})
    assert [space.suggest(script, layer) for layer in (CONV, LINEAR)] == [FilterPruned(density=0.5), Dense()]
    assert set(script.asked) == {"all.sparsity", "all.density"}


def test_what_is_passed_over_is_said_with_what_the_layers_get() -> None:
    first = "pattern 2:4 does not fit stage1.conv1 (it needs a multiple of 4 input channels), so"
    last = f"pattern filter does not fit {LINEAR.name} (it needs a convolution of two filters or more), so"
    for_all = SparsitySpace(patterns=("2:4", "dense"), per_layer=False)
    assert for_all.passed_over((FIRST, CONV, LINEAR)) == (f"{first} with it these stay dense",)
    each = SparsitySpace(patterns=("2:4", "filter", "dense"))
    assert each.passed_over((FIRST, LINEAR)) == tuple(
        f"{one} it is not offered there" for one in (first, last)
    )
    many = tuple(replace(FIRST, name=f"conv{index}") for index in range(6))
    assert "conv0, conv1, conv2, conv3 and 2 more (" in SparsitySpace(patterns=("2:4",)).passed_over(many)[0]


def test_a_layer_that_nothing_fits_is_named() -> None:
    message = (
        r"no pattern of \['1:4', '2:4'\] fits layer 'stage1.conv1' \(conv2d, weights 8x3x3x3\).*legal here"
    )
    with pytest.raises(SpaceError, match=message):
        SparsitySpace(patterns=("2:4", "1:4")).suggest(Script(), FIRST)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"patterns": ["unstructred"]}, r"no pattern is named 'unstructred'. Did you mean 'unstructured'\?"),
        ({"patterns": ["4:2"]}, r"pattern '4:2': `1 <= n < m` must hold"),
        ({"patterns": []}, "at least one value must be given"),
        ({"density": [0.5, 1.0]}, "Input should be less than 1"),
        ({"density": [0.0]}, "Input should be greater than 0"),
        ({"densities": [0.5]}, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_sparsity_space_is_refused_when_built(data: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SparsitySpace.model_validate(data)


@given(
    patterns=st.lists(
        st.sampled_from(["dense", "unstructured", "filter", "1:4", "2:4", "1:2"]), min_size=1, unique=True
    ),
    shape=st.tuples(*[st.integers(1, 12)] * 4),
    per_layer=st.booleans(),
)
def test_whatever_is_suggested_fits(patterns: list[str], shape: tuple[int, ...], per_layer: bool) -> None:
    layer = LayerInfo(name="conv", kind="conv2d", weight_shape=shape)
    space = SparsitySpace(patterns=tuple(patterns), density=(0.5,), per_layer=per_layer)
    if per_layer and not any(fits(pattern, layer) for pattern in patterns):
        with pytest.raises(SpaceError, match="fits layer 'conv'"):
            space.suggest(Script(), layer)
        return
    chosen = space.suggest(Script(), layer)
    assert not isinstance(chosen, NM) or shape[1] % chosen.m == 0
    assert not isinstance(chosen, FilterPruned) or shape[0] > 1


def test_legal_bits_are_the_documented_ones() -> None:
    assert LEGAL_BITS == (2, 3, 4, 5, 6, 7, 8, 16)
