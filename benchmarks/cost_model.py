"""Speed and quality of the cost model; prints the table of docs/cost_model.md.

    python benchmarks/cost_model.py [--zigzag]

`--zigzag` runs ZigZag's LOMA search on two of the layers in the same process (needs the extra `[zigzag]`).
Only that ratio is of one run on one machine. Without it the CPU seconds of the reference file stand in, which
another machine took, and the table says so. Figures of two versions compare only where both were run
alternately on one machine.
"""

from __future__ import annotations

import argparse
import os
import time
from itertools import permutations
from random import Random

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread: CPU seconds compare with other tools'

import numpy as np

from evaluators.cost.fixed import (
    evaluate_arrays,
    evaluate_orders,
    held_array,
    mapping_energies_pj,
    order_arrays,
    order_energies_pj,
)
from evaluators.cost.mapper import ZIGZAG, Effort, Switches, map_all
from evaluators.cost.model import cost
from evaluators.cost.problem import Problem, Storage, loop_factors
from evaluators.cost.spatial import candidates, sizes_of
from evaluators.workload.graph import LoopNest, Operand
from hw_templates import templates
from hw_templates.accelerator import LOOPS

BYTE = Storage(bits=8.0)

REFERENCE_S = 3.46
"""CPU seconds of one LOMA search in the reference file: of the machine on which that file was made."""


def resnet_layers() -> list[LoopNest]:
    """Return the distinct convolutions of ResNet-18 at 224 x 224."""
    shapes = [(64, 3, 112, 7, 2), (64, 64, 56, 3, 1)]
    for k, c, size in ((128, 64, 28), (256, 128, 14), (512, 256, 7)):
        shapes += [(k, c, size, 3, 2), (k, k, size, 3, 1), (k, c, size, 1, 2)]
    return [
        LoopNest(
            k=k,
            c=c,
            oy=out,
            ox=out,
            fy=kernel_size,
            fx=kernel_size,
            stride_y=stride,
            stride_x=stride,
            iy=out * stride,
            ix=out * stride,
        )
        for k, c, out, kernel_size, stride in shapes
    ]


def problem(nest: LoopNest, accumulated: Operand = Operand.OUTPUT) -> Problem:
    """Return the contraction with 8-bit operands."""
    return Problem(nest=nest, accumulated=accumulated, storage=(BYTE, BYTE, BYTE))


def searches_per_second() -> float:
    """Return full searches (all spatial mappings and orders, all three passes) per CPU second."""
    rows = [
        (problem(nest, accumulated), templates.load(name).build())
        for nest in resnet_layers()
        for accumulated in Operand
        for name in ("eyeriss_like", "tpu_like", "gemmini_like")
    ]
    map_all(rows[:1])
    start = time.process_time()
    map_all(rows)
    return len(rows) / (time.process_time() - start)


def evaluations_per_second() -> tuple[float, float, float]:
    """Return rates, one thread, CPU time: whole mappings' energy, orders' best allocation, orders in parts.

    The last counts whole mappings in energy, words and latency (`fixed.evaluate_orders`' kernel).
    """
    chip = templates.load("eyeriss_like").build()
    task = problem(resnet_layers()[1])
    mapping = candidates(chip.axes, sizes_of(task.nest), task.accumulated, 1)[0]
    factors = list(loop_factors(mapping.temporal(sizes_of(task.nest)), 8))
    rng = Random(0)
    orders = []
    for _ in range(200_000):
        rng.shuffle(factors)
        orders.append([(LOOPS[d], size) for d, size in factors])
    arrays = order_arrays(orders)
    few = [part[:2000] for part in arrays]
    found = evaluate_orders(task, chip, mapping, orders[:2000])
    held = held_array(chip, [one.mapping for one in found])
    many_held = np.tile(held, (100, 1, 1))
    many = (np.tile(few[0], (100, 1)), np.tile(few[1], (100, 1)), np.tile(few[2], 100))
    rates = []
    for work in (
        lambda: mapping_energies_pj(task, chip, mapping, many, many_held, threads=1),
        lambda: order_energies_pj(task, chip, mapping, arrays, threads=1),
        lambda: evaluate_arrays(task, chip, mapping, many, many_held, Switches()),
    ):
        work()
        start = time.process_time()
        work()
        rates.append(len(orders) / (time.process_time() - start))
    return rates[0], rates[1], rates[2]


def gap_to_exhaustive() -> tuple[float, float, int]:
    """Return mean and largest energy over the best of every order, and how many small layers."""
    ratios = []
    for name in ("eyeriss_like", "tpu_like"):
        chip = templates.load(name).build()
        for k, c, size, kernel_size in ((16, 8, 8, 3), (24, 6, 6, 1), (8, 8, 12, 3), (32, 16, 4, 1)):
            for accumulated in Operand:
                nest = LoopNest(k=k, c=c, oy=size, ox=size, fy=kernel_size, fx=kernel_size, iy=size, ix=size)
                task = problem(nest, accumulated)
                mapping = candidates(chip.axes, sizes_of(nest), accumulated, 1)[0]
                factors = loop_factors(mapping.temporal(sizes_of(nest)), 8)
                orders = [[(LOOPS[d], f) for d, f in order] for order in sorted(set(permutations(factors)))]
                best = min(one.energy_pj(chip) for one in evaluate_orders(task, chip, mapping, orders))
                found = map_all([(task, chip)], effort=Effort(spatial_mappings=1))[0]
                ratios.append(found.energy_pj(chip) / best)
    return float(np.mean(ratios)), float(np.max(ratios)), len(ratios)


def mobilenet_ms(threads: int) -> tuple[float, float, int]:
    """Return median time and CPU time of MobileNetV2's step on a new accelerator, and its contractions."""
    import torch
    from memory_networks import mobilenet_v2  # beside this file

    from evaluators.workload.optimizers import Optimizer
    from evaluators.workload.trace import trace

    step = trace(
        mobilenet_v2(),
        (torch.empty(1, 3, 224, 224, device="meta"),),
        loss="cross_entropy",
        optimizer=Optimizer.SGD,
    )
    step = step.rewrite(bits=dict.fromkeys(range(len(step.tensors)), 8.0))
    template = templates.load("eyeriss_like")
    cost(step, template.build())
    times, busy_times = [], []
    os.environ["OMP_NUM_THREADS"] = str(threads)
    for knobs in ({"pe_rows": rows, "pe_columns": columns} for rows in (4, 8, 16) for columns in (7, 16)):
        chip = template.build(knobs)
        start, busy = time.perf_counter(), time.process_time()
        cost(step, chip)
        times.append(time.perf_counter() - start)
        busy_times.append(time.process_time() - busy)
    os.environ["OMP_NUM_THREADS"] = "1"
    contractions = sum(op.contraction is not None for op in step.ops)
    return 1e3 * float(np.median(times)), 1e3 * float(np.median(busy_times)), contractions


def zigzag_seconds() -> float:
    """Return CPU seconds of one LOMA search in this process, the mean of two layers, 6 loop factors."""
    from evaluators.cost.zigzag import loma_energy_pj

    chip = templates.load("tpu_like").build()
    ours = map_all([(problem(nest), chip) for nest in resnet_layers()[1:3]], switches=ZIGZAG)
    start = time.process_time()
    for mapped in ours:
        loma_energy_pj(mapped, chip, factors=6)
    return (time.process_time() - start) / len(ours)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--zigzag", action="store_true")
    with_zigzag = parser.parse_args().zigzag
    searches = searches_per_second()
    mean, worst, layers = gap_to_exhaustive()
    print("| what | figure |\n| --- | --- |")
    print(f"| full searches per CPU second | {searches:,.0f} |")
    cores = len(os.sched_getaffinity(0))
    whole, allocated, parts = evaluations_per_second()
    print(f"| given mappings (order and allocation): energy, per CPU second | {whole:,.0f} |")
    print(f"| the same with words of every memory and latency | {parts:,.0f} |")
    print(f"| given orders: best allocation and its energy, per CPU second | {allocated:,.0f} |")
    print(
        f"| energy over that of every order tried, {layers} small layers | {mean:.4f}, at most {worst:.4f} |"
    )
    for threads in sorted({1, cores}):
        median, busy, contractions = mobilenet_ms(threads)
        print(
            f"| MobileNetV2, training step, {contractions} contractions, a new chip, {threads} thread(s) "
            f"| {median:.0f} ms ({busy:.0f} ms of CPU) |"
        )
    if with_zigzag:
        seconds = zigzag_seconds()
        print(f"| ZigZag LOMA, CPU s a search, in this process | {seconds:.2f} |")
        print(f"| full searches over ZigZag LOMA's, this run, this machine | {searches * seconds:,.0f} x |")
    else:
        print(
            f"| the same times {REFERENCE_S} CPU s that ZigZag LOMA took on another machine: no ratio of one "
            f"run, `--zigzag` measures one | {searches * REFERENCE_S:,.0f} x |"
        )


if __name__ == "__main__":
    main()
