"""EfficientNet-B0 as published, for 224x224 images."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from evaluators.networks.inverted import ConvNormActivation, InvertedBlock
from evaluators.networks.registry import NETWORKS, scaled

STEM_CHANNELS = 32
STAGES = (  # (expansion, kernel, channels, blocks, stride): Tan and Le, ICML 2019, table 1
    (1, 3, 16, 1, 1),
    (6, 3, 24, 2, 2),
    (6, 5, 40, 2, 2),
    (6, 3, 80, 3, 2),
    (6, 5, 112, 3, 1),
    (6, 5, 192, 4, 2),
    (6, 3, 320, 1, 1),
)
SQUEEZE = 4  # a gate has a quarter of its block's input channels inside, as the authors' code has it
LAST_CHANNELS = 1280
DROPOUT = 0.2  # before the classifier, as the authors' code has it


@NETWORKS.register("efficientnet_b0")
def build(*, width: float, depth: int, input_shape: tuple[int, int, int], num_classes: int) -> nn.Sequential:
    """EfficientNet-B0: 7 stages of gated inverted residuals (blocks times depth, channels times width).

    Without stochastic depth, which changes no shape.

    Source: Tan and Le, ICML 2019, table 1.
    """
    channels = scaled(STEM_CHANNELS, width)
    modules: OrderedDict[str, nn.Module] = OrderedDict(
        stem=ConvNormActivation(input_shape[0], channels, nn.SiLU, kernel=3, stride=2)
    )
    for number, (expansion, kernel, base, count, stride) in enumerate(STAGES, start=1):
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        for block in range(1, count * depth + 1):
            blocks[f"block{block}"] = InvertedBlock(
                channels,
                scaled(base, width),
                activation=nn.SiLU,
                expansion=expansion,
                kernel=kernel,
                stride=stride if block == 1 else 1,
                reduced=max(1, channels // SQUEEZE),
            )
            channels = scaled(base, width)
        modules[f"stage{number}"] = nn.Sequential(blocks)
    last = scaled(LAST_CHANNELS, width)
    modules["head"] = ConvNormActivation(channels, last, nn.SiLU)
    modules["pool"] = nn.AdaptiveAvgPool2d(1)
    modules["flatten"] = nn.Flatten()
    modules["dropout"] = nn.Dropout(DROPOUT)
    modules["classifier"] = nn.Linear(last, num_classes)
    return nn.Sequential(modules)
