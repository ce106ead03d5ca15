"""A study whose trials cost nothing: the real engine over a formula instead of training."""

from __future__ import annotations

import random
from collections import deque
from pathlib import Path

import pytest

from codesign.executors import Finished
from codesign.jobs import Answer, Job, deliver
from codesign.layers import layers_to_json
from codesign.results import HardwarePoint, TrialResult, TrialState, Violation
from codesign.run_folder import RunFolder, create
from codesign.study_file import StudyFile
from codesign.study_reader import parse_study
from search_spaces.accelerator import accelerator_choice
from search_spaces.ask import LayerInfo
from search_spaces.choice import JsonValue, to_json
from search_spaces.design import design_from_json
from search_spaces.quantization import UniformQuantization

STUDY = """
name: formula
network: small_cnn
dataset: digits
space:
  network: {width: [0.5, 0.75, 1.0], depth: [1, 2]}
  quantization: {weight_bits: [2, 3, 4, 6, 8], activation_bits: [2, 4, 8]}
  sparsity: {patterns: [dense, unstructured], density: [0.25, 0.5]}
  accelerator: {templates: {eyeriss_like: {pe_rows: [8, 12]}, tpu_like: {}}}
objectives: [validation_accuracy, inference_energy_pj]
constraints: [inference_energy_pj <= 14]
budget: {trials: 40}
sampler: {name: nsga2, population: 8, window: 5}
"""


class FormulaExecutor:
    """Finishes jobs in a shuffled order, as slow and fast workers would."""

    def __init__(
        self,
        folder: RunFolder,
        *,
        workers: int = 2,
        seed: int = 0,
        failing: frozenset[int] = frozenset(),
        stages: int = 1,
        chips: int = 0,
    ):
        self.folder, self.workers, self.failing = folder, workers, failing
        self.stages, self.chips = stages, chips
        self.rng = random.Random(seed)
        self.queue: deque[Job] = deque()
        self.evaluated: list[tuple[int, int]] = []
        self.crash_once: set[int] = set()
        self.die_after: int | None = None

    def describe(self) -> JsonValue:
        return layers_to_json({})

    def submit(self, job: Job) -> None:
        self.queue.append(job)

    def wait(self, timeout_s: float) -> Finished | None:
        if not self.queue:
            return None
        if self.die_after is not None and len(self.evaluated) >= self.die_after:
            raise KeyboardInterrupt
        position = self.rng.randrange(min(self.workers, len(self.queue)))
        job = self.queue[position]
        del self.queue[position]
        if job.number in self.crash_once:
            self.crash_once.discard(job.number)
            return Finished(number=job.number, stage=job.stage, crash="its worker process died (signal 9)")
        self.evaluated.append((job.number, job.stage))
        result = formula_result(job, stages=self.stages, chips=self.chips, failing=self.failing)
        deliver(self.folder, Answer(result=result))
        return Finished(number=job.number, stage=job.stage)

    def running(self) -> tuple[int, ...]:
        return tuple(job.number for job in list(self.queue)[: self.workers])

    def drain(self) -> None:
        self.queue.clear()

    def close(self) -> None:
        self.queue.clear()


def formula_result(
    job: Job, *, stages: int = 1, chips: int = 0, failing: frozenset[int] = frozenset()
) -> TrialResult:
    design = design_from_json(job.design)
    if job.number in failing:
        return TrialResult(
            trial=job.number, state=TrialState.FAILED, design=job.design, reason="NaN loss", stage=job.stage
        )
    bits = [c.weight_bits for la in design.layers for c in la.choices if isinstance(c, UniformQuantization)]
    energy = design.network.width * sum(bits) + (3 if design.accelerator.template == "tpu_like" else 0)
    accuracy = (1 - 1 / (1 + energy)) * (job.stage + 1) / stages
    excess = (energy - 14) / 14
    broken = (
        (Violation(constraint="inference_energy_pj <= 14", value=energy, bound=14, excess=excess),)
        if excess > 0
        else ()
    )
    gated = bool(broken) and job.number > 0
    scores = {"inference_energy_pj": energy} | (
        {} if gated else {"validation_accuracy": accuracy, "test_accuracy": accuracy}
    )
    partial = not gated and job.stage < stages - 1
    return TrialResult(
        trial=job.number,
        state=TrialState.GATED if gated else TrialState.PARTIAL if partial else TrialState.COMPLETED,
        design=job.design,
        scores=scores,
        violations=broken,
        margins={"inference_energy_pj <= 14": excess},
        seconds={"training": 0.0 if gated else 60.0, "total": 60.0},
        stage=job.stage,
        hardware=() if gated else tuple(_chip(energy, accuracy, number) for number in range(chips)),
    )


def _chip(energy: float, accuracy: float, number: int) -> HardwarePoint:
    """One more chip, which needs a little less energy for every number."""
    choice = accelerator_choice("eyeriss_like", {"pe_rows": 8 if number % 2 else 12})
    return HardwarePoint(
        accelerator=to_json(choice),
        knobs={"accelerator.template": "eyeriss_like"},
        scores={
            "inference_energy_pj": energy - 0.01 * (1 + number),
            "validation_accuracy": accuracy,
            "test_accuracy": accuracy,
        },
        margins={"inference_energy_pj <= 14": -0.5},
    )


def describe_formula(network: object) -> tuple[LayerInfo, ...]:
    depth = network.depth  # type: ignore[attr-defined]
    return tuple(
        LayerInfo(name=f"conv{i}", kind="conv2d", weight_shape=(8, 4, 3, 3)) for i in range(1, 2 + depth)
    )


@pytest.fixture
def study() -> StudyFile:
    return parse_study(STUDY, "formula.yaml")


@pytest.fixture
def folder(tmp_path: Path, study: StudyFile) -> RunFolder:
    return create(tmp_path / "run", study, command="test")
