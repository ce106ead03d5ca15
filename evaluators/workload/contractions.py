"""From a recorded call to its contractions: one handler per ATen op.

A call can be several ops at once: `convolution_backward` is an input gradient, a weight gradient and a bias
gradient, flash attention is two products. Handlers return them apart, in the order in which they run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evaluators.workload.graph import LoopNest, Operand
from evaluators.workload.recorder import Call, Value, View


@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """A loop nest bound to views."""

    nest: LoopNest
    output: Operand
    input_view: View
    weight_view: View
    output_view: View

    def view(self, operand: Operand) -> View:
        """Return what stands at an operand."""
        return {
            Operand.INPUT: self.input_view,
            Operand.WEIGHT: self.weight_view,
            Operand.OUTPUT: self.output_view,
        }[operand]


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One op of a call."""

    kind: str
    inputs: tuple[View, ...]
    outputs: tuple[View, ...]
    bound: Bound | None = None


Handler = Callable[[Call], Sequence[Part]]


def part(kind: str, bound: Bound, extra_inputs: Sequence[View] = ()) -> Part:
    """Return the op of a bound nest: it reads the two operands that it does not write."""
    read = [bound.view(operand) for operand in Operand if operand is not bound.output]
    return Part(kind=kind, inputs=(*read, *extra_inputs), outputs=(bound.view(bound.output),), bound=bound)


def tensor(value: Value) -> View:
    """Return an argument that the op's schema promises to be a tensor."""
    assert isinstance(value, View), value
    return value


def optional(*values: Value) -> tuple[View, ...]:
    """Return those arguments that are tensors."""
    return tuple(value for value in values if isinstance(value, View))


def _integers(value: Value, count: int) -> tuple[int, ...]:
    assert isinstance(value, tuple), value
    numbers = tuple(item for item in value if isinstance(item, int))
    return numbers * count if len(numbers) == 1 else numbers


def convolution_nest(
    x: tuple[int, ...],
    w: tuple[int, ...],
    y: tuple[int, ...],
    *,
    stride: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> LoopNest:
    """Return the nest of a convolution in one, two or three spatial dimensions.

    One dimension lies along x. In three, depth is folded into y: MACs and the sizes of the three operands
    stay exact, the halo between depth slices is not represented.

    Args:
        x: Input shape `(b, C, ...)`, without a batch dimension too.
        w: Weight shape `(K, C / groups, ...)`.
        y: Output shape `(b, K, ...)`.
        stride: One number per spatial dimension.
        dilation: One number per spatial dimension.
        groups: Number of groups.
    """
    spatial = len(w) - 2
    pad = (1,) * (3 - spatial)
    depth_in, height_in, width_in = (*pad, *x[-spatial:])
    depth_out, height_out, width_out = (*pad, *y[-spatial:])
    depth_f, height_f, width_f = (*pad, *w[2:])
    _, stride_y, stride_x = (*pad, *stride)
    _, dilation_y, dilation_x = (*pad, *dilation)
    return LoopNest(
        b=x[0] if len(x) == len(w) else 1,
        k=w[0] // groups,
        c=w[1],
        oy=depth_out * height_out,
        ox=width_out,
        fy=depth_f * height_f,
        fx=width_f,
        groups=groups,
        stride_y=stride_y,
        stride_x=stride_x,
        dilation_y=dilation_y,
        dilation_x=dilation_x,
        iy=depth_in * height_in,
        ix=width_in,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _ConvolutionArguments:
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    transposed: bool
    groups: int

    @classmethod
    def of(cls, weight: View, args: tuple[Value, ...]) -> _ConvolutionArguments:
        """Read stride, padding, dilation, transposed, output_padding, groups, in the schema's order."""
        spatial = len(weight.shape) - 2
        groups = args[5]
        assert isinstance(groups, int), groups
        return cls(
            stride=_integers(args[0], spatial),
            dilation=_integers(args[2], spatial),
            transposed=bool(args[3]),
            groups=groups,
        )

    def bind(self, x: View, w: View, y: View, written: Operand) -> Bound:
        """Bind input, weight and output of the call; `written` is counted in the call's own sense.

        A transposed convolution computes the input gradient of the convolution whose output is its input:
        input and output change places.
        """
        if self.transposed:
            x, y = y, x
            swap = {Operand.INPUT: Operand.OUTPUT, Operand.OUTPUT: Operand.INPUT}
            written = swap.get(written, written)
        nest = convolution_nest(
            x.shape, w.shape, y.shape, stride=self.stride, dilation=self.dilation, groups=self.groups
        )
        return Bound(nest=nest, output=written, input_view=x, weight_view=w, output_view=y)


def _convolution(call: Call) -> Sequence[Part]:
    x, w = tensor(call.args[0]), tensor(call.args[1])
    bound = _ConvolutionArguments.of(w, call.args[3:9]).bind(x, w, call.outputs[0], Operand.OUTPUT)
    return [part("conv", bound, optional(call.args[2]))]


def _convolution_backward(call: Call) -> Sequence[Part]:
    gradient, x, w = (tensor(value) for value in call.args[:3])
    arguments = _ConvolutionArguments.of(w, call.args[4:10])
    mask = call.args[10]
    assert isinstance(mask, tuple)
    results = iter(call.outputs)
    parts = []
    if mask[0]:
        parts.append(part("conv", arguments.bind(next(results), w, gradient, Operand.INPUT)))
    if mask[1]:
        parts.append(part("conv", arguments.bind(x, next(results), gradient, Operand.WEIGHT)))
    if mask[2]:
        parts.append(Part(kind="reduction", inputs=(gradient,), outputs=(next(results),)))
    return parts


def product(a: View, b: View, out: View) -> Bound:
    """Bind a product of matrices or batches of matrices, `(..., m, c) @ (..., c, n) -> (..., m, n)`.

    A batch in which one operand is the same matrix throughout (expanded, stride 0) is one taller product.
    """
    batch = math.prod(a.shape[:-2])
    m, c, n = a.shape[-2], a.shape[-1], b.shape[-1]
    if batch > 1 and all(stride == 0 for stride in b.strides[:-2]):
        nest = LoopNest(b=batch * m, k=n, c=c)
    elif batch > 1 and all(stride == 0 for stride in a.strides[:-2]):
        nest = LoopNest(b=batch * n, k=m, c=c)
        return Bound(nest=nest, output=Operand.OUTPUT, input_view=b, weight_view=a, output_view=out)
    else:
        nest = LoopNest(b=m, k=n, c=c, groups=batch)
    return Bound(nest=nest, output=Operand.OUTPUT, input_view=a, weight_view=b, output_view=out)


def _product(call: Call) -> Sequence[Part]:
    return [part("matmul", product(tensor(call.args[0]), tensor(call.args[1]), call.outputs[0]))]


def _added_product(call: Call) -> Sequence[Part]:
    added, a, b = (tensor(value) for value in call.args[:3])
    return [part("matmul", product(a, b, call.outputs[0]), (added,))]


def _vector_product(call: Call) -> Sequence[Part]:
    """Return `mv`, `dot`, `addmv`: a matrix product one column wide, the vector being the data."""
    *added, a, b = optional(*call.args[:3])
    rows = a.shape[0] if len(a.shape) == 2 else 1
    nest = LoopNest(b=1, k=rows, c=a.shape[-1])
    bound = Bound(nest=nest, output=Operand.OUTPUT, input_view=b, weight_view=a, output_view=call.outputs[0])
    return [part("matmul", bound, added)]


PLAIN: dict[str, Handler] = {
    "aten::convolution": _convolution,
    "aten::_convolution": _convolution,
    "aten::convolution_backward": _convolution_backward,
    "aten::mm": _product,
    "aten::bmm": _product,
    "aten::addmm": _added_product,
    "aten::baddbmm": _added_product,
    "aten::mv": _vector_product,
    "aten::dot": _vector_product,
    "aten::vdot": _vector_product,
    "aten::addmv": _vector_product,
    "aten::addmm_": _added_product,
    "aten::baddbmm_": _added_product,
    "aten::addmv_": _vector_product,
}
