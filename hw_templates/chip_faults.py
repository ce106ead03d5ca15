"""What is wrong with the data of a chip file: every fault with its path and value, in one list.

The sections' own laws are pydantic's to check; the laws between sections (axes that memories name, operands
without a memory, the technology's DRAM) are checked on the raw data, so that one fault hides no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pydantic import BaseModel, ValidationError

from hw_templates.accelerator import OPERANDS, HardwareError
from hw_templates.components import technology
from hw_templates.wording import worded

_TOLD_WITHOUT_VALUE = ("extra_forbidden", "value_error")


class Fault(NamedTuple):
    """One thing that is wrong: where, and what."""

    path: str
    message: str


def section_faults(model: type[BaseModel], data: object, under: str = "") -> list[Fault]:
    """Return what of `data` is no `model`; `under` is the path of the data in its file."""
    try:
        model.model_validate(data)
    except ValidationError as error:
        return faults_of(error, model, under)
    return []


def faults_of(error: ValidationError, model: type[BaseModel], under: str = "") -> list[Fault]:
    """Return pydantic's problems in our words."""
    faults: dict[str, Fault] = {}
    items = error.errors()
    for item in items:
        where = item["loc"]
        if item["type"] == "too_short" and any(
            one["loc"][: len(where)] == where != one["loc"] for one in items
        ):
            continue  # its entries are wrong, and told
        parts = [
            part
            for part in map(str, item["loc"])
            if not part.startswith(("function-", "constrained-", "[key]"))
        ]
        path = ".".join(([under] if under else []) + parts) or "(top)"
        message, value = worded(item, model), _short(item["input"])
        if item["type"] in _TOLD_WITHOUT_VALUE and value.strip("'") not in message:
            message = f"{message} (got {value})"
        faults.setdefault(path, Fault(path, message))
    return list(faults.values())


def between_sections(chip: object, under: str = "chip") -> list[Fault]:
    """Return the faults between the sections of a chip's raw data; what is no section at all is passed by."""
    if not isinstance(chip, Mapping):
        return []
    axes, memories = chip.get("array"), chip.get("memories")
    faults = _technology(chip.get("technology"), memories, under)
    if not isinstance(memories, Mapping) or not all(
        isinstance(level, Mapping) for level in memories.values()
    ):
        return faults
    if isinstance(axes, Mapping) and axes:
        faults += _shared_over(memories, [str(axis) for axis in axes], under)
    return faults + _operands(memories, under)


def refuse(faults: list[Fault], where: str) -> None:
    """Raise a `HardwareError` with all `faults`, if there are any.

    Raises:
        HardwareError: `where` and every fault.
    """
    if faults:
        lines = "\n".join(f"  {fault.path}: {fault.message}" for fault in faults)
        raise HardwareError(f"{where} has {len(faults)} problem(s):\n{lines}")


def _technology(name: object, memories: object, under: str) -> list[Fault]:
    if not isinstance(name, str):
        return []
    try:
        tech = technology(name)
    except HardwareError as error:
        return [Fault(f"{under}.technology", str(error))]
    faults = []
    for label, level in memories.items() if isinstance(memories, Mapping) else ():
        kind = level.get("dram_type") if isinstance(level, Mapping) and level.get("kind") == "dram" else None
        if isinstance(kind, str) and kind not in tech.dram_pj_per_bit:
            has = f"it has: {', '.join(tech.dram_pj_per_bit)}"
            message = f"technology {name} has no DRAM {kind!r}; {has}"
            faults.append(Fault(f"{under}.memories.{label}.dram_type", message))
    return faults


def _shared_over(memories: Mapping[str, Mapping[str, object]], axes: list[str], under: str) -> list[Fault]:
    faults = []
    for label, level in memories.items():
        unknown = [axis for axis in _texts(level.get("shared_over")) if axis not in axes]
        if unknown:
            message = f"must name axes of the array ({', '.join(axes)}), but got {', '.join(unknown)}"
            faults.append(Fault(f"{under}.memories.{label}.shared_over", message))
    if faults:
        return faults
    for label, letters in _outermost(memories).items():
        shared = _texts(memories[label].get("shared_over"))
        if set(shared) != set(axes):
            message = (
                f"the outermost memory of {', '.join(letters)} must be shared over every axis of the array "
                f"({', '.join(axes)}), but got [{', '.join(shared)}]"
            )
            faults.append(Fault(f"{under}.memories.{label}.shared_over", message))
    return faults


def _outermost(memories: Mapping[str, Mapping[str, object]]) -> dict[str, list[str]]:
    last = {
        letter: label
        for label, level in memories.items()
        for letter in _texts(level.get("operands"))
        if letter in OPERANDS
    }
    return {label: [letter for letter in last if last[letter] == label] for label in last.values()}


def _operands(memories: Mapping[str, Mapping[str, object]], under: str) -> list[Fault]:
    if not all(isinstance(level.get("operands"), list) for level in memories.values()):
        return []
    held = {letter for level in memories.values() for letter in _texts(level["operands"])}
    return [
        Fault(f"{under}.memories", f"operand {letter} has no memory; add it to the operands of a level")
        for letter in OPERANDS
        if letter not in held and memories and held <= set(OPERANDS)
    ]


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list | tuple) else []


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
