"""A small chip with round numbers, small workloads, and every loop order of a small layer."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np

from evaluators.cost.fixed import evaluate_orders
from evaluators.cost.problem import Problem, Storage, loop_factors
from evaluators.cost.spatial import candidates, sizes_of
from evaluators.workload.graph import (
    Contraction,
    LoopNest,
    Op,
    Operand,
    Phase,
    Role,
    Structure,
    TensorInfo,
    as_stored,
)
from hw_templates.accelerator import (
    LOOPS,
    Accelerator,
    ArrayAxis,
    Dataflow,
    MacUnit,
    MemoryKind,
    MemoryLevel,
    Ports,
    Precision,
    VectorUnit,
    ZeroHandling,
)


def memory(name, operands, capacity_bits, read, write, **fields):
    return MemoryLevel(
        **{
            "name": name,
            "kind": MemoryKind.SRAM,
            "operands": operands,
            "capacity_bits": capacity_bits,
            "word_bits": 8,
            "granularity_bits": 8,
            "read_energy_pj": read,
            "write_energy_pj": write,
            "shared_over": ("columns",),
            **fields,
        }
    )


def chip(**fields):
    """Two PEs in a row that unroll K, a buffer, DRAM: MAC 1 pJ, buffer 2 and 3 pJ, DRAM 100 and 200 pJ."""
    return Accelerator(
        **{
            "name": "two_pes",
            "technology": "round numbers",
            "source": "made up for tests",
            "dataflow": Dataflow.NO_LOCAL_REUSE,
            "axes": (ArrayAxis(name="columns", size=2, unroll=("K",)),),
            "mac": MacUnit(
                weight_bits=8,
                activation_bits=8,
                accumulator_bits=16,
                precision=Precision.FIXED,
                energy_pj=1.0,
                area_mm2=0.5,
            ),
            "vector": VectorUnit(lanes=2, energy_pj_per_op=0.25, area_mm2=0.125),
            "memories": (
                memory("buffer", ("I", "W", "O"), 8192, 2.0, 3.0, area_mm2=1.0),
                memory(
                    "dram",
                    ("I", "W", "O"),
                    10**9,
                    100.0,
                    200.0,
                    kind=MemoryKind.DRAM,
                    ports=Ports.READ_WRITE,
                    compressed=True,
                ),
            ),
            "clock_hz": 1e6,
            **fields,
        }
    )


def with_capacity(accelerator, name, capacity_bits):
    """Return the chip with one memory of another size at equal energy per access."""
    return replace(
        accelerator,
        memories=tuple(
            replace(level, capacity_bits=capacity_bits) if level.name == name else level
            for level in accelerator.memories
        ),
    )


def compressing(accelerator, name, compressed):
    """Return the chip with one memory that keeps its words compressed, or does not."""
    return replace(
        accelerator,
        memories=tuple(
            replace(level, compressed=compressed) if level.name == name else level
            for level in accelerator.memories
        ),
    )


def skipping(accelerator, letters):
    return replace(accelerator, zeros=ZeroHandling(skips=letters))


def problem(nest, accumulated=Operand.OUTPUT, bits=8.0, density=1.0):
    one = Storage(bits=bits, density=density)
    return Problem(nest=nest, accumulated=accumulated, storage=(one, one, one))


def every_order(nest_problem, accelerator, mapping):
    """Return every distinct order of the prime loop factors that the array leaves."""
    left = mapping.temporal(sizes_of(nest_problem.nest))
    factors = loop_factors(left, 99)
    return [[(LOOPS[d], size) for d, size in order] for order in sorted(set(permutations(factors)))]


def memory_energy_pj(mapped, accelerator):
    return sum(
        reads * level.read_energy_pj + writes * level.write_energy_pj
        for o in range(3)
        for level, reads, writes in zip(accelerator.memories, mapped.reads[o], mapped.writes[o], strict=True)
    )


def best_of_all_orders(nest_problem, accelerator, switches=None):
    """Return the least energy over every order of the first spatial mapping: an exhaustive search."""
    mapping = candidates(accelerator.axes, sizes_of(nest_problem.nest), nest_problem.accumulated, 1)[0]
    orders = every_order(nest_problem, accelerator, mapping)
    found = evaluate_orders(nest_problem, accelerator, mapping, orders, switches=switches)
    return min(
        float("inf") if one.infeasible else memory_energy_pj(one, accelerator) + one.mac_energy_pj
        for one in found
    )


def workload(nest, *, batch_bits=8.0):
    """Return a training step of one convolution: forward, ReLU, both gradients, update."""
    names = ("x", "w", "y", "z", "dy", "dx", "dw")
    roles = (
        Role.INPUT,
        Role.WEIGHT,
        Role.ACTIVATION,
        Role.OUTPUT,
        Role.ACTIVATION_GRADIENT,
        Role.ACTIVATION_GRADIENT,
        Role.GRADIENT,
    )
    x = (nest.b, nest.c * nest.groups, nest.iy, nest.ix)
    y = (nest.b, nest.k * nest.groups, nest.oy, nest.ox)
    w = (nest.k * nest.groups, nest.c, nest.fy, nest.fx)
    shapes = (x, w, y, y, y, x, w)
    tensors = tuple(
        TensorInfo(name=name, shape=shape, dtype_bits=int(batch_bits), role=role, layer="conv")
        for name, shape, role in zip(names, shapes, roles, strict=True)
    )

    def contraction(output, i, weight, o):
        return Contraction(
            nest=nest,
            output=output,
            tensors={Operand.INPUT: i, Operand.WEIGHT: weight, Operand.OUTPUT: o},
        )

    def op(name, kind, phase, inputs, outputs, work=None):
        return Op(
            name=name, kind=kind, phase=phase, layer="conv", inputs=inputs, outputs=outputs, contraction=work
        )

    ops = (
        op("conv", "conv", Phase.FORWARD, (0, 1), (2,), contraction(Operand.OUTPUT, 0, 1, 2)),
        op("relu", "elementwise", Phase.FORWARD, (2,), (3,)),
        op("dx", "conv", Phase.INPUT_GRADIENT, (4, 1), (5,), contraction(Operand.INPUT, 5, 1, 4)),
        op("dw", "conv", Phase.WEIGHT_GRADIENT, (0, 4), (6,), contraction(Operand.WEIGHT, 0, 6, 4)),
        op("sgd", "elementwise", Phase.UPDATE, (6, 1), (1,)),
    )
    return as_stored(
        Structure(
            ops=ops,
            tensors=tensors,
            born=np.array([0, 0, 0, 1, 1, 2, 3]),
            last=np.array([4, 4, 1, 1, 3, 2, 4]),
            persistent=np.array([True, True, False, False, False, False, False]),
        )
    )


SMALL = LoopNest(k=4, c=3, oy=5, ox=5, fy=3, fx=3, iy=5, ix=5)
