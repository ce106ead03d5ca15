"""Lists of accelerators: complete where they can be, else a sample that is the same everywhere."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.accelerator import AcceleratorChoice, AcceleratorSpace, accelerator_choice
from search_spaces.accelerator_list import accelerator_knobs, accelerators
from search_spaces.ask import LayerInfo
from search_spaces.choice import SpaceError
from search_spaces.network import NetworkChoice
from search_spaces.space import Space, assemble

SMALL = AcceleratorSpace.model_validate(
    {
        "templates": {
            "eyeriss_like": {"pe_rows": [8, 12], "global_buffer_kib": [32, 64, 108]},
            "tpu_like": {"pe_columns": [8, 16, 32, 64]},
            "stm32f746_like": {},
        }
    }
)
LARGE = AcceleratorSpace.model_validate({"templates": ["eyeriss_like", "tpu_like", "stm32f746_like"]})


def describe(network: NetworkChoice) -> tuple[LayerInfo, ...]:
    return (LayerInfo(name="conv", kind="conv2d", weight_shape=(8, 8, 3, 3)),)


def test_a_small_space_is_listed_whole() -> None:
    expected = [
        accelerator_choice("eyeriss_like", {"pe_rows": rows, "global_buffer_kib": kib})
        for rows, kib in itertools.product((8, 12), (32, 64, 108))
    ]
    expected += [accelerator_choice("tpu_like", {"pe_columns": columns}) for columns in (8, 16, 32, 64)]
    expected += [AcceleratorChoice(template="stm32f746_like")]
    assert accelerators(SMALL, limit=11, seed=0) == tuple(expected)
    assert accelerators(SMALL, limit=1000, seed=7) == tuple(expected)


@settings(max_examples=15, deadline=None)
@given(st.integers(3, 200), st.integers(0, 2**40))
def test_a_sample_repeats_none_and_has_some_of_every_template(limit: int, seed: int) -> None:
    listed = accelerators(LARGE, limit, seed)
    assert len(listed) == len(set(listed)) == limit
    count = Counter(choice.template for choice in listed)
    assert count["stm32f746_like"] == min(6, limit // 3)  # it has no more than six
    assert set(count) == set(LARGE.templates)
    assert abs(count["eyeriss_like"] - count["tpu_like"]) <= 1
    assert accelerators(LARGE, limit, seed) == listed


def test_almost_all_of_a_space_is_a_sample_too() -> None:
    listed = accelerators(SMALL, limit=10, seed=3)
    assert len(set(listed)) == 10
    assert set(listed) < set(accelerators(SMALL, limit=11, seed=3))


def test_seeds_draw_other_samples() -> None:
    assert accelerators(LARGE, 60, seed=1) != accelerators(LARGE, 60, seed=2)


def test_another_process_draws_the_same_sample() -> None:
    script = (
        "from search_spaces.accelerator import AcceleratorSpace\n"
        "from search_spaces.accelerator_list import accelerators\n"
        "space = AcceleratorSpace.model_validate({'templates': ['eyeriss_like', 'tpu_like']})\n"
        "print(accelerators(space, 40, 5))"
    )
    space = AcceleratorSpace.model_validate({"templates": ["eyeriss_like", "tpu_like"]})
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == str(accelerators(space, 40, 5))


def test_the_sample_of_a_seed_is_fixed() -> None:
    # A stored study is resumed on other machines: this list must not move between versions.
    space = AcceleratorSpace.model_validate({"templates": {"tpu_like": {"pe_rows": [8, 16, 32, 64, 128]}}})
    rows = [dict(choice.parameters).get("pe_rows") for choice in accelerators(space, 2, seed=0)]
    assert rows == [16, 64]


@pytest.mark.parametrize("space", [SMALL, LARGE], ids=["small", "large"])
def test_knobs_lead_back_to_the_choice(space: AcceleratorSpace) -> None:
    whole = Space.model_validate({"accelerator": {"templates": space.templates}})
    for choice in accelerators(space, limit=60, seed=4):
        knobs = accelerator_knobs(space, choice)
        design, asked = assemble(whole, knobs, "net", describe)
        assert design.accelerator == choice
        assert knobs.items() <= asked.items()
        assert all(
            name not in knobs for name in asked if not name.startswith(("accelerator", choice.template))
        )


def test_repeated_values_make_no_repeated_accelerators() -> None:
    space = AcceleratorSpace.model_validate({"templates": {"tpu_like": {"pe_rows": [8, 16, 8]}}})
    assert len(accelerators(space, limit=10, seed=0)) == 2


def test_a_limit_below_the_number_of_templates_is_refused() -> None:
    with pytest.raises(SpaceError, match="at least one of every template, but limit is 2 and there are 3"):
        accelerators(SMALL, limit=2, seed=0)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (AcceleratorChoice(template="eyeriss"), "must be of one of"),
        (AcceleratorChoice(template="tpu_like", parameters=(("pe_columns", 256),)), "takes one of"),
        (AcceleratorChoice(template="tpu_like", parameters=(("pe_columns", 8), ("pe_rows", 8))), "leaves at"),
    ],
)
def test_a_choice_outside_the_space_has_no_knobs(choice: AcceleratorChoice, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        accelerator_knobs(SMALL, choice)
