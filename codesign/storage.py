"""Where Optuna keeps the trials: a healed journal file by default, or any storage by URL."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from codesign.errors import StorageError
from codesign.run_folder import RunFolder
from codesign.study_file import StudyFile


def open_storage(address: str, journal: Path, *, to_read: bool = False) -> BaseStorage:
    """Open the trial storage. Call it with the driver lock held, but where it is only read.

    Args:
        address: `journal`, or a storage URL (sqlite, postgresql, mysql, redis).
        journal: the journal file that `journal` means.
        to_read: leave the journal as it is, whatever a killed driver left behind.

    Raises:
        StorageError: it cannot be opened, is locked, or has another version.
    """
    try:
        if address == "journal":
            if not to_read:
                _heal(journal)
            return JournalStorage(JournalFileBackend(str(journal)))
        if address.startswith("redis"):
            from optuna.storages.journal import JournalRedisBackend

            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return JournalStorage(JournalRedisBackend(address))
        return RDBStorage(address, heartbeat_interval=None)
    except ImportError as error:
        raise StorageError(
            f"the storage {_without_password(address)!r} needs a driver that is not installed ({error}): "
            "`pip install 'codesign[postgresql]'` (or mysql, redis); `storage: journal` needs none"
        ) from error
    except Exception as error:  # every back end raises its own kind; the user needs one message
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise StorageError(
            f"the storage {_without_password(address)!r} cannot be opened: {first}. "
            "Is it running, unlocked, and of this Optuna's version? `storage: journal` needs no server"
        ) from error


def _without_password(address: str) -> str:
    head, at, tail = address.rpartition("@")
    return f"{head.split('//', 1)[0]}//***{at}{tail}" if at else address


def move_trials(folder: RunFolder, study: StudyFile, storage: BaseStorage, name: str) -> None:
    """Bring a run's trials along where its study names another storage than before.

    Raises:
        StorageError: the storage that has them does not answer.
    """
    before = str(folder.manifest().get("storage", study.storage))
    if before == study.storage:
        return
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    old = open_storage(before, folder.journal_path)
    if name in optuna.get_all_study_names(old):
        # Until the manifest says otherwise, what the new storage has of it is a copy that a kill cut short.
        if name in optuna.get_all_study_names(storage):
            optuna.delete_study(study_name=name, storage=storage)
        optuna.copy_study(from_study_name=name, from_storage=old, to_storage=storage)
    folder.note("storage", study.storage)


def _heal(journal: Path) -> None:
    """Undo what a killed driver leaves behind: its lock (a 30 s stall) and a torn end.

    A last line without its end, or one that is not JSON (what a power cut leaves in a file that grew), was
    never answered for: it is dropped.
    """
    journal.with_name(journal.name + ".lock").unlink(missing_ok=True)
    if not journal.is_file():
        return
    with journal.open("r+b") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        while whole and not _is_json(content[content.rfind(b"\n", 0, whole - 1) + 1 : whole]):
            whole = content.rfind(b"\n", 0, whole - 1) + 1
        if whole != len(content):
            file.truncate(whole)


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
