"""The whole space of a study: every family together, and its flat list of knobs.

Samplers want a fixed list of knobs; designs have conditional ones. `knobs` walks the conditions once and
returns the union; `assemble` turns any full assignment back into a `Design`, reading only those that mean
something for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from pydantic import BaseModel, ConfigDict, Field, create_model

from search_spaces.accelerator import AcceleratorSpace
from search_spaces.ask import Ask, LayerInfo
from search_spaces.choice import Choice, SpaceError, nearest
from search_spaces.design import Design, LayerDesign
from search_spaces.family import (
    ChecksLayers,
    LayerSpace,
    PassesOver,
    is_layer_space,
    layer_families,
    names_layers,
    replaces_layers,
)
from search_spaces.learning import LearningSpace
from search_spaces.network import NetworkChoice, NetworkSpace

KnobValue = int | float | str
Describe = Callable[[NetworkChoice], tuple[LayerInfo, ...]]


class BaseSpace(BaseModel):
    """The families that concern the whole network and the chip; `Space` adds the layer families."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    network: NetworkSpace = Field(default_factory=NetworkSpace)
    learning: LearningSpace = Field(default_factory=LearningSpace)
    accelerator: AcceleratorSpace

    def suggest(self, ask: Ask, network: str, describe: Describe) -> Design:
        """Ask for every knob that means something and return the design they make.

        Args:
            ask: answers the questions, in their order.
            network: the study's network.
            describe: the layers of a network choice.
        """
        chosen = self.network.suggest(ask, network)
        spaces = self.layer_spaces()
        layers = describe(chosen)
        for error in _unknown_names(spaces, layers):
            raise error
        return Design(
            network=chosen,
            layers=tuple(
                LayerDesign(layer=layer.name, choices=_choices(spaces, ask, layer)) for layer in layers
            ),
            learning=self.learning.suggest(ask),
            accelerator=self.accelerator.suggest(ask),
        )

    def layer_spaces(self) -> dict[str, LayerSpace]:
        """Return the layer families of this space by name, in the order in which they act."""
        found: dict[str, LayerSpace] = {}
        for name in layer_families():
            family: object = getattr(self, name)
            if is_layer_space(family):
                found[name] = family
        return found


def _choices(spaces: Mapping[str, LayerSpace], ask: Ask, layer: LayerInfo) -> tuple[Choice, ...]:
    """Ask every family in its order; the later ones know into what the earlier ones have cut the layer."""
    made: list[Choice] = []
    for family, space in spaces.items():
        try:
            choice = space.suggest(ask, layer)
        except SpaceError as error:
            raise error.under(family) from error
        if choice is not None:
            made.append(choice)
        replaces: object = choice
        if replaces_layers(replaces):
            layer = replace(layer, parts=replaces.parts(layer))
    return tuple(made)


def _unknown_names(spaces: Mapping[str, LayerSpace], layers: tuple[LayerInfo, ...]) -> list[SpaceError]:
    known = [layer.name for layer in layers]
    return [
        SpaceError(f"the network has no layer {name!r}.{nearest(name, known)}", key=family)
        for family, space in spaces.items()
        for name in (space.layer_names if names_layers(space) else ())
        if name not in known
    ]


Space: type[BaseSpace] = create_model(
    "Space",
    __base__=BaseSpace,
    __doc__="What may be chosen: one section a knob family.",
    **{name: (model, Field(default_factory=model)) for name, model in layer_families().items()},  # type: ignore[call-overload]
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Knob:
    """One dimension of the flat space; `ordered` values are sampled as neighbours of each other."""

    name: str
    values: tuple[KnobValue, ...]
    ordered: bool


@dataclass(slots=True)
class _Replay:
    """Answers from a full assignment; remembers what was asked, and the first knob it could not answer."""

    assignment: Mapping[str, KnobValue]
    asked: dict[str, Knob] = field(default_factory=dict)
    answers: dict[str, KnobValue] = field(default_factory=dict)

    def _answer(self, knob: Knob) -> KnobValue:
        self.asked[knob.name] = knob
        value = self.assignment.get(knob.name, knob.values[0])
        if value not in knob.values:
            value = _nearest(value, knob)
        self.answers[knob.name] = value
        return value

    def ordinal(self, name: str, values: tuple[int | float, ...]) -> int | float:
        answer = self._answer(Knob(name=name, values=values, ordered=True))
        if isinstance(answer, str):
            raise SpaceError(f"knob {name!r} takes one of {list(values)}, but got {answer!r}")
        return answer

    def categorical(self, name: str, values: tuple[str, ...]) -> str:
        return str(self._answer(Knob(name=name, values=values, ordered=False)))


def _nearest(value: KnobValue, knob: Knob) -> KnobValue:
    # A knob can have fewer legal values for one network than for another; the closest one stands in.
    if knob.ordered and not isinstance(value, str):
        return min(knob.values, key=lambda legal: abs(float(legal) - value))
    return knob.values[0]


def assemble(
    space: BaseSpace,
    assignment: Mapping[str, KnobValue],
    network: str,
    describe: Describe,
    *,
    section: str = "space",
) -> tuple[Design, dict[str, KnobValue]]:
    """Return the design that a full assignment makes, and the knobs that it really used.

    Args:
        space: what may be chosen.
        assignment: the knobs' values.
        network: the study's network.
        describe: the layers of a network choice.
        section: where in the study file the space stands, for messages.

    Raises:
        SpaceError: the space asks of a layer what it cannot have.
    """
    replay = _Replay(assignment=assignment)
    return _suggested(space, replay, network, describe, section), replay.answers


def _suggested(
    space: BaseSpace, replay: _Replay, network: str, describe: Describe, section: str = "space"
) -> Design:
    try:
        return space.suggest(replay, network, describe)
    except SpaceError as error:
        raise error.under(section) from error


def _check_layers(space: BaseSpace, network: str, describe: Describe) -> None:
    """Refuse what no layer of any network of the space can have: every problem at once, one a line."""
    spaces = space.layer_spaces()
    unknown = (_unknown_names(spaces, describe(chosen)) for chosen in space.network.every_choice(network))
    found = next((errors for errors in unknown if errors), [])
    layers = _all_layers(space, network, describe)
    for family, section in spaces.items():
        if isinstance(section, ChecksLayers):
            try:
                section.check_layers(layers)
            except SpaceError as error:
                found.append(error.under(family))
    if found:
        raise SpaceError("\n".join(str(error.under("space")) for error in found))


def _all_layers(space: BaseSpace, network: str, describe: Describe) -> tuple[LayerInfo, ...]:
    return tuple(layer for chosen in space.network.every_choice(network) for layer in describe(chosen))


def passed_over(space: BaseSpace, network: str, describe: Describe) -> tuple[str, ...]:
    """Return, in sentences, which values of the space some layers cannot have, and what those get."""
    layers = _all_layers(space, network, describe)
    return tuple(
        sentence
        for section in space.layer_spaces().values()
        if isinstance(section, PassesOver)
        for sentence in section.passed_over(layers)
    )


def knobs(space: BaseSpace, network: str, describe: Describe) -> dict[str, Knob]:
    """Return every knob that any design of the space can ask for, by name, in a stable order.

    Each knob's values are tried once on discovery, so a knob behind a condition is found whichever value
    opens it. Where the same knob has other values under another condition, the union is taken.

    Raises:
        SpaceError: a value that fits no layer of any network, or a layer that no value fits.
    """
    _check_layers(space, network, describe)
    found: dict[str, Knob] = {}
    waiting: list[dict[str, KnobValue]] = [{}]
    while waiting:
        assignment = waiting.pop(0)
        replay = _Replay(assignment=assignment)
        _suggested(space, replay, network, describe)
        for name, knob in replay.asked.items():
            known = found.get(name)
            new = [value for value in knob.values if known is None or value not in known.values]
            if not new:
                continue
            union = (() if known is None else known.values) + tuple(new)
            if knob.ordered:
                union = tuple(sorted(union, key=lambda value: float(value)))
            found[name] = Knob(name=name, values=union, ordered=knob.ordered)
            prefix = dict(replay.answers)
            waiting.extend(prefix | {name: value} for value in new if prefix[name] != value)
    return found
