"""Our mappings in ZigZag's own cost model: an independent count of the same thing.

Needs the extra `[zigzag]` (zigzag-dse 3.9 and `six`, which it imports and does not declare). ZigZag has no
backward passes: only contractions that accumulate outputs can be compared.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Protocol, cast

from evaluators.cost.mapper import Mapped
from evaluators.cost.problem import OPERANDS
from evaluators.cost.spatial import sizes_of
from evaluators.workload.graph import Operand
from hw_templates.accelerator import LOOPS, Accelerator, MemoryLevel, Ports

_MEMORY_OPERANDS = {"I": "I1", "W": "I2", "O": "O"}  # ZigZag's names of the operands in memories
_EQUATION = "O[b][g][k][oy][ox]+=W[g][k][c][fy][fx]*I[b][g][c][iy][ix]"


class ZigZagError(ValueError):
    """ZigZag is not installed, or cannot express what was asked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ZigZagCost:
    """What ZigZag says about one mapping."""

    energy_pj: float
    latency_cycles: float
    dram_bits: float


def zigzag_cost(mapped: Mapped, accelerator: Accelerator) -> ZigZagCost:
    """Return the cost of a mapping in ZigZag's model.

    Raises:
        ZigZagError: if ZigZag is absent, the pass is a backward one, or a tensor is compressed or resident.
    """
    problem = mapped.problem
    if problem.accumulated is not Operand.OUTPUT:
        raise ZigZagError("ZigZag has no backward passes: only forward contractions can be compared")
    if any(problem.resident) or any(one.density != 1 or one.index_bits for one in problem.storage):
        raise ZigZagError(
            "ZigZag knows neither resident nor compressed tensors: compare dense, single layers"
        )
    core, layer, average, whole = _prepare(mapped, accelerator)
    evaluation = _module("zigzag.cost_model.cost_model").CostModelEvaluation(
        accelerator=core,
        layer=layer,
        spatial_mapping=average,
        spatial_mapping_int=whole,
        temporal_mapping=_temporal(mapped, layer),
    )
    return ZigZagCost(
        energy_pj=float(evaluation.energy_total),
        latency_cycles=float(evaluation.latency_total2),
        dram_bits=_dram_bits(evaluation, accelerator),
    )


def loma_energy_pj(mapped: Mapped, accelerator: Accelerator, *, factors: int) -> float:
    """Return the least energy that ZigZag's own LOMA search finds with the spatial mapping of `mapped`.

    Args:
        factors: Loop factors to permute, LOMA's `lpf_limit`.

    Raises:
        ZigZagError: as `zigzag_cost`.
    """
    core, layer, average, whole = _prepare(mapped, accelerator)
    model = _module("zigzag.cost_model.cost_model").CostModelEvaluation
    engine = _module("zigzag.opt.loma.engine").LomaEngine(
        accelerator=core,
        layer=layer,
        spatial_mapping=average,
        mapping_type=_module("zigzag.mapping.temporal_mapping").TemporalMappingType.UNEVEN,
        loma_lpf_limit=factors,
    )
    return min(
        float(
            model(
                accelerator=core,
                layer=layer,
                spatial_mapping=average,
                spatial_mapping_int=whole,
                temporal_mapping=temporal,
            ).energy_total
        )
        for temporal in engine.run()
    )


def _prepare(mapped: Mapped, accelerator: Accelerator) -> tuple[_Anything, _Anything, _Anything, _Anything]:
    """Return ZigZag's core, layer and spatial mappings (average and whole PEs)."""
    core = _module("zigzag.parser.accelerator_factory").AcceleratorFactory(_chip(accelerator)).create()
    nodes = _module("zigzag.parser.workload_factory")
    layer = nodes.LayerNodeFactory(_layer(mapped, accelerator), [_mapping(mapped)]).create()
    conversion = _module("zigzag.stages.mapping.spatial_mapping_conversion").SpatialMappingConversionStage
    layer.spatial_mapping.initialize_oa_dims(core.operational_array.dimension_sizes)
    stage = conversion([None], layer=layer, accelerator=core)
    average, whole = stage.convert_user_spatial_mapping(layer.spatial_mapping)
    return core, layer, average, whole


def _module(name: str) -> _Anything:
    try:
        return cast("_Anything", importlib.import_module(name))
    except ModuleNotFoundError as error:
        raise ZigZagError(
            f"{error.name} is missing: install the extra with pip install 'codesign[zigzag]' "
            "(zigzag-dse and six)"
        ) from error


class _Anything(Protocol):
    """An object of a library without types."""

    def __getattr__(self, name: str) -> _Anything: ...

    def __call__(self, *args: object, **kwargs: object) -> _Anything: ...

    def __float__(self) -> float: ...

    def __getitem__(self, key: object) -> _Anything: ...

    def __iter__(self) -> Iterator[_Anything]: ...


def _chip(accelerator: Accelerator) -> dict[str, object]:
    names = _axis_names(accelerator)
    return {
        "name": accelerator.name,
        "memories": {level.name: _memory(level, names) for level in accelerator.memories},
        "operational_array": {
            "is_imc": False,
            "unit_energy": accelerator.mac.energy_pj,
            "unit_area": accelerator.mac.area_mm2,
            "dimensions": list(names.values()),
            "sizes": [axis.size for axis in accelerator.axes],
            "systolic_dimensions": [],
        },
    }


def _axis_names(accelerator: Accelerator) -> dict[str, str]:
    return {axis.name: f"D{index}" for index, axis in enumerate(accelerator.axes, 1)}


def _memory(level: MemoryLevel, axes: Mapping[str, str]) -> dict[str, object]:
    reads, writes = [], []
    for operand in level.operands:
        name = _MEMORY_OPERANDS[operand]
        reads.append(f"{name}, tl")
        writes.append(f"{name}, fh")
        if operand == "O":
            reads.append("O, th")
            writes.append("O, fl")
    ports = [("r_port_1", "read", reads), ("w_port_1", "write", writes)]
    if level.ports is Ports.READ_WRITE:
        ports = [("rw_port_1", "read_write", reads + writes)]
    return {
        "size": level.capacity_bits,
        "r_cost": level.read_energy_pj,
        "w_cost": level.write_energy_pj,
        "area": level.area_mm2,
        "latency": 1,
        "mem_type": "sram",
        "auto_cost_extraction": False,
        "operands": [_MEMORY_OPERANDS[operand] for operand in level.operands],
        "ports": [
            {
                "name": name,
                "type": kind,
                "bandwidth_min": level.granularity_bits,
                "bandwidth_max": level.word_bits,
                "allocation": allocation,
            }
            for name, kind, allocation in ports
        ],
        "served_dimensions": [axes[axis] for axis in level.shared_over],
        "force_double_buffering": level.double_buffered,
    }


def _layer(mapped: Mapped, accelerator: Accelerator) -> dict[str, object]:
    nest = mapped.problem.nest
    storage = zip(OPERANDS, mapped.problem.storage, strict=True)
    bits = {operand.value: ceil(one.bits) for operand, one in storage}
    rows = (nest.oy - 1) * nest.stride_y + (nest.fy - 1) * nest.dilation_y + 1
    columns = (nest.ox - 1) * nest.stride_x + (nest.fx - 1) * nest.dilation_x + 1
    return {
        "id": 0,
        "name": "layer",
        "operator_type": "Conv",
        "equation": _EQUATION,
        "loop_dims": list(LOOPS),
        "loop_sizes": list(sizes_of(nest)),
        "operand_precision": {
            "I": bits["I"],
            "W": bits["W"],
            "O": max(accelerator.mac.accumulator_bits, bits["O"]),
            "O_final": bits["O"],
        },
        "dimension_relations": [
            f"iy={nest.stride_y}*oy+{nest.dilation_y}*fy",
            f"ix={nest.stride_x}*ox+{nest.dilation_x}*fx",
        ],
        "operand_source": {"I": 0, "W": 0},
        "pr_loop_dims": ["IY", "IX"],
        "pr_loop_sizes": [nest.iy, nest.ix],
        "padding": [[0, max(0, rows - nest.iy)], [0, max(0, columns - nest.ix)]],
    }


def _mapping(mapped: Mapped) -> dict[str, object]:
    return {
        "name": "default",
        "spatial_mapping": {
            f"D{index}": [f"{loop},{factor}" for loop, factor in axis]
            for index, axis in enumerate(mapped.spatial.axes, 1)
            if axis
        },
        "memory_operand_links": {"O": "O", "W": "I2", "I": "I1"},
    }


def _temporal(mapped: Mapped, layer: _Anything) -> _Anything:
    types = _module("zigzag.datatypes")
    temporal = _module("zigzag.mapping.temporal_mapping")
    order = mapped.mapping.order or (("B", 1),)
    levels = {}
    for operand, held in mapped.mapping.held.items():
        taken = 0
        parts = []
        for position, (_, loops) in enumerate(held):
            upto = len(order) if position == len(held) - 1 else loops
            parts.append([(types.LayerDim(loop), factor) for loop, factor in order[taken:upto]])
            taken = upto
        levels[types.LayerOperand(operand)] = parts
    return temporal.TemporalMapping(levels, layer, temporal.TemporalMappingType.UNEVEN)


def _dram_bits(evaluation: _Anything, accelerator: Accelerator) -> float:
    directions = _module("zigzag.hardware.architecture.memory_port").DataDirection
    types = _module("zigzag.datatypes")
    total = 0.0
    for operand in ("I", "W", "O"):
        chain = accelerator.chain(operand)
        if chain[-1].kind.off_chip:
            accesses = evaluation.memory_word_access[types.LayerOperand(operand)][-1]
            words = float(accesses.get(directions.RD_OUT_TO_LOW))
            words += float(accesses.get(directions.WR_IN_BY_LOW))
            total += words * chain[-1].word_bits
    return total
