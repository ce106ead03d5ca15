"""Two real questions, small enough to be asked again and again: digits and a part of Fashion-MNIST.

What a trial takes is counted in processor time, twice: of its training alone (pretraining of a network that
was not used before included), and of its whole evaluation, pricing on however many chips included. Proxies as
small as these train in half a second, which is what pricing 200 chips takes.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.search_rivals import SAMPLERS, Curve, Evaluated, curve, plain_optuna
from codesign.drive import open_sweep
from codesign.executors import Finished
from codesign.files import write_json
from codesign.jobs import Answer, Job, deliver
from codesign.problem import Problem
from codesign.results import TrialResult
from codesign.run_folder import RunFolder, create
from codesign.search_space import space_of
from codesign.sections.budget import Budget
from codesign.sections.search import Fidelity, HardwareSweep, Sampler
from codesign.study_file import StudyFile
from codesign.study_reader import parse_study
from search_spaces.choice import JsonValue
from search_spaces.design import Design, design_from_json

# The quickstart's question on two small networks.
_DIGITS = """
name: digits
network: small_cnn
dataset: {name: digits}
space:
  network: {width: [0.5, 1.0], depth: 1}
  quantization: {weight_bits: [2, 3, 4, 6, 8], activation_bits: [2, 3, 4, 6, 8]}
  sparsity: {patterns: [dense, unstructured, "2:4", filter], density: [0.25, 0.5, 0.75]}
  learning: {optimizer: momentum, batch_size: 64}
  accelerator: {templates: {eyeriss_like: all, tpu_like: all, stm32f746_like: all}}
reference:
  network: {width: 1.0, depth: 1}
  accelerator: {templates: eyeriss_like}
objectives: [validation_accuracy, inference_energy_pj, inference_latency_s]
constraints: [area_mm2 <= 4, peak_memory_bytes <= 655360]
training: {pretrain_epochs: 6, epochs: 6}
budget: {trials: 100}
executor: in_process
"""

# The study `fashion_mnist` on 600 of its images and two small networks.
_FASHION = """
name: fashion_mnist_small
network: small_cnn
dataset: {name: fashion_mnist, train_examples: 600, validation_examples: 1000}
space:
  network: {width: [0.5, 1.0], depth: 1}
  quantization: {weight_bits: [2, 3, 4, 6, 8], activation_bits: [2, 3, 4, 6, 8]}
  sparsity: {patterns: [dense, unstructured, "2:4", filter], density: [0.25, 0.5, 0.75]}
  learning: {optimizer: momentum, batch_size: 64}
  accelerator: {templates: {eyeriss_like: all, tpu_like: all, stm32f746_like: all}}
reference:
  network: {width: 1.0, depth: 1}
  accelerator: {templates: eyeriss_like}
objectives: [validation_accuracy, inference_energy_pj, inference_latency_s]
constraints: [area_mm2 <= 20]
training: {pretrain_epochs: 6, epochs: 6}
budget: {trials: 60}
executor: in_process
"""
STUDIES: Mapping[str, str] = {"digits": _DIGITS, "fashion_mnist_small": _FASHION}
SHARE = 0.3  # of what plain Optuna's training took, the sweep may use

FIDELITY = Fidelity(eta=2, epochs=(2,))
SWEEP = HardwareSweep(designs=1000, shortlist=16)
SAMPLER = Sampler(name="tpe", alike=16, window=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What the search may use.

    Args:
        gate: cost is known, and constraints are checked, before training.
        cache: equal halves are trained once.
    """

    gate: bool = True
    cache: bool = True
    fidelity: Fidelity | None = None
    hardware_sweep: HardwareSweep | None = SWEEP
    sampler: Sampler = SAMPLER


VARIANTS: Mapping[str, Settings] = {
    "full": Settings(),
    "no gate": Settings(gate=False),
    "no cache": Settings(cache=False),
    "no hardware sweep": Settings(hardware_sweep=None),
    "no first designs alike": Settings(sampler=SAMPLER.model_copy(update={"alike": 0})),
    "with fidelity": Settings(fidelity=FIDELITY),
    "with predictor": Settings(sampler=SAMPLER.model_copy(update={"candidates": 32})),
}


def load(name: str, seed: int, data_root: Path | None) -> StudyFile:
    """Return one of the questions."""
    overrides = [f"seed={seed}"]
    overrides += [f"dataset.data_root={data_root}"] if data_root is not None and name != "digits" else []
    return parse_study(STUDIES[name], name, overrides)


@dataclass(slots=True)
class Measured:
    """Evaluates in this process, one job at a time, and counts processor time.

    Args:
        folder: where answers are published.
        forgetful: trained halves are not kept from one trial to the next.
        gated: trials but the reference are gated.
    """

    folder: RunFolder
    study: StudyFile
    forgetful: bool = False
    gated: bool = True
    _queue: deque[Job] = field(default_factory=deque)
    _problem: Problem | None = None

    @property
    def workers(self) -> int:
        """One."""
        return 1

    @property
    def problem(self) -> Problem:
        """What evaluates."""
        if self._problem is None:
            self._problem = Problem(self.study, self.folder.cache_path)
        return self._problem

    def describe(self) -> JsonValue:
        """Return the layers of every network."""
        return self.problem.describe_all()

    def submit(self, job: Job) -> None:
        """Queue a job."""
        self._queue.append(job)

    def wait(self, timeout_s: float) -> Finished | None:
        """Evaluate the next job."""
        if not self._queue:
            return None
        job = self._queue.popleft()
        deliver(self.folder, self.answer(job.number, design_from_json(job.design), job.stage))
        return Finished(number=job.number, stage=job.stage)

    def running(self) -> tuple[int, ...]:
        """Return nothing: between calls nothing runs."""
        return ()

    def drain(self) -> None:
        """Forget what is queued."""
        self._queue.clear()

    def close(self) -> None:
        """Nothing to stop."""

    def answer(self, number: int, design: Design, stage: int) -> Answer:
        """Evaluate one design, and put the processor time where the time of training stands."""
        if self.forgetful and stage == 0:
            for kept in (*self.folder.cache_path.glob("half-*"), *self.folder.cache_path.glob("partial-*")):
                shutil.rmtree(kept, ignore_errors=True)
        started, wall = time.process_time(), time.perf_counter()
        # The reference design, trial 0, is the one that is never gated.
        found = self.problem.answer(number if self.gated else 0, design, stage).result
        busy, wall = time.process_time() - started, time.perf_counter() - wall
        # One thread does it all, so the share of the wall time is that of the processor's.
        training = busy * min(1.0, found.seconds.get("training", 0.0) / wall)
        seconds = dict(found.seconds) | {"training": training, "total": busy}
        return Answer(result=replace(found, trial=number, seconds=seconds))


def warm_up(study: StudyFile) -> None:
    """Compile the cost model, and read what has to be read, before anything is measured."""
    quick = study.model_copy(
        update={
            "training": study.training.model_copy(update={"pretrain_epochs": 0, "epochs": 1}),
            "hardware_sweep": SWEEP,
        }
    )
    problem = Problem(quick, None)
    problem.answer(0, space_of(quick, problem.describe).reference, 0)


def plain(study: StudyFile, sampler: str) -> Curve:
    """Run plain Optuna: every design is trained to the end and priced on its own chip."""
    with tempfile.TemporaryDirectory() as name:
        folder = create(Path(name) / "run", study, "benchmark")
        bench = Measured(folder=folder, study=study, forgetful=True, gated=False)

        def evaluate(number: int, design: Design) -> Evaluated:
            result = bench.answer(number, design, 0).result
            return Evaluated(result=result, spent=result.seconds["training"], work=result.seconds["total"])

        space = space_of(study, bench.problem.describe)
        done = plain_optuna(study, space, evaluate, SAMPLERS[sampler](study.seed), trials=study.budget.trials)
    results = [one.result for one in done]
    spent, work = [one.spent for one in done], [one.work for one in done]
    return curve(results, spent, work, study.objectives, results[0])


def searched(study: StudyFile, settings: Settings, budget_s: float) -> Curve:
    """Run the sweep until so much processor time was spent on evaluation."""
    asked = study.model_copy(
        update={
            "fidelity": settings.fidelity,
            "hardware_sweep": settings.hardware_sweep,
            "sampler": settings.sampler,
            "budget": Budget(training_minutes=budget_s / 60),
        }
    )
    with tempfile.TemporaryDirectory() as name:
        folder = create(Path(name) / "run", asked, "benchmark")
        bench = Measured(folder=folder, study=asked, forgetful=not settings.cache, gated=settings.gate)
        write_json(folder.layers_path, bench.describe())
        results: list[TrialResult] = []
        with folder.driver_lock():
            open_sweep(folder, asked, bench, lambda tick: results.extend(tick.fresh)).run()
        spent = [_sum(folder, result, "training") for result in results]
        work = [_sum(folder, result, "total") for result in results]
    return curve(results, spent, work, study.objectives, results[0])


def _sum(folder: RunFolder, result: TrialResult, name: str) -> float:
    """Return the seconds of all stages of a trial."""
    answers = [folder.answer(result.trial, stage) for stage in range(result.stage + 1)]
    return sum(answer.seconds.get(name, 0.0) for answer in answers if answer is not None)
