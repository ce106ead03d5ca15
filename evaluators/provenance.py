"""What a trained half depends on beyond its settings: code, data and first weights, by digest.

The cache of one run can leave these out, for they stay as they are while it runs. What runs share cannot.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import torch
from torch import nn

import evaluators
import search_spaces
from evaluators.data.splits import DataSplits
from evaluators.digests import digest
from search_spaces.choice import JsonValue


@functools.cache
def code_digest() -> str:
    """Return a hash of our code that makes and measures a half: finer than the package's version.

    What is installed and what lies in a clone share, where the files are the same.
    """
    found = hashlib.sha256()
    for package in (evaluators, search_spaces):
        root = Path(package.__path__[0])
        for path in sorted(root.rglob("*.py")):
            found.update(f"{package.__name__}/{path.relative_to(root).as_posix()}\n".encode())
            found.update(path.read_bytes())
    return found.hexdigest()


def machine_facts() -> dict[str, JsonValue]:
    """Return what decides the last bit of a sum beside our code: torch and the processor's instructions."""
    return {"torch": torch.__version__, "processor": torch.backends.cpu.get_cpu_capability()}


def data_digest(splits: DataSplits) -> str:
    """Return a hash of every image and label that is used."""
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    tensors = {f"{name}.images": split.images for name, split in parts.items()}
    tensors |= {f"{name}.labels": split.labels for name, split in parts.items()}
    return digest(splits.num_classes, tensors)


def network_digest(model: nn.Module) -> str:
    """Return a hash of an untrained network: its structure and its first weights."""
    return digest(repr(model), model.state_dict())
