"""One algorithmic half on many accelerators at once: its whole hardware front for one call.

`price_many` gives each chip the scores that `evaluators.evaluate.price` and `derive` give it alone, to the
last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from math import inf

from evaluators.bench import Traced
from evaluators.cost.area import area_mm2
from evaluators.cost.model import CostReport, cost_many
from evaluators.evaluate import Unmapped, parameter_bits
from evaluators.scores import Accuracy, Facts, PassFacts, Scores, derive
from evaluators.workload.graph import Workload
from evaluators.workload.memory import peak_bits
from hw_templates.accelerator import Accelerator, HardwareError
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
    built: dict[AcceleratorChoice, Accelerator] = {}
    reasons: dict[AcceleratorChoice, str] = {}
    for choice in dict.fromkeys(accelerators):
        try:
            built[choice] = choice.build()
        except HardwareError as error:
            reasons[choice] = str(error)
    chips = tuple(built.values())
    inference = _pass_facts(traced.inference, chips, asked=Pass.INFERENCE in passes)
    training = _pass_facts(traced.training, chips, asked=Pass.TRAINING in passes)
    stored = parameter_bits(traced.inference)
    priced = {
        choice: PricedChip(accelerator=choice, scores=None, reason=why) for choice, why in reasons.items()
    }
    for index, (choice, chip) in enumerate(built.items()):
        facts = Facts(
            inference=inference[index][0],
            training=training[index][0],
            storage_bits=stored,
            area_mm2=area_mm2(chip),
            accuracy=accuracy,
        )
        unmapped = inference[index][1] + training[index][1]
        priced[choice] = PricedChip(accelerator=choice, scores=derive(facts), unmapped=unmapped)
    return tuple(priced[choice] for choice in accelerators)


def _pass_facts(
    workload: Workload, chips: Sequence[Accelerator], *, asked: bool
) -> list[tuple[PassFacts, tuple[Unmapped, ...]]]:
    peak = float(peak_bits(workload))
    if not asked:
        macs = sum(op.contraction.nest.macs for op in workload.ops if op.contraction is not None)
        facts = PassFacts(
            mapped=False,
            energy_pj=inf,
            contraction_energy_pj=inf,
            latency_s=inf,
            macs=macs,
            dram_bits=inf,
            peak_bits=peak,
        )
        return [(facts, ())] * len(chips)
    return [(_facts(report, peak), _unmapped(report)) for report in cost_many(workload, chips)]


def _facts(report: CostReport, peak: float) -> PassFacts:
    return PassFacts(
        mapped=not report.infeasible,
        energy_pj=report.energy_pj,
        contraction_energy_pj=report.contraction_energy_pj,
        latency_s=report.latency_s,
        macs=report.macs,
        dram_bits=report.dram_bits,
        peak_bits=peak,
    )


def _unmapped(report: CostReport) -> tuple[Unmapped, ...]:
    return tuple(
        Unmapped(
            op=row.op,
            level=row.infeasible.level,
            demand_bits=row.infeasible.demand_bits,
            capacity_bits=row.infeasible.capacity_bits,
        )
        for row in report.infeasible
        if row.infeasible is not None
    )
