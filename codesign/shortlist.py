"""The accelerators worth pricing for every trained half, found once and without training.

Which chips are good hardly depends on the network that they run: chips that rank high for one proxy rank high
for others. So a few designs, untrained, are priced on a long list of accelerators, and of each the best ones
are kept. Designs of all kinds must be among them, or a chip that is good at few bits or at many zeros alone
would be lost: the reference design is the first, the others are drawn at random.

Source: Lu et al. 2021, One Proxy Device Is Enough for Hardware-Aware Neural Architecture Search, arXiv
    2111.01203 (the ranks of designs hardly depend on the device; here the other way round).
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np

from codesign.ranking import Array, Indices, as_losses, best_first
from codesign.samplers import trial_seed
from codesign.search_space import SearchSpace
from codesign.study_file import StudyFile
from evaluators.scores import Direction, Scores, Source, score_kinds
from search_spaces.design import Design

PROBES = 6  # designs that are priced on the whole list; our choice
_FALLBACK = "inference_energy_pj"  # what every gain is told in, where no objective is a cost


def probes(study: StudyFile, space: SearchSpace) -> tuple[Design, ...]:
    """Return the designs on which accelerators are tried: the reference design, and some drawn at random."""
    rng = random.Random(trial_seed(study.seed, 0))
    drawn = ({name: rng.choice(knob.values) for name, knob in space.knobs.items()} for _ in range(PROBES - 1))
    return (space.reference, *(space.assemble(values)[0] for values in drawn))


def shortlisted(study: StudyFile, tried: Sequence[Sequence[Scores | None]], length: int) -> tuple[int, ...]:
    """Return the indices of the accelerators to keep, ascending: the probes take their best ones in turns.

    Args:
        study: its cost objectives and constraints.
        tried: for each probe its scores on each of `n` accelerators, untrained; None where one cannot be
            built.
        length: how many to keep; all where there are no more.
    """
    orders = [_best_chips(study, scores).tolist() for scores in tried]
    kept: dict[int, None] = {}
    for place in range(len(tried[0])):
        for order in orders:
            if len(kept) == length:
                break
            kept.setdefault(order[place])
    return tuple(sorted(kept))


def _best_chips(study: StudyFile, scores: Sequence[Scores | None]) -> Indices:
    """Return all accelerators, best first: by what constraints are broken by, then by fronts."""
    kinds = score_kinds()
    objectives = [o for o in study.objectives if o.kind.source is Source.COST]
    signs = {o.name: -1.0 if o.direction is Direction.MAXIMIZE else 1.0 for o in objectives} or {
        _FALLBACK: 1.0
    }
    known = [{} if one is None else one.as_dict() for one in scores]
    rows = [[sign * values.get(name, math.inf) for name, sign in signs.items()] for values in known]
    places = np.empty(len(known), dtype=np.intp)
    places[best_first(as_losses(_with_worst(np.array(rows))))] = np.arange(len(known))
    constraints = [c for c in study.constraints if kinds[c.score].source is Source.COST]
    broken = [
        sum(max(0.0, c.violation(values[c.score])) if c.score in values else math.inf for c in constraints)
        for values in known
    ]
    return np.lexsort((places, np.array(broken, dtype=np.float64)))


def _with_worst(rows: Array) -> Array:
    """Return losses in which what has no value, of whatever sign, is plus infinity."""
    return np.where(np.isfinite(rows), rows, np.inf)
