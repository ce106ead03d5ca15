"""SmartDeal training against single precision on CIFAR-10, with a ResNet-20.

`python -m benchmarks.compression --data-root PATH`: storage and energy of a training step, from the traced
network, and where the energy goes; then, for each seed, the accuracy (`benchmarks.smartdeal_training`).
`--only energy` needs no data.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from pathlib import Path

import torch

from benchmarks.smartdeal_training import Plan, compare, remodelled
from evaluators.cost.model import CostReport, cost
from evaluators.data import registry as data
from evaluators.data.splits import limited
from evaluators.networks import build
from evaluators.networks.layers import layer_infos
from evaluators.techniques import rewrite
from evaluators.workload.graph import Role, Workload
from evaluators.workload.trace import trace
from hw_templates import templates
from search_spaces.ask import LayerInfo
from search_spaces.learning import Backpropagation
from search_spaces.smartdeal import SmartDeal

CHIP, DENSE_CHIP = "smartdeal", "diannao_28nm_like"
LEARNING = Backpropagation()
CODE_MASK = 0.01  # a threshold, with which the mask has a bit a coefficient as in the released code


def training_step(width: float) -> tuple[Workload, tuple[LayerInfo, ...]]:
    """Return a traced step in single precision, and the layers."""
    model = build("resnet", width=width, depth=3, input_shape=(3, 32, 32), num_classes=10, seed=0)
    images = (torch.zeros(LEARNING.batch_size, 3, 32, 32),)
    traced = trace(model, images, loss="cross_entropy", optimizer=LEARNING.optimizer, training=True)
    return traced, layer_infos(model)


def dealt(plain: Workload, choices: Mapping[str, SmartDeal]) -> Workload:
    """Return the step as SmartDeal takes it."""
    return reduce(lambda done, layer: rewrite(choices[layer], done, layer), choices, plain)


def weight_bits(workload: Workload) -> float:
    """Return the bits of all weights that a training step keeps."""
    return float(sum(workload.stored_bits[workload.weight_of(layer)] for layer in workload.layers))


def state_bits(workload: Workload) -> float:
    """Return the bits of weights, gradients and optimizer state."""
    roles = (Role.WEIGHT, Role.GRADIENT, Role.OPTIMIZER_STATE)
    stored = zip(workload.stored_bits, workload.tensors, strict=True)
    return float(sum(bits for bits, tensor in stored if tensor.role in roles))


def parts(report: CostReport) -> Counter[tuple[str, str, str]]:
    """Return energy in pJ by pass, kind of op and level."""
    found: Counter[tuple[str, str, str]] = Counter()
    for row in report.rows:
        kind = "contraction" if row.macs else "other"
        for level, operands in row.energy_by_level_pj.items():
            place = level if level in ("dram", "mac") else "on chip"
            found[row.phase.value, kind, place] += sum(operands.values())
    return found


def print_energy(plan: Plan) -> None:
    """Print storage and energy of a training step, and where the energy goes."""
    plain, layers = training_step(plan.width)
    chip, dense = templates.load(CHIP).build(), templates.load(DENSE_CHIP).build()
    before, on_dense = cost(plain, chip), cost(plain, dense)
    after = before
    for step_bits in (32, 16, 8):
        step = dealt(plain, remodelled(layers, plan, plan.update, step_bits))
        after = cost(step, chip)
        print(
            f"activations and errors of {step_bits} bits: weights "
            f"{weight_bits(plain) / weight_bits(step):.2f}x smaller, with gradients and momentum "
            f"{state_bits(plain) / state_bits(step):.2f}x; energy {after.energy_pj / 1e9:.1f} mJ, "
            f"{before.energy_pj / after.energy_pj:.2f}x less than single precision on {CHIP}, "
            f"{on_dense.energy_pj / after.energy_pj:.2f}x less than on {DENSE_CHIP}"
        )
    choices = remodelled(layers, plan, plan.update, 32)
    as_code = {
        layer: replace(choice, threshold=CODE_MASK, basis_bits=32) for layer, choice in choices.items()
    }
    smaller = weight_bits(plain) / weight_bits(dealt(plain, as_code))
    print(f"with a mask of coefficients and 32-bit bases, as the released code counts: {smaller:.2f}x")
    print(f"{'mJ a step':45} single precision   SmartDeal, 8 bits")
    first, last = parts(before), parts(after)
    for key in sorted(first, key=lambda key: -first[key]):
        print(f"{' / '.join(key):45} {first[key] / 1e9:16.2f} {last[key] / 1e9:19.2f}")


def main() -> None:
    """Measure and print."""
    plan = Plan()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--only", choices=["energy", "accuracy"])
    parser.add_argument("--width", type=float, default=plan.width)
    parser.add_argument("--prune", type=float, default=plan.prune)
    parser.add_argument("--coefficient-bits", type=int, default=plan.coefficient_bits)
    parser.add_argument("--examples", type=int, default=None)
    parser.add_argument("--pretrain-epochs", type=int, default=plan.pretrain_epochs)
    parser.add_argument("--source-epochs", type=int, default=plan.source_epochs)
    parser.add_argument("--epochs", type=int, default=plan.epochs)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    plan = Plan(
        width=given.width,
        prune=given.prune,
        coefficient_bits=given.coefficient_bits,
        pretrain_epochs=given.pretrain_epochs,
        source_epochs=given.source_epochs,
        epochs=given.epochs,
    )
    if given.only != "accuracy":
        print_energy(plan)
    if given.only == "energy":
        return
    if given.data_root is None:
        parser.error("the accuracy needs --data-root, the folder that holds cifar-10-batches-bin")
    splits = limited(data.load("cifar10", given.data_root, False), train=given.examples, validation=None)
    compare(splits, plan, range(given.seeds))


if __name__ == "__main__":
    main()
