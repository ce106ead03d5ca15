"""Structure: a layer replaced by others, before the network is traced and everything else is applied.

The parts are layers of their own, named `<layer>.<part>`, which start as an approximation of the weights
that they replace; the other choices of the layer act on each of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import singledispatch

import torch
from torch import nn

from evaluators.networks.layers import compressible_layers
from evaluators.techniques.dispatch import TechniqueError
from evaluators.techniques.removal import concerns_channels, prunes_filters, remove_filters
from search_spaces.choice import Choice
from search_spaces.decomposition import Grouped, LowRank, Separable, Tucker2

Structure = tuple[tuple[str, Choice], ...]
"""What decides the shapes of a network: layers by name, each with the choice that replaces it; then layers,
or parts of those, with the choices that concern how many channels there are (see `removal.py`)."""


@singledispatch
def parts_of(choice: object) -> tuple[str, ...]:
    """Return the names of the layers that a choice puts in the place of one; none: it replaces nothing."""
    return ()


@parts_of.register
def _(choice: LowRank) -> tuple[str, ...]:
    return ("reduce", "expand")


@parts_of.register
def _(choice: Tucker2) -> tuple[str, ...]:
    return ("reduce", "core", "expand")


@parts_of.register
def _(choice: Separable) -> tuple[str, ...]:
    return ("depthwise", "pointwise")


@parts_of.register
def _(choice: Grouped) -> tuple[str, ...]:
    return ("grouped",)


@singledispatch
def modules_of(choice: object) -> tuple[str, ...]:
    """Return the names of all modules that `replaced` makes: the parts, and what has no weight."""
    return parts_of(choice)


@modules_of.register
def _(choice: Grouped) -> tuple[str, ...]:
    return ("shuffle", "grouped")


@singledispatch
def replaced(choice: object, layer: nn.Module) -> tuple[nn.Module, ...]:
    """Return the modules that stand for one layer, in the order of `modules_of`.

    Raises:
        TechniqueError: the choice does not fit the layer.
    """
    raise TechniqueError(f"no structure is registered for {type(choice).__name__}")


@replaced.register
@torch.no_grad()
def _(choice: LowRank, layer: nn.Module) -> tuple[nn.Module, ...]:
    if not isinstance(layer, nn.Linear | nn.Conv2d) or layer.weight[0].numel() != layer.weight.shape[1]:
        raise TechniqueError("a low rank needs a linear layer or a 1x1 convolution; use Tucker2 for kernels")
    outputs, inputs = layer.weight.shape[:2]
    _check_rank(choice.rank, min(outputs, inputs))
    left, sizes, right = torch.linalg.svd(layer.weight.flatten(1), full_matrices=False)
    roots = sizes[: choice.rank].sqrt()
    first, second = roots[:, None] * right[: choice.rank], left[:, : choice.rank] * roots
    if isinstance(layer, nn.Linear):
        return _linear(first, None), _linear(second, layer.bias)
    _check_ungrouped(layer)
    return (
        _convolution(first[:, :, None, None], None, like=layer),
        _convolution(second[:, :, None, None], layer.bias),
    )


@replaced.register
@torch.no_grad()
def _(choice: Tucker2, layer: nn.Module) -> tuple[nn.Module, ...]:
    if not isinstance(layer, nn.Conv2d):
        raise TechniqueError("Tucker2 needs a convolution; use LowRank for linear layers")
    _check_ungrouped(layer)
    weight = layer.weight
    _check_rank(choice.rank_out, weight.shape[0])
    _check_rank(choice.rank_in, weight.shape[1])
    outer = torch.linalg.svd(weight.flatten(1), full_matrices=False)[0][:, : choice.rank_out]
    inner = torch.linalg.svd(weight.transpose(0, 1).flatten(1), full_matrices=False)[0][:, : choice.rank_in]
    core = torch.einsum("kcyx,kr,cs->rsyx", weight, outer, inner)
    return (
        _convolution(inner.T[:, :, None, None], None),
        _convolution(core, None, like=layer),
        _convolution(outer[:, :, None, None], layer.bias),
    )


@replaced.register
@torch.no_grad()
def _(choice: Separable, layer: nn.Module) -> tuple[nn.Module, ...]:
    if not isinstance(layer, nn.Conv2d):
        raise TechniqueError("a separable layer stands for a convolution, not for a linear layer")
    _check_ungrouped(layer)
    channels, kernel = layer.weight.shape[1], layer.weight.shape[2:]
    by_channel = layer.weight.transpose(0, 1).flatten(2)  # (c, k, fy fx), each to its best rank one
    left, sizes, right = torch.linalg.svd(by_channel, full_matrices=False)
    roots = sizes[:, :1].sqrt()
    depthwise = (roots * right[:, 0]).reshape(channels, 1, *kernel)
    pointwise = (roots * left[:, :, 0]).T
    return (
        _convolution(depthwise, None, like=layer, groups=channels),
        _convolution(pointwise[:, :, None, None], layer.bias),
    )


@replaced.register
@torch.no_grad()
def _(choice: Grouped, layer: nn.Module) -> tuple[nn.Module, ...]:
    if not isinstance(layer, nn.Conv2d):
        raise TechniqueError("a grouped convolution stands for a convolution, not for a linear layer")
    _check_ungrouped(layer)
    outputs, inputs = layer.weight.shape[:2]
    groups, shuffle = choice.groups, nn.ChannelShuffle(choice.groups)
    if outputs % groups or inputs % groups:
        raise TechniqueError(
            f"{groups} groups must divide the outputs and the inputs, but these are {outputs} and {inputs}"
        )
    # What each input is after the shuffle; each group keeps the weights of those that it sees.
    seen = shuffle(torch.arange(float(inputs)).view(1, inputs, 1, 1)).flatten().long()
    blocks = layer.weight[:, seen].unflatten(0, (groups, -1)).unflatten(2, (groups, -1))  # type: ignore[no-untyped-call]
    weight = torch.stack([blocks[group, :, group] for group in range(groups)]).flatten(0, 1)
    return shuffle, _convolution(weight, layer.bias, like=layer, groups=groups)


def restructure_model(model: nn.Module, structure: Structure) -> frozenset[str]:
    """Replace layers of a network and take filters out of it, in place.

    Returns:
        The layers whose filters have been taken out, which `choices_of_parts` asks for.

    Raises:
        TechniqueError: a layer that the network has not, or a choice that does not fit its layer.
    """
    layers = compressible_layers(model)
    channels: dict[str, tuple[Choice, ...]] = {}
    for name, choice in structure:
        if concerns_channels(choice):
            channels[name] = (*channels.get(name, ()), choice)
            continue
        if name not in layers:
            raise TechniqueError(
                f"the design names layer {name!r}, but the network has only: {', '.join(layers)}"
            )
        try:
            parts = replaced(choice, layers[name])
        except TechniqueError as error:
            raise TechniqueError(f"layer {name!r}: {error}") from error
        owner, _, leaf = name.rpartition(".")
        named = zip(modules_of(choice), parts, strict=True)
        setattr(model.get_submodule(owner), leaf, nn.Sequential(OrderedDict(named)))
    return remove_filters(model, channels) if channels else frozenset()


def structure_of(choices: Mapping[str, Sequence[Choice]]) -> Structure:
    """Return the choices that decide the shapes of the network."""
    replacing = tuple((name, one) for name, several in choices.items() for one in several if parts_of(one))
    if not any(prunes_filters(one) for several in choices.values() for one in several):
        return replacing
    whole = choices_of_parts(choices)
    return replacing + tuple(
        (name, one) for name, several in whole.items() for one in several if concerns_channels(one)
    )


def choices_of_parts(
    choices: Mapping[str, Sequence[Choice]], removed: Collection[str] = ()
) -> dict[str, tuple[Choice, ...]]:
    """Return what is still to be applied to every layer of the restructured network.

    Args:
        choices: of each layer of the whole network; a replaced layer's others go to each of its parts.
        removed: layers whose filters have been taken out.
    """
    found: dict[str, tuple[Choice, ...]] = {}
    for name, several in choices.items():
        others = tuple(one for one in several if not parts_of(one))
        for part in [f"{name}.{part}" for part in _parts(several)] or [name]:
            found[part] = tuple(one for one in others if part not in removed or not prunes_filters(one))
    return found


def _parts(several: Iterable[Choice]) -> tuple[str, ...]:
    return next((parts_of(one) for one in several if parts_of(one)), ())


def _check_rank(rank: int, full: int) -> None:
    if rank > full:
        raise TechniqueError(f"a rank must be from 1 to {full}, the full one, but it is {rank}")


def _check_ungrouped(layer: nn.Conv2d) -> None:
    if layer.groups != 1:
        raise TechniqueError(f"a grouped convolution (here {layer.groups} groups) cannot be decomposed")


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight.copy_(weight)
    if bias is not None:
        layer.bias.copy_(bias)
    return layer


def _convolution(
    weight: torch.Tensor, bias: torch.Tensor | None, *, like: nn.Conv2d | None = None, groups: int = 1
) -> nn.Conv2d:
    """Return a convolution with a weight; stride, padding and dilation are those of another one."""
    outputs, per_group, *kernel = weight.shape
    size = (kernel[0], kernel[1])
    if like is None:
        layer = nn.Conv2d(per_group * groups, outputs, size, bias=bias is not None)
    else:
        layer = nn.Conv2d(
            per_group * groups,
            outputs,
            size,
            stride=like.stride,  # type: ignore[arg-type]  # torch types it as a tuple of any length
            padding=like.padding,  # type: ignore[arg-type]
            dilation=like.dilation,  # type: ignore[arg-type]
            groups=groups,
            bias=bias is not None,
        )
    layer.weight.copy_(weight)
    if bias is not None and layer.bias is not None:
        layer.bias.copy_(bias)
    return layer
