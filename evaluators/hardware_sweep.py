"""One algorithmic half on many accelerators at once: its whole hardware front for one call.

`price_many` gives each chip the scores that `evaluators.evaluate.price` and `derive` give it alone, to the
last bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from math import inf

from evaluators.cost.area import area_mm2
from evaluators.cost.chip_table import ChipTable, chip_tables
from evaluators.cost.many import Lack, table_totals
from evaluators.cost.packing import chip_numbers
from evaluators.cost.problem import Integers
from evaluators.cost.special import undecoded_layers
from evaluators.evaluate import Unmapped, parameter_bits
from evaluators.scores import Accuracy, Facts, PassFacts, Scores, derive
from evaluators.traces import Traced
from evaluators.workload.graph import Workload
from evaluators.workload.memory import peak_bits
from hw_templates.accelerator import Accelerator, HardwareError, SpecialKind
from search_spaces.accelerator import AcceleratorChoice


class Pass(Enum):
    """What of a network is costed: an inference of one example, or one training step."""

    INFERENCE = "inference"
    TRAINING = "training"


BOTH = frozenset(Pass)


@dataclass(frozen=True, kw_only=True, slots=True)
class PricedChip:
    """What one accelerator makes of a half.

    Args:
        scores: as `evaluate` would give them, less those of passes that were not asked for; None where the
            accelerator cannot be built.
        unmapped: ops that the accelerator cannot run, of the passes that were asked for.
        reason: why it cannot be built; None where it can.
    """

    accelerator: AcceleratorChoice
    scores: Scores | None
    unmapped: tuple[Unmapped, ...] = ()
    reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Fleet:
    """Accelerators built once, to be priced again and again.

    Attributes:
        accelerators: as they were listed.
        built: those that can be built, each once; the others' reasons are in `reasons`.
        tables: the built ones as arrays, with their indices in `built`.
        areas_mm2: of the built ones.
        units: which special units the built ones have.
    """

    accelerators: tuple[AcceleratorChoice, ...]
    built: tuple[AcceleratorChoice, ...]
    reasons: Mapping[AcceleratorChoice, str]
    tables: tuple[tuple[Integers, ChipTable], ...]
    areas_mm2: tuple[float, ...]
    units: tuple[frozenset[SpecialKind], ...]


def build_fleet(accelerators: Sequence[AcceleratorChoice]) -> Fleet:
    """Build accelerators; why one cannot be built is noted, not raised."""
    built: dict[AcceleratorChoice, Accelerator] = {}
    reasons: dict[AcceleratorChoice, str] = {}
    for choice in dict.fromkeys(accelerators):
        try:
            chip = choice.build()
            chip_numbers(chip)  # more memories than the mapper takes are refused here
            built[choice] = chip
        except HardwareError as error:
            reasons[choice] = str(error)
    chips = tuple(built.values())
    return Fleet(
        accelerators=tuple(accelerators),
        built=tuple(built),
        reasons=reasons,
        tables=chip_tables(chips),
        areas_mm2=tuple(area_mm2(chip) for chip in chips),
        units=tuple(chip.unit_kinds for chip in chips),
    )


def price_many(
    traced: Traced,
    accelerators: Sequence[AcceleratorChoice],
    *,
    accuracy: Accuracy | None,
    passes: frozenset[Pass] = BOTH,
) -> tuple[PricedChip, ...]:
    """Return what a rewritten network is worth on each of `accelerators`.

    Args:
        traced: both passes, rewritten by the half's choices.
        accuracy: what the trained half reached; None before any training.
        passes: those whose energy, latency and traffic are costed. Peak memory is of the workload alone, so
            both passes' peaks are always there.
    """
    return price_fleet(traced, build_fleet(accelerators), accuracy=accuracy, passes=passes)


def price_fleet(
    traced: Traced, fleet: Fleet, *, accuracy: Accuracy | None, passes: frozenset[Pass] = BOTH
) -> tuple[PricedChip, ...]:
    """Return what a rewritten network is worth on every accelerator of a fleet; see `price_many`."""
    inference = _pass_costs(traced.inference, fleet, asked=Pass.INFERENCE in passes)
    training = _pass_costs(traced.training, fleet, asked=Pass.TRAINING in passes)
    stored = parameter_bits(traced.inference)
    undecoded = {units: len(undecoded_layers(traced.inference, units)) for units in set(fleet.units)}
    priced = {
        choice: PricedChip(accelerator=choice, scores=None, reason=reason)
        for choice, reason in fleet.reasons.items()
    }
    for index, choice in enumerate(fleet.built):
        facts = Facts(
            inference=inference[index].facts,
            training=training[index].facts,
            storage_bits=stored,
            area_mm2=fleet.areas_mm2[index],
            undecoded_layers=undecoded[fleet.units[index]],
            accuracy=accuracy,
        )
        priced[choice] = PricedChip(
            accelerator=choice,
            scores=derive(facts),
            unmapped=inference[index].unmapped + training[index].unmapped,
        )
    return tuple(priced[choice] for choice in fleet.accelerators)


@dataclass(frozen=True, kw_only=True, slots=True)
class _PassCost:
    """One pass on one chip."""

    facts: PassFacts
    unmapped: tuple[Unmapped, ...]


def _pass_costs(workload: Workload, fleet: Fleet, *, asked: bool) -> list[_PassCost]:
    """Return one pass on every built chip of a fleet; one that was not asked for has no finite cost."""
    peak = float(peak_bits(workload))
    if not asked:
        facts = PassFacts(
            mapped=False,
            energy_pj=inf,
            contraction_energy_pj=inf,
            latency_s=inf,
            macs=sum(op.contraction.nest.macs for op in workload.ops if op.contraction is not None),
            dram_bits=inf,
            peak_bits=peak,
        )
        return [_PassCost(facts=facts, unmapped=())] * len(fleet.built)
    costs: dict[int, _PassCost] = {}
    for indices, table in fleet.tables:
        costs |= zip(indices.tolist(), _table_costs(workload, table, peak), strict=True)
    return [costs[index] for index in range(len(fleet.built))]


def _table_costs(workload: Workload, table: ChipTable, peak: float) -> list[_PassCost]:
    totals = table_totals(workload, table)
    rows = zip(
        totals.energy_pj.tolist(),
        totals.contraction_energy_pj.tolist(),
        totals.latency_s.tolist(),
        totals.dram_bits.tolist(),
        totals.lacks,
        strict=True,
    )
    return [
        _PassCost(
            facts=PassFacts(
                mapped=not lacks,
                energy_pj=energy_pj,
                contraction_energy_pj=contraction_energy_pj,
                latency_s=latency_s,
                macs=totals.macs,
                dram_bits=dram_bits,
                peak_bits=peak,
            ),
            unmapped=tuple(map(_unmapped, lacks)),
        )
        for energy_pj, contraction_energy_pj, latency_s, dram_bits, lacks in rows
    ]


def _unmapped(lack: Lack) -> Unmapped:
    return Unmapped(
        op=lack.op,
        level=lack.room.level,
        demand_bits=lack.room.demand_bits,
        capacity_bits=lack.room.capacity_bits,
    )
