"""The question, as checked data: every problem of a file in one error, each with its path."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, cast

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from evaluators.learning.recipe import Recipe
from evaluators.scores import Direction, ScoreKind, Source, score_kinds
from evaluators.shapes import SHAPES, ActivationStorage, ImageShape, ShapesOnly
from search_spaces.space import BaseSpace, Space

if TYPE_CHECKING:
    pass

Yaml: TypeAlias = "dict[str, Yaml] | list[Yaml] | str | int | float | bool | None"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Network(_Section):
    """The network whose width and depth the space scales; `space.network.name` may name others."""

    name: str = Field(description="A registered network (`cosearch list networks`) or `module:callable`.")


_Size = Annotated[int, Field(ge=1)]
_Density = Annotated[float, Field(gt=0, le=1)]
_ACTIVATION_DENSITY = Field(
    default=1.0, description="`shapes` only: the part of every layer's input that is assumed not to be zero."
)
_ACTIVATION_STORAGE = Field(
    default=ActivationStorage.DENSE, description="`shapes` only: how inputs with zeros are stored."
)
_OF_SHAPES = ("input_shape", "num_classes", "activation_density", "activation_storage", "of_network")


class NetworkData(_Section):
    """The data of one network, where there are only shapes."""

    input_shape: tuple[_Size, _Size, _Size] = Field(description="Channels, height and width of one image.")
    num_classes: _Size = Field(description="Classes.")
    activation_density: _Density = _ACTIVATION_DENSITY
    activation_storage: ActivationStorage = _ACTIVATION_STORAGE

    @property
    def shape(self) -> ImageShape:
        """The same, as the evaluators take it."""
        return ImageShape(
            input_shape=self.input_shape,
            num_classes=self.num_classes,
            activation_density=self.activation_density,
            activation_storage=self.activation_storage,
        )


class Dataset(_Section):
    """The data that the proxy is trained on."""

    name: str = Field(description="A registered data set (`cosearch list datasets`) or `module:callable`.")
    train_examples: int | None = Field(
        default=None, ge=1, description="Use this many training examples, stratified; all where absent."
    )
    validation_examples: int | None = Field(
        default=None, ge=1, description="Use this many of the held-out validation examples; all where absent."
    )
    data_root: Path | None = Field(default=None, description="Folder of the data files; --data-root sets it.")
    download: bool = Field(default=True, description="Fetch missing files where the data set can.")
    input_shape: tuple[_Size, _Size, _Size] | None = Field(
        default=None, description="`shapes` only: channels, height and width of one image."
    )
    num_classes: _Size | None = Field(default=None, description="`shapes` only: classes.")
    activation_density: _Density = _ACTIVATION_DENSITY
    activation_storage: ActivationStorage = _ACTIVATION_STORAGE
    of_network: dict[str, NetworkData] = Field(
        default_factory=dict, description="`shapes` only: what some networks have instead, by their names."
    )

    @model_validator(mode="after")
    def _shapes(self) -> Dataset:
        given = self.input_shape is not None, self.num_classes is not None
        if self.name == SHAPES and not all(given):
            raise ValueError(
                "the data set 'shapes' has no examples to take them from: give `input_shape: [channels, "
                "height, width]` and `num_classes`"
            )
        fields = type(self).model_fields
        only_shapes = [
            name
            for name in _OF_SHAPES
            if getattr(self, name) != fields[name].get_default(call_default_factory=True)
        ]
        if self.name != SHAPES and only_shapes:
            raise ValueError(
                f"{', '.join(only_shapes)}: the data set {self.name!r} says it itself; only the data "
                "set 'shapes' is described in the study file"
            )
        return self

    @property
    def shapes(self) -> ShapesOnly | None:
        """The shapes that stand in the place of examples; None where there are some."""
        if self.input_shape is None or self.num_classes is None:
            return None
        default = ImageShape(
            input_shape=self.input_shape,
            num_classes=self.num_classes,
            activation_density=self.activation_density,
            activation_storage=self.activation_storage,
        )
        return ShapesOnly(
            default=default, of_network={name: data.shape for name, data in self.of_network.items()}
        )


class Objective(_Section):
    """One score to optimise. Its direction is the score's own unless the file says otherwise."""

    name: str = Field(description="A score (`cosearch list scores`).")
    direction: Direction = Field(default=Direction.MINIMIZE, description="minimize or maximize.")

    @property
    def kind(self) -> ScoreKind:
        """The score that this objective optimises."""
        return score_kinds()[self.name]


class Relation(Enum):
    """How a constraint compares."""

    AT_MOST = "<="
    AT_LEAST = ">="


class Constraint(_Section):
    """A bound that a design must keep, written `score <= number` or `score >= number`."""

    score: str
    relation: Relation
    bound: float = Field(allow_inf_nan=False)

    @property
    def text(self) -> str:
        """The constraint as the study file writes it."""
        return f"{self.score} {self.relation.value} {self.bound:g}"

    def violation(self, value: float) -> float:
        """Return by how much `value` breaks the bound, as a share of it; not above zero where it is kept."""
        excess = value - self.bound if self.relation is Relation.AT_MOST else self.bound - value
        return excess / (abs(self.bound) or 1.0)


class Sampler(_Section):
    """Who proposes the next design."""

    name: Literal["auto", "nsga2", "nsga3", "tpe", "gp", "random"] = Field(
        default="auto", description="auto: tpe below 200 trials, nsga2 from there on."
    )
    population: int = Field(default=20, ge=2, description="NSGA-II's and NSGA-III's population size.")
    alike: int = Field(
        default=0,
        ge=0,
        description="Begin with so many designs that treat all layers alike, before the sampler is asked.",
    )
    candidates: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Draw this many proposals a trial and take the one that a predictor, fitted to the "
        "study's own trials, ranks first; 1: no predictor.",
    )
    window: int = Field(
        default=8,
        ge=1,
        description="Trials in flight: the next is drawn when the oldest is told. Part of the answer, so "
        "that one worker and many give the same trials; keep it above the number of workers.",
    )
    deterministic: bool = Field(
        default=True,
        description="Tell results in the order of the draws, so that the same seed gives the same trials "
        "with any number of workers and across kills; false keeps more workers busy where trials differ in "
        "length.",
    )


class Plateau(_Section):
    """Stop when the front has stopped growing."""

    trials: int = Field(default=50, ge=1, description="Over this many finished trials ...")
    tolerance: float = Field(
        default=0.001, gt=0, lt=1, description="... the hypervolume grew by less than this share."
    )


class Budget(_Section):
    """When to stop drawing: at the first of these that is reached."""

    trials: int | None = Field(
        default=None, ge=1, description="Trials in all, the reference design included."
    )
    training_minutes: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Training of all workers together."
    )
    trainings: int | None = Field(
        default=None,
        ge=1,
        description="Whole trainings: a trial that was stopped early counts by its share of the epochs, one "
        "that was gated, or whose half was trained before, not at all.",
    )
    wall_minutes: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Wall time over all sessions."
    )
    plateau: Plateau | None = Field(default=None, description="Stop when the front has stopped growing.")

    @model_validator(mode="after")
    def _some(self) -> Budget:
        if not self.text:
            raise ValueError(
                "a budget needs at least one of trials, training_minutes, trainings, wall_minutes"
            )
        return self

    @property
    def text(self) -> str:
        """The budget in words."""
        parts = [
            None if self.trials is None else f"{self.trials} trials",
            None if self.training_minutes is None else f"{self.training_minutes:g} minutes of training",
            None if self.trainings is None else f"{self.trainings} trainings",
            None if self.wall_minutes is None else f"{self.wall_minutes:g} minutes",
            None
            if self.plateau is None
            else f"{self.plateau.trials} trials in which the front does not grow",
        ]
        return " or ".join(part for part in parts if part)


class Fidelity(_Section):
    """Multi-objective successive halving: only the better part of each stage is trained on.

    At the end of a stage a trial goes on if it is among the best 1/eta of all that reached it, by
    non-domination rank of all objectives.
    """

    eta: int = Field(default=3, ge=2, description="One in this many goes on.")
    epochs: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(), description="Fine-tuning epochs after which a stage ends, rising, below training.epochs."
    )
    data: tuple[Annotated[float, Field(gt=0, le=1)], ...] | None = Field(
        default=None,
        description="Share of the training examples used in each of these stages; 1 where absent.",
    )
    early: tuple[str, ...] = Field(
        default=(),
        description="Zero-cost scores (`cosearch list zero_cost`) as first stages, before training.",
    )

    @model_validator(mode="after")
    def _rising(self) -> Fidelity:
        if not self.epochs and not self.early:
            raise ValueError("fidelity needs `epochs` or `early` (or leave the section out)")
        if list(self.epochs) != sorted(set(self.epochs)):
            raise ValueError(f"epochs must rise, but got {list(self.epochs)}")
        if self.data is not None and len(self.data) != len(self.epochs):
            raise ValueError(
                f"data needs one share for each of the {len(self.epochs)} epochs, but got {len(self.data)}"
            )
        return self


class HardwareSweep(_Section):
    """For every trained half, cost many accelerators of the space at once and keep their front."""

    designs: int = Field(
        ge=1, le=100_000, description="Accelerators a trial; all of the space where it has no more."
    )
    shortlist: int | None = Field(
        default=None,
        ge=1,
        description="Of these, how many every half is priced on: those that do best, untrained, for the "
        "reference design and a few others. All where absent.",
    )
    told: int = Field(default=4, ge=0, description="Of those kept, how many the sampler learns from.")


class WarmStart(_Section):
    """Begin with the best designs of an earlier run, whose space may differ."""

    run: Path = Field(description="The earlier run folder.")
    designs: int = Field(default=8, ge=1, description="Of its front, at most this many are drawn first.")


class Limits(_Section):
    """What one trial may take; one that takes more is a failed trial, with the reason."""

    trial_minutes: float | None = Field(default=None, gt=0, description="Wall time of one job of a trial.")
    trial_memory_bytes: int | None = Field(
        default=None, ge=2**20, description="Resident memory of the process that evaluates it."
    )


class LocalProcesses(Limits):
    """Worker processes on this machine."""

    workers: int | None = Field(default=None, ge=1, description="One per core where absent.")


class RayCluster(Limits):
    """Workers on a Ray cluster, which shares no disk with the driver."""

    address: str = Field(
        default="auto",
        description="auto (a cluster on this machine, or RAY_ADDRESS), HOST:PORT, ray://HOST:PORT, or local: "
        "a private one, for trying it out.",
    )
    workers: int | None = Field(default=None, ge=1, description="As many as fit the cluster where absent.")
    cpus_per_trial: float = Field(default=1.0, gt=0, description="Cores that Ray keeps for one worker.")
    gpus_per_trial: float = Field(default=0.0, ge=0, description="GPUs that Ray keeps for one worker.")


class Executor(_Section):
    """Where trials are evaluated: `local` (worker processes), `ray` (a cluster) or `in_process`."""

    local: LocalProcesses | None = None
    ray: RayCluster | None = None
    in_process: bool = False

    @model_validator(mode="after")
    def _one(self) -> Executor:
        named = [name for name in ("local", "ray", "in_process") if getattr(self, name)]
        if len(named) > 1:
            raise ValueError(
                f"one executor evaluates a run, but got {' and '.join(named)}; name the other away, e.g. "
                "-o 'executor={ray: {address: auto}}'"
            )
        return self


def _read_executor(value: object) -> object:
    if value in ("local", "ray"):
        return {str(value): {}}
    if value == "in_process":
        return {"in_process": True}
    return value


def _read_named(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


def _read_objective(value: object) -> object:
    value = _read_named(value)
    if isinstance(value, Mapping) and isinstance(value.get("name"), str):
        kind = _known_score(value["name"])
        return {"direction": kind.direction} | dict(value)
    return value


_CONSTRAINT = re.compile(r"^\s*(\w+)\s*(<=|>=)\s*([-+0-9._eE]+)\s*$")


def _read_constraint(value: object) -> object:
    if isinstance(value, Mapping) and isinstance(value.get("score"), str):
        _known_score(value["score"])
    if not isinstance(value, str):
        return value
    match = _CONSTRAINT.match(value)
    if match is None:
        raise ValueError(f"a constraint reads `score <= number` or `score >= number`, but got {value!r}")
    kind = _known_score(match[1])
    try:
        bound = float(match[3])
    except ValueError:
        raise ValueError(f"the bound of {value!r} must be a number, but it is {match[3]!r}") from None
    return {"score": kind.name, "relation": match[2], "bound": bound}


def _known_score(name: str) -> ScoreKind:
    kinds = score_kinds()
    if name not in kinds:
        raise ValueError(f"no score is named {name!r}.{nearest(name, kinds)} Known: {', '.join(kinds)}")
    return kinds[name]


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the nearest known name, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


class StudyFile(_Section):
    """One study: what may be chosen, what counts, on what data, and how long to look."""

    version: Literal[1] = 1
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="Names the run folder.")
    description: str = Field(default="", description="The question, in a sentence.")
    network: Annotated[Network, BeforeValidator(_read_named)]
    dataset: Annotated[Dataset, BeforeValidator(_read_named)]
    space: Space  # type: ignore[valid-type]  # built from the registered families
    reference: dict[str, dict[str, object]] = Field(
        default_factory=dict,
        description="The design every result is a gain over: the space's sections with one value a knob. "
        "Always trial 0. What it leaves out: 8-bit dense layers, the first template as its file has it.",
    )
    objectives: tuple[Annotated[Objective, BeforeValidator(_read_objective)], ...] = Field(min_length=1)
    constraints: tuple[Annotated[Constraint, BeforeValidator(_read_constraint)], ...] = ()
    training: Recipe = Field(default_factory=Recipe)
    sampler: Annotated[Sampler, BeforeValidator(_read_named)] = Field(default_factory=Sampler)
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
    executor: Annotated[Executor, BeforeValidator(_read_executor)] = Field(
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
            problems = "; ".join(
                f"reference.{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()
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
