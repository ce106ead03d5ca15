"""The accelerator knob family: which chip, and its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from hw_templates import templates
from hw_templates.accelerator import Accelerator
from search_spaces.ask import Ask
from search_spaces.choice import SpaceError, choice

ParameterValue = int | float | str


@choice(family="accelerator")
@dataclass(frozen=True, kw_only=True, slots=True)
class AcceleratorChoice:
    """A chip: a template of the catalog (or a template file) and the parameters that differ from its own.

    `parameters` is sorted by name and never repeats a default, so equal chips are equal choices.
    """

    template: str
    parameters: tuple[tuple[str, ParameterValue], ...] = ()

    def __post_init__(self) -> None:
        names = [name for name, _ in self.parameters]
        if names != sorted(set(names)):
            raise SpaceError(f"`parameters` must be sorted by name and name each once, but got {names}")

    def build(self) -> Accelerator:
        """Return the accelerator; raises `HardwareError` where a parameter is not the template's."""
        return templates.load(self.template).build(dict(self.parameters))


def accelerator_choice(template: str, parameters: Mapping[str, ParameterValue]) -> AcceleratorChoice:
    """Return the canonical choice: sorted, and without what the template has by default."""
    knobs = templates.load(template).knobs
    differing = {
        name: value for name, value in parameters.items() if name not in knobs or knobs[name].default != value
    }
    return AcceleratorChoice(template=template, parameters=tuple(sorted(differing.items())))


class AcceleratorSpace(BaseModel):
    """Which templates, and which of their knobs, may be chosen.

    `templates` is a list of names (every knob of each is searched over its declared range) or a mapping
    from a name to the knobs to search; a knob that is not named keeps the template's default.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    templates: dict[str, dict[str, tuple[ParameterValue, ...]]] = Field(
        description="Template names, or a mapping from a template to its knobs and their values."
    )

    @field_validator("templates", mode="before")
    @classmethod
    def _read(cls, value: object) -> object:
        if isinstance(value, str):
            value = [value]
        if isinstance(value, list | tuple):
            return {_address(str(name)): _declared(str(name)) for name in value}
        if isinstance(value, Mapping):
            return {_address(str(name)): _named(str(name), knobs) for name, knobs in value.items()}
        return value

    @field_validator("templates")
    @classmethod
    def _legal(
        cls, value: dict[str, dict[str, tuple[ParameterValue, ...]]]
    ) -> dict[str, dict[str, tuple[ParameterValue, ...]]]:
        if not value:
            raise ValueError("at least one template must be given")
        for name, knobs in value.items():
            template = templates.load(name)
            for knob, values in knobs.items():
                for one in values:
                    template.build({knob: one})
        return value

    def reference(self) -> dict[str, object]:
        """Return the section of the default reference design: the first template as its file has it."""
        return {"templates": {next(iter(self.templates)): {}}}

    def suggest(self, ask: Ask) -> AcceleratorChoice:
        """Ask for the template, then for that template's knobs only."""
        name = ask.categorical("accelerator.template", tuple(self.templates))
        parameters = {
            knob: ask.categorical(f"{name}.{knob}", tuple(str(value) for value in values))
            if any(isinstance(value, str) for value in values)
            else ask.ordinal(f"{name}.{knob}", tuple(value for value in values if not isinstance(value, str)))
            for knob, values in self.templates[name].items()
        }
        return accelerator_choice(name, parameters)

    def pinned(self) -> AcceleratorSpace:
        """Return this space with every knob that it does not name pinned at the template's default."""
        pinned = {
            name: {knob: (declared.default,) for knob, declared in templates.load(name).knobs.items()} | knobs
            for name, knobs in self.templates.items()
        }
        return AcceleratorSpace.model_validate({"templates": pinned})


def _address(name: str) -> str:
    """Return a template file's absolute path, so that it is found from any folder; names stay names."""
    path = Path(name)
    return str(path.resolve()) if path.suffix in (".yaml", ".yml") and path.is_file() else name


def _declared(template: str) -> dict[str, tuple[ParameterValue, ...]]:
    return {name: tuple(knob.values) for name, knob in templates.load(template).knobs.items()}


def _named(template: str, knobs: object) -> object:
    if knobs is None:
        return {}
    if knobs == "all":
        return _declared(template)
    if isinstance(knobs, Mapping):
        return {
            str(knob): tuple(values) if isinstance(values, list | tuple) else (values,)
            for knob, values in knobs.items()
        }
    return knobs
