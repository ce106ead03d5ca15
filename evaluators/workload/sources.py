"""What has to be known of a whole recording before its calls can be read: names, weights, layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from evaluators.workload.contractions import PLAIN, Bound
from evaluators.workload.fused import FUSED
from evaluators.workload.graph import LoopNest, Operand
from evaluators.workload.losses import tensors_in
from evaluators.workload.recorder import Call, Recorder

HANDLERS = {**PLAIN, **FUSED}


@dataclass(kw_only=True, slots=True)
class Names:
    """What the storages of a recording are, as far as the step that was run knows: storage -> name."""

    inputs: dict[int, str] = field(default_factory=dict)
    parameters: dict[str, int] = field(default_factory=dict)  # path -> storage: tied ones share theirs
    buffers: dict[int, str] = field(default_factory=dict)
    states: dict[int, str] = field(default_factory=dict)
    states_of: dict[int, tuple[int, ...]] = field(default_factory=dict)  # parameter -> its states
    gradients: dict[int, int] = field(default_factory=dict)  # parameter -> gradient
    outputs: set[int] = field(default_factory=set)

    def with_outputs(self, recorder: Recorder, results: object) -> Names:
        """Note what the step returned."""
        self.outputs.update(recorder.register(tensor).storage for tensor in tensors_in(results))
        return self


@dataclass(frozen=True, kw_only=True, slots=True)
class Sources:
    """What has to be known of the whole recording before its calls can be read.

    Attributes:
        constant: Storages that depend on parameters only, not on data: weights and what is made of them.
        forward: Autograd node -> the forward products that it may belong to.
        module: Autograd node -> module path of its forward op.
        paths: Parameter storage -> its paths.
        crowded: Modules that own several contraction weights: their layers carry the parameter's name.
    """

    constant: set[int]
    forward: dict[int, list[Bound]]
    module: dict[int, str]
    paths: dict[int, list[str]]
    crowded: set[str]

    @classmethod
    def of(cls, calls: Sequence[Call], names: Names) -> Sources:
        """Read the forward calls of a recording."""
        paths: dict[int, list[str]] = {}
        for path, storage in names.parameters.items():
            paths.setdefault(storage, []).append(path)
        constant = set(paths)
        forward: dict[int, list[Bound]] = {}
        module: dict[int, str] = {}
        weights: dict[int, None] = {}
        for call in calls:
            if not call.computes_forward:
                continue
            module.setdefault(call.node, call.module)
            read = [view.storage for view in call.views()]
            if read and all(storage in constant for storage in read):
                constant.update(view.storage for view in call.outputs)
            for part in HANDLERS[call.name](call) if call.name in HANDLERS else ():
                if part.bound is not None:
                    bound = weight_second(part.bound, constant)
                    forward.setdefault(call.node, []).append(bound)
                    weights[bound.weight_view.storage] = None
        owners = [path.rpartition(".")[0] for storage in weights for path in paths.get(storage, ())[:1]]
        return cls(
            constant=constant,
            forward=forward,
            module=module,
            paths=paths,
            crowded={owner for owner in owners if owners.count(owner) > 1},
        )

    def weight(self, call: Call, bound: Bound) -> int:
        """Return the weight of a product; for a weight gradient, the weight whose gradient it is."""
        if call.computes_forward or bound.output is not Operand.WEIGHT:
            return bound.weight_view.storage
        data = {bound.input_view.storage, bound.output_view.storage}
        for forward in self.forward.get(call.node, ()):
            shared = data & {forward.input_view.storage, forward.output_view.storage}
            if any(storage >= 0 for storage in shared):  # negative: inside a fused op, numbered per op
                return forward.weight_view.storage
        return bound.weight_view.storage

    def layer(self, module: str, weight: int) -> str | None:
        """Return the layer of a contraction: the module that owns its weight, else the running module.

        The layer of a model that is itself a layer is "", its own module path.
        """
        candidates = self.paths.get(weight)
        if candidates is None:
            return module or None
        path = max(candidates, key=lambda path: _common(path, module))
        owner, _, _ = path.rpartition(".")
        return path if owner in self.crowded else owner


def _common(path: str, module: str) -> int:
    """Return how many leading names two paths share."""
    count = 0
    for a, b in zip(path.split("."), module.split("."), strict=False):
        if a != b:
            break
        count += 1
    return count


def weight_second(bound: Bound, constant: set[int]) -> Bound:
    """Return a product `W @ x` as the product `x^T @ W^T`, so that the weight stands at `W`."""
    is_plain = bound.nest.fy == bound.nest.fx == bound.nest.oy == bound.nest.ox == bound.nest.iy == 1
    first, second = bound.input_view.storage in constant, bound.weight_view.storage in constant
    if not (is_plain and bound.nest.ix == 1 and first and not second):
        return bound
    nest = bound.nest
    return Bound(
        nest=LoopNest(b=nest.k, k=nest.b, c=nest.c, groups=nest.groups),
        output=bound.output,
        input_view=bound.weight_view,
        weight_view=bound.input_view,
        output_view=bound.output_view,
    )
