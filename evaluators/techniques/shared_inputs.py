"""Tensors with several readers: quantized once, where they are made, so that every reader sees the same.

A residual network adds to a block's result what the block read. On a chip that tensor is stored once, at the
bits of its reader with most of them, and the sum reads what is stored. So the quantizer of that reader moves
from the reader to the module that makes the tensor; readers of fewer bits quantize further on their own. A
tensor that a layer reads in 32 bits stays as it is for all.

A tensor that no module returns (made and read within one `forward`) is not found; there each layer quantizes
for itself alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import nn

from evaluators.networks.layers import Layer, compressible_layers
from evaluators.techniques.quantization import INPUT_QUANTIZER, input_bits, leave_input
from search_spaces.choice import Choice
from search_spaces.codes import FULL_BITS


@torch.no_grad()
def sources_of(model: nn.Module, example: torch.Tensor) -> dict[str, str]:
    """Return the module that makes the input of each layer: the first one to return that very tensor.

    Layers whose input no module returned, or that are called with several tensors, are left out.

    Args:
        model: the network, before anything is quantized; it is run once, in evaluation mode.
        example: (b, c, h, w) of any values.
    """
    returned: dict[tuple[int, int], str] = {}
    calls: dict[str, int] = {}
    read: dict[str, set[str | None]] = {}
    alive: list[torch.Tensor] = []  # so that no id comes again

    def returns(name: str, _module: nn.Module, _inputs: object, output: object) -> None:
        calls[name] = calls.get(name, 0) + 1
        if isinstance(output, torch.Tensor):
            alive.append(output)
            returned.setdefault((id(output), output._version), name)

    def reads(name: str, _module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        read.setdefault(name, set()).add(returned.get((id(inputs[0]), inputs[0]._version)))

    was_training = model.training
    handles = [
        module.register_forward_hook(partial(returns, name)) for name, module in model.named_modules() if name
    ]
    handles += [
        layer.register_forward_pre_hook(partial(reads, name))
        for name, layer in compressible_layers(model).items()
    ]
    try:
        model.eval()(example)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    found = {name: next(iter(sources)) for name, sources in read.items() if len(sources) == 1}
    return {name: source for name, source in found.items() if source is not None and calls[source] == 1}


def quantize_at_source(
    model: nn.Module, choices: Mapping[str, Sequence[Choice]], sources: Mapping[str, str]
) -> None:
    """Move quantizers from the layers that read a tensor to the module that makes it, in place.

    Called again, it moves those that have been added since.
    """
    layers = compressible_layers(model)
    readers: dict[str, dict[str, int]] = {}
    for layer, source in sources.items():
        readers.setdefault(source, {})[layer] = _bits_before(layers[layer], choices.get(layer, ()))
    for source, bits_of in readers.items():
        widest = max(bits_of, key=lambda layer: bits_of[layer])
        if bits_of[widest] < FULL_BITS and leave_input(layers[widest]):
            model.get_submodule(source).register_forward_hook(partial(_quantized_for, layers[widest]))


def _bits_before(layer: Layer, choices: Sequence[Choice]) -> int:
    """Return the bits of a layer's input: 32 where it has no quantizer, or not yet."""
    bits = [said for choice in choices if (said := input_bits(choice)) is not None]
    has_quantizer = any(name == INPUT_QUANTIZER for name, _ in layer.named_children())
    return bits[-1] if bits and has_quantizer else FULL_BITS


def _quantized_for(reader: Layer, _module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
    quantized: torch.Tensor = reader.get_submodule(INPUT_QUANTIZER)(output)
    return quantized
