"""What pydantic's problem with a section is in our words: the law, the value, and the nearest legal one."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from types import NoneType
from typing import TYPE_CHECKING, Any

from hw_templates.names import nearest

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

_KINDS = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "dict_type": "must be a mapping of keys to values",
    "finite_number": "must be a finite number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number of fewer digits",
    "int_type": "must be a whole number",
    "invalid_key": "a key must be text",
    "path_type": "must be a path",
    "string_too_short": "must not be empty",
    "string_type": "must be text",
    "too_short": "must not be empty",
    "tuple_type": "must be a list",
}
_BOUNDS = {
    "greater_than": ("must be above", "gt"),
    "greater_than_equal": ("must be at least", "ge"),
    "less_than": ("must be below", "lt"),
    "less_than_equal": ("must be at most", "le"),
}
_SCIENTIFIC = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


def worded(item: ErrorDetails, model: type[BaseModel]) -> str:
    """Return what is wrong, without where.

    Args:
        item: one of pydantic's own problems.
        model: what was to be read; its keys answer a key that is not there.
    """
    kind, value, context = item["type"], item["input"], item.get("ctx", {})
    if kind == "value_error":
        return item["msg"].removeprefix("Value error, ")
    if kind == "missing":
        return "is required, but missing"
    if kind == "extra_forbidden":
        keys = _legal_keys(model, item["loc"][:-1])
        return f"no such key.{nearest(str(item['loc'][-1]), keys)} Known: {', '.join(keys)}"
    if kind == "model_type":
        law = f"must be a mapping of keys to values (keys: {', '.join(_legal_keys(model, item['loc']))})"
    elif kind in ("literal_error", "enum"):
        return _of_list(value, re.findall(r"'([^']*)'", context["expected"]) or [context["expected"]])
    elif kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        law = f"{words} {_plain(context[bound])}" if _is_finite(value) else "must be a finite number"
    elif kind == "string_pattern_mismatch":
        law = f"must match {context['pattern']}"
    else:
        law = _KINDS.get(kind, item["msg"])
    hint = ""
    if kind == "int_parsing" and _SCIENTIFIC.fullmatch(str(value)) and float(value).is_integer():
        hint = f"; YAML reads that as text: write {int(float(value))}"
    if kind == "string_type" and not isinstance(value, list | dict | NoneType):
        return f"{law}, but got {str(value)!r} without quotes; put it in quotes"
    return f"{law}, but got {value!r}{hint}"


def _of_list(value: object, legal: Sequence[str]) -> str:
    law = f"must be {legal[0]}" if len(legal) == 1 else f"must be one of {', '.join(legal)}"
    if isinstance(value, bool) and {"on", "off"} & set(legal):
        return f"{law}, but got {value}: YAML reads on and off so; put it in quotes"
    return f"{law}, but got {value!r}.{nearest(str(value), legal)}".removesuffix(".")


def _plain(bound: float) -> str:
    return f"{bound:g}" if isinstance(bound, float) else str(bound)


def _is_finite(value: object) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def _legal_keys(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """Return the keys that a model's schema knows at a location."""
    schema: Any = model.model_json_schema()  # JSON data, walked by JSON Schema's own keys
    definitions = schema.get("$defs", {})

    def resolved(node: Any) -> Any:
        while "properties" not in node:
            options = [option for option in node.get("anyOf", node.get("allOf", [])) if "$ref" in option]
            reference = node.get("$ref") or (options[0]["$ref"] if options else None)
            if reference is None:
                break
            node = definitions[reference.rsplit("/", 1)[-1]]
        return node

    node = schema
    for part in location:
        inner = resolved(node)
        if isinstance(part, int):
            node = inner.get("items", {})
        else:
            node = inner.get("properties", {}).get(part, inner.get("additionalProperties", {}))
        if not isinstance(node, dict):
            return []
    return list(resolved(node).get("properties", {}))
