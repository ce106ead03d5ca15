"""What the mapper is asked for: what it minimises, how hard it looks, and how it counts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from evaluators.cost.layout import Floats

_TIE = 1e-9  # relative: what counts as equal


class MappingObjective(Enum):
    """What decides among spatial mappings; loop orders are always searched for least energy."""

    ENERGY = "energy"
    LATENCY = "latency"
    EDP = "energy_delay_product"

    def of(self, energy_pj: Floats, cycles: Floats) -> Floats:
        """Return the objective of mappings; the other quantity decides between equals."""
        if self is MappingObjective.ENERGY:
            return energy_pj * (1 + _TIE * (1 - 1 / (1 + cycles)))
        if self is MappingObjective.LATENCY:
            return cycles * (1 + _TIE * (1 - 1 / (1 + energy_pj)))
        return energy_pj * cycles


@dataclass(frozen=True, kw_only=True, slots=True)
class Switches:
    """What cost models disagree on; the defaults are what this tool counts.

    `pin_holding`: an operand that the array reads again and again is read once, and held at the memory's
    output (ZigZag's `access_same_data_considered_as_no_access`).
    `read_back_first`: a partial sum is read back as often as it is written (ZigZag); otherwise the first
    visit finds nothing to read (Timeloop; Chen et al., ISCA 2016, Eq. 4).
    `halo_once`: input rows that neighbouring PEs share are read from the shared memory once; otherwise the
    tile of one PE is multiplied by a rounded number of tiles (ZigZag).
    `whole_pes`: where a loop does not fill its axis evenly, latency counts the data of the average number of
    active PEs, rounded down (ZigZag); otherwise of the average itself.
    `greedy_allocation`: memories take the longest prefixes of the order that fit (LOMA); otherwise those of
    least energy.
    """

    pin_holding: bool = True
    read_back_first: bool = False
    halo_once: bool = True
    whole_pes: bool = False
    greedy_allocation: bool = False

    def to_array(self) -> Floats:
        """Return the kernel's switch row."""
        flags = (
            self.pin_holding,
            self.read_back_first,
            self.halo_once,
            self.whole_pes,
            self.greedy_allocation,
        )
        return np.array(flags, dtype=np.float64)


ZIGZAG = Switches(
    pin_holding=True, read_back_first=True, halo_once=False, whole_pes=True, greedy_allocation=True
)
"""The switches with which ZigZag 3.9.1 counts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """How hard the mapper looks.

    The `spatial_mappings` with the fewest cycles compete with `screening` orders each; for the best of them,
    and up to `finalists` in all that are within a tenth of it, `orders` are evaluated, first with at most
    `coarse_factors` loops, then with at most `loop_factors`.
    """

    orders: int = 500
    screening: int = 100
    loop_factors: int = 12
    coarse_factors: int = 7
    spatial_mappings: int = 6
    finalists: int = 1
