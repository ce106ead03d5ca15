"""Where Optuna keeps the trials: a healed journal file by default, or any storage by URL."""

from __future__ import annotations

import warnings
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from codesign.errors import StorageError


def open_storage(address: str, journal: Path) -> BaseStorage:
    """Open the trial storage. Call it with the driver lock held.

    Args:
        address: `journal`, or a storage URL (sqlite, postgresql, mysql, redis).
        journal: the journal file that `journal` means.

    Raises:
        StorageError: it cannot be opened, is locked, or has another version.
    """
    try:
        if address == "journal":
            _heal(journal)
            return JournalStorage(JournalFileBackend(str(journal)))
        if address.startswith("redis"):
            from optuna.storages.journal import JournalRedisBackend

            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return JournalStorage(JournalRedisBackend(address))
        return RDBStorage(address, heartbeat_interval=None)
    except Exception as error:  # every back end raises its own kind; the user needs one message
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise StorageError(
            f"the storage {_without_password(address)!r} cannot be opened: {first}. "
            "Is it running, unlocked, and of this Optuna's version? `storage: journal` needs no server"
        ) from error


def _without_password(address: str) -> str:
    head, at, tail = address.rpartition("@")
    return f"{head.split('//', 1)[0]}//***{at}{tail}" if at else address


def _heal(journal: Path) -> None:
    """Undo what a killed driver leaves behind: its lock (a 30 s stall) and a torn last line."""
    journal.with_name(journal.name + ".lock").unlink(missing_ok=True)
    if not journal.is_file():
        return
    with journal.open("r+b") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole != len(content):
            file.truncate(whole)
