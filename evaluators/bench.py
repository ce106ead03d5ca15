"""The bench on which designs are tried: data, networks, traces and trained halves, each made once.

The cache holds one folder per pretrained network and per trained half, named by a hash of everything that
decides what is in it; a folder appears whole or not at all, and a lock makes equal halves train once even
when two workers want them at the same moment.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from evaluators.cost.model import cost
from evaluators.data import registry as data
from evaluators.data.splits import DataSplits, limited
from evaluators.learning.backprop import accuracy, fine_tune, pretrain
from evaluators.learning.recipe import Recipe
from evaluators.networks import registry as networks
from evaluators.networks.layers import layer_infos
from evaluators.scores import Accuracy
from evaluators.shapes import ImageShape, ShapesOnly
from evaluators.techniques.model import (
    LayerDensity,
    bake_model,
    compress_model,
    measure_densities,
    restore_model,
)
from evaluators.techniques.structure import (
    Structure,
    choices_of_parts,
    restructure_model,
    structure_of,
)
from evaluators.workload.graph import Workload
from evaluators.workload.trace import trace
from hw_templates import templates
from search_spaces.ask import LayerInfo
from search_spaces.choice import Choice
from search_spaces.design import AlgorithmicHalf, fingerprint
from search_spaces.learning import Backpropagation
from search_spaces.network import NetworkChoice

WEIGHTS = "weights.safetensors"
FACTS = "facts.json"
MEASURED_EXAMPLES = 512  # validation examples over which the zeros of activations are counted


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetSpec:
    """Which data a proxy is trained on; `shapes` stands in their place where there are no examples."""

    name: str
    data_root: Path | None = None
    download: bool = False
    train_examples: int | None = None
    validation_examples: int | None = None
    shapes: ShapesOnly | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Traced:
    """Both passes of one network: an inference of one example, and one training step."""

    inference: Workload
    training: Workload


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """What training one half gave.

    Args:
        densities: what of each layer's weights and inputs is not zero, measured.
    """

    accuracy: Accuracy
    densities: tuple[tuple[str, LayerDensity], ...]


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
        self._traces: dict[tuple[NetworkChoice, Backpropagation, Structure], Traced] = {}

    @cached_property
    def splits(self) -> DataSplits:
        """The data, read on first use."""
        spec = self._dataset
        whole = data.load(spec.name, spec.data_root, spec.download)
        return limited(whole, train=spec.train_examples, validation=spec.validation_examples)

    @property
    def can_train(self) -> bool:
        """Whether there are examples to train and to measure on."""
        return self._dataset.shapes is None

    def shape_for(self, network: NetworkChoice) -> ImageShape:
        """Return the shape of a network's data, and what is assumed of its activations."""
        if self._dataset.shapes is not None:
            return self._dataset.shapes.of(network.name)
        return ImageShape(input_shape=self.splits.input_shape, num_classes=self.splits.num_classes)

    @staticmethod
    def warm_up() -> None:
        """Price one small layer, which compiles the mapper where no process has done so yet."""
        layer = nn.Linear(4, 4)
        small = trace(layer, (torch.zeros(1, 4),), loss=None, optimizer=None, training=False)
        cost(small, templates.load(templates.names()[0]).build())

    def build(self, network: NetworkChoice) -> nn.Module:
        """Return the untrained network."""
        shape = self.shape_for(network)
        return networks.build(
            network.name,
            width=network.width,
            depth=network.depth,
            input_shape=shape.input_shape,
            num_classes=shape.num_classes,
            seed=self._seed,
        )

    def layers(self, network: NetworkChoice) -> tuple[LayerInfo, ...]:
        """Return the layers that a design may compress."""
        if network not in self._layers:
            self._layers[network] = layer_infos(self.build(network))
        return self._layers[network]

    def trace(self, network: NetworkChoice, learning: Backpropagation, structure: Structure = ()) -> Traced:
        """Return both passes of a network, traced once for each way of replacing its layers."""
        if (network, learning, structure) not in self._traces:
            model, shape = self.build(network), self.shape_for(network).input_shape
            restructure_model(model, structure)
            self._traces[network, learning, structure] = Traced(
                inference=trace(model, (torch.zeros(1, *shape),), loss=None, optimizer=None, training=False),
                training=trace(
                    model,
                    (torch.zeros(learning.batch_size, *shape),),
                    loss="cross_entropy",
                    optimizer=learning.optimizer,
                    training=True,
                ),
            )
        return self._traces[network, learning, structure]

    def half_path(self, half: AlgorithmicHalf) -> Path | None:
        """Return the folder of a trained half in the cache; None where nothing is kept."""
        return self._home("half", fingerprint(half))

    def train(self, half: AlgorithmicHalf) -> tuple[Trained, bool]:
        """Return what training the half gives, and whether it was read from the cache.

        Raises:
            DivergedError: the loss became NaN or infinite.
            TechniqueError: a choice does not fit its layer.
        """
        home = self.half_path(half)
        if home is None:
            return self._train(half)[1], False
        with _locked(home):
            if not home.is_dir():
                model, trained = self._train(half)
                _publish(home, model, trained_to_json(trained))
                return trained, False
        return trained_from_json(json.loads((home / FACTS).read_text(encoding="utf-8"))), True

    def accuracy(self, half: AlgorithmicHalf, weights: Path) -> Accuracy:
        """Return the accuracy of saved weights.

        Raises:
            TechniqueError: the weights are not those of this network and design.
        """
        model = self.build(half.network)
        restructure_model(model, replacements_of(half))
        restore_model(model, choices_of(half), load_file(weights))
        model.eval()
        return Accuracy(
            validation=accuracy(model, self.splits.validation), test=accuracy(model, self.splits.test)
        )

    def _train(self, half: AlgorithmicHalf) -> tuple[nn.Module, Trained]:
        choices = choices_of(half)
        model = self._pretrained(half.network)
        restructure_model(model, replacements_of(half))
        compress_model(model, choices)
        teacher = self._pretrained(half.network) if self._recipe.distillation else None
        outcome = fine_tune(model, self.splits, self._recipe, half.learning, seed=self._seed, teacher=teacher)
        bake_model(model, choices)
        images = self.splits.validation.images[:MEASURED_EXAMPLES]
        densities = measure_densities(model, choices, images)
        return model, Trained(
            accuracy=Accuracy(validation=outcome.validation_accuracy, test=outcome.test_accuracy),
            densities=tuple(densities.items()),
        )

    def _pretrained(self, network: NetworkChoice) -> nn.Module:
        """Return the dense network, pretrained once for all designs that start from it."""
        model = self.build(network)
        home = self._home("pretrained", fingerprint(network))
        if home is None:
            pretrain(model, self.splits, self._recipe, seed=self._seed)
            return model
        with _locked(home):
            if not home.is_dir():
                outcome = pretrain(model, self.splits, self._recipe, seed=self._seed)
                facts: dict[str, object] = {"version": 1, "validation_accuracy": outcome.validation_accuracy}
                _publish(home, model, facts)
        model.load_state_dict(load_file(home / WEIGHTS))
        return model.eval()

    def _home(self, kind: str, name: str) -> Path | None:
        if self._cache is None:
            return None
        # What trains a half beside the half itself. The data folder is left out: it holds the same data.
        rest = {
            "dataset": self._dataset.name,
            "train_examples": self._dataset.train_examples,
            "validation_examples": self._dataset.validation_examples,
            "recipe": self._recipe.model_dump(mode="json"),
            "seed": self._seed,
        }
        digest = hashlib.sha256(json.dumps([name, rest], sort_keys=True).encode()).hexdigest()[:20]
        return self._cache / f"{kind}-{digest}"


def choices_of(half: AlgorithmicHalf) -> dict[str, tuple[Choice, ...]]:
    """Return the choices of each layer, in the order in which they act; replaced layers by their parts."""
    return choices_of_parts({layer.layer: layer.choices for layer in half.layers})


def replacements_of(half: AlgorithmicHalf) -> Structure:
    """Return which layers are replaced by several, before anything else is done."""
    return structure_of({layer.layer: layer.choices for layer in half.layers})


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """Hold the right to make one folder of the cache; a dead holder's lock is free again."""
    home.parent.mkdir(parents=True, exist_ok=True)
    with home.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _publish(home: Path, model: nn.Module, facts: dict[str, object]) -> None:
    """Write weights and facts into a temporary folder, and rename it when it is whole."""
    building = Path(tempfile.mkdtemp(dir=home.parent, prefix=f".{home.name}."))
    try:
        state: dict[str, Tensor] = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        save_file(state, building / WEIGHTS)
        (building / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        building.rename(home)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
