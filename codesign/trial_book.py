"""The trials of one study: drawn one at a time, told strictly by number, kept in an Optuna storage.

One driver owns the book. Trials are sampled in an in-memory mirror and written to the storage in one
piece, so that a kill never leaves half a trial. The next trial is drawn exactly when the oldest one in
flight is told; what a sampler knows when it draws trial n is therefore always the results below
n - window, whichever worker was faster, and whether or not the driver was killed in between.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import optuna
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from codesign.errors import StorageError
from codesign.results import TrialResult
from codesign.results import TrialState as ResultState
from codesign.samplers import build_sampler, index_distributions, to_params, to_values, trial_seed
from codesign.study_file import StudyFile
from evaluators.scores import Direction
from search_spaces.choice import JsonValue
from search_spaces.design import Design, design_from_json, design_to_json, fingerprint
from search_spaces.space import Describe, KnobValue, assemble, knobs

_ATTEMPTS = 256  # neighbours tried before a space counts as exhausted


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """One drawn trial."""

    number: int
    design: Design


class TrialBook:
    """Ask for the next trial, tell its result; the storage is the only state.

    Args:
        study: the study file.
        storage: an opened Optuna storage; the study in it is created where it is missing.
        describe: the layers of a network choice.
        planned: trials in all; the sampler is chosen by it.
        name: the study's name in the storage; a storage may hold many runs of one study file.
    """

    def __init__(
        self,
        study: StudyFile,
        storage: BaseStorage,
        describe: Describe,
        planned: int,
        name: str | None = None,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._file = study
        self._storage = storage
        self._describe = describe
        self._planned = planned
        directions = [StudyDirection[objective.direction.name] for objective in study.objectives]
        with _storage_errors():
            self._study = optuna.create_study(
                study_name=name or study.name, storage=storage, directions=directions, load_if_exists=True
            )
            stored = self._study.get_trials(deepcopy=False)
            if not stored:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                    self._study.set_metric_names([objective.name for objective in study.objectives])
        self._knobs = knobs(study.space_, study.network.name, describe)
        self._distributions = index_distributions(self._knobs)
        self._mirror = optuna.create_study(directions=directions)
        self._live: dict[int, int] = {}  # trial number -> its number in the mirror
        self._ids: list[int] = []  # trial number -> its id in the storage
        self._seen: set[str] = set()
        self.told = 0
        for trial in stored:
            self._restore(trial)

    @property
    def asked(self) -> int:
        """How many trials were drawn."""
        return len(self._ids)

    def running(self) -> Iterator[Draw]:
        """Yield the trials that were drawn and not told, by number."""
        for trial in self._study.get_trials(deepcopy=False):
            if not trial.state.is_finished():
                yield Draw(number=trial.number, design=_design_of(trial))

    def ask(self) -> Draw | None:
        """Draw the next trial and write it down; None where the space holds no further design."""
        number = self.asked
        if number == 0:
            return self._ask_reference()
        sampler = build_sampler(self._file.sampler, self._planned, trial_seed(self._file.seed, number))
        self._mirror.sampler = sampler
        before = set(self._mirror_attrs())
        drawn = self._mirror.ask(fixed_distributions=self._distributions)
        found = self._unseen(to_values(self._knobs, drawn.params), number)
        if found is None:
            return None
        design, values = found
        params = to_params(self._knobs, values)
        for name, distribution in self._distributions.items():
            self._mirror._storage.set_trial_param(
                drawn._trial_id, name, distribution.to_internal_repr(params[name]), distribution
            )
        attrs = self._mirror.get_trials(deepcopy=False)[drawn.number].system_attrs
        shared = {name: value for name, value in self._mirror_attrs().items() if name not in before}
        self._live[number] = drawn.number
        return self._write(design, values, attrs, shared)

    def tell(self, result: TrialResult) -> None:
        """Write down the result of the oldest trial in flight."""
        values = self._values(result)
        state = TrialState.FAIL if values is None else TrialState.COMPLETE
        with _storage_errors():
            trial_id = self._ids[result.trial]
            self._storage.set_trial_user_attr(trial_id, "state", result.state.value)
            self._storage.set_trial_user_attr(trial_id, "scores", dict(result.scores))
            for name, margin in result.margins.items():
                self._storage.set_trial_system_attr(trial_id, f"constraints:{name}", margin)
            self._study.tell(result.trial, values, state=state, skip_if_finished=True)
        if result.trial in self._live:
            mirrored = self._live[result.trial]
            frozen = self._mirror.get_trials(deepcopy=False)[mirrored]
            for name, margin in result.margins.items():
                self._mirror._storage.set_trial_system_attr(frozen._trial_id, f"constraints:{name}", margin)
            self._mirror.tell(mirrored, values, state=state)
        self.told += 1

    def _values(self, result: TrialResult) -> list[float] | None:
        """Return what the sampler is told: a gated design has its cost, and the worst accuracy there is."""
        if result.state is ResultState.FAILED:
            return None
        return [
            result.scores.get(o.name, 0.0 if o.direction is Direction.MAXIMIZE else float("inf"))
            for o in self._file.objectives
        ]

    def _ask_reference(self) -> Draw:
        reference = self._file.reference_space
        design, pinned = assemble(reference, {}, self._file.network.name, self._describe)
        values = {name: pinned.get(name, knob.values[0]) for name, knob in self._knobs.items()}
        legal = all(values[name] in knob.values for name, knob in self._knobs.items())
        if legal and self._assemble(values)[0] == design:
            params = to_params(self._knobs, values)
            self._mirror.add_trial(
                create_trial(state=TrialState.RUNNING, params=params, distributions=self._distributions)
            )
            self._live[0] = 0
            return self._write(design, values, {}, {})
        # It lies outside the space: the samplers have no parameters for it and never see it.
        return self._write(design, None, {}, {})

    def _assemble(self, values: Mapping[str, KnobValue]) -> tuple[Design, dict[str, KnobValue]]:
        return assemble(self._file.space_, values, self._file.network.name, self._describe)

    def _unseen(
        self, values: dict[str, KnobValue], number: int
    ) -> tuple[Design, dict[str, KnobValue]] | None:
        """Return the proposed design, or the nearest one by random steps that was not drawn before."""
        rng = random.Random(trial_seed(self._file.seed, number))
        for attempt in range(_ATTEMPTS):
            design, active = self._assemble(values)
            if fingerprint(design) not in self._seen:
                return design, values | active
            # One more knob is changed every few attempts, so that a crowded corner is left.
            for name in rng.sample(sorted(active), k=min(len(active), 1 + attempt // 8)):
                values = values | {name: rng.choice(self._knobs[name].values)}
        return None

    def _write(
        self,
        design: Design,
        values: Mapping[str, KnobValue] | None,
        attrs: Mapping[str, object],
        shared: Mapping[str, object],
    ) -> Draw:
        active = {} if values is None else self._assemble(values)[1]
        distributions = {
            name: optuna.distributions.CategoricalDistribution(self._knobs[name].values) for name in active
        }
        trial = create_trial(
            state=TrialState.RUNNING,
            params=dict(active),
            distributions=dict(distributions),
            user_attrs={
                "design": design_to_json(design),
                "knobs": None if values is None else dict(values),
                "sampler": {"trial": dict(attrs), "study": dict(shared)},
            },
        )
        with _storage_errors():
            self._study.add_trial(trial)
            self._ids.append(self._study.get_trials(deepcopy=False)[-1]._trial_id)
        self._seen.add(fingerprint(design))
        return Draw(number=self.asked - 1, design=design)

    def _restore(self, trial: FrozenTrial) -> None:
        """Put a stored trial back into the mirror, exactly as it stood there."""
        self._ids.append(trial._trial_id)
        self._seen.add(fingerprint(_design_of(trial)))
        self.told += trial.state.is_finished()
        values = trial.user_attrs["knobs"]
        if values is None:
            return
        sampler = trial.user_attrs["sampler"]
        for name, value in sampler["study"].items():
            self._mirror._storage.set_study_system_attr(self._mirror._study_id, name, value)
        self._live[trial.number] = len(self._mirror.get_trials(deepcopy=False))
        self._mirror.add_trial(
            create_trial(
                state=trial.state,
                values=trial.values,
                params=to_params(self._knobs, values),
                distributions=self._distributions,
                system_attrs=sampler["trial"],
                constraints=trial.constraints,
            )
        )

    def _mirror_attrs(self) -> dict[str, object]:
        return dict(self._mirror._storage.get_study_system_attrs(self._mirror._study_id))


def _design_of(trial: FrozenTrial) -> Design:
    return design_from_json(cast(JsonValue, trial.user_attrs["design"]))


@contextmanager
def _storage_errors() -> Iterator[None]:
    """Turn what a back end raises while it is read or written into one message."""
    try:
        yield
    except (optuna.exceptions.OptunaError, OSError, RuntimeError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise StorageError(
            f"the trial storage failed: {first}. Nothing that was finished is lost; "
            "`cosearch resume` continues once it answers again"
        ) from error
