"""The files of a data set: found in a folder, checked by md5, fetched from mirrors when allowed."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from evaluators.data.splits import DataError

TIMEOUT_S = 30.0  # for the connection and each read; a mirror that hangs must not hang a sweep


@dataclass(frozen=True, kw_only=True, slots=True)
class DataFile:
    """One file of a data set, by its published name and md5 (None: not published for that form)."""

    name: str
    md5: str | None


def require(
    dataset: str,
    folder: str,
    files: tuple[DataFile, ...],
    mirrors: tuple[str, ...],
    data_root: Path | None,
    download: bool,
) -> tuple[Path, ...]:
    """Return the paths of a data set's files, each there and undamaged.

    Args:
        dataset: the data set's name, for the messages.
        folder: its folder below `data_root`, in the layout that its usual loaders read.
        files: what must be in the folder.
        mirrors: addresses that hold the files, each ending in a slash, tried in order.
        data_root: the folder of all data sets.
        download: fetch what is missing.

    Raises:
        DataError: no data root, files missing, a download that failed on every mirror, a wrong md5.
    """
    if data_root is None:
        raise DataError(
            f"data set {dataset!r} is read from files, but no data root was given: pass --data-root DIR, "
            f"where DIR/{folder} holds {_listed(files)}"
        )
    directory = data_root / folder
    missing = tuple(file for file in files if not (directory / file.name).is_file())
    if missing and not download:
        way_out = "put them there, allow the download" if mirrors else "put them there"
        raise DataError(
            f"data set {dataset!r} needs {_listed(files)} in {directory}, but {_listed(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing: {way_out}, or pass another --data-root"
        )
    for file in missing:
        _download(dataset, file, mirrors, directory)
    for file in files:
        _check(dataset, file, directory / file.name)
    return tuple(directory / file.name for file in files)


def _listed(files: tuple[DataFile, ...]) -> str:
    return ", ".join(file.name for file in files)


def _check(dataset: str, file: DataFile, path: Path) -> None:
    if file.md5 is None:
        return
    found = md5(path)
    if found != file.md5:
        raise DataError(
            f"{path} of data set {dataset!r} must have md5 {file.md5}, but has {found}: the file is damaged "
            "or is another one; delete it and fetch it again"
        )


def md5(path: Path) -> str:
    """Return the md5 of a file, as 32 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _download(dataset: str, file: DataFile, mirrors: tuple[str, ...], directory: Path) -> None:
    """Fetch one file; it appears under its name only when it is whole."""
    problems: list[str] = []
    for mirror in mirrors:
        partial = directory / f"{file.name}.{os.getpid()}.part"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with urllib.request.urlopen(mirror + file.name, timeout=TIMEOUT_S) as response:
                partial.write_bytes(response.read())
            _check(dataset, file, partial)
            partial.replace(directory / file.name)
            return
        except (urllib.error.URLError, OSError, DataError) as error:
            problems.append(f"{mirror}: {error}")
        finally:
            partial.unlink(missing_ok=True)
    raise DataError(
        f"{file.name} of data set {dataset!r} could not be downloaded to {directory} "
        f"({'; '.join(problems) or 'it has no mirror'}): fetch it by hand"
    )
