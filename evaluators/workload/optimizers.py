"""The update rules of a training step, written as torch writes its single-tensor versions.

They run under the recorder like the rest of the step, so that state, temporaries and their lifetimes come
out as in `torch.optim`. torch's own classes cannot be used: Adam reads its step counter with `.item()`,
which has no value under fake tensors.

Source: torch.optim.sgd._single_tensor_sgd, torch.optim.adam._single_tensor_adam (PyTorch 2.9 to 2.13).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from search_spaces.learning import Optimizer

__all__ = ["Optimizer", "State", "initial_state", "update"]

# Learning rate, momentum and betas change values, never shapes: the workload does not depend on them.
_RATE, _MOMENTUM, _BETA1, _BETA2, _EPSILON, _DECAY = 1e-3, 0.9, 0.9, 0.999, 1e-8, 1e-2


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """Optimizer state of one parameter, empty where the rule needs none."""

    tensors: tuple[Tensor, ...]


def initial_state(optimizer: Optimizer, parameters: Sequence[nn.Parameter]) -> list[State]:
    """Return the state as it stands after a first step: a steady training step is what is traced."""
    states = []
    for parameter in parameters:
        moments = [torch.zeros_like(parameter) for _ in range(optimizer.states_per_weight)]
        counter = [torch.zeros(())] if optimizer in (Optimizer.ADAM, Optimizer.ADAMW) else []
        states.append(State(tensors=(*moments, *counter)))
    return states


def update(optimizer: Optimizer, parameters: Sequence[nn.Parameter], states: Sequence[State]) -> None:
    """Apply one update in place to every parameter that has a gradient."""
    with torch.no_grad():
        match optimizer:
            case Optimizer.SGD:
                _sgd(parameters)
            case Optimizer.MOMENTUM:
                _momentum(parameters, states)
            case Optimizer.ADAM | Optimizer.ADAMW:
                _adam(parameters, states, decoupled_decay=optimizer is Optimizer.ADAMW)


def _sgd(parameters: Sequence[nn.Parameter]) -> None:
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.add_(parameter.grad, alpha=-_RATE)


def _momentum(parameters: Sequence[nn.Parameter], states: Sequence[State]) -> None:
    for parameter, state in zip(parameters, states, strict=True):
        if parameter.grad is not None:
            velocity = state.tensors[0]
            velocity.mul_(_MOMENTUM).add_(parameter.grad, alpha=1.0)
            parameter.add_(velocity, alpha=-_RATE)


def _adam(parameters: Sequence[nn.Parameter], states: Sequence[State], *, decoupled_decay: bool) -> None:
    for parameter, state in zip(parameters, states, strict=True):
        if parameter.grad is None:
            continue
        mean, square, step = state.tensors
        step += 1
        if decoupled_decay:
            parameter.mul_(1 - _RATE * _DECAY)
        mean.lerp_(parameter.grad, 1 - _BETA1)
        square.mul_(_BETA2).addcmul_(parameter.grad, parameter.grad, value=1 - _BETA2)
        # As in torch, the name stays bound while the next parameter is updated: its memory counts there.
        denominator = (square.sqrt() / 1.0).add_(_EPSILON)
        parameter.addcdiv_(mean, denominator, value=-_RATE)
