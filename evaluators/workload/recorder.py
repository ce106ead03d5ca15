"""Record what torch executes: ops, storages, lifetimes. The only module that touches torch's internals.

A dispatch mode sees every ATen call of the step, forward and backward, below autograd. Under fake tensors
there is no data and hardly any cost; since the same Python code runs, references are dropped where the real
step drops them, and the recorded lifetimes are those of the real step.

NOTE: relies on `torch._subclasses.FakeTensorMode`, `torch.utils._python_dispatch.TorchDispatchMode` (both
documented for extenders), `torch.autograd._get_sequence_nr` and `torch._C._current_autograd_node` (used by
torch.fx for the same purpose: to join a backward op with its forward op).
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd import _get_sequence_nr  # type: ignore[attr-defined]
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from evaluators.workload.corrections import scratch_bytes, true_sizes_bytes


class Region(Enum):
    """The part of the step that is being recorded."""

    FORWARD = "forward"
    BACKWARD = "backward"
    UPDATE = "update"


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """How a call saw a storage."""

    storage: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Distinct elements that the view can touch: expanded dimensions (stride 0) count once."""
        count = 1
        for size, stride in zip(self.shape, self.strides, strict=True):
            count *= size if stride or size == 0 else 1
        return count


Value: TypeAlias = "View | tuple[Value, ...] | int | float | bool | str | None"


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One ATen call, its tensors replaced by views.

    Attributes:
        name: Qualified name without overload, `aten::convolution`.
        args: Positional arguments, then keyword arguments, in the schema's order.
        outputs: Tensors that came out.
        written: Storages that the call mutates.
        region: Part of the step.
        node: Sequence number of the autograd node: made by this call (forward), running it (backward).
        recomputed: A forward call run again inside a backward node (activation checkpointing).
        module: Path of the innermost running module, "" outside any.
        is_pointwise: torch's own tag: one output element from the matching input elements.
    """

    name: str
    args: tuple[Value, ...]
    outputs: tuple[View, ...]
    written: tuple[int, ...]
    region: Region
    node: int
    recomputed: bool
    module: str
    is_pointwise: bool

    @property
    def computes_forward(self) -> bool:
        """Whether the call belongs to a forward computation, first or again."""
        return self.region is Region.FORWARD or self.recomputed

    def views(self) -> Iterator[View]:
        """Yield the tensors among the arguments."""
        yield from views_of(self.args)


@dataclass(kw_only=True, slots=True)
class Storage:
    """One allocation.

    `born` is the call that made it (-1: before the step), `last` the last call at which it was still held
    (None: held to the end).
    """

    shape: tuple[int, ...]
    dtype_bits: int
    born: int
    last: int | None = None
    materialised: bool = True


class FloatIndexError(TypeError):
    """An embedding got floating-point indices: the input should have been integers."""

    def __init__(self, storage: int) -> None:
        super().__init__("an embedding was given floating-point indices")
        self.storage = storage


class DtypeError(TypeError):
    """Operands of a product differ in dtype, which real kernels refuse and fake ones promote."""

    def __init__(self, name: str, dtypes: Sequence[torch.dtype]) -> None:
        found = " and ".join(dict.fromkeys(str(dtype).removeprefix("torch.") for dtype in dtypes))
        super().__init__(f"the operands of {name} must have one dtype, but they are {found}")


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Record every call made while this mode is active."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []
        self.storages: list[Storage] = []
        self.region = Region.FORWARD
        self.module_stack: list[str] = []
        self.deepest_failure: str | None = None  # module in which an exception arose first
        self._index_of: dict[int, int] = {}  # id of a living torch storage -> our index
        self._signatures: dict[object, _Signature] = {}

    def register(self, tensor: Tensor, *, born: int = -1) -> View:
        """Return the view of a tensor, giving its storage an index if it is new."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        index = self._index_of.get(key)
        if index is None:
            index = len(self.storages)
            self._index_of[key] = index
            self.storages.append(_new_storage(tensor, storage.nbytes(), born))
            weakref.finalize(storage, self._freed, key, index).atexit = False
        return View(
            storage=index,
            offset=int(tensor.storage_offset()),
            shape=tuple(map(int, tensor.shape)),
            strides=tuple(map(int, tensor.stride())),
        )

    def _freed(self, key: int, index: int) -> None:
        self._index_of.pop(key, None)
        self.storages[index].last = len(self.calls) - 1

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        signature = self._signatures.get(func)
        if signature is None:
            signature = self._signatures[func] = _Signature.of(func)
        ordered = signature.ordered(args, kwargs)
        # A constant of the forward pass (torch.tensor, from_numpy) becomes fake by a copy that the real step
        # does not make: the copy stands for the constant itself, which is born here.
        is_constant = signature.name == "aten::lift_fresh" and not isinstance(ordered[0], FakeTensor)
        described = () if is_constant else tuple(self._describe(value, -1) for value in ordered)
        if signature.name in _EMBEDDINGS:
            _check_indices(ordered[1], described[1])
        _check_dtypes(signature.name, ordered)
        result = func(*args, **kwargs)
        outputs = tuple(views_of((self._describe(result, len(self.calls)),)))
        for position, size_bytes in true_sizes_bytes(signature.name, ordered).items():
            self._resize(outputs[position].storage, size_bytes)
        scratch = scratch_bytes(signature.name, ordered)
        if scratch:
            call = len(self.calls)
            self.storages.append(Storage(shape=(scratch,), dtype_bits=8, born=call, last=call))
        self._append(signature, described, outputs)
        return result

    def _resize(self, index: int, size_bytes: int) -> None:
        storage = self.storages[index]
        if 8 * size_bytes != math.prod(storage.shape) * storage.dtype_bits:
            storage.shape = (8 * size_bytes // storage.dtype_bits,)

    def _append(self, signature: _Signature, args: tuple[Value, ...], outputs: tuple[View, ...]) -> None:
        written = tuple({view.storage for view in views_of(tuple(args[i] for i in signature.mutated))})
        held = {view.storage for view in views_of(args)}
        if not written and all(view.storage in held for view in outputs):
            return  # a view, a query or a marker: nothing is computed and nothing is allocated
        node = torch._C._current_autograd_node()
        recomputed = node is not None and torch.is_grad_enabled()
        makes_node = node is None or recomputed
        self.calls.append(
            Call(
                name=signature.name,
                args=args,
                outputs=outputs,
                written=written,
                region=self.region,
                node=_get_sequence_nr() - 1 if makes_node else node._sequence_nr(),
                recomputed=recomputed,
                module=self.module_stack[-1] if self.module_stack else "",
                is_pointwise=signature.is_pointwise,
            )
        )

    def _describe(self, value: object, born: int) -> Value:
        if isinstance(value, Tensor):
            return self.register(value, born=born)
        if isinstance(value, (list, tuple)):
            return tuple(self._describe(item, born) for item in value)
        return value if isinstance(value, (int, float, bool, str)) else None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Signature:
    name: str
    arguments: tuple[str, ...]
    defaults: tuple[object, ...]
    mutated: tuple[int, ...]
    is_pointwise: bool

    @classmethod
    def of(cls, func: torch._ops.OpOverload) -> _Signature:
        arguments = func._schema.arguments
        return cls(
            name=func._schema.name,
            arguments=tuple(argument.name for argument in arguments),
            defaults=tuple(argument.default_value for argument in arguments),
            mutated=() if torch.Tag.inplace_view in func.tags else _mutated(arguments),
            is_pointwise=torch.Tag.pointwise in func.tags,
        )

    def ordered(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> tuple[object, ...]:
        rest = zip(self.arguments[len(args) :], self.defaults[len(args) :], strict=True)
        return (*args, *(kwargs.get(name, default) for name, default in rest))


def _check_indices(indices: object, described: Value) -> None:
    if isinstance(indices, Tensor) and indices.is_floating_point() and isinstance(described, View):
        raise FloatIndexError(described.storage)


_EMBEDDINGS = ("aten::embedding", "aten::_embedding_bag", "aten::_embedding_bag_forward_only")

# Products whose real kernels want operands of one dtype: how many of the first arguments these are.
_PRODUCTS = {
    "aten::mm": 2,
    "aten::bmm": 2,
    "aten::mv": 2,
    "aten::dot": 2,
    "aten::addmm": 3,
    "aten::addmv": 3,
    "aten::baddbmm": 3,
    "aten::convolution": 2,
}


def _check_dtypes(name: str, arguments: tuple[object, ...]) -> None:
    count = _PRODUCTS.get(name)
    if count is None:
        return
    operands = [value.dtype for value in arguments[:count] if isinstance(value, Tensor)]
    if len(set(operands)) > 1:
        raise DtypeError(name.partition("::")[2], operands)


def _mutated(arguments: Sequence[torch._C.Argument]) -> tuple[int, ...]:
    writes = (argument.alias_info is not None and argument.alias_info.is_write for argument in arguments)
    return tuple(position for position, is_write in enumerate(writes) if is_write)


@contextmanager
def module_paths(recorder: Recorder, model: nn.Module) -> Iterator[None]:
    """Keep `recorder.module_stack` up to date while `model` runs.

    The hooks are torch's global ones: hooks on the modules themselves would switch off the fused inference
    path of `nn.TransformerEncoderLayer`, and so change what is traced.
    """
    paths = {id(module): path for path, module in model.named_modules()}

    def enter(module: nn.Module, _args: object) -> None:
        if id(module) in paths:
            recorder.module_stack.append(paths[id(module)])

    def leave(module: nn.Module, _args: object, result: object) -> None:
        if id(module) in paths:
            path = recorder.module_stack.pop()
            if result is None and recorder.deepest_failure is None:
                recorder.deepest_failure = path  # always_call hooks get None from a forward that raised

    handles = [
        register_module_forward_pre_hook(enter),
        register_module_forward_hook(leave, always_call=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def views_of(values: tuple[Value, ...]) -> Iterator[View]:
    """Yield the tensors among values, those inside lists too."""
    for value in values:
        if isinstance(value, View):
            yield value
        elif isinstance(value, tuple):
            yield from views_of(value)


def _new_storage(tensor: Tensor, size_bytes: int, born: int) -> Storage:
    shape = tuple(map(int, tensor.shape))
    if tensor.numel() * tensor.element_size() != size_bytes:  # a view of something larger: count it all
        shape = (size_bytes // tensor.element_size(),)
    return Storage(shape=shape, dtype_bits=8 * tensor.element_size(), born=born)
