"""Evaluate given mappings: the spatial mapping and the loop order come from outside, nothing is searched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from evaluators.cost import given, kernel, layout
from evaluators.cost.layout import Floats, Integers
from evaluators.cost.mapper import Found, Mapped, Switches, compile_once, thread_count, unpack
from evaluators.cost.packing import Packed, pack
from evaluators.cost.problem import OPERANDS, Problem
from evaluators.cost.report import LoopMapping
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
    held: Integers | None = None,
    switches: Switches | None = None,
) -> list[Mapped]:
    """Return what each of `orders` costs.

    Args:
        orders: Temporal loops, innermost first; their factors multiply up to what `spatial` leaves.
        held: What memories hold, as `held_array` returns it; the allocation of least energy by default.

    Raises:
        ValueError: if an order does not cover the loops that are left, or `held` is no allocation.
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
    found = evaluate_arrays(problem, accelerator, spatial, order_arrays(orders), held, switches or Switches())
    return [unpack(found, i, problem, accelerator, spatial) for i in range(len(orders))]


def evaluate_arrays(
    problem: Problem,
    accelerator: Accelerator,
    spatial: SpatialMapping,
    orders: tuple[Integers, Floats, Integers],
    held: Integers | None,
    switches: Switches,
) -> Found:
    """Return what each order costs as arrays: energy, cycles and their parts, words of every memory.

    Args:
        orders: As `order_arrays` returns them; each must cover what `spatial` leaves.
        held: What memories hold, as `held_array` returns it; None for the allocation of least energy.

    Raises:
        ValueError: if an order does not cover the loops that are left, or `held` is no allocation.
    """
    packed = pack([(problem, accelerator, spatial)])
    dims, sizes, counts = orders
    n = len(counts)
    found = Found(
        packed=_repeated(packed, dims, sizes, counts),
        reads=np.zeros((n, 3, layout.MAX_LEVELS)),
        writes=np.zeros((n, 3, layout.MAX_LEVELS)),
        prefix=np.zeros((n, 3, layout.MAX_LEVELS), np.int64) if held is None else held.copy(),
        outcome=np.zeros((n, 8)),
    )
    if held is not None:
        _check_held(held, packed, counts)
    run(
        packed,
        np.zeros(n, np.int64),
        dims,
        sizes,
        counts,
        found,
        switches,
        given_held=held is not None,
    )
    if n and _products(dims[0], sizes[0], counts[0]) != _products(
        packed.order_dim[0], packed.order_size[0], packed.loops[0]
    ):  # the kernel holds the others against the first
        found.outcome[0, 0] = np.nan
    _check_covered(found.outcome[:, 0], packed)
    return found


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

    Raises:
        ValueError: if an order does not cover the loops that are left.
    """
    packed = pack([(problem, accelerator, spatial)])
    return _in_parts(kernel.energies, packed, orders, (), switches or Switches(), threads)


def mapping_energies_pj(
    problem: Problem,
    accelerator: Accelerator,
    spatial: SpatialMapping,
    orders: tuple[Integers, Floats, Integers],
    held: Integers,
    *,
    switches: Switches | None = None,
    threads: int | None = None,
) -> Floats:
    """Return the energy (i,) in pJ of mappings that are given whole; infinite where one does not fit.

    Args:
        orders: As `order_arrays` returns them; each must cover what `spatial` leaves.
        held: What each memory holds (i, o, m), as `held_array` returns it.
        threads: How many to use; `OMP_NUM_THREADS` or the cores of this process by default.

    Raises:
        ValueError: if an order does not cover the loops that are left, or `held` is no allocation.
    """
    packed = pack([(problem, accelerator, spatial)])
    _check_held(held, packed, orders[2])
    return _in_parts(given.mapping_energies, packed, orders, (held,), switches or Switches(), threads)


def held_array(accelerator: Accelerator, mappings: Sequence[LoopMapping]) -> Integers:
    """Return how many loops each memory of each operand's chain holds (i, o, m) in each of `mappings`."""
    held = np.zeros((len(mappings), len(OPERANDS), layout.MAX_LEVELS), np.int64)
    for i, mapping in enumerate(mappings):
        for o, operand in enumerate(OPERANDS):
            for b, (_, loops) in enumerate(mapping.held[operand.value]):
                held[i, o, b] = loops
    return held


def _check_held(held: Integers, packed: Packed, counts: Integers) -> None:
    lengths = packed.chain[0, layout.HEADER, : len(OPERANDS)]
    shape = (len(counts), len(OPERANDS), layout.MAX_LEVELS)
    legal = held.shape == shape
    for o, length in enumerate(lengths):
        steps = held[:, o, :length] if legal else held
        legal = legal and bool((np.diff(steps, axis=1) >= 0).all() and (steps >= 0).all())
        legal = legal and bool((steps[:, -1] == counts).all())
    if not legal:
        raise ValueError(
            f"held must be {shape}, grow from memory to memory of an operand's chain (of {lengths.tolist()} "
            f"memories) and end with all loops of its order, but got {held.shape}: {held[:1].tolist()}"
        )


def _products(dims: Integers, sizes: Floats, count: int) -> list[int]:
    """Return how often each loop runs in an order (d,)."""
    covered = [1] * len(LOOPS)
    for d, size in zip(dims[:count].tolist(), sizes[:count].tolist(), strict=True):
        covered[d] *= int(size)
    return covered


def _check_covered(energy_pj: Floats, packed: Packed) -> None:
    """Refuse orders that the kernel found to be of other loops: it leaves their energies undefined."""
    wrong = np.flatnonzero(np.isnan(energy_pj))
    if len(wrong):
        left = _products(packed.order_dim[0], packed.order_size[0], packed.loops[0])
        raise ValueError(
            f"an order must cover what the array leaves, {dict(zip(LOOPS, left, strict=True))}, "
            f"but order {wrong[0]} does not"
        )


def _in_parts(
    entry: Callable[..., None],
    packed: Packed,
    orders: tuple[Integers, Floats, Integers],
    more: tuple[Integers, ...],
    switches: Switches,
    threads: int | None,
) -> Floats:
    """Return the energies (i,) in pJ that `entry` gives for parts of `orders`, one part a thread."""
    compile_once()
    row = layout.Row(packed.chain[0], packed.ways[0], packed.spatial[0], packed.scalars[0], packed.levels[0])
    totals = (packed.order_dim[0], packed.order_size[0], int(packed.loops[0]))
    flags = switches.to_array()
    energy_pj = np.zeros(len(orders[2]))

    def work(low: int, high: int) -> None:
        part = slice(low, high)
        arrays = [array[part] for array in (*orders, *more)]
        entry(*arrays, row, *totals, flags, layout.new_scratch(), energy_pj[part])

    bounds = np.linspace(0, len(energy_pj), (threads or thread_count()) + 1).astype(int)
    with ThreadPoolExecutor(len(bounds) - 1) as pool:
        list(pool.map(work, bounds[:-1], bounds[1:]))
    _check_covered(energy_pj, packed)
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
    *,
    given_held: bool = False,
) -> None:
    """Evaluate order `i` on problem `row[i]` of `packed`; the results go into `found`.

    Memories hold what costs least energy, or where `given_held` the prefixes that `found` has already.
    """
    kernel.evaluate_range(
        0,
        len(row),
        dims,
        sizes,
        counts,
        row,
        given_held,
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
