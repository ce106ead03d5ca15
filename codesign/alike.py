"""The first designs of a search: those that treat all layers alike.

With a handful of knobs a layer, hardly any random design is a good one: somewhere it has a layer of too few
bits. A designer begins with one precision and one pattern for the whole network, a space of a few dimensions
that some ten designs cover. What single layers can do without is then the search's to find.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from codesign.samplers import trial_seed
from codesign.search_space import SearchSpace
from search_spaces.space import KnobValue

_SEED = 1_000_000_007  # beyond all trial numbers, so that these draws are no trial's


def alike(space: SearchSpace, count: int, seed: int) -> tuple[dict[str, KnobValue], ...]:
    """Return `count` assignments in which a knob that several layers have has one value in all of them.

    The values of each knob are dealt evenly: over `count` designs each comes equally often, give or take
    one. A layer that cannot have the value keeps the reference design's.

    Source: the dealing is Latin hypercube sampling, McKay et al. 1979, A comparison of three methods for
        selecting values of input variables.
    """
    rng = random.Random(trial_seed(seed, _SEED))
    groups: dict[str, list[str]] = {}
    for name in space.knobs:
        layer, _, knob = name.rpartition(".")
        groups.setdefault(f"*.{knob}" if layer in space.layers else name, []).append(name)
    dealt = {group: _dealt(_values(space, names), count, rng) for group, names in groups.items()}
    return tuple(
        {
            name: dealt[group][number]
            for group, names in groups.items()
            for name in names
            if dealt[group][number] in space.knobs[name].values
        }
        for number in range(count)
    )


def _values(space: SearchSpace, names: Sequence[str]) -> tuple[KnobValue, ...]:
    """Return what any of several knobs can be, in the order in which it is met."""
    return tuple(dict.fromkeys(value for name in names for value in space.knobs[name].values))


def _dealt(values: Sequence[KnobValue], count: int, rng: random.Random) -> list[KnobValue]:
    """Return `count` values in random order, each as often as every other, give or take one."""
    start = rng.random()  # which of them come once more than the others is a matter of chance too
    found = [values[int((number + start) * len(values) / count) % len(values)] for number in range(count)]
    for last in range(count - 1, 0, -1):  # Fisher-Yates by `random` alone, which every Python repeats
        other = int(rng.random() * (last + 1))
        found[last], found[other] = found[other], found[last]
    return found
