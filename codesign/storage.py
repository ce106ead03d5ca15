"""Where Optuna keeps the trials: a healed journal file by default, or any storage by URL."""

from __future__ import annotations

import json
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from codesign.errors import StorageError
from codesign.masking import masked
from codesign.network_port import is_open
from codesign.run_folder import RunFolder
from codesign.study_file import StudyFile, absolute_storage
from hw_templates.names import nearest

_PORTS = {"postgresql": 5432, "mysql": 3306, "redis": 6379, "rediss": 6379}


def check_address(address: str) -> None:
    """Refuse a storage that cannot be used whoever answers; nothing is connected to.

    Raises:
        StorageError: no address, an unknown kind of storage, or a driver that is not installed.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    if address == "journal":
        return
    known = ("journal", "sqlite", *_PORTS)
    try:
        url = make_url(address)
        kind = url.get_backend_name()
        if kind in ("redis", "rediss"):
            if find_spec("redis") is None:
                raise ModuleNotFoundError("No module named 'redis'", name="redis")
        else:
            url.get_dialect().import_dbapi()
    except ModuleNotFoundError as error:
        raise _no_driver(address, error) from error
    except NoSuchModuleError:
        kind = address.partition(":")[0]
        raise StorageError(
            f"storage: nothing keeps trials at {masked(address)!r}, whose kind is {kind!r}."
            f"{nearest(kind.partition('+')[0], known)} Known: {', '.join(known)}"
        ) from None
    except (ArgumentError, ValueError):
        raise StorageError(
            f"storage: an address reads `journal` or `KIND://USER:PASSWORD@HOST:PORT/NAME`, but got "
            f"{masked(address)!r}.{nearest(address, known[:1])} Kinds: {', '.join(known[1:])}"
        ) from None


def check_reachable(address: str) -> None:
    """Refuse, too, a folder that is not there, and a server where nobody listens (drivers wait for minutes).

    Raises:
        StorageError: as `check_address`, or the place is not there.
    """
    from sqlalchemy.engine import make_url

    check_address(address)
    if address == "journal":
        return
    url = make_url(address)
    if url.get_backend_name() == "sqlite" and url.database and not url.query:
        folder = Path(url.database).parent
        if url.database != ":memory:" and not folder.is_dir():
            raise StorageError(
                f"the storage {address!r} cannot be opened: there is no folder {folder}; make it"
            )
    port = url.port or _PORTS.get(url.get_backend_name())
    if url.host and "," not in url.host and port and not is_open(url.host, port):
        raise StorageError(
            f"the storage {masked(address)!r} cannot be opened: nobody listens at "
            f"{url.host}:{port}. Start the server, or open its firewall; `storage: journal` needs no server"
        )


def _no_driver(address: str, error: ImportError) -> StorageError:
    kind = address.partition(":")[0].partition("+")[0].replace("rediss", "redis")
    package = f"'codesign[{kind}]'" if kind in _PORTS else str(error.name)
    return StorageError(
        f"the storage {masked(address)!r} needs a driver that is not installed ({error}): "
        f"`pip install {package}`; `storage: journal` needs none"
    )


def open_storage(address: str, journal: Path, *, to_read: bool = False) -> BaseStorage:
    """Open the trial storage. Call it with the driver lock held, but where it is only read.

    Args:
        address: `journal`, or a storage URL (sqlite, postgresql, mysql, redis).
        journal: the journal file that `journal` means.
        to_read: leave the journal as it is, whatever a killed driver left behind.

    Raises:
        StorageError: it cannot be opened, is locked, or has another version.
    """
    check_reachable(address)
    try:
        if address == "journal":
            if not to_read:
                _heal(journal)
            return JournalStorage(_JournalFile(str(journal)))
        if address.startswith("redis"):
            from optuna.storages.journal import JournalRedisBackend

            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return JournalStorage(JournalRedisBackend(address))
        return RDBStorage(address, heartbeat_interval=None)
    except ImportError as error:
        raise _no_driver(address, error) from error
    except Exception as error:  # every back end raises its own kind; the user needs one message
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise StorageError(
            f"the storage {masked(address)!r} cannot be opened: {first}. "
            "Is it running, unlocked, and of this Optuna's version? `storage: journal` needs no server"
        ) from error


class _JournalFile(JournalFileBackend):
    """A journal that writes a trial's notes together with the record that follows them.

    They matter only once the trial's state has changed. Until then they are held back: one wait for the disk
    instead of one for each, and a kill loses them and the change together, so that the trial is told again.
    """

    def __init__(self, file_path: str) -> None:
        super().__init__(file_path)
        self._held: list[dict[str, Any]] = []

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._held += logs
        if not all("trial_id" in log and ("user_attr" in log or "system_attr" in log) for log in logs):
            super().append_logs(self._held)
            self._held = []


def move_trials(folder: RunFolder, study: StudyFile, storage: BaseStorage, name: str) -> None:
    """Bring a run's trials along where its study names another storage than before.

    Raises:
        StorageError: the storage that has them does not answer.
    """
    before = absolute_storage(str(folder.manifest().get("storage", study.storage)))
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
