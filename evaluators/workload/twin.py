"""A model's twin under fake tensors: same code, same shapes, no data. The user's model is left alone."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from evaluators.workload.errors import TraceError, unknown


def fake_mode() -> FakeTensorMode:
    """Return a mode in which tensors have shapes and storages, but no data."""
    return FakeTensorMode(allow_non_fake_inputs=True)


def fake_like(tensor: Tensor) -> Tensor:
    """Return a fake tensor of the same layout on the CPU (to be called under the fake mode)."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")


def fake_twin(model: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """Return a copy of `model` whose parameters and buffers are fake.

    A deep copy finds its tensors already answered in its memo, so that no weight is copied; tied
    parameters stay tied.

    Raises:
        TraceError: A lazy parameter, a scripted module, or a model that cannot be copied.
    """
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise TraceError(
                f"a model must be Python code, but {path or 'it'} is a {type(module).__name__}; give the "
                "module as it was before torch.jit.script or torch.jit.trace"
            )
    memo: dict[int, object] = {}
    bases: dict[int, Tensor] = {}
    with mode:
        for tensor in _tensors_of(model):
            if id(tensor) not in memo:
                fake = _aliased(tensor, bases)
                if isinstance(tensor, nn.Parameter):
                    fake = nn.Parameter(fake, requires_grad=tensor.requires_grad)
                memo[id(tensor)] = fake
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:
        raise TraceError(
            f"the model must be copyable (copy.deepcopy), but {type(model).__name__} is not: {error}; "
            "keep open files, locks and generators out of its attributes"
        ) from error


def select_trainable(twin: nn.Module, trainable: Collection[str] | None) -> None:
    """Let exactly the named parameters train; None keeps the model's own `requires_grad`.

    Raises:
        TraceError: A name that is no parameter.
    """
    if trainable is None:
        return
    parameters = dict(twin.named_parameters(remove_duplicate=False))
    for name in trainable:
        if name not in parameters:
            raise TraceError(unknown("parameter", name, parameters))
    wanted = {id(parameters[name]) for name in trainable}
    for parameter in parameters.values():
        if parameter.is_floating_point() or parameter.is_complex():
            parameter.requires_grad_(id(parameter) in wanted)


def _tensors_of(model: nn.Module) -> Iterator[Tensor]:
    for path, module in model.named_modules():
        for name, tensor in (*module._parameters.items(), *module._buffers.items(), *module.__dict__.items()):
            if isinstance(tensor, (nn.UninitializedParameter, nn.UninitializedBuffer)):
                raise TraceError(
                    f"every parameter must have a shape, but {path}.{name} is lazy; run the model once on an "
                    "example input before it is traced"
                )
            if isinstance(tensor, Tensor):
                yield tensor


def _aliased(tensor: Tensor, bases: dict[int, Tensor]) -> Tensor:
    """Return the fake of a tensor; tensors that share a storage get fakes that share one."""
    if tensor.layout is not torch.strided:
        raise TraceError(
            f"parameters and buffers must be dense, but got {tensor.layout} of {tuple(tensor.shape)}"
        )
    size_bytes = tensor.untyped_storage().nbytes()
    if size_bytes == tensor.numel() * tensor.element_size() and tensor.storage_offset() == 0:
        key = tensor.untyped_storage()._cdata
        if key not in bases:
            bases[key] = fake_like(tensor)
            return bases[key]
    key = tensor.untyped_storage()._cdata
    if key not in bases:
        bases[key] = torch.empty(size_bytes // tensor.element_size(), dtype=tensor.dtype)
    base = bases[key].view(-1) if bases[key].is_contiguous() else bases[key]
    return base.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
