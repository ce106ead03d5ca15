"""The accuracy of SmartDeal training on CIFAR-10: a source network, then training on images it has not seen.

As in the paper's fine-tuning, one half of the training images makes the source network, on a server: it is
pretrained and then trained further, once as it is and once with the kernel rows removed that SmartDeal will
not have; that one is then projected. The other half trains both on the device: one in single precision, one
with nothing but the stored coefficients and bases, and activations and errors of 8 bits. Both have the same
epochs, learning rates and batches. Images come with their mirror images. There is one source network; seeds
are those of training on the device.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils import parametrize

from evaluators.data.splits import DataSplits, Split
from evaluators.learning.backprop import accuracy, fine_tune, pretrain
from evaluators.learning.recipe import Recipe
from evaluators.networks import build
from evaluators.networks.layers import compressible_layers, layer_infos
from evaluators.techniques import compress_model
from evaluators.techniques.smartdeal_layout import from_slices, slice_layout, to_slices
from evaluators.techniques.smartdeal_projection import pruned_slices
from search_spaces.ask import LayerInfo
from search_spaces.learning import Backpropagation
from search_spaces.smartdeal import CoefficientUpdate, SmartDeal, remodels

SOURCE_SEED = 0
LAST_STAGE = "stage3"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How the networks are trained.

    Args:
        width: of the ResNet-20.
        prune: fraction of the kernel rows of the last stage removed before projection.
        coefficient_bits: of a coefficient.
        basis_bits: of an element of a basis.
        update: how the device moves coefficients.
        pretrain_epochs: of the dense network on the source half.
        source_epochs: that follow on the source half, dense or as SmartDeal.
        epochs: on the device, on the other half.
        source_rate: peak learning rate of the epochs that follow.
        rate: peak learning rate on the device.
    """

    width: float = 1.0
    prune: float = 0.15
    coefficient_bits: int = 3
    basis_bits: int = 16
    update: CoefficientUpdate = CoefficientUpdate.PROJECTED
    pretrain_epochs: int = 5
    source_epochs: int = 2
    epochs: int = 1
    source_rate: float = 0.05
    rate: float = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Sources:
    """Both source networks, before the device has seen them."""

    plain: nn.Module
    dealt: nn.Module


def remodelled(
    layers: Iterable[LayerInfo], plan: Plan, update: CoefficientUpdate, step_bits: int
) -> dict[str, SmartDeal]:
    """Return the SmartDeal of each layer: whole rows removed, and those in the last, largest stage alone."""
    return {
        layer.name: SmartDeal(
            threshold=0.0,
            prune_fraction=plan.prune if layer.name.startswith(LAST_STAGE) else 0.0,
            basis_bits=plan.basis_bits,
            coefficient_bits=plan.coefficient_bits,
            update=update,
            step_bits=step_bits,
        )
        for layer in layers
        if remodels(layer)
    }


def with_mirrored(split: Split) -> Split:
    """Return a split with every image and its mirror image."""
    images = torch.cat([split.images, split.images.flip(3)])
    return Split(images=images, labels=torch.cat([split.labels, split.labels]))


def halves(splits: DataSplits) -> tuple[DataSplits, DataSplits]:
    """Return the data with one half of the training images each, mirror images included."""
    middle = len(splits.train) // 2

    def part(rows: slice) -> DataSplits:
        half = Split(images=splits.train.images[rows], labels=splits.train.labels[rows])
        return DataSplits(
            train=with_mirrored(half),
            validation=splits.validation,
            test=splits.test,
            num_classes=splits.num_classes,
        )

    return part(slice(0, middle)), part(slice(middle, None))


class RowMask(nn.Module):
    """Keeps rows of a weight at zero while it is trained."""

    def __init__(self, mask: torch.Tensor) -> None:
        """Take a mask of zeros and ones in the shape of the weight."""
        super().__init__()
        self.register_buffer("mask", mask)
        self.mask: torch.Tensor

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the weight without the rows."""
        return weight * self.mask


def remove_rows(model: nn.Module, plan: Plan) -> None:
    """Set to zero, for good, the rows of the last stage that SmartDeal will remove."""
    layers = compressible_layers(model)
    for name, choice in remodelled(layer_infos(model), plan, plan.update, step_bits=32).items():
        weight = layers[name].weight.detach()
        layout = slice_layout(weight.shape, slice_rows=choice.slice_rows)
        if layout is None or not choice.prune_fraction:
            continue
        slices = to_slices(weight, layout)
        kept = pruned_slices(slices, layout, choice.prune_fraction, group=choice.prune_group) != 0
        rows = kept.any(dim=2, keepdim=True).expand_as(slices).to(weight.dtype)
        mask = from_slices(rows, layout, weight.shape)
        parametrize.register_parametrization(layers[name], "weight", RowMask(mask))


def make_sources(first: DataSplits, plan: Plan) -> Sources:
    """Return the source networks, from the same pretrained weights: dense, and projected to SmartDeal."""
    recipe = Recipe(
        pretrain_epochs=plan.pretrain_epochs,
        epochs=plan.source_epochs,
        learning_rate=plan.source_rate,
        weight_decay=5e-4,
    )
    plain = build(
        "resnet", width=plan.width, depth=3, input_shape=(3, 32, 32), num_classes=10, seed=SOURCE_SEED
    ).to(memory_format=torch.channels_last)  # a third faster on a CPU
    pretrain(plain, first, recipe, seed=SOURCE_SEED)
    dealt = copy.deepcopy(plain)
    remove_rows(dealt, plan)
    for model in (plain, dealt):
        fine_tune(model, first, recipe, Backpropagation(), seed=SOURCE_SEED)
    for layer in compressible_layers(dealt).values():
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight")  # what was removed is now zero
    choices = remodelled(layer_infos(dealt), plan, plan.update, step_bits=8)
    compress_model(dealt, {layer: (choice,) for layer, choice in choices.items()})
    return Sources(plain=plain, dealt=dealt)


def on_device(source: nn.Module, second: DataSplits, plan: Plan, *, seed: int) -> float:
    """Train a copy of a source network on the device's images; return its test accuracy."""
    model = copy.deepcopy(source)
    recipe = Recipe(epochs=plan.epochs, learning_rate=plan.rate, weight_decay=5e-4)
    return fine_tune(model, second, recipe, Backpropagation(), seed=seed).test_accuracy


def compare(splits: DataSplits, plan: Plan, seeds: range) -> None:
    """Print what each seed's training on the device gives in single precision and as SmartDeal."""
    first, second = halves(splits)
    sources = make_sources(first, plan)
    before = accuracy(sources.plain, first.test), accuracy(sources.dealt, first.test)
    print(f"sources: single precision {before[0]:.2%}, SmartDeal {before[1]:.2%}", flush=True)
    for seed in seeds:
        plain = on_device(sources.plain, second, plan, seed=seed)
        dealt = on_device(sources.dealt, second, plan, seed=seed)
        lost = 100 * (plain - dealt)
        print(
            f"seed {seed}: single precision {plain:.2%}, SmartDeal {dealt:.2%}, lost {lost:.2f} points",
            flush=True,
        )
