"""A plain convolutional network for small images: three stages, each half the size of the last."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from evaluators.networks.registry import NETWORKS, scaled

STAGE_CHANNELS = (8, 16, 32)  # at width 1: sized for 8x8 digits; take width 2 for 28x28 images


@NETWORKS.register("small_cnn")
def build(*, width: float, depth: int, input_shape: tuple[int, int, int], num_classes: int) -> nn.Sequential:
    """3 stages of 3x3 conv-BN-ReLU (8, 16, 32 channels times width; depth convs each), pool, linear."""
    channels = input_shape[0]
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    for number, base in enumerate(STAGE_CHANNELS, start=1):
        stages[f"stage{number}"] = _stage(
            channels, scaled(base, width), depth, stride=1 if number == 1 else 2
        )
        channels = scaled(base, width)
    stages["pool"] = nn.AdaptiveAvgPool2d(1)
    stages["flatten"] = nn.Flatten()
    stages["classifier"] = nn.Linear(channels, num_classes)
    return nn.Sequential(stages)


def _stage(channels_in: int, channels_out: int, depth: int, stride: int) -> nn.Sequential:
    """Return `depth` conv-BN-ReLU blocks; the first one changes channels and size."""
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for number in range(1, depth + 1):
        first = number == 1
        modules[f"conv{number}"] = nn.Conv2d(
            channels_in if first else channels_out,
            channels_out,
            kernel_size=3,
            stride=stride if first else 1,
            padding=1,
            bias=False,  # the normalisation that follows has one
        )
        modules[f"norm{number}"] = nn.BatchNorm2d(channels_out)
        modules[f"relu{number}"] = nn.ReLU()
    return nn.Sequential(modules)
