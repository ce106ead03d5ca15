"""Assemble the page: one HTML text with its style, its scripts and its data inside.

The page carries a content security policy that names its own script and style by hash and allows nothing
else: no network, and no script that a study's texts might smuggle in.
"""

import base64
import hashlib
import string
from html import escape
from importlib.resources import files

from codesign.report.data import ReportData
from codesign.report.embed import embedded
from codesign.report.headline import asked, gains, ungained

_SCRIPTS = (
    "core.js",
    "numbers.js",
    "scale.js",
    "tip.js",
    "scatter.js",
    "parallel.js",
    "card.js",
    "front.js",
    "energy.js",
    "history.js",
    "outcomes.js",
    "main.js",
)
"""In the order of use: each file may name what stands before it."""


def render(data: ReportData) -> str:
    """Render a study's run as one self-contained HTML page.

    The same data gives the same text: no clock, no random identifier.

    Args:
        data: What the page shows.

    Returns:
        The page, to be written as UTF-8.
    """
    style = _asset("page.css")
    script = _script()
    page = string.Template(_asset("page.html")).substitute(
        script_hash=_hash(script),
        style_hash=_hash(style),
        style=style,
        script=script,
        title=escape(f"{data.study} – co-design report"),
        study=escape(data.study),
        description=_paragraphs(data.description),
        asked=escape(_asked(data)),
        facts=_facts(data),
        gains_title=escape(_gains_title(data)),
        gains=_gains(data),
        manifest=_pairs(data.manifest),
        commands=_commands(data.commands),
        data=embedded(data),
    )
    # NOTE: a lone surrogate (a file name that was not UTF-8) could not be written to a file; it becomes "?".
    return page.encode("utf-8", "replace").decode("utf-8")


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _script() -> str:
    """Join the scripts in one strict function, so that nothing becomes a global name."""
    body = "\n".join(_asset(name).rstrip() for name in _SCRIPTS)
    return f'(() => {{\n"use strict";\n{body}\n}})();\n'


def _hash(text: str) -> str:
    """Write a text's hash as a content security policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _paragraphs(text: str) -> str:
    blocks = [" ".join(block.split()) for block in text.split("\n\n")]
    return "".join(f'<p class="lead">{escape(block)}</p>' for block in blocks if block)


def _asked(data: ReportData) -> str:
    return f"Asked for {asked(data)}."


def _facts(data: ReportData) -> str:
    """Write the counts of trials and what the sweep took."""
    counts = data.counts
    facts = [
        ("planned", data.budget),
        ("completed", f"{counts.completed}"),
        ("gated", f"{counts.gated}"),
        ("stopped", f"{counts.stopped}" if counts.stopped else ""),
        ("failed", f"{counts.failed}"),
        ("other chips kept", f"{data.chips_kept}" if data.chips_kept else ""),
        ("on the front", f"{len(data.front)}"),
        ("sweep time", _duration(data.wall_s)),
        ("seed", f"{data.seed}"),
    ]
    return "".join(
        f"<div><dt>{escape(term)}</dt><dd>{escape(value)}</dd></div>" for term, value in facts if value
    )


def _duration(wall_s: float | None) -> str:
    """Write seconds as people say them; an unmeasured time is left out.

    >>> _duration(42.31), _duration(102.0), _duration(9_000.0)
    ('42.3 s', '1 min 42 s', '2 h 30 min')
    """
    if wall_s is None:
        return ""
    if wall_s < 59.95:
        return f"{wall_s:.1f} s"
    minutes, seconds = divmod(round(wall_s), 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _gains_title(data: ReportData) -> str:
    if not data.front:
        return "Gains"
    if data.reference is None:
        return "Best values"
    return f"Best gains over the reference (trial\u00a0{data.reference.label})"


def _gains(data: ReportData) -> str:
    """Write the headline as links that select the design that shows the gain."""
    found = gains(data)
    if not found:
        return f'<p class="note">{escape(_no_gain(data))}</p>'
    cards = "".join(
        f'<a class="gain" href="#trial={escape(gain.label)}"><strong>{escape(gain.figure)}</strong>'
        f' <span class="what">{escape(gain.what)}</span>'
        f' <span class="price">{escape(gain.price)}</span>'
        f' <span class="by">trial {escape(gain.label)}</span></a>'
        for gain in found
    )
    return f'<div class="gains">{cards}</div>{_caveats(data)}'


def _caveats(data: ReportData) -> str:
    """Say what the gains leave out: objectives without one, and constraints that the reference breaks."""
    notes = []
    missed = [objective.label for objective in ungained(data)]
    if missed:
        notes.append(f"No design on the front betters the reference in {' or '.join(missed)}.")
    if data.reference is not None and data.reference.violations:
        notes.append(f"The reference itself breaks a constraint: {'; '.join(data.reference.violations)}.")
    return f'<p class="note">{escape(" ".join(notes))}</p>' if notes else ""


def _no_gain(data: ReportData) -> str:
    """Say why there is no gain to report."""
    if not data.trials:
        return "No trial has ended yet."
    if not data.front:
        return "No trial completed within the constraints, so the front is empty."
    return "No design on the front beats the reference in any objective."


def _pairs(pairs: tuple[tuple[str, str], ...]) -> str:
    if not pairs:
        return '<p class="note">The run folder holds no manifest.</p>'
    rows = "".join(f"<div><dt>{escape(label)}</dt><dd>{escape(value)}</dd></div>" for label, value in pairs)
    return f'<dl class="manifest">{rows}</dl>'


def _commands(commands: tuple[tuple[str, str], ...]) -> str:
    if not commands:
        return '<p class="note">No command was recorded.</p>'
    return "".join(
        f"<figure><figcaption>{escape(what)}</figcaption>"
        f'<pre tabindex="0"><code>{escape(command)}</code></pre></figure>'
        for what, command in commands
    )
