"""Measure the peak that `trace` predicts, by really running the step and counting the bytes of storages.

It is the oracle of the accuracy benchmark, and lets a user check a prediction on their own model. It shares
no bookkeeping with the prediction: real tensors, `torch.optim`'s own optimizers, sizes summed as they come
and go.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from evaluators.workload.losses import Loss, apply_loss, make_targets
from evaluators.workload.optimizers import Optimizer
from evaluators.workload.twin import select_trainable


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sum the bytes of the storages that are alive, and keep the largest sum."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live_bytes = 0
        self.peak_bytes = 0
        self._known: set[int] = set()

    def count(self, value: object) -> None:
        """Count the storages of the tensors in a structure that are not yet known."""
        for leaf in pytree.tree_leaves(value):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                if storage._cdata not in self._known:
                    self._known.add(storage._cdata)
                    self.live_bytes += storage.nbytes()
                    weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes()).atexit = False
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)

    def _freed(self, key: int, size_bytes: int) -> None:
        self._known.discard(key)
        self.live_bytes -= size_bytes

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        result = func(*args, **(kwargs or {}))
        self.count(result)
        return result


def measure_peak_bytes(
    model: nn.Module,
    inputs: tuple[Tensor, ...],
    *,
    loss: Loss | None = None,
    optimizer: Optimizer | None = None,
    trainable: Collection[str] | None = None,
    training: bool = True,
) -> int:
    """Run a step for real on a copy of `model` and return the most bytes alive at once.

    The arguments are those of `trace`, with real inputs. The optimizer has taken a step before, so that its
    state exists; gradients start at None.
    """
    model = copy.deepcopy(model)
    learns = training and loss is not None
    if learns:
        select_trainable(model, trainable)
    model.train(learns)
    live = _LiveBytes()
    live.count((list(model.parameters()), list(model.buffers()), inputs))
    if loss is None or not learns:
        with torch.no_grad(), live:
            output = model(*inputs)
        live.count(output)
        return live.peak_bytes
    targets, reached = _rehearse(model, inputs, loss)
    live.count(targets)
    rule = _torch_optimizer(optimizer, [p for path, p in model.named_parameters() if path in reached])
    if rule is not None:
        live.count([state for states in rule.state.values() for state in states.values()])
    with live:
        output = model(*inputs)
        value = apply_loss(loss, output, targets)
        if value.requires_grad:
            value.backward()  # type: ignore[no-untyped-call]
        if rule is not None:
            rule.step()
    return live.peak_bytes


def _rehearse(
    model: nn.Module, inputs: tuple[Tensor, ...], loss: Loss
) -> tuple[list[Tensor], frozenset[str]]:
    """Run a step on a copy; return targets that fit and the paths of the parameters that get a gradient."""
    model = copy.deepcopy(model)
    with torch.enable_grad():
        output = model(*inputs)
        targets = make_targets(loss, output)
        value = apply_loss(loss, output, targets)
        if value.requires_grad:
            value.backward()  # type: ignore[no-untyped-call]
    return targets, frozenset(path for path, p in model.named_parameters() if p.grad is not None)


def _torch_optimizer(
    optimizer: Optimizer | None, parameters: Sequence[nn.Parameter]
) -> torch.optim.Optimizer | None:
    """Return torch's optimizer after one step on zero gradients: its state exists, the weights stand."""
    if optimizer is None or not parameters:
        return None
    match optimizer:
        case Optimizer.SGD:
            rule: torch.optim.Optimizer = torch.optim.SGD(parameters, lr=1e-3)
        case Optimizer.MOMENTUM:
            rule = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9)
        case Optimizer.ADAM:
            rule = torch.optim.Adam(parameters, lr=1e-3)
        case Optimizer.ADAMW:
            rule = torch.optim.AdamW(parameters, lr=1e-3)
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    rule.step()
    rule.zero_grad(set_to_none=True)
    return rule
