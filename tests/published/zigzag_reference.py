"""Build this tool's values from the files of ZigZag results in the reference folder."""

from __future__ import annotations

import json
from pathlib import Path

from evaluators.cost.problem import Problem, Storage
from evaluators.cost.spatial import SpatialMapping
from evaluators.workload.graph import LoopNest, Operand
from hw_templates.accelerator import (
    Accelerator,
    ArrayAxis,
    Dataflow,
    MacUnit,
    MemoryKind,
    MemoryLevel,
    Ports,
    Precision,
    VectorUnit,
)

FOLDER = Path(__file__).parents[3] / "shared" / "reference"


def read(name):
    return json.loads((FOLDER / name).read_text())


def accelerator(name, hardware):
    """Return the chip of a reference file; its unit energies are round numbers for comparison only."""
    axes = tuple(ArrayAxis(name=axis, size=size, unroll=("K",)) for axis, size in hardware["dims"].items())
    every = tuple(axis.name for axis in axes)
    memories = tuple(
        MemoryLevel(
            name=label,
            kind=MemoryKind.DRAM if label == "dram" else MemoryKind.SRAM,
            operands=tuple(memory["ops"]),
            capacity_bits=memory["size"],
            word_bits=memory["word"],
            granularity_bits=memory["gran"],
            read_energy_pj=memory["r_e"],
            write_energy_pj=memory["w_e"],
            shared_over=() if memory["per_pe"] else every,
            ports=Ports.READ_WRITE if memory["ports"] == "rw" else Ports.READ_AND_WRITE,
        )
        for label, memory in hardware["mem"].items()
    )
    return Accelerator(
        name=name,
        technology="round numbers of the reference file",
        source="reference file",
        dataflow=Dataflow.ROW_STATIONARY,
        axes=axes,
        mac=MacUnit(
            weight_bits=8,
            activation_bits=8,
            accumulator_bits=hardware["psum_bits"],
            precision=Precision.FIXED,
            energy_pj=hardware["mac"],
            area_mm2=0.0,
        ),
        vector=VectorUnit(lanes=1, energy_pj_per_op=0.0, area_mm2=0.0),
        memories=memories,
        clock_hz=1e9,
    )


def problem(row):
    """Return the layer of a reference row as a mapping problem."""
    layer = row["layer"]
    height = (layer["P"] - 1) * layer["stride"] + layer["R"] - 2 * layer["pad"]
    width = (layer["Q"] - 1) * layer["stride"] + layer["S"] - 2 * layer["pad"]
    nest = LoopNest(
        k=layer["K"],
        c=layer["C"],
        groups=layer["G"],
        oy=layer["P"],
        ox=layer["Q"],
        fy=layer["R"],
        fx=layer["S"],
        stride_y=layer["stride"],
        stride_x=layer["stride"],
        iy=height,
        ix=width,
    )
    return Problem(
        nest=nest,
        accumulated=Operand.OUTPUT,
        storage=(Storage(bits=row["abits"]), Storage(bits=row["wbits"]), Storage(bits=row["abits"])),
    )


def spatial(row):
    """Return the spatial mapping of a reference row."""
    return SpatialMapping(
        axes=tuple(tuple((loop, size) for loop, size in axis if size > 1) for axis in row["spatial"].values())
    )
