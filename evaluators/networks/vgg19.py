"""VGG-19 with normalisation and one linear layer: the form in which it is trained on 32x32 images."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from evaluators.networks.registry import NETWORKS, scaled

STAGES = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))  # (channels, layers): ICLR 2015, table 1, column E


@NETWORKS.register("vgg19")
def build(*, width: float, depth: int, input_shape: tuple[int, int, int], num_classes: int) -> nn.Sequential:
    """VGG-19 with batch norm: 16 3x3 convolutions in 5 stages (times depth, width) and a linear layer.

    The paper's two linear layers of 4096 are left out, as is usual for CIFAR (20.0 M parameters).

    Source: Simonyan and Zisserman, ICLR 2015, table 1, column E.
    """
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    channels = input_shape[0]
    for number, (base, count) in enumerate(STAGES, start=1):
        stage: OrderedDict[str, nn.Module] = OrderedDict()
        for layer in range(1, count * depth + 1):
            stage[f"conv{layer}"] = nn.Conv2d(channels, scaled(base, width), 3, padding=1, bias=False)
            stage[f"norm{layer}"] = nn.BatchNorm2d(scaled(base, width))
            stage[f"relu{layer}"] = nn.ReLU()
            channels = scaled(base, width)
        stage["pool"] = nn.MaxPool2d(2, ceil_mode=True)  # ceil_mode: images below 32 pixels stay images
        modules[f"stage{number}"] = nn.Sequential(stage)
    modules["pool"] = nn.AdaptiveAvgPool2d(1)
    modules["flatten"] = nn.Flatten()
    modules["classifier"] = nn.Linear(channels, num_classes)
    return nn.Sequential(modules)
