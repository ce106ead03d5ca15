"""Hypervolume against training, one curve a strategy, as a self-contained SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from codesign.compare import Part
from codesign.compare_views import grouped
from codesign.sections.budget import Budget
from codesign.strategies import DEFINITIONS
from codesign.study_file import StudyFile

Array = NDArray[np.float64]

# Okabe and Ito (2008), "Color Universal Design".
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
_WIDTH, _HEIGHT = 920, 520
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 190, 64, 60
_STEPS = 240  # points of a curve
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1b1d21}.soft{fill:#575c66;font-size:12px}"
    ".title{font-size:17px;font-weight:600}.axis{stroke:#8b909a}.grid{stroke:#dcdde0}"
    "@media(prefers-color-scheme:dark){.page{fill:#1d2025}text{fill:#e9eaec}.soft{fill:#aeb3bd}"
    ".grid{stroke:#363a42}}"
)


def comparison_picture(parts: Sequence[Part], study: StudyFile, budget: Budget) -> str:
    """Return the picture as the text of an SVG file: medians over the seeds, quartiles as bands."""
    by_strategy = grouped(parts)
    most = max(spent for part in parts for spent, _ in part.series) or 1.0
    grid = np.linspace(0.0, most, _STEPS)
    curves = {
        strategy: np.quantile([_heights(part, grid) for part in found], (0.25, 0.5, 0.75), axis=0)
        for strategy, found in by_strategy.items()
    }
    low, high = _range(list(curves.values()))
    unit = "minutes of training" if budget.training_minutes is not None else "trainings"
    seeds = max(len(found) for found in by_strategy.values())
    title = f"{study.name}: hypervolume against training"
    under = f"{budget.text} each; median of {seeds} seeds, band: quartiles"
    parts_of_svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f'<rect class="page" width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        f'<text class="title" x="{_LEFT}" y="28">{escape(title)}</text>',
        f'<text class="soft" x="{_LEFT}" y="48">{escape(under)}</text>',
        *_axes(most, low, high, unit),
    ]
    x = _LEFT + (_WIDTH - _LEFT - _RIGHT) * grid / most
    for number, (strategy, (lower, median, upper)) in enumerate(curves.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        bands = [*_points(x, upper, low, high), *reversed(_points(x, lower, low, high))]
        line = _points(x, median, low, high)
        legend = f'x="{_WIDTH - _RIGHT + 40}" y="{_TOP + 18 + 24 * number}"'
        label = f"{strategy.value} {median[-1]:.4f}"
        parts_of_svg += [
            f'<path fill="{colour}" fill-opacity="0.15" d="M{" L".join(bands)}Z"/>',
            f'<path fill="none" stroke="{colour}" stroke-width="2" d="M{" L".join(line)}"/>',
            f'<rect x="{_WIDTH - _RIGHT + 20}" y="{_TOP + 8 + 24 * number}" width="12" height="12" '
            f'fill="{colour}"/>',
            f"<text {legend}><title>{escape(DEFINITIONS[strategy])}</title>{escape(label)}</text>",
        ]
    return "\n".join([*parts_of_svg, "</svg>"]) + "\n"


def _heights(part: Part, grid: Array) -> Array:
    """Return the hypervolume that was found for each budget of a grid; 0 before the first result."""
    spent = np.array([cost for cost, _ in part.series])
    volumes = np.array([0.0, *(volume for _, volume in part.series)])
    found = volumes[np.searchsorted(spent, grid, side="right")]
    found[-1] = part.volume  # what is left of the budget in flight brings nothing more
    return np.asarray(found, dtype=np.float64)


def _range(curves: Sequence[Array]) -> tuple[float, float]:
    """Return the heights shown: from the worst curve's height at a tenth of the budget to the top."""
    early = min(float(curve[0, _STEPS // 10]) for curve in curves)
    top = max(float(curve[2].max()) for curve in curves)
    return (early, top + 0.04 * (top - early)) if top > early else (0.0, max(top, 1.0))


def _points(x: Array, heights: Array, low: float, high: float) -> list[str]:
    plot = _HEIGHT - _TOP - _BOTTOM
    y = _TOP + plot * (1 - (np.maximum(heights, low) - low) / (high - low))
    return [f"{left:.1f},{at:.1f}" for left, at in zip(x.tolist(), y.tolist(), strict=True)]


def _axes(most: float, low: float, high: float, unit: str) -> list[str]:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = []
    for value in np.linspace(low, high, 6).tolist():
        y = _TOP + (bottom - _TOP) * (1 - (value - low) / (high - low))
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="soft" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.3f}</text>'
        )
    for value in np.linspace(0, most, 6).tolist():
        x = _LEFT + (right - _LEFT) * value / most
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 6}"/>')
        parts.append(
            f'<text class="soft" x="{x:.1f}" y="{bottom + 22}" text-anchor="middle">{value:.3g}</text>'
        )
    parts.append(f'<text class="soft" x="{_LEFT}" y="{bottom + 44}">{unit}</text>')
    return parts
