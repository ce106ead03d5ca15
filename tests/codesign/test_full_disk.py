"""A disk that is full where designs are evaluated: no design's fault, and nothing is lost by it."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from codesign.errors import MachineError, RunFolderError
from codesign.run_folder import open_run
from codesign.worker import blame_the_machine
from tests.codesign.test_cli import cosearch

MODULE = """
import errno, os
from torch import nn


class Net(nn.Sequential):
    def forward(self, x):
        if os.path.exists("full") and self.training:
            raise OSError(errno.ENOSPC, "No space left on device", "/somewhere/checkpoint.pt")
        return super().forward(x)


def build(*, width, depth, input_shape, num_classes):
    inputs = input_shape[0] * input_shape[1] * input_shape[2]
    hidden = round(16 * width)
    return Net(nn.Flatten(), nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, num_classes))
"""
STUDY = """
name: full
network: full_module:build
dataset: {name: digits, train_examples: 100, validation_examples: 100}
space:
  network: {width: [0.5, 1.0]}
  quantization: {weight_bits: [2, 4, 8], activation_bits: 8}
  accelerator: {templates: {eyeriss_like: {}}}
objectives: [validation_accuracy, inference_energy_pj]
training: {pretrain_epochs: 1, epochs: 1}
sampler: {name: random}
budget: {trials: 4}
"""


@pytest.mark.parametrize("executor", ["in_process", "{local: {workers: 1}}"])
def test_a_full_disk_ends_the_run_and_resume_makes_it_whole(tmp_path: Path, executor: str) -> None:
    (tmp_path / "full_module.py").write_text(MODULE)
    (tmp_path / "full.yaml").write_text(STUDY)
    (tmp_path / "full").touch()
    run = ("run", "full.yaml", "-o", f"executor={executor}")
    stopped = cosearch(*run, "--out", "stopped", cwd=tmp_path)
    assert stopped.returncode == 2
    last = stopped.stderr.rstrip().splitlines()[-1]
    assert last.startswith(
        "error: a design cannot be evaluated here: [Errno 28] No space left on device: '/some"
    )
    assert "cosearch resume" in last
    assert not open_run(tmp_path / "stopped").results()
    (tmp_path / "full").unlink()
    assert cosearch("resume", "stopped", cwd=tmp_path).returncode == 0
    assert cosearch(*run, "--out", "quiet", cwd=tmp_path).returncode == 0
    fronts = [(tmp_path / name / "front.json").read_bytes() for name in ("stopped", "quiet")]
    assert fronts[0] == fronts[1]


def test_what_is_the_machines_fault() -> None:
    blame_the_machine(OSError(errno.ENOENT, "No such file"))
    blame_the_machine(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(MachineError, match=r"os error 28"):
        blame_the_machine(RuntimeError("I/O error: No space left on device (os error 28)"))
    hidden = RunFolderError("x cannot be written")
    hidden.__context__ = OSError(errno.EDQUOT, "Disk quota exceeded")
    with pytest.raises(MachineError, match="quota"):
        blame_the_machine(hidden)
