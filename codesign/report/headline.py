"""The best gains over the reference, in words.

A design is chosen by the objectives only. Where an objective is ``reported_as`` another score (validation
accuracy as test accuracy), the words report that score: choosing by it would leak the test split.
"""

import math
from dataclasses import dataclass

from codesign.report.data import Direction, Objective, ReportData, TrialRecord
from codesign.report.quantities import MISSING, Style, format_quantity, quantity_of, score_label

SLACK = 0.01
"""How far a maximised objective may fall for a design to count as "as good": one percentage point for
fractions, one per cent of the reference otherwise. The project's acceptance test uses the same point."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gain:
    """One sentence of the headline.

    Args:
        label: The design that shows the gain.
        figure: The gain, e.g. ``3.4× less``.
        what: Of what, e.g. ``energy per inference``.
        price: What the other objectives say, e.g. ``at −0.3 pp test accuracy``.
    """

    label: str
    figure: str
    what: str
    price: str

    @property
    def sentence(self) -> str:
        """The gain as one line of text."""
        return " ".join(part for part in (self.figure, self.what, self.price) if part)


def gains(data: ReportData) -> tuple[Gain, ...]:
    """Say the best gain of each objective over the reference; without one, its best value.

    Objectives that no front design improves are left out. Non-finite scores never win.
    """
    reference = data.reference
    savings_first = sorted(data.objectives, key=lambda objective: objective.direction is Direction.MAXIMIZE)
    if reference is None:
        found = [_best_value(data, objective) for objective in savings_first]
    else:
        found = [_best_gain(data, objective, reference) for objective in savings_first]
    return tuple(gain for gain in found if gain is not None)


def ungained(data: ReportData) -> tuple[Objective, ...]:
    """List the objectives that the reference and some front design have, and none improves."""
    reference = data.reference
    if reference is None:
        return ()
    return tuple(
        objective
        for objective in data.objectives
        if _finite(reference, objective.name) is not None
        and any(_finite(trial, objective.name) is not None for trial in data.front if trial is not reference)
        and _best_gain(data, objective, reference) is None
    )


def change(value: float, reference: float, unit: str) -> str:
    """Say how a value differs from the reference's.

    >>> change(50.0, 170.0, "pJ"), change(0.95, 0.953, "fraction")
    ('3.4× less', '−0.3 pp')
    """
    if not (math.isfinite(value) and math.isfinite(reference)):
        return MISSING
    if quantity_of(unit).style is Style.PERCENT:
        points = 100 * (value - reference)
        return "±0.0 pp" if abs(points) < 0.05 else f"{'+' if points > 0 else '−'}{abs(points):.1f} pp"
    if value == reference:
        return "the same"
    if value <= 0 or reference <= 0:
        word = "less" if value < reference else "more"
        return f"{format_quantity(abs(value - reference), unit)} {word}"
    ratio = max(value / reference, reference / value)
    return f"{_ratio(ratio)}× {'less' if value < reference else 'more'}"


def asked(data: ReportData) -> str:
    """Say what the study asked for, e.g. ``more accuracy, less energy per inference and less area``."""
    wishes = [
        f"{'more' if objective.direction is Direction.MAXIMIZE else 'less'} {objective.label}"
        for objective in data.objectives
    ]
    return wishes[0] if len(wishes) == 1 else f"{', '.join(wishes[:-1])} and {wishes[-1]}"


def _ratio(ratio: float) -> str:
    """Write a ratio >= 1 with as many digits as it deserves."""
    if ratio < 1.1:
        return f"{ratio:.3f}" if ratio < 1.01 else f"{ratio:.2f}"
    return f"{ratio:.1f}" if ratio < 99.5 else f"{ratio:.0f}"


def _finite(trial: TrialRecord, name: str) -> float | None:
    value = trial.scores.get(name)
    return value if value is not None and math.isfinite(value) else None


def _loss(objective: Objective, value: float) -> float:
    """Turn a value so that smaller is better."""
    return value if objective.direction is Direction.MINIMIZE else -value


def _as_good(data: ReportData, trial: TrialRecord, reference: TrialRecord) -> bool:
    """Tell whether no maximised objective falls by more than the slack."""
    for objective in data.objectives:
        if objective.direction is Direction.MINIMIZE:
            continue
        was, now = _finite(reference, objective.name), _finite(trial, objective.name)
        if was is None or now is None:
            return False
        share = quantity_of(objective.unit).style is Style.PERCENT
        if was - now > SLACK * (1.0 if share else abs(was)) + 1e-12:  # 1e-12: rounding of the subtraction
            return False
    return True


def _best_gain(data: ReportData, objective: Objective, reference: TrialRecord) -> Gain | None:
    """Find the front design that improves one objective most, as good as the reference if there is one."""
    was = _finite(reference, objective.name)
    if was is None:
        return None
    better = [
        (_loss(objective, value), trial.place, trial)
        for trial in data.front
        if (value := _finite(trial, objective.name)) is not None
        and _loss(objective, value) < _loss(objective, was)
    ]
    if objective.direction is Direction.MINIMIZE:
        better = [entry for entry in better if _as_good(data, entry[2], reference)] or better
    if not better:
        return None
    trial = min(better)[2]
    return Gain(
        label=trial.label,
        figure=change(trial.scores[objective.name], was, objective.unit),
        what=objective.label,
        price=_price(data, objective, trial, reference),
    )


def _price(data: ReportData, gained: Objective, trial: TrialRecord, reference: TrialRecord) -> str:
    """Say what the design's gain costs: maximised objectives for a saving, the first saving for a quality."""
    others = [o for o in data.objectives if o.direction is Direction.MAXIMIZE and o is not gained]
    if gained.direction is Direction.MAXIMIZE:
        others += [o for o in data.objectives if o.direction is Direction.MINIMIZE][:1]
    parts = []
    if gained.reported_as is not None:
        parts.append(_reported(data, gained, trial, reference))
    parts += [_reported(data, objective, trial, reference) for objective in others]
    said = [part for part in parts if part]
    return f"at {', '.join(said)}" if said else ""


def _reported(data: ReportData, objective: Objective, trial: TrialRecord, reference: TrialRecord) -> str:
    """Say how an objective changed, by the score that reports it where both designs have that score."""
    name, label, unit = objective.name, objective.label, objective.unit
    shown = objective.reported_as
    if shown is not None and None not in (_finite(trial, shown), _finite(reference, shown)):
        name, label, unit = shown, score_label(shown), data.score_units[shown]
    now, was = _finite(trial, name), _finite(reference, name)
    return "" if now is None or was is None else f"{change(now, was, unit)} {label}"


def _best_value(data: ReportData, objective: Objective) -> Gain | None:
    """Find the best value of one objective, for studies without a reference."""
    known = [
        (_loss(objective, value), trial.place, trial.label, value)
        for trial in data.front
        if (value := _finite(trial, objective.name)) is not None
    ]
    if not known:
        return None
    _, _, label, value = min(known)
    return Gain(
        label=label, figure=format_quantity(value, objective.unit), what=f"best {objective.label}", price=""
    )
