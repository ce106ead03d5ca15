"""`Values[T]`: a non-empty list of distinct values, in ascending order. `Names`: distinct names, or none.

A study file may write one value without brackets; a reference design, which has one value for each knob,
is written that way.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import AfterValidator, BeforeValidator

T = TypeVar("T")


def _as_sequence(value: object) -> object:
    return value if isinstance(value, list | tuple) else (value,)


def _distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    if len(set(values)) != len(values):
        raise ValueError(f"the values must be distinct, but got {list(values)}")
    return values


def _ascending(values: tuple[T, ...]) -> tuple[T, ...]:
    if not values:
        raise ValueError("at least one value must be given")
    return tuple(sorted(_distinct(values)))  # type: ignore[type-var]  # every T used is a number or a name


Values = Annotated[tuple[T, ...], BeforeValidator(_as_sequence), AfterValidator(_ascending)]
Names = Annotated[tuple[str, ...], BeforeValidator(_as_sequence), AfterValidator(_distinct)]
