"""The search benchmark on a table small enough to be written down: both sides reach the true front."""

from __future__ import annotations

import itertools

import numpy as np

from benchmarks.search_on_tables import VARIANTS, plain, searched
from benchmarks.search_rivals import SAMPLERS
from benchmarks.search_tables import Table

CODES = ["".join(code) for code in itertools.product("abc", repeat=3)]
SIZES = {code: 1 + sum("abc".index(letter) for letter in code) for code in CODES}
TABLE = Table(
    name="tiny",
    letters=("a", "b", "c"),
    places=3,
    devices=("slow", "fast"),
    accuracies={code: 1 - 1 / (1 + size) for code, size in SIZES.items()},
    costs={code: np.array([[2.0 * size], [1.0 * size]]) for code, size in SIZES.items()},
    cost_names=("inference_latency_s",),
    reference=("ccc", "fast"),
    bound=0.8,
)


def test_plain_optuna_pays_for_every_trial_and_the_sweep_for_every_network_once() -> None:
    for sampler in SAMPLERS:
        curve = plain(TABLE, seed=0, budget=40, sampler=sampler)
        assert curve.spent[-1] == 40
        assert 0 < curve.final <= TABLE.best_hypervolume() + 1e-12
    swept = searched(TABLE, 0, 27, *VARIANTS["full"])
    assert swept.spent[-1] <= 27  # there are no more networks
    assert np.isclose(swept.final, TABLE.best_hypervolume())
