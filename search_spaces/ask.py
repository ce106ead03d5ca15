"""The two sides of a suggestion: who answers a knob, and the layer that the knob is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Ask(Protocol):
    """What answers knobs: a sampler's trial, a fixed design, a test's script.

    The same name must always come with the same values, for a sampler learns one distribution a name.
    """

    def ordinal(self, name: str, values: tuple[int | float, ...]) -> int | float:
        """Return one of `values`, which are in a meaningful (ascending) order."""
        ...

    def categorical(self, name: str, values: tuple[str, ...]) -> str:
        """Return one of `values`, which have no order."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerInfo:
    """What a knob family may know of a layer before any network is built or traced.

    Attributes:
        name: the layer's module path in the network, such as `stage1.conv2`.
        kind: `"conv2d"` or `"linear"`.
        weight_shape: (k, c / groups, fy, fx) of a convolution, (k, c) of a linear layer.
        is_edge: the first or the last layer of the network, which many keep at more bits.
        groups: of a convolution; c of them make it depthwise.
        parts: the layers that an earlier family's choice puts in its place; none where it stays whole.
    """

    name: str
    kind: str
    weight_shape: tuple[int, ...]
    is_edge: bool = False
    groups: int = 1
    parts: tuple[LayerInfo, ...] = ()

    @property
    def acted_on(self) -> tuple[LayerInfo, ...]:
        """What the other choices of the layer act on: its parts, or itself."""
        return self.parts or (self,)
