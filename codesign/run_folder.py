"""One run on disk: where everything stands, and who may drive it.

runs/<study>/
  study.yaml       the resolved study file
  manifest.json    format version, study hash, versions, command, git commit
  journal.log      the trial storage (unless the study names another)
  layers.json      the layers of every network of the space
  trials/00012/    design.json, stage-0.json ..., result.json, cost.json of one trial;
                   cost-3.json of the third chip of its hardware sweep, once it was asked for
  cache/           trained algorithmic halves
  sessions.jsonl   one line per driver: wall time, busy time of the workers
  front.json       the front, and report.html, the page
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import cast

import yaml

from codesign.errors import RunFolderError
from codesign.files import read_json, write_atomic
from codesign.masking import has_login, masked
from codesign.results import TrialResult, result_from_json
from codesign.study_file import StudyFile
from codesign.study_reader import parse_study
from hw_templates.names import nearest

FORMAT = 1
_PACKAGES = ("codesign", "torch", "optuna", "numpy", "networkx", "moocore", "scikit-learn", "ray")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFolder:
    """The paths of one run; every reader and writer goes through here."""

    path: Path

    @property
    def study_path(self) -> Path:
        """The resolved study file."""
        return self.path / "study.yaml"

    @property
    def manifest_path(self) -> Path:
        """Format version, study hash and environment."""
        return self.path / "manifest.json"

    @property
    def journal_path(self) -> Path:
        """The default trial storage."""
        return self.path / "journal.log"

    @property
    def layers_path(self) -> Path:
        """The layers of every network of the space."""
        return self.path / "layers.json"

    @property
    def cache_path(self) -> Path:
        """Trained algorithmic halves, by their hash."""
        return self.path / "cache"

    @property
    def first_path(self) -> Path:
        """Assignments of an earlier run with which this one begins."""
        return self.path / "warm_start.json"

    @property
    def front_path(self) -> Path:
        """The front as JSON."""
        return self.path / "front.json"

    @property
    def report_path(self) -> Path:
        """The report."""
        return self.path / "report.html"

    @property
    def sessions_path(self) -> Path:
        """One line per driver session."""
        return self.path / "sessions.jsonl"

    def trial_path(self, number: int) -> Path:
        """The folder of one trial."""
        return self.path / "trials" / f"{number:05d}"

    def result_path(self, number: int) -> Path:
        """The published result of one trial."""
        return self.trial_path(number) / "result.json"

    def stage_path(self, number: int, stage: int) -> Path:
        """The published result of one trial at the end of one stage but the last."""
        return self.trial_path(number) / f"stage-{stage}.json"

    def ledger_path(self, label: str) -> Path:
        """Where the energy of one design goes, layer by layer; `12.3` is a chip of a hardware sweep."""
        number, _, variant = label.partition(".")
        return self.trial_path(int(number)) / (f"cost-{variant}.json" if variant else "cost.json")

    def directory(self) -> str:
        """Where the run was started, and the user's `module:callable` was found."""
        return str(self.manifest().get("directory", ""))

    def study(self) -> StudyFile:
        """Return the resolved study file."""
        try:
            text = self.study_path.read_text(encoding="utf-8")
        except OSError as error:
            raise RunFolderError(f"{self.study_path} cannot be read: {error.strerror}") from None
        return parse_study(text, str(self.study_path))

    def asked(self) -> tuple[int, ...]:
        """Return the numbers of all trials that were ever drawn."""
        folder = self.path / "trials"
        if not folder.is_dir():
            return ()
        return tuple(
            sorted(
                int(entry.name)
                for entry in folder.iterdir()
                if entry.name.isascii() and entry.name.isdecimal()
            )
        )

    def result(self, number: int) -> TrialResult | None:
        """Return the published result of a trial, or None while there is none."""
        return _read_result(self.result_path(number))

    def answer(self, number: int, stage: int) -> TrialResult | None:
        """Return what was published at the end of one stage of a trial, or None while there is nothing."""
        partial = _read_result(self.stage_path(number, stage))
        if partial is not None:
            return partial
        result = self.result(number)
        return result if result is not None and result.stage == stage else None

    def answers(self, number: int) -> tuple[TrialResult, ...]:
        """Return what was published of a trial at the end of each of its stages, each stage once."""
        found: list[TrialResult] = []
        while (partial := _read_result(self.stage_path(number, len(found)))) is not None:
            found.append(partial)
        result = self.result(number)
        return (*found, result) if result is not None and result.stage >= len(found) else tuple(found)

    def results(self) -> tuple[TrialResult, ...]:
        """Return all published results by trial number."""
        found = (self.result(number) for number in self.asked())
        return tuple(result for result in found if result is not None)

    def manifest(self) -> dict[str, object]:
        """Return the manifest; RunFolderError where it is damaged."""
        manifest = read_json(self.manifest_path)
        if not isinstance(manifest, dict):
            raise RunFolderError(f"{self.manifest_path} must be a mapping, but it is not: it is damaged")
        return cast("dict[str, object]", manifest)

    def storage_name(self, study: StudyFile) -> str:
        """Return the name of this run's trials in a storage that may hold many."""
        return f"{study.name}-{self.manifest().get('run_id', 'run')}"

    def note(self, name: str, value: object) -> None:
        """Change one entry of the manifest."""
        _write_manifest(self.manifest_path, self.manifest() | {name: value})

    def check_unchanged(self, study: StudyFile) -> None:
        """Refuse to go on with another study than the run was started with.

        Raises:
            RunFolderError: the study file, or a chip file that it names, was changed since.
        """
        manifest = self.manifest()
        if manifest.get("study_hash") == study.hash():
            return
        changes = study.changes(yaml.safe_load(str(manifest.get("study", "")))) if "study" in manifest else []
        said = ":\n" + "\n".join(changes) + "\n" if changes else " (a chip file that it names, it seems). "
        raise RunFolderError(
            f"the study of {self.path} was changed since the run began, so its trials would not be "
            f"comparable{said}Only a larger budget, the storage, the executor, the shared cache and the data "
            "folder may change. Undo the rest, or start another run with --out"
        )

    def log_session(self, session: dict[str, object]) -> None:
        """Append one line about a driver session."""
        with self.sessions_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(session) + "\n")

    def sessions(self) -> tuple[dict[str, float], ...]:
        """Return the finished driver sessions; a torn last line is left out."""
        if not self.sessions_path.is_file():
            return ()
        found = []
        for line in self.sessions_path.read_text(encoding="utf-8").splitlines():
            try:
                session = json.loads(line)
            except ValueError:
                continue
            if isinstance(session, dict):
                found.append(session)
        return tuple(found)

    def wall_s(self) -> float:
        """Return the wall time of all finished driver sessions."""
        return sum(session["wall_s"] for session in self.sessions())

    @contextmanager
    def driver_lock(self) -> Iterator[None]:
        """Hold the right to drive this run; only one process may at a time.

        POSIX record locks, since forked workers would inherit (and so keep) a `flock`.

        Raises:
            RunFolderError: another process drives it.
        """
        with (self.path / "driver.lock").open("a+", encoding="utf-8") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.seek(0)
                raise RunFolderError(
                    f"{self.path} is driven by another process (id {file.read().strip() or 'unknown'}): "
                    f"wait for it, stop it, or watch it with `cosearch status {self.path}`"
                ) from None
            file.seek(0)
            file.truncate()
            file.write(str(os.getpid()))
            file.flush()
            yield

    def is_driven(self) -> bool:
        """Return whether some process drives this run right now."""
        lock = self.path / "driver.lock"
        if not lock.is_file():
            return False
        with lock.open("r+", encoding="utf-8") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return True
            return False


def _read_result(path: Path) -> TrialResult | None:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        return result_from_json(text)
    except (ValueError, KeyError, TypeError) as error:
        raise RunFolderError(
            f"{path} is not a trial result ({error}); remove the file, and the trial "
            "is left out, or evaluated again where it was never counted"
        ) from None


def create(path: Path, study: StudyFile, command: str) -> RunFolder:
    """Make the folder of a new run.

    Raises:
        RunFolderError: the folder exists and is not empty; nothing is changed then.
    """
    there = path.is_dir()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        known = (path / "manifest.json").is_file()
        way_out = f"`cosearch resume {path}` continues it, " if known else ""
        raise RunFolderError(f"{path} exists already: {way_out}`--out DIR` starts another beside it")
    folder = RunFolder(path=path)
    try:
        path.mkdir(parents=True, exist_ok=there)  # of two that start at once, one is refused
    except FileExistsError:
        raise RunFolderError(
            f"{path} was made by another process just now; `--out DIR` starts another"
        ) from None
    except OSError as error:
        raise RunFolderError(f"{path} cannot be made: {error.strerror}") from None
    write_atomic(folder.study_path, study.to_yaml(), private=has_login(study.storage))
    own = {
        "study_hash": study.hash(),
        "study": study.to_yaml(),
        "storage": study.storage,
        "command": masked(command),
        "run_id": uuid.uuid4().hex[:12],
    }
    _write_manifest(folder.manifest_path, _environment() | own)
    return folder


def _write_manifest(path: Path, manifest: Mapping[str, object]) -> None:
    text = json.dumps(manifest, indent=1) + "\n"
    write_atomic(path, text, private=has_login(text))


def open_run(path: Path) -> RunFolder:
    """Open an existing run.

    Raises:
        RunFolderError: it is not a run folder, or one of another version.
    """
    folder = RunFolder(path=path)
    if not folder.manifest_path.is_file():
        raise RunFolderError(f"{path} is not a run folder: {_no_run(path)}")
    version = folder.manifest().get("format")
    if version != FORMAT:
        raise RunFolderError(
            f"{path} has run format {version!r}, but this version of cosearch reads format {FORMAT}: "
            "use the version named in its manifest.json"
        )
    return folder


def _no_run(path: Path) -> str:
    """Return why a path is no run folder, and what to do."""
    if path.exists() and not path.is_dir():
        return "it is a file; name the folder that `cosearch run` made, such as runs/quickstart"
    home = path if path.is_dir() else path.parent
    beside = [str(manifest.parent) for manifest in sorted(home.glob("*/manifest.json"))]
    runs = f".{nearest(str(path), beside)} Run folders there: {', '.join(beside)}" if beside else ""
    why = "it has no manifest.json" if path.is_dir() else "there is no such folder"
    return f"{why}; `cosearch run STUDY --out {path}` makes one{runs}"


def _environment() -> dict[str, object]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "format": FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "packages": versions,
        "git_commit": _git_commit(),
        "directory": os.getcwd(),
        "argv": [masked(argument) for argument in sys.argv],
    }


def _git_commit() -> str | None:
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
