"""The door through which a knob family enters: one decorator, found by importing the folder.

A *layer family* decides one choice for each layer (bits, sparsity pattern, rank, ...). Its class is a
frozen pydantic model read from the study file's `space:` section; the decorator files it under the key
that the study file uses. Nothing else has to be told about a new family.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from functools import cache
from typing import Protocol, TypeGuard, TypeVar, runtime_checkable

from pydantic import BaseModel

from search_spaces.ask import Ask, LayerInfo
from search_spaces.choice import Choice, SpaceError


@runtime_checkable
class LayerSpace(Protocol):
    """What may be chosen for a layer by one family."""

    def suggest(self, ask: Ask, layer: LayerInfo) -> Choice | None:
        """Ask for this layer's knobs and return the choice they make; None leaves the layer as it is."""
        ...


@runtime_checkable
class NamesLayers(Protocol):
    """A section that names layers of its own, which every network of the space must have."""

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The layers that the section names."""
        ...


@runtime_checkable
class ChecksLayers(Protocol):
    """A section that is refused where it asks for what no layer of any network can have."""

    def check_layers(self, layers: tuple[LayerInfo, ...]) -> None:
        """Raise `SpaceError`, with its key in the section, for values that fit none of the layers."""
        ...


@runtime_checkable
class PassesOver(Protocol):
    """A section some of whose values pass over layers that cannot have them."""

    def passed_over(self, layers: tuple[LayerInfo, ...]) -> tuple[str, ...]:
        """Return a sentence for each value that not every layer can have, and what those layers get."""
        ...


@runtime_checkable
class Replaces(Protocol):
    """A choice that puts several layers in the place of one."""

    def parts(self, layer: LayerInfo) -> tuple[LayerInfo, ...]:
        """Return the layers that stand for the layer, named `<layer>.<part>`."""
        ...


_MEMBERS: dict[tuple[type, str], bool] = {}


def _has(value: object, member: str) -> bool:
    key = (type(value), member)
    if key not in _MEMBERS:
        _MEMBERS[key] = hasattr(*key)
    return _MEMBERS[key]


# What `isinstance` would say of the protocols; it goes through their members anew each time, and designs ask
# thirty times each.
def is_layer_space(value: object) -> TypeGuard[LayerSpace]:
    """Return whether a section says what may be chosen for a layer."""
    return _has(value, "suggest")


def names_layers(value: object) -> TypeGuard[NamesLayers]:
    """Return whether a section names layers of its own."""
    return _has(value, "layer_names")


def replaces_layers(value: object) -> TypeGuard[Replaces]:
    """Return whether a choice puts several layers in the place of one."""
    return _has(value, "parts")


ModelT = TypeVar("ModelT", bound=type[BaseModel])
_LAYER_FAMILIES: dict[str, tuple[int, type[BaseModel]]] = {}


def layer_family(name: str, *, order: int) -> Callable[[ModelT], ModelT]:
    """File a layer family under the study file's key `name`.

    Args:
        name: the key in `space:`.
        order: where the family stands when several act on one layer; lower acts first on the weight.

    Raises:
        SpaceError: the name or the order is taken.
    """

    def file_under(model: ModelT) -> ModelT:
        for known, (known_order, known_model) in _LAYER_FAMILIES.items():
            if known_model.__qualname__ == model.__qualname__ and known == name:
                continue  # the same class, imported again
            if known == name or known_order == order:
                raise SpaceError(
                    f"a layer family needs a name and an order of its own, but {name!r} (order {order}) "
                    f"meets {known!r} (order {known_order})"
                )
        _LAYER_FAMILIES[name] = (order, model)
        return model

    return file_under


def layer_families() -> dict[str, type[BaseModel]]:
    """Return every layer family by name, in the order in which they act."""
    _import_families()
    return {name: model for name, (_, model) in sorted(_LAYER_FAMILIES.items(), key=lambda item: item[1][0])}


@cache
def _import_families() -> None:
    """Import every module beside this one, once: designs ask for their families by the thousand."""
    import search_spaces

    for module in pkgutil.iter_modules(search_spaces.__path__):
        if not module.name.startswith("_") and module.name != "space":
            importlib.import_module(f"search_spaces.{module.name}")
