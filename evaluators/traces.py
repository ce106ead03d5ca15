"""Both passes of the networks that designs ask for, each traced once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from evaluators.techniques.structure import Structure, restructure_model
from evaluators.workload.graph import Workload
from evaluators.workload.trace import trace
from search_spaces.learning import Backpropagation
from search_spaces.network import NetworkChoice

TRACES_KEPT = 64  # of a search over numbers of filters every design has a trace of its own


@dataclass(frozen=True, kw_only=True, slots=True)
class Traced:
    """Both passes of one network: an inference of one example, and one training step.

    Args:
        removed: the layers whose filters have been taken out, so that no choice need mask them.
    """

    inference: Workload
    training: Workload
    removed: frozenset[str] = frozenset()


class Traces:
    """Makes traces, and keeps the latest.

    Args:
        build: gives an untrained network.
        input_shape: gives channels, height and width of one example of its data.
    """

    def __init__(
        self,
        *,
        build: Callable[[NetworkChoice], nn.Module],
        input_shape: Callable[[NetworkChoice], tuple[int, int, int]],
    ) -> None:
        self._build = build
        self._input_shape = input_shape
        self._kept: dict[tuple[NetworkChoice, Backpropagation, Structure], Traced] = {}

    def of(self, network: NetworkChoice, learning: Backpropagation, structure: Structure) -> Traced:
        """Return both passes of a network some of whose layers are replaced."""
        key = network, learning, structure
        if key not in self._kept:
            made = self._made(network, learning, structure)
            if len(self._kept) >= TRACES_KEPT:
                del self._kept[next(iter(self._kept))]  # the oldest
            self._kept[key] = made
        return self._kept[key]

    def _made(self, network: NetworkChoice, learning: Backpropagation, structure: Structure) -> Traced:
        model, shape = self._build(network), self._input_shape(network)
        removed = restructure_model(model, structure)
        return Traced(
            inference=trace(model, (torch.zeros(1, *shape),), loss=None, optimizer=None, training=False),
            training=trace(
                model,
                (torch.zeros(learning.batch_size, *shape),),
                loss="cross_entropy",
                optimizer=learning.optimizer,
                training=True,
            ),
            removed=removed,
        )
