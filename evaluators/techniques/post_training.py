"""Post-training quantization: the layer trains as it is; its levels are fitted when training is over.

Conventions of the workload: a training step is one in 32 bits; an inference is that of the quantization.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from evaluators.networks.layers import Layer
from evaluators.techniques.dispatch import apply, bake, finish, restore, rewrite, stored_density
from evaluators.techniques.passes import is_training
from evaluators.techniques.quantization import input_bits, quantizable
from evaluators.workload.graph import Workload
from search_spaces.choice import Choice
from search_spaces.quantization import FullPrecision, PostTraining
from search_spaces.sparsity import Dense


@apply.register
def _(choice: PostTraining, layer: Layer, name: str) -> None:
    quantizable(layer, name)  # refused now and not after the training


@finish.register
def _(choice: PostTraining, layer: Layer, name: str) -> bool:
    with torch.no_grad():
        apply(choice.quantization, layer, name)
    return True


@bake.register
def _(choice: PostTraining, layer: Layer) -> None:
    bake(choice.quantization, layer)


@restore.register
def _(choice: PostTraining, layer: Layer) -> None:
    restore(choice.quantization, layer)


@rewrite.register
def _(choice: PostTraining, workload: Workload, layer: str) -> Workload:
    if is_training(workload):
        workload.contractions_of(layer)  # refuses a layer that is not there, as every technique does
        return workload
    return rewrite(choice.quantization, workload, layer)


@stored_density.register
def _(choice: PostTraining, layer: Layer) -> float:
    return stored_density(choice.quantization, layer)


@input_bits.register
def _(choice: PostTraining) -> int | None:
    return input_bits(choice.quantization)


def is_calibrated_only(choices: Mapping[str, Sequence[Choice]]) -> bool:
    """Say whether a design does nothing but fit levels to the dense network: there is nothing to train."""
    made = [choice for several in choices.values() for choice in several]
    return any(isinstance(choice, PostTraining) for choice in made) and all(
        isinstance(choice, PostTraining | FullPrecision | Dense) for choice in made
    )
