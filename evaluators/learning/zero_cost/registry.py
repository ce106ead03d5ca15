"""The zero-cost scores by name; each module of this folder registers one or more."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import nn
from torch.nn.utils import parametrize

from evaluators.registry import Registry
from evaluators.threads import one_thread


class ZeroCostError(ValueError):
    """A zero-cost score is unknown, or is not defined for this network or this batch."""


class ZeroCost(Protocol):
    """What a score's module registers: looks at a network and one batch; larger is better."""

    def __call__(self, model: nn.Module, images: torch.Tensor, /) -> float:
        """Return the score of a network that is the callee's own.

        Args:
            model: a copy, in evaluation mode; its weights are plain parameters, as the compressed network
                computes with them.
            images: (b, ...), floating point.
        """
        ...


ZERO_COST: Registry[ZeroCost] = Registry(
    kind="zero-cost score", package="evaluators.learning.zero_cost", error=ZeroCostError
)


def zero_cost(name: str) -> Callable[[ZeroCost], ZeroCost]:
    """File a function under a name; it is then a zero-cost score."""
    return ZERO_COST.register(name)


def names() -> tuple[str, ...]:
    """Return the name of every zero-cost score."""
    return ZERO_COST.names()


def describe(name: str) -> str:
    """Return one line about a zero-cost score."""
    return ZERO_COST.describe(name)


def score(name: str, model: nn.Module, images: torch.Tensor) -> float:
    """Return a zero-cost score of a network, untrained or trained, compressed or not; larger is better.

    The network, its mode and torch's random state are afterwards what they were before.

    Args:
        name: a registered name, or the address `module:callable` of the user's own `ZeroCost`.
        model: maps (b, ...) to a tensor.
        images: one batch, (b, ...), on the model's device.

    Returns:
        A number, minus infinity included; scores of different names cannot be compared.

    Raises:
        ZeroCostError: an unknown name; a batch that is empty or no floating-point tensor; a network that
            cannot be copied; a score that is not defined for this network, or is NaN or plus infinity.
    """
    function = ZERO_COST.find(name)
    if images.ndim < 2 or not len(images) or not images.is_floating_point():
        raise ZeroCostError(
            f"a zero-cost score needs a batch of floating-point images, (b, ...), but got {images.dtype} of "
            f"shape {tuple(images.shape)}"
        )
    with torch.random.fork_rng(devices=[]), one_thread():
        value = float(function(_plain_copy(model), images.detach()))
    if math.isnan(value) or value == math.inf:
        raise ZeroCostError(
            f"the score {name!r} must be a number, but it is {value}: the network's weights are not finite, "
            "or too large for it"
        )
    return value


def _plain_copy(model: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode, in which every parametrized tensor is a parameter of its value."""
    try:
        plain = copy.deepcopy(model)
    except RuntimeError as error:
        raise ZeroCostError(
            f"a zero-cost score looks at a copy of the network, but a {type(model).__name__} cannot be "
            f"copied: {error}; hooks that replace a weight (torch.nn.utils.prune) should be parametrizations"
        ) from error
    plain.eval()
    for part in list(plain.modules()):
        if parametrize.is_parametrized(part):
            _take_values(part)
    for parameter in plain.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return plain


def _take_values(part: nn.Module) -> None:
    """Put the values of a module's parametrized tensors in their places.

    torch's `remove_parametrizations` takes the property from the class, which a deep copy shares with its
    original: the original would lose its weight.
    """
    lists = part.get_submodule("parametrizations")
    plain_type = parametrize.type_before_parametrizations(part)
    values = {name: getattr(part, name).detach().clone() for name, _ in lists.named_children()}
    del part.parametrizations
    part.__class__ = plain_type
    for name, value in values.items():
        part.register_parameter(name, nn.Parameter(value))
