"""Everything that is registered, with a line each."""

from __future__ import annotations

import difflib
from collections.abc import Callable

import yaml

from codesign.errors import CodesignError
from codesign.study_reader import bundled_studies
from evaluators.scores import score_kinds
from hw_templates import templates
from search_spaces.family import layer_families

Rows = list[dict[str, str]]


def listing(kind: str | None = None) -> dict[str, Rows]:
    """Return rows of name and description, by kind.

    Raises:
        CodesignError: no such kind; the message names the nearest and all.
    """
    if kind is not None and kind not in _KINDS:
        close = difflib.get_close_matches(kind, list(_KINDS), n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise CodesignError(f"no kind is named {kind!r}.{hint} Known: {', '.join(_KINDS)}")
    return {name: rows() for name, rows in _KINDS.items() if kind in (None, name)}


def _studies() -> Rows:
    found = []
    for name, path in bundled_studies().items():
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        found.append({"name": name, "description": " ".join(str(data.get("description", "")).split())})
    return found


def _networks() -> Rows:
    from evaluators.networks import registry

    return [{"name": name, "description": registry.describe(name)} for name in registry.names()]


def _datasets() -> Rows:
    from evaluators.data import registry

    return [{"name": name, "description": registry.describe(name)} for name in registry.names()]


def _accelerators() -> Rows:
    found = []
    for name in templates.names():
        template = templates.load(name)
        knobs = ", ".join(template.knobs)
        found.append({"name": name, "description": f"{template.title} (knobs: {knobs})"})
    return found


def _scores() -> Rows:
    return [
        {
            "name": kind.name,
            "description": f"{kind.description} [{kind.unit}, {kind.direction.value}"
            f"{'' if kind.searchable else ', reported only'}]",
        }
        for kind in score_kinds().values()
    ]


def _families() -> Rows:
    return [
        {"name": name, "description": (model.__doc__ or "").strip().partition("\n")[0]}
        for name, model in layer_families().items()
    ]


def _zero_cost() -> Rows:
    from evaluators.learning import zero_cost

    return [{"name": name, "description": zero_cost.describe(name)} for name in zero_cost.names()]


def _samplers() -> Rows:
    return [
        {"name": "auto", "description": "tpe below 200 trials, nsga2 from there on."},
        {"name": "nsga2", "description": "NSGA-II, a genetic algorithm; cheap, for many trials."},
        {"name": "nsga3", "description": "NSGA-III, for four and more objectives."},
        {"name": "gp", "description": "Gaussian processes; for few knobs and few, costly trials."},
        {"name": "tpe", "description": "Multivariate tree-structured Parzen estimator; for few trials."},
        {"name": "random", "description": "Uniform draws; a baseline."},
    ]


_KINDS: dict[str, Callable[[], Rows]] = {
    "studies": _studies,
    "networks": _networks,
    "datasets": _datasets,
    "accelerators": _accelerators,
    "families": _families,
    "scores": _scores,
    "zero_cost": _zero_cost,
    "samplers": _samplers,
}
