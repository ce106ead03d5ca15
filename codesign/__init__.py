"""Search networks, compression and accelerators together, and keep the Pareto front.

>>> import codesign
>>> study = codesign.load("quickstart")
>>> study.file.budget.trials >= 60
True

Public names are loaded on first use, so that the command line answers at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codesign.api import Front, Study, load
    from codesign.errors import CodesignError, ExportError, RunFolderError, StorageError, StudyFileError
    from codesign.exported import load_network
    from codesign.results import TrialResult, TrialState
    from codesign.study_file import StudyFile

_HOMES = {
    "CodesignError": "codesign.errors",
    "ExportError": "codesign.errors",
    "Front": "codesign.api",
    "RunFolderError": "codesign.errors",
    "StorageError": "codesign.errors",
    "Study": "codesign.api",
    "StudyFile": "codesign.study_file",
    "StudyFileError": "codesign.errors",
    "TrialResult": "codesign.results",
    "TrialState": "codesign.results",
    "load": "codesign.api",
    "load_network": "codesign.exported",
}

__all__ = [
    "CodesignError",
    "ExportError",
    "Front",
    "RunFolderError",
    "StorageError",
    "Study",
    "StudyFile",
    "StudyFileError",
    "TrialResult",
    "TrialState",
    "load",
    "load_network",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'codesign' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
