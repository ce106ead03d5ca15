"""Where the energy goes on the chips that hardware sweeps kept: worked out when a page asks for it.

A sweep prices thousands of chips in one call, without a ledger each; few of them ever come to the front.
What is written here is what the trial's worker would have written had the chip been the trial's own.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable

from codesign.files import write_json
from codesign.problem import bench_of
from codesign.results import TrialResult
from codesign.run_folder import RunFolder
from codesign.study_file import StudyFile
from evaluators.bench import Bench
from evaluators.evaluate import Priced, compress, measure, price, priced_ledger, suppose
from evaluators.half_choices import replacements_of
from evaluators.scores import derive
from search_spaces.design import design_from_json

_AGREES = 1e-9  # relative; the sweep's scores are those of one chip alone to the last bit on one machine


def write_ledgers(folder: RunFolder, study: StudyFile, labels: Iterable[str]) -> dict[str, str]:
    """Write the ledgers of these designs that are missing, from the halves in the cache; nothing is trained.

    Args:
        labels: as in `12.3`; designs on their trial's own chip are left to the worker that evaluated them.

    Returns:
        Why not, by label, for those that cannot be worked out.
    """
    wanted = {label for label in labels if "." in label and not folder.ledger_path(label).is_file()}
    if not wanted:
        return {}
    directory = folder.directory()
    if directory and directory not in sys.path:
        sys.path.append(directory)  # where the user's `module:callable` was found when the run began
    bench = bench_of(study, folder.cache_path)
    trials = {int(label.partition(".")[0]) for label in wanted}
    results = [result for number in sorted(trials) if (result := folder.result(number)) is not None]
    refused: dict[str, str] = {}
    for variant in (variant for result in results for variant in result.variants()):
        if variant.label not in wanted:
            continue
        try:
            ledger = _ledger(bench, variant)
        except (ValueError, OSError) as error:
            refused[variant.label] = str(error)
        else:
            write_json(folder.ledger_path(variant.label), ledger)
    return refused


def _ledger(bench: Bench, variant: TrialResult) -> dict[str, object]:
    """Return the ledger of one design.

    Raises:
        ValueError: the trained half is gone, or no longer gives the scores that were published.
    """
    design = design_from_json(variant.design)
    traced = bench.trace(design.network, design.learning, replacements_of(design.algorithm))
    asked = suppose(compress(traced, design.algorithm), bench.shape_for(design.network))
    if bench.can_train:
        trained = bench.kept(design.algorithm)
        if trained is None:
            raise ValueError("its trained weights are not in the cache any more, or are damaged")
        asked = measure(asked, trained)
    priced = price(asked, design.accelerator.build(), accuracy=None)
    _check_same(priced, variant)
    return priced_ledger(priced)


def _check_same(priced: Priced, variant: TrialResult) -> None:
    for name, value in derive(priced.facts).as_dict().items():
        published = variant.scores.get(name, value)
        if not math.isclose(value, published, rel_tol=_AGREES):
            raise ValueError(
                f"its {name} was {published:.6g} in the sweep and is {value:.6g} now: the code has changed"
            )
