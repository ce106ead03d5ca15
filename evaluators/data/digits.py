"""Digits: 1,797 handwritten digits of 8x8 pixels, bundled with scikit-learn; nothing is downloaded."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluators.data.registry import DATASETS
from evaluators.data.splits import DataSplits, normalised_splits, stratified_parts

TEST_EXAMPLES = 360  # a fifth of 1,797; the bundle has no split of its own
VALIDATION_EXAMPLES = 287  # a fifth of what remains


def _bundled_table() -> NDArray[np.float64]:
    """Return scikit-learn's table, (1797, 65): 64 pixels and the label.

    Its file is read where pip put it, since importing scikit-learn takes every worker over a second;
    `sklearn.datasets.load_digits` is the way where the file lies elsewhere.
    """
    try:
        path = metadata.distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
        return np.loadtxt(Path(str(path)), delimiter=",")
    except (metadata.PackageNotFoundError, OSError):
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        return np.column_stack((images, labels))


@DATASETS.register("digits")
def load(data_root: Path | None, download: bool, /) -> DataSplits:
    """8x8 handwritten digits, 10 classes, 1,150 + 287 + 360 examples, bundled with scikit-learn.

    Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998 (its test set).
    """
    table = _bundled_table()
    images = table[:, :-1].reshape(-1, 1, 8, 8).astype(np.float32)
    labels = table[:, -1].astype(np.int64)
    test, validation, train = stratified_parts(labels, (TEST_EXAMPLES, VALIDATION_EXAMPLES))
    parts = tuple((images[part], labels[part]) for part in (train, validation, test))
    return normalised_splits(parts, white=16.0, num_classes=10)  # pixels are counts from 0 to 16 (UCI)
