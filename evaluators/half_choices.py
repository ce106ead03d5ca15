"""What an algorithmic half asks of the layers of its network."""

from __future__ import annotations

from collections.abc import Collection

from evaluators.techniques.post_training import is_calibrated_only
from evaluators.techniques.structure import Structure, choices_of_parts, structure_of
from search_spaces.choice import Choice
from search_spaces.design import AlgorithmicHalf


def choices_of(half: AlgorithmicHalf, removed: Collection[str]) -> dict[str, tuple[Choice, ...]]:
    """Return the choices of each layer, in the order in which they act; replaced layers by their parts.

    Args:
        half: the design.
        removed: the layers whose filters have been taken out.
    """
    return choices_of_parts({layer.layer: layer.choices for layer in half.layers}, removed)


def is_only_calibrated(half: AlgorithmicHalf) -> bool:
    """Say whether a half is the dense network with its levels fitted, so that nothing is trained."""
    return not replacements_of(half) and is_calibrated_only(choices_of(half, ()))


def replacements_of(half: AlgorithmicHalf) -> Structure:
    """Return what decides the shapes of the network: replaced layers, and filters to take out."""
    return structure_of({layer.layer: layer.choices for layer in half.layers})
