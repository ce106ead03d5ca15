"""Who trains on: multi-objective successive halving, asynchronous, in its stopping variant.

A trial that reaches a rung (a training budget) is compared with the results that other trials had at that
rung, and goes on if it is among the best of them. Nobody waits: the first results of a rung go on for want of
company, as in every asynchronous variant.
"""

from __future__ import annotations

from collections.abc import Sequence

from codesign.errors import CodesignError
from codesign.ranking import as_losses, best_first


def keeps_going(candidate: Sequence[float], others: Sequence[Sequence[float]], eta: int) -> bool:
    """Return whether a trial goes on from a rung: it is among the best ceil(n / eta) of `n` results there.

    With fewer than `eta` results, the candidate's included, it goes on. The order of `others` does not
    matter: of equal results the candidate stands last.

    Args:
        candidate: the trial's losses at this rung, shape (m,); smaller is better, +inf is no value at all.
        others: the losses of the other trials that reached this rung, shape (n - 1, m).
        eta: one in `eta` goes on.

    Raises:
        CodesignError: `eta` is below 2, the numbers of objectives differ, or a value is NaN or -inf.

    Source: Schmucker et al. 2021, Multi-objective Asynchronous Successive Halving, arXiv 2106.12639; the
        stopping variant: Li et al. 2020, A System for Massively Parallel Hyperparameter Tuning, as in
        Klein et al. 2020, Model-based Asynchronous Hyperparameter and Neural Architecture Search.
    """
    if eta < 2:
        raise CodesignError(f"successive halving keeps one in eta >= 2 trials, but eta is {eta}")
    values = as_losses([*others, candidate])
    count = len(values)
    if count < eta:
        return True
    kept = -(-count // eta)
    return bool(count - 1 in best_first(values)[:kept])
