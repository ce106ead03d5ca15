"""What the command line names, as objects: a model, its inputs, a loss."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import math
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from codesign.errors import CodesignError
from evaluators.workload.errors import unknown

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


LOSSES = ("cross_entropy", "mse")

_T = TypeVar("_T")

# Where a traceback's lines are not the user's: this file, torch, Python's own library.
_HERE = Path(__file__).resolve()
_STANDARD = {Path(torch.__file__).resolve().parent, Path(inspect.__file__).resolve().parent / "importlib"}


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
        SourceError: Not sizes joined by `x`, no dtype of that name, or more bytes than can be addressed.

    >>> parse_input("8x128:int64")
    InputSpec(shape=(8, 128), dtype=torch.int64)
    """
    sizes, colon, dtype = text.partition(":")
    parts = sizes.lower().split("x")
    if not all(part.isascii() and part.isdecimal() and int(part[:99]) > 0 for part in parts):
        raise SourceError(
            f"an input must be positive sizes joined by x, such as 8x3x64x64 or 8x128:int64, but got {text!r}"
        )
    if colon and dtype not in _DTYPES:
        raise SourceError(
            f"no dtype named {dtype!r}{_nearest(dtype, list(_DTYPES))} (known: {', '.join(_DTYPES)})"
        )
    spec = InputSpec(shape=tuple(int(part[:99]) for part in parts), dtype=_DTYPES.get(dtype))
    if math.prod(spec.shape) * (spec.dtype or torch.float32).itemsize >= 2**63:
        raise SourceError(f"an input must have fewer than 2**63 bytes, but {text[:60]!r} has more")
    return spec


def load_model(address: str, *, on_meta: bool = False) -> nn.Module:
    """Return the module that `MODULE:CALLABLE` builds.

    `pkg.mod:factory` is imported, `./net.py:build` is read from the file; `torchvision:resnet18` and
    `timm:resnet18` ask those libraries, where installed, for an untrained model of that name.

    Args:
        address: Where the model is.
        on_meta: Build it without weights, on torch's meta device, where its constructor bears that; with
            weights where it does not.

    Raises:
        SourceError: Nothing there, or it does not build an `nn.Module`.
    """
    home, _, name = address.rpartition(":")
    if home in _LIBRARIES and name:
        library = _LIBRARIES[home]
        return _on_meta(lambda: library(name)) if on_meta else library(name)
    found = _load(address)
    model = found if isinstance(found, nn.Module) else _build(found, address, on_meta=on_meta)
    if not isinstance(model, nn.Module):
        raise SourceError(f"{address} must build a torch.nn.Module, but it returned {type(model).__name__}")
    return model


def load_loss(text: str) -> Callable[..., Tensor] | str:
    """Return a named loss as its name, and `module:callable` as the callable.

    Raises:
        SourceError: No loss of that name, or nothing callable there.
    """
    if ":" not in text:
        if text not in LOSSES:
            raise SourceError(f"{unknown('loss', text, LOSSES)}; or give module:callable")
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
    except (Exception, SystemExit) as error:
        raise SourceError(f"{path} cannot be imported: {_where(error)}") from error
    return module


def _from_import(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise SourceError(
            f"a module must be a dotted name such as mypkg.nets, or a file such as ./net.py, but got {name!r}"
        )
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise SourceError(
            f"cannot import {name!r}: {error}; run where the module is found, or give its file, "
            "such as ./net.py:build"
        ) from error
    except (Exception, SystemExit) as error:
        raise SourceError(f"{name!r} cannot be imported: {_where(error)}") from error


def _build(factory: object, address: str, *, on_meta: bool) -> object:
    if not callable(factory):
        raise SourceError(
            f"{address} must be callable and build a model, but it is a {type(factory).__name__}"
        )
    _check_takes_nothing(factory, address)
    try:
        return _on_meta(factory) if on_meta else cast("object", factory())
    except (Exception, SystemExit) as error:
        hint = "; build the model on the CPU" if "cuda" in str(error).lower() else ""
        raise SourceError(
            f"{address}() must build the model, but it raised: {_where(error)}{hint}"
        ) from error


def _check_takes_nothing(factory: Callable[..., object], address: str) -> None:
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # a builtin without one
        return
    try:
        signature.bind()
    except TypeError as error:
        raise SourceError(
            f"{address}{signature} must build the model without arguments ({error}); write a function "
            "without any that calls it"
        ) from None


def _on_meta(build: Callable[[], _T]) -> _T:
    """Build without weights; again with them where a constructor reads a value."""
    try:
        with torch.device("meta"):
            return build()
    except (Exception, SystemExit):
        return build()


def _where(error: BaseException) -> str:
    """Return the error and the innermost line that is not a library's (a syntax error knows its own)."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{type(error).__name__}: {error.msg} ({error.filename}:{error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    users = [frame for frame in frames if not _is_librarys(frame.filename)]
    last = (users or frames)[-1]
    return f"{text} ({last.filename}:{last.lineno})"


def _is_librarys(filename: str) -> bool:
    path = Path(filename).resolve()
    return filename.startswith("<frozen") or path == _HERE or not _STANDARD.isdisjoint(path.parents)


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
