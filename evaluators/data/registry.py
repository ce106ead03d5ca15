"""The data sets by name: `names()` and `load()`; each module of this folder registers one or more."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from evaluators.data.splits import DataError, DataSplits
from evaluators.registry import Registry


class Loader(Protocol):
    """What a data set's module registers: reads the files and returns the splits."""

    def __call__(self, data_root: Path | None, download: bool, /) -> DataSplits:
        """Return the splits; `data_root` is where the files lie, None where none was given."""
        ...


DATASETS: Registry[Loader] = Registry(kind="data set", package="evaluators.data", error=DataError)


def names() -> tuple[str, ...]:
    """Return the name of every data set."""
    return DATASETS.names()


def describe(name: str) -> str:
    """Return one line about a data set."""
    return DATASETS.describe(name)


def load(name: str, data_root: Path | None = None, download: bool = False) -> DataSplits:
    """Read a data set.

    Args:
        name: a registered name, or the address `module:callable` of the user's own `Loader`.
        data_root: the folder with the data sets' own folders; not needed by those that are bundled.
        download: fetch missing files into `data_root` from the official mirrors.

    Raises:
        DataError: an unknown name; missing or damaged files; a user's function that returns another type.
    """
    splits: object = DATASETS.find(name)(data_root, download)
    if not isinstance(splits, DataSplits):
        raise DataError(f"{name!r} must return a DataSplits, but it returned a {type(splits).__name__}")
    return splits
