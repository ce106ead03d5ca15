"""The page's data as compact JSON that is safe inside a ``<script>`` element.

Trials are columns of short arrays; texts that repeat (knobs, reasons) are stored once and named by index, so
that 2000 trials of a many-layered network stay well under a megabyte.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict

from codesign.report.data import Breakdown, BreakdownRow, Direction, Objective, ReportData, TrialRecord
from codesign.report.headline import gains
from codesign.report.quantities import MISSING, quantity_of, score_label

BREAKDOWN_BUDGET = 400_000
"""Characters that layer-by-layer energy may take: what 1 MB leaves beside 2000 trials and the scripts."""

_SCORE_DIGITS = 7  # three more than the page shows, so that sorting and ratios do not see the rounding


class _Interned:
    """Texts by index, each stored once."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._index: dict[str, int] = {}

    def index(self, text: str) -> int:
        """Return the place of a text, adding it when it is new."""
        if text not in self._index:
            self._index[text] = len(self.texts)
            self.texts.append(text)
        return self._index[text]


def embedded(data: ReportData) -> str:
    """Write the page's data as JSON without any ``<``, so that no text can close the script element."""
    return _safe(_payload(data))


def _safe(value: object) -> str:
    """Dump JSON with everything escaped that an HTML or JavaScript parser may act upon."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # NOTE: `<` closes or opens elements and comments; U+2028/9 end lines in old JavaScript parsers; a lone
    # surrogate cannot be encoded as UTF-8. All are legal, and equal, as \u escapes inside JSON strings.
    text = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return "".join(f"\\u{ord(c):04x}" if "\ud800" <= c <= "\udfff" else c for c in text)


def _payload(data: ReportData) -> dict[str, object]:
    texts, knobs, values = _Interned(), _Interned(), _Interned()
    names = _score_names(data)
    trials = [
        [*_trial(trial, names, texts), _design(trial, knobs, values)]
        for trial in sorted(data.trials, key=lambda trial: trial.place)
    ]
    kept, left_out = _breakdowns(data, texts)
    return {
        "study": data.study,
        "counts": asdict(data.counts),
        "missing": MISSING,
        "objectives": [objective.name for objective in data.objectives],
        "scores": [_score(name, data) for name in names],
        "trials": trials,
        "chips_left_out": data.chips_left_out,
        "hypervolume": [
            [number, _number(value)] for number, value in data.hypervolume if math.isfinite(value)
        ],
        "breakdowns": kept,
        "breakdowns_left_out": left_out,
        "table_knobs": list(data.table_knobs),
        "best": [gain.label for gain in gains(data)],
        "texts": texts.texts,
        "knobs": [json.loads(labels) for labels in knobs.texts],
        "values": values.texts,
    }


def _score_names(data: ReportData) -> list[str]:
    """List objectives, then what reports them, then every other score that some trial has or declares."""
    objectives = [objective.name for objective in data.objectives]
    reported = [objective.reported_as for objective in data.objectives if objective.reported_as is not None]
    taken = [name for trial in data.trials for name in trial.scores]
    return list(dict.fromkeys([*objectives, *reported, *data.score_units, *taken]))


def _score(name: str, data: ReportData) -> dict[str, object]:
    own = next((objective for objective in data.objectives if objective.name == name), None)
    stands_for = next((objective for objective in data.objectives if objective.reported_as == name), None)
    judged = own or stands_for
    unit = own.unit if own is not None else data.score_units.get(name, "")
    quantity = quantity_of(unit)
    return {
        "name": name,
        "label": own.label if own is not None else score_label(name),
        "style": quantity.style.value,
        "symbol": quantity.symbol,
        "factor": quantity.factor,
        "objective": own is not None,
        "reports": _reports(stands_for),
        "sign": 0 if judged is None else (-1 if judged.direction is Direction.MINIMIZE else 1),
    }


def _reports(objective: Objective | None) -> str | None:
    return None if objective is None else objective.name


def _trial(trial: TrialRecord, names: Iterable[str], texts: _Interned) -> list[object]:
    """Write a trial as an array in the order of the names that core.js gives it.

    The label is a text where it has a variant: as a number, chip 10 of trial 2 would be chip 1 of it.
    """
    return [
        trial.number if trial.variant is None else trial.label,
        trial.state.value,
        [_number(trial.scores.get(name)) for name in names],
        [texts.index(text) for text in trial.violations],
        None if trial.reason is None else texts.index(trial.reason),
        None if trial.reached is None else texts.index(trial.reached),
        trial.chips,
        int(trial.on_front),
        int(trial.knee),
        int(trial.reference),
    ]


def _design(trial: TrialRecord, knobs: _Interned, values: _Interned) -> list[int]:
    """Write a design as [place of its list of labels, place of each value]: most trials share the labels."""
    labels = json.dumps([label for label, _ in trial.design])
    return [knobs.index(labels), *(values.index(value) for _, value in trial.design)]


def _number(value: float | None) -> float | int | None:
    """Round to the digits that matter; what is not a finite number becomes null."""
    if value is None or not math.isfinite(value):
        return None
    rounded = float(f"{value:.{_SCORE_DIGITS}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 2**53 else rounded


def _breakdowns(data: ReportData, texts: _Interned) -> tuple[dict[str, object], int]:
    """Keep the reference's, the knee's, the front's, then other breakdowns while the budget lasts."""
    rank = {
        trial.label: (not trial.reference, not trial.knee, not trial.on_front, trial.place)
        for trial in data.trials
    }
    kept: dict[str, object] = {}
    spent = 0
    for label in sorted(data.breakdowns, key=lambda label: rank[label]):
        packed = _breakdown(data.breakdowns[label], texts)
        spent += len(json.dumps(packed))
        if spent > BREAKDOWN_BUDGET:
            break
        kept[label] = packed
    return kept, len(data.breakdowns) - len(kept)


def _breakdown(breakdown: Breakdown, texts: _Interned) -> list[list[list[object]]]:
    return [[_row(row, texts) for row in rows] for rows in (breakdown.inference, breakdown.training)]


def _row(row: BreakdownRow, texts: _Interned) -> list[object]:
    """Write a row as [layer, phase, latency_s, macs, [level, operand, pj, level, operand, pj, ...]]."""
    return [
        texts.index(row.layer),
        texts.index(row.phase),
        _number(row.latency_s),
        row.macs,
        _cells(row.energy_pj, texts),
    ]


def _cells(energy_pj: Mapping[str, Mapping[str, float]], texts: _Interned) -> list[object]:
    cells: list[object] = []
    for level, operands in energy_pj.items():
        for operand, picojoules in operands.items():
            cells += [texts.index(level), texts.index(operand), _short(picojoules)]
    return cells


def _short(picojoules: float) -> float | int | None:
    """Round an energy to five digits: bars are at most a thousand pixels long."""
    return _number(float(f"{picojoules:.5g}")) if math.isfinite(picojoules) else None
