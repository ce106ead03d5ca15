"""One score of every design side by side: networks and what is done to their layers down, chips across.

Where several designs stand in one place (they differ in something else), the best of them does. The chips
that a hardware sweep kept for a trial count as its own does. Designs that break a constraint are left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table

from codesign.describe import accelerator_text, network_text, technique_text
from codesign.errors import CodesignError
from codesign.front import feasible
from codesign.report.quantities import format_quantity, score_label
from codesign.results import TrialResult
from codesign.run_folder import RunFolder
from codesign.study_file import StudyFile
from evaluators.scores import Direction, ScoreKind, score_kinds
from hw_templates.names import nearest
from search_spaces.design import design_from_json

VERSION = 1
MOST_CHIPS = 8  # columns that can still be read
_SPLIT = ("dram",)  # levels whose operands are told apart: weights and activations have different cures


class ComparisonError(CodesignError):
    """There is nothing to compare, or no such score."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """The best design of one network and technique on one chip.

    Args:
        label: the trial; `12.3` is trial 12 on the third chip of its hardware sweep.
    """

    network: str
    technique: str
    chip: str
    label: str
    value: float

    @property
    def trial(self) -> int:
        """The trial's number."""
        return int(self.label.partition(".")[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """The cells of one score, networks together, in the order in which they were first drawn."""

    kind: ScoreKind
    cells: tuple[Cell, ...]

    @property
    def chips(self) -> tuple[str, ...]:
        """The chips, in the order in which they were first drawn."""
        return tuple(dict.fromkeys(cell.chip for cell in self.cells))

    def rows(self) -> dict[tuple[str, str], dict[str, Cell]]:
        """Return the cells by network and technique, then by chip."""
        found: dict[tuple[str, str], dict[str, Cell]] = {}
        for cell in self.cells:
            found.setdefault((cell.network, cell.technique), {})[cell.chip] = cell
        return found


def compare(results: Sequence[TrialResult], study: StudyFile, score: str | None = None) -> Comparison:
    """Return one score of every feasible design, the best one of each network, technique and chip.

    Args:
        results: what came of the trials.
        study: the study; its first objective to minimise is compared where `score` is None.
        score: the name of a score.

    Raises:
        ComparisonError: no such score, or no feasible design has it.
    """
    kinds = score_kinds()
    costs = [o.name for o in study.objectives if o.direction is Direction.MINIMIZE]
    name = score if score is not None else next(iter(costs), study.objectives[0].name)
    if name not in kinds:
        raise ComparisonError(f"no score is named {name!r}.{nearest(name, kinds)} Known: {', '.join(kinds)}")
    kind = kinds[name]
    sign = 1 if kind.direction is Direction.MINIMIZE else -1
    best: dict[tuple[str, str, str], Cell] = {}
    shown = [one for one in feasible(results) if name in one.scores]
    designs = {result.label: design_from_json(result.design) for result in shown}
    # One column a chip, or, where a search varied the chips, one a template.
    chips = {accelerator_text(design) for design in designs.values()}
    for result in shown:
        design = designs[result.label]
        chip = accelerator_text(design) if len(chips) <= MOST_CHIPS else design.accelerator.template
        place = network_text(design), technique_text(design), chip
        value = result.scores[name]
        if place not in best or sign * value < sign * best[place].value:
            best[place] = Cell(
                network=place[0], technique=place[1], chip=place[2], label=result.label, value=value
            )
    if not best:
        raise ComparisonError(f"no feasible design has the score {name!r}, so there is nothing to compare")
    networks = list(dict.fromkeys(network for network, _, _ in best))
    cells = sorted(best.values(), key=lambda cell: (networks.index(cell.network), cell.technique))
    return Comparison(kind=kind, cells=tuple(cells))


def score_table(comparison: Comparison) -> Table:
    """Return the comparison as a table."""
    table = Table(title=score_label(comparison.kind.name), title_justify="left", box=SIMPLE_HEAD)
    table.add_column("network")
    table.add_column("layers")
    for chip in comparison.chips:
        table.add_column(chip, justify="right")
    before = None
    for (network, technique), cells in comparison.rows().items():
        if before not in (None, network):
            table.add_section()
        shown = [
            format_quantity(cells[chip].value, comparison.kind.unit) if chip in cells else "-"
            for chip in comparison.chips
        ]
        table.add_row(network if network != before else "", technique, *shown)
        before = network
    return table


def parts_of(cell: Cell, folder: RunFolder) -> dict[str, float]:
    """Return where the energy of an inference's contractions goes, in pJ; nothing where it was not kept."""
    try:
        text = folder.ledger_path(cell.label).read_text(encoding="utf-8")
        rows: list[Mapping[str, Mapping[str, Mapping[str, float]]]] = json.loads(text)["inference"]["rows"]
    except (OSError, ValueError, KeyError):
        return {}
    parts: dict[str, float] = {}
    for row in rows:
        for level, operands in row["energy_pj"].items() if row["macs"] else ():
            for operand, energy_pj in operands.items():
                part = f"{level} {operand}" if level in _SPLIT else level
                parts[part] = parts.get(part, 0.0) + energy_pj
    return parts


def parts_table(comparison: Comparison, folder: RunFolder) -> Table:
    """Return where the energy of each cell's design goes, contractions of an inference only."""
    found = {cell: parts_of(cell, folder) for cell in comparison.cells}
    names = list(dict.fromkeys(name for parts in found.values() for name in parts))
    table = Table(title="energy of the contractions by part", title_justify="left", box=SIMPLE_HEAD)
    for label in ("network", "layers", "chip"):
        table.add_column(label)
    for name in names:
        table.add_column(name, justify="right")
    for cell, parts in found.items():
        shown = [format_quantity(parts[name], "pJ") if name in parts else "-" for name in names]
        table.add_row(cell.network, cell.technique, cell.chip, *shown)
    return table


def comparison_json(comparison: Comparison, folder: RunFolder) -> dict[str, object]:
    """Return the comparison as JSON data, with the energy by part of every cell."""
    return {
        "version": VERSION,
        "score": comparison.kind.name,
        "unit": comparison.kind.unit,
        "cells": [
            {
                "network": cell.network,
                "technique": cell.technique,
                "chip": cell.chip,
                "trial": cell.trial,
                "label": cell.label,
                "value": cell.value,
                "parts_pj": parts_of(cell, folder),
            }
            for cell in comparison.cells
        ],
    }
