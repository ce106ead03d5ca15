"""Digits: 1,797 handwritten digits of 8x8 pixels, bundled with scikit-learn; nothing is downloaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from evaluators.data.registry import DATASETS
from evaluators.data.splits import DataSplits, normalised_splits, stratified_parts

TEST_EXAMPLES = 360  # a fifth of 1,797; the bundle has no split of its own
VALIDATION_EXAMPLES = 287  # a fifth of what remains


@DATASETS.register("digits")
def load(data_root: Path | None, download: bool, /) -> DataSplits:
    """8x8 handwritten digits, 10 classes, 1,150 + 287 + 360 examples, bundled with scikit-learn.

    Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998 (its test set).
    """
    from sklearn.datasets import load_digits  # half a second; only this data set needs it

    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 1, 8, 8).astype(np.float32)
    labels = labels.astype(np.int64)
    test, validation, train = stratified_parts(labels, (TEST_EXAMPLES, VALIDATION_EXAMPLES))
    parts = tuple((images[part], labels[part]) for part in (train, validation, test))
    return normalised_splits(parts, white=16.0, num_classes=10)  # pixels are counts from 0 to 16 (UCI)
