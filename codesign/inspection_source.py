"""What the command line names, as objects: a model, its inputs, a loss."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import cast

import torch
from torch import Tensor, nn

from codesign.errors import CodesignError

_DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float64": torch.float64,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int64": torch.int64,
    "int32": torch.int32,
    "uint8": torch.uint8,
    "bool": torch.bool,
}


class SourceError(CodesignError):
    """A model, an input or a loss that the command line names does not exist or is not what it should be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InputSpec:
    """The shape of one input, and its dtype where it is given."""

    shape: tuple[int, ...]
    dtype: torch.dtype | None = None


def parse_input(text: str) -> InputSpec:
    """Read `8x3x64x64` or `8x128:int64`.

    Raises:
        SourceError: Not sizes joined by `x`, or no dtype of that name.

    >>> parse_input("8x128:int64")
    InputSpec(shape=(8, 128), dtype=torch.int64)
    """
    sizes, _, dtype = text.partition(":")
    parts = sizes.lower().split("x")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise SourceError(
            f"an input must be positive sizes joined by x, such as 8x3x64x64 or 8x128:int64, but got {text!r}"
        )
    if dtype and dtype not in _DTYPES:
        raise SourceError(
            f"no dtype named {dtype!r}{_nearest(dtype, list(_DTYPES))} (known: {', '.join(_DTYPES)})"
        )
    return InputSpec(shape=tuple(map(int, parts)), dtype=_DTYPES.get(dtype))


def load_model(address: str) -> nn.Module:
    """Return the module that `MODULE:CALLABLE` builds.

    `pkg.mod:factory` is imported, `./net.py:build` is read from the file; `torchvision:resnet18` and
    `timm:resnet18` ask those libraries, where installed, for an untrained model of that name.

    Raises:
        SourceError: Nothing there, or it does not build an `nn.Module`.
    """
    home, _, name = address.rpartition(":")
    if home in _LIBRARIES and name:
        return _LIBRARIES[home](name)
    found = _load(address)
    model = found if isinstance(found, nn.Module) else _build(found, address)
    if not isinstance(model, nn.Module):
        raise SourceError(f"{address} must build a torch.nn.Module, but it returned {type(model).__name__}")
    return model


def load_loss(text: str) -> Callable[..., Tensor] | str:
    """Return a named loss as its name, and `module:callable` as the callable.

    Raises:
        SourceError: Nothing callable there.
    """
    if ":" not in text:
        return text
    found = _load(text)
    if isinstance(found, type) and issubclass(found, nn.Module):
        found = found()  # torch.nn:HuberLoss
    if not callable(found):
        raise SourceError(f"a loss must be callable, but {text} is a {type(found).__name__}")
    return cast("Callable[..., Tensor]", found)


def _load(address: str) -> object:
    home, _, name = address.rpartition(":")
    if not home or not name:
        raise SourceError(
            "an address must be MODULE:CALLABLE, such as mypkg.nets:build or ./net.py:build, but got "
            f"{address!r}"
        )
    module = _from_file(Path(home)) if home.endswith(".py") or "/" in home else _from_import(home)
    found = getattr(module, name, None)
    if found is None:
        names = [known for known in vars(module) if not known.startswith("_")]
        raise SourceError(f"{home} has nothing named {name!r}{_nearest(name, names)}")
    return cast("object", found)


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise SourceError(f"no such file: {path} (seen from {Path.cwd()})")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise SourceError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)  # dataclasses and pickles of the file look themselves up
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # so that the file finds its neighbours
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise SourceError(f"{path} cannot be imported: {_where(error)}") from error
    return module


def _from_import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise SourceError(
            f"cannot import {name!r}: {error}; run where the module is found, or give its file, "
            "such as ./net.py:build"
        ) from error
    except Exception as error:
        raise SourceError(f"{name!r} cannot be imported: {_where(error)}") from error


def _build(factory: object, address: str) -> object:
    if not callable(factory):
        raise SourceError(
            f"{address} must be callable and build a model, but it is a {type(factory).__name__}"
        )
    try:
        return cast("object", factory())
    except Exception as error:
        raise SourceError(
            f"{address}() must build the model without arguments, but it raised: {_where(error)}"
        ) from error


def _where(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1]
    return f"{type(error).__name__}: {error} ({last.filename}:{last.lineno})"


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _torchvision(name: str) -> nn.Module:
    models = _from_import("torchvision.models")
    try:
        return cast("nn.Module", models.get_model(name, weights=None))
    except ValueError as error:
        raise SourceError(
            f"torchvision has no model named {name!r}{_nearest(name, models.list_models())}"
        ) from error


def _timm(name: str) -> nn.Module:
    timm = _from_import("timm")
    try:
        return cast("nn.Module", timm.create_model(name, pretrained=False))
    except RuntimeError as error:
        raise SourceError(f"timm has no model named {name!r}{_nearest(name, timm.list_models())}") from error


_LIBRARIES: dict[str, Callable[[str], nn.Module]] = {"torchvision": _torchvision, "timm": _timm}
