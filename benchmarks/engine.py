"""What the sweep's engine costs, without any training: `python benchmarks/engine.py [--trials N]`.

Workers are simulated: a job is answered by a formula after a time that it would have slept. Everything else
is the real engine: the sampler, the storage, publishing, telling, the driver's own loop.

1. Cost of a trial and time to open, at N existing trials (journal file, NSGA-II).
2. 1,000 workers with trials of five minutes: how busy the driver keeps them. Time is sped up, which makes it
   harder for the driver by the same factor.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from codesign.budget import Meter
from codesign.collector import without_collector
from codesign.executors import Finished
from codesign.halving import Halving
from codesign.jobs import Answer, Job, deliver
from codesign.results import TrialResult, TrialState
from codesign.run_folder import RunFolder, create
from codesign.search_space import space_of
from codesign.sections.budget import Budget
from codesign.storage import open_storage
from codesign.study_file import StudyFile
from codesign.study_reader import parse_study
from codesign.sweep import Sweep, Tick
from codesign.trial_book import TrialBook
from search_spaces.ask import LayerInfo
from search_spaces.choice import JsonValue
from search_spaces.design import design_from_json

STUDY = """
name: engine
network: small_cnn
dataset: digits
space:
  network: {width: [0.25, 0.5, 0.75, 1.0, 1.5, 2.0], depth: [1, 2]}
  quantization: {weight_bits: [2, 3, 4, 5, 6, 7, 8], activation_bits: [2, 3, 4, 6, 8]}
  accelerator: {templates: {eyeriss_like: all, tpu_like: all}}
objectives: [validation_accuracy, inference_energy_pj, inference_latency_s]
sampler: {name: nsga2, window: WINDOW, deterministic: false}
budget: {trials: 100}
"""
LAYERS = tuple(
    LayerInfo(name=f"conv{i}", kind="conv2d", weight_shape=(8, 4, 3, 3)) for i in range(4)
)  # with two bit-widths each, and the network's and the chip's: about as many knobs as a small study has


class SleepingWorkers:
    """Answers every job when its time is over, as so many workers would.

    Args:
        seconds: what a trial takes on average; each takes 0.8 to 1.2 times that.
    """

    def __init__(self, folder: RunFolder, workers: int, seconds: float) -> None:
        self.folder, self.workers, self.seconds = folder, workers, seconds
        self.rng = random.Random(0)
        self.queue: list[Job] = []
        self.flying: list[tuple[float, int, Job]] = []
        self.idle_s = 0.0
        self.formula_s = 0.0  # processor time of what workers would do
        self._free = [time.monotonic()] * workers

    def describe(self) -> JsonValue:
        """Return nothing: the benchmark describes its layers itself."""
        return []

    def submit(self, job: Job) -> None:
        """Start the job on a free worker, or queue it."""
        self.queue.append(job)
        self._feed()

    def _feed(self) -> None:
        now = time.monotonic()
        while self.queue and self._free:
            self.idle_s += now - self._free.pop()
            job = self.queue.pop(0)
            ends = now + self.seconds * self.rng.uniform(0.8, 1.2)
            heapq.heappush(self.flying, (ends, job.number, job))

    def wait(self, timeout_s: float) -> Finished | None:
        """Return the next job whose time is over."""
        self._feed()
        if not self.flying:
            return None
        ends, number, job = self.flying[0]
        left = ends - time.monotonic()
        if left > 0:
            time.sleep(min(left, timeout_s))
            if left > timeout_s:
                return None
        heapq.heappop(self.flying)
        self._free.append(ends)  # it waits from the moment at which it was done
        began = time.process_time()
        result = _result(job)
        self.formula_s += time.process_time() - began
        deliver(self.folder, Answer(result=result))
        return Finished(number=number, stage=job.stage)

    def running(self) -> tuple[int, ...]:
        """Return the trials in flight."""
        return tuple(number for _, number, _ in self.flying)

    def drain(self) -> None:
        """Forget what is queued."""
        self.queue.clear()

    def close(self) -> None:
        """Nothing to stop."""


def _result(job: Job) -> TrialResult:
    design = design_from_json(job.design)
    rng = random.Random(job.number)
    size = design.network.width * (1 + rng.random())
    scores = {
        "validation_accuracy": (1 - 1 / (2 + size)) * rng.uniform(0.5, 1.0),
        "inference_energy_pj": 1e6 * size,
        "inference_latency_s": 1e-3 * size * rng.random(),
    }
    return TrialResult(
        trial=job.number, state=TrialState.COMPLETED, design=job.design, scores=scores, stage=job.stage
    )


def sweep_of(
    folder: RunFolder, study: StudyFile, executor: SleepingWorkers, watch: Callable[[Tick], None]
) -> Sweep:
    """Return a sweep with the real book and storage over simulated workers."""
    with without_collector():
        storage = open_storage("journal", folder.journal_path)
        book = TrialBook(study, space_of(study, lambda network: LAYERS), storage)
    return Sweep(
        folder=folder,
        book=book,
        executor=executor,
        halving=Halving(study=study),
        meter=Meter(study=study),
        window=study.sampler.window,
        ordered=study.sampler.deterministic,
        watch=watch,
    )


def study_of(trials: int, window: int) -> StudyFile:
    """Return the study with a budget and a window."""
    study = parse_study(STUDY.replace("WINDOW", str(window)), "engine.yaml")
    return study.model_copy(update={"budget": Budget(trials=trials)})


@dataclass(slots=True)
class Moments:
    """When a sweep had replayed what was there, and when it ended, after its beginning.

    Args:
        replayed: wall and processor time until then, in seconds.
        ended: the same of the end.
    """

    began: tuple[float, float] = field(default_factory=lambda: (time.perf_counter(), time.process_time()))
    replayed: tuple[float, float] | None = None
    ended: tuple[float, float] = (0.0, 0.0)

    def note(self) -> None:
        """Remember now; the sweep displays itself first when everything that there was is told."""
        self.ended = (time.perf_counter() - self.began[0], time.process_time() - self.began[1])
        self.replayed = self.replayed or self.ended


def grow(folder: RunFolder, trials: int) -> Moments:
    """Run up to `trials` trials that take no time; return what it took."""
    study, moments, workers = study_of(trials, 8), Moments(), SleepingWorkers(folder, 8, 0.0)
    if not sweep_of(folder, study, workers, lambda tick: moments.note()).run():
        raise SystemExit("the sweep stopped before its end")
    moments.note()
    wall_s, cpu_s = moments.ended
    moments.ended = (wall_s - workers.formula_s, cpu_s - workers.formula_s)
    return moments


def engine_cost(existing: int, more: int) -> dict[str, float]:
    """Measure at `existing` trials: opening and replaying the study, and each of `more` trials."""
    with tempfile.TemporaryDirectory() as home:
        folder = create(Path(home) / "run", study_of(existing, 8), "benchmark")
        filled = grow(folder, existing)
        grown = grow(folder, existing + more)
    if grown.replayed is None:
        raise SystemExit("the sweep never displayed itself")
    wall_s, cpu_s = (end - replayed for end, replayed in zip(grown.ended, grown.replayed, strict=True))
    return {
        "existing_trials": existing,
        "open_and_replay_s": grown.replayed[0],
        "cpu_open_and_replay_s": grown.replayed[1],
        "ms_per_trial_while_filling": 1000 * filled.ended[0] / existing,
        "ms_per_trial_at_existing": 1000 * wall_s / more,
        "cpu_ms_per_trial_at_existing": 1000 * cpu_s / more,
    }


def many_workers(workers: int, minutes: float, speed: float, rounds: int) -> dict[str, float]:
    """Measure how busy simulated workers are, with the trials' time divided by `speed`."""
    trials = workers * rounds
    with tempfile.TemporaryDirectory() as home:
        study = study_of(trials, workers)
        folder = create(Path(home) / "run", study, "benchmark")
        executor = SleepingWorkers(folder, workers, 60 * minutes / speed)
        cpu, started = time.process_time(), time.perf_counter()
        sweep_of(folder, study, executor, lambda tick: None).run()
        wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    busy_s = trials * 60 * minutes / speed
    return {
        "workers": workers,
        "trial_minutes": minutes,
        "speed": speed,
        "trials": trials,
        "wall_s": wall_s,
        "idle_share_between_trials": executor.idle_s / (executor.idle_s + busy_s),
        "driver_cpu_share": cpu_s / wall_s,
        "driver_cpu_share_at_real_speed": cpu_s / wall_s / speed,
    }


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trials", type=int, default=10_000, help="existing trials (default 10,000)")
    parser.add_argument("--more", type=int, default=200, help="trials measured beyond them")
    parser.add_argument("--workers", type=int, default=1_000)
    parser.add_argument("--speed", type=float, default=10.0, help="time is divided by this")
    given = parser.parse_args()
    found = {
        "engine": engine_cost(given.trials, given.more),
        "workers": many_workers(given.workers, 5.0, given.speed, 4),
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
