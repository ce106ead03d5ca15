"""SmartDeal in numbers: `python -m benchmarks.smartdeal [--only projection]`.

projection: seconds to decompose every weight of ResNet-50 (25.5 M), 10 iterations.
"""

from __future__ import annotations

import argparse
import time

from benchmarks.memory_networks import resnet50
from evaluators.networks.layers import compressible_layers
from evaluators.techniques.smartdeal_layout import slice_layout, to_slices
from evaluators.techniques.smartdeal_projection import project

ITERATIONS = 10


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


PARTS = {"projection": projection}


def main() -> None:
    """Run all parts, or one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=sorted(PARTS))
    only = parser.parse_args().only
    for name, part in PARTS.items():
        if only in (None, name):
            part()


if __name__ == "__main__":
    main()
