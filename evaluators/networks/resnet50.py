"""The bottleneck residual network for 224x224 images; at its published width and depth it is ResNet-50."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional as F

from evaluators.networks.registry import NETWORKS, scaled

STEM_CHANNELS = 64
STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))  # (channels, blocks): He et al., CVPR 2016, table 1
EXPANSION = 4  # output channels of a block over its inner ones, ibid.


@NETWORKS.register("resnet50")
def build(*, width: float, depth: int, input_shape: tuple[int, int, int], num_classes: int) -> nn.Sequential:
    """ResNet-50: bottlenecks in 4 stages of 3, 4, 6, 3 blocks times depth, channels times width.

    The stride of a stage is in the 3x3 convolution of its first block, as torchvision has it ("v1.5").

    Source: He, Zhang, Ren and Sun, CVPR 2016, table 1.
    """
    channels = scaled(STEM_CHANNELS, width)
    modules: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(input_shape[0], channels, kernel_size=7, stride=2, padding=3, bias=False),
        norm=nn.BatchNorm2d(channels),
        relu=nn.ReLU(),
        stem_pool=nn.MaxPool2d(3, stride=2, padding=1),
    )
    for number, (base, count) in enumerate(STAGES, start=1):
        inner = scaled(base, width)
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        for block in range(1, count * depth + 1):
            stride = 2 if number > 1 and block == 1 else 1
            blocks[f"block{block}"] = Bottleneck(channels, inner, stride)
            channels = EXPANSION * inner
        modules[f"stage{number}"] = nn.Sequential(blocks)
    modules["pool"] = nn.AdaptiveAvgPool2d(1)
    modules["flatten"] = nn.Flatten()
    modules["classifier"] = nn.Linear(channels, num_classes)
    return nn.Sequential(modules)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 conv-BN, added to the shortcut, then ReLU."""

    def __init__(self, channels_in: int, inner: int, stride: int) -> None:
        """Make a block from `channels_in` at full size to `EXPANSION * inner` at 1/stride of the size."""
        super().__init__()
        channels_out = EXPANSION * inner
        self.conv1 = nn.Conv2d(channels_in, inner, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, channels_out, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(channels_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                OrderedDict(
                    conv=nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False),
                    norm=nn.BatchNorm2d(channels_out),
                )
            )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map (b, channels_in, h, w) to (b, EXPANSION * inner, h / stride, w / stride)."""
        hidden = F.relu(self.norm1(self.conv1(images)))
        hidden = F.relu(self.norm2(self.conv2(hidden)))
        shortcut: torch.Tensor = self.shortcut(images)
        return F.relu(self.norm3(self.conv3(hidden)) + shortcut)
