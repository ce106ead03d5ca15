"""MobileNetV2 as published, for 224x224 images."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from evaluators.networks.inverted import ConvNormActivation, InvertedBlock
from evaluators.networks.registry import NETWORKS, scaled

STEM_CHANNELS = 32
STAGES = (  # (expansion, channels, blocks, stride): Sandler et al., CVPR 2018, table 2
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
LAST_CHANNELS = 1280
DROPOUT = 0.2  # before the classifier, as torchvision has it


@NETWORKS.register("mobilenet_v2")
def build(*, width: float, depth: int, input_shape: tuple[int, int, int], num_classes: int) -> nn.Sequential:
    """MobileNetV2: 7 stages of inverted residuals (blocks times depth, channels times width).

    Source: Sandler, Howard, Zhu, Zhmoginov and Chen, CVPR 2018, table 2.
    """
    channels = scaled(STEM_CHANNELS, width)
    modules: OrderedDict[str, nn.Module] = OrderedDict(
        stem=ConvNormActivation(input_shape[0], channels, nn.ReLU6, kernel=3, stride=2)
    )
    for number, (expansion, base, count, stride) in enumerate(STAGES, start=1):
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        for block in range(1, count * depth + 1):
            blocks[f"block{block}"] = InvertedBlock(
                channels,
                scaled(base, width),
                activation=nn.ReLU6,
                expansion=expansion,
                stride=stride if block == 1 else 1,
            )
            channels = scaled(base, width)
        modules[f"stage{number}"] = nn.Sequential(blocks)
    last = scaled(LAST_CHANNELS, width)
    modules["head"] = ConvNormActivation(channels, last, nn.ReLU6)
    modules["pool"] = nn.AdaptiveAvgPool2d(1)
    modules["flatten"] = nn.Flatten()
    modules["dropout"] = nn.Dropout(DROPOUT)
    modules["classifier"] = nn.Linear(last, num_classes)
    return nn.Sequential(modules)
