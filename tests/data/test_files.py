"""Data sets that are read from files: formats by hand, checksums, downloads, and the real files."""

from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from evaluators.data import DataError, load
from evaluators.data.cifar10 import RECORD_BYTES, read_batch
from evaluators.data.files import DataFile, md5, require
from evaluators.data.mnist import read_idx

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_files = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the data sets' files are not in {SHARED}")


def _idx(path: Path, array: np.ndarray, header: bytes | None = None) -> Path:  # type: ignore[type-arg]
    start = b"\x00\x00\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress((start if header is None else header) + array.astype(np.uint8).tobytes()))
    return path


def test_idx_is_read_as_written(tmp_path: Path) -> None:
    array = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    assert np.array_equal(read_idx(_idx(tmp_path / "a.gz", array)), array)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            b"\x00\x00\x0d\x01\x00\x00\x00\x04",
            r"must start with 00 00 08 \(IDX, bytes\), but starts with 00 00 0d",
        ),
        (b"\x00\x00\x08\x09", "must have 9 sizes in its header, but ends after 8 bytes"),
        (b"\x00\x00\x08\x01\x00\x00\x00\x05", r"must hold \(5,\) bytes after its header, but holds 4"),
    ],
)
def test_a_wrong_idx_header_is_explained(tmp_path: Path, header: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_idx(_idx(tmp_path / "a.gz", np.zeros(4), header))


def test_what_is_not_gzip_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(b"plain text")
    with pytest.raises(DataError, match="must be a gzipped IDX file, but it cannot be unpacked"):
        read_idx(path)
    path.write_bytes(gzip.compress(bytes(1000))[:-12])
    with pytest.raises(DataError, match="cannot be unpacked"):
        read_idx(path)


def test_a_cifar_batch_is_read_plane_by_plane(tmp_path: Path) -> None:
    records = np.zeros((2, RECORD_BYTES), dtype=np.uint8)
    records[1, 0] = 9
    records[1, 1 + 1024 + 33] = 200  # the green plane, second row, second column
    path = tmp_path / "batch.bin"
    records.tofile(path)
    images, labels = read_batch(path)
    assert labels.tolist() == [0, 9]
    assert images.shape == (2, 3, 32, 32)
    assert images[1, 1, 1, 1] == 200
    assert images.sum() == 200


def test_a_damaged_cifar_batch_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "batch.bin"
    path.write_bytes(bytes(RECORD_BYTES + 1))
    with pytest.raises(DataError, match=rf"must hold whole records of {RECORD_BYTES} bytes, but has 3074"):
        read_batch(path)
    path.write_bytes(bytes([10]) + bytes(RECORD_BYTES - 1))
    with pytest.raises(DataError, match="must have labels from 0 to 9, but has 10"):
        read_batch(path)


@pytest.mark.parametrize("name", ["fashion_mnist", "mnist", "cifar10"])
def test_without_a_data_root_the_way_out_is_named(name: str) -> None:
    with pytest.raises(DataError, match=rf"'{name}' is read from files, but no data root was given: pass"):
        load(name)


def test_missing_files_are_named_with_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"")
    message = (
        r"'fashion_mnist' needs train-images.* in .*FashionMNIST/raw, but train-labels-idx1-ubyte.gz, "
        r"t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz are missing: put them there, allow the"
    )
    with pytest.raises(DataError, match=message):
        load("fashion_mnist", tmp_path)


def test_cifar_needs_two_training_batches(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"but data_batch_1.bin, data_batch_2.bin, test_batch.bin are missing"
    ):
        load("cifar10", tmp_path)
    with pytest.raises(DataError, match=r"published as one archive and is not downloaded here: unpack"):
        load("cifar10", tmp_path, download=True)


def _one_file(content: bytes) -> DataFile:
    return DataFile(name="a.bin", md5=hashlib.md5(content, usedforsecurity=False).hexdigest())


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.bin").write_bytes(b"other")
    with pytest.raises(DataError, match=r"a.bin of data set 'x' must have md5 .*damaged.*delete it"):
        require("x", "set", (_one_file(b"content"),), (), tmp_path, False)


def test_a_missing_file_is_fetched_from_the_first_mirror_that_has_it(tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "a.bin").write_bytes(b"content")
    mirrors = ((tmp_path / "nowhere").as_uri() + "/", mirror.as_uri() + "/")
    (path,) = require("x", "set", (_one_file(b"content"),), mirrors, tmp_path / "root", True)
    assert path.read_bytes() == b"content"
    assert [entry.name for entry in path.parent.iterdir()] == ["a.bin"]


def test_a_failed_download_leaves_nothing_behind(tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "a.bin").write_bytes(b"an error page")
    with pytest.raises(DataError, match=r"a.bin of data set 'x' could not be downloaded to .*must have md5"):
        require("x", "set", (_one_file(b"content"),), (mirror.as_uri() + "/",), tmp_path / "root", True)
    assert list((tmp_path / "root" / "set").iterdir()) == []


@needs_files
@pytest.mark.parametrize("name", ["fashion_mnist", "mnist"])
def test_the_real_idx_data_sets(name: str) -> None:
    splits = load(name, SHARED)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (50_000, 10_000, 10_000)
    assert splits.input_shape == (1, 28, 28)
    assert splits.train.labels.bincount().min() > 4_000


@needs_files
def test_the_real_cifar10_with_two_batches() -> None:
    splits = load("cifar10", SHARED)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (18_000, 2_000, 10_000)
    assert splits.input_shape == (3, 32, 32)
    assert splits.test.labels.bincount().tolist() == [1000] * 10  # as published


@needs_files
def test_published_checksums_are_those_of_the_files() -> None:
    assert md5(SHARED / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz") == "ec29112dd5afa0611ce80d1b7f02629c"
