"""Handlers of ops that fuse several contractions: attention, LSTM layers, the encoder layer.

What such an op keeps to itself (attention scores, gate pre-activations) never becomes a torch tensor. It
stands in the workload as a tensor that is not materialised: ops move it, memory does not hold it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from evaluators.workload.contractions import Handler, Part, optional, part, product, tensor
from evaluators.workload.graph import Operand
from evaluators.workload.recorder import Call, View


def inner(number: int, *shape: int) -> View:
    """Return a tensor that exists only inside its op; `number` tells several of one op apart."""
    strides = [1]
    for size in reversed(shape[1:]):
        strides.insert(0, strides[0] * size)
    return View(storage=-1 - number, offset=0, shape=shape, strides=tuple(strides))


def _gradient(a: View, b: View, out: View, written: Operand) -> Part:
    """Return a gradient of the product `a @ b -> out`: what is written stands for its operand's gradient."""
    return part("attention", replace(product(a, b, out), output=written))


def _transposed(view: View) -> View:
    """Swap the last two dimensions."""
    return View(
        storage=view.storage,
        offset=view.offset,
        shape=(*view.shape[:-2], view.shape[-1], view.shape[-2]),
        strides=(*view.strides[:-2], view.strides[-1], view.strides[-2]),
    )


def _attention(call: Call) -> Sequence[Part]:
    """Softmax(q k^T) v: two products with the softmax between them."""
    q, k, v = (tensor(value) for value in call.args[:3])
    out, *statistics = call.outputs
    scores = inner(0, *q.shape[:-1], k.shape[-2])
    return [
        part("attention", product(q, _transposed(k), scores)),
        Part(kind="softmax", inputs=(scores, *optional(*call.args[3:])), outputs=(scores, *statistics)),
        part("attention", product(scores, v, out)),
    ]


def _attention_backward(call: Call) -> Sequence[Part]:
    """The scores are computed again; then the gradients of both products and of the softmax.

    Source: Dao et al. 2022 (FlashAttention), algorithm 4: five products backward for two forward.
    """
    grad_out, q, k, v, out, statistics = (tensor(value) for value in call.args[:6])
    grad_q, grad_k, grad_v = call.outputs
    scores = inner(0, *q.shape[:-1], k.shape[-2])
    grad_scores = inner(1, *scores.shape)
    return [
        part("attention", product(q, _transposed(k), scores)),
        Part(kind="softmax", inputs=(scores, statistics, *optional(*call.args[6:])), outputs=(scores,)),
        _gradient(scores, grad_v, grad_out, Operand.WEIGHT),
        _gradient(grad_scores, v, grad_out, Operand.INPUT),
        Part(kind="softmax", inputs=(grad_scores, scores, out, grad_out), outputs=(grad_scores,)),
        _gradient(grad_q, _transposed(k), grad_scores, Operand.INPUT),
        _gradient(q, _transposed(grad_k), grad_scores, Operand.WEIGHT),
    ]


def _steps(view: View) -> View:
    """View `(time, batch, features)` as one tall matrix: the loops do not know which rows are time."""
    rows = view.shape[0] * view.shape[1]
    return View(
        storage=view.storage, offset=view.offset, shape=(rows, view.shape[2]), strides=(view.shape[2], 1)
    )


def _lstm(call: Call) -> Sequence[Part]:
    """One LSTM layer, one direction: both projections of all time steps, then the cell.

    The recurrent projection reads the hidden states, which are the layer's output shifted by one step.
    """
    x, w_input, w_hidden, *biases = (tensor(value) for value in call.args[:5])
    hidden, cell = tensor(call.args[5]), tensor(call.args[6])
    out = call.outputs[0]
    gates = inner(0, x.shape[0] * x.shape[1], w_input.shape[0])
    return [
        part("linear", product(_steps(x), _transposed(w_input), gates), biases),
        part("linear", product(_steps(out), _transposed(w_hidden), gates), (hidden,)),
        Part(kind="elementwise", inputs=(gates, cell), outputs=call.outputs),
    ]


def _lstm_backward(call: Call) -> Sequence[Part]:
    x, w_input, w_hidden = (tensor(value) for value in call.args[:3])
    cell, out = tensor(call.args[6]), tensor(call.args[7])
    incoming = optional(*call.args[10:13])
    workspace = tensor(call.args[22])
    grad_x, grad_w_input, grad_w_hidden, *grad_biases, grad_hidden, grad_cell = call.outputs
    gates = inner(0, x.shape[0] * x.shape[1], w_input.shape[0])
    carried = inner(1, x.shape[0] * x.shape[1], w_hidden.shape[1])
    recurrent = product(carried, _transposed(w_hidden), gates)
    parts = [
        Part(
            kind="elementwise", inputs=(*incoming, cell, workspace), outputs=(gates, grad_hidden, grad_cell)
        ),
        part("linear", replace(recurrent, output=Operand.INPUT)),
    ]
    for a, b, written in (
        (grad_x, w_input, Operand.INPUT),
        (x, grad_w_input, Operand.WEIGHT),
        (out, grad_w_hidden, Operand.WEIGHT),
    ):
        bound = product(_steps(a), _transposed(b), gates)
        parts.append(part("linear", replace(bound, output=written)))
    return [*parts, Part(kind="reduction", inputs=(gates,), outputs=tuple(grad_biases))]


def _linear(x: View, w: View, bias: View, out: View) -> Part:
    return part("linear", product(_steps(x), _transposed(w), out), (bias,))


def _self_attention(
    x: View, heads: int, weights: Sequence[View], out: View, mask: Sequence[View]
) -> list[Part]:
    """Projection to q, k and v, attention, projection of the heads' results."""
    w_qkv, b_qkv, w_out, b_out = weights
    b, t, width = x.shape
    qkv = inner(0, b, t, 3 * width)
    head = inner(0, b, heads, t, width // heads)
    scores, mixed = inner(1, b, heads, t, t), inner(2, b, heads, t, width // heads)
    return [
        _linear(x, w_qkv, b_qkv, qkv),
        part("attention", product(head, _transposed(head), scores)),
        Part(kind="softmax", inputs=(scores, *mask), outputs=(scores,)),
        part("attention", product(scores, head, mixed)),
        _linear(inner(2, b, t, width), w_out, b_out, out),
    ]


def _encoder_layer(call: Call) -> Sequence[Part]:
    """torch's fused inference path of `nn.TransformerEncoderLayer`."""
    x = tensor(call.args[0])
    heads = call.args[2]
    assert isinstance(heads, int)
    attention = [tensor(value) for value in call.args[3:7]]
    norms = [tensor(value) for value in call.args[10:14]]
    w_up, b_up, w_down, b_down = (tensor(value) for value in call.args[14:18])
    attended, wide = inner(3, *x.shape), inner(4, *x.shape[:-1], w_up.shape[0])
    return [
        *_self_attention(x, heads, attention, attended, optional(call.args[18])),
        Part(kind="normalization", inputs=(x, attended, *norms[:2]), outputs=(attended,)),
        _linear(attended, w_up, b_up, wide),
        Part(kind="elementwise", inputs=(wide,), outputs=(wide,)),
        _linear(wide, w_down, b_down, call.outputs[0]),
        Part(kind="normalization", inputs=(call.outputs[0], attended, *norms[2:]), outputs=call.outputs),
    ]


def _multi_head_attention(call: Call) -> Sequence[Part]:
    """torch's fused inference path of `nn.MultiheadAttention` as self-attention."""
    heads = call.args[4]
    assert isinstance(heads, int)
    weights = [tensor(value) for value in call.args[5:9]]
    mask = optional(call.args[9])
    return _self_attention(tensor(call.args[0]), heads, weights, call.outputs[0], mask)


FUSED: dict[str, Handler] = {
    "aten::_scaled_dot_product_flash_attention_for_cpu": _attention,
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward": _attention_backward,
    "aten::mkldnn_rnn_layer": _lstm,
    "aten::mkldnn_rnn_layer_backward": _lstm_backward,
    "aten::_transformer_encoder_layer_fwd": _encoder_layer,
    "aten::_native_multi_head_attention": _multi_head_attention,
}
