"""The area of a chip: its PEs, memories and units. Wiring, clock tree and pads are not in it."""

from __future__ import annotations

from hw_templates.accelerator import Accelerator


def area_breakdown_mm2(accelerator: Accelerator) -> dict[str, float]:
    """Return the area of each part; memory levels by name, then "mac", "vector", "special" and "other"."""
    parts = {
        level.name: level.area_mm2 * accelerator.instances(level)
        for level in accelerator.memories
        if not level.kind.off_chip
    }
    parts["mac"] = accelerator.mac.area_mm2 * accelerator.pe_count
    parts["vector"] = accelerator.vector.area_mm2
    parts["special"] = sum(unit.area_mm2 for unit in accelerator.special_units)
    parts["other"] = accelerator.other_area_mm2
    return parts


def area_mm2(accelerator: Accelerator) -> float:
    """Return the area of the chip's PEs, on-chip memories and units."""
    return sum(area_breakdown_mm2(accelerator).values())
