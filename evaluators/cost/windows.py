"""The compiled union of recurring windows: how long a memory port is open to at least one transfer."""

from __future__ import annotations

import numpy as np

from evaluators.cost.compiled import entry
from evaluators.cost.layout import COVER, HIDDEN, OPEN, PERIODS, RANK, Floats


@entry
def window_union(windows: Floats, members: int) -> float:
    """Return how much of the longest period is covered by windows open for part of their periods.

    The first `members` columns of the rows `PERIODS` and `OPEN` of `windows` describe them; its other rows
    are working memory. All windows start together and shorter periods divide longer ones. With U_i the cover
    of windows 0..i over period i: U_i = A_i + (P_i / P_{i-1}) U_{i-1} - cover_{i-1}(A_i).
    """
    for i in range(members):
        windows[RANK, i] = i
        k = i
        while k > 0 and windows[PERIODS, int(windows[RANK, k])] < windows[PERIODS, int(windows[RANK, k - 1])]:
            swapped = windows[RANK, k]
            windows[RANK, k] = windows[RANK, k - 1]
            windows[RANK, k - 1] = swapped
            k -= 1
    for rank in range(members):
        own = int(windows[RANK, rank])
        windows[COVER, rank] = windows[OPEN, own]
        windows[HIDDEN, rank] = 0.0  # what shorter windows cover inside the open part of this one
        if rank == 0:
            continue
        x = windows[OPEN, own]
        inside = 0.0
        below = rank - 1
        while below >= 0:
            at = int(windows[RANK, below])
            repeats = np.floor(x / windows[PERIODS, at])
            inside += repeats * windows[COVER, below]
            x -= repeats * windows[PERIODS, at]
            if x <= windows[OPEN, at]:
                inside += x
                break
            inside += windows[OPEN, at] - windows[HIDDEN, below]
            below -= 1
        ratio = windows[PERIODS, own] / windows[PERIODS, int(windows[RANK, rank - 1])]
        windows[HIDDEN, rank] = inside
        windows[COVER, rank] += ratio * windows[COVER, rank - 1] - inside
    return float(windows[COVER, members - 1])
