"""The report: a study's run as one self-contained HTML page that opens offline."""

from codesign.report.data import (
    Breakdown,
    BreakdownRow,
    Direction,
    Objective,
    ReportData,
    ReportError,
    StatusCounts,
    TrialRecord,
    TrialState,
)
from codesign.report.headline import Gain, gains
from codesign.report.page import render

__all__ = [
    "Breakdown",
    "BreakdownRow",
    "Direction",
    "Gain",
    "Objective",
    "ReportData",
    "ReportError",
    "StatusCounts",
    "TrialRecord",
    "TrialState",
    "gains",
    "render",
]
