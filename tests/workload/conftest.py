"""The networks of the memory benchmarks are test material too; they live in `benchmarks/`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
torch.set_num_threads(1)  # the networks are small, and other tests run beside these
