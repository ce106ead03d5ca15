"""A sweep on a real Ray cluster of this machine, whose workers and whose driver are killed.

The cluster is one that the test starts: token authentication, one address, two cores, no dashboard. Every
process that is killed is a descendant of one that the test started.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import optuna
import psutil
import pytest

from codesign.run_folder import open_run
from codesign.storage import open_storage

KILLS = int(os.environ.get("CODESIGN_RAY_KILLS", "3"))  # of workers and drivers, in turns
START = (
    "start --head --block --node-ip-address 127.0.0.1 --port {port} --num-cpus 2 "
    "--object-store-memory 104857600 --include-dashboard false --temp-dir {home} --disable-usage-stats"
)
MODULE = """
import time
import torch
from torch import nn
from evaluators.data.splits import DataSplits, Split


class Net(nn.Module):
    def __init__(self, width, shape, classes):
        super().__init__()
        self.conv = nn.Conv2d(shape[0], int(8 * width), 3, padding=1)
        self.head = nn.Linear(int(8 * width) * shape[1] * shape[2], classes)

    def forward(self, x):
        time.sleep(0.05)
        return self.head(torch.relu(self.conv(x)).flatten(1))


def build(*, width, depth, input_shape, num_classes):
    return Net(width, input_shape, num_classes)


def data(data_root, download):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % 3
    images = torch.randn(120, 1, 6, 6, generator=generator) + labels[:, None, None, None]
    parts = (slice(0, 60), slice(60, 90), slice(90, 120))
    train, validation, test = (Split(images=images[p], labels=labels[p]) for p in parts)
    return DataSplits(train=train, validation=validation, test=test, num_classes=3)
"""
STUDY = """
name: killed
network: my_module:build
dataset: my_module:data
space:
  network: {width: [0.5, 1.0, 1.5]}
  quantization: {weight_bits: [3, 4, 6, 8], activation_bits: 8, per_layer: false}
  learning: {batch_size: 16}
  accelerator: {templates: {eyeriss_like: {}}}
objectives: [validation_accuracy, inference_energy_pj]
training: {pretrain_epochs: 1, epochs: 6}
sampler: {name: nsga2, population: 6, window: 4}
budget: {trials: 12}
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """A cluster that a test started: where it is, and what its drivers need to know."""

    address: str
    environment: dict[str, str]
    process: psutil.Process


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with start_cluster(tmp_path_factory.mktemp("ray"), "shared") as started:
        yield started


@contextlib.contextmanager
def start_cluster(base: Path, name: str) -> Iterator[Cluster]:
    """Start a head node of two workers; end whatever is left of it."""
    token = base / "token"
    token.write_text("0123456789abcdef0123456789abcdef")
    environment = os.environ | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
    }
    environment.pop("RAY_ADDRESS", None)
    port = _free_port()
    # Ray's sockets have names that may not be long, so its folder is not under pytest's.
    home = Path(f"/tmp/codesign-ray-{os.getpid()}-{name}")
    with (base / "head.log").open("w") as log:
        head = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", *shlex.split(START.format(port=port, home=home))],
            env=environment,
            stdout=log,
            stderr=log,
        )
    process = psutil.Process(head.pid)
    try:
        deadline = time.monotonic() + 180
        while "Ray runtime started" not in (base / "head.log").read_text():
            assert head.poll() is None, (base / "head.log").read_text()
            assert time.monotonic() < deadline, (base / "head.log").read_text()
            time.sleep(0.5)
        yield Cluster(address=f"127.0.0.1:{port}", environment=environment, process=process)
    finally:
        started = process.children(recursive=True) if head.poll() is None else []
        head.terminate()
        _, left = psutil.wait_procs(started, timeout=20)
        for one in left:
            one.kill()
        head.wait(timeout=20)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "my_module.py").write_text(MODULE)
    (tmp_path / "killed.yaml").write_text(STUDY)
    return tmp_path


def command(cluster: Cluster, *arguments: str, home: Path, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "codesign", *arguments],
            cwd=home,
            env=cluster.environment,
            stdout=file,
            stderr=file,
        )


def under_fire(cluster: Cluster, home: Path, kills: int, expected: bytes) -> list[str]:
    """Run the study until so much was killed, and return what; every run must end as the quiet one."""
    done: list[str] = []
    while len(done) < kills:
        run = home / "runs" / f"killed-{len(done)}"
        done += kill_and_resume(cluster, home, run, kills - len(done), first=len(done))
        check_whole(run, 12)
        assert (run / "front.json").read_bytes() == expected
    return done


def kill_and_resume(cluster: Cluster, home: Path, run: Path, kills: int, first: int) -> list[str]:
    """Run the study once, killing a worker and the driver in turns while it runs; return what was killed."""
    rng, done, log = random.Random(first), [], home / "driver.log"
    ray = f"executor={{ray: {{address: '{cluster.address}', cpus_per_trial: 1}}}}"
    driver = command(cluster, "run", "killed.yaml", "--out", str(run), "-o", ray, home=home, log=log)
    while len(done) < kills:
        _wait_for_progress(run, driver)
        time.sleep(rng.uniform(0.0, 3.0))
        if driver.poll() is not None:
            break
        if (first + len(done)) % 2 == 0:
            workers = [p for p in cluster.process.children(recursive=True) if "RayWorker." in _name(p)]
            if workers:
                rng.choice(workers).send_signal(signal.SIGKILL)
                done.append("worker")
        else:
            driver.kill()
            driver.wait()
            done.append("driver")
            driver = command(cluster, "resume", str(run), home=home, log=log)
    assert driver.wait(timeout=600) == 0, log.read_text()[-3000:]
    return done


def _name(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _wait_for_progress(run: Path, driver: subprocess.Popen[bytes]) -> None:
    """Wait until an epoch or a trial is over that was not when this was called."""
    began, deadline = time.time(), time.monotonic() + 300
    while driver.poll() is None and time.monotonic() < deadline:
        for path in (*run.glob("cache/partial-*/checkpoint.pt"), *run.glob("trials/*/result.json")):
            with contextlib.suppress(FileNotFoundError):  # it was finished just now
                if path.stat().st_mtime > began:
                    return
        time.sleep(0.1)


def check_whole(run: Path, trials: int) -> None:
    """Every trial is over once, and the storage has no trial that is not."""
    folder = open_run(run)
    assert [result.trial for result in folder.results()] == list(range(trials))
    storage = open_storage("journal", folder.journal_path, to_read=True)
    study = optuna.load_study(study_name=folder.storage_name(folder.study()), storage=storage)
    assert len(study.trials) == trials
    assert all(trial.state.is_finished() for trial in study.trials)


@pytest.mark.slow
def test_killed_workers_and_drivers_cost_nothing(cluster: Cluster, home: Path) -> None:
    log = home / "log"
    quiet = command(
        cluster, "run", "killed.yaml", "-o", "executor=in_process", "--out", "quiet", home=home, log=log
    )
    assert quiet.wait(timeout=300) == 0, log.read_text()
    killed = under_fire(cluster, home, KILLS, (home / "quiet" / "front.json").read_bytes())
    assert {"worker", "driver"} <= set(killed)
    runs = home / "runs"
    crashes = [json.loads(path.read_text()) for path in runs.glob("*/trials/*/crashes.json")]
    assert crashes  # a worker that died in the middle of a trial was noticed
    exported = command(
        cluster, "export", str(runs / "killed-0"), "--front", "--out", "out", home=home, log=log
    )
    assert exported.wait(timeout=120) == 0, log.read_text()


@pytest.mark.slow
def test_a_cluster_that_dies_ends_the_run_with_one_message(home: Path) -> None:
    log, run = home / "log", home / "runs" / "lost"
    with start_cluster(home, "lost") as cluster:
        ray = f"executor={{ray: {{address: '{cluster.address}'}}}}"
        driver = command(cluster, "run", "killed.yaml", "--out", str(run), "-o", ray, home=home, log=log)
        _wait_for_progress(run, driver)
        for process in [*cluster.process.children(recursive=True), cluster.process]:
            with contextlib.suppress(psutil.Error):
                process.kill()
        assert driver.wait(timeout=120) == 2, log.read_text()
    assert "was lost (nobody listens there any more). Everything that was" in log.read_text()
    for arguments in (
        ("resume", str(run), "-o", "executor=in_process"),
        ("run", "killed.yaml", "-o", "executor=in_process", "--out", "quiet"),
    ):
        assert command(cluster, *arguments, home=home, log=log).wait(timeout=300) == 0, log.read_text()
    assert (run / "front.json").read_bytes() == (home / "quiet" / "front.json").read_bytes()


@pytest.mark.slow
def test_the_doctor_sees_the_nodes_of_a_cluster(cluster: Cluster, home: Path) -> None:
    asked = command(cluster, "doctor", "--ray", cluster.address, home=home, log=home / "log")
    assert asked.wait(timeout=180) == 0, (home / "log").read_text()
    assert re.search(r"ok +ray node .* 2 CPU; codesign .*torch \d", (home / "log").read_text())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("token", "said"),
    [("wrong" * 8, "refuses the token in RAY_AUTH_TOKEN"), ("", "wants a token, and there is none here")],
)
def test_a_wrong_token_is_one_message(cluster: Cluster, home: Path, token: str, said: str) -> None:
    environment = cluster.environment | {"RAY_AUTH_TOKEN": token, "HOME": str(home)}
    environment.pop("RAY_AUTH_TOKEN_PATH")
    environment.pop("RAY_AUTH_MODE")
    other = Cluster(address=cluster.address, environment=environment, process=cluster.process)
    ray = f"executor={{ray: {{address: '{cluster.address}'}}}}"
    refused = command(other, "run", "killed.yaml", "-o", ray, home=home, log=home / "log")
    assert refused.wait(timeout=120) == 2
    assert said in (home / "log").read_text()
    assert not (home / "runs").exists() or not list((home / "runs").iterdir())
