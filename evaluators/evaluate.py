"""Design -> scores: the whole walk, top to bottom."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

from evaluators.bench import Bench
from evaluators.cost.area import area_mm2
from evaluators.cost.model import CostReport, cost
from evaluators.cost.special import undecoded_layers
from evaluators.half_choices import choices_of, replacements_of
from evaluators.scores import Accuracy, Facts, PassFacts, Scores, derive
from evaluators.shapes import ImageShape
from evaluators.techniques.dispatch import rewrite
from evaluators.techniques.model import assume, observe
from evaluators.techniques.quantization import in_reading_order
from evaluators.traces import Traced
from evaluators.trained import Trained
from evaluators.workload.graph import Role, Workload
from evaluators.workload.memory import peak_bits
from hw_templates.accelerator import Accelerator
from search_spaces.choice import Choice
from search_spaces.design import AlgorithmicHalf, Design


@dataclass(frozen=True, kw_only=True, slots=True)
class Priced:
    """What a rewritten network costs on an accelerator."""

    inference: CostReport
    training: CostReport
    facts: Facts


@dataclass(frozen=True, kw_only=True, slots=True)
class Unmapped:
    """An op that no mapping fits: which memory it needs more of than there is."""

    op: str
    level: str
    demand_bits: float
    capacity_bits: float

    @property
    def excess(self) -> float:
        """By what share of the capacity the demand exceeds it."""
        return self.demand_bits / self.capacity_bits - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What one design is worth.

    Args:
        expected: the cost scores from the densities that the design asks for, before any training.
        scores: the measured scores; equal to `expected` where the design was gated.
        gated: a constraint is broken by the cost alone, and nothing was trained.
        trained: the trained half; None where gated, and where there are no examples to train on.
        cached: the trained half was read, nothing was trained.
        seconds: what `cost` and `training` really took, and the `total`, which has the waiting for an equal
            half in another process and the reading of the cache in it too.
        stage: how far it was trained; None: to the end of the recipe.
        epochs: of fine-tuning that were run for this evaluation (`TrainedHalf.epochs`).
    """

    expected: Scores
    scores: Scores
    gated: bool
    priced: Priced
    traced: Traced
    trained: Trained | None
    cached: bool
    seconds: dict[str, float]
    stage: int | None = None
    epochs: float = 0.0

    @property
    def unmapped(self) -> tuple[Unmapped, ...]:
        """Ops that the accelerator cannot run at all; their cost is infinite."""
        return tuple(
            Unmapped(
                op=row.op,
                level=row.infeasible.level,
                demand_bits=row.infeasible.demand_bits,
                capacity_bits=row.infeasible.capacity_bits,
            )
            for report in (self.priced.inference, self.priced.training)
            for row in report.infeasible
            if row.infeasible is not None
        )

    def ledger(self) -> dict[str, object]:
        """Return where the energy of each pass goes, as JSON data."""
        return priced_ledger(self.priced)


def priced_ledger(priced: Priced) -> dict[str, object]:
    """Return where the energy of each pass goes, as JSON data."""
    return {"version": 1, "inference": _ledger(priced.inference), "training": _ledger(priced.training)}


def _ledger(report: CostReport) -> dict[str, object]:
    """Return a report as JSON data; a pass that the chip cannot run has no rows, for they are infinite."""
    return {"version": 1, "rows": []} if report.infeasible else report.to_json()


Gate = Callable[[Scores, Traced], bool]
"""Whether a design is worth training: its cost scores, and the passes that they are the cost of."""


def evaluate(design: Design, bench: Bench, *, keeps: Gate, stage: int | None = None) -> Evaluation:
    """Walk one design from its choices to its scores.

    Args:
        keeps: the gate; scores of a pass that the chip cannot run are not among those it is given.
        stage: train to the end of this stage of the bench; None for the last.

    Raises:
        HardwareError: the accelerator's parameters are not its template's.
        DivergedError: training met a NaN or an infinite loss.
        LearningError: the bench has no such stage.
    """
    started = time.perf_counter()
    traced = bench.trace(design.network, design.learning, replacements_of(design.algorithm))
    asked = suppose(compress(traced, design.algorithm), bench.shape_for(design.network))
    accelerator = design.accelerator.build()
    expected = price(asked, accelerator, accuracy=None)
    scores = derive(expected.facts)
    priced_at = time.perf_counter()
    gated = not keeps(scores, asked)
    if gated or not bench.can_train:
        return Evaluation(
            expected=scores,
            scores=scores,
            gated=gated,
            priced=expected,
            traced=asked,
            trained=None,
            cached=False,
            seconds={"cost": priced_at - started, "training": 0.0, "total": priced_at - started},
            stage=stage,
        )
    answer = bench.train(design.algorithm, stage)
    trained = answer.trained
    trained_at = time.perf_counter()
    seen = measure(asked, trained)
    measured = price(seen, accelerator, accuracy=trained.accuracy)
    done = time.perf_counter()
    return Evaluation(
        expected=scores,
        scores=derive(measured.facts),
        gated=False,
        priced=measured,
        traced=seen,
        trained=trained,
        cached=answer.cached,
        seconds={
            "cost": done - trained_at + priced_at - started,
            "training": answer.seconds,
            "total": done - started,
        },
        stage=stage,
        epochs=answer.epochs,
    )


def compress(traced: Traced, half: AlgorithmicHalf) -> Traced:
    """Let every choice of the design rewrite both passes, layer by layer, in the families' order."""
    steps = in_reading_order(choices_of(half, traced.removed))
    return Traced(
        inference=_rewritten(traced.inference, steps),
        training=_rewritten(traced.training, steps),
        removed=traced.removed,
    )


def _rewritten(workload: Workload, steps: list[tuple[str, Choice]]) -> Workload:
    return reduce(lambda done, step: rewrite(step[1], done, step[0]), steps, workload)


def suppose(asked: Traced, shape: ImageShape) -> Traced:
    """Put in the share of zeros that is assumed of activations where there are no data to measure it."""
    density, storage = shape.activation_density, shape.activation_storage
    return Traced(
        inference=assume(asked.inference, density, storage),
        training=assume(asked.training, density, storage),
    )


def measure(asked: Traced, trained: Trained) -> Traced:
    """Put the measured densities of weights and activations in the place of the expected ones."""
    return Traced(
        inference=observe(asked.inference, dict(trained.densities)),
        training=observe(asked.training, dict(trained.densities)),
    )


def price(traced: Traced, accelerator: Accelerator, *, accuracy: Accuracy | None) -> Priced:
    """Return the cost of both passes on an accelerator, and the facts that scores derive from."""
    inference, training = cost(traced.inference, accelerator), cost(traced.training, accelerator)
    facts = Facts(
        inference=_pass(inference, traced.inference),
        training=_pass(training, traced.training),
        storage_bits=parameter_bits(traced.inference),
        area_mm2=area_mm2(accelerator),
        undecoded_layers=len(undecoded_layers(traced.inference, accelerator.unit_kinds)),
        accuracy=accuracy,
    )
    return Priced(inference=inference, training=training, facts=facts)


def parameter_bits(workload: Workload) -> float:
    """Return the bits of all parameters and buffers as they are stored, index included."""
    roles = (Role.WEIGHT, Role.BUFFER)
    return float(
        sum(bits for bits, t in zip(workload.stored_bits, workload.tensors, strict=True) if t.role in roles)
    )


def _pass(report: CostReport, workload: Workload) -> PassFacts:
    return PassFacts(
        mapped=not report.infeasible,
        energy_pj=report.energy_pj,
        contraction_energy_pj=report.contraction_energy_pj,
        latency_s=report.latency_s,
        macs=report.macs,
        dram_bits=report.dram_bits,
        peak_bits=float(peak_bits(workload)),
    )
