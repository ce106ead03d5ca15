"""From a recording to a `Structure`: ops, tensors, roles, phases, layers, lifetimes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from evaluators.workload.contractions import Bound, Part, optional
from evaluators.workload.graph import Contraction, Op, Operand, Phase, Role, Structure, TensorInfo
from evaluators.workload.kinds import GATHERING, OVERWRITING, UNREAD, WRITTEN_UNDECLARED, kind_of
from evaluators.workload.recorder import Call, Recorder, Region, Storage, View, views_of
from evaluators.workload.sources import HANDLERS, Names, Sources, weight_second

FUSED_BITS = 32  # the fused CPU kernels accumulate in float32 whatever they are given


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One op in the making."""

    call: int
    part: Part
    phase: Phase
    layer: str | None


def assemble(recorder: Recorder, names: Names) -> Structure:
    """Return the structure of a recorded step."""
    sources = Sources.of(recorder.calls, names)
    steps: list[Step] = []
    unmodelled: dict[str, None] = {}
    for position, call in enumerate(recorder.calls):
        inner: dict[int, int] = {}
        for part in _parts(call, sources, unmodelled):
            step = _step(position, call, part, sources)
            steps.append(replace(step, part=_numbered(step.part, position, inner, recorder.storages)))
    steps = _weight_side(steps, names)
    roles = _roles(recorder, steps, names)
    tensors = _tensor_infos(recorder, steps, names, roles)
    born, last = _framework_lifetimes(recorder, steps)
    persistent = np.array([storage.born < 0 for storage in recorder.storages], dtype=np.bool_)
    return Structure(
        ops=tuple(_op(step, recorder.calls[step.call]) for step in steps),
        tensors=tensors,
        born=born,
        last=last,
        persistent=persistent,
        gradients=dict(names.gradients),
        parameters=dict(names.parameters),
        states=dict(names.states_of),
        unmodelled=tuple(unmodelled),
        derived_weights=frozenset(
            step.part.bound.weight_view.storage
            for step in steps
            if step.phase is Phase.FORWARD
            and step.part.bound is not None
            and step.part.bound.weight_view.storage in sources.constant.difference(sources.paths)
        ),
    )


def _numbered(part: Part, call: int, inner: dict[int, int], storages: list[Storage]) -> Part:
    """Give the tensors inside a fused op an index: storages that never occupy memory."""

    def number(view: View) -> View:
        if view.storage >= 0:
            return view
        if view.storage not in inner:
            inner[view.storage] = len(storages)
            storages.append(
                Storage(shape=view.shape, dtype_bits=FUSED_BITS, born=call, last=-1, materialised=False)
            )
        return replace(view, storage=inner[view.storage])

    bound = part.bound
    if bound is not None:
        bound = replace(
            bound,
            input_view=number(bound.input_view),
            weight_view=number(bound.weight_view),
            output_view=number(bound.output_view),
        )
    return Part(
        kind=part.kind,
        inputs=tuple(map(number, part.inputs)),
        outputs=tuple(map(number, part.outputs)),
        bound=bound,
    )


def _parts(call: Call, sources: Sources, unmodelled: dict[str, None]) -> Sequence[Part]:
    handler = HANDLERS.get(call.name)
    if handler is not None:
        return [_rebound(call, part, sources) for part in handler(call)]
    kind = kind_of(call)
    if kind is None:
        unmodelled[call.name] = None
        kind = "unmodelled"
    if kind == "allocate":
        return [Part(kind=kind, inputs=(), outputs=())]
    unread = (0,) if call.name in OVERWRITING else UNREAD.get(call.name, ())
    read = [value for position, value in enumerate(call.args) if position not in unread]
    written = (view for view in call.views() if view.storage in call.written)
    outputs = (*written, *_undeclared(call), *call.outputs)
    return [Part(kind=kind, inputs=tuple(views_of(tuple(read))), outputs=outputs)]


def _undeclared(call: Call) -> tuple[View, ...]:
    positions, flag = WRITTEN_UNDECLARED.get(call.name, ((), 0))
    if not positions or not call.args[flag]:
        return ()
    return optional(*(call.args[position] for position in positions))


def _rebound(call: Call, part: Part, sources: Sources) -> Part:
    """Return a product of the backward pass as a gradient of its forward product, sharing its nest."""
    bound = part.bound
    if bound is None:
        return part
    if call.computes_forward:
        bound = weight_second(bound, sources.constant)
    elif call.name in GRADIENT_PRODUCTS:
        bound = _gradient_of(bound, sources.forward.get(call.node, ()), part)
    is_linear = part.kind == "matmul" and sources.weight(call, bound) in sources.constant
    kind = "linear" if is_linear else part.kind
    return Part(kind=kind, inputs=part.inputs, outputs=part.outputs, bound=bound)


GRADIENT_PRODUCTS = frozenset({"aten::mm", "aten::bmm", "aten::mv", "aten::addmm", "aten::baddbmm"})


def _gradient_of(bound: Bound, candidates: Iterable[Bound], part: Part) -> Bound:
    def place(view: View) -> tuple[int, int]:
        return view.storage, view.offset

    operands = (bound.input_view, bound.weight_view)
    (out,) = part.outputs
    for forward in candidates:
        for reads, writes in ((forward.weight_view, Operand.INPUT), (forward.input_view, Operand.WEIGHT)):
            rest = [view for view in operands if place(view) != place(reads)]
            if len(rest) == 1 and forward.nest.macs == bound.nest.macs:
                is_input = writes is Operand.INPUT
                return Bound(
                    nest=forward.nest,
                    output=writes,
                    input_view=out if is_input else reads,
                    weight_view=reads if is_input else out,
                    output_view=rest[0],
                )
    return bound


def _step(position: int, call: Call, part: Part, sources: Sources) -> Step:
    if call.region is Region.UPDATE:
        return Step(call=position, part=part, phase=Phase.UPDATE, layer=None)
    module = call.module if call.computes_forward else sources.module.get(call.node, "")
    layer = module or None
    phase = Phase.FORWARD if call.region is Region.FORWARD else Phase.INPUT_GRADIENT
    if part.bound is not None:
        weight = sources.weight(call, part.bound)
        if phase is not Phase.FORWARD and part.bound.output is Operand.WEIGHT and weight in sources.constant:
            phase = Phase.WEIGHT_GRADIENT
        layer = sources.layer(module, weight)
    return Step(call=position, part=part, phase=phase, layer=layer)


def _weight_side(steps: list[Step], names: Names) -> list[Step]:
    """Move memory-bound ops that only finish a weight's gradient (bias sums) to that phase."""
    gradients = set(names.gradients.values())
    shared: set[int] = set()  # read by something that is no such op: not on the weight side
    marked = list(steps)
    for position in range(len(steps) - 1, -1, -1):
        step = steps[position]
        written = {view.storage for view in step.part.outputs}
        backward = step.phase in (Phase.INPUT_GRADIENT, Phase.WEIGHT_GRADIENT)
        finishes = backward and bool(written) and written <= gradients and not written & shared
        if finishes and step.part.bound is None:
            marked[position] = Step(
                call=step.call, part=step.part, phase=Phase.WEIGHT_GRADIENT, layer=step.layer
            )
            if step.part.kind in ("reduction", "copy"):  # a sum or a reshape on the way to it
                gradients |= {view.storage for view in step.part.inputs} - shared
        elif backward:
            shared.update(view.storage for view in step.part.inputs)
    return marked


def _roles(recorder: Recorder, steps: Sequence[Step], names: Names) -> list[Role]:
    roles = [_role_by_name(index, storage.born, names) for index, storage in enumerate(recorder.storages)]
    for step in steps:
        backward = recorder.calls[step.call].region is Region.BACKWARD
        for view in step.part.outputs:
            if roles[view.storage] is None:
                is_update = step.phase is Phase.UPDATE
                late = Role.GRADIENT if is_update else Role.ACTIVATION_GRADIENT
                roles[view.storage] = Role.ACTIVATION if step.phase is Phase.FORWARD else late
        if backward and step.phase is not Phase.FORWARD:
            for view in step.part.inputs:
                if roles[view.storage] in (Role.ACTIVATION, Role.OUTPUT):
                    roles[view.storage] = Role.SAVED
    return [Role.ACTIVATION if role is None else role for role in roles]


def _role_by_name(index: int, born: int, names: Names) -> Role | None:
    if index in names.parameters.values():
        return Role.WEIGHT
    if index in names.gradients.values():
        return Role.GRADIENT
    if index in names.states:
        return Role.OPTIMIZER_STATE
    if index in names.inputs:
        return Role.INPUT
    if index in names.buffers or born < 0:
        return Role.BUFFER
    return Role.OUTPUT if index in names.outputs else None


def _tensor_infos(
    recorder: Recorder, steps: Sequence[Step], names: Names, roles: Sequence[Role]
) -> tuple[TensorInfo, ...]:
    titles: dict[int, str] = {**names.buffers, **names.states, **names.inputs}
    layers: dict[int, str | None] = {}
    for path, index in names.parameters.items():
        titles.setdefault(index, path)
        layers.setdefault(index, path.rpartition(".")[0])
    for weight, gradient in names.gradients.items():
        titles[gradient] = f"grad({titles[weight]})"
        layers[gradient] = layers[weight]
    for step in steps:
        short = recorder.calls[step.call].name.partition("::")[2]
        for view in step.part.outputs:
            prefix = f"{step.layer}/" if step.layer else ""
            titles.setdefault(view.storage, f"{prefix}{short}")
            layers.setdefault(view.storage, step.layer)
    return tuple(
        TensorInfo(
            name=titles.get(index, f"constant{index}" if storage.born < 0 else f"scratch{index}"),
            shape=storage.shape,
            dtype_bits=storage.dtype_bits,
            role=roles[index],
            layer=layers.get(index),
            materialised=storage.materialised,
        )
        for index, storage in enumerate(recorder.storages)
    )


def _framework_lifetimes(
    recorder: Recorder, steps: Sequence[Step]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the first and the last op at which torch itself holds each storage."""
    first_op: dict[int, int] = {}
    last_op: dict[int, int] = {}
    writes: dict[tuple[int, int], int] = {}
    for position, step in enumerate(steps):
        first_op.setdefault(step.call, position)
        last_op[step.call] = position
        for view in step.part.outputs:
            writes.setdefault((step.call, view.storage), position)
    end = len(steps) - 1
    born, last = [], []
    for index, storage in enumerate(recorder.storages):
        birth = writes.get((storage.born, index), first_op.get(storage.born, 0)) if storage.born >= 0 else 0
        born.append(birth)
        held = end if storage.last is None or storage.born < 0 else last_op.get(storage.last, birth - 1)
        last.append(held)
    return np.array(born, dtype=np.int64), np.array(last, dtype=np.int64)


def _op(step: Step, call: Call) -> Op:
    inputs: dict[int, int] = {}
    outputs: dict[int, int] = {}
    for view in step.part.outputs:
        outputs[view.storage] = max(outputs.get(view.storage, 0), view.elements)
    for position, view in enumerate(step.part.inputs):
        elements = view.elements
        if position == 0 and call.name in GATHERING:
            elements = min(elements, sum(outputs.values()))
        inputs[view.storage] = max(inputs.get(view.storage, 0), elements)
    bound = step.part.bound
    contraction = None
    if bound is not None:
        tensors = {operand: bound.view(operand).storage for operand in Operand}
        contraction = Contraction(nest=bound.nest, output=bound.output, tensors=tensors)
    return Op(
        name=f"{step.layer}/{call.name.partition('::')[2]}" if step.layer else call.name.partition("::")[2],
        kind=step.part.kind,
        phase=step.phase,
        layer=step.layer,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        contraction=contraction,
        read_elements=tuple(inputs.values()),
        write_elements=tuple(outputs.values()),
    )
