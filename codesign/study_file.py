"""The question, as checked data: every problem of a file in one error, each with its path.

The sections are in `codesign/sections/`; here is what they are together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, cast

import yaml
from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from codesign.sections.budget import Budget
from codesign.sections.data import Dataset, Network
from codesign.sections.executor import Executor, LocalProcesses, read_executor
from codesign.sections.goals import Constraint, Objective, read_constraint, read_objective, some_objectives
from codesign.sections.search import Fidelity, HardwareSweep, Sampler, WarmStart
from codesign.sections.section import Section, read_named
from evaluators.learning.recipe import Recipe
from evaluators.scores import Source, score_kinds
from hw_templates.names import nearest
from hw_templates.wording import worded
from search_spaces.space import BaseSpace, Space

Yaml: TypeAlias = "dict[str, Yaml] | list[Yaml] | str | int | float | bool | None"


class StudyFile(Section):
    """One study: what may be chosen, what counts, on what data, and how long to look."""

    version: Literal[1] = 1
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="Names the run folder.")
    description: str = Field(default="", description="The question, in a sentence.")
    network: Annotated[Network, BeforeValidator(read_named)]
    dataset: Annotated[Dataset, BeforeValidator(read_named)]
    space: Space  # type: ignore[valid-type]  # built from the registered families
    reference: dict[str, dict[str, object]] = Field(
        default_factory=dict,
        description="The design every result is a gain over: the space's sections with one value a knob. "
        "Always trial 0. What it leaves out: 8-bit dense layers, the first template as its file has it.",
    )
    objectives: Annotated[
        tuple[Annotated[Objective, BeforeValidator(read_objective)], ...], BeforeValidator(some_objectives)
    ] = Field(min_length=1)
    constraints: tuple[Annotated[Constraint, BeforeValidator(read_constraint)], ...] = ()
    training: Recipe = Field(default_factory=Recipe)
    sampler: Annotated[Sampler, BeforeValidator(read_named)] = Field(default_factory=Sampler)
    fidelity: Fidelity | None = Field(default=None, description="Stop the worse trials early.")
    hardware_sweep: HardwareSweep | None = Field(
        default=None, description="Score every trained half on many accelerators."
    )
    warm_start: WarmStart | None = Field(default=None, description="Begin with an earlier run's designs.")
    seed: int = Field(default=0, ge=0, lt=2**63)
    budget: Budget
    storage: str = Field(
        default="journal", description="journal (a file in the run folder), or any Optuna storage URL."
    )
    shared_cache: Path | None = Field(
        default=None,
        description="Folder of trained halves that studies share: what one has trained, another reads. "
        "Beside the run's own cache; networks and data of the user's own code are never shared.",
    )
    executor: Annotated[Executor, BeforeValidator(read_executor)] = Field(
        default_factory=lambda: Executor(local=LocalProcesses())
    )

    @field_validator("objectives")
    @classmethod
    def _distinct(cls, value: tuple[Objective, ...]) -> tuple[Objective, ...]:
        names = [objective.name for objective in value]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"each objective may be named once, but these come again: {', '.join(repeated)}")
        reported = [objective.name for objective in value if not objective.kind.searchable]
        if reported:
            raise ValueError(
                f"{', '.join(reported)} is reported only, never searched on: choosing by it would spoil it. "
                "Use 'validation_accuracy'"
            )
        return value

    @field_validator("shared_cache")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()  # workers may run elsewhere

    @field_validator("storage")
    @classmethod
    def _same_from_everywhere(cls, value: str) -> str:
        return absolute_storage(value)

    @field_validator("constraints")
    @classmethod
    def _searchable(cls, value: tuple[Constraint, ...]) -> tuple[Constraint, ...]:
        for constraint in value:
            if not score_kinds()[constraint.score].searchable:
                raise ValueError(f"{constraint.score} is reported only; constrain 'validation_accuracy'")
        return value

    @property
    def space_(self) -> BaseSpace:
        """The space, typed."""
        return cast(BaseSpace, self.space)

    @property
    def reference_space(self) -> BaseSpace:
        """The reference design as a space of one value a knob.

        Raises:
            ValidationError: a section of `reference` is not a section of the space.
        """
        space = self.space_
        sections: dict[str, object] = {}
        for name in type(space).model_fields:
            section = getattr(space, name)
            sections[name] = section.model_dump() | section.reference() | self.reference.get(name, {})
        chip = sections["accelerator"]
        if isinstance(chip, dict) and isinstance(chip.get("templates"), str):
            # In a reference a bare name is the chip as its file has it, not a search over its knobs.
            sections["accelerator"] = {"templates": {chip["templates"]: {}}}
        unknown = {name: values for name, values in self.reference.items() if name not in sections}
        pinned: BaseSpace = Space.model_validate(sections | unknown)
        return pinned.model_copy(update={"accelerator": pinned.accelerator.pinned()})

    @model_validator(mode="after")
    def _one_reference(self) -> StudyFile:
        try:
            reference = self.reference_space
        except ValidationError as error:
            problems = "\n".join(
                f"reference.{'.'.join(map(str, item['loc']))}: {worded(item, Space)}"
                for item in error.errors()
            )
            raise ValueError(problems) from None
        if len(reference.accelerator.templates) > 1:
            raise ValueError("reference.accelerator.templates: a reference design has one chip")
        return self

    @model_validator(mode="after")
    def _scored_by_the_data(self) -> StudyFile:
        asked = [objective.name for objective in self.objectives]
        asked += [constraint.score for constraint in self.constraints]
        kinds = score_kinds()
        untold = [name for name in dict.fromkeys(asked) if kinds[name].source is Source.TRAINING]
        if self.dataset.shapes is not None and untold:
            raise ValueError(
                f"the data set {self.dataset.name!r} has no examples to train on, so there is no "
                f"{', no '.join(untold)} to search on; leave it out, or name a data set with examples"
            )
        return self

    @model_validator(mode="after")
    def _networks_with_data(self) -> StudyFile:
        known = {self.network.name, *self.space_.network.name, *self.reference_space.network.name}
        unknown = [name for name in self.dataset.of_network if name not in known]
        if unknown:
            raise ValueError(
                f"dataset.of_network: {unknown[0]!r} is no network of this study."
                f"{nearest(unknown[0], known)} Its networks: {', '.join(sorted(known))}"
            )
        return self

    @property
    def stages(self) -> int:
        """How many stages a trial has that goes all the way."""
        return 1 if self.fidelity is None else len(self.fidelity.early) + len(self.fidelity.epochs) + 1

    @model_validator(mode="after")
    def _stages_end_before_training(self) -> StudyFile:
        if self.fidelity is None:
            return self
        late = [epochs for epochs in self.fidelity.epochs if epochs >= self.training.epochs]
        if late:
            raise ValueError(
                f"fidelity.epochs must lie below training.epochs={self.training.epochs}, but {late} do not"
            )
        if self.dataset.shapes is not None:
            raise ValueError("fidelity: nothing is trained on shapes alone, so there are no stages")
        return self

    def hash(self) -> str:
        """Return a hash of all that decides which trials are drawn and what they score.

        A larger budget, another storage, executor, shared cache or data folder leave it as it is.
        """
        data = _question(self.model_dump(mode="json"))
        chips = {*self.space_.accelerator.templates, *self.reference_space.accelerator.templates}
        data["chip_files"] = [Path(chip).read_text("utf-8") for chip in sorted(chips) if Path(chip).is_file()]
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]

    def changes(self, before: dict[str, Any]) -> list[str]:
        """Return, line by line, what decides about trials and is not as in an earlier study file's data."""
        old, new = (dict(_leaves(_question(data))) for data in (before, self.model_dump(mode="json")))
        return [
            f"  {path}: {old.get(path, 'absent')} -> {new.get(path, 'absent')}"
            for path in sorted({*old, *new})
            if old.get(path, "absent") != new.get(path, "absent")
        ]

    def to_yaml(self) -> str:
        """Return the resolved study, every default written out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, width=110)


def _question(data: dict[str, Any]) -> dict[str, Any]:
    """Return of a study file's data what decides which trials are drawn and what they score."""
    free = ("budget", "storage", "executor", "shared_cache", "description")
    kept = {name: value for name, value in data.items() if name not in free}
    elsewhere = ("data_root", "download")
    return kept | {"dataset": {k: v for k, v in kept["dataset"].items() if k not in elsewhere}}


def absolute_storage(address: str) -> str:
    """Return a storage's address; the file of a relative SQLite one as it is named from every folder."""
    kind, mark, path = address.partition(":///")
    if not kind.startswith("sqlite") or not path or path.startswith(("/", ":memory:", "file:")):
        return address
    return f"{kind}{mark}{Path(path).absolute()}"


def _leaves(data: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Yield every value of nested mappings with its dotted path; a list counts as one value."""
    if isinstance(data, dict) and data:
        for name, inner in data.items():
            yield from _leaves(inner, f"{path}.{name}" if path else str(name))
    else:
        yield path, data


def schema_json() -> dict[str, Yaml]:
    """Return the JSON Schema of a study file, for editors."""
    return cast("dict[str, Yaml]", StudyFile.model_json_schema())
