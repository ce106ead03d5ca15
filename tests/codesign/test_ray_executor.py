"""The Ray executor over a cluster of threads: what it decides, without Ray's own seconds of starting."""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from codesign.errors import ClusterError, CodesignError, StudyFileError
from codesign.executors import ray_cluster
from codesign.executors.parcels import pack, stamps, unpack
from codesign.executors.protocol import Finished
from codesign.executors.ray_cluster import RayCluster, names_user_code
from codesign.executors.ray_connection import WorkerFailedError, WorkerLostError
from codesign.executors.ray_worker import LOOK_S, Order, RayWorker, cache_of
from codesign.jobs import Answer, Job
from codesign.layers import layers_to_json
from codesign.ray_probe import endpoint, explain, probe
from codesign.run_folder import RunFolder, create
from codesign.sections.executor import RayCluster as Settings
from codesign.study_file import StudyFile
from codesign.study_reader import parse_study
from codesign.worker import Worker
from evaluators.cache import CHECKPOINT, FACTS, WEIGHTS, Entry, Kind
from search_spaces.choice import JsonValue
from tests.codesign.conftest import STUDY, FormulaExecutor, formula_result
from tests.codesign.test_sweep import drawn, sweep_of, uninterrupted


class Formula:
    """Evaluates a job by formula, and leaves a trace of training in its cache."""

    def __init__(self, study: StudyFile, *, cache: Path, directory: str) -> None:
        self._cache = cache

    def warm_up(self) -> None:
        pass

    def describe(self) -> JsonValue:
        return layers_to_json({})

    def entries(self, job: Job) -> tuple[Entry, ...]:
        return (Entry(folder=self._cache, kind=Kind.HALF, digest=f"{job.number}"),)

    def evaluate(self, job: Job) -> Answer:
        return Answer(result=formula_result(job))


class Checkpointed(Formula):
    """Trains a job for ever, one checkpoint at once, unless it finds a checkpoint to go on from."""

    def evaluate(self, job: Job) -> Answer:
        entry = self.entries(job)[0]
        if not entry.checkpoint.is_file():
            entry.partial.mkdir(parents=True)
            entry.checkpoint.write_bytes(b"epoch 1")
            time.sleep(3 * LOOK_S)
        return super().evaluate(job)


class Slow(Formula):
    def evaluate(self, job: Job) -> Answer:
        time.sleep(3 * LOOK_S)
        return super().evaluate(job)


class Threads:
    """A cluster whose workers are threads; a worker can be lost, and the whole cluster too."""

    def __init__(self, room: int = 3) -> None:
        self.free = room
        self.there = True
        self.fired: list[object] = []
        self.lost: set[object] = set()
        self.pools: dict[object, ThreadPoolExecutor] = {}
        self.owners: dict[Future[object], object] = {}
        self.sent: Path | None = None

    def open(self, settings: Settings, sent: Path | None) -> Threads:
        self.sent = sent
        return self

    def room(self) -> int:
        return self.free

    def hire(self, order: Order) -> object:
        pool = ThreadPoolExecutor(max_workers=1)
        made = pool.submit(RayWorker, order, lambda value: value)
        self.pools[made] = pool
        return made

    def ask(self, worker: Any, method: str, *values: object) -> object:
        asked = self.pools[worker].submit(lambda: getattr(worker.result(), method)(*values))
        self.owners[asked] = worker
        return asked

    def first(self, asked: Sequence[Any], timeout_s: float) -> object | None:
        gone = [one for one in asked if self.owners[one] in self.lost]
        done = gone or list(wait(asked, timeout=timeout_s, return_when=FIRST_COMPLETED).done)
        return done[0] if done else None

    def answer(self, asked: Any) -> object:
        if self.owners[asked] in self.lost:
            raise WorkerLostError("killed")
        try:
            return asked.result()
        except Exception as error:
            raise WorkerFailedError(f"{type(error).__name__}: {error}") from None

    def put(self, value: object) -> object:
        return value

    def fire(self, worker: object) -> None:
        self.fired.append(worker)
        self.lost.add(worker)

    def is_there(self) -> bool:
        return self.there

    def close(self) -> None:
        for pool in self.pools.values():
            pool.shutdown(cancel_futures=True)


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))


@pytest.fixture
def cluster() -> Iterator[Threads]:
    threads = Threads()
    yield threads
    threads.close()


def executor_of(folder: RunFolder, cluster: Threads, make: Any = Formula, **settings: Any) -> RayCluster:
    return RayCluster(folder, Settings(**settings), make=make, open_connection=cluster.open)


def job_of(folder: RunFolder, study: StudyFile) -> Job:
    executor = FormulaExecutor(folder)
    sweep_of(folder, study, executor)._draw()
    return executor.queue[0]


def until_over(executor: RayCluster) -> Finished:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        finished = executor.wait(0.2)
        if finished is not None:
            return finished
    raise AssertionError("nothing finished")


def test_a_sweep_on_a_cluster_draws_what_a_sweep_here_draws(
    tmp_path: Path, folder: RunFolder, study: StudyFile, cluster: Threads
) -> None:
    executor = executor_of(folder, cluster)
    assert executor.describe() == []
    assert sweep_of(folder, study, executor).run()  # type: ignore[arg-type]
    executor.close()
    assert drawn(folder) == uninterrupted(tmp_path / "here", study)
    assert executor.workers == 3
    assert not list((tmp_path / "tmp").iterdir())  # the node's cache is cleared


def test_more_workers_than_the_window_are_never_hired(
    folder: RunFolder, study: StudyFile, cluster: Threads
) -> None:
    cluster.free = 100
    assert executor_of(folder, cluster).workers == study.sampler.window
    assert executor_of(folder, cluster, workers=2).workers == 2


def test_a_lost_worker_is_replaced_and_its_job_goes_on_from_the_checkpoint(
    folder: RunFolder, study: StudyFile, cluster: Threads, tmp_path: Path
) -> None:
    job = job_of(folder, study)
    cluster.free = 1
    executor = executor_of(folder, cluster, Checkpointed)
    executor.submit(job)
    kept = folder.cache_path / f"partial-{job.number}" / CHECKPOINT
    deadline = time.monotonic() + 30
    while not kept.is_file() and time.monotonic() < deadline:
        assert executor.wait(0.1) is None
    assert kept.read_bytes() == b"epoch 1"
    cluster.lost.update(cluster.pools)
    finished = until_over(executor)
    assert finished.crash == "its worker died (killed)"
    assert finished.again
    cache = cache_of(str(folder.manifest()["run_id"]))
    (cache / f"partial-{job.number}" / CHECKPOINT).unlink()  # as on another node
    executor.submit(job)
    started = time.monotonic()
    assert until_over(executor).crash is None
    assert time.monotonic() - started < 3 * LOOK_S  # it did not begin again
    assert (cache / f"partial-{job.number}" / CHECKPOINT).read_bytes() == b"epoch 1"
    executor.close()
    assert folder.result(job.number) is not None


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"trial_minutes": 0.001}, "stopped after 0.001 minutes, the limit of a trial"),
        ({"trial_memory_bytes": 2**20}, "MiB of memory; the limit of a trial is 1 MiB"),
    ],
)
def test_a_job_beyond_a_limit_is_stopped_and_not_tried_again(
    folder: RunFolder, study: StudyFile, cluster: Threads, limits: dict[str, float], said: str
) -> None:
    job = job_of(folder, study)
    executor = executor_of(folder, cluster, Slow, **limits)
    executor.submit(job)
    finished = until_over(executor)
    assert said in str(finished.crash)
    assert not finished.again
    assert len(cluster.fired) == 1
    executor.close()


def test_what_is_queued_is_forgotten_and_what_runs_is_not(
    folder: RunFolder, study: StudyFile, cluster: Threads
) -> None:
    job = job_of(folder, study)
    cluster.free = 1
    executor = executor_of(folder, cluster)
    executor.submit(job)
    executor.submit(Job(number=7, stage=0, design=job.design))
    while not executor.running():
        assert executor.wait(0.0) is None
    executor.drain()
    assert executor.running() == (0,)
    assert until_over(executor).number == 0
    assert executor.wait(0.1) is None
    executor.close()


def test_a_cluster_without_room_says_what_a_trial_needs(folder: RunFolder, cluster: Threads) -> None:
    cluster.free = 0
    with pytest.raises(ClusterError, match=r"no node .* has room for one trial \(4 CPU, 1 GPU\)"):
        executor_of(folder, cluster, cpus_per_trial=4, gpus_per_trial=1)


def test_a_full_cluster_is_one_message_after_a_while(
    folder: RunFolder, cluster: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_cluster, "START_S", 0.1)
    monkeypatch.setattr(ray_cluster, "_LOOK_S", 0.0)
    hold = threading.Event()
    executor = executor_of(folder, cluster, partial(_waits, hold))
    with pytest.raises(ClusterError, match=r"no worker could start .* within 0 minutes"):
        executor.describe()
    hold.set()


def _waits(hold: threading.Event, study: StudyFile, *, cache: Path, directory: str) -> Formula:
    if cache.name != "cache":  # on a node, not in the driver's books
        hold.wait(10)
    return Formula(study, cache=cache, directory=directory)


def test_a_lost_cluster_is_one_message(
    folder: RunFolder, cluster: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_cluster, "_LOOK_S", 0.0)
    executor = executor_of(folder, cluster)
    cluster.there = False
    with pytest.raises(ClusterError, match=r"was lost .* `cosearch resume` goes on"):
        executor.wait(30)


def test_workers_that_die_at_their_start_are_one_message(folder: RunFolder, cluster: Threads) -> None:
    def broken(study: StudyFile, *, cache: Path, directory: str) -> Formula:
        if cache.name != "cache":
            raise ModuleNotFoundError("No module named 'my_module'")
        return Formula(study, cache=cache, directory=directory)

    executor = executor_of(folder, cluster, broken)
    with pytest.raises(ClusterError, match=r"die at their start: .*No module named 'my_module'"):
        executor.describe()


def test_a_network_that_cannot_be_described_is_one_message(folder: RunFolder, cluster: Threads) -> None:
    class Undescribed(Formula):
        def describe(self) -> JsonValue:
            raise ValueError("no such data")

    executor = executor_of(folder, cluster, Undescribed)
    with pytest.raises(CodesignError, match="no such data"):
        executor.describe()
    executor.close()


def test_only_a_study_that_names_user_code_sends_the_users_folder(
    tmp_path: Path, study: StudyFile, cluster: Threads
) -> None:
    own = parse_study(STUDY.replace("network: small_cnn", "network: my_module:build"), "own")
    assert names_user_code(own)
    assert not names_user_code(study)
    executor_of(create(tmp_path / "own", own, command="test"), cluster)
    assert cluster.sent == Path.cwd()


def test_two_executors_are_refused(study: StudyFile) -> None:
    text = study.to_yaml()
    with pytest.raises(StudyFileError, match="one executor evaluates a run, but got local and ray"):
        parse_study(text, "two", ["executor.ray={}"])
    assert parse_study(text, "one", ["executor=ray"]).executor.ray == Settings()


def test_the_entries_of_a_job_are_those_that_training_fills(tmp_path: Path, study: StudyFile) -> None:
    folder = create(tmp_path / "run", study, command="test")
    pretrained, half = Worker(study, cache=tmp_path / "c", directory="").entries(job_of(folder, study))
    assert (pretrained.kind, half.kind) == (Kind.PRETRAINED, Kind.HALF)
    bench = Worker(study, cache=tmp_path / "c", directory="")._problem().bench
    from search_spaces.design import design_from_json

    design = design_from_json(job_of(create(tmp_path / "r", study, command="test"), study).design)
    assert bench.half_path(design.algorithm) == half.home


def whole(folder: Path, digest: str = "a", weights: float = 1.0) -> Entry:
    import torch
    from safetensors.torch import save_file

    entry = Entry(folder=folder, kind=Kind.PRETRAINED, digest=digest)
    entry.home.mkdir(parents=True)
    save_file({"w": torch.full((2,), weights)}, entry.home / WEIGHTS)
    (entry.home / FACTS).write_text("{}")
    return entry


def test_a_finished_thing_arrives_whole_and_the_first_stays(tmp_path: Path) -> None:
    first, second = whole(tmp_path / "one"), whole(tmp_path / "two", weights=2.0)
    target = Entry(folder=tmp_path / "driver", kind=Kind.PRETRAINED, digest="a")
    target.partial.mkdir(parents=True)
    for entry in (first, second):
        parcel = pack(entry)
        assert parcel is not None
        unpack(target, parcel)
    assert (target.home / WEIGHTS).read_bytes() == (first.home / WEIGHTS).read_bytes()
    assert not target.partial.exists()
    (first.home / "facts-2.json").write_text("{}")  # the facts of a stage that was asked for later
    later = pack(first, stamps(target) | {p: s for p, s in stamps(first).items() if "facts-2" not in p.name})
    assert later is not None
    assert list(later.files) == ["facts-2.json"]
    unpack(target, later)
    assert (target.home / "facts-2.json").is_file()


def test_an_older_checkpoint_does_not_replace_a_newer_one(tmp_path: Path) -> None:
    parcels = []
    for name in ("old", "new"):
        entry = Entry(folder=tmp_path / name, kind=Kind.HALF, digest="a")
        entry.partial.mkdir(parents=True)
        entry.checkpoint.write_bytes(name.encode())
        parcels.append(pack(entry))
        time.sleep(0.01)
    old, new = parcels
    assert old is not None
    assert new is not None
    target = Entry(folder=tmp_path / "driver", kind=Kind.HALF, digest="a")
    for parcel in (old, new, old):
        unpack(target, parcel)
    assert target.checkpoint.read_bytes() == b"new"
    assert pack(target, stamps(target)) is None


def test_a_parcel_for_a_finished_thing_in_the_making_changes_nothing(tmp_path: Path) -> None:
    making = Entry(folder=tmp_path / "making", kind=Kind.PRETRAINED, digest="a")
    making.partial.mkdir(parents=True)
    making.checkpoint.write_bytes(b"epoch 1")
    parcel = pack(making)
    assert parcel is not None
    target = whole(tmp_path / "driver")
    unpack(target, parcel)
    assert not target.partial.exists()


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            "... InvalidAuthToken: Authentication token is missing",
            "wants a token, and there is none here: copy ~/.ray/auth_token",
        ),
        (
            "RuntimeError: Version mismatch: The cluster was started with:\n Ray: 2.50",
            "another version: Version",
        ),
        ("ValueError: Ray Client requires pip package `ray[client]`.", r"pip install 'ray\[client\]=="),
        ("ConnectionError: Could not find any running Ray instance.", "no Ray cluster runs on this machine"),
        ("", r"does not answer \(no reason given\)"),
    ],
)
def test_what_ray_says_becomes_one_message_with_a_way_out(
    said: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ClusterError, match=message):
        raise ClusterError(explain("10.0.0.1:6379", said))


def test_a_port_where_nobody_listens_is_said_at_once() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        started = time.monotonic()
        with pytest.raises(ClusterError, match=rf"nobody listens at 127.0.0.1:{port}"):
            probe(f"127.0.0.1:{port}")
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("10.0.0.1:6379", ("10.0.0.1", 6379)),
        ("ray://head:10001", ("head", 10001)),
        ("ray://[fe80::1]:10001", ("fe80::1", 10001)),
        ("local", None),
    ],
)
def test_an_address_is_read(address: str, place: object) -> None:
    assert endpoint(address) == place


@pytest.mark.parametrize("address", ["head", "http://head:1", "head:port"])
def test_another_form_of_address_is_refused(address: str) -> None:
    with pytest.raises(ClusterError, match=r"a Ray address is auto, local, HOST:PORT or ray://HOST:PORT"):
        endpoint(address)


def test_what_a_cluster_says_of_itself_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [
        {"address": "10.0.0.1", "resources": {"CPU": 2.0}, "versions": {"torch": "2.13.0"}},
        {"address": "10.0.0.2", "resources": {}, "problem": "ModuleNotFoundError: codesign"},
    ]
    said = (
        f"chatter\ncodesign-ray-probe {json.dumps({'ray': '2.60.0', 'python': '3.11.7', 'nodes': nodes})}\n"
    )
    asked: list[str] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.extend(command)
        return subprocess.CompletedProcess(command, 0, said, "")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    facts = probe("auto", on_nodes=True)
    assert asked[-2:] == ["auto", "nodes"]
    assert facts.nodes[0].versions == {"torch": "2.13.0"}
    assert facts.nodes[1].problem == "ModuleNotFoundError: codesign"


def test_a_cluster_that_never_answers_is_one_message_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        raise subprocess.TimeoutExpired(command, 1.0, stderr=b"")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ClusterError, match=r"does not answer \(no answer in 1 s\)"):
        probe("auto", timeout_s=1.0)
