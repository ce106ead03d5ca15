"""The shape of a network's data, and what is assumed of its activations where no data can be measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

SHAPES = "shapes"
"""The data set without examples: what its study file says stands in their place."""

_NO_NETWORKS: Mapping[str, ImageShape] = MappingProxyType({})


class ShapeError(ValueError):
    """A shape that no image can have, or an assumption that cannot be."""


class ActivationStorage(Enum):
    """How activations with zeros are stored: as if they had none, or without them and with a bit each."""

    DENSE = "dense"
    BITMAP = "bitmap"


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageShape:
    """What a network must know of its data, and what is assumed where no data can be measured.

    Args:
        input_shape: channels, height and width of one image.
        num_classes: classes of the data set.
        activation_density: what of every layer's input but the image is not zero: an assumption.
        activation_storage: how such inputs are stored.

    Raises:
        ShapeError: a size below one, or a density outside (0, 1].
    """

    input_shape: tuple[int, int, int]
    num_classes: int
    activation_density: float = 1.0
    activation_storage: ActivationStorage = ActivationStorage.DENSE

    def __post_init__(self) -> None:
        if min(self.input_shape) < 1 or self.num_classes < 1:
            raise ShapeError(
                "an image has at least one channel, row, column and class, but got "
                f"input_shape={self.input_shape}, num_classes={self.num_classes}"
            )
        if not 0 < self.activation_density <= 1:
            raise ShapeError(
                f"`0 < activation_density <= 1` must hold, but got {self.activation_density}; "
                "1 assumes no zeros"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class ShapesOnly:
    """The shape of every network's data: `default`, or what `of_network` says for its name."""

    default: ImageShape
    of_network: Mapping[str, ImageShape] = field(default_factory=lambda: _NO_NETWORKS)

    def of(self, network: str) -> ImageShape:
        """Return the shape that a network's data have."""
        return self.of_network.get(network, self.default)
