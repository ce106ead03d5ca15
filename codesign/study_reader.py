"""Reading a study file: YAML text, overrides, and every problem of it in one error.

Each problem has its path, its line, and the nearest legal name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml
from pydantic import ValidationError

from codesign.errors import StudyFileError
from codesign.study_file import StudyFile
from hw_templates.names import nearest
from hw_templates.wording import worded
from hw_templates.yaml_text import YAML_ERRORS, parse_yaml, unreadable
from search_spaces.choice import SpaceError


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
    if path.is_dir() and name:
        known = (path / "manifest.json").is_file()
        way_out = f"a run folder: `cosearch resume {name}` continues it" if known else "a folder: name a file"
        raise StudyFileError(name, (f"this is {way_out}",))
    raise StudyFileError(
        name or "''",
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
        data = parse_yaml(text)
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
    except YAML_ERRORS as error:
        raise StudyFileError(source, (unreadable(error, "a study file"),)) from None
    if not isinstance(data, dict):
        raise StudyFileError(source, ("a study file is a mapping of keys to values, but this is not",))
    for override in overrides:
        _override(data, override)
    try:
        return StudyFile.model_validate(data)
    except ValidationError as error:
        raise StudyFileError(source, _problems(error, tree)) from None


@contextmanager
def said_of(name: str) -> Iterator[None]:
    """Say of which file, and which line, it is what only the network's layers show to be wrong.

    Raises:
        StudyFileError: a `SpaceError` was raised inside.
    """
    try:
        yield
    except SpaceError as error:
        path = find_study(name)
        tree = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        problems = []
        for line in str(error).splitlines():
            key, colon, rest = line.partition(": ")
            problems.append(_told(key.split("."), rest, tree) if colon else line)
        raise StudyFileError(str(path), tuple(problems)) from None


def _override(data: dict[str, object], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise StudyFileError("-o", (f"an override reads `dotted.key=value`, but got {override!r}",))
    try:
        value = parse_yaml(text)
    except YAML_ERRORS as error:
        raise StudyFileError(
            "-o", (f"the value of {override!r} is {unreadable(error, 'a study file')}",)
        ) from None
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


def _problems(error: ValidationError, tree: yaml.Node | None) -> tuple[str, ...]:
    """Return one line a problem: path, what is wrong, the value, the nearest legal name, the file's line.

    A list whose entries are wrong is not said to be too short as well.
    """
    items = error.errors()
    told: list[str] = []
    for item in items:
        location, message = item["loc"], worded(item, StudyFile)
        inside = any(
            len(one["loc"]) > len(location) and one["loc"][: len(location)] == location for one in items
        )
        if item["type"] == "too_short" and inside:
            continue
        for said in message.splitlines() if not location else [message]:
            path, colon, rest = said.partition(": ")
            if not location and colon and path.split(".")[0] in StudyFile.model_fields:
                told.append(_told(path.split("."), rest, tree))  # said of a part by a check of the whole
            else:
                told.append(_told(location, said, tree))
    return tuple(told)


def _told(location: Sequence[str | int], message: str, tree: yaml.Node | None) -> str:
    line = _line(tree, location)
    path = ".".join(str(part) for part in location) or "the study"
    return f"{path}: {message}" + (f" (line {line})" if line else "")


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
