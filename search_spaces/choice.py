"""The registry of frozen choices, and the one codec that writes and reads them all.

A *choice* is what a knob family decides for one design: a frozen, keyword-only, slotted dataclass whose
fields are numbers, strings, booleans, enums, `None`, tuples of these, or other choices. `@choice` files
it under its class name; from then on it round-trips through JSON as `{"type", "version", "data"}` with
no code of its own:

>>> from search_spaces.sparsity import NM
>>> to_json(NM(n=2, m=4))
{'type': 'NM', 'version': 1, 'data': {'n': 2, 'm': 4, 'masks': 'FROZEN'}}
>>> from_json(to_json(NM(n=2, m=4))) == NM(n=2, m=4)
True
"""

from __future__ import annotations

import difflib
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import ClassVar, Protocol, TypeVar, Union

T = TypeVar("T")

JsonValue = Union[Mapping[str, "JsonValue"], Sequence["JsonValue"], str, int, float, bool, None]  # noqa: UP007
"""What `json.loads` and `yaml.safe_load` give."""


class SpaceError(ValueError):
    """A choice, a space or a stored design breaks one of its rules; the message says which and how.

    Args:
        message: one line a problem.
        key: where in the study file the problems stand, as far as it is known; begins each line.
    """

    def __init__(self, message: str, *, key: str = "") -> None:
        super().__init__(message)
        self.key = key

    def __str__(self) -> str:
        said = super().__str__()
        return "\n".join(f"{self.key}: {line}" for line in said.splitlines()) if self.key else said

    def under(self, name: str) -> SpaceError:
        """Return the same error, its key standing under another one."""
        return SpaceError(str(self.args[0]), key=f"{name}.{self.key}" if self.key else name)


class Choice(Protocol):
    """Any frozen dataclass; that its type is registered is checked where it is written or read."""

    __dataclass_fields__: ClassVar[dict[str, Field[object]]]  # set by @dataclass


_ENVELOPE = frozenset({"type", "version", "data"})


@dataclass(frozen=True, kw_only=True, slots=True)
class _Entry:
    """One registered type: the family it belongs to and the version of its fields."""

    family: str
    version: int
    kind: type


_ENTRIES: dict[str, _Entry] = {}  # filled at import by `@choice` and by nothing else


def choice(*, family: str, version: int = 1) -> Callable[[type[T]], type[T]]:
    """File a frozen dataclass under its class name, as a member of a knob family.

    Args:
        family: the knob family, such as `"quantization"`; several types share one.
        version: raised when the fields change, so that an old file is refused and not misread.

    Raises:
        SpaceError: the class is not a frozen dataclass, or its name is taken.
    """

    def file_under(kind: type[T]) -> type[T]:
        params = getattr(kind, "__dataclass_params__", None)
        if params is None or not params.frozen:
            raise SpaceError(
                f"a choice must be a frozen dataclass, but {kind.__name__} is not: "
                "put @dataclass(frozen=True, kw_only=True, slots=True) under @choice"
            )
        if kind.__name__ in _ENTRIES:
            taken = _ENTRIES[kind.__name__]
            raise SpaceError(
                f"a choice's name must be unique, but {kind.__name__!r} is registered twice: "
                f"by {taken.kind.__module__} and by {kind.__module__}; rename one of them"
            )
        _ENTRIES[kind.__name__] = _Entry(family=family, version=version, kind=kind)
        return kind

    return file_under


def families() -> dict[str, tuple[type, ...]]:
    """Return the registered types by family, both in alphabetical order."""
    grouped: dict[str, list[type]] = {}
    for _, entry in sorted(_ENTRIES.items()):
        grouped.setdefault(entry.family, []).append(entry.kind)
    return {family: tuple(grouped[family]) for family in sorted(grouped)}


def family_of(value: Choice) -> str:
    """Return the family of a choice's type.

    Raises:
        SpaceError: the type is not registered.
    """
    return _entry_of(value).family


def to_json(value: Choice) -> dict[str, JsonValue]:
    """Write a choice as `{"type", "version", "data"}`, nested choices in the same form.

    Raises:
        SpaceError: the type is not registered, or a field holds what JSON cannot say exactly.
    """
    entry = _entry_of(value)
    data = {
        field.name: _encode(getattr(value, field.name), f"{entry.kind.__name__}.{field.name}")
        for field in _fields(entry.kind)
    }
    return {"type": entry.kind.__name__, "version": entry.version, "data": data}


def from_json(document: JsonValue) -> Choice:
    """Read a choice back from what `to_json` wrote; equal to the original, type by type.

    Raises:
        SpaceError: an unknown type, another version, a missing, unknown or wrongly typed field, or
            values that the type itself refuses.
    """
    return _decode_choice(document, "$")


def nearest(name: str, known: Sequence[str]) -> str:
    """Return the sentence that ends a message about an unknown name: the nearest one and the list."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"{hint} Known: {', '.join(sorted(known)) or 'none'}."


def _entry_of(value: object) -> _Entry:
    entry = _ENTRIES.get(type(value).__name__)
    if entry is None or entry.kind is not type(value):
        raise SpaceError(
            f"a choice must be of a registered type, but {value!r} is a {type(value).__name__}: "
            "put @choice(family=...) on its class"
        )
    return entry


def _fields(kind: type) -> tuple[Field[object], ...]:
    assert is_dataclass(kind)  # `choice` lets nothing else in
    return fields(kind)


def _encode(value: object, path: str) -> JsonValue:
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, float) and not math.isfinite(value):
        raise SpaceError(f"{path} must be finite to be written as JSON, but it is {value}")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, tuple):
        return [_encode(item, f"{path}[{position}]") for position, item in enumerate(value)]
    if is_dataclass(value) and not isinstance(value, type):
        return to_json(value)
    raise SpaceError(
        f"{path} must hold numbers, strings, enums, tuples or choices, but it holds a "
        f"{type(value).__name__}: {value!r}"
    )


def _decode_choice(document: JsonValue, path: str) -> Choice:
    if not isinstance(document, Mapping) or set(document) != _ENVELOPE:
        raise SpaceError(
            f"{path} must be a choice with exactly the keys type, version, data, but is {document!r}"
        )
    name, version, data = document["type"], document["version"], document["data"]
    if not isinstance(name, str) or name not in _ENTRIES:
        raise SpaceError(f"{path}: no choice is named {name!r}.{nearest(str(name), list(_ENTRIES))}")
    entry = _ENTRIES[name]
    if version != entry.version:
        raise SpaceError(
            f"{path}: {name} must have version {entry.version}, but the file has {version!r}; "
            "write the file again with this version of the tool"
        )
    if not isinstance(data, Mapping):
        raise SpaceError(f"{path}.data must map field names to values, but is {data!r}")
    arguments = _decode_fields(entry.kind, data, f"{path}.data")
    try:
        value: Choice = entry.kind(**arguments)
        return value
    except SpaceError as error:
        raise SpaceError(f"{path}: {error}") from error


def _decode_fields(kind: type, data: Mapping[str, JsonValue], path: str) -> dict[str, object]:
    members = {field.name: field for field in _fields(kind)}
    unknown = sorted(set(data) - set(members))
    if unknown:
        known = nearest(unknown[0], list(members))
        raise SpaceError(f"{path}: {kind.__name__} has no field {unknown[0]!r}.{known}")
    missing = [
        name
        for name, field in members.items()
        if name not in data and field.default is MISSING and field.default_factory is MISSING
    ]
    if missing:
        raise SpaceError(f"{path}: {kind.__name__} needs the field {missing[0]!r}, but it is missing")
    hints = _hints(kind)
    return {name: _decode(data[name], hints[name], f"{path}.{name}") for name in members if name in data}


@cache
def _hints(kind: type) -> dict[str, object]:
    return typing.get_type_hints(kind)  # compiles each annotation anew


def _decode(document: JsonValue, hint: object, path: str) -> object:
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        return _decode_union(document, typing.get_args(hint), path)
    if origin is tuple:
        return _decode_tuple(document, typing.get_args(hint), path)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _decode_enum(document, hint, path)
    if hint in (bool, int, float, str, type(None)):
        return _decode_scalar(document, hint, path)
    value = _decode_choice(document, path)
    if isinstance(hint, type) and hint is not Choice and not isinstance(value, hint):
        raise SpaceError(f"{path} must be a {hint.__name__}, but is a {type(value).__name__}")
    return value


def _decode_scalar(document: JsonValue, hint: object, path: str) -> object:
    assert isinstance(hint, type)  # `_decode` passes scalar types only
    if hint is float and type(document) is int:
        return float(document)  # a hand-written `density: 1`
    if type(document) is not hint:
        raise SpaceError(f"{path} must be a {hint.__name__}, but is {document!r}")
    return document


def _decode_enum(document: JsonValue, hint: type[Enum], path: str) -> Enum:
    names = list(hint.__members__)
    if not isinstance(document, str) or document not in hint.__members__:
        raise SpaceError(f"{path}: no {hint.__name__} is named {document!r}.{nearest(str(document), names)}")
    return hint[document]


def _decode_tuple(document: JsonValue, arguments: tuple[object, ...], path: str) -> tuple[object, ...]:
    if isinstance(document, str) or not isinstance(document, Sequence):
        raise SpaceError(f"{path} must be a list, but is {document!r}")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        arguments = (arguments[0],) * len(document)
    if len(arguments) != len(document):
        raise SpaceError(f"{path} must have {len(arguments)} items, but has {len(document)}: {document!r}")
    return tuple(
        _decode(item, hint, f"{path}[{position}]")
        for position, (item, hint) in enumerate(zip(document, arguments, strict=True))
    )


def _decode_union(document: JsonValue, hints: tuple[object, ...], path: str) -> object:
    """Decode by the first member that takes the value as it stands; an exact scalar type goes first."""
    exact = [hint for hint in hints if hint is type(document)]
    problems: list[str] = []
    for hint in [*exact, *(hint for hint in hints if hint not in exact)]:
        try:
            return _decode(document, hint, path)
        except SpaceError as error:
            problems.append(str(error))
    raise SpaceError(f"{path} fits none of its {len(hints)} forms: {'; '.join(problems)}")
