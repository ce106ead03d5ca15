"""Networks by name, one module each: `names()`, `build(name, width=, depth=, ...)`."""

from evaluators.networks.layers import Layer, compressible_layers, layer_infos
from evaluators.networks.registry import NetworkError, build, describe, names

__all__ = ["Layer", "NetworkError", "build", "compressible_layers", "describe", "layer_infos", "names"]
