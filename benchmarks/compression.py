"""SmartDeal training against single precision on CIFAR-10.

`python -m benchmarks.compression --data-root PATH`: for each seed, a ResNet-20 (its width is an option)
is pretrained on half of the training images and then trained on the other half, once in single precision and
once as SmartDeal (the paper's fine-tuning on disjoint halves). Storage and energy are those of a training
step, from the traced network.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import torch

from evaluators.cost.model import cost
from evaluators.data import registry as data
from evaluators.data.splits import DataSplits, Split, limited
from evaluators.learning.backprop import accuracy, fine_tune, pretrain
from evaluators.learning.recipe import Recipe
from evaluators.networks import build
from evaluators.networks.layers import layer_infos
from evaluators.techniques import Choices, compress_model, rewrite
from evaluators.workload.graph import Workload
from evaluators.workload.trace import trace
from hw_templates import templates
from search_spaces.learning import Backpropagation
from search_spaces.quantization import UniformQuantization
from search_spaces.smartdeal import CoefficientUpdate, SmartDeal, remodels

CHIP = "smartdeal"
ACTIVATIONS = UniformQuantization(weight_bits=8, activation_bits=8)


def halves(splits: DataSplits) -> tuple[DataSplits, DataSplits]:
    """Return the data with one half of the training images each."""
    middle = len(splits.train) // 2

    def part(images: torch.Tensor, labels: torch.Tensor) -> DataSplits:
        return DataSplits(
            train=Split(images=images, labels=labels),
            validation=splits.validation,
            test=splits.test,
            num_classes=splits.num_classes,
        )

    train = splits.train
    return part(train.images[:middle], train.labels[:middle]), part(
        train.images[middle:], train.labels[middle:]
    )


def choices_for(model: torch.nn.Module, prune: float, update: CoefficientUpdate) -> Choices:
    """Return SmartDeal and 8-bit activations, wherever each acts."""
    deal = SmartDeal(threshold=0.01, prune_fraction=prune, basis_bits=32, update=update)
    return {
        info.name: (deal, ACTIVATIONS) if remodels(info) else (ACTIVATIONS,) for info in layer_infos(model)
    }


def weight_bits(workload: Workload) -> float:
    """Return the bits of all weights that a training step keeps."""
    return float(sum(workload.stored_bits[workload.weight_of(layer)] for layer in workload.layers))


def cost_of(width: float, prune: float, update: CoefficientUpdate, learning: Backpropagation) -> None:
    """Print storage and energy of a training step in single precision and as SmartDeal."""
    model = build("resnet", width=width, depth=3, input_shape=(3, 32, 32), num_classes=10, seed=0)
    images = (torch.zeros(learning.batch_size, 3, 32, 32),)
    plain = trace(model, images, loss="cross_entropy", optimizer=learning.optimizer, training=True)
    dealt = plain
    for name, several in choices_for(model, prune, update).items():
        for one in several:
            dealt = rewrite(one, dealt, name)
    chip = templates.load(CHIP).build()
    before, after = cost(plain, chip), cost(dealt, chip)
    print(
        f"resnet-20 x {width}: weights {weight_bits(plain) / weight_bits(dealt):.2f}x smaller, "
        f"training step {before.energy_pj / after.energy_pj:.2f}x less energy on {CHIP}, "
        f"contractions alone {contractions(before) / contractions(after):.2f}x"
    )


def contractions(report: object) -> float:
    """Return the energy of convolutions and linear layers."""
    return sum(row.energy_pj for row in report.rows if row.macs)  # type: ignore[attr-defined]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--prune", type=float, default=0.7)
    parser.add_argument("--examples", type=int, default=None)
    parser.add_argument("--pretrain-epochs", type=int, default=15)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--update", choices=[update.value for update in CoefficientUpdate], default="projected"
    )
    given = parser.parse_args()
    update = CoefficientUpdate(given.update)
    learning = Backpropagation()
    cost_of(1.0, given.prune, update, learning)
    recipe = Recipe(pretrain_epochs=given.pretrain_epochs, epochs=given.epochs)
    first, second = halves(
        limited(data.load("cifar10", given.data_root, False), train=given.examples, validation=None)
    )
    for seed in range(given.seeds):
        model = build(
            "resnet", width=given.width, depth=3, input_shape=(3, 32, 32), num_classes=10, seed=seed
        )
        pretrain(model, first, recipe, seed=seed)
        source = accuracy(model, first.test)
        dealt = copy.deepcopy(model)
        plain = fine_tune(model, second, recipe, learning, seed=seed).test_accuracy
        compress_model(dealt, choices_for(dealt, given.prune, update))
        low = fine_tune(dealt, second, recipe, learning, seed=seed).test_accuracy
        print(
            f"seed {seed}: source {source:.2%}, single precision {plain:.2%}, SmartDeal {low:.2%}, "
            f"lost {100 * (plain - low):.2f} points",
            flush=True,
        )


if __name__ == "__main__":
    main()
