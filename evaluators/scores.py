"""What a design is worth: named scores with unit and direction, each a function of the facts.

An objective, a constraint and a column of a report all name one of these. A score is one function of
`Facts`, declared with its name, unit and direction; a third party adds one by the same decorator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum


class ScoreError(ValueError):
    """A score is registered twice, or is not a number."""


class NotCostedError(ScoreError):
    """A pass that the accelerator cannot run has no energy and no latency."""


class Direction(Enum):
    """Which way is better."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"


class Source(Enum):
    """What a score needs before it can be told."""

    COST = "cost"  # the simulator: known before any training, so the gate can use it
    TRAINING = "training"  # the trained proxy


@dataclass(frozen=True, kw_only=True, slots=True)
class PassFacts:
    """The raw counts of one pass (an inference of one example, or one training step).

    Args:
        mapped: whether the accelerator can run it at all; where not, energy and latency are infinite.
        contraction_energy_pj: the part of `energy_pj` that convolutions and matrix products take.
    """

    mapped: bool
    energy_pj: float
    contraction_energy_pj: float
    latency_s: float
    macs: int
    dram_bits: float
    peak_bits: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Accuracy:
    """What the trained proxy reached, as shares of examples, 0 to 1."""

    validation: float
    test: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """All that is known of a design: raw counts beside which every score is derived.

    Args:
        undecoded_layers: layers whose stored weights no unit of the chip decodes.
    """

    inference: PassFacts
    training: PassFacts
    storage_bits: float
    area_mm2: float
    undecoded_layers: int
    accuracy: Accuracy | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreKind:
    """One named score.

    Args:
        function: facts -> value, in `unit`.
        searchable: False where choosing by it would spoil it (the test split).
    """

    name: str
    unit: str
    direction: Direction
    source: Source
    searchable: bool
    function: Callable[[Facts], float]

    @property
    def description(self) -> str:
        """The first line of the function's docstring."""
        return (self.function.__doc__ or "").strip().splitlines()[0]


_KINDS: dict[str, ScoreKind] = {}
_Function = Callable[[Facts], float]


def score(
    *,
    unit: str,
    direction: Direction = Direction.MINIMIZE,
    source: Source = Source.COST,
    searchable: bool = True,
) -> Callable[[_Function], _Function]:
    """Register a function of `Facts` as the score of its own name.

    Raises:
        ScoreError: the name is taken.
    """

    def file_under(function: _Function) -> _Function:
        name = function.__name__
        if name in _KINDS:
            raise ScoreError(f"a score is registered once, but {name!r} came twice")
        _KINDS[name] = ScoreKind(
            name=name, unit=unit, direction=direction, source=source, searchable=searchable, function=function
        )
        return function

    return file_under


def score_kinds() -> Mapping[str, ScoreKind]:
    """Return every registered score by name."""
    return dict(_KINDS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """Named values; a score that needs training is absent until there was some."""

    values: tuple[tuple[str, float], ...]

    def __getitem__(self, name: str) -> float:
        return dict(self.values)[name]

    def __contains__(self, name: str) -> bool:
        return any(known == name for known, _ in self.values)

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.values)

    def as_dict(self) -> dict[str, float]:
        """Return the scores by name."""
        return dict(self.values)


def derive(facts: Facts) -> Scores:
    """Return every score that the facts allow; an inference-only chip has no training energy."""
    values: list[tuple[str, float]] = []
    for name, kind in _KINDS.items():
        if kind.source is Source.TRAINING and facts.accuracy is None:
            continue
        try:
            values.append((name, float(kind.function(facts))))
        except NotCostedError:
            continue
    return Scores(values=tuple(values))


def _costed(passed: PassFacts) -> PassFacts:
    if not passed.mapped:
        raise NotCostedError("the accelerator cannot run this pass; `derive` leaves its scores out")
    return passed


def _accuracy(facts: Facts) -> Accuracy:
    if facts.accuracy is None:
        raise ScoreError("accuracy is known only of a trained design; `derive` leaves it out before that")
    return facts.accuracy


@score(unit="fraction", direction=Direction.MAXIMIZE, source=Source.TRAINING)
def validation_accuracy(facts: Facts) -> float:
    """Share of validation examples classified rightly; what the search sees."""
    return _accuracy(facts).validation


@score(unit="fraction", direction=Direction.MAXIMIZE, source=Source.TRAINING, searchable=False)
def test_accuracy(facts: Facts) -> float:
    """Share of test examples classified rightly; reported only."""
    return _accuracy(facts).test


test_accuracy.__test__ = False  # type: ignore[attr-defined]  # pytest would collect it by its name


@score(unit="pJ")
def inference_energy_pj(facts: Facts) -> float:
    """Energy of one inference of one example, DRAM and leakage included."""
    return _costed(facts.inference).energy_pj


@score(unit="pJ")
def contraction_energy_pj(facts: Facts) -> float:
    """Energy of an inference's convolutions and matrix products alone, as accelerator papers count it."""
    return _costed(facts.inference).contraction_energy_pj


@score(unit="s")
def inference_latency_s(facts: Facts) -> float:
    """Time of one inference of one example."""
    return _costed(facts.inference).latency_s


@score(unit="B")
def peak_inference_bytes(facts: Facts) -> float:
    """Most bytes alive at once in an inference: weights and activations at their own widths."""
    return facts.inference.peak_bits / 8


@score(unit="B")
def peak_training_bytes(facts: Facts) -> float:
    """Most bytes alive at once in a training step: weights, gradients, optimizer state, activations."""
    return facts.training.peak_bits / 8


@score(unit="B")
def peak_memory_bytes(facts: Facts) -> float:
    """The larger of the two peaks: what a device that infers and trains must have."""
    return max(facts.inference.peak_bits, facts.training.peak_bits) / 8


@score(unit="pJ")
def training_energy_pj(facts: Facts) -> float:
    """Energy of one training step: forward, backward and update of one batch."""
    return _costed(facts.training).energy_pj


@score(unit="s")
def training_latency_s(facts: Facts) -> float:
    """Time of one training step."""
    return _costed(facts.training).latency_s


@score(unit="bit")
def storage_bits(facts: Facts) -> float:
    """Bits of the stored weights, index of sparse ones and scales included."""
    return facts.storage_bits


@score(unit="mm2")
def area_mm2(facts: Facts) -> float:
    """Area of the accelerator."""
    return facts.area_mm2


@score(unit="count")
def undecoded_layers(facts: Facts) -> float:
    """Layers whose weights have a code that the chip has no unit for; costed as if decoding were free."""
    return float(facts.undecoded_layers)


@score(unit="count")
def macs(facts: Facts) -> float:
    """Multiply-accumulates of one inference, before any zero is skipped."""
    return float(facts.inference.macs)


@score(unit="B")
def inference_dram_bytes(facts: Facts) -> float:
    """Bytes moved between the chip and its DRAM in one inference."""
    return _costed(facts.inference).dram_bits / 8


@score(unit="pJ s")
def inference_edp_pj_s(facts: Facts) -> float:
    """Energy times delay of one inference."""
    return _costed(facts.inference).energy_pj * _costed(facts.inference).latency_s
