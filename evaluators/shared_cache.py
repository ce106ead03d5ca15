"""The folder in which several runs share what they trained."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from torch import nn

from evaluators.cache import Entry
from evaluators.data.splits import DataSplits
from evaluators.digests import digest
from evaluators.provenance import code_digest, data_digest, machine_facts, network_digest
from search_spaces.choice import JsonValue
from search_spaces.network import NetworkChoice


class SharedCache:
    """Lends and borrows finished entries, under a key that knows what a run may take for granted.

    Networks and data named as `module:callable` are never in it: their code may change.

    Args:
        folder: where it lies; made where something is lent.
        dataset: the name of the data.
        splits: gives the data, when they are needed.
        build: gives an untrained network.
    """

    def __init__(
        self,
        folder: Path,
        *,
        dataset: str,
        splits: Callable[[], DataSplits],
        build: Callable[[NetworkChoice], nn.Module],
    ) -> None:
        self._folder = folder
        self._dataset = dataset
        self._splits = splits
        self._build = build
        self._networks: dict[NetworkChoice, str] = {}

    def borrowed(self, entry: Entry, network: NetworkChoice) -> bool:
        """Take what is here of a run's entry; return whether there was anything whole."""
        shared = self._entry(entry, network)
        return shared is not None and shared.is_whole and entry.take(shared)

    def lend(self, entry: Entry, network: NetworkChoice) -> None:
        """Have what is whole of a run's entry here too."""
        shared = self._entry(entry, network)
        if shared is not None:
            shared.take(entry)

    def _entry(self, entry: Entry, network: NetworkChoice) -> Entry | None:
        """Return an entry's place here; None where it may have none."""
        if ":" in network.name or ":" in self._dataset:
            return None
        key = digest([entry.digest, self._provenance(network)])
        return Entry(folder=self._folder, kind=entry.kind, digest=key)

    def _provenance(self, network: NetworkChoice) -> dict[str, JsonValue]:
        if network not in self._networks:
            self._networks[network] = network_digest(self._build(network))
        return {
            "code": code_digest(),
            "data": self._data,
            "network": self._networks[network],
            **machine_facts(),
        }

    @cached_property
    def _data(self) -> str:
        return data_digest(self._splits())
