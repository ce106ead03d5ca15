"""The sampler's view of a study: an Optuna study in memory, whose every change can be replayed.

The storage keeps what was decided; the mirror is what a sampler looks at while it decides. It also holds
what no storage has: the accelerators that hardware sweeps found, told as trials of their own.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from codesign.front import Array, reference_box
from codesign.results import HardwarePoint
from codesign.samplers import (
    Generations,
    build_sampler,
    index_distributions,
    to_params,
    to_row,
    to_values,
    trial_seed,
)
from codesign.search_space import SearchSpace
from codesign.study_file import StudyFile
from evaluators.scores import Direction
from search_spaces.space import KnobValue


def optuna_directions(study: StudyFile) -> list[StudyDirection]:
    """Return the directions of the objectives as Optuna names them."""
    return [StudyDirection[objective.direction.name] for objective in study.objectives]


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplerNotes:
    """What a sampler wrote down beside a proposal; with it the proposal can be put back as it was.

    Both are Optuna's own system attributes: JSON data of whatever form a sampler likes.
    """

    trial: Mapping[str, Any] = field(default_factory=dict)
    study: Mapping[str, Any] = field(default_factory=dict)


class _Kept(FrozenTrial):
    """A trial that the mirror alone holds, so nobody needs a copy of its own.

    Optuna copies a trial deeply whenever it is added or told: 5 ms for thirty knobs, more than all the rest
    of telling it. Its storages change no trial in place, they replace it.
    """

    def __deepcopy__(self, memo: dict[int, object]) -> FrozenTrial:
        return copy.copy(self)


class Mirror:
    """Proposes assignments, and learns what came of them.

    Args:
        study: objectives, sampler and seed.
        space: the knobs.
    """

    def __init__(self, study: StudyFile, space: SearchSpace) -> None:
        self._file = study
        self._space = space
        self._distributions = index_distributions(space.knobs)
        self._signs = [-1.0 if o.direction is Direction.MAXIMIZE else 1.0 for o in study.objectives]
        self._study = optuna.create_study(directions=optuna_directions(study))
        self._generations = Generations()
        self._places: dict[int, int] = {}  # running trial -> its id in the mirror
        self._values: dict[int, dict[str, KnobValue]] = {}  # running trial -> its knobs
        self._known_attrs: set[str] = set()
        self._rows: list[list[float]] = []  # what the predictor learns from
        self._losses: list[list[float]] = []
        self._box: tuple[Array, Array] | None = None  # in which the hypervolume is measured

    def propose(self, number: int) -> tuple[int, dict[str, KnobValue]]:
        """Ask the sampler for trial `number`.

        Returns:
            A ticket for `settle`, and a full assignment of the knobs.
        """
        sampler = self._sampler(trial_seed(self._file.seed, number))
        self._study.sampler = sampler
        storage = self._study._storage
        blank = self._trial(TrialState.RUNNING, {}, {})
        frozen = storage.get_trial(storage.create_new_trial(self._study._study_id, blank))
        sampler.before_trial(self._study, frozen)
        params = self._sample(sampler, frozen)
        if self._file.sampler.candidates > 1:
            params = self._predicted_best(frozen, params, number)
        return frozen._trial_id, to_values(self._space.knobs, params)

    def _sample(self, sampler: optuna.samplers.BaseSampler, frozen: FrozenTrial) -> dict[str, object]:
        """Return one proposal of a sampler.

        Every trial has every knob, so the relative search space is the whole one. Optuna would infer that
        again for each trial from all trials before it, which at 10,000 of them takes a second.
        """
        relative = sampler.sample_relative(self._study, frozen, self._distributions)
        return {
            name: relative[name]
            if name in relative
            else sampler.sample_independent(self._study, frozen, name, distribution)
            for name, distribution in self._distributions.items()
        }

    def settle(self, number: int, ticket: int, values: Mapping[str, KnobValue]) -> SamplerNotes:
        """Make `values` what trial `number` was drawn with, and return the sampler's notes."""
        storage = self._study._storage
        trial = storage.get_trial(ticket)  # nobody else has it yet, so it may be changed in place
        trial.params = dict(to_params(self._space.knobs, values))
        trial.distributions = dict(self._distributions)
        self._places[number] = ticket
        self._values[number] = dict(values)
        attrs = storage.get_study_system_attrs(self._study._study_id)
        fresh = {name: value for name, value in attrs.items() if name not in self._known_attrs}
        self._known_attrs.update(fresh)
        return SamplerNotes(trial=dict(trial.system_attrs), study=fresh)

    def put(self, number: int, values: Mapping[str, KnobValue], notes: SamplerNotes) -> None:
        """Put in, as running, a trial that was drawn before, or that no sampler drew."""
        for name, value in notes.study.items():
            self._study._storage.set_study_system_attr(self._study._study_id, name, value)
        self._known_attrs.update(notes.study)
        self._values[number] = dict(values)
        self._places[number] = self._add(self._trial(TrialState.RUNNING, values, notes.trial))._trial_id

    def tell(
        self,
        number: int,
        values: Sequence[float] | None,
        margins: Mapping[str, float],
        hardware: Sequence[HardwarePoint],
    ) -> None:
        """Let the sampler know what came of a trial; one outside the space it cannot learn from.

        Args:
            number: the trial.
            values: of the objectives; None where it failed.
            margins: by how much each constraint is broken; not above zero where it is kept.
            hardware: accelerators of its hardware sweep, told as trials of their own.
        """
        if number == 0 and values is not None:
            signed = np.array([sign * value for sign, value in zip(self._signs, values, strict=True)])
            self._box = reference_box(signed, self._file.objectives) if np.isfinite(signed).all() else None
        if number not in self._places:
            return
        assignment = self._values.pop(number)
        frozen = self._study._storage.get_trial(self._places.pop(number))
        for name, margin in margins.items():
            self._study._storage.set_trial_system_attr(frozen._trial_id, f"constraints:{name}", margin)
        state = TrialState.FAIL if values is None else TrialState.COMPLETE
        self._study.tell(frozen.number, None if values is None else list(values), state=state)
        if state is TrialState.COMPLETE:
            self._generations.add(self._study._storage.get_trial(frozen._trial_id))
        self._learn(assignment, values)
        for point in hardware:
            found = [point.scores[objective.name] for objective in self._file.objectives]
            other = {**assignment, **{k: v for k, v in point.knobs.items() if k in assignment}}
            told = self._trial(TrialState.COMPLETE, other, frozen.system_attrs, found, point.margins)
            self._generations.add(self._add(told))
            self._learn(other, found)

    def _add(self, trial: FrozenTrial) -> FrozenTrial:
        """Put a trial of our own making into the study; it needs none of the checks of `add_trial`."""
        storage = self._study._storage
        return storage.get_trial(storage.create_new_trial(self._study._study_id, trial))

    def _trial(
        self,
        state: TrialState,
        assignment: Mapping[str, KnobValue],
        attrs: Mapping[str, object],
        values: Sequence[float] | None = None,
        margins: Mapping[str, float] | None = None,
    ) -> FrozenTrial:
        kept = {name: value for name, value in attrs.items() if not name.startswith("constraints:")}
        now = datetime.now()
        return _Kept(
            number=-1,  # the storage numbers it
            trial_id=-1,
            state=state,
            value=None,
            values=values,
            datetime_start=now,
            datetime_complete=now if state.is_finished() else None,
            params=dict(to_params(self._space.knobs, assignment)) if assignment else {},
            distributions=dict(self._distributions) if assignment else {},
            user_attrs={},
            system_attrs=kept | {f"constraints:{name}": margin for name, margin in (margins or {}).items()},
            intermediate_values={},
        )

    def _sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        return build_sampler(self._file.sampler, self._file.budget.trials, seed, self._generations)

    def _learn(self, assignment: Mapping[str, KnobValue], values: Sequence[float] | None) -> None:
        if self._file.sampler.candidates > 1:
            self._rows.append(to_row(self._space.knobs, assignment))
            worst = [math.inf] * len(self._signs)
            signed = worst if values is None else [s * v for s, v in zip(self._signs, values, strict=True)]
            self._losses.append(signed)

    def _predicted_best(
        self, frozen: FrozenTrial, first: dict[str, object], number: int
    ) -> dict[str, object]:
        """Return the one of several proposals that the predictor ranks first."""
        from codesign.predictor import choose

        seeds = [trial_seed(self._file.seed, number, n) for n in range(1, self._file.sampler.candidates)]
        proposals = [first, *(self._sample(self._sampler(seed), frozen) for seed in seeds)]
        rows = [to_row(self._space.knobs, to_values(self._space.knobs, one)) for one in proposals]
        seed = trial_seed(self._file.seed, number)
        return proposals[choose(rows, self._rows, self._losses, seed, self._box)]
