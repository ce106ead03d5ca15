"""Templates: chips with knobs. A YAML file in `hw_templates/catalog/`, or any file of the same form.

A template file holds `title`, `source`, `knobs` and `chip`. Wherever a chip's value is text, `$name` in it
stands for the knob's value: `capacity: $global_buffer_kib KiB`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from itertools import chain, pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from hw_templates import chip_file
from hw_templates.accelerator import Accelerator, HardwareError

KnobValue = int | float | str
NO_PARAMETERS: Final[Mapping[str, KnobValue]] = MappingProxyType({})
_REFERENCE: Final = re.compile(r"\$([a-z_][a-z0-9_]*)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Knob:
    """A field that the search may vary; `values` are the legal ones, in ascending order."""

    name: str
    values: tuple[KnobValue, ...]
    default: KnobValue
    unit: str
    description: str


class _KnobSection(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    values: Annotated[tuple[int | float | str, ...], Field(min_length=1)]
    default: int | float | str
    unit: str
    description: Annotated[str, Field(min_length=1)]


class _TemplateFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    title: Annotated[str, Field(min_length=1)]
    source: Annotated[str, Field(min_length=1)]
    knobs: dict[str, _KnobSection] = {}
    chip: dict[str, object]


@dataclass(frozen=True, kw_only=True, slots=True)
class AcceleratorTemplate:
    """A parametric chip: what it is, where its numbers are from, and what the search may vary."""

    name: str
    title: str
    source: str
    knobs: Mapping[str, Knob]
    chip: Mapping[str, object]
    where: str

    def build(self, parameters: Mapping[str, KnobValue] = NO_PARAMETERS) -> Accelerator:
        """Return the chip with `parameters`; knobs that are not named keep their defaults.

        Raises:
            HardwareError: for an unknown knob or a value that is not legal; the message has those that are.
        """
        problems = [problem for knob, value in parameters.items() if (problem := self._fault(knob, value))]
        if problems:
            raise HardwareError(f"{self.name}: " + "; ".join(problems))
        values = {name: knob.default for name, knob in self.knobs.items()} | dict(parameters)
        data = _substitute(self.chip, values)
        section = chip_file.read_model(chip_file.ChipSection, data, where=f"{self.where} (chip)")
        return chip_file.build(section, name=self.name, source=self.source)

    def _fault(self, knob: str, value: KnobValue) -> str | None:
        if knob not in self.knobs:
            near = difflib.get_close_matches(knob, self.knobs, n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            return f"there is no knob {knob!r}{hint} Legal knobs: {', '.join(self.knobs)}"
        legal = self.knobs[knob].values
        if value not in legal:
            return f"{knob} must be one of {list(legal)}, but got {value!r}"
        return None


@cache
def names() -> tuple[str, ...]:
    """Return the names of the catalog's templates, sorted."""
    folder = resources.files("hw_templates.catalog")
    return tuple(sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".yaml")))


def load(name_or_path: str) -> AcceleratorTemplate:
    """Return a template of the catalog by its name, or one from a file by its path.

    Raises:
        HardwareError: if there is none (with the nearest name), or if its file has faults (all of them).
    """
    if name_or_path in names():
        return _from_catalog(name_or_path)
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise HardwareError(f"there is no template file {name_or_path!r}")
        state = path.stat()
        return _from_file(path, state.st_mtime_ns, state.st_size)
    near = difflib.get_close_matches(name_or_path, names(), n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise HardwareError(
        f"there is no accelerator template {name_or_path!r}{hint} Known: {', '.join(names())}; "
        "a template of your own is given as the path of its .yaml file"
    )


@cache
def _from_catalog(name: str) -> AcceleratorTemplate:
    text = (resources.files("hw_templates.catalog") / f"{name}.yaml").read_text("utf-8")
    return parse(text, name=name, where=f"catalog/{name}.yaml")


@lru_cache(maxsize=64)
def _from_file(path: Path, changed_ns: int, size: int) -> AcceleratorTemplate:
    """Return the template of a file as it was last changed: reading it takes as long as building hundreds."""
    return parse(path.read_text("utf-8"), name=path.stem, where=str(path))


def parse(text: str, *, name: str, where: str) -> AcceleratorTemplate:
    """Return the template in `text`, with its default chip built once so that faults show now.

    Raises:
        HardwareError: with `where`, and the path, value and legal choices of every problem.
    """
    file = chip_file.read_model(_TemplateFile, chip_file.read_yaml(text, where=where), where=where)
    knobs = {}
    problems = []
    for label, section in file.knobs.items():
        knob = Knob(
            name=label,
            values=section.values,
            default=section.default,
            unit=section.unit,
            description=section.description,
        )
        if knob.default not in knob.values:
            problems.append(f"knobs.{label}.default must be one of {list(knob.values)}, got {knob.default!r}")
        if _unordered(knob.values):
            problems.append(f"knobs.{label}.values must ascend without repeats, but got {list(knob.values)}")
        knobs[label] = knob
    used = sorted(_references(file.chip))
    problems += [f"knobs.{label} is used nowhere in chip" for label in knobs if label not in used]
    problems += [
        f"${name} in chip is no knob; knobs: {', '.join(knobs)}" for name in used if name not in knobs
    ]
    if problems:
        raise HardwareError(f"{where} has {len(problems)} problem(s):\n  " + "\n  ".join(problems))
    template = AcceleratorTemplate(
        name=name,
        title=file.title,
        source=file.source,
        knobs=MappingProxyType(knobs),
        chip=MappingProxyType(file.chip),
        where=where,
    )
    template.build()
    return template


def _unordered(values: tuple[KnobValue, ...]) -> bool:
    numbers = [value for value in values if not isinstance(value, str)]
    if len(numbers) != len(values):
        return len(set(values)) != len(values)
    return any(low >= high for low, high in pairwise(numbers))


def _references(value: object) -> set[str]:
    if isinstance(value, str):
        return set(_REFERENCE.findall(value))
    if isinstance(value, Mapping):
        return set(chain.from_iterable(_references(item) for item in value.values()))
    if isinstance(value, list):
        return set(chain.from_iterable(_references(item) for item in value))
    return set()


def _substitute(value: object, knobs: Mapping[str, KnobValue]) -> object:
    """Return `value` with `$name` replaced; text that is nothing but a reference takes the knob's type."""
    if isinstance(value, str):
        whole = _REFERENCE.fullmatch(value)
        if whole:
            return knobs[whole.group(1)]
        return _REFERENCE.sub(lambda match: str(knobs[match.group(1)]), value) if "$" in value else value
    if isinstance(value, Mapping):
        return {key: _substitute(item, knobs) for key, item in value.items()}
    if isinstance(value, list):
        return [_substitute(item, knobs) for item in value]
    return value
