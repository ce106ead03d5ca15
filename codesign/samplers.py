"""Who proposes the next design: Optuna's samplers over the flat space of knobs."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from codesign.sections.search import Sampler
from search_spaces.space import Knob, KnobValue

# At and above this many trials NSGA-II reaches a higher hypervolume than TPE at a tenth of its time.
AUTO_TRIALS = 200


def build_sampler(settings: Sampler, trials: int | None, seed: int) -> optuna.samplers.BaseSampler:
    """Return a fresh sampler; it is rebuilt for every trial, so that its state is the study alone.

    Args:
        settings: which, and how large its population.
        trials: planned in all; None where the budget is not in trials.
        seed: of this one proposal.
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
                return optuna.samplers.NSGAIISampler(population_size=settings.population, seed=seed)
            case "nsga3":
                return optuna.samplers.NSGAIIISampler(population_size=settings.population, seed=seed)
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
