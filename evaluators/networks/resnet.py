"""The residual network for 32x32 images; depth 3 is ResNet-20."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional as F

from evaluators.networks.registry import NETWORKS, scaled

STAGE_CHANNELS = (16, 32, 64)  # He et al., CVPR 2016, section 4.2


@NETWORKS.register("resnet")
def build(*, width: float, depth: int, input_shape: tuple[int, int, int], num_classes: int) -> nn.Sequential:
    """Residual network of 6 x depth + 2 layers (depth 3: ResNet-20), 16, 32, 64 channels times width.

    Where the shape changes, the shortcut is a 1x1 convolution (option B of the paper).

    Source: He, Zhang, Ren and Sun, CVPR 2016, section 4.2.
    """
    channels = scaled(STAGE_CHANNELS[0], width)
    modules: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(input_shape[0], channels, kernel_size=3, padding=1, bias=False),
        norm=nn.BatchNorm2d(channels),
        relu=nn.ReLU(),
    )
    for number, base in enumerate(STAGE_CHANNELS, start=1):
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        for block in range(1, depth + 1):
            stride = 2 if number > 1 and block == 1 else 1
            blocks[f"block{block}"] = ResidualBlock(channels, scaled(base, width), stride)
            channels = scaled(base, width)
        modules[f"stage{number}"] = nn.Sequential(blocks)
    modules["pool"] = nn.AdaptiveAvgPool2d(1)
    modules["flatten"] = nn.Flatten()
    modules["classifier"] = nn.Linear(channels, num_classes)
    return nn.Sequential(modules)


class ResidualBlock(nn.Module):
    """Two 3x3 conv-BN, added to the shortcut, then ReLU."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        """Make a block from `channels_in` at full size to `channels_out` at 1/stride of the size."""
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                OrderedDict(
                    conv=nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False),
                    norm=nn.BatchNorm2d(channels_out),
                )
            )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map (b, channels_in, h, w) to (b, channels_out, h / stride, w / stride)."""
        hidden = F.relu(self.norm1(self.conv1(images)))
        shortcut: torch.Tensor = self.shortcut(images)
        return F.relu(self.norm2(self.conv2(hidden)) + shortcut)
