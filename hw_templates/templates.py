"""Templates: chips with knobs. A YAML file in `hw_templates/catalog/`, or any file of the same form.

A template file holds `title`, `source`, `knobs` and `chip`. Wherever a chip's value is text, `$name` in it
stands for the knob's value: `capacity: $global_buffer_kib KiB`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from hw_templates import chip_file
from hw_templates.accelerator import Accelerator, HardwareError
from hw_templates.chip_faults import Fault, refuse, section_faults
from hw_templates.names import nearest

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
        section = chip_file.read_model(chip_file.ChipSection, data, where=self.where, under="chip")
        try:
            return chip_file.build(section, name=self.name, source=self.source)
        except HardwareError as error:
            raise HardwareError(f"{self.where}: {error}") from error

    def _fault(self, knob: str, value: KnobValue) -> str | None:
        if knob not in self.knobs:
            legal_knobs = ", ".join(self.knobs) or "none"
            return f"there is no knob {knob!r}.{nearest(knob, self.knobs)} Legal knobs: {legal_knobs}"
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
    raise HardwareError(
        f"there is no accelerator template {name_or_path!r}.{nearest(name_or_path, names())} "
        f"Known: {', '.join(names())}; "
        "a template of your own is given as the path of its .yaml file"
    )


@cache
def _from_catalog(name: str) -> AcceleratorTemplate:
    text = (resources.files("hw_templates.catalog") / f"{name}.yaml").read_text("utf-8")
    return parse(text, name=name, where=f"catalog/{name}.yaml")


@lru_cache(maxsize=64)
def _from_file(path: Path, changed_ns: int, size: int) -> AcceleratorTemplate:
    """Return the template of a file as it was last changed: reading it takes as long as building hundreds."""
    return parse(chip_file.read_text(path), name=path.stem, where=str(path))


def parse(text: str, *, name: str, where: str) -> AcceleratorTemplate:
    """Return the template in `text`, its chip checked with every value of every knob, and built once.

    Raises:
        HardwareError: with `where`, and the path, value and legal choices of every problem.
    """
    data = chip_file.read_yaml(text, where=where)
    refuse([*section_faults(_TemplateFile, data), *_knob_faults(data), *_chip_faults(data)], where)
    file = _TemplateFile.model_validate(data)
    template = AcceleratorTemplate(
        name=name,
        title=file.title,
        source=file.source,
        knobs=MappingProxyType({label: _knob(label, section) for label, section in file.knobs.items()}),
        chip=MappingProxyType(file.chip),
        where=where,
    )
    template.build()
    return template


def _knob(label: str, section: _KnobSection) -> Knob:
    return Knob(
        name=label,
        values=section.values,
        default=section.default,
        unit=section.unit,
        description=section.description,
    )


def _sound_knobs(data: Mapping[str, object]) -> dict[str, _KnobSection]:
    """Return the knobs that can be read; the faults of the others are told by `section_faults`."""
    knobs = data.get("knobs")
    sound = {}
    for label, knob in knobs.items() if isinstance(knobs, Mapping) else ():
        if not section_faults(_KnobSection, knob):
            sound[str(label)] = _KnobSection.model_validate(knob)
    return sound


def _knob_faults(data: Mapping[str, object]) -> list[Fault]:
    faults = []
    knobs = data.get("knobs")
    known = [str(label) for label in knobs] if isinstance(knobs, Mapping) else []
    for label, knob in _sound_knobs(data).items():
        values = list(knob.values)
        if knob.default not in values:
            law = f"must be one of {values}, but got {knob.default!r}"
            faults.append(Fault(f"knobs.{label}.default", law))
        if _unordered(knob.values):
            faults.append(Fault(f"knobs.{label}.values", f"must ascend without repeats, but got {values}"))
    references = _references(data.get("chip"), "chip")
    used = {name for name, _ in references}
    faults += [Fault(f"knobs.{label}", "is used nowhere in chip") for label in known if label not in used]
    legal = ", ".join(known) or "none"
    for name, path in references:
        if name not in known:
            message = f"${name} is no knob.{nearest(name, known)} Knobs: {legal}"
            faults.append(Fault(path, message))
    return faults


def _chip_faults(data: Mapping[str, object]) -> list[Fault]:
    """Return the faults of the default chip, and those that one knob's value alone adds to it."""
    chip = data.get("chip")
    if not isinstance(chip, Mapping):
        return []
    knobs = _sound_knobs(data)
    defaults = {label: knob.default for label, knob in knobs.items()}
    faults = _faults_with(chip, defaults)
    told = {fault.path for fault in faults}
    for label, knob in knobs.items():
        for value in knob.values:
            for fault in _faults_with(chip, defaults | {label: value}) if value != knob.default else ():
                if fault.path not in told:
                    message = f"with {value!r} of {list(knob.values)}: {fault.path} {fault.message}"
                    faults.append(Fault(f"knobs.{label}.values", message))
    return faults


def _faults_with(chip: Mapping[str, object], values: Mapping[str, KnobValue]) -> list[Fault]:
    """Return a chip's faults with these values; what holds a reference to no sound knob is not judged."""
    found = chip_file.chip_faults(_substitute(chip, values))
    return [fault for fault in found if not _REFERENCE.search(fault.message)]


def _unordered(values: tuple[KnobValue, ...]) -> bool:
    numbers = [value for value in values if not isinstance(value, str)]
    if len(numbers) != len(values):
        return len(set(values)) != len(values)
    return any(low >= high for low, high in pairwise(numbers))


def _references(value: object, path: str) -> list[tuple[str, str]]:
    """Return the names that a value refers to, each with the dotted path of where."""
    if isinstance(value, str):
        return [(name, path) for name in _REFERENCE.findall(value)]
    if isinstance(value, Mapping):
        return [found for key, item in value.items() for found in _references(item, f"{path}.{key}")]
    if isinstance(value, list):
        return [found for at, item in enumerate(value) for found in _references(item, f"{path}.{at}")]
    return []


def _substitute(value: object, knobs: Mapping[str, KnobValue]) -> object:
    """Return `value` with each `$knob` replaced; text that is a reference alone takes the knob's type."""
    if isinstance(value, str):
        whole = _REFERENCE.fullmatch(value)
        if whole:
            return knobs.get(whole.group(1), value)
        return (
            _REFERENCE.sub(lambda match: str(knobs.get(match.group(1), match.group(0))), value)
            if "$" in value
            else value
        )
    if isinstance(value, Mapping):
        return {key: _substitute(item, knobs) for key, item in value.items()}
    if isinstance(value, list):
        return [_substitute(item, knobs) for item in value]
    return value
