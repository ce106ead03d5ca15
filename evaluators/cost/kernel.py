"""The compiled core: allocate a loop order to the memories, count accesses, search over loop orders.

A mapping is an order of temporal loop factors, innermost first. Every operand's memories take prefixes of
that order: each level, from the innermost outwards, takes the longest prefixes that fit (operands that share
a level: those that leave the fewest transfers from above). That is the allocation of ZigZag's LOMA
(L. Mei et al., IEEE TC 70(8), 2021; A. Symons et al., AICAS 2021).

All arguments are plain arrays (`evaluators.cost.problem` packs them); letters of shapes: `d` = 8 loop
dimensions in the order B K C OY OX FY FX G, `o` = 3 operands in the order I W O, `m` memory levels, `l`
loop factors. Operand indices are of the loop nest; `slot` says which hardware operand each one plays.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from evaluators.cost.latency_kernel import latency
from evaluators.cost.layout import (
    CAPACITY,
    DIMS,
    DOUBLED,
    EXECUTED,
    FX,
    FY,
    GRANULARITY,
    HALO_ONCE,
    MAC_PJ,
    MAX_LEVELS,
    MAX_LOOPS,
    OX,
    OY,
    PIN_HOLDING,
    PSUM_BITS,
    READ_BACK_FIRST,
    READ_PJ,
    RESERVED,
    SLACK,
    WHOLE_PES,
    WORD,
    WRITE_PJ,
    B,
    C,
    Floats,
    G,
    I,
    Integers,
    K,
    O,
    W,
    irrelevant,
    jit,
    parallel_jit,
    reduces,
    sums_due,
)


@jit
def _span(a: float, b: float, stride: float, dilation: float, full: float) -> float:
    """Return how many input rows `a` output rows and `b` filter rows touch, clipped to the unpadded input.

    Source: ZigZag `LayerNode.calc_pr_dimension_size` (stride and dilation without their common divisor).
    """
    a = np.floor(a + SLACK)
    b = np.floor(b + SLACK)
    x = int(stride)
    y = int(dilation)
    while y:
        x, y = y, x % y
    span = a * b - max(0.0, b - stride / x) * max(0.0, a - dilation / x)
    return min(span, full)


@jit
def footprint(operand: int, e: Floats, geometry: Floats) -> float:
    """Return the number of elements of `operand` that loops of extents `e` (d,) touch."""
    if operand == W:
        return float(e[K] * e[C] * e[FY] * e[FX] * e[G])
    if operand == O:
        return float(e[B] * e[K] * e[OY] * e[OX] * e[G])
    rows = _span(e[OY], e[FY], geometry[0], geometry[2], geometry[4])
    columns = _span(e[OX], e[FX], geometry[1], geometry[3], geometry[5])
    return float(e[B] * e[C] * e[G] * rows * columns)


@jit
def _tile_bits(
    operand: int, accumulated: int, partial: bool, level: int, bits: Floats, psum_bits: float
) -> float:
    """Return the bits of one element at `level`: its stored bits, or a partial sum's while one is due."""
    if operand == accumulated and partial:
        return psum_bits
    return float(bits[operand, level])


@jit
def fill_tiles(
    order_dim: Integers,
    order_size: Floats,
    loops: int,
    chain_length: Integers,
    spatial: Floats,
    geometry: Floats,
    whole: bool,
    tiles: Floats,
) -> None:
    """Fill `tiles` (o, m, l + 1): the footprint of every prefix at every level of every operand's chain.

    `whole` rounds the average number of active PEs down to a whole one (see `Switches.whole_pes`).
    """
    extents = np.empty(DIMS)
    for operand in range(3):
        for j in range(chain_length[operand]):
            for d in range(DIMS):
                factor = spatial[operand, j, d]
                extents[d] = np.floor(factor + SLACK) if whole else factor
            tiles[operand, j, 0] = footprint(operand, extents, geometry)
            for i in range(loops):
                extents[order_dim[i]] *= order_size[i]
                if irrelevant(operand, order_dim[i]):
                    tiles[operand, j, i + 1] = tiles[operand, j, i]
                else:
                    tiles[operand, j, i + 1] = footprint(operand, extents, geometry)


@jit
def allocate(
    order_dim: Integers,
    order_size: Floats,
    loops: int,
    chain: Integers,
    chain_length: Integers,
    spatial: Floats,
    bits: Floats,
    psum_bits: float,
    accumulated: int,
    level_count: int,
    levels: Floats,
    tiles: Floats,
    prefix: Integers,
) -> int:
    """Fill `prefix` (o, m) with how many loops each memory of each operand holds; return -1 if all fits.

    Returns the index of the level that is too small otherwise.
    """
    position = np.zeros(3, np.int64)
    depth = np.zeros(3, np.int64)
    at_level = np.empty(3, np.int64)
    size = np.empty((3, MAX_LOOPS + 1))
    transfers = np.empty((3, MAX_LOOPS + 1))
    count = np.empty(3, np.int64)
    for level in range(level_count):
        room = levels[level, CAPACITY] - levels[level, RESERVED]
        members = 0
        for operand in range(3):
            j = depth[operand]
            if j < chain_length[operand] and chain[operand, j] == level:
                if j == chain_length[operand] - 1:  # the outermost memory takes what is left
                    prefix[operand, j] = loops
                    position[operand] = loops
                    depth[operand] += 1
                else:
                    at_level[members] = operand
                    members += 1
        for a in range(members):
            operand = at_level[a]
            j = depth[operand]
            start = position[operand]
            last = chain_length[operand] - 1
            partial = operand == accumulated and sums_due(
                accumulated, order_dim, start, loops, spatial[operand, last], spatial[operand, j]
            )
            element = _tile_bits(operand, accumulated, partial, level, bits, psum_bits)
            outside = 1.0
            for i in range(start, loops):
                outside *= order_size[i]
            whole = tiles[operand, j, loops]
            count[a] = 0
            for i in range(start, loops + 1):
                held = tiles[operand, j, i] * element
                if levels[level, DOUBLED] > 0 and tiles[operand, j, i] < whole:
                    held *= 2
                if held > room + SLACK:
                    break
                if i > start:
                    outside /= order_size[i - 1]
                size[a, i - start] = held
                transfers[a, i - start] = outside * held
                count[a] += 1
            if count[a] == 0:
                return level
        if members and not _share(members, count, size, transfers, room, at_level, position):
            return level
        for a in range(members):
            operand = at_level[a]
            prefix[operand, depth[operand]] = position[operand]
            depth[operand] += 1
    return -1


@jit
def _share(
    members: int,
    count: Integers,
    size: Floats,
    transfers: Floats,
    room: float,
    at_level: Integers,
    position: Integers,
) -> bool:
    """Advance `position` by the prefixes that fit together with the fewest transfers; False if none fit.

    Transfers never grow with a longer prefix, so the last member always takes the longest that fits.
    """
    if members == 1:
        position[at_level[0]] += count[0] - 1
        return True
    best = np.inf
    best_0, best_1, best_2 = -1, 0, 0
    if members == 2:
        i1 = count[1] - 1
        for i0 in range(count[0]):
            while i1 >= 0 and size[0, i0] + size[1, i1] > room + SLACK:
                i1 -= 1
            if i1 < 0:
                break
            moved = transfers[0, i0] + transfers[1, i1]
            if moved <= best:
                best, best_0, best_1 = moved, i0, i1
    else:
        for i0 in range(count[0]):
            i2 = count[2] - 1
            for i1 in range(count[1]):
                while i2 >= 0 and size[0, i0] + size[1, i1] + size[2, i2] > room + SLACK:
                    i2 -= 1
                if i2 < 0:
                    break
                moved = transfers[0, i0] + transfers[1, i1] + transfers[2, i2]
                if moved <= best:
                    best, best_0, best_1, best_2 = moved, i0, i1, i2
    if best_0 < 0:
        return False
    position[at_level[0]] += best_0
    position[at_level[1]] += best_1
    if members == 3:
        position[at_level[2]] += best_2
    return True


@jit
def _words(elements: float, bits: float, level: Floats) -> float:
    """Return the words that one transfer of `elements` costs: whole chunks, counted as parts of a word."""
    chunks = np.ceil(elements * bits / level[GRANULARITY] - SLACK)
    return float(chunks * level[GRANULARITY] / level[WORD])


@jit
def count(
    order_dim: Integers,
    order_size: Floats,
    loops: int,
    chain: Integers,
    chain_length: Integers,
    spatial: Floats,
    units: Floats,
    bits: Floats,
    psum_bits: float,
    accumulated: int,
    mac_scale: float,
    levels: Floats,
    switches: Floats,
    tiles: Floats,
    prefix: Integers,
    reads: Floats,
    writes: Floats,
) -> float:
    """Fill `reads` and `writes` (o, m) with word accesses of the whole layer; return their energy in pJ.

    `mac_scale` is the share of MACs that are not skipped: the innermost memories serve only those.
    """
    reads[:] = 0.0
    writes[:] = 0.0
    total = 1.0
    for i in range(loops):
        total *= order_size[i]
    energy_pj = 0.0
    for operand in range(3):
        length = chain_length[operand]
        last = length - 1
        held = 0  # loops below the boundary
        cycles = 1.0
        if operand != accumulated and switches[PIN_HOLDING] > 0:
            while held < loops and irrelevant(operand, order_dim[held]):
                cycles *= order_size[held]
                held += 1
        for b in range(length):
            upper = chain[operand, b]
            if b == 0:
                low_tile = 1.0
                high_tile = tiles[operand, 0, 0]
            else:
                target = prefix[operand, b - 1]
                while target < loops and irrelevant(operand, order_dim[target]):
                    target += 1  # an irrelevant loop just above a memory keeps what the memory holds
                while held < target:
                    cycles *= order_size[held]
                    held += 1
                low_tile = tiles[operand, b - 1, held]
                high_tile = tiles[operand, b, held]
                if switches[HALO_ONCE] == 0:
                    high_tile = low_tile * np.round(tiles[operand, b, 0] / tiles[operand, b - 1, 0])
            times = total / cycles
            if b == 0:
                times *= mac_scale
            high_bits = bits[operand, upper]
            low_bits = bits[operand, chain[operand, b - 1]] if b > 0 else 0.0
            copies = 1.0
            partial = operand == accumulated and sums_due(
                accumulated, order_dim, held, loops, spatial[operand, last], spatial[operand, b]
            )
            if partial:
                high_bits = psum_bits
                low_bits = psum_bits
                for d in range(DIMS):
                    if reduces(accumulated, d):
                        copies *= spatial[operand, last, d] / spatial[operand, b, d]
            high = _words(high_tile, high_bits, levels[upper]) * times * units[operand, b]
            low = 0.0
            if b > 0:
                low = (
                    _words(low_tile, low_bits, levels[chain[operand, b - 1]]) * times * units[operand, b - 1]
                )
            if operand != accumulated:
                reads[operand, upper] += high
                if b > 0:
                    writes[operand, chain[operand, b - 1]] += low
                continue
            back = 0.0
            if partial:
                back = 1.0
                if switches[READ_BACK_FIRST] == 0:
                    visits = high_tile * times * units[operand, b]
                    back = max(0.0, 1.0 - tiles[operand, last, loops] * copies / max(visits, 1.0))
            writes[operand, upper] += high
            reads[operand, upper] += high * back
            if b > 0:
                reads[operand, chain[operand, b - 1]] += low
                writes[operand, chain[operand, b - 1]] += low * back
        for b in range(length):
            m = chain[operand, b]
            energy_pj += reads[operand, m] * levels[m, READ_PJ] + writes[operand, m] * levels[m, WRITE_PJ]
    return energy_pj


ENERGY, LATENCY, EDP = range(3)


@jit
def _score(objective: int, energy_pj: float, cycles: float) -> float:
    """Return what the search minimises; the other quantity only breaks ties."""
    if objective == ENERGY:
        return energy_pj + 1e-9 * cycles
    if objective == LATENCY:
        return cycles + 1e-9 * energy_pj
    return energy_pj * cycles


@jit
def evaluate(
    order_dim: Integers,
    order_size: Floats,
    loops: int,
    chain: Integers,
    chain_length: Integers,
    spatial: Floats,
    units: Floats,
    geometry: Floats,
    bits: Floats,
    scalars: Floats,
    accumulated: int,
    level_count: int,
    levels: Floats,
    switches: Floats,
    objective: int,
    tiles: Floats,
    prefix: Integers,
    reads: Floats,
    writes: Floats,
    parts: Floats,
) -> tuple[float, float, float, int]:
    """Return (score, memory energy in pJ, latency in cycles, level that is too small or -1) of one order.

    `scalars` holds psum bits, the share of MACs not skipped, cycles of one MAC, and the MACs' energy in pJ.
    """
    fill_tiles(order_dim, order_size, loops, chain_length, spatial, geometry, False, tiles)
    fault = allocate(
        order_dim,
        order_size,
        loops,
        chain,
        chain_length,
        spatial,
        bits,
        scalars[PSUM_BITS],
        accumulated,
        level_count,
        levels,
        tiles,
        prefix,
    )
    if fault >= 0:
        return np.inf, np.inf, np.inf, fault
    energy_pj = count(
        order_dim,
        order_size,
        loops,
        chain,
        chain_length,
        spatial,
        units,
        bits,
        scalars[PSUM_BITS],
        accumulated,
        scalars[EXECUTED],
        levels,
        switches,
        tiles,
        prefix,
        reads,
        writes,
    )
    if switches[WHOLE_PES] > 0:
        fill_tiles(order_dim, order_size, loops, chain_length, spatial, geometry, True, tiles)
    cycles = latency(
        order_dim, order_size, loops, chain, chain_length, spatial, bits, scalars, accumulated,
        level_count, levels, switches, tiles, prefix, parts,
    )  # fmt: skip
    return _score(objective, energy_pj + scalars[MAC_PJ], cycles), energy_pj, cycles, -1


@jit
def _random(state: npt.NDArray[np.uint64]) -> float:
    """Return the next uniform number in [0, 1) of an xorshift generator (Marsaglia, 2003)."""
    x = state[0]
    x ^= (x << np.uint64(13)) & np.uint64(0xFFFFFFFFFFFFFFFF)
    x ^= x >> np.uint64(7)
    x ^= (x << np.uint64(17)) & np.uint64(0xFFFFFFFFFFFFFFFF)
    state[0] = x
    return float(x >> np.uint64(11)) / 9007199254740992.0


@jit
def search(
    order_dim: Integers,
    order_size: Floats,
    loops: int,
    chain: Integers,
    chain_length: Integers,
    spatial: Floats,
    units: Floats,
    geometry: Floats,
    bits: Floats,
    scalars: Floats,
    accumulated: int,
    level_count: int,
    levels: Floats,
    switches: Floats,
    objective: int,
    budget: int,
    seed: int,
) -> tuple[float, int]:
    """Improve the order in place; return (score, level that is too small or -1).

    Hill climbing: take one factor out and put it in elsewhere, first improvement, from several starts, until
    `budget` orders were evaluated.
    """
    tiles = np.empty((3, MAX_LEVELS, MAX_LOOPS + 1))
    prefix = np.zeros((3, MAX_LEVELS), np.int64)
    reads = np.zeros((3, MAX_LEVELS))
    writes = np.zeros((3, MAX_LEVELS))
    parts = np.zeros(4)
    state = np.empty(1, np.uint64)
    state[0] = np.uint64(seed * 2654435761 + 88172645463325252)
    best_dim = order_dim.copy()
    best_size = order_size.copy()
    dims = order_dim.copy()
    sizes = order_size.copy()
    best = np.inf
    fault = -1
    spent = 0
    start = 0
    while spent < budget:
        _start_order(start, order_dim, order_size, loops, dims, sizes, state)
        score, _, _, at = evaluate(
            dims, sizes, loops, chain, chain_length, spatial, units, geometry, bits, scalars, accumulated,
            level_count, levels, switches, objective, tiles, prefix, reads, writes, parts,
        )  # fmt: skip
        spent += 1
        if at >= 0:
            fault = at
        improved = True
        while improved and spent < budget:
            improved = False
            for i in range(loops):
                for j in range(loops):
                    if i == j or (j == i - 1) or _same_between(dims, sizes, i, j):
                        continue
                    _move(dims, sizes, i, j)
                    moved, _, _, at = evaluate(
                        dims, sizes, loops, chain, chain_length, spatial, units, geometry, bits, scalars,
                        accumulated, level_count, levels, switches, objective, tiles, prefix, reads, writes,
                        parts,
                    )  # fmt: skip
                    spent += 1
                    if moved < score * (1 - 1e-12):
                        score = moved
                        improved = True
                    else:
                        _move(dims, sizes, j, i)
                    if spent >= budget:
                        break
                if spent >= budget:
                    break
        if score < best:
            best = score
            best_dim[:loops] = dims[:loops]
            best_size[:loops] = sizes[:loops]
        start += 1
        if loops < 2:
            break
    order_dim[:loops] = best_dim[:loops]
    order_size[:loops] = best_size[:loops]
    return best, fault if best == np.inf else -1


@jit
def _same_between(dims: Integers, sizes: Floats, i: int, j: int) -> bool:
    """Return whether moving factor i to place j only passes equal factors, and so changes nothing."""
    low, high = min(i, j), max(i, j)
    same = True
    for k in range(low, high + 1):
        same = same and dims[k] == dims[i] and sizes[k] == sizes[i]
    return same


@jit
def _move(dims: Integers, sizes: Floats, i: int, j: int) -> None:
    """Take the factor at `i` out and put it in at `j`."""
    dim, size = dims[i], sizes[i]
    step = 1 if j > i else -1
    k = i
    while k != j:
        dims[k], sizes[k] = dims[k + step], sizes[k + step]
        k += step
    dims[j], sizes[j] = dim, size


@jit
def _start_order(
    start: int,
    order_dim: Integers,
    order_size: Floats,
    loops: int,
    dims: Integers,
    sizes: Floats,
    state: npt.NDArray[np.uint64],
) -> None:
    """Fill `dims` and `sizes` with the start order number `start`.

    The first three keep one operand still: its irrelevant loops innermost. The others are random.
    """
    dims[:loops] = order_dim[:loops]
    sizes[:loops] = order_size[:loops]
    if start < 3:
        place = 0
        for wanted in range(2):
            for i in range(loops):
                if (wanted == 0) == irrelevant((W, O, I)[start], order_dim[i]):
                    dims[place], sizes[place] = order_dim[i], order_size[i]
                    place += 1
        return
    for i in range(loops - 1, 0, -1):
        j = int(_random(state) * (i + 1))
        dims[i], dims[j] = dims[j], dims[i]
        sizes[i], sizes[j] = sizes[j], sizes[i]


@parallel_jit
def search_all(
    order_dim: Integers,
    order_size: Floats,
    loops: Integers,
    chain: Integers,
    chain_length: Integers,
    spatial: Floats,
    units: Floats,
    geometry: Floats,
    bits: Floats,
    scalars: Floats,
    accumulated: Integers,
    level_count: Integers,
    levels: Floats,
    switches: Floats,
    objective: int,
    budget: int,
    reads: Floats,
    writes: Floats,
    prefix: Integers,
    outcome: Floats,
) -> None:
    """Search every problem; leading axis of every array: problems. `outcome` gets the four of `evaluate`."""
    for p in numba.prange(loops.shape[0]):
        search(
            order_dim[p], order_size[p], loops[p], chain[p], chain_length[p], spatial[p], units[p],
            geometry[p], bits[p], scalars[p], accumulated[p], level_count[p], levels[p], switches, objective,
            budget, 1,
        )  # fmt: skip
        tiles = np.empty((3, MAX_LEVELS, MAX_LOOPS + 1))
        score, energy_pj, cycles, fault = evaluate(
            order_dim[p], order_size[p], loops[p], chain[p], chain_length[p], spatial[p], units[p],
            geometry[p], bits[p], scalars[p], accumulated[p], level_count[p], levels[p], switches, objective,
            tiles, prefix[p], reads[p], writes[p], outcome[p, 4:],
        )  # fmt: skip
        outcome[p, 0] = score
        outcome[p, 1] = energy_pj
        outcome[p, 2] = cycles
        outcome[p, 3] = fault


@parallel_jit
def evaluate_all(
    order_dim: Integers,
    order_size: Floats,
    loops: Integers,
    row: Integers,
    chain: Integers,
    chain_length: Integers,
    spatial: Floats,
    units: Floats,
    geometry: Floats,
    bits: Floats,
    scalars: Floats,
    accumulated: Integers,
    level_count: Integers,
    levels: Floats,
    switches: Floats,
    objective: int,
    reads: Floats,
    writes: Floats,
    prefix: Integers,
    outcome: Floats,
) -> None:
    """Evaluate given orders: order number `i` is of problem `row[i]`. Outputs have one row an order."""
    for i in numba.prange(row.shape[0]):
        p = row[i]
        tiles = np.empty((3, MAX_LEVELS, MAX_LOOPS + 1))
        score, energy_pj, cycles, fault = evaluate(
            order_dim[i], order_size[i], loops[i], chain[p], chain_length[p], spatial[p], units[p],
            geometry[p], bits[p], scalars[p], accumulated[p], level_count[p], levels[p], switches, objective,
            tiles, prefix[i], reads[i], writes[i], outcome[i, 4:],
        )  # fmt: skip
        outcome[i, 0] = score
        outcome[i, 1] = energy_pj
        outcome[i, 2] = cycles
        outcome[i, 3] = fault
