"""Inverted residuals with depthwise convolutions, in MobileNetV2's form, sized for small images."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from evaluators.networks.registry import NETWORKS, scaled

STEM_CHANNELS = 16
STAGE_CHANNELS = (16, 24, 40)  # our choice: the paper's first stages, cut where 32x32 images end
LAST_CHANNELS = 128  # our choice; 1280 in the paper, for 1000 classes
EXPANSION = 4  # our choice; 6 in the paper


@NETWORKS.register("mobilenet")
def build(*, width: float, depth: int, input_shape: tuple[int, int, int], num_classes: int) -> nn.Sequential:
    """3 stages of `depth` inverted residuals (16, 24, 40 channels times width), as MobileNetV2 has them.

    Source: Sandler et al., CVPR 2018, table 1 (the block); sizes are ours, for images of 28 to 32 pixels.
    """
    channels = scaled(STEM_CHANNELS, width)
    modules = _unit("", input_shape[0], channels, kernel=3)
    for number, base in enumerate(STAGE_CHANNELS, start=1):
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        for block in range(1, depth + 1):
            stride = 2 if number > 1 and block == 1 else 1
            blocks[f"block{block}"] = InvertedResidual(channels, scaled(base, width), stride)
            channels = scaled(base, width)
        modules[f"stage{number}"] = nn.Sequential(blocks)
    last = scaled(LAST_CHANNELS, width)
    modules["head"] = nn.Sequential(_unit("", channels, last, kernel=1))
    modules["pool"] = nn.AdaptiveAvgPool2d(1)
    modules["flatten"] = nn.Flatten()
    modules["classifier"] = nn.Linear(last, num_classes)
    return nn.Sequential(modules)


def _unit(
    prefix: str, channels_in: int, channels_out: int, *, kernel: int, stride: int = 1, groups: int = 1
) -> OrderedDict[str, nn.Module]:
    """Return convolution, normalisation and ReLU6 under names with one prefix."""
    convolution = nn.Conv2d(
        channels_in, channels_out, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False
    )
    return OrderedDict(
        [
            (f"{prefix}conv", convolution),
            (f"{prefix}norm", nn.BatchNorm2d(channels_out)),
            (f"{prefix}relu", nn.ReLU6()),
        ]
    )


class InvertedResidual(nn.Module):
    """Expand by 1x1, filter each channel by 3x3, project by 1x1 without an activation."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        """Make a block from `channels_in` at full size to `channels_out` at 1/stride of the size."""
        super().__init__()
        hidden = EXPANSION * channels_in
        modules = _unit("expand_", channels_in, hidden, kernel=1)
        modules |= _unit("depthwise_", hidden, hidden, kernel=3, stride=stride, groups=hidden)
        modules["project_conv"] = nn.Conv2d(hidden, channels_out, 1, bias=False)
        modules["project_norm"] = nn.BatchNorm2d(channels_out)
        self.body = nn.Sequential(modules)
        self.is_residual = stride == 1 and channels_in == channels_out

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map (b, channels_in, h, w) to (b, channels_out, h / stride, w / stride)."""
        projected: torch.Tensor = self.body(images)
        return images + projected if self.is_residual else projected
