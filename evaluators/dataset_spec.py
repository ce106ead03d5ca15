"""Which data a proxy is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evaluators.data import registry as data
from evaluators.data.splits import DataSplits, limited
from evaluators.shapes import ShapesOnly


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetSpec:
    """Which data a proxy is trained on; `shapes` stands in their place where there are no examples."""

    name: str
    data_root: Path | None = None
    download: bool = False
    train_examples: int | None = None
    validation_examples: int | None = None
    shapes: ShapesOnly | None = None

    def load(self) -> DataSplits:
        """Return the examples that are used of it."""
        whole = data.load(self.name, self.data_root, self.download)
        return limited(whole, train=self.train_examples, validation=self.validation_examples)
