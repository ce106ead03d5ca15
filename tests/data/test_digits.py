"""Digits: read from the bundled file exactly as scikit-learn reads it."""

from __future__ import annotations

from importlib import metadata

import numpy as np
import pytest

from evaluators.data import digits


def test_the_file_read_directly_is_what_scikit_learn_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    direct = digits._bundled_table()

    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    through_sklearn = digits._bundled_table()
    np.testing.assert_array_equal(direct, through_sklearn)
    assert direct.shape == (1797, 65)
