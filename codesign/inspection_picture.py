"""Memory over the training step as a self-contained SVG: what is alive at each op, the peak named."""

from __future__ import annotations

from html import escape
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from codesign.inspection import AliveTensor, Inspection, MemoryCurve
from codesign.report.quantities import format_quantity

# Okabe and Ito (2008), "Color Universal Design", and greys for what stands throughout; one per role.
_COLOURS = ("#868c96", "#b4b9c1", "#5b6069", "#cfd3d8", "#d55e00", "#0072b2", "#56b4e9", "#009e73", "#e69f00")
_WIDTH, _HEIGHT = 1080, 520
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 284, 64, 64
_COLUMNS = 720  # a column per pixel of the plot; more ops than that share one
_NAMED = 10
_HEADROOM = 1.1  # of the plot over the curve, for the peak's label
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1b1d21}.soft{fill:#575c66;font-size:12px}"
    ".title{font-size:17px;font-weight:600}.axis{stroke:#8b909a}.grid{stroke:#dcdde0}"
    ".peak{stroke:#1b1d21;stroke-dasharray:4 3}"
    "@media(prefers-color-scheme:dark){.page{fill:#1d2025}text{fill:#e9eaec}.soft{fill:#aeb3bd}"
    ".grid{stroke:#363a42}.peak{stroke:#e9eaec}}"
)


def memory_picture(inspection: Inspection, title: str) -> str:
    """Return the picture as the text of an SVG file.

    Args:
        inspection: Of a model.
        title: What was inspected.
    """
    curve = inspection.curve
    columns = _columns(curve)
    heights = curve.live_bytes[:, columns]
    top = _HEADROOM * float(heights.sum(axis=0).max()) if heights.size else 1.0
    plot_width, plot_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    x = _LEFT + plot_width * np.arange(len(columns) + 1) / max(1, len(columns))
    peak_x = float(x[int(np.searchsorted(columns, curve.peak_op))] + plot_width / max(1, len(columns)) / 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f'<rect class="page" width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        f'<text class="title" x="{_LEFT}" y="28">{escape(title)}</text>',
        f'<text class="soft" x="{_LEFT}" y="48">{escape(_summary(inspection))}</text>',
        *_grid(top, plot_width, plot_height),
        *_areas(curve, heights, x, top, plot_height),
        *_phases([curve.phases[c] for c in columns], x),
        f'<line class="peak" x1="{peak_x:.1f}" x2="{peak_x:.1f}" y1="{_TOP}" y2="{_TOP + plot_height}">'
        f"<title>peak at {escape(curve.ops[curve.peak_op]) if curve.ops else ''}</title></line>",
        _peak_label(peak_x, inspection.peak_training_bytes),
        *_names(inspection.at_peak, curve.roles),
        *_legend(curve.roles, np.asarray(heights.any(axis=1))),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _peak_label(x: float, size_bytes: int) -> str:
    """Write the peak's size at the top of its line, on the side that has room."""
    is_right = x > (_LEFT + _WIDTH - _RIGHT) / 2
    anchor, at = ("end", x - 6) if is_right else ("start", x + 6)
    text = f"peak {format_quantity(size_bytes, 'bytes')}"
    return f'<text class="label" x="{at:.1f}" y="{_TOP + 13}" text-anchor="{anchor}">{text}</text>'


def _summary(inspection: Inspection) -> str:
    peak = format_quantity(inspection.peak_training_bytes, "bytes")
    best = format_quantity(inspection.planned["best"], "bytes")
    at = inspection.curve.ops[inspection.curve.peak_op] if inspection.curve.ops else "no op"
    return f"torch holds {peak} at its peak ({at}); planned in place, gradients applied at once: {best}"


def _columns(curve: MemoryCurve) -> npt.NDArray[np.int64]:
    """Return one op per column: where several share it, the one at which most is alive."""
    count = len(curve.ops)
    if count <= _COLUMNS:
        return np.arange(count)
    total = curve.live_bytes.sum(axis=0)
    edges = np.linspace(0, count, _COLUMNS + 1).astype(np.int64)
    return np.array([a + int(total[a:b].argmax()) for a, b in pairwise(edges.tolist())])


def _grid(top: float, width: int, height: int) -> list[str]:
    parts = []
    for tick in _ticks(top):
        y = _TOP + height * (1 - tick / top)
        label = format_quantity(tick, "bytes")
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + width}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="soft" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    return parts


def _ticks(top: float) -> list[float]:
    """Return round numbers of bytes from zero to `top`, at most six."""
    unit = 1.0
    while top >= 1024 * unit:
        unit *= 1024
    step = next(n * unit for n in (0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500) if top <= 5 * n * unit)
    return [step * number for number in range(int(top / step) + 1)]


def _areas(
    curve: MemoryCurve,
    heights: npt.NDArray[np.float64],
    x: npt.NDArray[np.float64],
    top: float,
    plot_height: int,
) -> list[str]:
    """One stepped area per role, the lower edge of each being the upper edge of the one below."""
    parts = []
    below = np.zeros(heights.shape[1])
    for row, role in enumerate(curve.roles):
        above = below + heights[row]
        if heights[row].any():
            upper = _steps(x, _TOP + plot_height * (1 - above / top))
            lower = _steps(x, _TOP + plot_height * (1 - below / top))
            path = "M" + " L".join([*upper, *reversed(lower)]) + "Z"
            most = format_quantity(float(heights[row].max()), "bytes")
            name = role.replace("_", " ")
            parts.append(
                f'<path fill="{_COLOURS[row]}" d="{path}"><title>{name}: up to {most}</title></path>'
            )
        below = above
    return parts


def _steps(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> list[str]:
    points: list[str] = []
    for column, height in enumerate(y.tolist()):
        points += [f"{x[column]:.1f},{height:.1f}", f"{x[column + 1]:.1f},{height:.1f}"]
    return points


def _phases(phases: list[str], x: npt.NDArray[np.float64]) -> list[str]:
    """Label the runs of equal phases that are wide enough to carry a word."""
    parts = []
    y = _HEIGHT - _BOTTOM
    start = 0
    for position in range(1, len(phases) + 1):
        if position < len(phases) and phases[position] == phases[start]:
            continue
        left, right = float(x[start]), float(x[position])
        parts.append(f'<line class="axis" x1="{left:.1f}" x2="{left:.1f}" y1="{y}" y2="{y + 8}"/>')
        if right - left > 56:  # the width of "backward" in pixels
            at = f'x="{(left + right) / 2:.1f}" y="{y + 22}"'
            parts.append(f'<text class="soft" {at} text-anchor="middle">{phases[start]}</text>')
        start = position
    parts.append(
        f'<text class="soft" x="{_LEFT}" y="{y + 44}">ops of one training step, in execution order</text>'
    )
    return parts


def _names(alive: tuple[AliveTensor, ...], roles: tuple[str, ...]) -> list[str]:
    """List the largest tensors alive at the peak beside the plot; their colours are the legend."""
    x, y = _WIDTH - _RIGHT + 24, _TOP + 4
    parts = [f'<text x="{x}" y="{y}">alive at the peak</text>']
    for number, tensor in enumerate(alive[:_NAMED]):
        line = y + 24 + 25 * number
        colour = _COLOURS[roles.index(tensor.role)]
        full = f"{tensor.name} {'×'.join(map(str, tensor.shape))}, {tensor.role.replace('_', ' ')}"
        short = tensor.name if len(tensor.name) <= 24 else "…" + tensor.name[-23:]
        size = format_quantity(tensor.size_bytes, "bytes")
        parts.append(f'<rect x="{x}" y="{line - 10}" width="11" height="11" fill="{colour}"/>')
        parts.append(f'<text x="{x + 17}" y="{line}"><title>{escape(full)}</title>{escape(short)}</text>')
        parts.append(f'<text class="soft" x="{_WIDTH - 12}" y="{line}" text-anchor="end">{size}</text>')
    rest = sum(tensor.size_bytes for tensor in alive[_NAMED:])
    if rest:
        line = y + 24 + 25 * _NAMED
        text, size = f"and {len(alive) - _NAMED} more", format_quantity(rest, "bytes")
        parts.append(f'<text class="soft" x="{x + 17}" y="{line}">{text}</text>')
        parts.append(f'<text class="soft" x="{_WIDTH - 12}" y="{line}" text-anchor="end">{size}</text>')
    return parts


def _legend(roles: tuple[str, ...], present: npt.NDArray[np.bool_]) -> list[str]:
    x, y = _WIDTH - _RIGHT + 24, _HEIGHT - 16
    parts = []
    drawn = [role for role, is_drawn in zip(roles, present, strict=True) if is_drawn]
    for number, role in enumerate(reversed(drawn)):
        column, row = number % 2, number // 2
        left, line = x + 140 * column, y - 20 * row
        parts.append(
            f'<rect x="{left}" y="{line - 10}" width="11" height="11" fill="{_COLOURS[roles.index(role)]}"/>'
        )
        parts.append(f'<text class="soft" x="{left + 17}" y="{line}">{role.replace("_", " ")}</text>')
    return parts
