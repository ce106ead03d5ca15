"""The data set of shapes alone: enough to trace and price networks, nothing to train them on."""

from __future__ import annotations

from pathlib import Path

from evaluators.data.registry import DATASETS
from evaluators.data.splits import DataError, DataSplits
from evaluators.shapes import SHAPES


@DATASETS.register(SHAPES)
def load(data_root: Path | None, download: bool, /) -> DataSplits:
    """No examples: networks are traced and priced from `dataset.input_shape`, and nothing is trained.

    Raises:
        DataError: always, for there is nothing to load.
    """
    raise DataError(
        f"the data set {SHAPES!r} has no examples, so nothing is trained or measured on it; it says by "
        "`dataset.input_shape` and `dataset.num_classes` what a network is traced with"
    )
