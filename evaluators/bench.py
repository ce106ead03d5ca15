"""The bench on which designs are tried: data, networks, traces and trained halves, each made once.

The cache holds one folder per pretrained network and per trained half, named by a hash of everything that
decides what is in it; a folder appears whole or not at all, and a lock makes equal halves train once even
when two workers want them at the same moment.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from search_spaces.ask import LayerInfo
from search_spaces.choice import Choice
from search_spaces.design import AlgorithmicHalf, fingerprint
from search_spaces.learning import Backpropagation
from search_spaces.network import NetworkChoice
from torch import Tensor, nn

from evaluators.data import registry as data
from evaluators.data.splits import DataSplits, limited
from evaluators.learning.recipe import Recipe
from evaluators.networks import registry as networks
from evaluators.networks.layers import layer_infos
from evaluators.scores import Accuracy
from evaluators.workload.graph import Workload
from evaluators.workload.trace import trace


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetSpec:
    """Which data a proxy is trained on."""

    name: str
    data_root: Path | None = None
    download: bool = False
    train_examples: int | None = None
    validation_examples: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Traced:
    """Both passes of one network: an inference of one example, and one training step."""

    inference: Workload
    training: Workload


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """What training one half gave.

    Args:
        weight_density: share of non-zero weights, by layer.
        activation_density: share of non-zero inputs of the layer over the validation split, by layer.
    """

    accuracy: Accuracy
    weight_density: tuple[tuple[str, float], ...]
    activation_density: tuple[tuple[str, float], ...]


def trained_to_json(trained: Trained) -> dict[str, object]:
    """Return the facts as JSON data; floats survive exactly."""
    return {
        "version": 1,
        "validation_accuracy": trained.accuracy.validation,
        "test_accuracy": trained.accuracy.test,
        "weight_density": dict(trained.weight_density),
        "activation_density": dict(trained.activation_density),
    }


def trained_from_json(facts: Mapping[str, object]) -> Trained:
    """Return the facts that `trained_to_json` wrote; KeyError or TypeError where they are not."""
    weights, activations = facts["weight_density"], facts["activation_density"]
    if not isinstance(weights, dict) or not isinstance(activations, dict):
        raise TypeError("densities must be a mapping from layer to share")
    return Trained(
        accuracy=Accuracy(
            validation=float(str(facts["validation_accuracy"])), test=float(str(facts["test_accuracy"]))
        ),
        weight_density=tuple((str(layer), float(share)) for layer, share in weights.items()),
        activation_density=tuple((str(layer), float(share)) for layer, share in activations.items()),
    )


class Bench:
    """Everything that designs of one study share.

    Args:
        seed: of initial weights, batches and everything else that is random in training.
        cache: folder of trained halves; None keeps nothing.
    """

    def __init__(self, dataset: DatasetSpec, recipe: Recipe, seed: int, cache: Path | None) -> None:
        self._dataset = dataset
        self._recipe = recipe
        self._seed = seed
        self._cache = cache
        self._layers: dict[NetworkChoice, tuple[LayerInfo, ...]] = {}
        self._traces: dict[tuple[NetworkChoice, Backpropagation], Traced] = {}

    @cached_property
    def splits(self) -> DataSplits:
        """The data, read on first use."""
        spec = self._dataset
        whole = data.load(spec.name, spec.data_root, spec.download)
        return limited(whole, train=spec.train_examples, validation=spec.validation_examples)

    def build(self, network: NetworkChoice) -> nn.Module:
        """Return the untrained network."""
        return networks.build(
            network.name,
            width=network.width,
            depth=network.depth,
            input_shape=self.splits.input_shape,
            num_classes=self.splits.num_classes,
            seed=self._seed,
        )

    def layers(self, network: NetworkChoice) -> tuple[LayerInfo, ...]:
        """Return the layers that a design may compress."""
        if network not in self._layers:
            self._layers[network] = layer_infos(self.build(network))
        return self._layers[network]

    def trace(self, network: NetworkChoice, learning: Backpropagation) -> Traced:
        """Return both passes of a network, traced once."""
        if (network, learning) not in self._traces:
            model, shape = self.build(network), self.splits.input_shape
            self._traces[network, learning] = Traced(
                inference=trace(model, (torch.zeros(1, *shape),), loss=None, optimizer=None, training=False),
                training=trace(
                    model,
                    (torch.zeros(learning.batch_size, *shape),),
                    loss="cross_entropy",
                    optimizer=learning.optimizer,
                    training=True,
                ),
            )
        return self._traces[network, learning]
