"""One point of the search: frozen, hashable, and exact through JSON."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from search_spaces.accelerator import AcceleratorChoice
from search_spaces.choice import Choice, JsonValue, SpaceError, choice, from_json, to_json
from search_spaces.family import layer_families
from search_spaces.learning import Backpropagation
from search_spaces.network import NetworkChoice


@choice(family="design")
@dataclass(frozen=True, kw_only=True, slots=True)
class LayerDesign:
    """What is done to one layer: its choices, in the order in which the families act."""

    layer: str
    choices: tuple[Choice, ...]


@choice(family="design")
@dataclass(frozen=True, kw_only=True, slots=True)
class AlgorithmicHalf:
    """A design less its accelerator: all that decides accuracy. Equal halves train once."""

    network: NetworkChoice
    layers: tuple[LayerDesign, ...]
    learning: Backpropagation


@choice(family="design")
@dataclass(frozen=True, kw_only=True, slots=True)
class Design:
    """One point: network, per-layer compression, learning, accelerator."""

    network: NetworkChoice
    layers: tuple[LayerDesign, ...]
    learning: Backpropagation
    accelerator: AcceleratorChoice

    @property
    def algorithm(self) -> AlgorithmicHalf:
        """The half that decides accuracy."""
        return AlgorithmicHalf(network=self.network, layers=self.layers, learning=self.learning)


def design_to_json(design: Design) -> JsonValue:
    """Return the design as JSON data; `design_from_json` gives back an equal one."""
    return to_json(design)


def design_from_json(data: JsonValue) -> Design:
    """Return the design that `design_to_json` wrote.

    Raises:
        SpaceError: the data is not a design, or holds a type or field that this version does not know.
    """
    layer_families()  # imports every family, so that its choices are known
    design = from_json(data)
    if not isinstance(design, Design):
        raise SpaceError(f"the data must describe a Design, but it describes a {type(design).__name__}")
    return design


def with_accelerator(design: JsonValue, accelerator: JsonValue) -> JsonValue:
    """Return a design as JSON data with another accelerator, itself as JSON data, in its place.

    Raises:
        SpaceError: the first is not a design.
    """
    if not isinstance(design, dict) or not isinstance(data := design.get("data"), dict):
        raise SpaceError(f"the data must describe a Design, but it is {design!r}")
    return {**design, "data": {**data, "accelerator": accelerator}}


def fingerprint(value: Choice) -> str:
    """Return a short, stable hash of any choice, the same in every process and on every machine."""
    return json_fingerprint(to_json(value))


def json_fingerprint(data: JsonValue) -> str:
    """Return the fingerprint of a choice from its JSON data."""
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
