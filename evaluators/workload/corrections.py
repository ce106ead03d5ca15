"""Storages that torch's real CPU kernels make larger than their fake versions say.

Found by comparing real and fake storages for every op of torch's own op database (677 ops, PyTorch 2.13):
four losses reduce into the buffer of their unreduced result, and folding keeps one as large as the columns
that it is given. By comparing whole networks: oneDNN's LSTM hands
its workspace to the backward pass, which the fake op gives as empty, and oneDNN's convolutions compute a
weight's gradient that nobody asked for where they compute the bias's.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor

Correction = Callable[[tuple[object, ...]], dict[int, int]]

# An LSTM up to this many MACs is run whole; a larger one for fewer steps, since its workspace grows by a
# constant per step (but for the rounding of its parts to pages). About a second of one core.
_PROBED_MACS = 1_000_000_000


def true_sizes_bytes(name: str, args: tuple[object, ...]) -> dict[int, int]:
    """Return the size of each output (by position) that a real kernel allocates otherwise.

    Args:
        name: Qualified op name.
        args: All arguments in the schema's order.
    """
    correction = _CORRECTIONS.get(name)
    return correction(args) if correction is not None else {}


def _unreduced(args: tuple[object, ...]) -> dict[int, int]:
    prediction, target = args[0], args[1]
    assert isinstance(prediction, Tensor)
    assert isinstance(target, Tensor)
    shape = np.broadcast_shapes(tuple(prediction.shape), tuple(target.shape))
    return {0: math.prod(shape) * prediction.element_size()}


def _columns(args: tuple[object, ...]) -> dict[int, int]:
    columns, size = args[0], args[1]
    assert isinstance(columns, Tensor)
    assert isinstance(size, (list, tuple))
    kernel = math.prod(cast("Sequence[int]", args[2]))
    folded = columns.numel() // (columns.shape[-1] * kernel) * math.prod(cast("Sequence[int]", size))
    return {0: max(columns.numel(), folded) * columns.element_size()}


def _lstm_workspace(args: tuple[object, ...]) -> dict[int, int]:
    if not torch.is_grad_enabled():
        return {}  # nothing is kept for a backward pass
    x, w_input, w_hidden = args[0], args[1], args[2]
    assert isinstance(x, Tensor)
    assert isinstance(w_input, Tensor)
    assert isinstance(w_hidden, Tensor)
    steps, batch = int(x.shape[0]), int(x.shape[1])
    sizes = (batch, int(w_input.shape[1]), int(w_hidden.shape[1]))
    kind = (x.dtype, bool(args[12]))
    affordable = max(16, _PROBED_MACS // (batch * 4 * sizes[2] * (sizes[1] + sizes[2])))
    if steps <= affordable:
        return {3: _probe(steps, *sizes, *kind)}
    half, whole = _probe(affordable // 2, *sizes, *kind), _probe(affordable, *sizes, *kind)
    return {3: whole + (whole - half) * (steps - affordable) // (affordable - affordable // 2)}


@functools.lru_cache(maxsize=256)
def _probe(steps: int, batch: int, features: int, hidden: int, dtype: torch.dtype, has_biases: bool) -> int:
    """Return the workspace of oneDNN's LSTM layer in bytes, by running it on zeros.

    oneDNN does not publish its layout, which depends on the CPU's instruction set: asking it is exact.
    """
    from torch.utils._python_dispatch import _disable_current_modes

    with _disable_current_modes(), torch.enable_grad():
        state = torch.zeros(1, batch, hidden, dtype=dtype)
        bias = torch.zeros(4 * hidden, dtype=dtype)
        result = torch.ops.aten.mkldnn_rnn_layer(
            torch.zeros(steps, batch, features, dtype=dtype),
            torch.zeros(4 * hidden, features, dtype=dtype),
            torch.zeros(4 * hidden, hidden, dtype=dtype),
            bias,
            bias,
            state[0],
            state[0],
            reverse=False,
            batch_sizes=[],
            mode=2,  # LSTM, the only cell that torch gives to oneDNN
            hidden_size=hidden,
            num_layers=1,
            has_biases=has_biases,
            bidirectional=False,
            batch_first=False,
            train=True,
        )
    return int(result[3].untyped_storage().nbytes())


def scratch_bytes(name: str, args: tuple[object, ...]) -> int:
    """Return what a real kernel allocates and gives up within the call, beyond its fake outputs.

    oneDNN computes the gradients of weight and bias together: where only the bias trains, the gradient of
    the weight is made all the same and dropped.

    Args:
        name: Qualified op name.
        args: All arguments in the schema's order.
    """
    if name != "aten::convolution_backward":
        return 0
    weight, mask = args[2], args[10]
    assert isinstance(weight, Tensor)
    assert isinstance(mask, (list, tuple))
    if mask[1] or not mask[2] or _convolution_backend(args) not in _ONEDNN:
        return 0
    return int(weight.numel() * weight.element_size())


# Mkldnn and MkldnnTranspose in ATen/native/ConvUtils.h, `enum class ConvBackend`; Python has no name for 9.
_ONEDNN = (8, 9)


def _convolution_backend(args: tuple[object, ...]) -> int:
    """Return the number of the kernel that torch chooses; it chooses for one dimension as for two."""
    x, weight, bias_sizes, stride, padding, dilation, transposed, output_padding, groups = args[1:10]
    assert isinstance(x, Tensor)
    assert isinstance(weight, Tensor)
    spatial = [padding, stride, dilation, output_padding]
    padding, stride, dilation, output_padding = (list(cast("Sequence[int]", value)) for value in spatial)
    if weight.ndim == 3:
        x, weight = x.unsqueeze(2), weight.unsqueeze(2)
        padding, stride = [0, *padding], [1, *stride]
        dilation, output_padding = [1, *dilation], [0, *output_padding]
    backend = torch._C._select_conv_backend(
        x, weight, None, stride, padding, dilation, transposed, output_padding, groups, bias_sizes
    )
    return int(backend.value)


_CORRECTIONS: dict[str, Correction] = {
    "aten::mse_loss": _unreduced,
    "aten::smooth_l1_loss": _unreduced,
    "aten::soft_margin_loss": _unreduced,
    "aten::binary_cross_entropy": _unreduced,
    "aten::col2im": _columns,
    "aten::mkldnn_rnn_layer": _lstm_workspace,
}
