"""The accelerators of a space as a list: all of them, or a sample that every machine draws alike.

A trained algorithmic half is priced on the whole list in one call; what is listed is made by
`AcceleratorSpace.suggest` itself, so a listed chip is a chip that a sampler could have drawn.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from hw_templates import templates
from search_spaces.accelerator import AcceleratorChoice, AcceleratorSpace
from search_spaces.choice import SpaceError
from search_spaces.space import KnobValue

_TEMPLATE = "accelerator.template"  # the first question of `AcceleratorSpace.suggest`


@dataclass(slots=True)
class _Numbered:
    """Answers with combination `number` of a template; `sizes` gathers how many values each knob has.

    The number is read as digits of mixed radix, the first knob's the most slowly changing one where the
    radices are handed in (`radices`), so that numbers in sequence are neighbours.
    """

    template: str
    radices: Mapping[str, int] = field(default_factory=dict)
    number: int = 0
    sizes: dict[str, int] = field(default_factory=dict)

    def _digit(self, name: str, size: int) -> int:
        self.sizes[name] = size
        below = prod(radix for knob, radix in self.radices.items() if knob not in self.sizes)
        digit, self.number = divmod(self.number, below) if self.radices else (0, self.number)
        return digit

    def ordinal(self, name: str, values: tuple[int | float, ...]) -> int | float:
        distinct = tuple(dict.fromkeys(values))
        return distinct[self._digit(name, len(distinct))]

    def categorical(self, name: str, values: tuple[str, ...]) -> str:
        if name == _TEMPLATE:
            return self.template
        distinct = tuple(dict.fromkeys(values))
        return distinct[self._digit(name, len(distinct))]


def accelerators(space: AcceleratorSpace, limit: int, seed: int) -> tuple[AcceleratorChoice, ...]:
    """Return every accelerator of `space` where there are at most `limit`, else a sample of `limit`.

    A sample repeats none and has some of every template: as many of each, as far as a template has them, as
    a sampler's uniform first draws would. Templates follow each other as in the space, the combinations of
    one in the order of its knobs' values. The same arguments give the same list on every machine.

    Raises:
        SpaceError: `limit` is less than the number of templates.
    """
    radices = {name: _radices(space, name) for name in space.templates}
    sizes = {name: prod(found.values()) for name, found in radices.items()}
    shares = _shares(sizes, limit)
    return tuple(
        space.suggest(_Numbered(template=name, radices=radices[name], number=number))
        for position, name in enumerate(space.templates)
        for number in _drawn(sizes[name], shares[name], f"{seed}/{position}")
    )


def accelerator_knobs(space: AcceleratorSpace, choice: AcceleratorChoice) -> dict[str, KnobValue]:
    """Return the answers, by knob, with which `space.suggest` makes `choice`.

    Raises:
        SpaceError: no answers do; the message says which knob has another value.
    """
    if choice.template not in space.templates:
        raise SpaceError(
            f"the accelerator must be of one of {list(space.templates)}, but is {choice.template!r}"
        )
    replay = _Inverse(choice=choice)
    made = space.suggest(replay)
    if made != choice:
        raise SpaceError(f"{choice} has parameters that the space leaves at {made.parameters}")
    return replay.answers


@dataclass(slots=True)
class _Inverse:
    """Answers with the parameters of a choice."""

    choice: AcceleratorChoice
    answers: dict[str, KnobValue] = field(default_factory=dict)

    def _of(self, name: str, values: tuple[KnobValue, ...]) -> KnobValue:
        knob = name.removeprefix(f"{self.choice.template}.")
        given = dict(self.choice.parameters)
        value = given[knob] if knob in given else templates.load(self.choice.template).knobs[knob].default
        if value not in values:
            raise SpaceError(f"knob {name!r} takes one of {list(values)}, but the choice has {value!r}")
        self.answers[name] = value
        return value

    def ordinal(self, name: str, values: tuple[int | float, ...]) -> int | float:
        value = self._of(name, values)
        assert not isinstance(value, str)  # it is one of `values`
        return value

    def categorical(self, name: str, values: tuple[str, ...]) -> str:
        if name == _TEMPLATE:
            self.answers[name] = self.choice.template
            return self.choice.template
        return str(self._of(name, values))


def _radices(space: AcceleratorSpace, template: str) -> dict[str, int]:
    """Return how many distinct values each knob of a template has, in the order in which they are asked."""
    probe = _Numbered(template=template)
    space.suggest(probe)
    return probe.sizes


def _shares(sizes: Mapping[str, int], limit: int) -> dict[str, int]:
    """Return how many of each template are listed: equal shares, what one has not is the others'."""
    if limit < len(sizes):
        raise SpaceError(
            f"a list of accelerators has at least one of every template, but limit is {limit} "
            f"and there are {len(sizes)} templates"
        )
    shares: dict[str, int] = {}
    left = limit
    for name in sorted(sizes, key=lambda name: sizes[name]):  # the smallest first: what they lack is shared
        shares[name] = min(sizes[name], left // (len(sizes) - len(shares)))
        left -= shares[name]
    return shares


def _drawn(size: int, count: int, seed: str) -> list[int]:
    """Return `count` distinct numbers below `size`, ascending.

    Only `Random.random` is used: of Python's generator it is what every version repeats.
    """
    generator = random.Random(seed)
    inverse = 2 * count > size  # what is left out is drawn where it is less than what is in
    wanted = size - count if inverse else count
    picked: set[int] = set()
    while len(picked) < wanted:
        picked.add(int(generator.random() * size))
    return [number for number in range(size) if number not in picked] if inverse else sorted(picked)
