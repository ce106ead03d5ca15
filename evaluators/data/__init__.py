"""Data sets by name, one module each: `names()`, `load(name, data_root, download)`."""

from evaluators.data.registry import describe, load, names
from evaluators.data.splits import DataError, DataSplits, Split, limited

__all__ = ["DataError", "DataSplits", "Split", "describe", "limited", "load", "names"]
