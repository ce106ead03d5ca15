"""The sections `objectives` and `constraints`: what counts, and what must be kept."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from enum import Enum

from pydantic import Field

from codesign.sections.section import Section, read_named
from evaluators.scores import Direction, ScoreKind, score_kinds
from hw_templates.names import nearest


class Objective(Section):
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


class Constraint(Section):
    """A bound that a design must keep, written `score <= number` or `score >= number`."""

    score: str
    relation: Relation
    bound: float

    @property
    def text(self) -> str:
        """The constraint as the study file writes it."""
        return f"{self.score} {self.relation.value} {self.bound:g}"

    def violation(self, value: float) -> float:
        """Return by how much `value` breaks the bound, as a share of it; not above zero where it is kept."""
        excess = value - self.bound if self.relation is Relation.AT_MOST else self.bound - value
        return excess / (abs(self.bound) or 1.0)


def read_objective(value: object) -> object:
    """Take a bare name for an objective, and give it the score's own direction."""
    value = read_named(value)
    if isinstance(value, Mapping) and isinstance(value.get("name"), str):
        kind = _known_score(value["name"])
        return {"direction": kind.direction} | dict(value)
    return value


def some_objectives(value: object) -> object:
    """Refuse a study that asks for nothing.

    Raises:
        ValueError: there is no objective; with the scores that there are.
    """
    if isinstance(value, list | tuple) and not value:
        kinds = (kind.name for kind in score_kinds().values() if kind.searchable)
        raise ValueError(f"a study needs at least one objective, but got none. Known: {', '.join(kinds)}")
    return value


_CONSTRAINT = re.compile(r"^\s*(\w+)\s*(<=|>=)\s*(\S+)\s*$")


def read_constraint(value: object) -> object:
    """Take `score <= number` and `score >= number` apart."""
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
        bound = math.nan
    if not math.isfinite(bound):
        raise ValueError(
            f"a constraint reads `score <= number` or `score >= number`, its number finite, but got {value!r}"
        )
    return {"score": kind.name, "relation": match[2], "bound": bound}


def _known_score(name: str) -> ScoreKind:
    kinds = score_kinds()
    if name not in kinds:
        raise ValueError(f"no score is named {name!r}.{nearest(name, kinds)} Known: {', '.join(kinds)}")
    return kinds[name]
