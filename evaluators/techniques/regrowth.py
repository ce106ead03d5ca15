"""Masks that regrow: in every epoch the weakest kept weights give their places to those that matter more.

Once an epoch, after its first step, a share of what is kept is dropped by magnitude, and as much is grown
where the gradient of the dense weight is largest; what is grown starts from zero. How many are kept never
changes. The share begins at 0.3 and is halved every epoch, so that the network settles; it depends on nothing
but the epoch, so training in stages or from a checkpoint takes the same steps.

Source: Evci et al., ICML 2020 (RigL), algorithm 1 and its first share. Ours: the halving in the place of a
cosine over a fixed number of steps, once an epoch in the place of every 100 steps, and in n:m one swap in the
share of the runs whose weakest kept weight is weakest.
"""

from __future__ import annotations

from functools import singledispatch

import torch
from torch import nn

from evaluators.learning.stepping import Stepping
from search_spaces.sparsity import NM, RowPruned, Unstructured

FIRST_SHARE = 0.3  # of the kept weights: Evci et al., ICML 2020, section 4 (alpha)


class RegrownMask(nn.Module, Stepping):
    """Sets the weights that are not kept to zero, and moves some places once an epoch."""

    def __init__(self, choice: Unstructured | RowPruned | NM, kept: torch.Tensor) -> None:
        """Begin with a mask of zeros and ones, shaped as the weight."""
        super().__init__()
        self.choice = choice
        self.register_buffer("kept", kept, persistent=False)
        self.kept: torch.Tensor
        self.epoch = 0
        self.is_due = False
        self._latent: list[torch.Tensor] = []  # in a list, so that torch does not take it for a parameter
        self._gradient: torch.Tensor | None = None

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the weight, zero where it is not kept."""
        if not (self.is_due and self.training and torch.is_grad_enabled()):
            return weight * self.kept
        self._latent = [weight.detach()]  # the same storage
        masked: torch.Tensor = _Watched.apply(weight, self.kept, self)  # type: ignore[no-untyped-call]
        return masked

    def note(self, gradient: torch.Tensor) -> None:
        """Add up what the dense weight's gradient is."""
        self._gradient = gradient if self._gradient is None else self._gradient + gradient

    def begin_epoch(self) -> None:
        """Let the next step be one after which places move."""
        self.epoch += 1
        self.is_due = True

    @torch.no_grad()
    def after_step(self) -> None:
        """Drop and grow, if it is time and a gradient was seen."""
        if not self.is_due or self._gradient is None:
            return
        share = FIRST_SHARE * 0.5 ** (self.epoch - 1)
        moved = regrown(self.choice, self.kept, self._latent[0], self._gradient, share)
        self._latent[0].mul_(moved * self.kept)  # what is dropped, and what is grown, is zero
        self.kept.copy_(moved)
        self.is_due, self._latent, self._gradient = False, [], None


class _Watched(torch.autograd.Function):
    """The masked weight, whose dense gradient is noted on the way back."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, weight: torch.Tensor, kept: torch.Tensor, mask: RegrownMask
    ) -> torch.Tensor:
        ctx.mask = mask  # type: ignore[attr-defined]
        ctx.save_for_backward(kept)
        return weight * kept

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor
    ) -> tuple[torch.Tensor, None, None]:
        (kept,) = ctx.saved_tensors  # type: ignore[attr-defined]
        ctx.mask.note(gradient.detach())  # type: ignore[attr-defined]
        return gradient * kept, None, None


@singledispatch
def regrown(
    choice: object, kept: torch.Tensor, weight: torch.Tensor, gradient: torch.Tensor, share: float
) -> torch.Tensor:
    """Return the next mask of a pattern, with as many places kept as before.

    Args:
        choice: the pattern.
        kept: zeros and ones, shaped as the weight.
        weight: its values.
        gradient: of the dense weight.
        share: of the kept places to move, within [0, 1].
    """
    raise TypeError(f"no mask of a {type(choice).__name__} regrows")


@regrown.register
def _(
    choice: Unstructured, kept: torch.Tensor, weight: torch.Tensor, gradient: torch.Tensor, share: float
) -> torch.Tensor:
    return _moved(kept, weight.abs(), gradient.abs(), share)


@regrown.register
def _(
    choice: RowPruned, kept: torch.Tensor, weight: torch.Tensor, gradient: torch.Tensor, share: float
) -> torch.Tensor:
    rows = _moved(kept[..., 0], weight.abs().sum(dim=3), gradient.abs().sum(dim=3), share)
    return rows.unsqueeze(3).expand_as(kept).clone()


@regrown.register
def _(
    choice: NM, kept: torch.Tensor, weight: torch.Tensor, gradient: torch.Tensor, share: float
) -> torch.Tensor:
    def runs(values: torch.Tensor) -> torch.Tensor:
        cut: torch.Tensor = values.unflatten(1, (-1, choice.m))  # type: ignore[no-untyped-call]
        return cut.movedim(2, -1).reshape(-1, choice.m)

    mask, sizes, slopes = runs(kept).clone(), runs(weight).abs(), runs(gradient).abs()
    weakest = torch.where(mask == 1, sizes, torch.inf).min(dim=1)
    strongest = torch.where(mask == 0, slopes, -torch.inf).argmax(dim=1)
    chosen = weakest.values.argsort(stable=True)[: round(share * len(mask))]
    mask[chosen, weakest.indices[chosen]] = 0.0
    mask[chosen, strongest[chosen]] = 1.0
    outputs, inputs, *kernel = kept.shape
    return mask.view(outputs, inputs // choice.m, *kernel, choice.m).movedim(-1, 2).reshape(kept.shape)


def _moved(kept: torch.Tensor, sizes: torch.Tensor, slopes: torch.Tensor, share: float) -> torch.Tensor:
    """Drop the smallest sizes of what is kept, and grow the largest slopes of all that is not, or no more."""
    mask = kept.flatten().clone()
    count = round(share * int(mask.sum()))
    dropped = torch.where(mask == 1, sizes.flatten(), torch.inf).argsort(stable=True)[:count]
    mask[dropped] = 0.0
    candidates = torch.where(mask == 0, slopes.flatten(), -torch.inf)
    mask[candidates.argsort(descending=True, stable=True)[:count]] = 1.0
    return mask.view_as(kept)
