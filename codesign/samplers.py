"""Who proposes the next design: Optuna's samplers over the flat space of knobs."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseGASampler
from optuna.trial import FrozenTrial

from codesign.sections.search import Sampler
from search_spaces.space import Knob, KnobValue

# At and above this many trials NSGA-II reaches a higher hypervolume than TPE at a tenth of its time.
AUTO_TRIALS = 200


@dataclass(slots=True)
class Generations:
    """Which finished trials belong to which generation of a genetic sampler."""

    members: dict[int, list[FrozenTrial]] = field(default_factory=dict)

    def add(self, trial: FrozenTrial) -> None:
        """Take in a trial that is complete."""
        for key in (_NSGAII._get_generation_key(), _NSGAIII._get_generation_key()):
            generation = trial.system_attrs.get(key)
            if generation is not None:
                self.members.setdefault(generation, []).append(trial)


class _Indexed(BaseGASampler):
    """A genetic sampler that looks its generations up.

    Optuna's own goes through all trials of the study three times a proposal, which is most of what a trial
    costs the driver from some thousands of them on. What is proposed is the same.
    """

    generations: Generations

    def get_trial_generation(self, study: optuna.Study, trial: FrozenTrial) -> int:
        key = self._get_generation_key()
        known: int | None = trial.system_attrs.get(key)
        if known is not None:
            return known
        last = max(self.generations.members, default=0)
        full = len(self.generations.members.get(last, ())) >= (self.population_size or 0)
        generation = last + 1 if full else last
        study._storage.set_trial_system_attr(trial._trial_id, key, generation)
        return generation

    def get_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        return sorted(self.generations.members.get(generation, ()), key=lambda trial: trial.number)

    def get_parent_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        key = self._get_parent_cache_key_prefix() + str(generation)
        kept = study._storage.get_study_system_attrs(study._study_id).get(key) if generation else None
        if kept is None:
            return super().get_parent_population(study, generation)
        return [study._storage.get_trial(trial_id) for trial_id in sorted(set(kept))]


class _NSGAII(_Indexed, optuna.samplers.NSGAIISampler):
    def __init__(self, generations: Generations, *, population_size: int, seed: int) -> None:
        optuna.samplers.NSGAIISampler.__init__(self, population_size=population_size, seed=seed)
        self.generations = generations


class _NSGAIII(_Indexed, optuna.samplers.NSGAIIISampler):
    def __init__(self, generations: Generations, *, population_size: int, seed: int) -> None:
        optuna.samplers.NSGAIIISampler.__init__(self, population_size=population_size, seed=seed)
        self.generations = generations


def build_sampler(
    settings: Sampler, trials: int | None, seed: int, generations: Generations
) -> optuna.samplers.BaseSampler:
    """Return a fresh sampler; it is rebuilt for every trial, so that its state is the study alone.

    Args:
        settings: which, and how large its population.
        trials: planned in all; None where the budget is not in trials.
        seed: of this one proposal.
        generations: of the study that it will be asked about.
    """
    name = settings.name
    if name == "auto":
        name = "tpe" if trials is not None and trials < AUTO_TRIALS else "nsga2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match name:
            case "random":
                return optuna.samplers.RandomSampler(seed=seed)
            case "nsga2":
                return _NSGAII(generations, population_size=settings.population, seed=seed)
            case "nsga3":
                return _NSGAIII(generations, population_size=settings.population, seed=seed)
            case "gp":
                return optuna.samplers.GPSampler(seed=seed)
            case _:
                return optuna.samplers.TPESampler(multivariate=True, seed=seed)


def trial_seed(study_seed: int, number: int, candidate: int = 0) -> int:
    """Return the seed of one proposal for a trial, the same whenever and wherever it is drawn."""
    text = f"{study_seed}/{number}" + (f"/{candidate}" if candidate else "")
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def index_distributions(knobs: Mapping[str, Knob]) -> dict[str, BaseDistribution]:
    """Return what the sampler sees: an ordered knob as the index of its value, so neighbours are near."""
    return {
        name: IntDistribution(0, len(knob.values) - 1)
        if knob.ordered
        else CategoricalDistribution([str(value) for value in knob.values])
        for name, knob in knobs.items()
    }


def to_params(knobs: Mapping[str, Knob], values: Mapping[str, KnobValue]) -> dict[str, int | str]:
    """Return knob values as the sampler's parameters."""
    return {
        name: knob.values.index(values[name]) if knob.ordered else str(values[name])
        for name, knob in knobs.items()
    }


def to_values(knobs: Mapping[str, Knob], params: Mapping[str, object]) -> dict[str, KnobValue]:
    """Return the sampler's parameters as knob values."""
    values: dict[str, KnobValue] = {}
    for name, knob in knobs.items():
        param = params[name]
        if knob.ordered and isinstance(param, int):
            values[name] = knob.values[param]
        else:
            values[name] = str(param)
    return values


def to_row(knobs: Mapping[str, Knob], values: Mapping[str, KnobValue]) -> list[float]:
    """Return knob values as numbers: each the position of its value among the knob's."""
    return [float(knob.values.index(values[name])) for name, knob in knobs.items()]
