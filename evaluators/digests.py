"""Short, stable names for what is in tensors and settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import torch

from search_spaces.choice import JsonValue

DIGEST_CHARACTERS = 20  # 80 bits: two of a million entries meet with probability below 1e-12


def digest(settings: JsonValue, tensors: Mapping[str, torch.Tensor] | None = None) -> str:
    """Return a hash of JSON data and of named tensors: their names, types, shapes and every bit in them."""
    found = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, tensor in (tensors or {}).items():
        found.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        found.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()[:DIGEST_CHARACTERS]
