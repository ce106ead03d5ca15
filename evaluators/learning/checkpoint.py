"""Checkpoints: the whole state of a training after an epoch, as a file that is safe to read.

What goes on from a checkpoint is what would have been without the pause, bit for bit: parameters and all
buffers (those that an export leaves out too), plain numbers that modules keep (whether a quantizer has seen
its first batch), the optimizer's state, both random states and the history.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

Scalar = bool | int | float | str | None

VERSION = 1
SCALARS = (bool, int, float, str, type(None))  # exactly these: subclasses could not be read back safely
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochRecord:
    """One epoch of training: its number from 1, its mean loss, and what it took."""

    epoch: int
    epochs: int
    training_loss: float
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Checkpoint:
    """A training after some epochs.

    Args:
        identity: of the training; another one's checkpoint is of no use.
        tensors: parameters and buffers by name.
        scalars: plain attributes of modules, by module path and name.
        optimizer: the optimizer's own state.
        random: the state of torch's generator, which dropout and stochastic rounding draw from.
        order: the state of the generator that deals the batches.
        history: one record an epoch.
    """

    identity: str
    tensors: Mapping[str, Tensor]
    scalars: Mapping[str, Mapping[str, Scalar]]
    optimizer: dict[str, object]
    random: Tensor
    order: Tensor
    history: tuple[EpochRecord, ...]

    @property
    def epoch(self) -> int:
        """Epochs that are done."""
        return len(self.history)


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Return every parameter and buffer by name, those that `state_dict` leaves out too."""
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: tensor.detach() for name, tensor in named}


def scalars_of(model: nn.Module) -> dict[str, dict[str, Scalar]]:
    """Return the plain attributes of every module: what a module remembers beside its tensors."""
    return {
        path: {name: value for name, value in vars(module).items() if type(value) in SCALARS}
        for path, module in model.named_modules()
    }


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a file that is there whole or not at all."""
    data = {
        "version": VERSION,
        "identity": checkpoint.identity,
        "tensors": dict(checkpoint.tensors),
        "scalars": checkpoint.scalars,
        "optimizer": checkpoint.optimizer,
        "random": checkpoint.random,
        "order": checkpoint.order,
        "history": [(one.epoch, one.epochs, one.training_loss, one.seconds) for one in checkpoint.history],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, building = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save(data, file)
        os.replace(building, path)
    except BaseException:
        Path(building).unlink(missing_ok=True)
        raise


def load_checkpoint(path: Path, identity: str) -> Checkpoint | None:
    """Read a file that `save_checkpoint` wrote; None, and a line in the log, where it is of no use."""
    if not path.is_file():
        return None
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
        if data["version"] != VERSION or data["identity"] != identity:
            log.warning("%s is the checkpoint of another training: starting afresh", path)
            return None
        return _parsed(data)
    except Exception as error:  # whatever a damaged file makes of the unpickler, it costs a fresh start only
        log.warning("%s is not readable as a checkpoint (%s): starting afresh", path, type(error).__name__)
        return None


def _parsed(data: Mapping[str, object]) -> Checkpoint:
    history = cast("list[tuple[int, int, float, float]]", data["history"])
    found = Checkpoint(
        identity=str(data["identity"]),
        tensors=cast("dict[str, Tensor]", data["tensors"]),
        scalars=cast("dict[str, dict[str, Scalar]]", data["scalars"]),
        optimizer=cast("dict[str, object]", data["optimizer"]),
        random=cast(Tensor, data["random"]),
        order=cast(Tensor, data["order"]),
        history=tuple(
            EpochRecord(epoch=epoch, epochs=epochs, training_loss=loss, seconds=seconds)
            for epoch, epochs, loss, seconds in history
        ),
    )
    for state in (found.random, found.order):
        torch.Generator().set_state(state)  # refuses what is no generator's state
    return found


@torch.no_grad()
def restore_checkpoint(model: nn.Module, optimizer: torch.optim.Optimizer, checkpoint: Checkpoint) -> bool:
    """Put model and optimizer into a saved state; False, with both untouched, where it does not fit them."""
    tensors, modules = tensors_of(model), dict(model.named_modules())
    forms = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
    saved = {name: (tensor.shape, tensor.dtype) for name, tensor in checkpoint.tensors.items()}
    fits = forms == saved and set(modules) == set(checkpoint.scalars)
    if fits:
        try:
            optimizer.load_state_dict(checkpoint.optimizer)
        except (ValueError, KeyError, TypeError):  # as torch refuses the state of other parameters
            fits = False
    if not fits:
        log.warning("a checkpoint does not fit its network: starting afresh")
        return False
    for name, tensor in tensors.items():
        tensor.copy_(checkpoint.tensors[name])
    for path, scalars in checkpoint.scalars.items():
        for name, value in scalars.items():
            setattr(modules[path], name, value)
    return True
