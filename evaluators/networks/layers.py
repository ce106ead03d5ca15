"""The layers that a design may compress: the convolutions and linear layers, in order."""

from __future__ import annotations

from torch import nn

from evaluators.networks.registry import NetworkError
from search_spaces.ask import LayerInfo

Layer = nn.Conv2d | nn.Linear
"""What quantization and sparsity act on; the rest (normalisation, pooling) has no contraction."""


def compressible_layers(model: nn.Module) -> dict[str, Layer]:
    """Return the convolutions and linear layers by module path, in the order of their definition."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Layer)}


def layer_infos(model: nn.Module) -> tuple[LayerInfo, ...]:
    """Describe the layers to the knob families.

    Raises:
        NetworkError: the network has no layer to compress, or two layers with one weight between them.
    """
    layers = compressible_layers(model)
    owners: dict[int, str] = {}
    for name, layer in layers.items():
        owner = owners.setdefault(id(layer.weight), name)
        if owner != name:
            raise NetworkError(
                f"every layer needs a weight of its own to be compressed as chosen, but {owner!r} and "
                f"{name!r} share one; give {name!r} its own, or call the module {owner!r} twice"
            )
    if not layers:
        raise NetworkError(
            f"a network needs a Conv2d or a Linear layer to compress, but {type(model).__name__} has neither"
        )
    edges = {next(iter(layers)), next(reversed(layers))}
    return tuple(
        LayerInfo(
            name=name,
            kind="conv2d" if isinstance(layer, nn.Conv2d) else "linear",
            weight_shape=tuple(layer.weight.shape),
            is_edge=name in edges,
            groups=layer.groups if isinstance(layer, nn.Conv2d) else 1,
        )
        for name, layer in layers.items()
    )
