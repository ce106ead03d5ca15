"""The same question put to plain Optuna and to the sweep, and when each had found how much.

Plain Optuna is what a user writes: `study.optimize` with one of its samplers, the same knobs, objectives and
constraints. What it does not know: that a design can be refused before it is trained, that an equal half was
trained already, that a trained half can be priced on every chip, and that a bad one can be stopped early.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import optuna
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler

from codesign.front import front, hypervolume
from codesign.mirror import optuna_directions
from codesign.results import TrialResult, TrialState
from codesign.samplers import to_params, to_values
from codesign.search_space import SearchSpace
from codesign.sections.goals import Objective
from codesign.study_file import StudyFile
from search_spaces.design import Design
from search_spaces.space import Knob

SAMPLERS: Mapping[str, Callable[[int], BaseSampler]] = {
    "optuna_tpe": lambda seed: TPESampler(seed=seed),  # Optuna 5's default for several objectives
    "optuna_nsga2": lambda seed: NSGAIISampler(seed=seed),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """How much was found, by what training had cost until then.

    Args:
        spent: training, ascending; seconds, or trainings where the answers come from a table.
        work: what all of the evaluation had taken, pricing included; as `spent` where it takes nothing.
        volumes: the hypervolume after each.
    """

    spent: tuple[float, ...]
    work: tuple[float, ...]
    volumes: tuple[float, ...]

    @property
    def final(self) -> float:
        """The hypervolume at the end."""
        return self.volumes[-1]

    def at(self, spent: float) -> float:
        """Return the hypervolume that was found for at most `spent`."""
        known = [volume for cost, volume in zip(self.spent, self.volumes, strict=True) if cost <= spent]
        return max(known, default=0.0)

    def reaches(self, volume: float, *, work: bool = False) -> float | None:
        """Return what it took to find as much as `volume`; None where it was not found."""
        costs = self.work if work else self.spent
        return next((c for c, found in zip(costs, self.volumes, strict=True) if found >= volume), None)


def curve(
    results: Sequence[TrialResult],
    spent: Sequence[float],
    work: Sequence[float],
    objectives: Sequence[Objective],
    reference: TrialResult,
) -> Curve:
    """Return the hypervolume after every trial.

    Args:
        results: in the order in which they were known.
        spent: what the training of each took.
        work: what all of its evaluation took.
        reference: the design whose box is measured.
    """
    kept: list[TrialResult] = []
    volume, volumes = 0.0, []
    for result in results:
        if any(variant.feasible for variant in result.variants()):
            before = kept
            kept = list(front([*kept, result], objectives))
            if kept != before:
                volume = hypervolume(kept, objectives, reference)
        volumes.append(volume)
    return Curve(
        spent=tuple(itertools.accumulate(spent)),
        work=tuple(itertools.accumulate(work)),
        volumes=tuple(volumes),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    """What a user's objective function finds out about one design.

    Args:
        spent: what its training took.
        work: what all of it took.
    """

    result: TrialResult
    spent: float
    work: float


def plain_optuna(
    study: StudyFile,
    space: SearchSpace,
    evaluate: Callable[[int, Design], Evaluated],
    sampler: BaseSampler,
    *,
    trials: int | None = None,
    training: float | None = None,
) -> list[Evaluated]:
    """Run `study.optimize`, and return what was evaluated.

    Args:
        evaluate: everything is trained and priced, constraints kept or not.
        trials: stop after this many.
        training: stop when so much was spent on training.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    done: list[Evaluated] = []

    def objective(trial: optuna.Trial) -> tuple[float, ...]:
        params = {name: _suggest(trial, knob) for name, knob in space.knobs.items()}
        found = evaluate(trial.number, space.assemble(to_values(space.knobs, params))[0])
        done.append(found)
        if training is not None and sum(one.spent for one in done) >= training:
            trial.study.stop()
        if found.result.state is not TrialState.COMPLETED:
            raise optuna.TrialPruned
        for name, margin in found.result.margins.items():
            trial.set_constraint(name, margin)
        return tuple(found.result.scores[o.name] for o in study.objectives)

    plain = optuna.create_study(directions=optuna_directions(study), sampler=sampler)
    if space.reference_values is not None:
        plain.enqueue_trial(to_params(space.knobs, space.reference_values))
    plain.optimize(objective, n_trials=trials)
    return done


def _suggest(trial: optuna.Trial, knob: Knob) -> int | str:
    """Suggest an ordered knob by the index of its value, so that neighbours are near, as the sweep does."""
    if knob.ordered:
        return trial.suggest_int(knob.name, 0, len(knob.values) - 1)
    return trial.suggest_categorical(knob.name, [str(value) for value in knob.values])
