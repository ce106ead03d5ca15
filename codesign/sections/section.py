"""What every section of a study file has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of a study file: it is never changed, knows all of its keys, and its numbers are finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def read_named(value: object) -> object:
    """Take a bare name for a section of which nothing else is said."""
    return {"name": value} if isinstance(value, str) else value
