"""Where a bench keeps what it trains: its own cache, and the folder that several runs share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from evaluators.cache import Entry, Kind
from evaluators.dataset_spec import DatasetSpec
from evaluators.digests import digest
from evaluators.learning.recipe import Recipe
from evaluators.learning.stages import Stage, smaller_shares
from evaluators.shared_cache import SharedCache
from search_spaces.choice import JsonValue
from search_spaces.design import AlgorithmicHalf, fingerprint
from search_spaces.network import NetworkChoice


class Shelf:
    """The places of pretrained networks and trained halves, each under a hash of what decides about it.

    Args:
        cache: folder of this run's own; None keeps nothing.
        shared: what several runs share, beside a cache.
        stages: the ends of fine-tuning, as `Bench` has them.
    """

    def __init__(
        self,
        cache: Path | None,
        shared: SharedCache | None,
        *,
        dataset: DatasetSpec,
        recipe: Recipe,
        seed: int,
        stages: Sequence[Stage],
    ) -> None:
        self._cache = cache
        self._shared = shared
        self._dataset = dataset
        self._recipe = recipe
        self._seed = seed
        self._stages = tuple(stages)

    def pretrained(self, network: NetworkChoice) -> Entry | None:
        """Return the place of a dense network; None where nothing is kept."""
        return self._entry(Kind.PRETRAINED, fingerprint(network), {})

    def half(self, half: AlgorithmicHalf) -> Entry | None:
        """Return the place of a trained half; None where nothing is kept."""
        shares = smaller_shares(self._stages)
        return self._entry(Kind.HALF, fingerprint(half), {"smaller_shares": list(shares)} if shares else {})

    def borrowed(self, entry: Entry, network: NetworkChoice) -> bool:
        """Take from other runs what a place lacks; return whether there was anything whole."""
        return self._shared is not None and self._shared.borrowed(entry, network)

    def lend(self, entry: Entry, network: NetworkChoice) -> None:
        """Let other runs have what is whole of a place."""
        if self._shared is not None:
            self._shared.lend(entry, network)

    def _entry(self, kind: Kind, name: str, settings: Mapping[str, JsonValue]) -> Entry | None:
        if self._cache is None:
            return None
        # What trains a half beside the half itself. The data folder is left out: it holds the same data.
        rest: dict[str, JsonValue] = {
            "dataset": self._dataset.name,
            "train_examples": self._dataset.train_examples,
            "validation_examples": self._dataset.validation_examples,
            "recipe": self._recipe.model_dump(mode="json"),
            "seed": self._seed,
            **settings,
        }
        return Entry(folder=self._cache, kind=kind, digest=digest([name, rest]))
