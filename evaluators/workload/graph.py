"""The vocabulary of a workload: ops, tensors, loop nests.

A `Workload` is what a design makes the hardware do: a DAG of ops and tensors, traced from the real
torch model. Tracing fixes shapes and lifetimes; a design only *rewrites* the per-tensor attributes
(`bits`, `density`, `index_bits`), which is why a rewrite is cheap.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property

import networkx as nx
import numpy as np
import numpy.typing as npt

from evaluators.workload.errors import WorkloadError, unknown
from hw_templates.accelerator import SpecialKind

Node = tuple[str, int, int]  # ("op", position, 0) or ("tensor", index, version)


class Phase(Enum):
    """The pass of a training step to which an op belongs."""

    FORWARD = "forward"
    INPUT_GRADIENT = "input_gradient"
    WEIGHT_GRADIENT = "weight_gradient"
    UPDATE = "update"


class Role(Enum):
    """What a tensor is for."""

    INPUT = "input"
    WEIGHT = "weight"
    ACTIVATION = "activation"
    SAVED = "saved"  # an activation that backward reads again
    GRADIENT = "gradient"  # of a weight
    ACTIVATION_GRADIENT = "activation_gradient"
    OPTIMIZER_STATE = "optimizer_state"
    BUFFER = "buffer"  # running statistics and the like: lives as long as the weights
    OUTPUT = "output"


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopNest:
    """The loops of one contraction, in ZigZag's letters; `k` and `c` are counted per group.

    The three passes of a convolution share one nest: the index relation between input, weight and
    output is the same, only which of the three is accumulated into (`Contraction.output`) differs.
    A matrix product (M, N, K) is `b=M, k=N, c=K`; a batched one puts its batch in `groups`, since all
    three operands depend on it.
    """

    b: int = 1
    k: int = 1
    c: int = 1
    oy: int = 1
    ox: int = 1
    fy: int = 1
    fx: int = 1
    groups: int = 1
    stride_y: int = 1
    stride_x: int = 1
    dilation_y: int = 1
    dilation_x: int = 1
    iy: int = 1  # unpadded input height
    ix: int = 1  # unpadded input width

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole nest."""
        return self.b * self.k * self.c * self.oy * self.ox * self.fy * self.fx * self.groups


class Operand(Enum):
    """The three operands of a contraction: input (activation), weight, output."""

    INPUT = "I"
    WEIGHT = "W"
    OUTPUT = "O"


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorInfo:
    """One storage: every view and every in-place result of it is this same tensor.

    `dtype_bits` is what torch stores; what a design stores instead is in `Workload.bits`.
    """

    name: str
    shape: tuple[int, ...]
    dtype_bits: int
    role: Role
    layer: str | None
    materialised: bool = True  # False: lives only inside a fused op (the scores of flash attention)

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, kw_only=True, slots=True)
class Contraction:
    """A loop nest bound to tensors.

    `output` names the operand that is accumulated: `OUTPUT` in a forward convolution, `INPUT` in its
    input gradient, `WEIGHT` in its weight gradient. A transposed convolution is the input gradient of the
    convolution that it transposes, so its forward accumulates `INPUT`. `tensors` gives, for each operand,
    the tensor that stands there: in the input gradient `tensors[INPUT]` is the gradient being written.
    """

    nest: LoopNest
    output: Operand
    tensors: Mapping[Operand, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Op:
    """One step of the execution order.

    `inputs` and `outputs` are tensor indices, each tensor once. `read_elements` and `write_elements` stand
    beside them: a strided slice or a table lookup touches less than its whole tensor. Left empty they mean
    "all of it".
    """

    name: str
    kind: str
    phase: Phase
    layer: str | None
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    contraction: Contraction | None = None
    read_elements: tuple[int, ...] = ()
    write_elements: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Structure:
    """What tracing fixes and no design changes: ops, tensors, lifetimes.

    No slots, because the derived views below are cached on first use and shared by every rewrite.

    Attributes:
        ops: In execution order.
        tensors: Storages.
        born: `(t,)`, the op at which the tensor starts to exist in the framework's own execution.
        last: `(t,)`, the last op at which it still exists there (inclusive; -1 where never).
        persistent: `(t,)`, true for what outlives the step: weights, buffers, optimizer state, inputs.
        gradients: Weight tensor -> tensor of its gradient.
        parameters: Parameter path -> weight tensor.
        states: Weight tensor -> its optimizer state.
        derived_weights: Tensors computed from parameters alone that a contraction reads as its weight
            (weight normalisation, casts).
        unmodelled: Names of ops that are costed as memory-bound because their arithmetic is not known.
    """

    ops: tuple[Op, ...]
    tensors: tuple[TensorInfo, ...]
    born: npt.NDArray[np.int64]
    last: npt.NDArray[np.int64]
    persistent: npt.NDArray[np.bool_]
    gradients: Mapping[int, int] = field(default_factory=dict)
    parameters: Mapping[str, int] = field(default_factory=dict)
    states: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    unmodelled: tuple[str, ...] = ()
    derived_weights: frozenset[int] = frozenset()

    @cached_property
    def numel(self) -> npt.NDArray[np.float64]:
        """Elements of each tensor, `(t,)`."""
        return np.array([tensor.numel for tensor in self.tensors], dtype=np.float64)

    @cached_property
    def by_layer(self) -> Mapping[str, tuple[Op, ...]]:
        """Forward contractions with a weight, by layer, in execution order."""
        found: dict[str, list[Op]] = {}
        for op in self.ops:
            if op.phase is Phase.FORWARD and op.layer is not None and self.weight_index(op) is not None:
                found.setdefault(op.layer, []).append(op)
        return {layer: tuple(ops) for layer, ops in found.items()}

    def weight_index(self, op: Op) -> int | None:
        """Return the weight that a forward contraction reads, or None where both operands are data."""
        if op.contraction is None:
            return None
        index = op.contraction.tensors[Operand.WEIGHT]
        is_weight = self.tensors[index].role is Role.WEIGHT or index in self.derived_weights
        return index if is_weight else None

    @cached_property
    def graph(self) -> nx.DiGraph[Node]:
        """The DAG: `("op", i)` and `("tensor", t, version)` nodes; an in-place write makes a new version."""
        graph: nx.DiGraph[Node] = nx.DiGraph()
        version = [0] * len(self.tensors)
        for position, op in enumerate(self.ops):
            node: Node = ("op", position, 0)
            graph.add_node(node, op=op)
            graph.add_edges_from((("tensor", t, version[t]), node) for t in op.inputs)
            for t in op.outputs:
                version[t] += 1
                graph.add_edge(node, ("tensor", t, version[t]))
        return graph


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightCode:
    """How a stored weight must be decoded before it is multiplied.

    Args:
        unit: the special unit that decodes it; a chip without one is costed as if decoding were free.
        operations_per_element: operations of the unit for one stored element.
    """

    unit: SpecialKind
    operations_per_element: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Workload:
    """What a design makes the hardware do. Immutable; `rewrite` gives another that shares the structure.

    Attributes:
        structure: Ops, tensors and lifetimes, shared by every rewrite of one trace.
        bits: `(t,)`, bits of a stored element.
        density: `(t,)`, fraction of the elements that is stored.
        index_bits: `(t,)`, bookkeeping bits per element of the dense tensor (masks, run lengths).
        codes: Weights that a special unit has to decode, by tensor.
    """

    structure: Structure
    bits: npt.NDArray[np.float64]
    density: npt.NDArray[np.float64]
    index_bits: npt.NDArray[np.float64]
    codes: Mapping[int, WeightCode] = field(default_factory=dict)

    @property
    def ops(self) -> tuple[Op, ...]:
        """Ops in execution order."""
        return self.structure.ops

    @property
    def tensors(self) -> tuple[TensorInfo, ...]:
        """Tensors; every index of this module points here."""
        return self.structure.tensors

    @property
    def graph(self) -> nx.DiGraph[Node]:
        """The DAG of ops and tensors (see `Structure.graph`)."""
        return self.structure.graph

    @property
    def unmodelled(self) -> tuple[str, ...]:
        """Ops whose arithmetic is not known, which are costed as memory-bound."""
        return self.structure.unmodelled

    @property
    def stored_bits(self) -> npt.NDArray[np.float64]:
        """Bits that each tensor occupies, `(t,)`."""
        return self.structure.numel * (self.bits * self.density + self.index_bits)

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers that own a contraction with a weight, in execution order."""
        return tuple(self.structure.by_layer)

    def contractions_of(self, layer: str) -> tuple[Op, ...]:
        """Return the forward contractions of a layer (several where the module is called several times).

        Raises:
            WorkloadError: No such layer.
        """
        try:
            return self.structure.by_layer[layer]
        except KeyError:
            raise WorkloadError(unknown("layer", layer, self.layers)) from None

    def weight_of(self, layer: str) -> int:
        """Return the weight tensor that the layer's contraction reads."""
        contraction = self.contractions_of(layer)[0].contraction
        assert contraction is not None  # by_layer holds contractions only
        return contraction.tensors[Operand.WEIGHT]

    def inputs_of(self, layer: str) -> tuple[int, ...]:
        """Return the activations that the layer's contractions read forward; backward reads the same."""
        return self._data_operands(layer, written=False)

    def outputs_of(self, layer: str) -> tuple[int, ...]:
        """Return the activations that the layer's contractions write."""
        return self._data_operands(layer, written=True)

    def _data_operands(self, layer: str, *, written: bool) -> tuple[int, ...]:
        found: dict[int, None] = {}
        for op in self.contractions_of(layer):
            assert op.contraction is not None
            for operand, index in op.contraction.tensors.items():
                if operand is not Operand.WEIGHT and (operand is op.contraction.output) == written:
                    found[index] = None
        return tuple(found)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the forward pass."""
        return sum(
            op.contraction.nest.macs for op in self.ops if op.contraction and op.phase is Phase.FORWARD
        )

    @property
    def backward_macs(self) -> int:
        """Multiply-accumulates of both backward passes."""
        passes = (Phase.INPUT_GRADIENT, Phase.WEIGHT_GRADIENT)
        return sum(op.contraction.nest.macs for op in self.ops if op.contraction and op.phase in passes)

    @property
    def parameter_count(self) -> int:
        """Elements of all parameters, trained or not; tied ones count once."""
        return sum(self.tensors[index].numel for index in set(self.structure.parameters.values()))

    def rewrite(
        self,
        *,
        bits: Mapping[int, float] | None = None,
        density: Mapping[int, float] | None = None,
        index_bits: Mapping[int, float] | None = None,
        codes: Mapping[int, WeightCode] | None = None,
    ) -> Workload:
        """Return this workload with other storage for some tensors; everything else is shared.

        Args:
            bits: Tensor index -> bits per stored element, >= 0.
            density: Tensor index -> fraction of the elements that is stored, within [0, 1].
            index_bits: Tensor index -> bookkeeping bits per dense element, >= 0.
            codes: Tensor index -> how it is decoded.

        Raises:
            WorkloadError: An index that is no tensor, or a value out of its range.
        """
        return Workload(
            structure=self.structure,
            bits=_overlay(self.bits, bits, "bits", math.inf),
            density=_overlay(self.density, density, "density", 1.0),
            index_bits=_overlay(self.index_bits, index_bits, "index_bits", math.inf),
            codes={**self.codes, **codes} if codes else self.codes,
        )


def as_stored(structure: Structure) -> Workload:
    """Return the workload that stores every tensor as torch does: dense, at the bits of its dtype."""
    count = len(structure.tensors)
    return Workload(
        structure=structure,
        bits=np.array([tensor.dtype_bits for tensor in structure.tensors], dtype=np.float64),
        density=np.ones(count),
        index_bits=np.zeros(count),
    )


def _overlay(
    old: npt.NDArray[np.float64], changes: Mapping[int, float] | None, name: str, high: float
) -> npt.NDArray[np.float64]:
    if not changes:
        return old
    new = old.copy()
    for index, value in changes.items():
        if not 0 <= index < len(old):
            raise WorkloadError(f"a tensor index must be in [0, {len(old)}), but got {name}[{index}]")
        if not 0.0 <= value <= high:
            raise WorkloadError(f"0 <= {name} <= {high} must hold, but got {name}[{index}]={value}")
        new[index] = value
    return new
