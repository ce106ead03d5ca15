"""Layers given as loop dimensions: CSV or YAML rows of `name,B,K,C,OY,OX,FY,FX,stride,groups,count`.

K and C are counted per group. What a row leaves out is 1; `IY` and `IX`, the unpadded input, default to what
an unpadded convolution reads. `count` repeats a layer. A YAML file holds a list of such mappings.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evaluators.workload.graph import (
    Contraction,
    LoopNest,
    Op,
    Operand,
    Phase,
    Role,
    Structure,
    TensorInfo,
    Workload,
    as_stored,
)
from hw_templates.wording import worded
from hw_templates.yaml_text import YAML_ERRORS, parse_yaml, unreadable

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

SUFFIXES = (".csv", ".yaml", ".yml")

_Count = Annotated[int, Field(ge=1)]
_PASSES = (
    (Phase.FORWARD, Operand.OUTPUT),
    (Phase.INPUT_GRADIENT, Operand.INPUT),
    (Phase.WEIGHT_GRADIENT, Operand.WEIGHT),
)


class LayerFileError(ValueError):
    """A layer file is wrong: the message has the file, and every row and column at fault."""


class Layer(BaseModel):
    """One row of a layer file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1)]
    B: _Count = 1
    K: _Count = 1
    C: _Count = 1
    OY: _Count = 1
    OX: _Count = 1
    FY: _Count = 1
    FX: _Count = 1
    stride: _Count = 1
    groups: _Count = 1
    count: _Count = 1
    IY: _Count | None = None
    IX: _Count | None = None

    def nest(self) -> LoopNest:
        """Return the loops of the layer."""
        return LoopNest(
            b=self.B,
            k=self.K,
            c=self.C,
            oy=self.OY,
            ox=self.OX,
            fy=self.FY,
            fx=self.FX,
            groups=self.groups,
            stride_y=self.stride,
            stride_x=self.stride,
            iy=self.IY or (self.OY - 1) * self.stride + self.FY,
            ix=self.IX or (self.OX - 1) * self.stride + self.FX,
        )


def read_layers(path: Path) -> tuple[Layer, ...]:
    """Return the layers of a CSV or YAML file.

    Raises:
        LayerFileError: if the file is absent or of another kind, or with every fault of its rows.
    """
    if path.suffix not in SUFFIXES:
        raise LayerFileError(f"{path} must end in one of {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise LayerFileError(f"{path} does not exist, or is no file; name a file of layers")
    layers = []
    problems = []
    for number, row in enumerate(_rows(path), 1):
        if isinstance(row, _Misfit):
            problems.append(f"row {number}: {row.message}")
            continue
        try:
            layers.append(Layer.model_validate(row))
        except ValidationError as error:
            problems += [f"row {number}{_told(fault)}" for fault in error.errors()]
    if problems or not layers:
        columns = ",".join(Layer.model_fields)
        text = "\n  ".join(problems or ["no layer in it"])
        raise LayerFileError(f"{path} has {max(1, len(problems))} problem(s); columns: {columns}\n  {text}")
    return tuple(layers)


def _told(fault: ErrorDetails) -> str:
    """Return ", column: what is wrong, and the value" of one of pydantic's problems."""
    place = ", " + ".".join(map(str, fault["loc"])) if fault["loc"] else ""
    got = f" (got {fault['input']!r})" if fault["type"] == "extra_forbidden" else ""
    return f"{place}: {worded(fault, Layer)}{got}"


class _Misfit(NamedTuple):
    """A row of a CSV file that does not fit its header."""

    message: str


def _rows(path: Path) -> Sequence[object]:
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise LayerFileError(f"{path} cannot be read as text: {error}") from error
    if path.suffix == ".csv":
        return _csv_rows(text, path)
    try:
        data = parse_yaml(text)
    except YAML_ERRORS as error:
        raise LayerFileError(f"{path} is {unreadable(error, 'a layer file')}") from error
    if not isinstance(data, list):
        raise LayerFileError(f"{path} must hold a list of layers, but holds {type(data).__name__}")
    return data


def _csv_rows(text: str, path: Path) -> Sequence[object]:
    """Return a mapping per row, without its empty cells, or what does not fit the header."""
    try:
        lines = [row for row in csv.reader(io.StringIO(text), skipinitialspace=True) if row]
    except csv.Error as error:
        raise LayerFileError(f"{path} is not readable as CSV: {error}") from error
    if not lines:
        return []
    header, *rows = [[cell.strip() for cell in line] for line in lines]
    twice = sorted({column for column in header if header.count(column) > 1})
    if twice:
        raise LayerFileError(f"{path} has columns that stand twice in its header: {', '.join(twice)}")
    return [_csv_row(header, row) for row in rows]


def _csv_row(header: Sequence[str], row: Sequence[str]) -> object:
    if len(row) != len(header):
        law = f"must have one cell for each of the {len(header)} columns {','.join(header)}"
        return _Misfit(f"{law}, but got {len(row)}: {','.join(row)}; leave a cell empty for 1")
    return {column: cell for column, cell in zip(header, row, strict=True) if cell}


def layers_workload(layers: Sequence[Layer], *, train: bool) -> Workload:
    """Return the contractions of `layers`, each between tensors of its own; with `train` all three passes."""
    ops: list[Op] = []
    tensors: list[TensorInfo] = []
    for layer in layers:
        for repeat in range(layer.count):
            name = layer.name if layer.count == 1 else f"{layer.name}.{repeat}"
            _append(name, layer.nest(), train, ops, tensors)
    born = np.zeros(len(tensors), np.int64)
    return as_stored(
        Structure(
            ops=tuple(ops),
            tensors=tuple(tensors),
            born=born,
            last=np.full(len(tensors), max(len(ops) - 1, 0), np.int64),
            persistent=np.ones(len(tensors), np.bool_),  # nothing is known of what lies between the layers
        )
    )


def _append(name: str, nest: LoopNest, train: bool, ops: list[Op], tensors: list[TensorInfo]) -> None:
    shapes: Mapping[Operand, tuple[int, ...]] = {
        Operand.INPUT: (nest.b, nest.c * nest.groups, nest.iy, nest.ix),
        Operand.WEIGHT: (nest.k * nest.groups, nest.c, nest.fy, nest.fx),
        Operand.OUTPUT: (nest.b, nest.k * nest.groups, nest.oy, nest.ox),
    }
    roles = {Operand.INPUT: Role.SAVED, Operand.WEIGHT: Role.WEIGHT, Operand.OUTPUT: Role.ACTIVATION}
    gradients = {
        Operand.INPUT: Role.ACTIVATION_GRADIENT,
        Operand.WEIGHT: Role.GRADIENT,
        Operand.OUTPUT: Role.ACTIVATION_GRADIENT,
    }
    index: dict[tuple[Operand, bool], int] = {}
    for gradient in (False, True) if train else (False,):
        for operand, shape in shapes.items():
            index[operand, gradient] = len(tensors)
            role = gradients[operand] if gradient else roles[operand]
            label = f"{name}.{'d' if gradient else ''}{operand.value}"
            tensors.append(TensorInfo(name=label, shape=shape, dtype_bits=32, role=role, layer=name))
    for phase, output in _PASSES if train else _PASSES[:1]:
        backward = phase is not Phase.FORWARD
        used = {
            operand: index[operand, backward and (operand is output or operand is Operand.OUTPUT)]
            for operand in Operand
        }
        ops.append(
            Op(
                name=f"{name}/{phase.value}",
                kind="convolution",
                phase=phase,
                layer=name,
                inputs=tuple(used[operand] for operand in Operand if operand is not output),
                outputs=(used[output],),
                contraction=Contraction(nest=nest, output=output, tensors=used),
            )
        )
