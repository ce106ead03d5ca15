"""SmartDeal: decomposed weights in training, and what they do to the workload.

Conventions of the workload, where a weight is stored as `numel * (bits * density + index_bits)`:

- Inference: coefficients of the rows that are not zero, one bit a row that says which, and the bases with one
  32-bit scale a filter. A chip rebuilds the weights beside its multipliers; rows of zeros are its density.
- Training: latent coefficients are 32-bit; projected and bucket-switched ones have their few bits, and a
  counter where several steps move an exponent. One mask bit a coefficient (without a threshold: a bit a row
  for each group of filters that lost the same rows). Bases have 32 bits where coefficients are latent, else
  their own, in which they are stored after every step. Gradient and optimizer state exist where coefficients
  do, and for the bases.
- Expected densities are those of Gaussian weights; the measured ones replace them after training.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import torch
from torch import nn
from torch.nn.utils import parametrize

from evaluators.learning.stepping import Stepping
from evaluators.networks.layers import Layer
from evaluators.techniques.dispatch import TechniqueError, apply, bake, restore, rewrite, stored_density
from evaluators.techniques.fake_quantize import fake_quantize, symmetric_range
from evaluators.techniques.passes import companions_of, is_training
from evaluators.techniques.smartdeal_layout import SliceLayout, from_slices, slice_layout, to_slices
from evaluators.techniques.smartdeal_projection import (
    exponents_of,
    limited_power_of_two,
    project,
    pruned_slices,
)
from evaluators.techniques.smartdeal_step import rewritten_step, round_what_is_moved, rounded
from evaluators.techniques.smartdeal_storage import hardware_bits, training_bits
from evaluators.techniques.weight_codes import straight_through
from evaluators.workload.graph import WeightCode, Workload
from hw_templates.accelerator import SpecialKind
from search_spaces.smartdeal import SLICE_COLUMNS, CoefficientUpdate, SmartDeal

SCALE_BITS = 32  # one a filter, where bases are integers
LATENT_BITS = 32  # the copy that an ordinary optimizer moves
SMALLEST_SCALE = 1e-12  # of a basis of zeros


class SmartDealWeight(nn.Module, Stepping):
    """Rebuilds a weight from its coefficients and bases; coefficients that are zero at first stay zero."""

    def __init__(self, weight: torch.Tensor, choice: SmartDeal, layout: SliceLayout) -> None:
        """Decompose a weight of shape (k, c, fy, fx) or (k, c)."""
        super().__init__()
        self.layout, self.shape, self.choice = layout, tuple(weight.shape), choice
        self.exponents = exponents_of(choice.coefficient_bits)
        slices = to_slices(weight.detach(), layout)
        slices = pruned_slices(slices, layout, choice.prune_fraction, group=choice.prune_group)
        row_factor = choice.row_factor if layout.has_kernel_rows else 0.0
        found = project(
            slices,
            threshold=choice.threshold,
            row_factor=row_factor,
            exponents=self.exponents,
            iterations=choice.iterations,
        )
        self.coefficients = nn.Parameter(found.coefficients)
        self.basis = nn.Parameter(found.basis)
        self.register_buffer("kept", _free(slices, found.coefficients, choice), persistent=False)
        self.register_buffer("before", found.coefficients.clone(), persistent=False)
        self.register_buffer("counter", torch.zeros_like(found.coefficients), persistent=False)
        largest = found.coefficients.abs().amax(dim=(1, 2), keepdim=True)
        self.register_buffer("largest", largest, persistent=False)
        self.kept: torch.Tensor
        self.before: torch.Tensor
        self.counter: torch.Tensor
        self.largest: torch.Tensor

    @property
    def smallest(self) -> torch.Tensor:
        """The smallest power of two of each slice's code, (s, 1, 1)."""
        return self.largest * 2.0 ** (1 - self.exponents)

    def quantized_coefficients(self) -> torch.Tensor:
        """Return the coefficients as stored, (s, m, n); the gradient passes straight through."""
        rounded = limited_power_of_two(self.coefficients.detach(), self.exponents)
        return straight_through(self.coefficients, rounded) * self.kept

    def quantized_basis(self) -> torch.Tensor:
        """Return the bases as stored, (s, n, n): integers with one scale a filter."""
        if self.choice.basis_bits == LATENT_BITS:
            return self.basis
        low, high = symmetric_range(self.choice.basis_bits)
        per_filter = self.basis.detach().abs().reshape(self.layout.filters, -1).amax(dim=1)
        scale = (per_filter / high).clamp_min(SMALLEST_SCALE).repeat_interleave(self.layout.slices)
        return fake_quantize(
            self.basis, scale[:, None, None], torch.zeros_like(scale)[:, None, None], low, high
        )

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the rebuilt weight; the one given is what it was decomposed from."""
        slices = self.quantized_coefficients() @ self.quantized_basis()
        rebuilt = from_slices(slices, self.layout, self.shape)
        if self.choice.step_bits == LATENT_BITS:
            return rebuilt
        return straight_through(rebuilt, rounded(rebuilt, self.choice.step_bits))  # one scale a filter

    def begin_epoch(self) -> None:
        """Set the counters of the bucket switch to zero."""
        self.counter.zero_()

    @torch.no_grad()
    def after_step(self) -> None:
        """Move each coefficient in the way of the choice."""
        match self.choice.update:
            case CoefficientUpdate.LATENT:
                return
            case CoefficientUpdate.PROJECTED:
                self.coefficients.copy_(limited_power_of_two(self.coefficients, self.exponents) * self.kept)
            case CoefficientUpdate.BUCKET_SWITCH:
                self._switch_buckets()
        self.before.copy_(self.coefficients)
        self.basis.copy_(self.quantized_basis())

    def _switch_buckets(self) -> None:
        """Move exponents by one where the counter of directions reaches the bar.

        A coefficient below the smallest power becomes zero; one that is zero comes back as the smallest.

        Source: github VITA-Group/SmartDeal, SD-Training `main.py` (bucket switch).
        """
        step = self.coefficients - self.before
        self.counter += step.sign() * (step.abs() > self.choice.smallest_step) * self.kept
        moves = self.counter.sign() * (self.counter.abs() >= self.choice.switch_bar)
        moved = self.before * torch.exp2(moves * self.before.sign())
        moved = torch.where(self.before == 0, moves * self.smallest, moved)
        moved = torch.where(moved.abs() < self.smallest, torch.zeros_like(moved), moved)
        self.coefficients.copy_(moved.clamp(-self.largest, self.largest) * self.kept)
        self.counter[moves != 0] = 0.0


@apply.register
def _(choice: SmartDeal, layer: nn.Module, name: str) -> None:
    weight = _weight(layer, name)
    layout = _layout(tuple(weight.shape), choice, name)
    parametrize.register_parametrization(layer, "weight", SmartDealWeight(weight, choice, layout))
    if choice.step_bits < LATENT_BITS:
        round_what_is_moved(layer, choice.step_bits)


@bake.register
def _(choice: SmartDeal, layer: nn.Module) -> None:
    """Keep the factors beside the rebuilt weight: they are what a chip with rebuild engines loads."""
    part = next(part for part in layer.modules() if isinstance(part, SmartDealWeight))
    with torch.no_grad():
        layer.register_buffer("smartdeal_coefficients", part.quantized_coefficients().clone())
        layer.register_buffer("smartdeal_basis", part.quantized_basis().clone())


@restore.register
def _(choice: SmartDeal, layer: nn.Module) -> None:
    weight = _weight(layer, type(layer).__name__)
    layout = _layout(tuple(weight.shape), choice, type(layer).__name__)
    sizes = (layout.slice_count, layout.rows, layout.columns)
    layer.register_buffer("smartdeal_coefficients", torch.zeros(sizes))
    layer.register_buffer("smartdeal_basis", torch.zeros(layout.slice_count, layout.columns, layout.columns))


@rewrite.register
def _(choice: SmartDeal, workload: Workload, layer: str) -> Workload:
    weight = workload.weight_of(layer)
    tensor = workload.tensors[weight]
    layout = _layout(tensor.shape, choice, layer)
    rows, elements = expected_densities(choice, layout)
    if is_training(workload):
        stepped = _rewritten_training(choice, workload, weight, layout, elements)
        moves_less = choice.step_bits < LATENT_BITS
        return rewritten_step(stepped, layer, choice.step_bits) if moves_less else stepped
    stored = hardware_bits(
        layout, rows, coefficient_bits=choice.coefficient_bits, basis_bits=choice.basis_bits
    )
    scales = layout.filters * SCALE_BITS if choice.basis_bits < LATENT_BITS else 0
    return workload.rewrite(
        bits={weight: choice.coefficient_bits},
        density={weight: rows},
        index_bits={weight: (stored.index + stored.basis + scales) / tensor.numel},
        codes={weight: _code(layout, elements / rows if rows else 0.0)},
    )


def _code(layout: SliceLayout, filled: float) -> WeightCode:
    """Return how W = Q B is rebuilt: a shift-and-add for each element of the basis row of a coefficient.

    Args:
        filled: fraction of the stored coefficients that are not zero; the others cost nothing.
    """
    return WeightCode(unit=SpecialKind.REBUILD_ENGINE, operations_per_element=filled * layout.columns)


def _rewritten_training(
    choice: SmartDeal, workload: Workload, weight: int, layout: SliceLayout, elements: float
) -> Workload:
    numel = workload.tensors[weight].numel
    is_latent = choice.update is CoefficientUpdate.LATENT
    stored = training_bits(
        layout,
        elements,
        coefficient_bits=choice.coefficient_bits,
        basis_bits=LATENT_BITS if is_latent else choice.basis_bits,
        row_index_group=None if choice.threshold else choice.prune_group,
    )
    companions = companions_of(workload.structure, weight)
    scales = layout.filters * SCALE_BITS if not is_latent and choice.basis_bits < LATENT_BITS else 0
    counts = choice.update is CoefficientUpdate.BUCKET_SWITCH and choice.switch_bar > 1
    counter_bits = math.ceil(math.log2(2 * choice.switch_bar - 1)) if counts else 0
    return workload.rewrite(
        bits={weight: LATENT_BITS if is_latent else choice.coefficient_bits + counter_bits},
        density=dict.fromkeys((weight, *companions), elements),
        index_bits={weight: (stored.index + stored.basis + scales) / numel}
        | dict.fromkeys(companions, layout.basis_count * LATENT_BITS / numel),
        codes={weight: _code(layout, 1.0)},  # coefficients of zero are not stored
    )


@stored_density.register
def _(choice: SmartDeal, layer: nn.Module) -> float:
    """Return the fraction of the rows with a coefficient that is not zero."""
    for part in layer.modules():
        if isinstance(part, SmartDealWeight):
            return _row_density(part.quantized_coefficients(), part.layout)
    layout = _layout(tuple(_weight(layer, type(layer).__name__).shape), choice, type(layer).__name__)
    return _row_density(layer.get_buffer("smartdeal_coefficients"), layout)


def _free(slices: torch.Tensor, coefficients: torch.Tensor, choice: SmartDeal) -> torch.Tensor:
    """Return 1 where a coefficient may ever differ from zero.

    A threshold freezes single zeros, which takes a mask of elements. Without one only the rows that were
    removed beforehand are frozen, and a coefficient that rounds to the code's zero may come back.
    """
    if choice.threshold:
        return (coefficients != 0).to(slices.dtype)
    return slices.any(dim=2, keepdim=True).to(slices.dtype).expand_as(slices).clone()


def expected_densities(choice: SmartDeal, layout: SliceLayout) -> tuple[float, float]:
    """Return what fraction of rows, and of coefficients, is not zero if weights are Gaussian.

    The L1 norm of a row is taken as normal, with the mean and variance of a sum of half-normal values.
    """
    deviation = 1 / math.sqrt(layout.rows)  # columns have unit norm
    rows = math.ceil(layout.values / layout.columns)
    pruned = 1 - math.ceil(choice.prune_fraction * rows) / rows
    elements = 2 * (1 - NormalDist(0, deviation).cdf(choice.threshold)) if choice.threshold else 1.0
    kept = 1.0
    if choice.row_factor and layout.has_kernel_rows:
        mean = layout.columns * deviation * math.sqrt(2 / math.pi)
        spread = deviation * math.sqrt(layout.columns * (1 - 2 / math.pi))
        kept = 1 - NormalDist(mean, spread).cdf(choice.row_factor * choice.threshold)
    return pruned * kept, pruned * min(kept, elements)


def _row_density(coefficients: torch.Tensor, layout: SliceLayout) -> float:
    rows = layout.filters * math.ceil(layout.values / layout.columns)  # without the padding
    return int(coefficients.any(dim=2).sum()) / rows


def _layout(shape: tuple[int, ...], choice: SmartDeal, name: str) -> SliceLayout:
    layout = slice_layout(shape, columns=SLICE_COLUMNS, slice_rows=choice.slice_rows)
    if layout is None:
        raise TechniqueError(
            "SmartDeal acts on linear layers and on 1x1 and 3x3 convolutions over several input channels, "
            f"but {name!r} has weights {shape}; leave SmartDeal out there"
        )
    return layout


def _weight(layer: nn.Module, name: str) -> torch.Tensor:
    if not isinstance(layer, Layer):
        raise TechniqueError(
            f"SmartDeal acts on Conv2d and Linear layers, but {name!r} is a {type(layer).__name__}"
        )
    return layer.weight.detach()
