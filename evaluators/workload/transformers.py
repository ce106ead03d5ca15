"""What `nn.Transformer*` decides by the values of a mask, decided without values.

torch compares a mask with the causal one to choose a kernel, and packs padded batches into nested tensors
to skip the padding. Both need data. A trace takes a square mask as long as the sequence to be causal (which
changes what attention saves, by less than the mask itself), and pads: the memory of the longest batch.
Say `is_causal=` in the model where that is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from torch import Tensor, nn
from torch.nn.modules import transformer


def without_nesting(model: nn.Module) -> None:
    """Let the encoders of a twin compute padded batches as they stand."""
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False


@contextmanager
def masks_by_shape() -> Iterator[None]:
    """Answer torch's question whether a mask is causal by its shape, while the context lasts."""
    with mock.patch.object(transformer, "_detect_is_causal_mask", _is_causal):
        yield


def _is_causal(mask: Tensor | None, is_causal: bool | None = None, size: int | None = None) -> bool:
    """Do what torch's function does (its comparison takes memory), but for the comparison's result."""
    if is_causal is not None or mask is None:
        return is_causal is True
    rows = size if size is not None else mask.size(-2)
    causal = transformer._generate_square_subsequent_mask(rows, device=mask.device, dtype=mask.dtype)
    if mask.size() != causal.size():
        return False
    (mask == causal).all()
    return True
