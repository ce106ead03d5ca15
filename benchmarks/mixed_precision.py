"""A mixed-precision front against every uniform precision, on the same network, recipe and seeds.

`python -m benchmarks.mixed_precision --data-root PATH --out DIR`: for each seed, every uniform precision (2
to 8 bits, weights and activations alike) is trained and priced, and the study `mixed_precision` is run. The
search is not warmed with them, but for one: its reference design, trial 0, is the uniform one of fewest bits,
to which nothing else in the space is equal in energy or in storage. For each uniform precision the rival is
the design of the search with the best *validation* accuracy at no more energy, at no more storage, or at no
more of both; the gain in *test* accuracy, which chose nothing, is printed beside that in validation accuracy.
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
COSTS: Mapping[str, tuple[str, ...]] = {
    "energy": ("inference_energy_pj",),
    "storage": ("storage_bits",),
    "both": ("inference_energy_pj", "storage_bits"),
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
    """The best searched design within a uniform one's costs; gains in points of accuracy."""

    validation_gain: float
    test_gain: float
    energy_share: float


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


def rival(uniform: Point, searched: Iterable[Point], costs: tuple[str, ...]) -> Rival | None:
    """Return how the best searched design within the costs compares; None where there is none."""

    def within(point: Point) -> bool:
        return all(point.scores[name] <= uniform.scores[name] * (1 + ROUNDING) for name in costs)

    best = max(filter(within, searched), key=lambda point: point.validation, default=None)
    if best is None:
        return None
    return Rival(
        validation_gain=100 * (best.validation - uniform.validation),
        test_gain=100 * (best.test - uniform.test),
        energy_share=best.scores["inference_energy_pj"] / uniform.scores["inference_energy_pj"],
    )


def print_table(runs: Mapping[int, tuple[dict[int, Point], tuple[Point, ...]]]) -> None:
    """Print the gains of every seed, and their mean, for every uniform precision."""
    for name, costs in COSTS.items():
        print(f"\nat no more {'energy and storage' if name == 'both' else name}: points of accuracy gained")
        print(f"{'bits':>4}  {'test, each seed':36} {'mean':>6}  {'validation, each seed':36}")
        for bits in BITS:
            rivals = [rival(uniform[bits], searched, costs) for uniform, searched in runs.values()]
            known = [one for one in rivals if one is not None]
            mean = f"{fmean(one.test_gain for one in known):+6.2f}" if known else "  none"
            tests, validations = (_listed(rivals, pick) for pick in (_test_gain, _validation_gain))
            print(f"{bits:>4}  {tests:36} {mean}  {validations:36}")


def _test_gain(one: Rival) -> float:
    return one.test_gain


def _validation_gain(one: Rival) -> float:
    return one.validation_gain


def _listed(rivals: Iterable[Rival | None], pick: Callable[[Rival], float]) -> str:
    return " ".join("  none" if one is None else f"{pick(one):+6.2f}" for one in rivals)


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
        overrides += [f"reference.quantization.{kind}_bits={min(BITS)}" for kind in ("weight", "activation")]
        overrides += [] if given.trials is None else [f"budget.trials={given.trials}"]
        study = load(STUDY, overrides).file
        uniform = uniform_points(study, given.out / f"uniform-{seed}")
        for bits, point in uniform.items():
            print(
                f"seed {seed}, uniform {bits} bits: validation {point.validation:.2%}, "
                f"test {point.test:.2%}, {point.scores['inference_energy_pj'] / 1e6:.3f} uJ, "
                f"{point.scores['storage_bits'] / 8192:.2f} KiB",
                flush=True,
            )
        runs[seed] = uniform, searched_points(overrides, given.out / f"search-{seed}")
        print_table({seed: runs[seed]})
    print_table(runs)


if __name__ == "__main__":
    main()
