"""What a running sweep shows: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from codesign.front import hypervolume
from codesign.report.quantities import format_quantity
from codesign.results import TrialResult, TrialState
from codesign.study_file import StudyFile
from codesign.sweep import Tick
from codesign.views import best_gain

_STYLES = {
    TrialState.COMPLETED: "green",
    TrialState.STOPPED: "cyan",
    TrialState.GATED: "yellow",
    TrialState.FAILED: "red",
}


def duration(seconds: float) -> str:
    """Return a duration as people write it.

    >>> duration(75), duration(3700)
    ('1:15', '1:01:40')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Spending:
    """How much of one budget is spent."""

    spent: float
    limit: float
    unit: str

    @property
    def text(self) -> str:
        """Trials as counts, minutes and trainings to a tenth."""
        spent = f"{self.spent:.0f}" if self.unit == "trials" else f"{self.spent:.1f}"
        return f"{spent} of {self.limit:g} {self.unit}"


@dataclass(slots=True)
class Progress:
    """Watches a sweep. Use it as a context manager around the sweep.

    Args:
        console: where to show; a live display only where it is a terminal.
    """

    study: StudyFile
    console: Console
    quiet: bool = False
    _live: Live | None = None
    _counted: int = 0
    _volume: float = 0.0
    _announced: bool = False
    _first: Tick | None = None
    _last: Tick | None = None

    def __enter__(self) -> Progress:
        if not self.quiet:
            self.console.print("Starting (the first run of an installation compiles the cost model) ...")
        if self.console.is_terminal and not self.quiet:
            self._live = Live(console=self.console, refresh_per_second=4, transient=False)
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()
        if self._last is not None and not self.quiet:
            for line in self._ending(self._last):
                self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def __call__(self, tick: Tick) -> None:
        """Show one tick."""
        resumed = self._first is None and bool(tick.fresh)
        self._first = self._first or tick
        self._last = tick
        if tick.fresh:
            self._volume = hypervolume(tick.members, self.study.objectives, tick.reference)
        if self.quiet:
            return
        if self._live is not None:
            self._live.update(self._panel(tick))
        elif resumed:
            self._counted = len(tick.fresh)
            self.console.print(self._earlier(tick), highlight=False, markup=False, soft_wrap=True)
        else:
            for result in tick.fresh:
                self._counted += 1
                self.console.print(self._line(result, tick), highlight=False, markup=False, soft_wrap=True)
        if tick.stopping and not self._announced:
            self._announced = True
            self.console.print("Finishing what is running; press Ctrl-C again to stop at once.")

    @property
    def ended(self) -> str | None:
        """Why the sweep drew no more, once all that it had drawn is told."""
        return None if self._last is None else self._last.ended

    def _left(self, tick: Tick) -> str:
        """Say when the first budget will be spent, at this session's pace; a plateau cannot be foreseen."""
        first = self._first or tick
        if tick.told - first.told < 2:
            return "?"
        pace = [
            tick.elapsed_s * (one.limit - one.spent) / (one.spent - before.spent)
            for one, before in zip(self._spending(tick), self._spending(first), strict=True)
            if one.spent > before.spent
        ]
        return duration(max(0.0, min(pace))) if pace else "?"

    def _spending(self, tick: Tick) -> tuple[_Spending, ...]:
        """Return how far each of the study's budgets is spent; the front's growth is not among them."""
        budget = self.study.budget
        found = [
            (tick.told, budget.trials, "trials"),
            (tick.training_s / 60, budget.training_minutes, "minutes of training"),
            (tick.trainings, budget.trainings, "trainings"),
            (tick.wall_s / 60, budget.wall_minutes, "minutes"),
        ]
        return tuple(
            _Spending(spent=spent, limit=limit, unit=unit)
            for spent, limit, unit in found
            if limit is not None
        )

    def _ending(self, tick: Tick) -> list[str]:
        """Say how the trials of the run ended, and which budget ended it."""
        counts = ", ".join(f"{tick.counts[state]} {state.value}" for state in _STYLES if tick.counts[state])
        return ([counts] if counts else []) + ([f"ended: {tick.ended}"] if tick.ended else [])

    def _earlier(self, tick: Tick) -> str:
        """Say in one line what earlier sessions have left; a run begins with nothing told."""
        trials = "1 trial was" if len(tick.fresh) == 1 else f"{len(tick.fresh)} trials were"
        return (
            f"[{self._place(tick)}] {trials} over before, {len(tick.members)} on the front "
            f"(hypervolume {self._volume:.4f})"
        )

    def _line(self, result: TrialResult, tick: Tick) -> str:
        scores = ", ".join(
            f"{o.name} {format_quantity(result.scores[o.name], o.kind.unit)}"
            for o in self.study.objectives
            if o.name in result.scores
        )
        told = result.reason or (result.violations[0].constraint + " broken" if result.violations else scores)
        if result.hardware:
            told += f"; {len(result.hardware)} more of its chips kept"
        return (
            f"[{self._place(tick)}] trial {result.trial} {result.state.value}: {told} "
            f"(hypervolume {self._volume:.4f}, {self._left(tick)} left)"
        )

    def _place(self, tick: Tick) -> str:
        """Number a line: of how many trials, or of how much of the budget where it is not in trials."""
        if tick.planned is not None:
            return f"{self._counted}/{tick.planned}"
        return ", ".join([str(self._counted), *(one.text for one in self._spending(tick))])

    def _panel(self, tick: Tick) -> Group:
        spending = self._spending(tick)
        told = [] if tick.planned is not None else [f"{tick.told} trials"]
        head = Text.assemble(
            (self.study.name, "bold"),
            f"  {', '.join(told + [one.text for one in spending])}; "
            f"{duration(tick.elapsed_s)} gone, "
            f"{self._left(tick)} left",
        )
        states = Text("  ").join(
            Text(f"{tick.counts[state]} {state.value}", style=style) for state, style in _STYLES.items()
        )
        running = ", ".join(str(number) for number in tick.running) or "none"
        table = Table.grid(padding=(0, 2))
        table.add_row("trials", states)
        table.add_row("running", running)
        table.add_row("front", f"{len(tick.members)} designs")
        table.add_row("hypervolume", f"{self._volume:.4f}")
        gain = best_gain(tick.members, self.study.objectives, tick.reference)
        if gain is not None:
            text = f"{gain.factor:.2f}x less {gain.objective} than the reference, as good"
            table.add_row("best gain", f"{text} (trial {gain.label})")
        share = max((min(1.0, one.spent / one.limit) for one in spending), default=0.0)
        return Group(head, ProgressBar(total=1.0, completed=share, width=60), table)
