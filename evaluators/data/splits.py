"""The form of every data set: three splits of normalised images and their labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

SPLIT_SEED = 20240229
"""Fixes which examples are held out, for every study: figures of different seeds stay comparable."""


class DataError(ValueError):
    """A data set is unknown, missing, damaged, or not in the form that it should have."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Split:
    """Images and labels of one split.

    Args:
        images: (n, c, h, w), float32, normalised.
        labels: (n,), int64, from 0.

    Raises:
        DataError: shapes or types that are not these.
    """

    images: torch.Tensor
    labels: torch.Tensor

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != torch.float32:
            raise DataError(
                f"images must be float32 of shape (n, c, h, w), but got {self.images.dtype} of shape "
                f"{tuple(self.images.shape)}"
            )
        if self.labels.shape != self.images.shape[:1] or self.labels.dtype != torch.int64:
            raise DataError(
                f"labels must be int64 of shape ({len(self.images)},), but got {self.labels.dtype} of shape "
                f"{tuple(self.labels.shape)}"
            )

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.labels)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DataSplits:
    """A data set: `train` teaches, `validation` chooses, `test` is only reported.

    Raises:
        DataError: a split is empty, or has a label outside `0 .. num_classes - 1`, or another image shape.
    """

    train: Split
    validation: Split
    test: Split
    num_classes: int

    def __post_init__(self) -> None:
        for name, split in (("train", self.train), ("validation", self.validation), ("test", self.test)):
            if len(split) == 0:
                raise DataError(f"every split needs examples, but {name} has none")
            if tuple(split.images.shape[1:]) != self.input_shape:
                raise DataError(
                    f"every split must have images of one shape, but train has {self.input_shape} and {name} "
                    f"{tuple(split.images.shape[1:])}"
                )
            low, high = int(split.labels.min()), int(split.labels.max())
            if low < 0 or high >= self.num_classes:
                raise DataError(
                    f"labels must be 0 to {self.num_classes - 1}, but {name} has labels from {low} to {high}"
                )

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        channels, height, width = self.train.images.shape[1:]
        return int(channels), int(height), int(width)


def stratified_parts(
    labels: NDArray[np.int64], sizes: tuple[int, ...], *, seed: int = SPLIT_SEED
) -> tuple[NDArray[np.int64], ...]:
    """Deal examples into disjoint parts whose shares of every class are those of the whole.

    Each class is shuffled and laid along [0, 1) evenly; cutting the merged row at any place then takes
    the same share of each class, to within one example.

    Args:
        labels: (n,), the class of each example.
        sizes: examples in each part but the last, which takes the rest.

    Returns:
        For each part its indices, ascending.

    Raises:
        DataError: the sizes leave nothing for the last part.
    """
    count = len(labels)
    if any(size < 1 for size in sizes) or sum(sizes) >= count:
        raise DataError(
            f"parts must be positive and leave examples for the last, but sizes={sizes} of {count} examples"
        )
    generator = np.random.default_rng(seed)
    place = np.empty(count)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        place[generator.permutation(members)] = (np.arange(len(members)) + generator.random()) / len(members)
    row = np.argsort(place, kind="stable")
    cuts = np.cumsum(sizes)
    return tuple(np.sort(part) for part in np.split(row, cuts))


def limited(splits: DataSplits, *, train: int | None = None, validation: int | None = None) -> DataSplits:
    """Return the data set with at most so many training and validation examples; `test` is untouched.

    The examples are a fixed, stratified draw, so a smaller proxy is the same for every trial.
    """
    return DataSplits(
        train=_limited(splits.train, train),
        validation=_limited(splits.validation, validation),
        test=splits.test,
        num_classes=splits.num_classes,
    )


def stratified_share(split: Split, share: float) -> Split:
    """Return a fixed, stratified share of a split, one example or more; a smaller is part of a larger."""
    return _limited(split, max(1, round(share * len(split))))


def _limited(split: Split, size: int | None) -> Split:
    if size is None or size >= len(split):
        return split
    kept = torch.from_numpy(stratified_parts(split.labels.numpy(), (size,))[0])
    return Split(images=split.images[kept], labels=split.labels[kept])


def normalised_splits(
    parts: tuple[tuple[NDArray[np.generic], NDArray[np.int64]], ...], *, white: float, num_classes: int
) -> DataSplits:
    """Scale pixels to [0, 1], then to mean 0 and deviation 1 of the *training* pixels of each channel.

    Args:
        parts: images (n, c, h, w) of any number type, and labels (n,), for train, validation and test.
        white: the largest pixel value of the format.
        num_classes: classes of the data set.
    """
    train_images = torch.from_numpy(parts[0][0]).to(torch.float32) / white
    axes = (0, 2, 3)
    mean = train_images.mean(dim=axes, keepdim=True)
    deviation = train_images.std(dim=axes, keepdim=True).clamp_min(1e-6)  # a constant channel stays finite

    def split(images: NDArray[np.generic], labels: NDArray[np.int64]) -> Split:
        pixels = torch.from_numpy(images).to(torch.float32).div_(white).sub_(mean).div_(deviation)
        return Split(images=pixels.contiguous(), labels=torch.from_numpy(labels))

    train, validation, test = (split(images, labels) for images, labels in parts)
    return DataSplits(train=train, validation=validation, test=test, num_classes=num_classes)
