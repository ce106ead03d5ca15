"""What training one half gave, and its form as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evaluators.scores import Accuracy
from evaluators.techniques.model import LayerDensity


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """What training one half gave.

    Args:
        densities: what of each layer's weights and inputs is not zero, measured.
    """

    accuracy: Accuracy
    densities: tuple[tuple[str, LayerDensity], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedHalf:
    """The answer to one demand for a trained half, and what it took.

    Args:
        trained: what training gave.
        cached: nothing was trained: the facts were read.
        epochs: of fine-tuning, run for this answer, in passes over all training examples: an epoch on a
            quarter of them counts as a quarter, an epoch of an earlier answer not at all.
        seconds: spent on training and what belongs to it (pretraining, decomposition, measuring); waiting
            for another process is not in it.
    """

    trained: Trained
    cached: bool
    epochs: float = 0.0
    seconds: float = 0.0


def trained_to_json(trained: Trained) -> dict[str, object]:
    """Return the facts as JSON data; floats survive exactly."""
    return {
        "version": 1,
        "validation_accuracy": trained.accuracy.validation,
        "test_accuracy": trained.accuracy.test,
        "densities": {
            layer: {"weights": density.weights, "inputs": density.inputs}
            for layer, density in trained.densities
        },
    }


def trained_from_json(facts: Mapping[str, Any]) -> Trained:
    """Return the facts that `trained_to_json` wrote.

    Raises:
        KeyError, TypeError, ValueError: they are not facts.
    """
    return Trained(
        accuracy=Accuracy(validation=float(facts["validation_accuracy"]), test=float(facts["test_accuracy"])),
        densities=tuple(
            (str(layer), LayerDensity(weights=float(density["weights"]), inputs=float(density["inputs"])))
            for layer, density in facts["densities"].items()
        ),
    )
