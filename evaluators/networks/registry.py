"""The networks by name: `names()` and `build()`; each module of this folder registers one."""

from __future__ import annotations

import inspect
from typing import Protocol

import torch
from torch import nn

from evaluators.registry import Registry


class NetworkError(ValueError):
    """A network is unknown, cannot be built as asked, or is not in the form that it should have."""


class Builder(Protocol):
    """What a network's module registers: builds the untrained network."""

    def __call__(
        self, *, width: float, depth: int, input_shape: tuple[int, int, int], num_classes: int
    ) -> nn.Module:
        """Return a network that maps (b, *input_shape) to logits (b, num_classes)."""
        ...


NETWORKS: Registry[Builder] = Registry(kind="network", package="evaluators.networks", error=NetworkError)


def names() -> tuple[str, ...]:
    """Return the name of every network."""
    return NETWORKS.names()


def describe(name: str) -> str:
    """Return one line about a network."""
    return NETWORKS.describe(name)


def build(
    name: str, *, width: float, depth: int, input_shape: tuple[int, int, int], num_classes: int, seed: int
) -> nn.Module:
    """Build a network; equal arguments give equal weights, and no other random state is touched.

    Args:
        name: a registered name, or the address `module:callable` of the user's own `Builder`.
        width: multiplies the channels of every layer.
        depth: layers (or blocks) per stage.
        input_shape: channels, height and width of one image.
        num_classes: logits of the network.
        seed: of the initial weights.

    Raises:
        NetworkError: an unknown name; a width or depth that is not positive; a user's function that
            takes other arguments, or returns no `nn.Module`.
    """
    if not width > 0 or depth < 1:
        raise NetworkError(f"`width > 0` and `depth >= 1` must hold, but got width={width}, depth={depth}")
    builder = NETWORKS.find(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        given = {"width": width, "depth": depth, "input_shape": input_shape, "num_classes": num_classes}
        try:
            inspect.signature(builder).bind(**given)
        except ValueError:  # written in C: it has no signature that could be looked at
            pass
        except TypeError as error:
            raise NetworkError(
                f"{name!r} must be a function of {', '.join(given)}, passed by name, but {error}"
            ) from None
        model: object = builder(width=width, depth=depth, input_shape=input_shape, num_classes=num_classes)
    if not isinstance(model, nn.Module):
        raise NetworkError(
            f"{name!r} must return a torch.nn.Module, but it returned a {type(model).__name__}"
        )
    return model


def scaled(channels: int, width: float) -> int:
    """Return the channels of a layer under a width multiplier: a multiple of 4, and at least 4.

    Multiples of 4 let 2:4 and 1:4 sparsity fit every layer but the first, at any width.
    """
    return max(4, 4 * round(channels * width / 4))
