"""What the report page shows, as checked frozen values.

A score that was not taken is absent from ``TrialRecord.scores``; NaN and infinities are accepted and shown
as missing ("–"): they are never drawn, never sorted before a number and never counted as a gain.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum


class ReportError(ValueError):
    """The values handed to the report contradict each other."""


class Direction(StrEnum):
    """Which way an objective improves."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"


class TrialState(StrEnum):
    """How a trial ended; a gated trial broke a constraint and was not trained, a stopped one only in part."""

    COMPLETED = "completed"
    GATED = "gated"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """One objective of the study.

    Args:
        name: Score name, e.g. ``inference_energy_pj``.
        direction: Which way it improves.
        unit: Unit of the score; ``codesign.report.quantities`` lists those that get prefixes or percent.
        label: Words in the middle of a sentence, e.g. ``energy per inference``.
        reported_as: Score that stands for this one in words, e.g. ``test_accuracy`` for
            ``validation_accuracy``; the search and the choice of designs still look at ``name`` only.
    """

    name: str
    direction: Direction
    unit: str
    label: str
    reported_as: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.direction, Direction):
            raise ReportError(
                f"direction must be a Direction, but objective {self.name!r} has {self.direction!r};"
                f" write Direction.MINIMIZE or Direction.MAXIMIZE"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class StatusCounts:
    """How the trials that ended did."""

    completed: int
    gated: int
    stopped: int
    failed: int

    def __post_init__(self) -> None:
        counts = (self.completed, self.gated, self.stopped, self.failed)
        if min(counts) < 0:
            raise ReportError(
                f"counts must be >= 0, but got (completed, gated, stopped, failed)={counts};"
                f" count the trials of the storage again"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialRecord:
    """One trial: what was tried, what it is worth, or why it is worth nothing.

    A trial's network on one more chip of its hardware sweep is a record of its own, with a `variant`.

    Args:
        number: Number of the trial in the study.
        state: How it ended.
        variant: Which of the chips that the trial's hardware sweep kept, from 1; None for the trial's own.
        chips: How many other chips the trial's hardware sweep kept, whether or not they are records here.
        reached: For a stopped trial how far it came, e.g. ``stage 1 of 2 (epochs 1 of 3)``; its scores are
            those of that stage.
        scores: Score name to value, in the score's unit; a score that was not taken is absent.
        design: ``(label, value)`` pairs that describe the design, in reading order.
        violations: One text for each broken constraint (gated trials).
        reason: Why the trial failed, or None.
        on_front: Nobody beats this design.
        knee: The front's knee; at most one trial of a study.
        reference: The design that gains are measured against; at most one trial of a study.
    """

    number: int
    state: TrialState
    variant: int | None = None
    chips: int = 0
    reached: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    design: tuple[tuple[str, str], ...] = ()
    violations: tuple[str, ...] = ()
    reason: str | None = None
    on_front: bool = False
    knee: bool = False
    reference: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.state, TrialState):
            raise ReportError(
                f"state must be a TrialState, but trial {self.label} has {self.state!r};"
                f" write one of {', '.join(f'TrialState.{state.name}' for state in TrialState)}"
            )
        if self.on_front and self.state is not TrialState.COMPLETED:
            raise ReportError(
                f"a design on the front must be completed, but trial {self.label} is {self.state.value};"
                f" take the front of completed trials only"
            )
        if self.variant is not None and (self.variant < 1 or self.state is not TrialState.COMPLETED):
            raise ReportError(
                f"a chip of a hardware sweep must be completed and counts from 1, but trial {self.label} is"
                f" {self.state.value}; hand in what completed trials' sweeps kept"
            )
        if (self.reached is None) == (self.state is TrialState.STOPPED):
            raise ReportError(
                f"`reached` says how far a stopped trial came, and no other has it, but trial {self.label} is"
                f" {self.state.value} with {self.reached!r}; give it to stopped trials"
            )

    @property
    def label(self) -> str:
        """The trial's number, and after a point the chip of its hardware sweep, as in ``12.3``."""
        return str(self.number) if self.variant is None else f"{self.number}.{self.variant}"

    @property
    def place(self) -> tuple[int, int]:
        """What sorts records: by number, the trial's own chip before the others."""
        return (self.number, self.variant or 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class BreakdownRow:
    """Where one layer's energy goes in one phase.

    Args:
        layer: Name of the layer.
        phase: What the layer does, e.g. ``forward``, ``input gradient``, ``weight gradient``, ``update``.
        energy_pj: Memory level (or ``compute``) to operand to picojoules.
        latency_s: Latency of the layer in this phase.
        macs: Multiply-accumulates of the layer in this phase.
    """

    layer: str
    phase: str
    energy_pj: Mapping[str, Mapping[str, float]]
    latency_s: float
    macs: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Breakdown:
    """Energy of one design, layer by layer, for one inference and for one training step."""

    inference: tuple[BreakdownRow, ...] = ()
    training: tuple[BreakdownRow, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportData:
    """Everything the page shows; nothing else is read to render it.

    Args:
        study: Name of the study.
        description: What the study asks, in the words of its file.
        seed: Seed of the sampler.
        budget: What was planned, in words.
        counts: How many trials ended in which way.
        wall_s: Seconds that the sweep took, or None where nobody measured.
        objectives: At least one.
        score_units: Score name to unit, for every score the page may show.
        trials: In any order; labels must differ.
        hypervolume: ``(trial number, hypervolume after it)`` pairs.
        breakdowns: Label of a trial to its layer-by-layer energy; trials may be left out.
        manifest: ``(label, value)`` pairs: versions, machine, command, git commit.
        commands: ``(what it does, command line)`` pairs that reproduce the run.
        table_knobs: Labels of ``TrialRecord.design`` that the table of the front shows as columns.
    """

    study: str
    description: str
    seed: int
    budget: str
    counts: StatusCounts
    wall_s: float | None
    objectives: tuple[Objective, ...]
    score_units: Mapping[str, str]
    trials: tuple[TrialRecord, ...]
    hypervolume: tuple[tuple[int, float], ...] = ()
    breakdowns: Mapping[str, Breakdown] = field(default_factory=dict)
    manifest: tuple[tuple[str, str], ...] = ()
    commands: tuple[tuple[str, str], ...] = ()
    table_knobs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_objectives(self.objectives, self.score_units)
        _check_trials(self.trials)
        unknown = sorted(set(self.breakdowns) - {trial.label for trial in self.trials})
        if unknown:
            raise ReportError(
                f"every breakdown must belong to a trial, but trials {unknown} are not among the"
                f" {len(self.trials)} trials; leave them out"
            )

    @property
    def reference(self) -> TrialRecord | None:
        """The trial that gains are measured against, if there is one."""
        return next((trial for trial in self.trials if trial.reference), None)

    @property
    def front(self) -> tuple[TrialRecord, ...]:
        """The trials on the front, by number."""
        return tuple(sorted((t for t in self.trials if t.on_front), key=lambda trial: trial.place))

    @property
    def chips_kept(self) -> int:
        """How many other chips all hardware sweeps kept."""
        return sum(trial.chips for trial in self.trials)

    @property
    def chips_left_out(self) -> int:
        """How many of these are no records here."""
        return self.chips_kept - sum(trial.variant is not None for trial in self.trials)


def _check_objectives(objectives: tuple[Objective, ...], score_units: Mapping[str, str]) -> None:
    """Refuse an empty, repeated or unknown objective."""
    names = [objective.name for objective in objectives]
    if not names:
        raise ReportError("a study must have at least one objective, but got none; name one in `objectives`")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ReportError(f"objective names must differ, but {repeated} are repeated; name each once")
    for objective in objectives:
        shown = objective.reported_as
        if shown is not None and shown not in score_units:
            near = get_close_matches(shown, list(score_units), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known scores: {', '.join(sorted(score_units))}"
            raise ReportError(
                f"reported_as must name a score with a unit, but objective {objective.name!r} has {shown!r};"
                f" {hint}"
            )


def _check_trials(trials: tuple[TrialRecord, ...]) -> None:
    """Refuse repeated labels, two references, two knees."""
    repeated = sorted(label for label, count in Counter(trial.label for trial in trials).items() if count > 1)
    if repeated:
        raise ReportError(f"trial labels must differ, but {repeated} are repeated; hand each trial in once")
    for role, marked in (
        ("reference", [trial.label for trial in trials if trial.reference]),
        ("knee", [trial.label for trial in trials if trial.knee]),
    ):
        if len(marked) > 1:
            raise ReportError(f"at most one trial may be the {role}, but trials {marked} are; mark one")
