"""Pruned kernel rows and the formats of an index: masks, bits by hand, and codes that are really written."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from evaluators.networks import build
from evaluators.techniques import TechniqueError, apply, rewrite, stored_density
from evaluators.techniques.masks import row_mask
from evaluators.techniques.sparsity import indexed
from evaluators.workload.trace import trace
from search_spaces.ask import LayerInfo
from search_spaces.choice import SpaceError, from_json, to_json
from search_spaces.sparsity import IndexFormat, RowPruned, SparsitySpace, Unstructured, fits

SHAPE = (32, 16, 3, 3)


def test_rows_of_largest_norm_stay_whole() -> None:
    weight = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    mask = row_mask(weight, 0.3)
    rows = mask.flatten(0, 2)
    assert set(rows.sum(dim=1).tolist()) == {0.0, 3.0}
    kept = rows[:, 0].bool()
    assert int(kept.sum()) == round(0.3 * 32 * 16 * 3)
    norms = weight.abs().sum(dim=3).flatten()
    assert norms[kept].min() >= norms[~kept].max()


def test_pruned_rows_are_zero_in_the_layer_and_counted() -> None:
    layer = nn.Conv2d(16, 32, 3)
    choice = RowPruned(density=0.25)
    apply(choice, layer, "conv")
    assert not layer.weight.flatten(0, 2)[~layer.weight.flatten(0, 2).any(dim=1)].any()
    assert stored_density(choice, layer) == pytest.approx(0.25, abs=1e-3)


def test_bits_of_pruned_rows() -> None:
    model = build("small_cnn", width=1.0, depth=1, input_shape=(1, 8, 8), num_classes=10, seed=0)
    workload = trace(model, (torch.zeros(1, 1, 8, 8),), loss=None, optimizer=None, training=False)
    workload = rewrite(RowPruned(density=0.25), workload, "stage2.conv1")
    weights, rows = 16 * 8 * 9, 16 * 8 * 3
    stored = workload.stored_bits[workload.weight_of("stage2.conv1")]
    assert stored == pytest.approx(weights * 0.25 * 32 + rows)


@pytest.mark.parametrize("density", [0.02, 0.1, 0.3, 0.7])
def test_index_bits_are_those_of_codes_that_are_written(density: float) -> None:
    kept = torch.rand(SHAPE, generator=torch.Generator().manual_seed(1)) < density
    count, columns = kept.numel(), kept[0].numel()
    nonzero = int(kept.sum())
    stored, bits = indexed(IndexFormat.CSR, nonzero / count, SHAPE)
    assert stored == nonzero / count
    by_hand = nonzero * math.ceil(math.log2(columns)) + (32 + 1) * math.ceil(math.log2(count + 1))
    assert bits * count == pytest.approx(by_hand)
    entries = 0
    for is_kept, run in itertools.groupby(kept.flatten().tolist()):
        length = len(list(run))
        entries += length if is_kept else length // 16  # each 15 zeros and the stored one after them
    stored, bits = indexed(IndexFormat.RUN_LENGTH, nonzero / count, SHAPE)
    assert stored * count == pytest.approx(entries, rel=0.05)
    assert bits == pytest.approx(4 * stored)
    assert indexed(IndexFormat.BITMAP, nonzero / count, SHAPE) == (nonzero / count, 1)


def test_the_best_format_depends_on_the_density() -> None:
    def total(index: IndexFormat, density: float) -> float:
        stored, bits = indexed(index, density, SHAPE)
        return stored * 8 + bits

    assert min(IndexFormat, key=lambda index: total(index, 0.5)) is IndexFormat.BITMAP
    assert min(IndexFormat, key=lambda index: total(index, 0.1)) is IndexFormat.RUN_LENGTH
    assert min(IndexFormat, key=lambda index: total(index, 0.003)) is IndexFormat.CSR
    assert indexed(IndexFormat.RUN_LENGTH, 0.0, SHAPE) == (0.0, 0.0)


@pytest.mark.parametrize("layer", [nn.Linear(4, 4), nn.Conv2d(4, 4, 1)])
def test_rows_need_a_kernel(layer: nn.Module) -> None:
    with pytest.raises(TechniqueError, match="pruned rows need a kernel wider than one, but layer 'odd'"):
        apply(RowPruned(density=0.5), layer, "odd")


def test_a_density_of_zero_is_refused() -> None:
    with pytest.raises(SpaceError, match="`0 < density <= 1`"):
        RowPruned(density=0.0)


class Last:
    """Answers every knob with its last value."""

    def ordinal(self, name: str, values: tuple[int | float, ...]) -> int | float:
        return values[-1]

    def categorical(self, name: str, values: tuple[str, ...]) -> str:
        return values[-1]


def test_the_space_offers_rows_where_they_fit() -> None:
    wide = LayerInfo(name="conv", kind="conv2d", weight_shape=SHAPE)
    narrow = LayerInfo(name="fc", kind="linear", weight_shape=(10, 32))
    space = SparsitySpace(patterns=("dense", "row"), density=(0.5,))
    assert space.suggest(Last(), wide) == RowPruned(density=0.5)
    assert not fits("row", narrow)
    csr = SparsitySpace(patterns=("unstructured",), index=IndexFormat.CSR)
    made = csr.suggest(Last(), narrow)
    assert made == Unstructured(density=0.5, index=IndexFormat.CSR)
    assert from_json(to_json(made)) == made
