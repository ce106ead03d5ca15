"""The form of a data set, the stratified split, and the registry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evaluators.data import DataError, DataSplits, Split, describe, limited, load, names
from evaluators.data.registry import DATASETS
from evaluators.data.splits import normalised_splits, stratified_parts


def _split(count: int = 4, classes: int = 2, side: int = 2) -> Split:
    return Split(images=torch.zeros(count, 1, side, side), labels=torch.arange(count) % classes)


def own_data(data_root: Path | None, download: bool) -> DataSplits:
    """A user's own data set, named in a study as `module:callable`."""
    return DataSplits(train=_split(6), validation=_split(), test=_split(), num_classes=2)


def no_data(data_root: Path | None, download: bool) -> list[int]:
    """Return what is no data set."""
    return []


@given(
    labels=st.lists(st.integers(0, 4), min_size=4, max_size=200),
    shares=st.tuples(st.floats(0.05, 0.4), st.floats(0.05, 0.4)),
)
def test_parts_are_disjoint_whole_and_stratified(labels: list[int], shares: tuple[float, float]) -> None:
    array = np.array(labels, dtype=np.int64)
    sizes = tuple(max(1, int(share * len(labels))) for share in shares)
    parts = stratified_parts(array, sizes)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    assert tuple(len(part) for part in parts[:-1]) == sizes
    for part in parts:
        for label in np.unique(array):
            fair = len(part) * (array == label).mean()
            # A cut may come anywhere between two examples of a class, so each edge is worth one example.
            assert abs((array[part] == label).sum() - fair) <= 3


def test_the_split_is_the_same_in_every_call_and_depends_on_its_seed() -> None:
    labels = np.arange(100) % 5
    first, again = stratified_parts(labels, (20,)), stratified_parts(labels, (20,))
    other = stratified_parts(labels, (20,), seed=1)
    assert np.array_equal(first[0], again[0])
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize("sizes", [(0,), (4,), (3, 1), (5,)])
def test_parts_that_leave_nothing_are_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"parts must be positive and leave examples for the last, but"):
        stratified_parts(np.zeros(4, dtype=np.int64), sizes)


def test_normalisation_takes_its_figures_from_training_only() -> None:
    generator = np.random.default_rng(0)
    parts = tuple(
        (generator.integers(0, 256, (20, 3, 4, 4)) * scale // 4, np.arange(20) % 2) for scale in (4, 1, 2)
    )
    splits = normalised_splits(parts, white=255.0, num_classes=2)
    assert splits.input_shape == (3, 4, 4)
    train, test = splits.train.images, splits.test.images
    assert torch.allclose(train.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(train.std(dim=(0, 2, 3)), torch.ones(3), atol=1e-5)
    assert test.mean() < -0.3  # darker than the training images, and it stays so


def test_a_constant_channel_stays_finite() -> None:
    parts = ((np.full((4, 1, 2, 2), 7), np.arange(4) % 2),) * 3
    assert torch.isfinite(normalised_splits(parts, white=255.0, num_classes=2).train.images).all()


def test_digits_have_their_sizes_and_no_example_twice() -> None:
    splits = load("digits")
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (1150, 287, 360)
    assert splits.input_shape == (1, 8, 8)
    for split in (splits.train, splits.validation, splits.test):
        share = split.labels.bincount(minlength=10) / len(split)
        assert ((share - 0.1).abs() < 0.01).all()
    seen = {image.numpy().tobytes() for s in (splits.train, splits.validation) for image in s.images}
    assert not seen & {image.numpy().tobytes() for image in splits.test.images}


def test_a_smaller_proxy_is_a_fixed_draw_and_leaves_the_test_split() -> None:
    splits = load("digits")
    small, again = (limited(splits, train=200, validation=50) for _ in range(2))
    assert (len(small.train), len(small.validation), len(small.test)) == (200, 50, 360)
    assert torch.equal(small.train.images, again.train.images)
    assert small.train.labels.bincount().min() >= 18
    assert small.test is splits.test
    assert limited(splits, train=10**6).train is splits.train


def test_registered_names() -> None:
    assert names() == ("cifar10", "digits", "fashion_mnist", "mnist", "shapes")
    assert all(describe(name) for name in names())


def test_a_users_own_data_set_is_found_by_its_address() -> None:
    assert load(f"{__name__}:own_data").num_classes == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digit", r"no data set is named 'digit'. Did you mean 'digits'\? Known: cifar10, digits"),
        (
            "nowhere.at.all:load",
            "must be an importable module:callable, but importing 'nowhere.at",
        ),
        (f"{__name__}:no_data", "must return a DataSplits, but it returned a list"),
    ],
)
def test_what_is_no_data_set_is_explained(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(name)


def test_a_name_is_registered_once() -> None:
    names()
    with pytest.raises(DataError, match="'digits' is registered twice"):
        DATASETS.register("digits")(own_data)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (
            torch.zeros(2, 3),
            torch.zeros(2, dtype=torch.int64),
            r"images must be float32 of shape \(n, c",
        ),
        (torch.zeros(2, 1, 2, 2).double(), torch.zeros(2, dtype=torch.int64), "but got torch.float64"),
        (torch.zeros(2, 1, 2, 2), torch.zeros(3, dtype=torch.int64), r"labels must be int64 of shape \(2,\)"),
        (torch.zeros(2, 1, 2, 2), torch.zeros(2), "labels must be int64"),
    ],
)
def test_a_split_of_another_form_is_refused(images: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Split(images=images, labels=labels)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test": _split(0)}, "every split needs examples, but test has none"),
        ({"validation": _split(side=3)}, r"train has \(1, 2, 2\) and validation \(1, 3, 3\)"),
        ({"train": _split(classes=3)}, "labels must be 0 to 1, but train has labels from 0 to 2"),
    ],
)
def test_splits_that_do_not_go_together_are_refused(changes: dict[str, Split], message: str) -> None:
    legal = {"train": _split(), "validation": _split(), "test": _split()}
    with pytest.raises(DataError, match=message):
        DataSplits(**(legal | changes), num_classes=2)
