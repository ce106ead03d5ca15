"""The orders in which a designer may decide: all at once, compression first, or hardware first.

Each is a study file of its own, derived from the user's, and all may spend the same on training. Both
sequential strategies are given what a careful designer would have: they keep the whole front of their first
step, not one design of it, and nothing that is free in this tool costs them anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum

import numpy as np

from codesign.errors import CodesignError
from codesign.front import knee_index, nondominated
from codesign.hardware import Hardware
from codesign.hardware_front import hardware_front
from codesign.problem import Problem
from codesign.samplers import AUTO_TRIALS
from codesign.sections.budget import Budget
from codesign.sections.search import Fidelity, HardwareSweep
from codesign.study_file import StudyFile
from evaluators.hardware_sweep import PricedChip
from evaluators.scores import Direction, Source, score_kinds
from search_spaces.accelerator import AcceleratorChoice, AcceleratorSpace, ParameterValue

CHIPS = 256  # accelerators that a trained half is priced on where the study does not say; our choice
_TRIALS_A_TRAINING = 20  # at most so many trials a training are drawn, should a strategy meet only gates
_MOST_TRIALS = 10_000  # the same, where the budget is in minutes
_NONE_STOPS = 10**6  # an eta that lets everything train on

_OF_THE_CHIP_ALONE = ("area_mm2",)  # scores that no choice about the network changes


class Strategy(Enum):
    """The order in which algorithm and accelerator are chosen."""

    JOINT = "joint"
    COMPRESS_FIRST = "compress_first"
    HARDWARE_FIRST = "hardware_first"


DEFINITIONS: Mapping[Strategy, str] = {
    Strategy.JOINT: (
        "the study as it is: network, compression and accelerator are drawn together, and every trained half "
        "is priced on the accelerators of the hardware sweep"
    ),
    Strategy.COMPRESS_FIRST: (
        "the whole training budget searches network and compression on the reference design's accelerator "
        "(constraints on area, which they cannot change, wait); then every design of that front is priced on "
        "the accelerators of the hardware sweep, which trains nothing"
    ),
    Strategy.HARDWARE_FIRST: (
        "the reference network is priced, untrained, on the accelerators of the hardware sweep; of the front "
        "of its costs under the constraints one accelerator of each template is kept, the knee of its part; "
        "then the whole training budget searches network and compression on these"
    ),
}


def prepared(study: StudyFile, seed: int, budget: Budget) -> StudyFile:
    """Return the study that all strategies start from: the same sampler, chips and budget for each.

    Args:
        budget: in trainings or in minutes of training.
    """
    most = _MOST_TRIALS if budget.trainings is None else _TRIALS_A_TRAINING * budget.trainings
    sampler = study.sampler
    if sampler.name == "auto":  # by trainings: by trials it would differ from strategy to strategy
        small = budget.trainings is not None and budget.trainings < AUTO_TRIALS
        sampler = sampler.model_copy(update={"name": "tpe" if small else "nsga2"})
    accelerator = study.reference_space.accelerator.model_dump(mode="json")
    return study.model_copy(
        update={
            "seed": seed,
            "budget": budget.model_copy(update={"trials": most}),
            "sampler": sampler,
            "shared_cache": None,  # who runs later would find trained what others have paid for
            "hardware_sweep": study.hardware_sweep or HardwareSweep(designs=CHIPS),
            # Said in full, since what is left out of a reference follows from the space, which will change.
            "reference": study.reference | {"accelerator": accelerator},
        }
    )


def compressing(study: StudyFile) -> StudyFile:
    """Return the first step of `compress_first`: the reference's accelerator, and no other."""
    return _on(study, study.reference_space.accelerator).model_copy(
        update={
            "hardware_sweep": None,
            "constraints": tuple(c for c in study.constraints if c.score not in _OF_THE_CHIP_ALONE),
        }
    )


def choosing_chips(study: StudyFile, halves: int) -> StudyFile:
    """Return the second step of `compress_first`: so many trained halves are priced, none is trained."""
    fidelity = study.fidelity
    if fidelity is not None:  # the same stages, so that the trained halves are found, and none of them stops
        fidelity = (
            Fidelity(eta=_NONE_STOPS, epochs=fidelity.epochs, data=fidelity.data) if fidelity.epochs else None
        )
    return study.model_copy(update={"budget": Budget(trials=1 + halves), "fidelity": fidelity})


def on_chips(study: StudyFile, chips: Sequence[AcceleratorChoice]) -> StudyFile:
    """Return the second step of `hardware_first`: the search on chips that are chosen already."""
    templates: dict[str, dict[str, tuple[ParameterValue, ...]]] = {
        chip.template: {name: (value,) for name, value in chip.parameters} for chip in chips
    }
    sweep = study.hardware_sweep
    if sweep is not None:
        sweep = sweep.model_copy(update={"designs": len(chips)}) if len(chips) > 1 else None
    return _on(study, AcceleratorSpace(templates=templates)).model_copy(update={"hardware_sweep": sweep})


def _on(study: StudyFile, accelerator: AcceleratorSpace) -> StudyFile:
    return study.model_copy(update={"space": study.space_.model_copy(update={"accelerator": accelerator})})


def chosen_chips(study: StudyFile) -> tuple[AcceleratorChoice, ...]:
    """Return the first step of `hardware_first`: chips for the reference network, by cost alone.

    Of the front of the cost objectives under the cost constraints one chip of each template is kept, the
    knee of the template's part. Where no chip keeps the constraints (the reference network may need more
    memory than they allow), those that break them least are taken instead.

    Raises:
        CodesignError: no accelerator of the space can run the reference network.
    """
    problem = Problem(study, cache=None)
    priced = Hardware(study).price(problem.price_reference().traced)
    kinds = score_kinds()
    objectives = [o for o in study.objectives if o.kind.source is Source.COST]
    constraints = [c for c in study.constraints if kinds[c.score].source is Source.COST]
    scores = [chip.scores for chip in priced]
    kept = hardware_front(scores, objectives, constraints)
    if not kept:
        near = _least_broken(study, priced)
        places = hardware_front([priced[index].scores for index in near], objectives, ())
        kept = tuple(near[index] for index in places)
    if not kept:
        raise CodesignError(
            "hardware_first chooses a chip for the reference network, but no accelerator of the space can "
            "run it; name a smaller reference network, or leave hardware_first out"
        )
    signs = np.array([-1.0 if o.direction is Direction.MAXIMIZE else 1.0 for o in objectives])
    chips: dict[str, list[int]] = {}
    for index in kept:
        chips.setdefault(priced[index].accelerator.template, []).append(index)
    found = []
    for members in chips.values():
        known = [values for index in members if (values := priced[index].scores) is not None]
        values = signs * np.array([[one[o.name] for o in objectives] for one in known])
        part = np.flatnonzero(nondominated(values))
        found.append(priced[members[part[knee_index(values[part])]]].accelerator)
    return tuple(found)


def _least_broken(study: StudyFile, priced: Sequence[PricedChip]) -> list[int]:
    """Return which chips break the cost constraints by the least sum of shares."""
    needed = [c for c in study.constraints if score_kinds()[c.score].source is Source.COST]
    totals: dict[int, float] = {}
    for index, chip in enumerate(priced):
        if chip.scores is not None and all(c.score in chip.scores for c in needed):
            scores = chip.scores
            totals[index] = sum(max(0.0, c.violation(scores[c.score])) for c in needed)
    least = min(totals.values(), default=0.0)
    return [index for index, total in totals.items() if total == least]
