"""The optimizer of a design, and the learning rate that is fair to it."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.utils import parametrize

from evaluators.networks.layers import compressible_layers
from search_spaces.learning import Backpropagation, Optimizer

RATED_BATCH_SIZE = 64  # the recipe's rate is that of momentum SGD at this batch size
MOMENTUM = 0.9
ADAM_FACTOR = 0.2  # of momentum SGD's rate


def peak_rate(rate: float, learning: Backpropagation) -> float:
    """Return the peak learning rate of an optimizer and batch size, from that of momentum SGD at batch 64.

    So one rate in the recipe is fair to every optimizer that a design may choose: plain SGD moves by
    1 / (1 - momentum) less at the same rate; Adam's steps do not depend on the gradient's size.

    Source: Goyal et al., arXiv 1706.02677 (SGD: linear in the batch); Malladi et al., NeurIPS 2022 (Adam:
    its square root); Adam's own factor is ours, measured on digits.
    """
    batches = learning.batch_size / RATED_BATCH_SIZE
    factors = {
        Optimizer.SGD: batches / (1 - MOMENTUM),
        Optimizer.MOMENTUM: batches,
        Optimizer.ADAM: math.sqrt(batches) * ADAM_FACTOR,
        Optimizer.ADAMW: math.sqrt(batches) * ADAM_FACTOR,
    }
    return rate * factors[learning.optimizer]


def build_optimizer(
    model: nn.Module, learning: Backpropagation, rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Return the optimizer; only weights of contractions decay, no normalisation and no scale."""
    decaying = {id(_trained_weight(layer)) for layer in compressible_layers(model).values()}
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [one for one in parameters if id(one) in decaying], "weight_decay": weight_decay},
        {"params": [one for one in parameters if id(one) not in decaying], "weight_decay": 0.0},
    ]
    match learning.optimizer:
        case Optimizer.SGD:
            return torch.optim.SGD(groups, lr=rate)
        case Optimizer.MOMENTUM:
            return torch.optim.SGD(groups, lr=rate, momentum=MOMENTUM)
        case Optimizer.ADAM:
            return torch.optim.Adam(groups, lr=rate)
        case Optimizer.ADAMW:
            return torch.optim.AdamW(groups, lr=rate)


def _trained_weight(layer: nn.Module) -> torch.Tensor | nn.Module:
    """Return the parameter behind a layer's weight, which a technique may have wrapped."""
    if parametrize.is_parametrized(layer, "weight"):
        return layer.get_parameter("parametrizations.weight.original")
    return layer.get_parameter("weight")
