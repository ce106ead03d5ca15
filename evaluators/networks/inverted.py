"""Inverted residuals as published, with EfficientNet's squeeze-and-excitation where asked.

Not a network of its own: `mobilenet_v2` and `efficientnet_b0` are made of it.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn


class ConvNormActivation(nn.Sequential):
    """Convolution, normalisation, activation."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        activation: type[nn.Module],
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        """Make the three, padded so that only the stride shrinks the image."""
        convolution = nn.Conv2d(
            channels_in, channels_out, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False
        )
        super().__init__(
            OrderedDict(conv=convolution, norm=nn.BatchNorm2d(channels_out), activation=activation())
        )


class SqueezeExcitation(nn.Module):
    """Scale each channel by a gate that the image's channel means decide.

    Source: Hu, Shen and Sun, CVPR 2018.
    """

    def __init__(self, channels: int, reduced: int, activation: type[nn.Module]) -> None:
        """Make a gate of `channels` through `reduced` ones."""
        super().__init__()
        self.squeeze = nn.Conv2d(channels, reduced, 1)
        self.activation = activation()
        self.excite = nn.Conv2d(reduced, channels, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map (b, channels, h, w) to the same shape."""
        means = images.mean(dim=(2, 3), keepdim=True)
        gate: torch.Tensor = self.excite(self.activation(self.squeeze(means)))
        return images * torch.sigmoid(gate)


class InvertedBlock(nn.Module):
    """Expand by 1x1, filter each channel, gate where asked, project by 1x1 without an activation."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        activation: type[nn.Module],
        expansion: int,
        kernel: int = 3,
        stride: int = 1,
        reduced: int | None = None,
    ) -> None:
        """Make a block from `channels_in` at full size to `channels_out` at 1/stride of the size.

        Args:
            activation: of the expanded channels.
            expansion: inner channels over `channels_in`; 1 leaves the first convolution out.
            kernel: of the depthwise convolution.
            reduced: inner channels of the squeeze-and-excitation; None leaves it out.
        """
        super().__init__()
        hidden = expansion * channels_in
        body: OrderedDict[str, nn.Module] = OrderedDict()
        if expansion != 1:
            body["expand"] = ConvNormActivation(channels_in, hidden, activation)
        body["depthwise"] = ConvNormActivation(
            hidden, hidden, activation, kernel=kernel, stride=stride, groups=hidden
        )
        if reduced is not None:
            body["gate"] = SqueezeExcitation(hidden, reduced, activation)
        body["project"] = nn.Conv2d(hidden, channels_out, 1, bias=False)
        body["norm"] = nn.BatchNorm2d(channels_out)
        self.body = nn.Sequential(body)
        self.is_residual = stride == 1 and channels_in == channels_out

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map (b, channels_in, h, w) to (b, channels_out, h / stride, w / stride)."""
        projected: torch.Tensor = self.body(images)
        return images + projected if self.is_residual else projected
