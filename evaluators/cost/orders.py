"""The compiled moves of the search over loop orders: start orders, kicks, merged and split factors.

An order is a row of factor numbers (`evaluators.cost.blocks.number_of`), innermost first.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from evaluators.cost.blocks import number_of
from evaluators.cost.compiled import inlined, jit
from evaluators.cost.layout import (
    DIMS,
    FACTOR_DIM,
    FACTOR_MASK,
    SEEN_BITS,
    STAMP,
    TABLE,
    Floats,
    I,
    Integers,
    O,
    Scratch,
    W,
)

_KICKS = 4
_FNV_START = np.uint64(0xCBF29CE484222325)
_FNV_PRIME = np.uint64(0x100000001B3)
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio


@jit
def _random(state: npt.NDArray[np.uint64]) -> float:
    """Return the next uniform number in [0, 1) of an xorshift generator (Marsaglia, J. Stat. Softw. 2003)."""
    x = state[0]
    x ^= (x << np.uint64(13)) & np.uint64(0xFFFFFFFFFFFFFFFF)
    x ^= x >> np.uint64(7)
    x ^= (x << np.uint64(17)) & np.uint64(0xFFFFFFFFFFFFFFFF)
    state[0] = x
    return float(x >> np.uint64(11)) / 9007199254740992.0


@jit
def moves_nothing(order: Integers, i: int, j: int) -> bool:
    """Return whether moving factor i to place j only passes equal factors, and so changes nothing."""
    same = True
    for k in range(min(i, j), max(i, j) + 1):
        same = same and order[k] == order[i]
    return same


@jit
def move(order: Integers, i: int, j: int) -> None:
    """Take the factor at `i` out and put it in at `j`."""
    factor = order[i]
    step = 1 if j > i else -1
    k = i
    while k != j:
        order[k] = order[k + step]
        k += step
    order[j] = factor


@jit
def start_order(start: int, factors: Integers, loops: int, order: Integers, scratch: Scratch) -> None:
    """Fill `order` with start order number `start`.

    The first six keep one operand still in the innermost loops, another one in the next and the third in the
    outermost; loops that touch every operand are outside. The others are random.
    """
    if start < 6:
        first = (W, O, I, W, O, I)[start]
        second = (O, I, W, I, W, O)[start]
        at = 0
        for bit in (1 << first, 1 << second, 1 << (3 - first - second), 0):
            for i in range(loops):
                if scratch.factors[FACTOR_MASK, factors[i]] == bit:
                    order[at] = factors[i]
                    at += 1
        return
    for i in range(loops):
        order[i] = factors[i]
    for i in range(loops - 1, 0, -1):
        j = int(_random(scratch.random) * (i + 1))
        order[i], order[j] = order[j], order[i]


@inlined
def is_new(order: Integers, loops: int, scratch: Scratch) -> bool:
    """Return whether the search at hand has not met an order, and remember it.

    A hash stands for the order (Fowler, Noll, Vo), and a later order may take its place. The stamp of the
    problem is kept with it, which saves clearing; it decides no place, so that a search remembers the same
    orders whatever was searched before.
    """
    key = _FNV_START
    for i in range(loops):
        key = (key ^ np.uint64(order[np.uint64(i)] + 1)) * _FNV_PRIME
    key ^= key >> np.uint64(29)
    key *= _SPREAD
    place = key >> np.uint64(64 - SEEN_BITS)
    key ^= np.uint64(scratch.state[TABLE, STAMP])
    if scratch.seen[place] == key:
        return False
    scratch.seen[place] = key
    return True


@jit
def perturb(best: Integers, loops: int, order: Integers, state: npt.NDArray[np.uint64]) -> None:
    """Fill `order` with the best order after a few random moves."""
    for i in range(loops):
        order[i] = best[i]
    for _ in range(_KICKS):
        move(order, int(_random(state) * loops), int(_random(state) * loops))


@jit
def merge_factors(order_dim: Integers, order_size: Floats, loops: int, limit: int) -> int:
    """Merge factors of the same loop in place until `limit` are left; return how many are.

    As LOMA does it: the two smallest factors of the loop that has the most.
    """
    while loops > limit:
        dim, most = 0, 1
        for d in range(DIMS):
            factors = 0
            for i in range(loops):
                factors += 1 if order_dim[i] == d else 0
            if factors > most:
                dim, most = d, factors
        if most < 2:
            break
        first, second = -1, -1
        for i in range(loops):
            if order_dim[i] != dim:
                continue
            if first < 0 or order_size[i] < order_size[first]:
                first, second = i, first
            elif second < 0 or order_size[i] < order_size[second]:
                second = i
        order_size[first] *= order_size[second]
        for i in range(second, loops - 1):
            order_dim[i], order_size[i] = order_dim[i + 1], order_size[i + 1]
        loops -= 1
    return loops


@jit
def split_factors(order: Integers, loops: int, limit: int, scratch: Scratch) -> int:
    """Split factors in place where they stand into their primes, at most to `limit`; return how many."""
    i = 0
    while i < loops and loops < limit:
        dim = scratch.factors[FACTOR_DIM, order[i]]
        size = int(scratch.factor_size[order[i]])
        divisor = 2
        while divisor * divisor <= size and size % divisor:
            divisor += 1
        if divisor * divisor > size:
            i += 1
            continue
        inner = number_of(dim, float(divisor), scratch)
        outer = number_of(dim, float(size // divisor), scratch)
        if inner < 0 or outer < 0:
            break
        for k in range(loops, i, -1):
            order[k] = order[k - 1]
        order[i], order[i + 1] = inner, outer
        loops += 1
        i += 1
    return loops
