"""Which loops the array unrolls: the spatial mappings that an accelerator's axes allow for a contraction.

An axis names loops of the forward pass. The backward passes of a convolution are convolutions again with
the loops in other parts, so every axis carries over by exchanging them:

* the input gradient reads output gradients and accumulates inputs: K and C change places;
* the weight gradient convolves inputs with output gradients: C and B, OY and FY, OX and FX change places.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, prod

from evaluators.workload.graph import LoopNest, Operand
from hw_templates.accelerator import LOOPS, ArrayAxis

_EXCHANGED: dict[Operand, dict[str, str]] = {
    Operand.OUTPUT: {},
    Operand.INPUT: {"K": "C", "C": "K"},
    Operand.WEIGHT: {"C": "B", "B": "C", "OY": "FY", "FY": "OY", "OX": "FX", "FX": "OX"},
}

_SLOTS: dict[Operand, dict[Operand, str]] = {
    Operand.OUTPUT: {Operand.INPUT: "I", Operand.WEIGHT: "W", Operand.OUTPUT: "O"},
    Operand.INPUT: {Operand.INPUT: "O", Operand.WEIGHT: "W", Operand.OUTPUT: "I"},
    Operand.WEIGHT: {Operand.INPUT: "I", Operand.WEIGHT: "O", Operand.OUTPUT: "W"},
}

PLACE = {loop: index for index, loop in enumerate(LOOPS)}

NEARLY_AS_FAST = 1.1
"""Spatial mappings within a tenth of the fewest cycles compete; a slower one is never chosen for energy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpatialMapping:
    """What each axis unrolls: per axis, pairs of a loop and its factor.

    Factors are at most the axis size; where they don't divide the loop, the last round is partly idle.
    """

    axes: tuple[tuple[tuple[str, int], ...], ...]

    def factor(self, loop: str) -> int:
        """Return how far `loop` is unrolled over all axes."""
        return prod(factor for axis in self.axes for name, factor in axis if name == loop)

    def temporal(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """Return the iterations that are left of each loop of `sizes` (d,), in the order of `LOOPS`."""
        for axis in self.axes:
            sizes = _left(axis, sizes)
        return sizes

    @property
    def active_pes(self) -> int:
        """Number of PEs that work."""
        return prod(factor for axis in self.axes for _, factor in axis)


def _left(axis: tuple[tuple[str, int], ...], sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the iterations that are left of each loop when one axis has unrolled its share."""
    left = list(sizes)
    for name, factor in axis:
        index = PLACE[name]
        left[index] = ceil(left[index] / factor)
    return tuple(left)


def slot(accumulated: Operand, operand: Operand) -> str:
    """Return which hardware operand ("I", "W", "O") an operand of the nest plays.

    The accumulated operand takes the way of outputs, an output gradient that is read that of the other.
    """
    return _SLOTS[accumulated][operand]


def sizes_of(nest: LoopNest) -> tuple[int, ...]:
    """Return the loop sizes (d,) of a nest in the order of `LOOPS`."""
    return (nest.b, nest.k, nest.c, nest.oy, nest.ox, nest.fy, nest.fx, nest.groups)


@lru_cache(maxsize=65536)
def _fills(
    axis_size: int, unroll: tuple[str, ...], mixed: bool, left: tuple[int, ...]
) -> tuple[tuple[tuple[str, int], ...], ...]:
    """Return ways to fill one axis: each allowed loop first, then (where mixed) the others, or fewer."""
    ways: dict[tuple[tuple[str, int], ...], None] = {}
    for first in unroll:
        order = (first, *(loop for loop in unroll if loop != first)) if mixed else (first,)
        room = axis_size
        chosen: list[tuple[str, int]] = []
        for loop in order:
            size = left[PLACE[loop]]
            if size == 1 or room == 1:
                continue
            rounds = ceil(size / min(size, room))
            factor = ceil(size / rounds)  # the least factor with as few rounds: leaves room for the others
            if factor > 1:
                chosen.append((loop, factor))
                room //= factor
                ways[tuple(chosen)] = None
    ways[()] = None
    return tuple(ways)


@lru_cache(maxsize=65536)
def candidates(
    axes: tuple[ArrayAxis, ...],
    sizes: tuple[int, ...],
    accumulated: Operand,
    limit: int,
    slack: float = NEARLY_AS_FAST,
) -> tuple[SpatialMapping, ...]:
    """Return at most `limit` spatial mappings, those with the fewest temporal iterations first.

    Args:
        slack: Mappings with more iterations than this times the fewest are left out.
    """
    exchanged = _EXCHANGED[accumulated]
    partial: list[tuple[tuple[tuple[tuple[str, int], ...], ...], tuple[int, ...]]] = [((), sizes)]
    for axis in axes:
        unroll = tuple(exchanged.get(loop, loop) for loop in axis.unroll)
        grown = []
        for chosen, left in partial:
            for fill in _fills(axis.size, unroll, axis.mixed, left):
                grown.append(((*chosen, fill), _left(fill, left)))
        partial = grown
    cycles = {chosen: prod(left) for chosen, left in partial}
    fewest = min(cycles.values())
    ranked = sorted(
        (chosen for chosen in cycles if cycles[chosen] <= fewest * slack), key=lambda c: cycles[c]
    )
    return tuple(SpatialMapping(axes=chosen) for chosen in ranked[:limit])


def halved_candidates(
    axes: tuple[ArrayAxis, ...], sizes: tuple[int, ...], accumulated: Operand, limit: int, slack: float
) -> tuple[SpatialMapping, ...]:
    """Return the candidates of the contraction, and those of half its batch, of a quarter, and so on.

    A larger batch may fill the array better with another mapping that costs more energy; with these it never
    has to: two half batches one after the other are among what is searched.
    """
    found: dict[SpatialMapping, None] = {}
    while True:
        found |= dict.fromkeys(candidates(axes, sizes, accumulated, limit, slack))
        if sizes[0] % 2:
            return tuple(found)
        sizes = (sizes[0] // 2, *sizes[1:])
