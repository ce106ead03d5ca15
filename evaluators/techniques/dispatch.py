"""What every technique says about its choice: six functions, dispatched on the choice's type.

A technique is one module of this folder. It registers, for the type of its frozen choice:

- `apply`: what the choice does to a torch layer while the network is trained;
- `finish`: what it does once training is over, if anything;
- `bake`: what replaces that once training is over, so that the weights are what the chip stores;
- `restore`: what a fresh layer needs before saved, baked weights are loaded into it;
- `rewrite`: what the choice does to the workload;
- `stored_density`: the fraction of a trained layer's weights that its storage form keeps.
"""

from __future__ import annotations

from functools import singledispatch

from evaluators.networks.layers import Layer
from evaluators.workload.graph import Workload


class TechniqueError(ValueError):
    """A choice has no technique, or cannot be laid on the layer that it was given."""


def _unknown(choice: object) -> TechniqueError:
    known = sorted(kind.__name__ for kind in apply.registry if kind is not object)
    return TechniqueError(
        f"no technique is registered for {type(choice).__name__}; known choices: {', '.join(known)}. "
        "A technique registers on its choice's type in a module of evaluators/techniques/"
    )


@singledispatch
def apply(choice: object, layer: Layer, name: str) -> None:
    """Change a torch layer in place, so that it trains as the choice says.

    Choices of several families act in the order in which they are applied: sparsity, then quantization.

    Args:
        choice: what to apply.
        layer: the layer, with the weights from which masks and scales are taken.
        name: the layer's module path, for the messages.

    Raises:
        TechniqueError: no technique for this type, or the choice does not fit the layer.
    """
    raise _unknown(choice)


@singledispatch
def finish(choice: object, layer: Layer, name: str) -> bool:
    """Change a trained layer in place, before it is baked, and say whether anything changed.

    Most choices have nothing to do here.
    """
    return False


@singledispatch
def bake(choice: object, layer: Layer) -> None:
    """Make what `apply` computes from the weight in each forward pass permanent.

    The layer's outputs in evaluation mode stay the same, bit for bit. Called on every choice of a layer,
    in their order, while all of them are still applied; `bake_model` then fixes the weight itself.
    """
    raise _unknown(choice)


@singledispatch
def restore(choice: object, layer: Layer) -> None:
    """Give a fresh layer the parts that a baked one has, so that its saved state can be loaded."""
    raise _unknown(choice)


@singledispatch
def rewrite(choice: object, workload: Workload, layer: str) -> Workload:
    """Return the workload as it is under the choice: bits, density and index bits of the layer's tensors.

    Works on inference and on training workloads alike; the conventions stand in each technique's module.
    Rewrites of several layers and families add up, so start from the workload as it was traced.

    Raises:
        TechniqueError: no technique for this type.
        WorkloadError: the workload has no such layer.
    """
    raise _unknown(choice)


@singledispatch
def stored_density(choice: object, layer: Layer) -> float:
    """Return the fraction of the layer's weights that this choice's storage form keeps, as trained."""
    raise _unknown(choice)
