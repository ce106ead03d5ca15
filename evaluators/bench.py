"""The bench on which designs are tried: data, networks, traces and trained halves, each made once.

The cache (`evaluators/cache.py`) holds one folder per pretrained network and per trained half, named by a
hash of everything that decides what is in it; a folder appears whole or not at all, and a lock makes equal
halves train once even when two workers want them at the same moment. A half that is trained in stages, or
was interrupted, goes on from its checkpoint.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from evaluators.cache import Entry
from evaluators.cost.model import cost
from evaluators.data.splits import DataSplits
from evaluators.dataset_spec import DatasetSpec
from evaluators.half_choices import choices_of, is_only_calibrated, replacements_of
from evaluators.learning import zero_cost
from evaluators.learning.backprop import accuracy, fine_tuning, pretrain
from evaluators.learning.recipe import Recipe
from evaluators.learning.stages import LearningError, Stage, checked_stages, share_at
from evaluators.learning.training import DivergedError, Training
from evaluators.networks import registry as networks
from evaluators.networks.layers import layer_infos
from evaluators.scores import Accuracy
from evaluators.shapes import ImageShape
from evaluators.shared_cache import SharedCache
from evaluators.shelf import Shelf
from evaluators.techniques.model import (
    Choices,
    bake_model,
    compress_model,
    copy_model,
    finish_model,
    measure_densities,
    restore_model,
)
from evaluators.techniques.structure import Structure, restructure_model
from evaluators.traces import Traced, Traces
from evaluators.trained import Trained, TrainedHalf, trained_to_json
from evaluators.workload.trace import trace
from hw_templates import templates
from search_spaces.ask import LayerInfo
from search_spaces.design import AlgorithmicHalf
from search_spaces.learning import Backpropagation
from search_spaces.network import NetworkChoice

CALIBRATION_EXAMPLES = 512  # training images; our choice, TFLite's guide asks for some hundred
ZERO_COST_EXAMPLES = 64  # one batch, as Mellor et al. and Abdelfattah et al. take
MEASURED_EXAMPLES = 512  # validation examples over which the zeros of activations are counted


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
        lent = None
        if shared is not None:
            lent = SharedCache(shared, dataset=dataset.name, splits=lambda: self.splits, build=self.build)
        self._shelf = Shelf(cache, lent, dataset=dataset, recipe=recipe, seed=seed, stages=self.stages)
        self._layers: dict[NetworkChoice, tuple[LayerInfo, ...]] = {}
        self._traces = Traces(
            build=self.build, input_shape=lambda network: self.shape_for(network).input_shape
        )

    @cached_property
    def splits(self) -> DataSplits:
        """The data, read on first use."""
        return self._dataset.load()

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
        return self._traces.of(network, learning, structure)

    def half_path(self, half: AlgorithmicHalf) -> Path | None:
        """Return the folder of a trained half in the cache; None where nothing is kept."""
        entry = self._shelf.half(half)
        return None if entry is None else entry.home

    def entries(self, half: AlgorithmicHalf) -> tuple[Entry, ...]:
        """Return where the cache keeps what training a half makes: the dense network, then the half."""
        found = (self._shelf.pretrained(half.network), self._shelf.half(half))
        return tuple(entry for entry in found if entry is not None)

    def kept(self, half: AlgorithmicHalf) -> Trained | None:
        """Return the facts of a finished half in the cache; None where it, or its weights, are not whole."""
        entry = self._shelf.half(half)
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
        entry = self._shelf.half(half)
        if entry is None:
            return self._train(half, until, None)
        known = None if until == self._recipe.epochs else until
        found = entry.trained(known)  # files appear whole: who only reads need not wait for who trains
        if found is None:
            with entry.locked():
                found = entry.trained(known)
                if found is None and self._shelf.borrowed(entry, half.network):
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
        last = [] if is_only_calibrated(half) else [until]
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
            self._shelf.lend(entry, half.network)
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
        entry = self._shelf.pretrained(network)
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
                if weights is None and self._shelf.borrowed(entry, network):
                    weights = entry.weights_of(model)
                if weights is None:
                    self._pretrain(model, entry)
                    self._shelf.lend(entry, network)
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


def _followed(training: Training, entry: Entry, until: int) -> Path | None:
    """Go on from the entry's checkpoint; return the file if it is this training's to write."""
    if entry.is_whole:  # only the facts of an earlier stage are missing: nothing will go on from here
        return None
    entry.discard()
    return entry.checkpoint if training.follow(entry.checkpoint, until) else None
