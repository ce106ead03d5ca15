"""MNIST and Fashion-MNIST: the standard gzipped IDX files, in torchvision's layout."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluators.data.files import DataFile, require
from evaluators.data.registry import DATASETS
from evaluators.data.splits import DataError, DataSplits, normalised_splits, stratified_parts

VALIDATION_EXAMPLES = 10_000  # a sixth of the training images, as many as the test set has

# md5 and mirrors: torchvision/datasets/mnist.py
MNIST_FILES = (
    DataFile(name="train-images-idx3-ubyte.gz", md5="f68b3c2dcbeaaa9fbdd348bbdeb94873"),
    DataFile(name="train-labels-idx1-ubyte.gz", md5="d53e105ee54ea40749a09fcbcd1e9432"),
    DataFile(name="t10k-images-idx3-ubyte.gz", md5="9fb629c4189551a2d022fa330f9573f3"),
    DataFile(name="t10k-labels-idx1-ubyte.gz", md5="ec29112dd5afa0611ce80d1b7f02629c"),
)
MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)
FASHION_FILES = (
    DataFile(name="train-images-idx3-ubyte.gz", md5="8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
    DataFile(name="train-labels-idx1-ubyte.gz", md5="25c81989df183df01b3e8a0aad5dffbe"),
    DataFile(name="t10k-images-idx3-ubyte.gz", md5="bef4ecab320f06d8554ea6380940ec79"),
    DataFile(name="t10k-labels-idx1-ubyte.gz", md5="bb300cfdad3c16e7a12a480ee83cd310"),
)
FASHION_MIRRORS = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)


@DATASETS.register("fashion_mnist")
def load_fashion_mnist(data_root: Path | None, download: bool, /) -> DataSplits:
    """28x28 grey images of clothes, 10 classes, 50,000 + 10,000 + 10,000 examples.

    Source: Xiao, Rasul and Vollgraf, arXiv 1708.07747; MIT license.
    """
    files = ("fashion_mnist", "FashionMNIST/raw", FASHION_FILES, FASHION_MIRRORS)
    return _splits(require(*files, data_root, download))


@DATASETS.register("mnist")
def load_mnist(data_root: Path | None, download: bool, /) -> DataSplits:
    """28x28 handwritten digits, 10 classes, 50,000 + 10,000 + 10,000 examples.

    Source: LeCun, Bottou, Bengio and Haffner, Proc. IEEE 1998; CC BY-SA 3.0.
    """
    return _splits(require("mnist", "MNIST/raw", MNIST_FILES, MNIST_MIRRORS, data_root, download))


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read a gzipped IDX file of unsigned bytes.

    The header is two zero bytes, the type (8: unsigned byte), the number of axes, and each axis' size
    as a big-endian 32-bit integer.

    Returns:
        The array, in the shape that the header gives.

    Raises:
        DataError: not gzip, not IDX, or fewer or more bytes than the header says.

    Source: the format section of http://yann.lecun.com/exdb/mnist/.
    """
    try:
        content = gzip.decompress(path.read_bytes())
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} must be a gzipped IDX file, but it cannot be unpacked: {error}") from error
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise DataError(
            f"{path} must start with 00 00 08 (IDX, bytes), but starts with {content[:3].hex(' ')}"
        )
    axes = content[3]
    header_bytes = 4 + 4 * axes
    if len(content) < header_bytes:
        raise DataError(f"{path} must have {axes} sizes in its header, but ends after {len(content)} bytes")
    shape = struct.unpack(f">{axes}I", content[4:header_bytes])
    pixels = np.frombuffer(content, dtype=np.uint8, offset=header_bytes)
    if pixels.size != np.prod(shape):
        raise DataError(f"{path} must hold {shape} bytes after its header, but holds {pixels.size}")
    return pixels.reshape(shape)


def _splits(paths: tuple[Path, ...]) -> DataSplits:
    arrays = [read_idx(path) for path in paths]
    images, test_images = (array[:, np.newaxis] for array in (arrays[0], arrays[2]))
    labels, test_labels = (array.astype(np.int64) for array in (arrays[1], arrays[3]))
    validation, train = stratified_parts(labels, (VALIDATION_EXAMPLES,))
    parts = (
        (images[train], labels[train]),
        (images[validation], labels[validation]),
        (test_images.copy(), test_labels),  # torch takes no read-only memory
    )
    return normalised_splits(parts, white=255.0, num_classes=10)
