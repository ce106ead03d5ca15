"""Scores of a network that cost one batch and no training: `names()`, `score(name, model, images)`."""

from evaluators.learning.zero_cost.registry import ZeroCostError, describe, names, score, zero_cost

__all__ = ["ZeroCostError", "describe", "names", "score", "zero_cost"]
