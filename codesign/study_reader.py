"""Reading a study file: YAML text, overrides, and every problem of it in one error.

Each problem has its path, its line, and the nearest legal name.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from codesign.errors import StudyFileError
from codesign.names import nearest
from codesign.study_file import StudyFile

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


class _UniqueKeyLoader(yaml.SafeLoader):
    """The safe loader, but a key that is written twice is an error rather than silently the last one."""


def _unique_mapping(loader: _UniqueKeyLoader, node: yaml.MappingNode) -> dict[object, object]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    for key in keys:
        if keys.count(key) > 1:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} is written twice", node.start_mark
            )
    return loader.construct_mapping(node, deep=True)


_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def bundled_studies() -> dict[str, Path]:
    """Return the study files that ship with the tool, by name."""
    import studies

    return {path.stem: path for path in sorted(Path(studies.__path__[0]).glob("*.yaml"))}


def find_study(name: str) -> Path:
    """Return the path of a study file, or of the bundled study of that name.

    Raises:
        StudyFileError: there is neither.
    """
    path = Path(name)
    bundled = bundled_studies()
    if path.is_file():
        return path
    if name in bundled:
        return bundled[name]
    raise StudyFileError(
        name,
        (
            f"no such file, and no study of that name ships with the tool.{nearest(name, bundled)} "
            f"Known: {', '.join(bundled)}",
        ),
    )


def load_study(name: str, overrides: Sequence[str] = ()) -> StudyFile:
    """Read and check a study file.

    Args:
        name: a path, or the name of a bundled study.
        overrides: `dotted.key=value` each; the value is read as YAML.

    Raises:
        StudyFileError: every problem of the file at once, each with its path and line.
    """
    path = find_study(name)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StudyFileError(str(path), (f"cannot be read: {error}",)) from None
    return parse_study(text, str(path), overrides)


def parse_study(text: str, source: str, overrides: Sequence[str] = ()) -> StudyFile:
    """Check the text of a study file; see `load_study`."""
    try:
        # Not unsafe: `_UniqueKeyLoader` is a SafeLoader.
        data = yaml.load(text, Loader=_UniqueKeyLoader)
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise StudyFileError(source, (f"not readable as YAML: {' '.join(str(error).split())}",)) from None
    if not isinstance(data, dict):
        raise StudyFileError(source, ("a study file is a mapping of keys to values, but this is not",))
    for override in overrides:
        _override(data, override)
    try:
        return StudyFile.model_validate(data)
    except ValidationError as error:
        raise StudyFileError(source, tuple(_problem(item, tree) for item in error.errors())) from None


def _override(data: dict[str, object], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise StudyFileError("-o", (f"an override reads `dotted.key=value`, but got {override!r}",))
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise StudyFileError("-o", (f"the value of {override!r} is not readable as YAML",)) from None
    *parents, last = key.split(".")
    node: object = data
    for position, part in enumerate(parents):
        if isinstance(node, list) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
            continue
        if not isinstance(node, dict):
            raise StudyFileError("-o", (f"{'.'.join(parents[:position])!r} of {override!r} has no keys",))
        child = node.get(part)
        # `network: small_cnn` is short for `network: {name: small_cnn}`.
        node[part] = {"name": child} if isinstance(child, str) else child if child is not None else {}
        node = node[part]
    if isinstance(node, list) and last.isdigit() and int(last) < len(node):
        node[int(last)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise StudyFileError("-o", (f"{key!r} of {override!r} has no such place",))


def _problem(item: ErrorDetails, tree: yaml.Node | None) -> str:
    """Return one line: path, what is wrong, the value, the nearest legal name, the line of the file."""
    location = item["loc"]
    path = ".".join(str(part) for part in location) or "the study"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        legal = _legal_keys(location[:-1])
        message = f"no such key.{nearest(str(location[-1]), legal)} Known: {', '.join(legal)}"
    elif item["type"] == "missing":
        message = "is required, but missing"
    elif not item["msg"].startswith("Value error"):
        message = f"{message}, but got {item['input']!r}"
    line = _line(tree, location)
    return f"{path}: {message}" + (f" (line {line})" if line else "")


def _legal_keys(location: Sequence[str | int]) -> list[str]:
    """Return the keys that the schema knows at a location."""
    schema: Any = StudyFile.model_json_schema()  # JSON data, walked by JSON Schema's own keys
    definitions = schema["$defs"]

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
        node = inner.get("items", {}) if isinstance(part, int) else inner.get("properties", {}).get(part, {})
    return list(resolved(node).get("properties", {}))


def _line(tree: yaml.Node | None, location: Sequence[str | int]) -> int | None:
    node, line = tree, None
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == str(part)]
            if not found:
                return line
            line, node = found[0][0].start_mark.line + 1, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            return line
    return line
