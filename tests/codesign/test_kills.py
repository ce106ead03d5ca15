"""SIGKILL at random moments, of the driver and of its workers: the run ends as if nothing had happened."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import psutil
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from codesign.run_folder import RunFolder, create
from codesign.sections.search import Fidelity, HardwareSweep, Sampler
from codesign.storage import open_storage
from codesign.study_file import StudyFile
from tests.codesign.servers import SERVERS

ROOT = Path(__file__).parents[2]
KILLS = 50  # of the driver, and as many of workers
DATABASE_KILLS = {"postgresql": 5, "mysql": 2, "redis": 2}
TRIALS = 60


def the_study(study: StudyFile, **changes: object) -> StudyFile:
    return study.model_copy(
        update={
            "budget": study.budget.model_copy(update={"trials": TRIALS}),
            "sampler": Sampler(name="nsga2", population=8, window=5),
            "fidelity": Fidelity(eta=2, epochs=(1,)),
            "hardware_sweep": HardwareSweep(designs=4, told=1),
            **changes,
        }
    )


def start_driver(folder: RunFolder) -> subprocess.Popen[bytes]:
    with (folder.path / "driver.out").open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.codesign.formula_driver", str(folder.path)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=out,
            stderr=out,
        )


def said(folder: RunFolder) -> str:
    return (folder.path / "driver.out").read_text(errors="replace")[-3000:]


def finish(folder: RunFolder) -> None:
    assert start_driver(folder).wait(timeout=300) == 0, said(folder)


def kill_workers(driver: subprocess.Popen[bytes], rng: random.Random, most: int) -> int:
    """Kill up to `most` of a driver's workers, one after the other; return how many were killed.

    They stand apart in time, for a trial that loses three workers is given up, as it should be.
    """
    killed = 0
    try:
        process = psutil.Process(driver.pid)
        while killed < most:
            while not (workers := process.children()):
                time.sleep(0.02)
            time.sleep(rng.uniform(0.3, 2.0))
            rng.choice(workers).kill()
            killed += 1
    except psutil.Error:  # the driver was done before
        pass
    return killed


def sweep_under_fire(
    home: Path, study: StudyFile, expected: bytes, *, driver_kills: int, worker_kills: int
) -> None:
    """Run the study again and again until so many kills were done; each run must end as the quiet one."""
    rng = random.Random(2026)
    for run in itertools.count():
        folder = create(home / f"run-{run}", study, command="test")
        done = False
        while not done:
            driver = start_driver(folder)
            if worker_kills > 0 and rng.random() < 0.5:
                worker_kills -= kill_workers(driver, rng, min(3, worker_kills))
                time.sleep(1.0)
            try:
                driver.wait(timeout=rng.uniform(0.1, 4.0) if driver_kills > 0 else 300)
            except subprocess.TimeoutExpired:
                driver.send_signal(signal.SIGKILL)
                driver_kills -= 1
            done = driver.wait() == 0
            assert done or driver.returncode == -signal.SIGKILL, said(folder)
        check(folder, study, expected)
        if driver_kills <= 0 and worker_kills <= 0:
            return


def check(folder: RunFolder, study: StudyFile, expected: bytes) -> None:
    """Every trial once, none left running, and the quiet run's front, byte for byte."""
    storage = open_storage(study.storage, folder.journal_path)
    trials = optuna.load_study(study_name=folder.storage_name(study), storage=storage).get_trials()
    if isinstance(storage, RDBStorage):
        storage.engine.dispose()
    assert [trial.number for trial in trials] == list(range(TRIALS))
    assert all(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials)
    assert [result.trial for result in folder.results()] == list(range(TRIALS))
    assert folder.front_path.read_bytes() == expected


def quiet_front(home: Path, study: StudyFile) -> bytes:
    folder = create(home / "quiet", study, command="test")
    finish(folder)
    return folder.front_path.read_bytes()


def test_one_kill_of_the_driver_and_one_of_a_worker_change_nothing(tmp_path: Path, study: StudyFile) -> None:
    study = the_study(study)
    sweep_under_fire(tmp_path, study, quiet_front(tmp_path, study), driver_kills=1, worker_kills=1)


@pytest.mark.slow
def test_fifty_kills_of_the_driver_and_fifty_of_workers_change_nothing(
    tmp_path: Path, study: StudyFile
) -> None:
    study = the_study(study)
    quiet = quiet_front(tmp_path, study)
    sweep_under_fire(tmp_path, study, quiet, driver_kills=KILLS, worker_kills=KILLS)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SERVERS)
def test_kills_change_nothing_on_a_database_either(tmp_path: Path, study: StudyFile, kind: str) -> None:
    kills = int(os.environ.get("CODESIGN_DATABASE_KILLS", DATABASE_KILLS[kind]))
    study = the_study(study)
    expected = quiet_front(tmp_path, study)
    with SERVERS[kind]() as address:
        there = the_study(study, storage=address)
        sweep_under_fire(tmp_path, there, expected, driver_kills=kills, worker_kills=kills)
