"""A user's own network and data: used where they are good, recorded where they are not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.codesign.test_cli import cosearch

MODULE = """
import os, sys, time
import torch
from torch import nn
from evaluators.data.splits import DataSplits, Split


class Net(nn.Module):
    def __init__(self, width, shape, classes):
        super().__init__()
        self.width = width
        self.conv = nn.Conv2d(shape[0], 4, 3, padding=1)
        self.head = nn.Linear(4 * shape[1] * shape[2], classes)

    def forward(self, x):
        if self.width == 0.25:
            os._exit(3)
        if self.width == 0.5:
            sys.exit(4)
        if self.width == 0.75:
            raise RuntimeError("no such <b>luck</b>")
        if self.width == 2.0:
            time.sleep(0.02)
        if self.width == 3.0:
            time.sleep(600)
        if self.width == 4.0:
            self.hog = b"x" * 2**31
            time.sleep(600)
        print("chatter of the user's own")
        return self.head(torch.relu(self.conv(x)).flatten(1))


def build(*, width, depth, input_shape, num_classes):
    return Net(width, input_shape, num_classes)


def exits(*, width, depth, input_shape, num_classes):
    sys.exit(5)


def data(data_root, download):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % 3
    images = torch.randn(120, 1, 6, 6, generator=generator) + labels[:, None, None, None]
    parts = (slice(0, 60), slice(60, 90), slice(90, 120))
    train, validation, test = (Split(images=images[p], labels=labels[p]) for p in parts)
    return DataSplits(train=train, validation=validation, test=test, num_classes=3)
"""

STUDY = """
name: own
network: my_module:build
dataset: my_module:data
space:
  network: {width: [0.25, 0.5, 0.75, 1.0]}
  quantization: {weight_bits: [4, 8], activation_bits: 8, per_layer: false}
  learning: {batch_size: 16}
  accelerator: {templates: {eyeriss_like: {}}}
reference: {network: {width: 1.0}}
objectives: [validation_accuracy, inference_energy_pj]
training: {pretrain_epochs: 1, epochs: 1}
sampler: {name: random, window: 4}
budget: {trials: 8}
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "my_module.py").write_text(MODULE)
    (tmp_path / "own.yaml").write_text(STUDY)
    return tmp_path


def results(run: Path) -> list[dict[str, object]]:
    return [json.loads(path.read_text()) for path in sorted(run.glob("trials/*/result.json"))]


def test_every_way_to_fail_is_a_recorded_trial_and_the_sweep_goes_on(home: Path) -> None:
    done = cosearch("run", "own.yaml", cwd=home)
    assert done.returncode == 0, done.stderr
    found = results(home / "runs" / "own")
    assert len(found) == 8
    by_width = {}
    for result in found:
        width = result["design"]["data"]["network"]["data"]["width"]  # type: ignore[index]
        by_width[width] = (result["state"], result["reason"])
    assert by_width[1.0] == ("completed", None)
    assert by_width[0.25][0] == "failed"
    assert "worker process died (exit code 3)" in by_width[0.25][1]
    assert by_width[0.5][0] == "failed"
    assert "sys.exit(4)" in by_width[0.5][1]
    assert by_width[0.75][0] == "failed"
    assert "no such <b>luck</b>" in by_width[0.75][1]
    assert "<b>luck</b>" not in (home / "runs" / "own" / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "limit", "reason"),
    [
        (3.0, "trial_minutes=0.5", "stopped after 0.5 minutes, the limit of a trial"),
        (4.0, f"trial_memory_bytes={3 * 2**29}", "the limit of a trial is 1536 MiB"),
    ],
)
def test_a_trial_that_takes_too_much_is_stopped_and_recorded(
    home: Path, width: float, limit: str, reason: str
) -> None:
    only = ["-o", f"space.network.width=[1.0, {width}]", "-o", "space.quantization.weight_bits=8"]
    limits = ["-o", "executor={local: {workers: 1}}", "-o", f"executor.local.{limit}"]
    done = cosearch("run", "own.yaml", "--trials", "2", *only, *limits, cwd=home)
    assert done.returncode == 0, done.stderr
    reference, other = results(home / "runs" / "own")
    assert reference["state"] == "completed"
    assert other["state"] == "failed"
    assert reason in str(other["reason"])


def test_code_that_exits_while_networks_are_described_is_one_message(home: Path) -> None:
    done = cosearch("run", "own.yaml", "-o", "network.name=my_module:exits", cwd=home)
    assert done.returncode == 2
    assert "SystemExit: 5" in done.stderr
    assert not (home / "runs" / "own").exists()


def test_a_killed_worker_is_replaced_and_its_trial_runs_again(home: Path) -> None:
    slow = ["-o", "space.network.width=2.0", "-o", "reference.network.width=2.0"]
    driver = subprocess.Popen(
        [sys.executable, "-m", "codesign", "run", "own.yaml", "-o", "training.epochs=4", *slow],
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    run = home / "runs" / "own"
    deadline = time.monotonic() + 240
    while not list(run.glob("trials/*/design.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    children = Path(f"/proc/{driver.pid}/task/{driver.pid}/children")
    if not children.is_file():
        driver.kill()
        pytest.skip("finding the workers needs /proc")
    for worker in children.read_text().split():
        os.kill(int(worker), signal.SIGKILL)
    _, stderr = driver.communicate(timeout=240)
    assert driver.returncode == 0, stderr
    assert {result["state"] for result in results(run)} == {"completed"}
    assert [result["trial"] for result in results(run)] == [0, 1]  # the space holds two designs


def test_the_data_and_the_network_of_an_export_are_found_again(home: Path) -> None:
    assert cosearch("run", "own.yaml", "--trials", "1", cwd=home).returncode == 0
    done = cosearch("export", "runs/own", "0", "--out", "out", cwd=home)
    assert done.returncode == 0, done.stderr
    saved = json.loads((home / "out" / "own-00000" / "scores.json").read_text())["scores"]
    again = cosearch("evaluate", "out/own-00000", "--json", cwd=home)
    assert json.loads(again.stdout.partition("{")[1] + again.stdout.partition("{")[2])["scores"] == saved
