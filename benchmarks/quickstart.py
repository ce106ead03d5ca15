"""What the README says of the quickstart, measured: `python benchmarks/quickstart.py`.

Runs the bundled quickstart twice (two processes, the same seed) in a temporary folder and prints the table.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WITHIN = 0.01  # one percentage point of the reference's test accuracy


def cosearch(*arguments: str, cwd: Path) -> str:
    """Run the command line and return what it printed; its errors end the benchmark."""
    command = [sys.executable, "-m", "codesign", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True).stdout


def best_design(front: dict[str, object]) -> tuple[float, float, int]:
    """Return (times less energy, test accuracy lost, trial) of the cheapest design that is as good."""
    reference = front["reference"]["scores"]  # type: ignore[index]
    good = [
        (reference["inference_energy_pj"] / d["scores"]["inference_energy_pj"], d)
        for d in front["designs"]  # type: ignore[attr-defined]
        if d["scores"]["test_accuracy"] >= reference["test_accuracy"] - WITHIN
    ]
    factor, design = max(good, key=lambda pair: pair[0])
    return factor, reference["test_accuracy"] - design["scores"]["test_accuracy"], design["trial"]


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        # The first command of an installation compiles the mapper; that is told apart.
        started = time.monotonic()
        cosearch("check", "quickstart", cwd=home)
        compiled = time.monotonic()
        cosearch("run", "quickstart", "--out", "first", "--quiet", cwd=home)
        first = time.monotonic()
        cosearch("run", "quickstart", "--out", "second", "--quiet", cwd=home)
        status = json.loads(cosearch("status", "first", "--json", cwd=home))
        fronts = [(home / run / "front.json").read_text() for run in ("first", "second")]
        factor, lost, trial = best_design(json.loads(fronts[0]))
    trials = " / ".join(str(status[name]) for name in ("planned", "trained", "gated", "failed"))
    same = "the same front, byte for byte" if fronts[0] == fronts[1] else "ANOTHER FRONT"
    rows = {
        "`cosearch check quickstart` (compiles the mapper once)": f"{compiled - started:.0f} s",
        "`cosearch run quickstart`": f"{first - compiled:.0f} s",
        "trials: all / trained / gated / failed": trials,
        "energy per inference, within 1 point of the reference's test accuracy": (
            f"{factor:.1f}x less, {100 * lost:.1f} points lost (trial {trial})"
        ),
        "hypervolume": f"{status['hypervolume']:.4f}",
        "sweep overhead (workers' time that is neither training nor costing)": (
            f"{100 * status['overhead']:.1f} %"
        ),
        "the same seed in another process": same,
    }
    print("| quickstart | measured |\n|---|---|")
    for label, value in rows.items():
        print(f"| {label} | {value} |")


if __name__ == "__main__":
    main()
