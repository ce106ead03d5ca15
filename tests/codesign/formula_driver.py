"""A driver process to be killed: the real engine and worker processes, over a formula instead of training."""

from __future__ import annotations

import sys
from pathlib import Path

from codesign import drive
from codesign.executors import LocalProcesses
from codesign.executors.protocol import Executor
from codesign.layers import layers_to_json
from codesign.run_folder import RunFolder, open_run
from codesign.sections.executor import Limits
from codesign.study_file import StudyFile
from search_spaces.choice import JsonValue
from tests.codesign.conftest import describe_formula


class FormulaProcesses(LocalProcesses):
    """Worker processes that know the formula."""

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.codesign.formula_worker", str(self._folder.path.resolve())]

    def describe(self) -> JsonValue:
        space = self._folder.study().space_
        networks = {*space.network.every_choice("small_cnn")}
        return layers_to_json({network: describe_formula(network) for network in networks})


def open_formula(folder: RunFolder, study: StudyFile) -> Executor:
    return FormulaProcesses(folder, 2, limits=Limits())


def main(path: str) -> None:
    """Drive the run to its end, from wherever it stands."""
    drive.open_executor = open_formula
    folder = open_run(Path(path))
    drive.drive(folder, folder.study(), lambda tick: None)


if __name__ == "__main__":
    main(sys.argv[1])
