"""YAML as files hold it: plain data, in which no key is written twice."""

from __future__ import annotations

import yaml


class _UniqueKeyLoader(yaml.SafeLoader):
    """The safe loader, but a key that is written twice is an error rather than silently the last one."""


def _unique_mapping(loader: _UniqueKeyLoader, node: yaml.MappingNode) -> dict[object, object]:
    seen: list[object] = []
    for place, _ in node.value:
        if place.tag == "tag:yaml.org,2002:merge":  # `<<: *other`; what is written here too wins
            continue
        key = loader.construct_object(place)
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} is written twice", place.start_mark
            )
        seen.append(key)
    return loader.construct_mapping(node, deep=True)


_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)
# ValueError: a date that there is not, an integer too long for Python. TypeError: a list as a key.
YAML_ERRORS = (yaml.YAMLError, RecursionError, ValueError, TypeError)


def parse_yaml(text: str) -> object:
    """Return the data in `text`; raises one of `YAML_ERRORS`, which `unreadable` puts into words."""
    # Not unsafe: `_UniqueKeyLoader` is a SafeLoader.
    return yaml.load(text, Loader=_UniqueKeyLoader)


def unreadable(error: Exception, what: str) -> str:
    """Return in one line what of a text is not YAML, and where; `what` names such files ("a study file")."""
    if isinstance(error, RecursionError):
        return "not readable as YAML: it is nested too deeply, or contains itself"
    if not isinstance(error, yaml.MarkedYAMLError):
        return f"not readable as YAML: {' '.join(str(error).split(';')[0].split())}"
    problem = str(error.problem)
    if "could not determine a constructor" in problem:
        tag = problem.rpartition(" ")[2].strip("'").replace("tag:yaml.org,2002:", "!!")
        problem = f"{what} is plain data, but the tag {tag} asks for something to be built; leave it out"
    mark = error.problem_mark
    where = f" (line {mark.line + 1})" if mark is not None else ""
    context = f"{error.context}: " if error.context else ""
    return f"not readable as YAML: {context}{problem}{where}"
