"""What a SmartDeal layer costs to store: as its accelerator stores it, and as its training code counts it.

Both from the layout and from how much of it is not zero, so that published ratios can be checked from shapes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evaluators.techniques.smartdeal_layout import SliceLayout, slice_layout

PLAIN_BITS = 8  # layers that are not remodelled are stored at 8 bits a weight
REFERENCE_BITS = 32  # ratios are against single precision
TRAINING_BASIS_BITS = 32  # bases stay in single precision while they are trained


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredBits:
    """The bits of one layer by part; `total` is their sum."""

    coefficients: float
    index: float
    basis: float

    @property
    def total(self) -> float:
        """All bits of the layer."""
        return self.coefficients + self.index + self.basis


def hardware_bits(
    layout: SliceLayout,
    row_density: float,
    *,
    coefficient_bits: int = 4,
    basis_bits: int = 8,
    index_group: int = 1,
) -> StoredBits:
    """Return the bits of a layer as the accelerator stores it: rows that are not zero, a bit a row, bases.

    Args:
        row_density: fraction of the rows that are not zero.
        coefficient_bits: of a coefficient: its sign and its exponent.
        basis_bits: of an element of a basis.
        index_group: filters that share one row index, because their rows were removed together.

    Source: Zhao et al., ISCA 2020, section V (4-bit coefficients, 8-bit bases, 1-bit vector index).
    """
    return StoredBits(
        coefficients=row_density * layout.coefficient_count * coefficient_bits,
        index=layout.row_count / min(index_group, layout.filters),
        basis=layout.basis_count * basis_bits,
    )


def training_bits(
    layout: SliceLayout,
    element_density: float,
    *,
    coefficient_bits: int = 4,
    basis_bits: int = TRAINING_BASIS_BITS,
    row_index_group: int | None = None,
) -> StoredBits:
    """Return the bits of a layer as SmartDeal's training code counts them.

    Every coefficient that is not zero, one mask bit a coefficient, bases.

    Args:
        element_density: fraction of the coefficients that are not zero.
        coefficient_bits: of a coefficient.
        basis_bits: of an element of a basis; the code keeps single precision.
        row_index_group: filters that lost the same whole rows and no single coefficient, so that one bit a
            row says which (as the accelerator stores it); None counts the mask of the code.

    Source: github VITA-Group/SmartDeal, SD-Training `main.py`.
    """
    index = float(layout.coefficient_count)
    if row_index_group is not None:
        index = layout.row_count / min(row_index_group, layout.filters)
    return StoredBits(
        coefficients=element_density * layout.coefficient_count * coefficient_bits,
        index=index,
        basis=layout.basis_count * basis_bits,
    )


def compression_ratio(
    shapes: Mapping[str, Sequence[int]],
    row_density: Mapping[str, float] | float = 1.0,
    *,
    index_group: int = 1,
    other_parameters: int = 0,
) -> float:
    """Return by how much SmartDeal shrinks a network against single precision, as its accelerator stores it.

    Args:
        shapes: the weights' shapes by layer.
        row_density: fraction of each layer's rows that are not zero, or one for all layers.
        index_group: filters that share one row index.
        other_parameters: biases and normalisation, which stay in single precision.
    """
    dense = stored = float(other_parameters * REFERENCE_BITS)
    for name, shape in shapes.items():
        layout = slice_layout(shape)
        dense += math.prod(shape) * REFERENCE_BITS
        if layout is None:
            stored += math.prod(shape) * PLAIN_BITS
        else:
            density = row_density if isinstance(row_density, float) else row_density[name]
            stored += hardware_bits(layout, density, index_group=index_group).total
    return dense / stored


def training_ratio(
    shapes: Mapping[str, Sequence[int]], pruned: Mapping[str, float], *, element_density: float = 1.0
) -> float:
    """Return by how much SmartDeal shrinks a network against single precision, as its training code counts.

    Args:
        shapes: the weights' shapes by layer.
        pruned: fraction of the (input channel, kernel row) pairs removed beforehand, by layer; rounded up.
        element_density: fraction of the coefficients that are not zero in the rows that stay.
    """
    dense = stored = 0.0
    for name, shape in shapes.items():
        layout = slice_layout(shape)
        dense += math.prod(shape) * REFERENCE_BITS
        if layout is None:
            stored += math.prod(shape) * PLAIN_BITS
            continue
        rows = math.prod(shape[1:3])
        kept = 1 - math.ceil(pruned.get(name, 0.0) * rows) / rows
        stored += training_bits(layout, kept * element_density).total
    return dense / stored
