"""Files that are either the old one or the new one, never half of either."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from codesign.errors import RunFolderError


def _umask() -> int:
    # The mask can only be read by setting it; once, at import, before any thread could see the gap.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


_UMASK = _umask()  # temporary files are private; what they become is as readable as any file of the user's


def write_atomic(path: Path, text: str, *, durable: bool = True, private: bool = False) -> None:
    """Write `text` to a temporary name beside `path`, flush it to disk, rename it.

    Args:
        durable: wait for the disk; not needed for what can be made again after a power cut.
        private: for the user's eyes only; a file that is there keeps that.

    Raises:
        RunFolderError: the disk is full, or the folder cannot be written.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            temporary = Path(file.name)
            file.write(text)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        if not private and not _is_private(path):
            temporary.chmod(0o666 & ~_UMASK)
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise RunFolderError(f"{path} cannot be written: {error.strerror or error}") from None


def _is_private(path: Path) -> bool:
    return path.is_file() and not path.stat().st_mode & 0o077


def write_json(path: Path, data: object, *, durable: bool = True, readable: bool = True) -> None:
    """Write `data` as JSON, atomically; NaN is refused, since JSON has none.

    Args:
        durable: see `write_atomic`.
        readable: indented, which takes Python's encoder ten times as long.
    """
    text = json.dumps(data, indent=1 if readable else None, allow_nan=False)
    write_atomic(path, text + "\n", durable=durable)


def read_json(path: Path) -> object:
    """Read a JSON file.

    Raises:
        RunFolderError: it is missing or is not JSON; the message names the file.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise RunFolderError(f"{path} is not JSON: {error}") from None


def publish(path: Path, text: str) -> bool:
    """Write a file that must not be there yet; return False, and leave it, where another was first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_UMASK)
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True
