"""SmartDeal in numbers: `python -m benchmarks.smartdeal`.

Seconds to decompose every weight of ResNet-50 (25.5 M), 10 iterations. The energy of inferences on its chip
and on four others is a study: `cosearch run smartdeal_resnet50`, then `cosearch matrix` of its run folder.
"""

from __future__ import annotations

import time

from evaluators.networks.layers import compressible_layers
from evaluators.networks.registry import build
from evaluators.techniques.smartdeal_layout import slice_layout, to_slices
from evaluators.techniques.smartdeal_projection import project

ITERATIONS = 10
GOAL_S = 60
THETA = 0.004  # the threshold of the released training code (VITA-Group/SmartDeal, SD-Training)


def main() -> None:
    """Print how long the projection of ResNet-50 takes."""
    model = build("resnet50", width=1.0, depth=1, input_shape=(3, 224, 224), num_classes=1000, seed=0)
    weights = 0
    started = time.perf_counter()
    for layer in compressible_layers(model).values():
        weight = layer.weight.detach()
        layout = slice_layout(weight.shape)
        if layout is not None:
            project(to_slices(weight, layout), threshold=THETA, iterations=ITERATIONS)
            weights += weight.numel()
    seconds = time.perf_counter() - started
    what = f"projection of {weights / 1e6:.1f} M weights, {ITERATIONS} iterations"
    print(f"{what}: {seconds:.1f} s (goal: {GOAL_S})")


if __name__ == "__main__":
    main()
