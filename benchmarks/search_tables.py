"""Searches whose every answer is known: tables of networks that others have trained, as problems.

NAS-Bench-201 (Dong and Yang 2020) with accuracies after 12 epochs and latencies on 27 devices, and
NAS-Bench-Macro (Su et al. 2021). Training a network is asking for its accuracy; it costs one unit.
"""

from __future__ import annotations

import json
import lzma
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codesign.executors import Finished
from codesign.front import hypervolume, nondominated
from codesign.jobs import Answer, Job, deliver
from codesign.results import HardwarePoint, TrialResult, TrialState, Violation
from codesign.run_folder import RunFolder
from codesign.search_space import SearchSpace
from codesign.study_file import StudyFile
from codesign.study_reader import parse_study
from search_spaces.accelerator import AcceleratorChoice
from search_spaces.choice import JsonValue, to_json
from search_spaces.design import Design, design_from_json, design_to_json
from search_spaces.learning import Backpropagation
from search_spaces.network import NetworkChoice
from search_spaces.space import Knob, KnobValue

Array = NDArray[np.float64]
UNIT_S = 60.0  # what one training is said to take, so that `budget.training_minutes` counts trainings

# The table stands in for the space and for all evaluation; what a study file must name besides is not read.
_STUDY = """
name: {name}
network: small_cnn
dataset: digits
space: {{accelerator: {{templates: eyeriss_like}}}}
objectives: [{objectives}]
constraints: ["{constraint}"]
budget: {{training_minutes: 1}}
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Networks that were trained, and what they cost.

    Args:
        knobs: the decisions about the network, a position of its code each.
        devices: on which it may run; one where the table knows of none.
        accuracies: share of right answers by the network's code.
        costs: by the network's code, shape (devices, costs).
        cost_names: the scores that the costs are.
        reference: code and device of trial 0.
        bound: of the first cost, as a share of the reference's.
        study: objectives and the constraint, as a study file has them.
    """

    name: str
    letters: tuple[str, ...]
    places: int
    devices: tuple[str, ...]
    accuracies: Mapping[str, float]
    costs: Mapping[str, Array]
    cost_names: tuple[str, ...]
    reference: tuple[str, str]
    bound: float

    @property
    def study(self) -> StudyFile:
        """A study file with the table's objectives and its constraint."""
        code, device = self.reference
        bound = self.bound * float(self.costs[code][self.devices.index(device), 0])
        objectives = ", ".join(("validation_accuracy", *self.cost_names))
        text = _STUDY.format(
            name=self.name, objectives=objectives, constraint=f"{self.cost_names[0]} <= {bound!r}"
        )
        return parse_study(text, self.name)

    @property
    def space(self) -> SearchSpace:
        """The knobs: one per place of the code, and the device."""
        knobs = {
            f"op{place}": Knob(name=f"op{place}", values=self.letters, ordered=False)
            for place in range(self.places)
        }
        if len(self.devices) > 1:
            knobs["device"] = Knob(name="device", values=self.devices, ordered=False)
        code, device = self.reference
        values: dict[str, KnobValue] = {f"op{place}": letter for place, letter in enumerate(code)}
        values |= {"device": device} if len(self.devices) > 1 else {}
        return SearchSpace(
            knobs=knobs,
            assemble=self.assemble,
            layers=frozenset(),
            reference=self.assemble(values)[0],
            reference_values=values,
        )

    def assemble(self, values: Mapping[str, KnobValue]) -> tuple[Design, dict[str, KnobValue]]:
        """Return the design of an assignment; every knob always means something."""
        code = "".join(str(values[f"op{place}"]) for place in range(self.places))
        device = str(values.get("device", self.devices[0]))
        design = Design(
            network=NetworkChoice(name=code),
            layers=(),
            learning=Backpropagation(),
            accelerator=AcceleratorChoice(template=device),
        )
        return design, dict(values)

    def scores(self, code: str, device: str) -> dict[str, float]:
        """Return the cost scores of a network on a device."""
        row = self.costs[code][self.devices.index(device)]
        return dict(zip(self.cost_names, row.tolist(), strict=True))

    def best_hypervolume(self) -> float:
        """Return the hypervolume of the true front: of all networks on all devices."""
        study = self.study
        bound = study.constraints[0].bound
        codes = list(self.accuracies)
        accuracy = np.repeat([self.accuracies[code] for code in codes], len(self.devices))
        costs = np.concatenate([self.costs[code] for code in codes])
        places = [(code, device) for code in codes for device in self.devices]
        feasible = np.flatnonzero(costs[:, 0] <= bound)
        kept = feasible[nondominated(np.column_stack([-accuracy, costs])[feasible])]
        results = [self.result(number, *places[index]) for number, index in enumerate(kept.tolist())]
        return hypervolume(results, study.objectives, self.result(0, *self.reference))

    def result(self, number: int, code: str, device: str) -> TrialResult:
        """Return a network on a device as a scored trial, whatever it breaks."""
        scores = self.scores(code, device) | {"validation_accuracy": self.accuracies[code]}
        return TrialResult(trial=number, state=TrialState.COMPLETED, design=None, scores=scores)


def nas_bench_201(folder: Path) -> Table:
    """Return NAS-Bench-201 on CIFAR-10: accuracy against latency, over cells and devices.

    Cells without a path from input to output (10 % accuracy, and hardly any latency) are left out.

    Source: Dong and Yang 2020, NAS-Bench-201; latencies: Li et al. 2021, HW-NAS-Bench, and Dudziak et al.
        2020, BRP-NAS, as collected by Lee et al. 2021, HELP.
    """
    with np.load(folder / "nasbench201_acc_latency.npz") as data:
        ops, devices = data["edge_ops"], tuple(str(name) for name in data["devices"])
        accuracy = data["acc"][:, list(data["acc_names"]).index("cifar10-val")] / 100
        latency_s = data["latency_ms"].astype(np.float64) / 1e3
    codes = ["".join(map(str, row)) for row in ops.tolist()]
    whole = [index for index, row in enumerate(ops.tolist()) if _has_path(row)]
    return Table(
        name="nas-bench-201",
        letters=tuple("01234"),
        places=6,
        devices=devices,
        accuracies={codes[index]: float(accuracy[index]) for index in whole},
        costs={codes[index]: latency_s[index][:, None] for index in whole},
        cost_names=("inference_latency_s",),
        reference=("333333", "eyeriss"),  # 3x3 convolutions everywhere
        bound=0.5,
    )


def _has_path(ops: Sequence[int]) -> bool:
    """Return whether a cell's output depends on its input; operation 0 is `none`."""
    # The order of the edges: |0|+|0 1|+|0 1 2|, each group the edges into nodes 1, 2 and 3.
    into = {1: {0: ops[0]}, 2: {0: ops[1], 1: ops[2]}, 3: {0: ops[3], 1: ops[4], 2: ops[5]}}
    reached = {0}
    for node, edges in into.items():
        if any(before in reached and op for before, op in edges.items()):
            reached.add(node)
    return 3 in reached


def nas_bench_macro(folder: Path) -> Table:
    """Return NAS-Bench-Macro on CIFAR-10: accuracy against MACs and bits of parameters.

    Source: Su et al. 2021, Prioritized Architecture Sampling with Monto-Carlo Tree Search; its `flops` are
        multiply-accumulates, its parameters are counted at 32 bits.
    """
    with lzma.open(folder / "nas-bench-macro_cifar10.json.xz") as file:
        data = json.load(file)
    return Table(
        name="nas-bench-macro",
        letters=tuple("012"),
        places=8,
        devices=("none",),
        accuracies={code: row["mean_acc"] / 100 for code, row in data.items()},
        costs={code: np.array([[row["flops"], 32 * row["params"]]], float) for code, row in data.items()},
        cost_names=("macs", "storage_bits"),
        reference=("22222222", "none"),
        bound=0.5,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Mechanisms:
    """What the search may use; each is one that plain Optuna does not have."""

    gate: bool = True
    cache: bool = True
    hardware_sweep: bool = True


@dataclass(slots=True)
class TableExecutor:
    """Answers jobs from a table, in their order.

    Args:
        folder: where answers are published.
    """

    folder: RunFolder
    table: Table
    study: StudyFile
    mechanisms: Mechanisms
    _queue: deque[Job] = field(default_factory=deque)
    _trained: set[str] = field(default_factory=set)

    @property
    def workers(self) -> int:
        """One."""
        return 1

    def describe(self) -> JsonValue:
        """Return nothing: there are no layers."""
        return {}

    def submit(self, job: Job) -> None:
        """Queue a job."""
        self._queue.append(job)

    def wait(self, timeout_s: float) -> Finished | None:
        """Answer the next job."""
        if not self._queue:
            return None
        job = self._queue.popleft()
        deliver(self.folder, Answer(result=self.evaluate(job.number, design_from_json(job.design))))
        return Finished(number=job.number, stage=job.stage)

    def running(self) -> tuple[int, ...]:
        """Return nothing: between calls nothing runs."""
        return ()

    def drain(self) -> None:
        """Forget what is queued."""
        self._queue.clear()

    def close(self) -> None:
        """Nothing to stop."""

    def evaluate(self, number: int, design: Design) -> TrialResult:
        """Return what came of one design."""
        code, device = design.network.name, design.accelerator.template
        if code not in self.table.accuracies:
            return TrialResult(
                trial=number,
                state=TrialState.FAILED,
                design=design_to_json(design),
                reason="no path to the output",
            )
        scores = self.table.scores(code, device)
        others = self._others(code, device) if self.mechanisms.hardware_sweep else ()
        margins = self._margins(scores)
        if self.mechanisms.gate and number and max(margins.values()) > 0 and not others:
            state, trained = TrialState.GATED, False
        else:
            state, trained = TrialState.COMPLETED, not (self.mechanisms.cache and code in self._trained)
            self._trained.add(code)
            scores |= {"validation_accuracy": self.table.accuracies[code]}
        return TrialResult(
            trial=number,
            state=state,
            design=design_to_json(design),
            scores=scores,
            violations=self._violations(scores, margins),
            margins=margins,
            seconds={"training": UNIT_S * trained, "total": UNIT_S * trained},
            cached=state is TrialState.COMPLETED and not trained,
            hardware=others,
        )

    def _margins(self, scores: Mapping[str, float]) -> dict[str, float]:
        return {c.text: c.violation(scores[c.score]) for c in self.study.constraints}

    def _violations(self, scores: Mapping[str, float], margins: Mapping[str, float]) -> tuple[Violation, ...]:
        return tuple(
            Violation(constraint=c.text, value=scores[c.score], bound=c.bound, excess=margins[c.text])
            for c in self.study.constraints
            if margins[c.text] > 0
        )

    def _others(self, code: str, own: str) -> tuple[HardwarePoint, ...]:
        """Return the devices that nobody beats for one network, less its own."""
        costs = self.table.costs[code]
        bound = self.study.constraints[0].bound
        feasible = np.flatnonzero(costs[:, 0] <= bound)
        kept = feasible[nondominated(costs[feasible])].tolist()
        names = [self.table.devices[index] for index in kept]
        found = []
        for name in names if own not in names else [name for name in names if name != own]:
            scores = self.table.scores(code, name)
            found.append(
                HardwarePoint(
                    accelerator=to_json(AcceleratorChoice(template=name)),
                    knobs={"device": name},
                    scores=scores | {"validation_accuracy": self.table.accuracies[code]},
                    margins=self._margins(scores),
                )
            )
        return tuple(found)
