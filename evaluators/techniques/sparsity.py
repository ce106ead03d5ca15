"""Sparsity: magnitude masks in training, frozen or regrown, and what they do to the workload.

Conventions of the workload, where a weight is stored as `numel * (bits * density + index_bits)`:

- Unstructured: a bitmap, 1 bit a weight, kept or not; CSR, the column of each kept weight and a pointer a
  filter; or run lengths of 4 bits, with a stored zero after each 15 zeros in a row, as often as they are
  expected where zeros stand at random.
- Row: 1 bit a kernel row.
- n:m: the place of each kept weight in its run, ceil(log2(m)) bits: 2:4 costs 2 bits a kept weight
  (Mishra et al., arXiv 2104.08378), 1 bit a weight.
- Filter, where it cannot be taken out of the network (`removal.py`): 1 bit a filter.
- Training: gradient and optimizer state exist at the kept places only, at the density of the weight; they
  share the weight's index. A mask that regrows needs the dense weight's gradient once an epoch: there the
  gradient is dense in every step, too much and never too little.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.utils import parametrize

from evaluators.networks.layers import Layer
from evaluators.techniques.dispatch import TechniqueError, apply, bake, restore, rewrite, stored_density
from evaluators.techniques.masks import filter_mask, nm_mask, row_mask, unstructured_mask
from evaluators.techniques.passes import companions_of
from evaluators.techniques.regrowth import RegrownMask
from evaluators.workload.graph import Workload
from search_spaces.sparsity import NM, Dense, FilterPruned, IndexFormat, Masks, RowPruned, Unstructured

RUN_BITS = 4  # of a run length, as in EIE (Han et al., ISCA 2016)
BITMAP_BITS = 1  # one bit says whether a weight, or a filter, is kept


class Mask(nn.Module):
    """Sets the weights that are not kept to zero, for good."""

    def __init__(self, kept: torch.Tensor) -> None:
        """Hold a mask of zeros and ones, shaped as the weight."""
        super().__init__()
        self.register_buffer("kept", kept, persistent=False)
        self.kept: torch.Tensor

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the weight, zero where it is not kept."""
        return weight * self.kept


@apply.register
def _(choice: Dense, layer: nn.Module, name: str) -> None:
    """Leave the layer as it is."""


@apply.register
def _(choice: Unstructured, layer: nn.Module, name: str) -> None:
    weight = _weight(layer, name)
    _put(layer, choice, unstructured_mask(weight, choice.density))


@apply.register
def _(choice: RowPruned, layer: nn.Module, name: str) -> None:
    weight = _weight(layer, name)
    if weight.ndim != 4 or weight.shape[3] == 1:
        raise TechniqueError(
            f"pruned rows need a kernel wider than one, but layer {name!r} has weights "
            f"{tuple(weight.shape)}; use Dense or Unstructured there"
        )
    _put(layer, choice, row_mask(weight, choice.density))


@apply.register
def _(choice: NM, layer: nn.Module, name: str) -> None:
    weight = _weight(layer, name)
    if weight.shape[1] % choice.m:
        raise TechniqueError(
            f"{choice.n}:{choice.m} sparsity needs a multiple of {choice.m} input channels, but layer "
            f"{name!r} has weights {tuple(weight.shape)}; use Dense or Unstructured there"
        )
    _put(layer, choice, nm_mask(weight, choice.n, choice.m))


@apply.register
def _(choice: FilterPruned, layer: nn.Module, name: str) -> None:
    weight = _weight(layer, name)
    parametrize.register_parametrization(layer, "weight", Mask(filter_mask(weight, choice.density)))


def _put(layer: nn.Module, choice: Unstructured | RowPruned | NM, kept: torch.Tensor) -> None:
    regrows = choice.masks is Masks.REGROWN
    mask = RegrownMask(choice, kept) if regrows else Mask(kept)
    parametrize.register_parametrization(layer, "weight", mask)


@bake.register(Dense)
@bake.register(Unstructured)
@bake.register(RowPruned)
@bake.register(NM)
@bake.register(FilterPruned)
def _(choice: object, layer: nn.Module) -> None:
    """Leave nothing beside the weight: its zeros say all."""


@restore.register(Dense)
@restore.register(Unstructured)
@restore.register(RowPruned)
@restore.register(NM)
@restore.register(FilterPruned)
def _(choice: object, layer: nn.Module) -> None:
    """Add nothing: the saved weight has its zeros."""


@rewrite.register
def _(choice: Dense, workload: Workload, layer: str) -> Workload:
    workload.contractions_of(layer)  # refuses a layer that is not there, as every technique does
    return workload


@rewrite.register
def _(choice: Unstructured, workload: Workload, layer: str) -> Workload:
    shape = workload.tensors[workload.weight_of(layer)].shape
    density, index_bits = indexed(choice.index, choice.density, shape)
    return _sparse(workload, layer, density, index_bits, choice.masks)


@rewrite.register
def _(choice: RowPruned, workload: Workload, layer: str) -> Workload:
    *rows, width = workload.tensors[workload.weight_of(layer)].shape
    count = math.prod(rows)
    kept = max(1, round(choice.density * count))  # as `row_mask` rounds it
    return _sparse(workload, layer, kept / count, BITMAP_BITS / width, choice.masks)


@rewrite.register
def _(choice: NM, workload: Workload, layer: str) -> Workload:
    index_bits = choice.density * math.ceil(math.log2(choice.m))
    return _sparse(workload, layer, choice.density, index_bits, choice.masks)


@rewrite.register
def _(choice: FilterPruned, workload: Workload, layer: str) -> Workload:
    filters, *rest = workload.tensors[workload.weight_of(layer)].shape
    kept = max(1, round(choice.density * filters))  # as `filter_mask` rounds it
    return _sparse(workload, layer, kept / filters, BITMAP_BITS / math.prod(rest))


@stored_density.register
def _(choice: Dense, layer: nn.Module) -> float:
    return 1.0


@stored_density.register
def _(choice: Unstructured, layer: nn.Module) -> float:
    # A kept weight that quantization rounds to zero need not be stored either.
    weight = _weight(layer, type(layer).__name__)
    found = int(weight.count_nonzero()) / weight.numel()
    return indexed(choice.index, found, tuple(weight.shape))[0]


@stored_density.register
def _(choice: RowPruned, layer: nn.Module) -> float:
    rows = _weight(layer, type(layer).__name__).flatten(0, 2).any(dim=1)
    return int(rows.sum()) / rows.numel()


@stored_density.register
def _(choice: NM, layer: nn.Module) -> float:
    return choice.density  # every run stores n values, zero or not


@stored_density.register
def _(choice: FilterPruned, layer: nn.Module) -> float:
    weight = _weight(layer, type(layer).__name__)
    return int(weight.flatten(1).any(dim=1).sum()) / weight.shape[0]


def indexed(index: IndexFormat, density: float, shape: tuple[int, ...]) -> tuple[float, float]:
    """Return the fraction of weights that is stored, and the index bits for each weight of the dense tensor.

    Args:
        index: the format.
        density: fraction of the weights that is not zero, at random places.
        shape: of the weight, filters first.
    """
    count, columns = math.prod(shape), math.prod(shape[1:])
    match index:
        case IndexFormat.BITMAP:
            return density, BITMAP_BITS
        case IndexFormat.CSR:
            pointers = (shape[0] + 1) * math.ceil(math.log2(count + 1))
            return density, density * math.ceil(math.log2(max(columns, 2))) + pointers / count
        case IndexFormat.RUN_LENGTH:
            # A run reaches 16, 32, ... zeros with probability q^16, q^32, ...: so many zeros are stored.
            reaches = (1 - density) ** 2**RUN_BITS
            stored = min(1.0, density * (1 + reaches / (1 - reaches))) if density else 0.0
            return stored, stored * RUN_BITS


def _sparse(
    workload: Workload, layer: str, density: float, index_bits: float, masks: Masks = Masks.FROZEN
) -> Workload:
    weight = workload.weight_of(layer)
    thinned = {weight, *companions_of(workload.structure, weight)}
    if masks is Masks.REGROWN:
        thinned -= {workload.structure.gradients.get(weight, weight)} - {weight}
    return workload.rewrite(
        density=dict.fromkeys(sorted(thinned), density),
        index_bits={weight: float(workload.index_bits[weight]) + index_bits},
    )


def _weight(layer: nn.Module, name: str) -> torch.Tensor:
    if not isinstance(layer, Layer):
        raise TechniqueError(
            f"sparsity acts on Conv2d and Linear layers, but {name!r} is a {type(layer).__name__}"
        )
    return layer.weight.detach()
