"""What training made, on its way between two caches that share no disk: files of one entry as bytes.

A worker hands over what is new in its node's cache, the driver what it already has; on either side a
finished thing appears whole or not at all, and the first stays.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from evaluators.cache import CHECKPOINT, FACTS, WEIGHTS, Entry

Stamp = tuple[int, int]  # when a file was written (ns), and how long it is


@dataclass(frozen=True, kw_only=True, slots=True)
class Parcel:
    """Files of one entry.

    Args:
        whole: of the finished thing; else of the one in the making.
        files: their contents by name.
        written_ns: when each was written, by the clock of the node that wrote it.
    """

    whole: bool
    files: Mapping[str, bytes]
    written_ns: Mapping[str, int]


def stamps(entry: Entry) -> dict[Path, Stamp]:
    """Return the files of an entry: of the finished thing where there is one, else what is in the making."""
    folder = entry.home if entry.home.is_dir() else entry.partial
    found: dict[Path, Stamp] = {}
    for path in sorted(folder.glob("[!.]*")):
        try:
            stat = path.stat()
        except FileNotFoundError:  # it was finished and moved just now
            continue
        found[path] = (stat.st_mtime_ns, stat.st_size)
    return found


def pack(entry: Entry, known: Mapping[Path, Stamp] | None = None) -> Parcel | None:
    """Return the files of an entry that changed since they had the stamps `known`; None where none did."""
    old = known or {}
    fresh = {path: stamp for path, stamp in stamps(entry).items() if old.get(path) != stamp}
    files: dict[str, bytes] = {}
    written: dict[str, int] = {}
    for path, stamp in fresh.items():
        try:
            files[path.name] = path.read_bytes()
        except FileNotFoundError:
            return None  # it was finished and moved just now: the next look sees it whole
        written[path.name] = stamp[0]
    whole = any(path.parent == entry.home for path in fresh)
    return Parcel(whole=whole, files=files, written_ns=written) if files else None


def unpack(entry: Entry, parcel: Parcel) -> None:
    """Put what a parcel holds into the cache that the entry lies in.

    Of two finished things the first stays; a checkpoint stays where the one that comes is older.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    with entry.locked():
        if entry.is_whole:
            if parcel.whole:
                _add(entry.home, {n: f for n, f in parcel.files.items() if not (entry.home / n).exists()})
            return
        if not parcel.whole:
            _add_newer(entry.partial, parcel)
        elif {WEIGHTS, FACTS} <= set(parcel.files):
            building = entry.folder / f".{entry.home.name}.{uuid.uuid4().hex}"
            _add(building, parcel.files)
            entry.discard()  # damaged, or nobody would put another in its place
            building.rename(entry.home)
            shutil.rmtree(entry.partial, ignore_errors=True)


def _add_newer(folder: Path, parcel: Parcel) -> None:
    here, there = folder / CHECKPOINT, parcel.written_ns.get(CHECKPOINT)
    if there is not None and here.is_file() and here.stat().st_mtime_ns >= there:
        return
    _add(folder, parcel.files, parcel.written_ns)


def _add(folder: Path, files: Mapping[str, bytes], written_ns: Mapping[str, int] | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        building = folder / f".{name}.{uuid.uuid4().hex}"
        building.write_bytes(content)
        if written_ns is not None:
            os.utime(building, ns=(written_ns[name], written_ns[name]))
        building.replace(folder / name)
