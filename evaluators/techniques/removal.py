"""Filters taken out of a network: it becomes a smaller one, with nothing masked in it.

A group of layers loses the same channels if every layer that makes them is asked to: the strongest ones of
the group are kept, as many as the layer that keeps most of them asks for, or a depthwise layer that keeps
fewer, and enough for the patterns of the layers that read them, which lose those inputs. Everything else
stays masked: filters whose channels meet, in a sum, those of a layer that keeps all of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import singledispatch

import torch
from torch import nn

from evaluators.networks.layers import Layer, compressible_layers
from evaluators.techniques.channel_groups import ChannelGroup, channel_groups
from search_spaces.choice import Choice
from search_spaces.smartdeal import SmartDeal
from search_spaces.sparsity import NM, FilterPruned

SMALLEST_MEAN = 1e-30  # a layer of zeros ranks nothing

Filters = Mapping[str, Sequence[Choice]]
"""Layers by name with the choices that concern how many channels there are."""


@singledispatch
def kept_filters(choice: object, filters: int) -> int:
    """Return how many of a layer's filters a choice keeps: all, unless it prunes them."""
    return filters


@kept_filters.register
def _(choice: FilterPruned, filters: int) -> int:
    return max(1, round(choice.density * filters))  # as `filter_mask` rounds it


@singledispatch
def input_multiple(choice: object) -> int:
    """Return of what number a layer's input channels must be a multiple under a choice."""
    return 1


@input_multiple.register
def _(choice: NM) -> int:
    return choice.m


@input_multiple.register
def _(choice: SmartDeal) -> int:
    return 2  # it does not act on a single input channel


def concerns_channels(choice: Choice) -> bool:
    """Say whether a choice decides how many channels there are, or asks something of their number."""
    return prunes_filters(choice) or input_multiple(choice) > 1


def prunes_filters(choice: Choice) -> bool:
    """Say whether a choice is done with once its layer's filters are taken out."""
    return isinstance(choice, FilterPruned)


@torch.no_grad()
def remove_filters(model: nn.Module, choices: Filters) -> frozenset[str]:
    """Take filters out of a network, in place.

    Returns:
        The layers whose filters are gone; those of other layers that ask for it are to be masked.

    Source: Li et al., ICLR 2017 (the norm, and the layers that read); Fang et al., CVPR 2023 (groups, ranked
    by the norms of all their layers together).
    """
    layers = compressible_layers(model)
    removed: set[str] = set()
    for group in channel_groups(model):
        asked = [
            name
            for name in (*group.makers, *group.depthwise)
            if any(prunes_filters(choice) for choice in choices.get(name, ()))
        ]
        if not set(group.makers) <= set(asked):
            continue
        kept = _kept(group, choices)
        if kept < group.size:
            _cut(model, group, _strongest([layers[name].weight for name in asked], kept))
            removed.update(asked)
    return frozenset(removed)


def _kept(group: ChannelGroup, choices: Filters) -> int:
    """Return how many channels of a group stay: enough for the patterns of the layers that read them."""

    def fewest(name: str) -> int:
        return min((kept_filters(choice, group.size) for choice in choices.get(name, ())), default=group.size)

    kept = min([max(map(fewest, group.makers)), *map(fewest, group.depthwise)])
    multiple = math.lcm(*(input_multiple(one) for to in group.readers for one in choices.get(to.layer, ())))
    return min(group.size, math.ceil(kept / multiple) * multiple)


def _strongest(weights: Sequence[torch.Tensor], kept: int) -> torch.Tensor:
    """Return the filters of largest L1 norm, in their order; each layer's norms have a mean of one."""
    norms = torch.stack([weight.abs().flatten(1).sum(dim=1) for weight in weights])
    scores = (norms / norms.mean(dim=1, keepdim=True).clamp_min(SMALLEST_MEAN)).sum(dim=0)
    return scores.argsort(descending=True, stable=True)[:kept].sort().values


def _cut(model: nn.Module, group: ChannelGroup, kept: torch.Tensor) -> None:
    """Leave the channels that are kept in every layer of a group."""
    layers, count = compressible_layers(model), len(kept)
    for name in (*group.makers, *group.depthwise):
        layer = layers[name]
        _keep(layer, kept)
        _resize_outputs(layer, count)
    for name in group.depthwise:
        layer = layers[name]
        if isinstance(layer, nn.Conv2d):
            layer.in_channels = layer.groups = count
    for name in group.norms:
        norm = model.get_submodule(name)
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            _keep_norm(norm, kept)
    for reader in group.readers:
        each = reader.inputs_per_channel
        inputs = (kept[:, None] * each + torch.arange(each)).flatten()
        layer = layers[reader.layer]
        layer.weight = nn.Parameter(layer.weight.index_select(1, inputs))
        _resize_inputs(layer, len(inputs))


def _keep(layer: Layer, kept: torch.Tensor) -> None:
    layer.weight = nn.Parameter(layer.weight.index_select(0, kept))
    if layer.bias is not None:
        layer.bias = nn.Parameter(layer.bias.index_select(0, kept))


def _keep_norm(norm: nn.BatchNorm1d | nn.BatchNorm2d, kept: torch.Tensor) -> None:
    norm.num_features = len(kept)
    if norm.affine:
        norm.weight = nn.Parameter(norm.weight.index_select(0, kept))
        norm.bias = nn.Parameter(norm.bias.index_select(0, kept))
    if norm.running_mean is not None and norm.running_var is not None:
        norm.running_mean = norm.running_mean.index_select(0, kept)
        norm.running_var = norm.running_var.index_select(0, kept)


def _resize_outputs(layer: Layer, count: int) -> None:
    if isinstance(layer, nn.Conv2d):
        layer.out_channels = count
    else:
        layer.out_features = count


def _resize_inputs(layer: Layer, count: int) -> None:
    if isinstance(layer, nn.Conv2d):
        layer.in_channels = count
    else:
        layer.in_features = count
