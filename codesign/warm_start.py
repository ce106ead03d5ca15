"""Beginning where an earlier study ended, though its space may have been another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import optuna

from codesign.errors import RunFolderError
from codesign.files import read_json, write_json
from codesign.front import front
from codesign.results import TrialResult
from codesign.run_folder import RunFolder, open_run
from codesign.sections.search import WarmStart
from codesign.storage import open_storage
from search_spaces.space import KnobValue

Assignment = Mapping[str, KnobValue]


def write_first(folder: RunFolder, warm_start: WarmStart) -> None:
    """Keep, in a new run's folder, the assignments with which it begins.

    Raises:
        RunFolderError: the earlier run is not there, or has no feasible design.
    """
    keep_first(folder, best_assignments(warm_start))


def read_first(folder: RunFolder) -> tuple[Assignment, ...]:
    """Return the assignments with which a run begins; none where it has no warm start."""
    if not folder.first_path.is_file():
        return ()
    return tuple(cast("list[Assignment]", read_json(folder.first_path)))


def keep_first(folder: RunFolder, assignments: Sequence[Assignment]) -> None:
    """Make a new run begin with these assignments."""
    write_json(folder.first_path, [dict(assignment) for assignment in assignments])


def best_assignments(warm_start: WarmStart) -> tuple[Assignment, ...]:
    """Return the knobs of an earlier run's front, best first in its first objective."""
    try:
        run = open_run(warm_start.run)
    except RunFolderError as error:
        raise RunFolderError(f"warm_start.run: {error}") from None
    found = assignments_of(run, front(run.results(), run.study().objectives))
    if not found:
        raise RunFolderError(f"{run.path} has no feasible design to begin with; leave `warm_start` out")
    return found[: warm_start.designs]


def assignments_of(run: RunFolder, members: Sequence[TrialResult]) -> tuple[Assignment, ...]:
    """Return the knobs of designs of a run, those of a hardware sweep with their own accelerator's.

    Designs that lie outside its own space (its reference design may) have no knobs and are left out.

    Raises:
        RunFolderError: the run has no trials yet.
    """
    study = run.study()
    storage = open_storage(study.storage, run.journal_path, to_read=True)
    try:
        trials = optuna.load_study(study_name=run.storage_name(study), storage=storage).get_trials(
            deepcopy=False
        )
    except KeyError:
        raise RunFolderError(f"{run.path} has no trials yet, so nothing can begin with its designs") from None
    known = {trial.number: trial.user_attrs["knobs"] for trial in trials}
    results = {result.trial: result for result in run.results()}
    found: list[Assignment] = []
    for member in members:
        values = known.get(member.trial)
        if values is None:
            continue
        chip = {} if member.variant is None else results[member.trial].hardware[member.variant - 1].knobs
        found.append({**values, **chip})
    return tuple(found)
