"""The sections `network` and `dataset`: what is trained, and on what."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from codesign.sections.section import Section
from evaluators.shapes import SHAPES, ActivationStorage, ImageShape, ShapesOnly

_MOST_NUMBERS = 2**28  # of one image: 1 GiB in single precision, which no network of ours comes near


def _small_enough(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    if math.prod(shape) > _MOST_NUMBERS:
        raise ValueError(f"one image may have {_MOST_NUMBERS} numbers, but {list(shape)} has more")
    return shape


_Size = Annotated[int, Field(ge=1)]
_Shape = Annotated[tuple[_Size, _Size, _Size], AfterValidator(_small_enough)]
_Classes = Annotated[int, Field(ge=1, le=2**20)]
_Density = Annotated[float, Field(gt=0, le=1)]
_ACTIVATION_DENSITY = Field(
    default=1.0, description="`shapes` only: the part of every layer's input that is assumed not to be zero."
)
_ACTIVATION_STORAGE = Field(
    default=ActivationStorage.DENSE, description="`shapes` only: how inputs with zeros are stored."
)
_OF_SHAPES = ("input_shape", "num_classes", "activation_density", "activation_storage", "of_network")


class Network(Section):
    """The network whose width and depth the space scales; `space.network.name` may name others."""

    name: str = Field(description="A registered network (`cosearch list networks`) or `module:callable`.")


class NetworkData(Section):
    """The data of one network, where there are only shapes."""

    input_shape: _Shape = Field(description="Channels, height and width of one image.")
    num_classes: _Classes = Field(description="Classes.")
    activation_density: _Density = _ACTIVATION_DENSITY
    activation_storage: ActivationStorage = _ACTIVATION_STORAGE

    @property
    def shape(self) -> ImageShape:
        """The same, as the evaluators take it."""
        return ImageShape(
            input_shape=self.input_shape,
            num_classes=self.num_classes,
            activation_density=self.activation_density,
            activation_storage=self.activation_storage,
        )


class Dataset(Section):
    """The data that the proxy is trained on."""

    name: str = Field(description="A registered data set (`cosearch list datasets`) or `module:callable`.")
    train_examples: int | None = Field(
        default=None, ge=1, description="Use this many training examples, stratified; all where absent."
    )
    validation_examples: int | None = Field(
        default=None, ge=1, description="Use this many of the held-out validation examples; all where absent."
    )
    data_root: Path | None = Field(default=None, description="Folder of the data files; --data-root sets it.")
    download: bool = Field(default=True, description="Fetch missing files where the data set can.")
    input_shape: _Shape | None = Field(
        default=None, description="`shapes` only: channels, height and width of one image."
    )
    num_classes: _Classes | None = Field(default=None, description="`shapes` only: classes.")
    activation_density: _Density = _ACTIVATION_DENSITY
    activation_storage: ActivationStorage = _ACTIVATION_STORAGE
    of_network: dict[str, NetworkData] = Field(
        default_factory=dict, description="`shapes` only: what some networks have instead, by their names."
    )

    @model_validator(mode="after")
    def _shapes(self) -> Dataset:
        given = self.input_shape is not None, self.num_classes is not None
        if self.name == SHAPES and not all(given):
            raise ValueError(
                "the data set 'shapes' has no examples to take them from: give `input_shape: [channels, "
                "height, width]` and `num_classes`"
            )
        fields = type(self).model_fields
        only_shapes = [
            name
            for name in _OF_SHAPES
            if getattr(self, name) != fields[name].get_default(call_default_factory=True)
        ]
        if self.name != SHAPES and only_shapes:
            raise ValueError(
                f"{', '.join(only_shapes)}: the data set {self.name!r} says it itself; only the data "
                "set 'shapes' is described in the study file"
            )
        return self

    @property
    def shapes(self) -> ShapesOnly | None:
        """The shapes that stand in the place of examples; None where there are some."""
        if self.input_shape is None or self.num_classes is None:
            return None
        default = ImageShape(
            input_shape=self.input_shape,
            num_classes=self.num_classes,
            activation_density=self.activation_density,
            activation_storage=self.activation_storage,
        )
        return ShapesOnly(
            default=default, of_network={name: data.shape for name, data in self.of_network.items()}
        )
