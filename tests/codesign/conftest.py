"""A study whose trials cost nothing: the real engine over a formula instead of training."""

from __future__ import annotations

import random
from collections import deque
from pathlib import Path

import pytest

from codesign.executors import Finished
from codesign.files import publish, read_json, write_json
from codesign.layers import layers_to_json
from codesign.results import TrialResult, TrialState, Violation
from codesign.run_folder import RunFolder, create
from codesign.study_file import StudyFile
from codesign.study_reader import parse_study
from search_spaces.ask import LayerInfo
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
    """Finishes trials in a shuffled order, as slow and fast workers would."""

    def __init__(
        self, folder: RunFolder, *, workers: int = 2, seed: int = 0, failing: frozenset[int] = frozenset()
    ):
        self.folder, self.workers, self.failing = folder, workers, failing
        self.rng = random.Random(seed)
        self.queue: deque[int] = deque()
        self.evaluated: list[int] = []
        self.crash_once: set[int] = set()
        self.die_after: int | None = None

    def describe(self) -> None:
        write_json(self.folder.layers_path, layers_to_json({}))

    def submit(self, number: int) -> None:
        self.queue.append(number)

    def wait(self, timeout_s: float) -> Finished | None:
        if not self.queue:
            return None
        if self.die_after is not None and len(self.evaluated) >= self.die_after:
            raise KeyboardInterrupt
        position = self.rng.randrange(min(self.workers, len(self.queue)))
        number = self.queue[position]
        del self.queue[position]
        if number in self.crash_once:
            self.crash_once.discard(number)
            return Finished(number=number, crash="its worker process died (signal 9)")
        self.evaluated.append(number)
        self._publish(number)
        return Finished(number=number)

    def running(self) -> tuple[int, ...]:
        return tuple(list(self.queue)[: self.workers])

    def drain(self) -> None:
        self.queue.clear()

    def close(self) -> None:
        self.queue.clear()

    def _publish(self, number: int) -> None:
        data = read_json(self.folder.trial_path(number) / "design.json")
        design = design_from_json(data)  # type: ignore[arg-type]
        if number in self.failing:
            result = TrialResult(trial=number, state=TrialState.FAILED, design=data, reason="NaN loss")  # type: ignore[arg-type]
        else:
            bits = [
                c.weight_bits
                for la in design.layers
                for c in la.choices
                if isinstance(c, UniformQuantization)
            ]
            energy = design.network.width * sum(bits) + (
                3 if design.accelerator.template == "tpu_like" else 0
            )
            accuracy = 1 - 1 / (1 + energy)
            excess = (energy - 14) / 14
            broken = (
                (Violation(constraint="inference_energy_pj <= 14", value=energy, bound=14, excess=excess),)
                if excess > 0
                else ()
            )
            gated = bool(broken) and number > 0
            scores = {"inference_energy_pj": energy} | ({} if gated else {"validation_accuracy": accuracy})
            result = TrialResult(
                trial=number,
                state=TrialState.GATED if gated else TrialState.COMPLETED,
                design=data,  # type: ignore[arg-type]
                scores=scores,
                violations=broken,
                margins={"inference_energy_pj <= 14": excess},
            )
        publish(self.folder.result_path(number), result.to_json())


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
