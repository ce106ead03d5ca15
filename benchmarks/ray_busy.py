"""How busy a sweep keeps the workers of a Ray cluster: real engine and executor, trials that sleep a second.

    python benchmarks/ray_busy.py [--address local] [--workers 4] [--trials 240]

Prints the share of the workers' time in which they evaluate: in the steady state (between the tenth part of
the trials and the last tenth), and of the whole session with the starting of the workers. The trials
sleep and answer with a function of the design, so that nothing but the engine and Ray is measured.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from codesign.drive import open_sweep
from codesign.executors.ray_cluster import RayCluster
from codesign.files import write_json
from codesign.jobs import Answer, Job
from codesign.results import TrialResult, TrialState
from codesign.run_folder import create
from codesign.study_reader import parse_study
from codesign.worker import Worker
from evaluators.cache import Entry
from search_spaces.choice import JsonValue
from search_spaces.design import design_from_json, fingerprint

SLEEP_S = 1.0
GOAL = 0.95
STUDY = """
name: ray_busy
network: small_cnn
dataset: digits
space:
  network: {{width: [0.5, 0.75, 1.0], depth: [1, 2]}}
  quantization: {{weight_bits: [2, 3, 4, 6, 8], activation_bits: [2, 4, 8]}}
  accelerator: {{templates: {{eyeriss_like: {{pe_rows: [8, 12]}}}}}}
objectives: [validation_accuracy, inference_energy_pj]
budget: {{trials: {trials}}}
sampler: {{name: nsga2, window: {window}}}
executor: {{ray: {{address: "{address}", workers: {workers}, cpus_per_trial: {cpus}}}}}
"""


class Sleeper:
    """Evaluates a design by sleeping."""

    def __init__(self, study: object, *, cache: Path, directory: str) -> None:
        self._worker = Worker(study, cache=cache, directory=directory)  # type: ignore[arg-type]

    def warm_up(self) -> None:
        """Load nothing: nothing is trained."""

    def describe(self) -> JsonValue:
        """Return the layers of the study's networks."""
        return self._worker.describe()

    def entries(self, job: Job) -> tuple[Entry, ...]:
        """Return nothing: nothing is trained."""
        return ()

    def evaluate(self, job: Job) -> Answer:
        """Sleep, and answer with numbers drawn from the design's own hash."""
        began = time.time()
        time.sleep(SLEEP_S)
        value = int(fingerprint(design_from_json(job.design))[:8], 16) / 16**8
        return Answer(
            result=TrialResult(
                trial=job.number,
                state=TrialState.COMPLETED,
                design=job.design,
                scores={"validation_accuracy": value, "inference_energy_pj": 1 + (7919 * value) % 1},
                seconds={"total": time.time() - began, "began": began},
            )
        )


def busy_share(spans: list[tuple[float, float]], workers: int, since: float, until: float) -> float:
    """Return which part of the workers' time between two moments lies in the spans."""
    inside = sum(max(0.0, min(end, until) - max(begin, since)) for begin, end in spans)
    return inside / (workers * (until - since))


def main() -> None:
    """Sweep, and print the shares."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--address", default="local")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--cpus", type=float, default=0.5, help="cores kept for a worker; it only sleeps")
    parser.add_argument("--trials", type=int, default=240)
    arguments = parser.parse_args()
    text = STUDY.format(
        trials=arguments.trials,
        window=4 * arguments.workers,
        address=arguments.address,
        workers=arguments.workers,
        cpus=arguments.cpus,
    )
    study = parse_study(text, "ray_busy")
    settings = study.executor.ray
    if settings is None:
        raise SystemExit("the study names no cluster")
    with tempfile.TemporaryDirectory() as base:
        folder = create(Path(base) / "run", study, command="ray_busy")
        executor = RayCluster(folder, settings, make=Sleeper)
        try:
            write_json(folder.layers_path, executor.describe())
            begun = time.time()
            with folder.driver_lock():
                open_sweep(folder, study, executor, lambda tick: None).run()
            ended = time.time()
        finally:
            executor.close()
        seconds = [result.seconds for result in folder.results()]
    spans = sorted((one["began"], one["began"] + one["total"]) for one in seconds)
    tenth = len(spans) // 10
    steady = busy_share(spans, arguments.workers, spans[tenth][0], spans[-tenth - 1][0])
    whole = busy_share(spans, arguments.workers, begun, ended)
    print(json.dumps({"workers": arguments.workers, "trials": len(spans), "steady": steady, "whole": whole}))
    print(
        f"busy {100 * steady:.1f} % in the steady state (goal {100 * GOAL:.0f} %), {100 * whole:.1f} % in all"
    )


if __name__ == "__main__":
    main()
