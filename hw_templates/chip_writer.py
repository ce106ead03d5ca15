"""An accelerator as YAML, with every figure written out and its unit beside it."""

from __future__ import annotations

from enum import Enum

import yaml

from hw_templates.accelerator import Accelerator, MacUnit, MemoryLevel
from hw_templates.chip_file import FORMAT_VERSION


def accelerator_to_yaml(chip: Accelerator) -> str:
    """Return `chip` as YAML with every figure written out and its unit beside it."""
    here = f"written out from {chip.name}: {chip.source}"
    data = {
        "format_version": FORMAT_VERSION,
        "name": chip.name,
        "source": chip.source,
        "chip": {
            "technology": chip.technology,
            "dataflow": chip.dataflow.value,
            "clock": f"{chip.clock_hz!r} Hz",
            "clock_source": here,
            "array_source": here,
            "array": {
                axis.name: {"size": axis.size, "unroll": list(axis.unroll), "mixed": axis.mixed}
                for axis in chip.axes
            },
            "mac": _mac_to_dict(chip.mac, here),
            "vector": {
                "source": here,
                "lanes": chip.vector.lanes,
                "energy": f"{chip.vector.energy_pj_per_op!r} pJ",
                "area": f"{chip.vector.area_mm2!r} mm2",
            },
            "memories": {level.name: _memory_to_dict(level, here) for level in chip.memories},
            "zeros": {"source": here, "gates": list(chip.zeros.gates), "skips": list(chip.zeros.skips)},
            "special_units": {
                unit.kind.value: {
                    "source": here,
                    "energy_per_operation": f"{unit.energy_pj_per_operation!r} pJ",
                    "area": f"{unit.area_mm2!r} mm2",
                    "operations_per_cycle": unit.operations_per_cycle,
                }
                for unit in chip.special_units
            },
            "other_area": f"{chip.other_area_mm2!r} mm2",
            "pass_overhead_cycles": chip.pass_overhead_cycles,
        },
    }
    return yaml.safe_dump(data, sort_keys=False, width=110)


def _mac_to_dict(mac: MacUnit, source: str) -> dict[str, object]:
    return {
        "source": source,
        "weight_bits": mac.weight_bits,
        "activation_bits": mac.activation_bits,
        "accumulator_bits": mac.accumulator_bits,
        "precision": mac.precision.value,
        "energy": f"{mac.energy_pj!r} pJ",
        "area": f"{mac.area_mm2!r} mm2",
        "leakage": f"{mac.leakage_mw!r} mW",
        "cycles_per_mac": mac.cycles_per_mac,
        "energy_by_bits": [list(pair) for pair in mac.energy_by_bits],
    }


def _memory_to_dict(level: MemoryLevel, source: str) -> dict[str, object]:
    return {
        "source": source,
        "kind": _value(level.kind),
        "operands": list(level.operands),
        "capacity": f"{level.capacity_bits} bits",
        "word": f"{level.word_bits} bits",
        "granularity": f"{level.granularity_bits} bits",
        "shared_over": list(level.shared_over),
        "ports": _value(level.ports),
        "read_energy": f"{level.read_energy_pj!r} pJ",
        "write_energy": f"{level.write_energy_pj!r} pJ",
        "area": f"{level.area_mm2!r} mm2",
        "leakage": f"{level.leakage_mw!r} mW",
        "read_cycles_per_word": level.read_cycles_per_word,
        "write_cycles_per_word": level.write_cycles_per_word,
        "compressed": level.compressed,
        "double_buffered": level.double_buffered,
        "resident_fraction": level.resident_fraction,
    }


def _value(member: Enum) -> str:
    return str(member.value)
