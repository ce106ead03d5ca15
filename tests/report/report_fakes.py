"""Report data as a study gives it: invented designs whose scores follow the knobs that they are made of.

Nothing here is a measurement; the figures only have the shape and the size of real ones.
"""

import dataclasses
import math

import numpy as np

from codesign.report import (
    Breakdown,
    BreakdownRow,
    Direction,
    Objective,
    ReportData,
    StatusCounts,
    TrialRecord,
    TrialState,
)

OBJECTIVES = (
    Objective(
        name="validation_accuracy",
        direction=Direction.MAXIMIZE,
        unit="fraction",
        label="validation accuracy",
        reported_as="test_accuracy",
    ),
    Objective(
        name="inference_energy_pj", direction=Direction.MINIMIZE, unit="pJ", label="energy per inference"
    ),
    Objective(
        name="inference_latency_s", direction=Direction.MINIMIZE, unit="s", label="latency per inference"
    ),
    Objective(
        name="peak_training_bytes", direction=Direction.MINIMIZE, unit="bytes", label="peak training memory"
    ),
)
SCORE_UNITS = {
    "test_accuracy": "fraction",
    "validation_accuracy": "fraction",
    "inference_energy_pj": "pJ",
    "inference_latency_s": "s",
    "peak_inference_bytes": "bytes",
    "peak_training_bytes": "bytes",
    "training_energy_pj": "pJ",
    "storage_bits": "bits",
    "area_mm2": "mm2",
    "macs": "count",
}
CHIPS = ("eyeriss", "tpu_like", "stm32f746")
LAYERS = ("stem", "block1.conv1", "block1.conv2", "block2.conv1", "block2.conv2", "head")
LEVELS = ("compute", "register file", "global buffer", "DRAM")
PHASES = ("forward", "input gradient", "weight gradient", "update")


def fake_report(trials: int = 120, seed: int = 7, layers: tuple[str, ...] = LAYERS) -> ReportData:
    """Invent a finished study of so many trials."""
    rng = np.random.default_rng(seed)
    records = _with_front([_trial(number, rng, layers) for number in range(trials)])
    return ReportData(
        study="quickstart",
        description="Which small convolutional network, at which bit-widths and sparsity, on which chip,"
        " classifies handwritten digits with the least energy, latency and training memory?",
        seed=seed,
        budget=f"{trials} trials",
        counts=StatusCounts(
            completed=sum(record.state is TrialState.COMPLETED for record in records),
            gated=sum(record.state is TrialState.GATED for record in records),
            stopped=0,
            failed=sum(record.state is TrialState.FAILED for record in records),
        ),
        wall_s=0.9 * trials,
        objectives=OBJECTIVES,
        score_units=SCORE_UNITS,
        trials=tuple(records),
        hypervolume=_hypervolume(records),
        breakdowns={
            record.label: _breakdown(record, layers, rng)
            for record in records
            if record.on_front or record.reference
        },
        table_knobs=("width", "accelerator"),
        manifest=(
            ("codesign", "0.1.0"),
            ("git commit", "0123456789abcdef0123456789abcdef01234567"),
            ("python", "3.11.2"),
            ("torch", "2.13.0+cpu"),
            ("optuna", "5.0.0"),
            ("command", "cosearch run quickstart --seed 7"),
        ),
        commands=(
            ("Run the whole study again", "cosearch run quickstart --seed 7 --out runs/quickstart-again"),
            ("Continue it", "cosearch resume runs/quickstart --trials 200"),
            ("Take the front away", "cosearch export runs/quickstart --front --out designs"),
        ),
    )


def with_stages_and_chips(data: ReportData, chips: int = 3) -> ReportData:
    """Invent what successive halving and a hardware sweep add.

    Of the dominated trials two in three were stopped: every second of these before its training, so that it
    has no accuracy. Every front design's sweep kept so many other chips; the first needs less latency and
    more energy, and is on the front.
    """
    losers = [t for t in data.trials if kind_of(t) == "dominated"]
    stopped = {t.label: place for place, t in enumerate(losers) if place % 3}
    records: list[TrialRecord] = []
    for trial in data.trials:
        if trial.label in stopped:
            records.append(_stopped(trial, trained=bool(stopped[trial.label] % 2)))
            continue
        records.append(dataclasses.replace(trial, chips=chips) if trial.on_front else trial)
        if trial.on_front:
            records.append(_on_another_chip(trial))
    counts = dataclasses.replace(
        data.counts, completed=data.counts.completed - len(stopped), stopped=len(stopped)
    )
    own = {label: one for label, one in data.breakdowns.items() if label not in stopped}
    others = {t.label: data.breakdowns[str(t.number)] for t in records if t.variant is not None}
    return dataclasses.replace(data, trials=tuple(records), counts=counts, breakdowns={**own, **others})


def kind_of(trial: TrialRecord) -> str:
    """Name a trial's kind as the page does."""
    if trial.reference:
        return "reference"
    if trial.on_front:
        return "front"
    return "dominated" if trial.state is TrialState.COMPLETED else trial.state.value


def _stopped(trial: TrialRecord, *, trained: bool) -> TrialRecord:
    taken = {"validation_accuracy", "test_accuracy"}
    scores = {name: value for name, value in trial.scores.items() if trained or name not in taken}
    reached = "stage 2 of 3 (epochs 1 of 4)" if trained else "stage 1 of 3 (synflow, before any training)"
    return dataclasses.replace(trial, state=TrialState.STOPPED, scores=scores, reached=reached)


def _on_another_chip(trial: TrialRecord) -> TrialRecord:
    scores = dict(trial.scores)
    scores["inference_energy_pj"] *= 1.25
    scores["inference_latency_s"] *= 0.5
    design = tuple(
        (name, "tpu_like 8x32" if name == "accelerator" else value) for name, value in trial.design
    )
    return dataclasses.replace(
        trial, variant=1, chips=0, scores=scores, design=design, knee=False, reference=False
    )


def _trial(number: int, rng: np.random.Generator, layers: tuple[str, ...]) -> TrialRecord:
    """Invent one trial; number 0 is the 8-bit dense reference."""
    reference = number == 0
    chip = 0 if reference else int(rng.integers(len(CHIPS)))
    width = 16 if reference else int(rng.choice([8, 12, 16, 24]))
    bits = [8 if reference else int(rng.choice([2, 3, 4, 6, 8])) for _ in layers]
    density = [1.0 if reference else float(rng.choice([0.25, 0.5, 0.75, 1.0])) for _ in layers]
    work = width * width * float(np.mean([b * d for b, d in zip(bits, density, strict=True)]))
    scores = {
        "inference_energy_pj": 420.0 * work * (1.0, 1.7, 11.0)[chip],
        "inference_latency_s": 2.1e-8 * work * (4.0, 1.0, 260.0)[chip],
        "peak_inference_bytes": 96.0 * width * float(np.mean(bits)),
        "peak_training_bytes": 2400.0 * width * (1 + float(np.mean(bits)) / 8),
        "training_energy_pj": 1500.0 * work * (1.0, 1.7, 11.0)[chip],
        "storage_bits": 9.0 * work * 4,
        "area_mm2": (12.25, 30.1, 2.4)[chip],
        "macs": float(9 * 64 * width * width),
    }
    design = (
        ("network", "conv_net"),
        ("width", str(width)),
        *(
            (f"{layer} weights", f"{b} bit, {d:.0%} dense")
            for layer, b, d in zip(layers, bits, density, strict=True)
        ),
        ("accelerator", CHIPS[chip]),
    )
    if not reference and number % 41 == 40:
        return TrialRecord(
            number=number,
            state=TrialState.FAILED,
            design=design,
            reason=f"loss is not finite after step {int(rng.integers(10, 200))} (learning rate 0.1)",
        )
    peak = scores["peak_training_bytes"]
    if peak > 84_000:
        return TrialRecord(
            number=number,
            state=TrialState.GATED,
            scores=scores,
            design=design,
            violations=(f"peak_training_bytes <= 84000 must hold, but got {peak:.0f}",),
        )
    # Few bits and few weights cost accuracy, each less than the one before.
    fall = 0.16 * math.exp(-float(np.mean([b * d for b, d in zip(bits, density, strict=True)])) / 1.3)
    accuracy = 0.978 - fall - 0.03 * math.exp(-width / 7) + float(rng.normal(0, 0.003))
    scores["validation_accuracy"] = accuracy
    scores["test_accuracy"] = accuracy - 0.004 + float(rng.normal(0, 0.003))
    return TrialRecord(
        number=number, state=TrialState.COMPLETED, scores=scores, design=design, reference=reference
    )


def _losses(record: TrialRecord) -> tuple[float, ...]:
    return tuple(record.scores[o.name] * (1 if o.direction is Direction.MINIMIZE else -1) for o in OBJECTIVES)


def _with_front(records: list[TrialRecord]) -> list[TrialRecord]:
    """Mark the designs nobody beats, and as knee the one closest to the best of everything."""
    known = [record for record in records if record.state is TrialState.COMPLETED]
    if not known:
        return records
    losses = np.array([_losses(record) for record in known])
    beaten = [bool(np.any(np.all(losses <= row, axis=1) & np.any(losses < row, axis=1))) for row in losses]
    span = np.ptp(losses, axis=0)
    scaled = (losses - losses.min(axis=0)) / np.where(span > 0, span, 1.0)
    distance = np.where(beaten, np.inf, np.linalg.norm(scaled, axis=1))
    knee = known[int(np.argmin(distance))].number
    front = {record.number for record, lost in zip(known, beaten, strict=True) if not lost}
    return [
        TrialRecord(
            number=record.number,
            state=record.state,
            scores=record.scores,
            design=record.design,
            violations=record.violations,
            reason=record.reason,
            on_front=record.number in front,
            knee=record.number == knee,
            reference=record.reference,
        )
        for record in records
    ]


def _hypervolume(records: list[TrialRecord]) -> tuple[tuple[int, float], ...]:
    """Invent a curve that rises as a search does: fast, then slowly."""
    return tuple(
        (record.number, round(0.82 - 0.4 * math.exp(-(record.number // 4) / 8), 4)) for record in records
    )


def _breakdown(record: TrialRecord, layers: tuple[str, ...], rng: np.random.Generator) -> Breakdown:
    return Breakdown(
        inference=_rows(record.scores["inference_energy_pj"], ("forward",), layers, rng),
        training=_rows(record.scores["training_energy_pj"], PHASES, layers, rng),
    )


def _rows(
    energy_pj: float, phases: tuple[str, ...], layers: tuple[str, ...], rng: np.random.Generator
) -> tuple[BreakdownRow, ...]:
    """Share an energy among layers, phases, levels and operands."""
    shares = rng.dirichlet(np.linspace(1.0, 3.0, len(layers) * len(phases)) * 4)
    rows = []
    for i, share in enumerate(shares):
        cells = energy_pj * share * rng.dirichlet((4, 4, 4, 3, 3, 3, 2, 2, 2, 3, 5, 3))
        grid = cells.reshape(len(LEVELS), 3)
        rows.append(
            BreakdownRow(
                layer=layers[i // len(phases)],
                phase=phases[i % len(phases)],
                energy_pj={
                    level: dict(zip("WIO", (float(v) for v in row), strict=True))
                    for level, row in zip(LEVELS, grid, strict=True)
                },
                latency_s=1e-6 * float(share),
                macs=int(90_000 * share),
            )
        )
    return tuple(rows)
