"""CIFAR-10, binary version: two of its five training batches are enough."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluators.data.files import DataFile, require
from evaluators.data.registry import DATASETS
from evaluators.data.splits import DataError, DataSplits, normalised_splits, stratified_parts

FOLDER = "cifar-10-batches-bin"
RECORD_BYTES = 1 + 3 * 32 * 32  # the label, then red, green and blue planes of 32x32
# The md5 that torchvision publishes are of the archive and of the Python version; none is of these files.
FIRST_TRAIN_FILES = (
    DataFile(name="data_batch_1.bin", md5=None),
    DataFile(name="data_batch_2.bin", md5=None),
)
FURTHER_TRAIN_FILES = tuple(DataFile(name=f"data_batch_{number}.bin", md5=None) for number in (3, 4, 5))
TEST_FILE = DataFile(name="test_batch.bin", md5=None)
VALIDATION_SHARE = 0.1  # 2,000 of two batches, 5,000 of five


@DATASETS.register("cifar10")
def load(data_root: Path | None, download: bool, /) -> DataSplits:
    """32x32 colour photographs, 10 classes; 2 batches of training images or all 5, a tenth validates.

    Source: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
    """
    if download:
        raise DataError(
            "data set 'cifar10' is published as one archive and is not downloaded here: unpack "
            f"https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz, so that DIR/{FOLDER} is there, and "
            "pass --data-root DIR without the download"
        )
    further = tuple(
        file
        for file in FURTHER_TRAIN_FILES
        if data_root is not None and (data_root / FOLDER / file.name).is_file()
    )
    files = (*FIRST_TRAIN_FILES, *further, TEST_FILE)
    *train_paths, test_path = require("cifar10", FOLDER, files, (), data_root, False)
    batches = [read_batch(path) for path in train_paths]
    images = np.concatenate([batch[0] for batch in batches])
    labels = np.concatenate([batch[1] for batch in batches])
    validation, train = stratified_parts(labels, (round(len(labels) * VALIDATION_SHARE),))
    parts = (
        (images[train], labels[train]),
        (images[validation], labels[validation]),
        read_batch(test_path),
    )
    return normalised_splits(parts, white=255.0, num_classes=10)


def read_batch(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read one file of the binary version.

    Returns:
        Images (n, 3, 32, 32) and labels (n,).

    Raises:
        DataError: the length is no whole number of records, or a label is above 9.

    Source: https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version".
    """
    content = np.fromfile(path, dtype=np.uint8)
    if content.size == 0 or content.size % RECORD_BYTES:
        raise DataError(
            f"{path} must hold whole records of {RECORD_BYTES} bytes, but has {content.size} bytes: "
            "the file is damaged or is not the binary version"
        )
    records = content.reshape(-1, RECORD_BYTES)
    labels = records[:, 0].astype(np.int64)
    if labels.max() > 9:
        raise DataError(f"{path} must have labels from 0 to 9, but has {labels.max()}: this is not CIFAR-10")
    return records[:, 1:].reshape(-1, 3, 32, 32).copy(), labels
