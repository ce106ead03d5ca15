"""Evaluate given mappings: the spatial mapping and the loop order come from outside, nothing is searched."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from evaluators.cost import kernel, layout
from evaluators.cost.layout import Floats, Integers
from evaluators.cost.mapper import Found, Mapped, Switches, compile_once, thread_count, unpack
from evaluators.cost.problem import Packed, Problem, pack
from evaluators.cost.spatial import SpatialMapping, sizes_of
from hw_templates.accelerator import LOOPS, Accelerator

Order = Sequence[tuple[str, int]]


def order_arrays(orders: Sequence[Order]) -> tuple[Integers, Floats, Integers]:
    """Return (dimensions, factors, counts) of loop orders, innermost first, for `kernel.evaluate_all`."""
    dims = np.zeros((len(orders), layout.MAX_LOOPS), np.int64)
    sizes = np.ones((len(orders), layout.MAX_LOOPS))
    counts = np.zeros(len(orders), np.int64)
    for i, order in enumerate(orders):
        counts[i] = len(order)
        for place, (loop, factor) in enumerate(order):
            dims[i, place] = LOOPS.index(loop)
            sizes[i, place] = factor
    return dims, sizes, counts


def evaluate_orders(
    problem: Problem,
    accelerator: Accelerator,
    spatial: SpatialMapping,
    orders: Sequence[Order],
    *,
    switches: Switches | None = None,
) -> list[Mapped]:
    """Return what each of `orders` costs.

    Args:
        orders: Temporal loops, innermost first; their factors multiply up to what `spatial` leaves.

    Raises:
        ValueError: if an order does not cover the loops that are left.
    """
    left = spatial.temporal(sizes_of(problem.nest))
    for order in orders:
        covered = [1] * len(LOOPS)
        for loop, factor in order:
            covered[LOOPS.index(loop)] *= factor
        if tuple(covered) != left:
            raise ValueError(
                f"an order must cover what the array leaves, {dict(zip(LOOPS, left, strict=True))}, "
                f"but {list(order)} covers {dict(zip(LOOPS, covered, strict=True))}"
            )
    packed = pack([(problem, accelerator, spatial)])
    dims, sizes, counts = order_arrays(orders)
    n = len(orders)
    found = Found(
        packed=_repeated(packed, dims, sizes, counts),
        reads=np.zeros((n, 3, layout.MAX_LEVELS)),
        writes=np.zeros((n, 3, layout.MAX_LEVELS)),
        prefix=np.zeros((n, 3, layout.MAX_LEVELS), np.int64),
        outcome=np.zeros((n, 8)),
    )
    run(packed, np.zeros(n, np.int64), dims, sizes, counts, found, switches or Switches())
    return [unpack(found, i, problem, accelerator, spatial) for i in range(n)]


def order_energies_pj(
    problem: Problem,
    accelerator: Accelerator,
    spatial: SpatialMapping,
    orders: tuple[Integers, Floats, Integers],
    *,
    switches: Switches | None = None,
    threads: int | None = None,
) -> Floats:
    """Return the energy (i,) in pJ of every order with its best allocation; infinite where none fits.

    The fast way through many given orders: nothing but arrays is touched for an order, and threads share them
    (compiled code holds no interpreter lock).

    Args:
        orders: As `order_arrays` returns them; each must cover what `spatial` leaves.
        threads: How many to use; `OMP_NUM_THREADS` or the cores of this process by default.
    """
    compile_once()
    packed = pack([(problem, accelerator, spatial)])
    row = layout.Row(packed.chain[0], packed.ways[0], packed.spatial[0], packed.scalars[0], packed.levels[0])
    dims, sizes, counts = orders
    flags = (switches or Switches()).to_array()
    energy_pj = np.zeros(len(counts))

    def work(low: int, high: int) -> None:
        part = slice(low, high)
        kernel.energies(
            dims[part], sizes[part], counts[part], row, flags, layout.new_scratch(), energy_pj[part]
        )

    bounds = np.linspace(0, len(counts), (threads or thread_count()) + 1).astype(int)
    with ThreadPoolExecutor(len(bounds) - 1) as pool:
        list(pool.map(work, bounds[:-1], bounds[1:]))
    return np.asarray(energy_pj + packed.scalars[0, layout.MAC_PJ])


def _repeated(packed: Packed, dims: Integers, sizes: Floats, counts: Integers) -> Packed:
    n = len(counts)
    return Packed(
        order_dim=dims,
        order_size=sizes,
        loops=counts,
        chain=np.repeat(packed.chain, n, 0),
        ways=packed.ways,
        spatial=packed.spatial,
        scalars=np.repeat(packed.scalars, n, 0),
        levels=packed.levels,
    )


def run(
    packed: Packed,
    row: Integers,
    dims: Integers,
    sizes: Floats,
    counts: Integers,
    found: Found,
    switches: Switches,
) -> None:
    """Evaluate order `i` on problem `row[i]` of `packed`; the results go into `found`."""
    kernel.evaluate_range(
        0,
        len(row),
        dims,
        sizes,
        counts,
        row,
        packed.chain,
        packed.ways,
        packed.spatial,
        packed.scalars,
        packed.levels,
        switches.to_array(),
        layout.new_scratch(),
        found.reads,
        found.writes,
        found.prefix,
        found.outcome,
    )
