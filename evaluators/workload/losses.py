"""Losses by name, and the targets that they need."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluators.workload.errors import TraceError, unknown

Loss: TypeAlias = "Callable[..., Tensor] | str"


def make_targets(loss: Loss, output: object) -> list[Tensor]:
    """Return one target per floating-point output of the model, as the loss wants them.

    `cross_entropy` and torch's own losses over classes take class indices: one per sample for
    `(b, classes)`, one per token for `(b, tokens, classes)`, one per pixel for `(b, classes, y, x)`. `mse`,
    and a callable of two arguments, take a target shaped as the output. A callable of one argument takes
    the output alone.

    Raises:
        TraceError: An unknown name, or an output without floating-point tensors.
    """
    outputs = _float_tensors(output)
    if loss == "cross_entropy" or _takes_classes(loss):
        return [torch.zeros(_class_shape(tensor), dtype=torch.long) for tensor in outputs]
    if loss == "mse":
        return [torch.zeros_like(tensor) for tensor in outputs]
    if isinstance(loss, str):
        raise TraceError(unknown("loss", loss, ("cross_entropy", "mse")) + "; or give a callable")
    if _required_arguments(loss) < 2:
        return []
    return [torch.zeros_like(tensor) for tensor in outputs]


def apply_loss(loss: Loss, output: object, targets: list[Tensor]) -> Tensor:
    """Return the scalar that is minimised; several outputs add up.

    Raises:
        TraceError: The result is not one number.
    """
    if callable(loss):
        value = loss(output, *_packed(output, targets)) if targets else loss(output)
    else:
        function = _cross_entropy if loss == "cross_entropy" else F.mse_loss
        terms = [function(tensor, goal) for tensor, goal in zip(_float_tensors(output), targets, strict=True)]
        value = terms[0]
        for term in terms[1:]:
            value = value + term
    if not isinstance(value, Tensor):
        raise TraceError(
            f"a loss must return a tensor with one element, but it returned {type(value).__name__}"
        )
    if value.numel() != 1:
        raise TraceError(
            f"a loss must be one number, but it has shape {tuple(value.shape)}; "
            "reduce it with .mean() or .sum()"
        )
    return value


def _packed(output: object, targets: list[Tensor]) -> list[object]:
    """Give a callable its targets in the structure of the output."""
    if isinstance(output, Tensor):
        return list(targets)
    return [tuple(targets)]


def tensors_in(value: object) -> list[Tensor]:
    """Return the tensors of nested tuples, lists, mappings and dataclasses, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [tensor for item in value.values() for tensor in tensors_in(item)]
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in tensors_in(item)]
    if dataclasses.is_dataclass(value):
        return [tensor for f in dataclasses.fields(value) for tensor in tensors_in(getattr(value, f.name))]
    return []


def _float_tensors(output: object) -> list[Tensor]:
    tensors = [tensor for tensor in tensors_in(output) if tensor.is_floating_point()]
    if not tensors:
        raise TraceError(
            "a model must return a floating-point tensor (or a tuple, list or dict of them), but it "
            f"returned {_described(output)}; give a loss callable that takes what it returns"
        )
    return tensors


def _described(output: object) -> str:
    if isinstance(output, Tensor):
        return f"one of {str(output.dtype).removeprefix('torch.')}"
    return type(output).__name__


def _takes_classes(loss: Loss) -> bool:
    by_class = (nn.CrossEntropyLoss, nn.NLLLoss)
    return isinstance(loss, by_class) or loss is F.cross_entropy or loss is F.nll_loss


def _class_shape(output: Tensor) -> tuple[int, ...]:
    if output.ndim == 3:
        return tuple(output.shape[:2])
    return (*output.shape[:1], *output.shape[2:]) if output.ndim > 1 else ()


def _cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    if output.ndim == 3:
        return F.cross_entropy(output.flatten(0, 1), target.flatten())
    return F.cross_entropy(output, target)


def _required_arguments(loss: Callable[..., Tensor]) -> int:
    function = loss.forward if isinstance(loss, nn.Module) else loss
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature
        return 2
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.default is inspect.Parameter.empty and p.kind in positional for p in parameters)
