"""SmartDeal in numbers: `python -m benchmarks.smartdeal [--only projection|energy]`.

projection: seconds to decompose every weight of ResNet-50 (25.5 M), 10 iterations.
energy: an inference of four networks, from their shapes alone, on the SmartDeal chip and on four others of
    the same budget. As the papers count it: convolutions and linear layers, one image, 8-bit activations.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from benchmarks.memory_networks import efficientnet_b0, mobilenet_v2, resnet50
from evaluators.cost.model import cost
from evaluators.cost.report import CostReport
from evaluators.networks.layers import compressible_layers, layer_infos
from evaluators.techniques import rewrite
from evaluators.techniques.smartdeal_layout import slice_layout, to_slices
from evaluators.techniques.smartdeal_projection import project
from evaluators.workload.graph import Workload
from evaluators.workload.trace import trace
from hw_templates import templates
from hw_templates.accelerator import Accelerator
from search_spaces.quantization import UniformQuantization
from search_spaces.smartdeal import SmartDeal, remodels
from search_spaces.sparsity import Unstructured

ITERATIONS = 10
W8A8 = UniformQuantization(weight_bits=8, activation_bits=8)
BASELINES = ("diannao_28nm_like", "scnn_like", "cambricon_x_like", "bit_pragmatic_like")
SPARSE = ("scnn_like", "cambricon_x_like")  # chips that store weights without their zeros
RELU_DENSITY = 0.5  # our estimate of what is not zero after a ReLU; a swish leaves no zeros
PUBLISHED = (2.0, 6.7)  # Zhao et al., ISCA 2020: energy against the four baselines


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """A network by its shapes: row sparsity as SmartExchange reports it, and zeros of its activations."""

    build: Callable[[], nn.Module]
    size: int
    row_sparsity: float
    input_density: float


def vgg19_cifar() -> nn.Module:
    """VGG-19 for 32x32 images (Simonyan and Zisserman, ICLR 2015, E, with one linear layer)."""
    layers: list[nn.Module] = []
    channels = 3
    for widths in ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4):
        for width in widths:
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 10))


NETWORKS = {
    # row sparsities: Zhao et al., ISCA 2020, table of compression results
    "ResNet-50": Network(build=resnet50, size=224, row_sparsity=0.45, input_density=RELU_DENSITY),
    "VGG-19 (CIFAR)": Network(build=vgg19_cifar, size=32, row_sparsity=0.928, input_density=RELU_DENSITY),
    "MobileNetV2": Network(build=mobilenet_v2, size=224, row_sparsity=0.0, input_density=RELU_DENSITY),
    "EfficientNet-B0": Network(build=efficientnet_b0, size=224, row_sparsity=0.0, input_density=1.0),
}


def projection() -> None:
    """Print how long the projection of ResNet-50 takes."""
    layers = compressible_layers(resnet50())
    weights = 0
    started = time.perf_counter()
    for layer in layers.values():
        weight = layer.weight.detach()
        layout = slice_layout(weight.shape)
        if layout is not None:
            project(to_slices(weight, layout), threshold=0.004, iterations=ITERATIONS)
            weights += weight.numel()
    seconds = time.perf_counter() - started
    print(f"projection of {weights / 1e6:.1f} M weights, {ITERATIONS} iterations: {seconds:.1f} s (goal: 60)")


def workload_for(chip: str, network: Network, dense: Workload, model: nn.Module) -> Workload:
    """Return the inference as a chip runs it: remodelled, without zeros, or dense, at 8 bits."""
    workload = dense
    for position, info in enumerate(layer_infos(model)):
        if chip == "smartdeal" and remodels(info):
            workload = rewrite(
                SmartDeal(threshold=0.0, prune_fraction=network.row_sparsity), workload, info.name
            )
        elif chip in SPARSE and network.row_sparsity:
            workload = rewrite(Unstructured(density=1 - network.row_sparsity), workload, info.name)
        workload = rewrite(W8A8, workload, info.name)
        if position:  # the image itself has no zeros
            inputs = workload.inputs_of(info.name)
            workload = workload.rewrite(
                density=dict.fromkeys(inputs, network.input_density),
                index_bits=dict.fromkeys(inputs, 1.0 if network.input_density < 1 else 0.0),  # a bitmap
            )
    return workload


def breakdown(report: CostReport, chip: Accelerator) -> dict[str, float]:
    """Return the microjoules of all contractions by memory and operand, with what rebuilding takes."""
    parts: dict[str, float] = {}
    for row in report.rows:
        if row.macs:
            for level, operands in row.energy_by_level_pj.items():
                for operand, energy_pj in operands.items():
                    name = f"{level} {operand}" if level == "dram" else level
                    parts[name] = parts.get(name, 0.0) + energy_pj / 1e6
    for unit in chip.special_units:
        # Each weight that leaves the weight buffer is rebuilt once, from coefficients of 4 bits.
        level = next(memory for memory in chip.memories if memory.name == "weight_buffer")
        bits = parts["weight_buffer"] * 1e6 / level.read_energy_pj * level.word_bits
        parts[unit.kind.value] = bits / SmartDeal().coefficient_bits * unit.energy_pj_per_element / 1e6
    return parts


def energy() -> None:
    """Print a table a network: microjoules by part, on each chip, and SmartDeal's gain over it."""
    ratios = []
    for name, network in NETWORKS.items():
        model = network.build()
        shape = (1, 3, network.size, network.size)
        dense = trace(model, (torch.zeros(shape),), loss=None, optimizer=None, training=False)
        totals, seconds, rows = {}, {}, {}
        for label in ("smartdeal", *BASELINES):
            chip = templates.load(label).build()
            report = cost(workload_for(label, network, dense, model), chip)
            rows[label] = breakdown(report, chip)
            totals[label] = sum(rows[label].values())
            cycles = sum(row.latency_cycles for row in report.rows if row.macs)
            seconds[label] = cycles / chip.clock_hz
        print(f"\n{name}: {dense.macs / 1e6:.0f} M MACs, row sparsity {network.row_sparsity:.1%}")
        for label, parts in rows.items():
            gain, speed = totals[label] / totals["smartdeal"], seconds[label] / seconds["smartdeal"]
            shares = ", ".join(f"{part} {value:.0f}" for part, value in parts.items())
            print(f"  {label:<20}{totals[label]:9.0f} uJ {gain:5.2f}x  {1e3 * seconds[label]:7.2f} ms "
                  f"{speed:5.2f}x  ({shares})")  # fmt: skip
        ratios += [totals[label] / totals["smartdeal"] for label in BASELINES]
    low, high = PUBLISHED
    print(f"\nenergy against the four: {min(ratios):.2f}x to {max(ratios):.2f}x; published {low}x to {high}x")


PARTS = {"projection": projection, "energy": energy}


def main() -> None:
    """Run all parts, or one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", choices=sorted(PARTS))
    only = parser.parse_args().only
    for name, part in PARTS.items():
        if only in (None, name):
            part()


if __name__ == "__main__":
    main()
