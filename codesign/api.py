"""The Python API: load a study, run it, look at its front."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from codesign.drive import adopt, drive, start
from codesign.front import front, hypervolume, knee
from codesign.results import TrialResult
from codesign.run_folder import RunFolder, open_run
from codesign.study_file import StudyFile
from codesign.study_reader import load_study
from codesign.sweep import Tick
from codesign.views import reference_of, status_view
from search_spaces.design import Design, design_from_json


@dataclass(frozen=True, kw_only=True, slots=True)
class Front:
    """The designs nobody beats.

    Args:
        designs: best first in the first objective.
        knee: the one furthest inside the line through the extremes.
        reference: the reference design (trial 0).
        hypervolume: share of the reference box that the front dominates.
    """

    designs: tuple[TrialResult, ...]
    knee: TrialResult | None
    reference: TrialResult | None
    hypervolume: float

    def __len__(self) -> int:
        return len(self.designs)

    def __iter__(self) -> object:
        return iter(self.designs)


def _watch_nothing(tick: Tick) -> None:
    """Show nothing."""


class Study:
    """A study and its run folder.

    Args:
        file: the checked study file.
        out: the run folder; `runs/<name>` where None.
    """

    def __init__(self, file: StudyFile, out: str | Path | None = None) -> None:
        self.file = file
        self.path = Path(out) if out is not None else Path("runs") / file.name

    def run(self, *, watch: Callable[[Tick], None] = _watch_nothing, resume: bool = True) -> Front:
        """Run to the end of the budget; an earlier run of the same study in the folder is continued.

        Raises:
            CodesignError: the folder holds something else, or the run cannot be driven.
        """
        if resume and (self.path / "manifest.json").is_file():
            folder = open_run(self.path)
            drive(folder, adopt(folder, self.file), watch)
        else:
            start(self.path, self.file, "codesign.Study.run", watch)
        return self.front()

    def front(self) -> Front:
        """Return the front as the run folder has it now."""
        results = self._folder().results()
        members = front(results, self.file.objectives)
        reference = reference_of(results)
        return Front(
            designs=members,
            knee=knee(members, self.file.objectives),
            reference=reference,
            hypervolume=hypervolume(results, self.file.objectives, reference),
        )

    def results(self) -> tuple[TrialResult, ...]:
        """Return every finished trial."""
        return self._folder().results()

    def status(self) -> dict[str, object]:
        """Return how far the run is."""
        return status_view(self._folder(), self.file)

    def design(self, trial: int) -> Design:
        """Return the design of a finished trial."""
        result = self._folder().result(trial)
        if result is None:
            raise KeyError(f"trial {trial} has no result in {self.path}")
        return design_from_json(result.design)

    def _folder(self) -> RunFolder:
        return open_run(self.path)


def load(name: str | Path, overrides: Sequence[str] = (), *, out: str | Path | None = None) -> Study:
    """Load a study file (a path, or the name of one that ships with the tool).

    Args:
        overrides: `dotted.key=value` each.

    Raises:
        StudyFileError: every problem of the file at once.
    """
    return Study(load_study(str(name), overrides), out)
