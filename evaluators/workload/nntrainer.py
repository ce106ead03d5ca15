"""NNTrainer's own bookkeeping: execution orders, lifespans and requests at the granularity of layers.

`planners.py` has its planners; this module has the rules that say what NNTrainer asks them for, so that its
pools can be compared with ours. Weights, inputs and labels stand outside the pool, as in NNTrainer.

Source: nntrainer/graph/network_graph.cpp, nntrainer/tensor/manager.cpp and the layers' finalize() (rules
restated; no code taken). Checked against pools computed from those rules, not against the binary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from evaluators.workload.errors import PlanError
from evaluators.workload.planners import Requests

_BYTES = 4  # NNTrainer trains in float32 unless told otherwise


class Moment(Enum):
    """The four moments at which a layer runs in one iteration."""

    FORWARD = "forward"
    CALC_GRADIENT = "calc_gradient"
    CALC_DERIVATIVE = "calc_derivative"
    APPLY_GRADIENT = "apply_gradient"


F, CG, CD, AG = Moment.FORWARD, Moment.CALC_GRADIENT, Moment.CALC_DERIVATIVE, Moment.APPLY_GRADIENT


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """What a kind of layer keeps, and for how long.

    Attributes:
        input_moments: When its input must be there.
        output_moments: When its output must be there on its own account.
        in_place: Its output is a view of its (first) input.
        shares_derivative: In place, its incoming derivative is a view too.
        whole_iteration: Extra float32 tensors kept for the iteration, in multiples of the output size.
        while_deriving: Extra tensors kept while the derivative is computed, in the same unit.
    """

    input_moments: tuple[Moment, ...] = (F, CG)
    output_moments: tuple[Moment, ...] = (F,)
    in_place: bool = False
    shares_derivative: bool = True
    whole_iteration: int = 0
    while_deriving: int = 0


class Kind(Enum):
    """The kinds of layers, by what they keep."""

    INPUT = "input"
    WEIGHTED = "weighted"  # fully connected, convolution
    RECURRENT = "recurrent"
    ACTIVATION = "activation"
    BATCH_NORM = "batch_norm"
    POOLING = "pooling"
    RESHAPE = "reshape"
    MULTIOUT = "multiout"
    LOSS = "loss"


RULES: dict[Kind, Rule] = {
    Kind.INPUT: Rule(),
    Kind.WEIGHTED: Rule(),
    Kind.RECURRENT: Rule(output_moments=(F, CG)),
    Kind.ACTIVATION: Rule(input_moments=(F,), output_moments=(F, CD), in_place=True),
    # The deviation from the mean is kept for the iteration; a second full-size tensor serves the derivative.
    Kind.BATCH_NORM: Rule(input_moments=(F,), in_place=True, whole_iteration=1, while_deriving=1),
    # "trainable" is true by default when lifespans are planned, so pooling keeps its input until CG; it also
    # stores the indices of the maxima, as float32.
    Kind.POOLING: Rule(whole_iteration=1),
    Kind.RESHAPE: Rule(in_place=True),
    Kind.MULTIOUT: Rule(input_moments=(F,), in_place=True, shares_derivative=False),
    Kind.LOSS: Rule(input_moments=(F, CD), in_place=True),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """One layer of a network in topological order.

    Attributes:
        kind: What it keeps.
        source: Position of the layer that feeds it (itself for the input layer).
        outputs: Elements of its output.
        weights: Elements of each of its weights.
        trains: Whether its weights train.
    """

    kind: Kind
    source: int
    outputs: int
    weights: tuple[int, ...] = ()
    trains: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Orders:
    """The execution orders of one layer."""

    forward: int
    calc_gradient: int
    calc_derivative: int
    apply_gradient: int

    def at(self, moments: Iterable[Moment]) -> set[int]:
        """Return the orders of some moments."""
        when = {F: self.forward, CG: self.calc_gradient, CD: self.calc_derivative, AG: self.apply_gradient}
        return {when[moment] for moment in moments}


def execution_orders(layers: Sequence[Layer]) -> tuple[Orders, ...]:
    """Return the orders of each layer: forwards in sequence, then three moments per layer backwards."""
    count = len(layers)
    orders = []
    step = count
    for position in reversed(range(count)):
        if layers[position].trains:
            orders.append(
                Orders(
                    forward=position, calc_gradient=step, calc_derivative=step + 1, apply_gradient=step + 2
                )
            )
            step += 3
        else:
            orders.append(
                Orders(forward=position, calc_gradient=step, calc_derivative=step, apply_gradient=step)
            )
            step += 1
    return tuple(reversed(orders))


@dataclass(kw_only=True, slots=True)
class _Tensor:
    elements: int
    orders: set[int]
    is_gradient: bool = False


def requests(layers: Sequence[Layer], *, clip_gradients: bool = False) -> Requests:
    """Return what NNTrainer asks of its planner for one training iteration, in bytes.

    Args:
        layers: In topological order, the input layer first and the loss last.
        clip_gradients: Clipping by global norm keeps every gradient to the end of the iteration.

    Raises:
        PlanError: Layers that are not in order.
    """
    _check_order(layers)
    orders = execution_orders(layers)
    end = max(order.apply_gradient for order in orders)
    first_trained = min(
        (i for i, layer in enumerate(layers) if layer.trains and layer.weights), default=len(layers)
    )
    outputs, derivatives = _activations(layers, orders, first_trained)
    tensors: list[_Tensor] = []
    for position, layer in enumerate(layers):
        if position in outputs:
            tensors.append(outputs[position])
        if position in derivatives:
            tensors.append(derivatives[position])
        tensors.extend(_extras(layer, orders[position], end))
        if layer.trains:
            until = {end} if clip_gradients else set()
            tensors.extend(
                _Tensor(elements=weight, orders=orders[position].at((CG, AG)) | until, is_gradient=True)
                for weight in layer.weights
            )
    return Requests(
        sizes=np.array([_BYTES * tensor.elements for tensor in tensors], dtype=np.int64),
        starts=np.array([min(tensor.orders) for tensor in tensors], dtype=np.int64),
        ends=np.array([max(tensor.orders) + 1 for tensor in tensors], dtype=np.int64),
        is_weight_gradient=np.array([tensor.is_gradient for tensor in tensors], dtype=np.bool_),
    )


def _check_order(layers: Sequence[Layer]) -> None:
    for position, layer in enumerate(layers):
        if (layer.source >= position and position > 0) or (layer.kind is Kind.INPUT) != (position == 0):
            raise PlanError(
                "layers must be in topological order with one input layer first, but layer "
                f"{position} ({layer.kind.name}) is fed by layer {layer.source}"
            )


def _activations(
    layers: Sequence[Layer], orders: Sequence[Orders], first_trained: int
) -> tuple[dict[int, _Tensor], dict[int, _Tensor]]:
    """Return outputs and incoming derivatives by the layer that owns them; views extend their owner's."""
    owner = list(range(len(layers)))
    derivative_owner = list(range(len(layers)))
    outputs: dict[int, _Tensor] = {}
    derivatives: dict[int, _Tensor] = {}
    for position, layer in enumerate(layers):
        rule = RULES[layer.kind]
        if position == 0:
            continue  # the input is the user's memory
        source, mine = owner[layer.source], orders[position]
        needed = mine.at(rule.input_moments if layer.trains else (F,))
        if rule.in_place and source != 0:
            owner[position] = source
        if source != 0:
            outputs[source].orders |= needed
        if owner[position] == position:
            outputs[position] = _Tensor(elements=layer.outputs, orders=mine.at(rule.output_moments))
        elif layer.kind is not Kind.LOSS:
            outputs[source].orders |= mine.at(rule.output_moments)
        if layer.source < first_trained:
            derives = None  # nothing that trains stands before: no derivative leaves this layer
        else:
            derives = derivatives[derivative_owner[layer.source]]
            derives.orders |= mine.at((CD,))
        if layer.kind is Kind.LOSS:
            continue  # it makes the first derivative itself
        if derives is not None and rule.in_place and rule.shares_derivative:
            derivative_owner[position] = derivative_owner[layer.source]
            derives.orders |= mine.at((CG, CD))
        elif position >= first_trained:
            derivatives[position] = _Tensor(elements=layer.outputs, orders=mine.at((CG, CD)))
    return outputs, derivatives


def _extras(layer: Layer, orders: Orders, end: int) -> list[_Tensor]:
    rule = RULES[layer.kind]
    kept = [_Tensor(elements=layer.outputs, orders={0, end}) for _ in range(rule.whole_iteration)]
    return kept + [
        _Tensor(elements=layer.outputs, orders=orders.at((CD,))) for _ in range(rule.while_deriving)
    ]


def chain(*layers: tuple[Kind, int, tuple[int, ...]]) -> tuple[Layer, ...]:
    """Return a network without branches from (kind, output elements, weights) triples."""
    return tuple(
        Layer(kind=kind, source=max(0, position - 1), outputs=outputs, weights=weights)
        for position, (kind, outputs, weights) in enumerate(layers)
    )


def published_cases() -> dict[str, tuple[Layer, ...]]:
    """Return the benchmark networks that NNTrainer ships, batch 64 (Model_A_Linear: 2048), MSE loss.

    Source: nntrainer Applications/Layers/res (the .ini files).
    """
    image, batch = 64 * 3 * 224 * 224, 64

    def linear(size_in: int, size_out: int, batch: int = batch) -> tuple[Kind, int, tuple[int, ...]]:
        return Kind.WEIGHTED, batch * size_out, (size_in * size_out, size_out)

    def conv(side: int) -> tuple[Kind, int, tuple[int, ...]]:
        return Kind.WEIGHTED, batch * 3 * side * side, (3 * 3 * 3 * 3, 3)

    def network(*layers: tuple[Kind, int, tuple[int, ...]], inputs: int = image) -> tuple[Layer, ...]:
        return chain((Kind.INPUT, inputs, ()), *layers, (Kind.LOSS, layers[-1][1], ()))

    def headed(layer: tuple[Kind, int, tuple[int, ...]]) -> tuple[Layer, ...]:
        return network(layer, (Kind.ACTIVATION, layer[1], ()), (Kind.RESHAPE, layer[1], ()))

    return {
        "Linear": network(linear(150528, 300)),
        "Conv": network(conv(112)),
        "Model_A_Linear": network(
            linear(784, 4096, 2048), linear(4096, 2048, 2048), linear(2048, 100, 2048), inputs=2048 * 784
        ),
        "Model_A_Conv": network(conv(112), conv(56), conv(28)),
        "Model_C_Linear": headed(linear(150528, 10)),
        "Model_C_Conv": headed(conv(112)),
    }
