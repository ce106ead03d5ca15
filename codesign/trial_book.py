"""The trials of one study: drawn one at a time, told one at a time, kept in an Optuna storage.

One driver owns the book. Trials are sampled in a mirror in memory and written to the storage in one piece,
so that a kill never leaves half a trial. After a restart the driver goes through the same asks and tells
again: what the storage has already is taken from it, the first ask beyond it draws anew, from a mirror that
knows exactly what it would have known without the interruption.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from codesign.errors import StorageError
from codesign.mirror import Mirror, SamplerNotes, optuna_directions
from codesign.ranking import as_losses, best_first
from codesign.results import HardwarePoint, TrialResult
from codesign.results import TrialState as ResultState
from codesign.samplers import trial_seed
from codesign.search_space import SearchSpace
from codesign.study_file import StudyFile
from evaluators.scores import Direction
from search_spaces.choice import JsonValue
from search_spaces.design import design_to_json, json_fingerprint
from search_spaces.space import KnobValue

_ATTEMPTS = 256  # neighbours tried before a space counts as exhausted


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """One drawn trial, its design as JSON data."""

    number: int
    design: JsonValue


@dataclass(frozen=True, kw_only=True, slots=True)
class _Proposal:
    """What a trial is to be.

    Args:
        design: as JSON data.
        values: a full assignment that makes it; None where it lies outside the space.
        active: of that, what the design really uses.
    """

    design: JsonValue
    values: Mapping[str, KnobValue] | None
    active: Mapping[str, KnobValue]


class TrialBook:
    """Ask for the next trial, tell its result; the storage is the only state.

    Args:
        study: the study file.
        space: what may be drawn.
        storage: an opened Optuna storage; the study in it is created where it is missing.
        name: the study's name in the storage; a storage may hold many runs of one study file.
        first: assignments that are drawn after the reference design and before the sampler is asked.
    """

    def __init__(
        self,
        study: StudyFile,
        space: SearchSpace,
        storage: BaseStorage,
        name: str | None = None,
        first: Sequence[Mapping[str, KnobValue]] = (),
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._file = study
        self._space = space
        self._storage = storage
        self._first = first
        directions = optuna_directions(study)
        with _storage_errors():
            self._study = optuna.create_study(
                study_name=name or study.name, storage=storage, directions=directions, load_if_exists=True
            )
            self._stored = self._study.get_trials(deepcopy=False)
            if not self._stored:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                    self._study.set_metric_names([objective.name for objective in study.objectives])
        self._mirror = Mirror(study, space)
        self._distributions: dict[str, BaseDistribution] = {
            name: CategoricalDistribution(knob.values) for name, knob in space.knobs.items()
        }
        self._ids = [trial._trial_id for trial in self._stored]
        self._finished = {trial.number for trial in self._stored if trial.state.is_finished()}
        # Every stored design is known from the start, as a replay must not draw one of them again.
        self._seen = {json_fingerprint(_design_of(trial)) for trial in self._stored}
        self.asked = 0
        self.told = 0

    @property
    def stored(self) -> int:
        """How many trials the storage has; an ask below this number is a replay."""
        return len(self._ids)

    def ask(self) -> Draw | None:
        """Return the next trial, replayed or drawn; None where the space holds no further design."""
        number = self.asked
        if number < len(self._stored):
            draw = self._replay(self._stored[number])
        elif number == 0:
            values = self._space.reference_values
            active = {} if values is None else self._space.assemble(values)[1]
            reference = design_to_json(self._space.reference)
            draw = self._put(number, _Proposal(design=reference, values=values, active=active))
        else:
            found = self._draw(number)
            if found is None:
                return None
            draw = found
        self.asked += 1
        return draw

    def tell(self, result: TrialResult) -> None:
        """Write down the result of a trial in flight, and let the sampler learn from it."""
        values = self._values(result)
        if result.trial not in self._finished:
            self._store(result, values)
        self._mirror.tell(result.trial, values, result.margins, self._to_tell(result))
        self.told += 1

    def _draw(self, number: int) -> Draw | None:
        if number <= len(self._first):
            found = self._unseen(self._space.nearest(self._first[number - 1]), number)
            return None if found is None else self._put(number, found)
        ticket, values = self._mirror.propose(number)
        found = self._unseen(values, number)
        if found is None or found.values is None:
            return None
        return self._write(number, found, self._mirror.settle(number, ticket, found.values))

    def _put(self, number: int, chosen: _Proposal) -> Draw:
        """Write a trial that no sampler proposed; where it lies outside the space none can learn from it."""
        if chosen.values is not None:
            self._mirror.put(number, chosen.values, SamplerNotes())
        return self._write(number, chosen, SamplerNotes())

    def _replay(self, trial: FrozenTrial) -> Draw:
        values = trial.user_attrs["knobs"]
        if values is not None:
            sampler = trial.user_attrs["sampler"]
            notes = SamplerNotes(trial=sampler["trial"], study=sampler["study"])
            self._mirror.put(trial.number, values, notes)
        return Draw(number=trial.number, design=_design_of(trial))

    def _unseen(self, values: dict[str, KnobValue], number: int) -> _Proposal | None:
        """Return the proposed design, or the nearest one by random steps that was not drawn before."""
        rng = random.Random(trial_seed(self._file.seed, number))
        for attempt in range(_ATTEMPTS):
            design, active = self._space.assemble(values)
            data = design_to_json(design)
            if json_fingerprint(data) not in self._seen:
                return _Proposal(design=data, values=values | active, active=active)
            # One more knob is changed every few attempts, so that a crowded corner is left.
            for name in rng.sample(sorted(active), k=min(len(active), 1 + attempt // 8)):
                values = values | {name: rng.choice(self._space.knobs[name].values)}
        return None

    def _write(self, number: int, chosen: _Proposal, notes: SamplerNotes) -> Draw:
        trial = create_trial(
            state=TrialState.RUNNING,
            params=dict(chosen.active),
            distributions={name: self._distributions[name] for name in chosen.active},
            user_attrs={
                "design": chosen.design,
                "knobs": None if chosen.values is None else dict(chosen.values),
                "sampler": {"trial": dict(notes.trial), "study": dict(notes.study)},
            },
        )
        with _storage_errors():
            self._ids.append(self._storage.create_new_trial(self._study._study_id, template_trial=trial))
        self._seen.add(json_fingerprint(chosen.design))
        return Draw(number=number, design=chosen.design)

    def _store(self, result: TrialResult, values: list[float] | None) -> None:
        """Write a result; the state comes last, so a kill in between leaves a trial that is told again."""
        state = TrialState.FAIL if values is None else TrialState.COMPLETE
        if result.state is ResultState.STOPPED:
            state, values = TrialState.PRUNED, None  # Optuna has no values for pruned multi-objective trials
        with _storage_errors():
            trial_id = self._ids[result.trial]
            told = {"state": result.state.value, "scores": dict(result.scores), "stage": result.stage}
            self._storage.set_trial_user_attr(trial_id, "result", told)
            for name, margin in result.margins.items():
                self._storage.set_trial_system_attr(trial_id, f"constraints:{name}", margin)
            self._storage.set_trial_state_values(trial_id, state, values)

    def _values(self, result: TrialResult) -> list[float] | None:
        """Return what the sampler is told: a gated design has its cost, and the worst accuracy there is."""
        if result.state is ResultState.FAILED:
            return None
        return [
            float(result.scores.get(o.name, 0.0 if o.direction is Direction.MAXIMIZE else float("inf")))
            for o in self._file.objectives
        ]

    def _to_tell(self, result: TrialResult) -> tuple[HardwarePoint, ...]:
        """Return the accelerators that the sampler learns from: those that span the hardware front best."""
        most = 0 if self._file.hardware_sweep is None else self._file.hardware_sweep.told
        if len(result.hardware) <= most:
            return result.hardware
        signs = [-1.0 if o.direction is Direction.MAXIMIZE else 1.0 for o in self._file.objectives]
        rows = [
            [sign * point.scores[o.name] for sign, o in zip(signs, self._file.objectives, strict=True)]
            for point in result.hardware
        ]
        return tuple(result.hardware[index] for index in best_first(as_losses(rows))[:most])


def _design_of(trial: FrozenTrial) -> JsonValue:
    return cast(JsonValue, trial.user_attrs["design"])


@contextmanager
def _storage_errors() -> Iterator[None]:
    """Turn what a back end raises while it is read or written into one message."""
    try:
        yield
    except (optuna.exceptions.OptunaError, OSError, RuntimeError) as error:
        cause = error.__cause__ or error  # what Optuna says of a database is a guess, its cause is not
        first = (str(cause).strip() or type(cause).__name__).splitlines()[0].rstrip(".")
        raise StorageError(
            f"the trial storage failed: {first}. Nothing that was finished is lost; "
            "`cosearch resume` continues once it answers again"
        ) from error
