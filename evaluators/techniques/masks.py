"""Which weights stay: masks by magnitude, one function a pattern."""

from __future__ import annotations

import torch


def unstructured_mask(weight: torch.Tensor, density: float) -> torch.Tensor:
    """Keep the largest magnitudes, wherever they stand; the first of equal ones, and at least one.

    Args:
        weight: any shape.
        density: fraction to keep; the count is rounded to the nearest.

    Returns:
        1 where kept and 0 elsewhere, in the weight's shape and type.

    Source: Han et al., NeurIPS 2015.
    """
    kept = max(1, round(density * weight.numel()))
    order = weight.detach().abs().flatten().argsort(descending=True, stable=True)
    mask = torch.zeros(weight.numel(), dtype=weight.dtype)
    mask[order[:kept]] = 1.0
    return mask.view_as(weight)


def nm_mask(weight: torch.Tensor, n: int, m: int) -> torch.Tensor:
    """Keep the `n` largest magnitudes of every `m` in a row along the input channels.

    Args:
        weight: (k, c, ...), with c a multiple of m.
        n: kept of each run.
        m: length of a run.

    Returns:
        1 where kept and 0 elsewhere, in the weight's shape and type.

    Source: Mishra et al., arXiv 2104.08378, section 3.
    """
    runs = weight.detach().abs().unflatten(1, (-1, m))  # type: ignore[no-untyped-call]
    order = runs.argsort(dim=2, descending=True, stable=True)
    mask = torch.zeros_like(runs).scatter_(2, order.narrow(2, 0, n), 1.0)
    return mask.flatten(1, 2)


def filter_mask(weight: torch.Tensor, density: float) -> torch.Tensor:
    """Keep the filters of largest L1 norm, at least one.

    Args:
        weight: (k, ...).
        density: fraction of the k filters to keep; the count is rounded to the nearest.

    Returns:
        1 in the filters that are kept and 0 in the others, in the weight's shape and type.

    Source: Li et al., ICLR 2017, section 3.1.
    """
    filters = weight.shape[0]
    kept = max(1, round(density * filters))
    order = weight.detach().abs().flatten(1).sum(dim=1).argsort(descending=True, stable=True)
    mask = torch.zeros_like(weight)
    mask[order[:kept]] = 1.0
    return mask


def row_mask(weight: torch.Tensor, density: float) -> torch.Tensor:
    """Keep the kernel rows of largest L1 norm, each filter and channel on its own, at least one.

    Args:
        weight: (k, c, fy, fx).
        density: fraction of the k c fy rows to keep; the count is rounded to the nearest.

    Returns:
        1 in the rows that are kept and 0 in the others, in the weight's shape and type.

    Source: Mao et al., CVPR Workshops 2017.
    """
    scores = weight.detach().abs().sum(dim=3)
    return unstructured_mask(scores, density).unsqueeze(3).expand_as(weight).clone()
