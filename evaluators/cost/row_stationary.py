"""The row-stationary passes of Eyeriss, from its published mapping parameters.

A processing pass convolves q x r input channels of n images with p x t filters on r x t sets of R x e PEs:
each PE keeps one filter row, a row of partial sums comes out of every set (JSSC 2017, section IV). This
module counts what a layer then does: it serves to check the published chip, whose mapping is known, and is
not what the search uses.

Source: Y.-H. Chen, T. Krishna, J. Emer, V. Sze, Eyeriss, IEEE JSSC 52(1), 2017, Tables II to V.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from evaluators.workload.graph import LoopNest

WORD_BYTES = 2
"""Eyeriss computes with 16-bit words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RowStationaryMapping:
    """The parameters of Table II: m, n, e, p, q, r, t."""

    filters_in_buffer: int
    images: int
    strip: int
    filters_per_pe: int
    channels_per_pe: int
    channel_sets: int
    filter_sets: int

    @property
    def channels_per_pass(self) -> int:
        """Input channels of one pass, q r."""
        return self.channels_per_pe * self.channel_sets

    @property
    def filters_per_pass(self) -> int:
        """Filters of one pass, p t."""
        return self.filters_per_pe * self.filter_sets


@dataclass(frozen=True, kw_only=True, slots=True)
class Links:
    """What moves data on and off the array: words a cycle of the filter bus, bytes a second to DRAM."""

    clock_hz: float
    filter_words_per_cycle: float
    dram_bytes_per_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RowStationaryCost:
    """What a layer does on the array."""

    macs: int
    active_pes: int
    buffer_bytes: float
    dram_bytes: float
    compute_s: float
    ramp_up_s: float
    drain_s: float

    @property
    def latency_s(self) -> float:
        """Time of the layer: computing, filling the filter scratchpads of each pass, draining the outputs."""
        return self.compute_s + self.ramp_up_s + self.drain_s


def run_length_ratio(zeros: float) -> float:
    """Return compressed over dense bytes at a fraction of zeros: three 5 + 16 bit pairs in a 64-bit word.

    >>> run_length_ratio(0.0), run_length_ratio(0.75)
    (1.0, 0.3333333333333333)
    """
    return min(1.0, (1.0 - zeros) * 64 / 48)


def row_stationary_cost(
    nest: LoopNest,
    mapping: RowStationaryMapping,
    links: Links,
    *,
    input_zeros: float,
    output_zeros: float,
    padding: int,
) -> RowStationaryCost:
    """Return what a convolution costs in the passes of `mapping`.

    Args:
        input_zeros: Fraction of zeros in the input, as run-length coded in DRAM; 0 where it is not coded.
        output_zeros: Fraction of zeros in the output.
        padding: Rows of zeros on each side, which the buffer holds and DRAM does not.
    """
    groups = nest.groups
    outputs = nest.b * nest.k * groups * nest.oy * nest.ox
    inputs = nest.b * nest.c * groups * nest.iy * nest.ix
    # Neighbouring strips of e output rows share R - stride input rows, which the buffer hands out twice.
    rows = (nest.oy - 1) * nest.stride_y + nest.fy
    rows += (ceil(nest.oy / mapping.strip) - 1) * (nest.fy - nest.stride_y)
    padded = nest.b * nest.c * groups * rows * (nest.ix + 2 * padding)
    filters = nest.k * groups * nest.c * nest.fy * nest.fx
    strips = ceil(nest.oy / mapping.strip) * ceil(nest.b / mapping.images)
    channel_passes = ceil(nest.c / mapping.channels_per_pass)
    filter_passes = ceil(nest.k / mapping.filters_per_pass)
    # A sum is written by every pass and read back by every pass but the first.
    buffer_words = outputs * (2 * channel_passes - 1) + padded * filter_passes
    dram_words = (
        filters * strips
        + inputs * ceil(nest.k / mapping.filters_in_buffer) * run_length_ratio(input_zeros)
        + outputs * run_length_ratio(output_zeros)
    )
    active = nest.fy * mapping.strip * mapping.channel_sets * mapping.filter_sets
    filter_words = filters * strips  # every strip of every pass fills the scratchpads anew
    return RowStationaryCost(
        macs=nest.macs,
        active_pes=active,
        buffer_bytes=buffer_words * WORD_BYTES,
        dram_bytes=dram_words * WORD_BYTES,
        compute_s=nest.macs / active / links.clock_hz,
        ramp_up_s=filter_words / links.filter_words_per_cycle / links.clock_hz,
        drain_s=outputs * WORD_BYTES / links.dram_bytes_per_s,
    )
