"""Which layers share their channels: what must lose the same filters if any of them loses some.

The network is followed symbolically (`torch.fx`). A group starts at each convolution and linear layer; sums
join groups, and depthwise convolutions belong to the group that they filter. What is not known to pass
channels one by one, and zeros as zeros, closes the groups that it touches: nothing can be taken out of them.
A network that cannot be followed has no group.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import fx, nn
from torch.nn import functional as F

PASSING_MODULES = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Hardswish, nn.ELU, nn.Tanh,
    nn.Dropout, nn.Dropout2d, nn.Identity,
)  # fmt: skip
POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
"""Modules that act on each channel alone and make zeros of zeros."""

PASSING_FUNCTIONS: tuple[Callable[..., object], ...] = (
    F.relu, torch.relu, F.relu6, F.leaky_relu, F.gelu, F.silu, F.hardswish, F.dropout,
    F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d,
)  # fmt: skip
PASSING_METHODS = ("relu", "relu_", "contiguous")
SUMS: tuple[object, ...] = (operator.add, operator.iadd, torch.add, "add", "add_")


@dataclass(frozen=True, kw_only=True, slots=True)
class Reader:
    """A layer that reads the channels of a group, each as so many inputs in a row (1 but after flatten)."""

    layer: str
    inputs_per_channel: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ChannelGroup:
    """Channels that several layers have in common.

    Args:
        size: how many channels.
        makers: convolutions and linear layers whose filters are the channels; a sum has several.
        depthwise: convolutions that filter each of the channels alone.
        norms: normalisations of the channels.
        readers: layers that read the channels.
    """

    size: int
    makers: tuple[str, ...]
    depthwise: tuple[str, ...]
    norms: tuple[str, ...]
    readers: tuple[Reader, ...]


def channel_groups(model: nn.Module) -> tuple[ChannelGroup, ...]:
    """Return the groups of a network from which channels can be taken out, in the order of their makers."""
    try:
        graph = fx.symbolic_trace(model).graph
    # NOTE: any forward is run with symbols for tensors here, so any error may come of it; what it says is
    # that this network cannot be followed, which leaves its filters masked.
    except Exception:
        return ()
    walk = _Walk(modules=dict(model.named_modules()))
    for node in graph.nodes:
        walk.visit(node)
    return walk.found()


@dataclass(slots=True)
class _Open:
    """A group that is being found."""

    size: int
    makers: list[str] = field(default_factory=list)
    depthwise: list[str] = field(default_factory=list)
    norms: list[str] = field(default_factory=list)
    readers: list[Reader] = field(default_factory=list)
    closed: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class _Channels:
    """What a value carries: its group by number; an image has channels at axis 1, a vector nothing else."""

    group: int
    is_image: bool


@dataclass(slots=True)
class _Walk:
    """Follows channels from node to node."""

    modules: dict[str, nn.Module]
    groups: list[_Open] = field(default_factory=list)
    joined: list[int] = field(default_factory=list)  # of each group the one that it has become part of
    made_by: dict[str, int] = field(default_factory=dict)
    called_with: dict[str, _Channels | None] = field(default_factory=dict)
    values: dict[fx.Node, _Channels] = field(default_factory=dict)

    def found(self) -> tuple[ChannelGroup, ...]:
        """Return the groups that are open and have a reader."""
        whole = [group for number, group in enumerate(self.groups) if self.joined[number] == number]
        return tuple(
            ChannelGroup(
                size=group.size,
                makers=tuple(group.makers),
                depthwise=tuple(dict.fromkeys(group.depthwise)),
                norms=tuple(dict.fromkeys(group.norms)),
                readers=tuple(dict.fromkeys(group.readers)),
            )
            for group in whole
            if group.readers and not group.closed
        )

    def visit(self, node: fx.Node) -> None:
        """Say what a node carries, if anything; close what it does not pass on."""
        carried = None
        if node.op == "call_module":
            carried = self._module(node, str(node.target))
        elif node.op in ("call_function", "call_method"):
            carried = self._function(node)
        elif node.op == "output":
            self._unknown(node)
        if carried is not None:
            self.values[node] = carried

    def _module(self, node: fx.Node, name: str) -> _Channels | None:
        module, value = self.modules[name], self._input(node)
        if isinstance(module, nn.Conv2d):
            return self._convolution(node, name, module, value)
        if isinstance(module, nn.Linear):
            return self._linear(node, name, module, value)
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d) and value is not None:
            group = self._group(value)
            if module.num_features == group.size and value.is_image == isinstance(module, nn.BatchNorm2d):
                group.norms.append(name)
                self._bind(name, value)
                return value
        if isinstance(module, PASSING_MODULES) or (isinstance(module, POOLS) and self._is_image(value)):
            return value
        if isinstance(module, nn.Flatten) and module.start_dim == 1 and module.end_dim == -1:
            return self._flattened(value)
        return self._unknown(node)

    def _convolution(
        self, node: fx.Node, name: str, module: nn.Conv2d, value: _Channels | None
    ) -> _Channels | None:
        if module.groups > 1:
            if value is None or not module.groups == module.in_channels == module.out_channels:
                return self._unknown(node)
            self._group(value).depthwise.append(name)
            self._bind(name, value)
            return value
        self._bind(name, value)
        if value is not None:
            self._group(value).readers.append(Reader(layer=name, inputs_per_channel=1))
        return _Channels(group=self._made_by(name, module.out_channels), is_image=True)

    def _linear(
        self, node: fx.Node, name: str, module: nn.Linear, value: _Channels | None
    ) -> _Channels | None:
        if value is None or value.is_image or module.in_features % self._group(value).size:
            self._unknown(node)
            self._bind(name, None)
        else:
            self._bind(name, value)
            each = module.in_features // self._group(value).size
            self._group(value).readers.append(Reader(layer=name, inputs_per_channel=each))
        return _Channels(group=self._made_by(name, module.out_features), is_image=False)

    def _function(self, node: fx.Node) -> _Channels | None:
        value = self._input(node)
        if node.target in SUMS:
            return self._sum(node)
        if node.target in PASSING_FUNCTIONS or node.target in PASSING_METHODS:
            return value
        if node.target in (torch.flatten, "flatten") and node.args[1:] in ((1,), (1, -1)):
            return self._flattened(value)
        if node.target in ("view", "reshape") and len(node.args) == 3 and node.args[2] == -1:
            return self._flattened(value)  # x.view(x.size(0), -1)
        if node.target in ("size", "dim"):
            return None  # a number, not the channels
        return self._unknown(node)

    def _sum(self, node: fx.Node) -> _Channels | None:
        added = [self.values.get(arg) if isinstance(arg, fx.Node) else None for arg in node.args[:2]]
        first, second = added[0], added[-1]
        if len(added) < 2 or node.kwargs or first is None or second is None:
            return self._unknown(node)
        one, other = self._group(first), self._group(second)
        if one.size != other.size or first.is_image != second.is_image:
            return self._unknown(node)
        self._join(first.group, second.group)
        return first

    def _flattened(self, value: _Channels | None) -> _Channels | None:
        # Channels come first in memory, so each becomes a run of inputs of the layer that reads them.
        return _Channels(group=value.group, is_image=False) if value is not None and value.is_image else None

    def _input(self, node: fx.Node) -> _Channels | None:
        first = node.args[0] if node.args else None
        return self.values.get(first) if isinstance(first, fx.Node) else None

    def _is_image(self, value: _Channels | None) -> bool:
        return value is not None and value.is_image

    def _made_by(self, name: str, size: int) -> int:
        """Return the group of a layer's filters; a layer that is called twice makes one group."""
        if name not in self.made_by:
            self.made_by[name] = len(self.groups)
            self.joined.append(len(self.groups))
            self.groups.append(_Open(size=size, makers=[name]))
        return self._root(self.made_by[name])

    def _bind(self, name: str, value: _Channels | None) -> None:
        """Note which channels a module is called with; called with several, it makes them one group."""
        before = self.called_with.setdefault(name, value)
        if before == value:
            return
        known = [one for one in (before, value) if one is not None]
        if len(known) == 2 and self._group(known[0]).size == self._group(known[1]).size:
            self._join(known[0].group, known[1].group)
        else:
            for one in known:
                self._group(one).closed = True

    def _root(self, number: int) -> int:
        while self.joined[number] != number:
            number = self.joined[number]
        return number

    def _group(self, value: _Channels) -> _Open:
        return self.groups[self._root(value.group)]

    def _join(self, first: int, second: int) -> None:
        first, second = self._root(first), self._root(second)
        if first == second:
            return
        kept, gone = self.groups[first], self.groups[second]
        kept.makers += gone.makers
        kept.depthwise += gone.depthwise
        kept.norms += gone.norms
        kept.readers += gone.readers
        kept.closed |= gone.closed
        self.joined[second] = first

    def _unknown(self, node: fx.Node) -> _Channels | None:
        """Close every group that a node touches: what it does with the channels is not known."""
        for touched in node.all_input_nodes:
            value = self.values.get(touched)
            if value is not None:
                self._group(value).closed = True
        return None
