"""Addresses of trial storages: what is wrong with one is said before anything is connected to or started."""

from __future__ import annotations

import stat
from importlib.util import find_spec
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from codesign import drive
from codesign.errors import StorageError
from codesign.files import write_atomic
from codesign.run_folder import RunFolder, create
from codesign.storage import check_address, open_storage
from codesign.study_file import StudyFile
from tests.codesign.conftest import FormulaExecutor
from tests.codesign.servers import SERVERS
from tests.codesign.test_sweep import sweep_of


@pytest.mark.parametrize("address", ["journal", "sqlite:///trials.db", "sqlite:////no/folder/yet.db"])
def test_an_address_that_could_be_used_is_not_refused_offline(address: str) -> None:
    check_address(address)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("jurnal", "an address reads `journal` or `KIND://.*got 'jurnal'. Did you mean 'journal'"),
        ("postgresql://h:port/x", "an address reads `journal` or `KIND://"),
        (
            "postgres://h/x",
            "whose kind is 'postgres'. Did you mean 'postgresql'.*Known: journal, sqlite, postgr",
        ),
        (
            "banana://me:secret@h/x",
            r"nothing keeps trials at 'banana://\*\*\*@h/x', whose kind is 'banana'. Known",
        ),
    ],
)
def test_what_is_no_address_is_refused(address: str, message: str) -> None:
    with pytest.raises(StorageError, match=message):
        check_address(address)


@pytest.mark.parametrize(
    ("address", "module", "package"),
    [
        ("redis://h", "redis", r"'codesign\[redis\]'"),
        ("rediss://h", "redis", r"'codesign\[redis\]'"),
        ("mysql+pymysql://h/x", "pymysql", r"'codesign\[mysql\]'"),
        ("mssql+pyodbc://h/x", "pyodbc", "pyodbc"),
    ],
)
def test_a_driver_that_is_not_installed_is_named(address: str, module: str, package: str) -> None:
    if find_spec(module) is not None:
        pytest.skip(f"{module} is installed")
    with pytest.raises(
        StorageError, match=f"driver that is not installed.*{module}.*`pip install {package}`"
    ):
        check_address(address)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=f"there is no folder {tmp_path / 'no'}; make it"):
        open_storage(f"sqlite:///{tmp_path / 'no' / 'trials.db'}", tmp_path / "journal.log")


def test_a_run_does_not_take_on_a_storage_that_is_not_there(tmp_path: Path, study: StudyFile) -> None:
    folder = create(tmp_path / "run", study, "test")
    before = folder.study_path.read_text()
    wrong = f"storage=sqlite:///{tmp_path / 'no' / 'trials.db'}"
    with pytest.raises(StorageError, match="there is no folder"):
        drive.change(folder, [wrong])
    assert folder.study_path.read_text() == before


def test_a_storage_that_is_not_there_is_found_before_workers_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, study: StudyFile
) -> None:
    def started(*arguments: object) -> None:
        raise AssertionError("an executor was started")

    monkeypatch.setattr(drive, "open_executor", started)
    wrong = study.model_copy(update={"storage": f"sqlite:///{tmp_path / 'no' / 'trials.db'}"})
    with pytest.raises(StorageError, match="there is no folder"):
        drive.start(tmp_path / "runs" / "one", wrong, "test", lambda tick: None)
    assert list(tmp_path.iterdir()) == []  # not even the folder of runs


def test_a_trials_notes_reach_the_journal_together_with_its_state(tmp_path: Path) -> None:
    journal = tmp_path / "journal.log"
    storage = open_storage("journal", journal)
    study = optuna.create_study(storage=storage, study_name="s", directions=["minimize"])
    trial_id = storage.create_new_trial(study._study_id)
    before = journal.read_bytes()
    storage.set_trial_user_attr(trial_id, "result", {"state": "completed"})
    storage.set_trial_system_attr(trial_id, "constraints:area", -1.0)
    assert journal.read_bytes() == before  # a kill here leaves a running trial, without half its notes
    storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [1.0])
    for reader in (storage, open_storage("journal", journal, to_read=True)):
        (trial,) = reader.get_all_trials(study._study_id)
        assert trial.state is TrialState.COMPLETE
        assert trial.user_attrs == {"result": {"state": "completed"}}
        assert trial.system_attrs == {"constraints:area": -1.0}


def test_a_password_is_for_its_owner_only(tmp_path: Path, study: StudyFile) -> None:
    secret = study.model_copy(update={"storage": "postgresql://me:hush@localhost/trials"})
    folder = create(
        tmp_path / "run", secret, command="cosearch run -o storage=postgresql://me:hush@localhost/trials"
    )
    for path in (folder.study_path, folder.manifest_path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "hush" not in str(folder.manifest()["command"])
    folder.note("storage", "journal")
    assert stat.S_IMODE(folder.manifest_path.stat().st_mode) == 0o600
    open_to_all = create(tmp_path / "other", study, command="test")
    assert stat.S_IMODE(open_to_all.manifest_path.stat().st_mode) & 0o044
    open_to_all.note("storage", secret.storage)
    assert stat.S_IMODE(open_to_all.manifest_path.stat().st_mode) == 0o600
    write_atomic(open_to_all.study_path, study.to_yaml())
    assert stat.S_IMODE(open_to_all.study_path.stat().st_mode) & 0o044


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_a_database_that_goes_away_is_said_with_its_cause(
    folder: RunFolder, study: StudyFile, kind: str
) -> None:
    with SERVERS[kind]() as address:
        there = study.model_copy(update={"storage": address})
        sweep = sweep_of(folder, there, FormulaExecutor(folder))
        assert sweep.book.ask() is not None
    with pytest.raises(StorageError, match=r"the trial storage failed: .*(connect|server|gone away)") as told:
        sweep.book.ask()
    assert "invalid data" not in str(told.value)  # Optuna's guess
    assert "`cosearch resume` continues" in str(told.value)
