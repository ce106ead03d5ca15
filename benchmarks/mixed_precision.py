"""A mixed-precision front against every uniform precision, on the same network, recipe and seeds.

`python -m benchmarks.mixed_precision --data-root PATH --out DIR`: for each seed, every uniform precision (2
to 8 bits, weights and activations alike) is trained and priced, and the study `mixed_precision` is run. The
search is not warmed with them, but for one: its reference design, trial 0, is the uniform one of fewest bits,
which costs less than any other. For each uniform precision the rival is the design of the search with the
best *validation* accuracy at no more energy, at no more storage, or at no more of both; the gain in *test*
accuracy, which chose nothing, is printed beside that in validation accuracy. Then the other way round: the
cheapest design of the search whose validation accuracy is no lower.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from codesign import load
from codesign.problem import Problem
from codesign.study_file import StudyFile
from search_spaces.space import assemble, knobs

STUDY = "mixed_precision"
BITS = (2, 3, 4, 5, 6, 7, 8)
KINDS = ("weight", "activation")
ENERGY, STORAGE = "inference_energy_pj", "storage_bits"
COSTS: Mapping[str, tuple[str, ...]] = {
    "energy": (ENERGY,),
    "storage": (STORAGE,),
    "energy and no more storage": (ENERGY, STORAGE),
}
ROUNDING = 1e-9  # relative, of sums of floats that are equal by construction


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A design's scores."""

    scores: Mapping[str, float]

    @property
    def validation(self) -> float:
        """Accuracy by which designs are chosen."""
        return self.scores["validation_accuracy"]

    @property
    def test(self) -> float:
        """Accuracy that is reported."""
        return self.scores["test_accuracy"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rival:
    """A searched design beside a uniform one: gains in points of accuracy, and its costs as shares."""

    validation_gain: float
    test_gain: float
    energy_share: float
    storage_share: float


def uniform_points(study: StudyFile, cache: Path) -> dict[int, Point]:
    """Return every uniform precision, trained and priced as the study does it."""
    problem = Problem(study, cache)
    names = knobs(study.space_, study.network.name, problem.describe)
    found = {}
    for bits in BITS:
        assignment = {name: bits for name in names if name.endswith(("weight_bits", "activation_bits"))}
        design, _ = assemble(study.space_, assignment, study.network.name, problem.describe)
        found[bits] = Point(scores=problem.evaluate(design, gate=False).scores.as_dict())
    return found


def searched_points(overrides: Iterable[str], out: Path) -> tuple[Point, ...]:
    """Return every design that the search has trained."""
    study = load(STUDY, tuple(overrides), out=out)
    study.run()
    return tuple(Point(scores=result.scores) for result in study.results() if result.feasible)


def beside(uniform: Point, searched: Point) -> Rival:
    """Return how a searched design compares with a uniform one."""
    return Rival(
        validation_gain=100 * (searched.validation - uniform.validation),
        test_gain=100 * (searched.test - uniform.test),
        energy_share=searched.scores[ENERGY] / uniform.scores[ENERGY],
        storage_share=searched.scores[STORAGE] / uniform.scores[STORAGE],
    )


def best_within(uniform: Point, searched: Iterable[Point], costs: tuple[str, ...]) -> Rival | None:
    """Return the most accurate searched design (by validation) at no more of some costs, if there is one."""

    def within(point: Point) -> bool:
        return all(point.scores[name] <= uniform.scores[name] * (1 + ROUNDING) for name in costs)

    best = max(filter(within, searched), key=lambda point: point.validation, default=None)
    return None if best is None else beside(uniform, best)


def cheapest_as_good(uniform: Point, searched: Iterable[Point], cost: str) -> Rival | None:
    """Return the searched design of least cost whose validation accuracy is no lower, if there is one."""
    as_good = (point for point in searched if point.validation >= uniform.validation)
    best = min(as_good, key=lambda point: point.scores[cost], default=None)
    return None if best is None else beside(uniform, best)


Runs = Mapping[int, tuple[Mapping[int, Point], tuple[Point, ...]]]


def print_gains(runs: Runs) -> None:
    """Print what the best design within each uniform precision's costs gains, for every seed."""
    for name, costs in COSTS.items():
        print(f"\nbest at no more {name}: points of accuracy gained, each seed, and their mean")
        for bits in BITS:
            rivals = [best_within(uniform[bits], found, costs) for uniform, found in runs.values()]
            _print_row(bits, rivals, {"test": lambda one: one.test_gain, "validation": _validation_gain})


def print_savings(runs: Runs) -> None:
    """Print what the cheapest design as good as each uniform precision costs, for every seed."""
    shares: dict[str, Callable[[Rival], float]] = {
        ENERGY: lambda one: one.energy_share,
        STORAGE: lambda one: one.storage_share,
    }
    for cost, share in shares.items():
        print(f"\ncheapest in {cost} of no lower validation accuracy: its share of that cost")
        for bits in BITS:
            rivals = [cheapest_as_good(uniform[bits], found, cost) for uniform, found in runs.values()]
            _print_row(bits, rivals, {"share": share, "test gain": lambda one: one.test_gain})


def _validation_gain(one: Rival) -> float:
    return one.validation_gain


def _print_row(
    bits: int, rivals: Iterable[Rival | None], columns: Mapping[str, Callable[[Rival], float]]
) -> None:
    several = tuple(rivals)
    known = [one for one in several if one is not None]
    parts = []
    for title, pick in columns.items():
        each = " ".join("  none" if one is None else f"{pick(one):6.2f}" for one in several)
        mean = f"{fmean(map(pick, known)):6.2f}" if known else "  none"
        parts.append(f"{title} {each} mean {mean}")
    print(f"{bits} bits: {'; '.join(parts)}")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs; they are continued")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=None)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    runs = {}
    for seed in range(given.seeds):
        overrides = [f"seed={seed}", f"dataset.data_root={given.data_root}", *given.set]
        overrides += [f"reference.quantization.{kind}_bits={min(BITS)}" for kind in KINDS]
        overrides += [] if given.trials is None else [f"budget.trials={given.trials}"]
        every = [f"space.quantization.{kind}_bits={list(BITS)}" for kind in KINDS]
        study = load(STUDY, [*overrides, *every]).file
        uniform = uniform_points(study, given.out / f"uniform-{seed}")
        for bits, point in uniform.items():
            print(
                f"seed {seed}, uniform {bits} bits: validation {point.validation:.2%}, "
                f"test {point.test:.2%}, {point.scores[ENERGY] / 1e6:.3f} uJ, "
                f"{point.scores[STORAGE] / 8192:.2f} KiB",
                flush=True,
            )
        runs[seed] = uniform, searched_points(overrides, given.out / f"search-{seed}")
    print_gains(runs)
    print_savings(runs)


if __name__ == "__main__":
    main()
