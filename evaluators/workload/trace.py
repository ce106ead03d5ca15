"""Trace a torch model's step into a `Workload`."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evaluators.workload.assemble import assemble
from evaluators.workload.blame import blamed
from evaluators.workload.errors import IndexInputError, TraceError, UnmodelledOpWarning
from evaluators.workload.graph import Workload, as_stored
from evaluators.workload.losses import Loss, apply_loss, make_targets
from evaluators.workload.optimizers import Optimizer, State, initial_state, update
from evaluators.workload.recorder import FloatIndexError, Recorder, Region, module_paths
from evaluators.workload.sources import Names
from evaluators.workload.transformers import masks_by_shape, without_nesting
from evaluators.workload.twin import fake_like, fake_mode, fake_twin, select_trainable


def trace(
    model: nn.Module,
    inputs: tuple[Tensor, ...],
    *,
    loss: Loss | None = None,
    optimizer: Optimizer | None = None,
    trainable: Collection[str] | None = None,
    training: bool = True,
) -> Workload:
    """Trace one training step, or one inference, of any torch model.

    Runs a twin of the model under fake tensors: neither data nor weights are needed and `model` is not
    changed. A training step is a steady one: optimizer state exists, gradients start at None.

    Args:
        model: Any module.
        inputs: Example inputs; only shape and dtype are read (meta tensors will do).
        loss: `"cross_entropy"`, `"mse"`, or a callable of the output (and of a target shaped like it).
            None: forward only.
        optimizer: The update rule; None stops after the backward pass.
        trainable: Paths of the parameters that train; None means those with `requires_grad`.
        training: Training mode with gradients; False means evaluation mode without.

    Raises:
        TraceError: The model cannot be traced; names the line of the user's code that stopped it.
    """
    mode = fake_mode()
    twin = fake_twin(model, mode)
    learns = training and loss is not None
    if learns:  # an inference keeps requires_grad: some of torch's kernels are chosen by it
        select_trainable(twin, trainable)
    twin.train(learns)
    without_nesting(twin)
    with mode, masks_by_shape():
        examples = tuple(fake_like(tensor) for tensor in inputs)
        step = _Step(twin=twin, examples=examples, loss=loss if learns else None, optimizer=optimizer)
        try:
            recorder, names = step.record()
        except FloatIndexError as error:
            raise IndexInputError(step.position_of(error.storage)) from None
    structure = assemble(recorder, names)
    if structure.unmodelled:
        warnings.warn(
            "costed as memory-bound, because their arithmetic is not modelled: "
            f"{', '.join(structure.unmodelled)}",
            UnmodelledOpWarning,
            stacklevel=2,
        )
    return as_stored(structure)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Step:
    """One step of a fake twin."""

    twin: nn.Module
    examples: tuple[Tensor, ...]
    loss: Loss | None
    optimizer: Optimizer | None

    def record(self) -> tuple[Recorder, Names]:
        """Run the step under a recorder."""
        recorder = Recorder()
        parameters = [p for p in self.twin.parameters() if p.requires_grad]
        names = self._names(recorder)
        if self.loss is None:
            return recorder, names.with_outputs(recorder, (self._forward(recorder),))
        output = self._forward(recorder)
        targets = make_targets(self.loss, output)  # given, not computed: made while nothing records
        for position, target in enumerate(targets):
            names.inputs[recorder.register(target).storage] = f"target{position}"
        with torch.enable_grad(), recorder, module_paths(recorder, self.twin), blamed(recorder, self.twin):
            value = apply_loss(self.loss, output, targets)
            recorder.region = Region.BACKWARD
            if parameters and not value.requires_grad:
                raise TraceError(
                    "a loss must depend on a parameter that trains, but it depends on none; do not detach "
                    "its output, and let parameters train that the training step uses"
                )
            if value.requires_grad:
                value.backward()  # type: ignore[no-untyped-call]
        # torch.optim makes state for what has a gradient: a parameter that the loss does not reach has none.
        reached = [parameter for parameter in parameters if parameter.grad is not None]
        if self.optimizer is not None:
            states = initial_state(self.optimizer, reached)
            self._name_states(recorder, names, reached, states)
            recorder.region = Region.UPDATE
            with recorder:
                update(self.optimizer, reached, states)
        for parameter in reached:
            if parameter.grad is not None:
                gradient = recorder.register(parameter.grad).storage
                names.gradients[recorder.register(parameter).storage] = gradient
        return recorder, names.with_outputs(recorder, (output, value))

    def position_of(self, storage: int) -> int | None:
        """Return which input a storage is; inputs are the first to be registered."""
        return storage if storage < len(self.examples) else None

    def _forward(self, recorder: Recorder) -> object:
        gradients = torch.set_grad_enabled(self.loss is not None)
        with gradients, recorder, module_paths(recorder, self.twin), blamed(recorder, self.twin):
            return self.twin(*self.examples)

    def _names(self, recorder: Recorder) -> Names:
        names = Names()
        for position, tensor in enumerate(self.examples):
            names.inputs[recorder.register(tensor).storage] = f"input{position}"
        for path, parameter in self.twin.named_parameters(remove_duplicate=False):
            names.parameters[path] = recorder.register(parameter).storage
        for path, buffer in self.twin.named_buffers():
            names.buffers.setdefault(recorder.register(buffer).storage, path)
        return names

    def _name_states(
        self, recorder: Recorder, names: Names, parameters: Sequence[nn.Parameter], states: Sequence[State]
    ) -> None:
        path_of = {id(parameter): path for path, parameter in self.twin.named_parameters()}
        for parameter, state in zip(parameters, states, strict=True):
            storages = tuple(recorder.register(tensor).storage for tensor in state.tensors)
            names.states_of[recorder.register(parameter).storage] = storages
            for position, storage in enumerate(storages):
                names.states[storage] = f"{path_of[id(parameter)]}.state{position}"
