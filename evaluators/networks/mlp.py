"""A multilayer perceptron: hidden layers of equal width, each normalised."""

from __future__ import annotations

import math
from collections import OrderedDict

from torch import nn

from evaluators.networks.registry import NETWORKS, scaled

HIDDEN_UNITS = 64  # at width 1


@NETWORKS.register("mlp")
def build(*, width: float, depth: int, input_shape: tuple[int, int, int], num_classes: int) -> nn.Sequential:
    """`depth` hidden layers of 64 units times width, each linear-BN-ReLU, and a linear classifier."""
    features = math.prod(input_shape)
    hidden = scaled(HIDDEN_UNITS, width)
    modules: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for number in range(1, depth + 1):
        modules[f"hidden{number}"] = nn.Linear(features, hidden, bias=False)
        modules[f"norm{number}"] = nn.BatchNorm1d(hidden)
        modules[f"relu{number}"] = nn.ReLU()
        features = hidden
    modules["classifier"] = nn.Linear(features, num_classes)
    return nn.Sequential(modules)
