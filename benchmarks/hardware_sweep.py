"""Accelerators priced in one call against one by one: `python benchmarks/hardware_sweep.py [--chips 1000]`.

The algorithmic half is the quickstart's reference (a small CNN on 8 x 8 digits), the chips are a sample of
the quickstart's space. Both ways run in turns in this process, on as many threads as OMP_NUM_THREADS says
(one where it is unset), so that what else the machine does hits both; one by one prices every twentieth chip
of the sample. Seconds are the process's own CPU seconds where one thread is used, else the clock's.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

os.environ.setdefault("OMP_NUM_THREADS", "1")

from codesign.problem import Problem
from codesign.study_file import StudyFile
from codesign.study_reader import load_study
from evaluators.cost.model import cost
from evaluators.evaluate import compress, price
from evaluators.half_choices import replacements_of
from evaluators.hardware_sweep import BOTH, Pass, build_fleet, price_fleet, price_many
from evaluators.scores import derive
from evaluators.traces import Traced
from search_spaces.accelerator import AcceleratorChoice
from search_spaces.accelerator_list import accelerators
from search_spaces.space import assemble

ROUNDS = 3
STRIDE = 20  # one by one is slow enough to be measured on a part
INFERENCE = frozenset({Pass.INFERENCE})


def seconds(work: Callable[[], object]) -> float:
    """Return how long `work` takes."""
    clock = time.process_time if os.environ["OMP_NUM_THREADS"] == "1" else time.perf_counter
    started = clock()
    work()
    return clock() - started


def alone(traced: Traced, chips: Sequence[AcceleratorChoice], passes: frozenset[Pass]) -> None:
    """Price chips one by one, as a trial does; of the inference alone a trial has the costs only."""
    for chip in chips:
        if passes == BOTH:
            derive(price(traced, chip.build(), accuracy=None).facts)
        else:
            cost(traced.inference, chip.build())


def reference_half(study: StudyFile) -> Traced:
    """Return both passes of the study's reference design, rewritten by its choices."""
    problem = Problem(study, cache=None)
    design, _ = assemble(study.reference_space, {}, study.network.name, problem.describe)
    traced = problem.bench.trace(design.network, design.learning, replacements_of(design.algorithm))
    return compress(traced, design.algorithm)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chips", type=int, default=1000)
    count = parser.parse_args().chips
    study = load_study("quickstart")
    traced = reference_half(study)
    chips = accelerators(study.space_.accelerator, limit=count, seed=0)
    price_many(traced, chips[:1], accuracy=None)  # compiles or loads the mapper
    fleet = build_fleet(chips)
    building = seconds(lambda: build_fleet(chips))
    print(f"{len(chips)} chips of the quickstart's space, {os.environ['OMP_NUM_THREADS']} thread(s);")
    print(f"building them, which every half then shares: {1e3 * building / len(chips):.2f} ms each\n")
    print("| passes costed | in one call, designs/s | one by one, designs/s | ratio (least to most) |")
    print("| --- | --- | --- | --- |")
    for label, passes in (("inference", INFERENCE), ("inference and training", BOTH)):
        many, one = [], []
        for _ in range(ROUNDS):
            many.append(seconds(partial(price_fleet, traced, fleet, accuracy=None, passes=passes)))
            one.append(seconds(partial(alone, traced, chips[::STRIDE], passes)))
        per_second = [len(chips) / took for took in many], [len(chips[::STRIDE]) / took for took in one]
        ratios = [batched / single for batched, single in zip(*per_second, strict=True)]
        batched, single = map(statistics.median, per_second)
        print(
            f"| {label} | {batched:,.0f} | {single:,.0f} "
            f"| {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f}) |"
        )


if __name__ == "__main__":
    main()
