"""What the engine needs to know of a space: its knobs, and the design that an assignment makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from codesign.study_file import StudyFile
from search_spaces.design import Design
from search_spaces.space import Describe, Knob, KnobValue, assemble, knobs

Assemble = Callable[[Mapping[str, KnobValue]], tuple[Design, dict[str, KnobValue]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchSpace:
    """A flat list of knobs, and the way back from it to designs.

    Args:
        knobs: every knob by name.
        assemble: turns a full assignment into a design and the knobs that it really used.
        layers: the name of every layer of any network of the space.
        reference: trial 0.
        reference_values: its knobs; None where it lies outside the space.
    """

    knobs: Mapping[str, Knob]
    assemble: Assemble
    layers: frozenset[str]
    reference: Design
    reference_values: Mapping[str, KnobValue] | None

    def nearest(self, values: Mapping[str, KnobValue]) -> dict[str, KnobValue]:
        """Return a full assignment as near as can be to one of another space.

        A knob that the other space does not have takes the reference design's value.
        """
        default = self.reference_values or {}
        return {
            name: _nearest(values[name] if name in values else default.get(name, knob.values[0]), knob)
            for name, knob in self.knobs.items()
        }


def space_of(study: StudyFile, describe: Describe) -> SearchSpace:
    """Return the space of a study.

    Args:
        describe: the layers of a network choice.
    """
    space, network = study.space_, study.network.name
    found = knobs(space, network, describe)

    def assembled(values: Mapping[str, KnobValue]) -> tuple[Design, dict[str, KnobValue]]:
        return assemble(space, values, network, describe)

    reference, pinned = assemble(study.reference_space, {}, network, describe, section="reference")
    values = {name: pinned.get(name, knob.values[0]) for name, knob in found.items()}
    inside = all(values[name] in knob.values for name, knob in found.items())
    inside = inside and assembled(values)[0] == reference
    return SearchSpace(
        knobs=found,
        assemble=assembled,
        layers=frozenset(
            layer.name for chosen in space.network.every_choice(network) for layer in describe(chosen)
        ),
        reference=reference,
        reference_values=values if inside else None,
    )


def _nearest(value: KnobValue, knob: Knob) -> KnobValue:
    if value in knob.values:
        return value
    if knob.ordered and not isinstance(value, str):
        return min(knob.values, key=lambda legal: abs(float(legal) - value))
    return knob.values[0]
