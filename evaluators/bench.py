"""The bench on which designs are tried: data, networks, traces and trained halves, each made once.

The cache (`evaluators/cache.py`) holds one folder per pretrained network and per trained half, named by a
hash of everything that decides what is in it; a folder appears whole or not at all, and a lock makes equal
halves train once even when two workers want them at the same moment. A half that is trained in stages, or
was interrupted, goes on from its checkpoint.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from evaluators.cache import Entry, Kind
from evaluators.cost.model import cost
from evaluators.data import registry as data
from evaluators.data.splits import DataSplits, limited
from evaluators.digests import digest
from evaluators.learning import zero_cost
from evaluators.learning.backprop import accuracy, fine_tuning, pretrain
from evaluators.learning.recipe import Recipe
from evaluators.learning.stages import LearningError, Stage, checked_stages, share_at, smaller_shares
from evaluators.learning.training import DivergedError, Training
from evaluators.networks import registry as networks
from evaluators.networks.layers import layer_infos
from evaluators.scores import Accuracy
from evaluators.shapes import ImageShape, ShapesOnly
from evaluators.shared_cache import SharedCache
from evaluators.techniques.model import (
    Choices,
    bake_model,
    compress_model,
    copy_model,
    finish_model,
    measure_densities,
    restore_model,
)
from evaluators.techniques.post_training import is_calibrated_only
from evaluators.techniques.structure import (
    Structure,
    choices_of_parts,
    restructure_model,
    structure_of,
)
from evaluators.trained import Trained, TrainedHalf, trained_to_json
from evaluators.workload.graph import Workload
from evaluators.workload.trace import trace
from hw_templates import templates
from search_spaces.ask import LayerInfo
from search_spaces.choice import Choice, JsonValue
from search_spaces.design import AlgorithmicHalf, fingerprint
from search_spaces.learning import Backpropagation
from search_spaces.network import NetworkChoice

CALIBRATION_EXAMPLES = 512  # training images; our choice, TFLite's guide asks for some hundred
ZERO_COST_EXAMPLES = 64  # one batch, as Mellor et al. and Abdelfattah et al. take
TRACES_KEPT = 64  # of a search over numbers of filters every design has a trace of its own
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
    """Both passes of one network: an inference of one example, and one training step.

    Args:
        removed: the layers whose filters have been taken out, so that no choice need mask them.
    """

    inference: Workload
    training: Workload
    removed: frozenset[str] = frozenset()


class Bench:
    """Everything that designs of one study share.

    Args:
        seed: of initial weights, batches and everything else that is random in training.
        cache: folder of trained halves; None keeps nothing.
        stages: the ends of fine-tuning at which a search may ask for a half; none: only its end.
        shared: folder of trained halves that several runs share, beside a cache (`SharedCache`).

    Raises:
        LearningError: stages that do not rise to the recipe's epochs.
    """

    def __init__(
        self,
        dataset: DatasetSpec,
        recipe: Recipe,
        seed: int,
        cache: Path | None,
        *,
        stages: Sequence[Stage] = (),
        shared: Path | None = None,
    ) -> None:
        self._dataset = dataset
        self._recipe = recipe
        self.stages = checked_stages(stages, recipe.epochs)
        self._seed = seed
        self._cache = cache
        self._shared: SharedCache | None = None
        if shared is not None:
            self._shared = SharedCache(
                shared, dataset=dataset.name, splits=lambda: self.splits, build=self.build
            )
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
            removed = restructure_model(model, structure)
            if len(self._traces) >= TRACES_KEPT:
                del self._traces[next(iter(self._traces))]  # the oldest
            self._traces[network, learning, structure] = Traced(
                inference=trace(model, (torch.zeros(1, *shape),), loss=None, optimizer=None, training=False),
                training=trace(
                    model,
                    (torch.zeros(learning.batch_size, *shape),),
                    loss="cross_entropy",
                    optimizer=learning.optimizer,
                    training=True,
                ),
                removed=removed,
            )
        return self._traces[network, learning, structure]

    def half_path(self, half: AlgorithmicHalf) -> Path | None:
        """Return the folder of a trained half in the cache; None where nothing is kept."""
        entry = self._half_entry(half)
        return None if entry is None else entry.home

    def entries(self, half: AlgorithmicHalf) -> tuple[Entry, ...]:
        """Return where the cache keeps what training a half makes: the dense network, then the half."""
        found = (self._pretrained_entry(half.network), self._half_entry(half))
        return tuple(entry for entry in found if entry is not None)

    def kept(self, half: AlgorithmicHalf) -> Trained | None:
        """Return the facts of a finished half in the cache; None where it, or its weights, are not whole."""
        entry = self._half_entry(half)
        return None if entry is None else entry.trained(None)

    def train(self, half: AlgorithmicHalf, stage: int | None = None) -> TrainedHalf:
        """Return what training the half to the end of a stage gives; go on from where it was left.

        Args:
            stage: its number from 0; None for the last.

        Raises:
            DivergedError: the loss became NaN or infinite, now or when an equal half was trained.
            LearningError: there is no such stage.
            TechniqueError: a choice does not fit its layer.
        """
        until = self._end_of(stage)
        entry = self._half_entry(half)
        if entry is None:
            return self._train(half, until, None)
        known = None if until == self._recipe.epochs else until
        found = entry.trained(known)  # files appear whole: who only reads need not wait for who trains
        if found is None:
            with entry.locked():
                found = entry.trained(known)
                if found is None and self._shared and self._shared.borrowed(entry, half.network):
                    found = entry.trained(known)
                if found is None:
                    entry.raise_failure(until)
                    return self._train(half, until, entry)
        return TrainedHalf(trained=found, cached=True)

    def zero_cost(self, half: AlgorithmicHalf, name: str) -> float:
        """Return a zero-cost score of the half before its own training; larger is better.

        Raises:
            ZeroCostError: no such score, or it is not defined for this network.
            TechniqueError: a choice does not fit its layer.
        """
        model, _ = self._pretrained(half.network)
        removed = restructure_model(model, replacements_of(half))
        compress_model(model, choices_of(half, removed))
        return zero_cost.score(name, model, self.splits.train.images[:ZERO_COST_EXAMPLES])

    def _end_of(self, stage: int | None) -> int:
        if stage is None:
            return self._recipe.epochs
        if not 0 <= stage < len(self.stages):
            raise LearningError(f"stages are 0 to {len(self.stages) - 1}, but stage {stage} is asked for")
        return self.stages[stage].epochs

    def network_of(self, half: AlgorithmicHalf, weights: Path) -> nn.Module:
        """Return a half's network with saved weights, in evaluation mode; without the filters it has lost.

        Raises:
            TechniqueError: the weights are not those of this network and design.
        """
        model = self.build(half.network)
        removed = restructure_model(model, replacements_of(half))
        example = torch.zeros(1, *self.shape_for(half.network).input_shape)
        restore_model(model, choices_of(half, removed), load_file(weights), example)
        return model.eval()

    def accuracy(self, half: AlgorithmicHalf, weights: Path) -> Accuracy:
        """Return the accuracy of saved weights.

        Raises:
            TechniqueError: the weights are not those of this network and design.
        """
        return self._accuracy(self.network_of(half, weights))

    def _train(self, half: AlgorithmicHalf, until: int, entry: Entry | None) -> TrainedHalf:
        """Train to an epoch at which a stage ends; keep what is found there and on the way.

        The entry, if there is one, must be locked.
        """
        started = time.perf_counter()
        dense, waited_s = self._pretrained(half.network)
        training, choices = self._fine_tuning(half, dense)
        checkpoint = None if entry is None else _followed(training, entry, until)
        begun = training.epoch
        ends = [stage.epochs for stage in self.stages if begun <= stage.epochs <= until]
        last = [] if _is_only_calibrated(half) else [until]
        try:
            for end in ends if entry is not None and last else last:
                training.run(end, checkpoint=checkpoint)
                if entry is not None and end < until and entry.trained(end) is None:
                    entry.keep_stage(end, self._measured(copy_model(training.model), choices))
        except DivergedError as error:
            if entry is not None:
                entry.keep_failure(error)
            raise
        trained = self._measured(training.model, choices)
        if entry is not None:
            if until < self._recipe.epochs:
                entry.keep_stage(until, trained)
            else:
                entry.publish(training.model, trained_to_json(trained))
            if self._shared is not None:
                self._shared.lend(entry, half.network)
        return TrainedHalf(
            trained=trained,
            cached=False,
            epochs=sum(share_at(self.stages, record.epoch) for record in training.history[begun:]),
            seconds=time.perf_counter() - started - waited_s,
        )

    def _fine_tuning(self, half: AlgorithmicHalf, dense: nn.Module) -> tuple[Training, Choices]:
        """Return the training of a half that begins with the dense network, which it changes.

        With it come the choices of every layer that the changed network has.
        """
        teacher = copy.deepcopy(dense) if self._recipe.distillation else None
        choices = choices_of(half, restructure_model(dense, replacements_of(half)))
        compress_model(dense, choices, self._example)
        training = fine_tuning(
            dense,
            self.splits,
            self._recipe,
            half.learning,
            seed=self._seed,
            teacher=teacher,
            stages=self.stages,
        )
        return training, choices

    def _measured(self, model: nn.Module, choices: Choices) -> Trained:
        """Finish and bake a trained network, in place, and return what it is worth."""
        finish_model(model.eval(), choices, self.splits.train.images[:CALIBRATION_EXAMPLES])
        bake_model(model, choices)
        densities = measure_densities(model, choices, self.splits.validation.images[:MEASURED_EXAMPLES])
        return Trained(accuracy=self._accuracy(model), densities=tuple(densities.items()))

    @property
    def _example(self) -> torch.Tensor:
        """One image of zeros."""
        return torch.zeros(1, *self.splits.input_shape)

    def _accuracy(self, model: nn.Module) -> Accuracy:
        return Accuracy(
            validation=accuracy(model, self.splits.validation), test=accuracy(model, self.splits.test)
        )

    def _pretrained(self, network: NetworkChoice) -> tuple[nn.Module, float]:
        """Return the dense network, pretrained once for all designs, and the seconds of waiting for it."""
        model = self.build(network)
        entry = self._pretrained_entry(network)
        if entry is None:
            pretrain(model, self.splits, self._recipe, seed=self._seed)
            return model, 0.0
        asked = time.perf_counter()
        waited_s = 0.0
        weights = entry.weights_of(model)
        if weights is None:
            with entry.locked():
                waited_s = time.perf_counter() - asked
                weights = entry.weights_of(model)
                if weights is None and self._shared and self._shared.borrowed(entry, network):
                    weights = entry.weights_of(model)
                if weights is None:
                    self._pretrain(model, entry)
                    if self._shared is not None:
                        self._shared.lend(entry, network)
                    return model, waited_s
        model.load_state_dict(weights)
        return model.eval(), waited_s

    def _pretrain(self, model: nn.Module, entry: Entry) -> None:
        entry.raise_failure(self._recipe.pretrain_epochs)
        try:
            outcome = pretrain(model, self.splits, self._recipe, seed=self._seed, checkpoint=entry.checkpoint)
        except DivergedError as error:
            entry.keep_failure(error)
            raise
        entry.publish(model, {"version": 1, "validation_accuracy": outcome.validation_accuracy})

    def _pretrained_entry(self, network: NetworkChoice) -> Entry | None:
        return self._entry(Kind.PRETRAINED, fingerprint(network), {})

    def _half_entry(self, half: AlgorithmicHalf) -> Entry | None:
        shares = smaller_shares(self.stages)
        return self._entry(Kind.HALF, fingerprint(half), {"smaller_shares": list(shares)} if shares else {})

    def _entry(self, kind: Kind, name: str, settings: Mapping[str, JsonValue]) -> Entry | None:
        if self._cache is None:
            return None
        # What trains a half beside the half itself. The data folder is left out: it holds the same data.
        rest: dict[str, JsonValue] = {
            "dataset": self._dataset.name,
            "train_examples": self._dataset.train_examples,
            "validation_examples": self._dataset.validation_examples,
            "recipe": self._recipe.model_dump(mode="json"),
            "seed": self._seed,
            **settings,
        }
        return Entry(folder=self._cache, kind=kind, digest=digest([name, rest]))


def _followed(training: Training, entry: Entry, until: int) -> Path | None:
    """Go on from the entry's checkpoint; return the file if it is this training's to write."""
    if entry.is_whole:  # only the facts of an earlier stage are missing: nothing will go on from here
        return None
    entry.discard()
    return entry.checkpoint if training.follow(entry.checkpoint, until) else None


def choices_of(half: AlgorithmicHalf, removed: Collection[str]) -> dict[str, tuple[Choice, ...]]:
    """Return the choices of each layer, in the order in which they act; replaced layers by their parts.

    Args:
        half: the design.
        removed: the layers whose filters have been taken out.
    """
    return choices_of_parts({layer.layer: layer.choices for layer in half.layers}, removed)


def _is_only_calibrated(half: AlgorithmicHalf) -> bool:
    """Say whether a half is the dense network with its levels fitted, so that nothing is trained."""
    return not replacements_of(half) and is_calibrated_only(choices_of(half, ()))


def replacements_of(half: AlgorithmicHalf) -> Structure:
    """Return what decides the shapes of the network: replaced layers, and filters to take out."""
    return structure_of({layer.layer: layer.choices for layer in half.layers})
