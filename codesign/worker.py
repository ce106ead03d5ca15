"""Evaluates the trials of one run folder; as a program (`python -m codesign.worker DIR`), on order.

It reads one JSON task a line from its standard input and answers one line each. Whatever user code prints
goes to the log. It ends when its input ends, and (on Linux) when its driver dies.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from codesign.files import publish, read_json, write_json
from codesign.results import TrialResult, TrialState
from codesign.run_folder import open_run
from search_spaces.design import Design, design_from_json

if TYPE_CHECKING:
    from codesign.problem import Problem

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Worker:
    """Evaluates trials by number; what is costly to load is loaded once."""

    def __init__(self, path: Path) -> None:
        self._folder = open_run(path)
        directory = str(self._folder.manifest().get("directory", ""))
        if directory and directory not in sys.path:
            sys.path.append(directory)  # where the user's `module:callable` was found when the run began
        self._study = self._folder.study()
        self._loaded: Problem | None = None

    def _problem(self) -> Problem:
        if self._loaded is None:
            from codesign.problem import Problem

            self._loaded = Problem(self._study, cache=self._folder.cache_path)
        return self._loaded

    def warm_up(self) -> None:
        """Import and read what every trial needs, while the driver is still busy; problems wait."""
        with contextlib.suppress(
            Exception, SystemExit
        ):  # said where it matters: when the networks are described
            from evaluators.cost.compiled import is_compiled

            bench = self._problem().bench
            if bench.can_train:
                _ = bench.splits
            if is_compiled():
                return
            # The first worker after an installation compiles the cost model; the others wait and read it.
            lock = Path(tempfile.gettempdir()) / f"codesign-warm-up-{os.getuid()}.lock"
            with lock.open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                bench.warm_up()

    def describe(self) -> None:
        """Write the layers of every network of the space."""
        write_json(self._folder.layers_path, self._problem().describe_all())

    def evaluate(self, number: int) -> None:
        """Evaluate one trial and publish its result; a failure is a result with a reason."""
        folder = self._folder.trial_path(number)
        data = read_json(folder / "design.json")
        design = design_from_json(data)  # type: ignore[arg-type]  # read_json gives JSON data
        result = self._result(number, design)
        publish(self._folder.result_path(number), result.to_json())

    def _result(self, number: int, design: Design) -> TrialResult:
        from codesign.problem import evaluation_to_result, failure_to_result

        try:
            evaluation = self._problem().evaluate(design, gate=number > 0)
        except (Exception, SystemExit) as error:  # whatever a user's code does, the sweep goes on
            traceback.print_exc()
            return failure_to_result(number, design, f"{type(error).__name__}: {error}")
        result = evaluation_to_result(number, design, evaluation, self._study)
        if result.state is TrialState.COMPLETED:
            write_json(self._folder.trial_path(number) / "cost.json", evaluation.ledger())
        return result


def main(path: str) -> None:
    """Serve tasks until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to answer
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1, encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    import torch

    torch.set_num_threads(1)
    worker = Worker(Path(path))
    worker.warm_up()
    for line in sys.stdin:
        task = json.loads(line)
        if task["task"] == "describe":
            try:
                worker.describe()
            except (Exception, SystemExit) as error:  # data, networks, user code: the driver says it
                traceback.print_exc()
                ours = isinstance(error, ValueError)
                said = str(error) if ours else f"{type(error).__name__}: {error}"
                answers.write(json.dumps({"error": said}) + "\n")
        else:
            worker.evaluate(int(task["number"]))
            answers.write(json.dumps({"finished": task["number"]}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
