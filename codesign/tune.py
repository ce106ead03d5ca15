"""A study inside Ray Tune: a search algorithm and the trainable that goes with it.

    from ray import tune
    from codesign.tune import CosearchSearcher, trainable

    tuner = tune.Tuner(
        trainable("quickstart.yaml", "runs/tuned"),
        tune_config=tune.TuneConfig(
            search_alg=CosearchSearcher("quickstart.yaml", "runs/tuned"), num_samples=60
        ),
    )
    tuner.fit()

This is for those whose jobs live in Tune: its callbacks, its loggers, its placement. The results lie in a run
folder as any other, so `cosearch front` and `cosearch report` read them. What Tune's way of working costs:

- no stages, so no halving (`fidelity`): Tune's searchers learn from finished trials only, and its schedulers
  look at one metric;
- results are told as they come, so the same seed does not give the same trials twice;
- Tune's own limits and retries count, not the study's (`executor`, `trial_minutes`, `wall_minutes`);
- what training made stays on its node, unless the run folder is there: `cosearch export` may find nothing;
- after a kill, `Tuner.restore` runs what Tune remembers under its old numbers; what it has forgotten, and a
  new Tuner over the same run folder, draw what was never finished once more under the same number. No trial
  is counted twice; `cosearch resume` can go on with the folder, too.

Each Tune trial starts an actor of its own, which takes seconds; `executor: ray` keeps its workers.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from ray.tune.search import Searcher

from codesign.errors import CodesignError
from codesign.executors.ray_worker import cache_of
from codesign.files import write_json
from codesign.jobs import Answer, Job, answer_from_text, deliver
from codesign.layers import read_layers
from codesign.problem import failure_to_result
from codesign.results import TrialResult
from codesign.run_folder import RunFolder, create, open_run
from codesign.search_space import space_of
from codesign.storage import open_storage
from codesign.study_file import StudyFile
from codesign.study_reader import load_study, parse_study
from codesign.trial_book import TrialBook
from codesign.worker import Worker
from evaluators.scores import Direction
from search_spaces.choice import JsonValue
from search_spaces.design import design_from_json

ANSWER = "codesign_answer"  # the metric under which a trial reports all that came of it, as text


class CosearchSearcher(Searcher):
    """Proposes the designs of a study to Ray Tune, and keeps what comes of them in a run folder.

    Args:
        study: a study file's path, or the name of a bundled study.
        run: the run folder; continued where it is one, made where there is none.

    Raises:
        CodesignError: the study has stages, or the folder is of another study.
    """

    def __init__(self, study: str | Path, run: str | Path) -> None:
        question = load_study(str(study))
        _check(question)
        modes = {Direction.MAXIMIZE: "max", Direction.MINIMIZE: "min"}
        super().__init__(
            metric=[objective.name for objective in question.objectives],  # type: ignore[arg-type]
            mode=[modes[objective.direction] for objective in question.objectives],  # type: ignore[arg-type]
        )
        self._study = question
        self._path = Path(run).resolve()
        self._numbers: dict[str, int] = {}  # of Tune's trials that are not over
        self._open: _OpenRun | None = None

    def set_search_properties(
        self, metric: object, mode: object, config: Mapping[str, object], **spec: object
    ) -> bool:
        """Accept what Tune says; objectives and space are the study's."""
        return True

    def suggest(self, trial_id: str) -> dict[str, object] | str:  # type: ignore[override]  # as Ray documents
        """Return the next design; `FINISHED` where the budget or the space is spent."""
        drawn = self._opened().draw(taken=set(self._numbers.values()))
        if drawn is None:
            return str(Searcher.FINISHED)
        number, design = drawn
        self._numbers[trial_id] = number
        return {"trial": number, "design": json.dumps(design)}

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, object] | None = None, error: bool = False
    ) -> None:
        """Publish what came of a trial, and let the sampler learn from it."""
        number = self._numbers.pop(trial_id, None)
        if number is None:
            return
        text = None if error or result is None else result.get(ANSWER)
        reason = "Ray Tune ended the trial with an error" if error else "the trainable reported no answer"
        self._opened().tell(number, text if isinstance(text, str) else None, reason)

    def save(self, checkpoint_path: str) -> None:
        """Write which of Tune's trials has which number; all else stands in the run folder."""
        Path(checkpoint_path).write_text(json.dumps(self._numbers), encoding="utf-8")

    def restore(self, checkpoint_path: str) -> None:
        """Read what `save` wrote."""
        self._numbers = json.loads(Path(checkpoint_path).read_text(encoding="utf-8"))

    def close(self) -> None:
        """Let go of the run folder, so that another process may drive it."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def __getstate__(self) -> dict[str, object]:
        """Return what Tune may pickle: everything but the open storage."""
        return self.__dict__ | {"_open": None}

    def _opened(self) -> _OpenRun:
        if self._open is None:
            self._open = _OpenRun(self._study, self._path)
        return self._open


class _OpenRun:
    """The run folder of a searcher, with the driver's lock."""

    def __init__(self, study: StudyFile, path: Path) -> None:
        exists = (path / "manifest.json").is_file()
        self._folder = open_run(path) if exists else create(path, study, command="ray.tune")
        self._study, self._held = study, ExitStack()
        self._held.enter_context(self._folder.driver_lock())
        try:
            self._folder.check_unchanged(study)
            if not self._folder.layers_path.is_file():
                worker = Worker(study, cache=self._folder.cache_path, directory=self._folder.directory())
                write_json(self._folder.layers_path, worker.describe())
            storage = open_storage(study.storage, self._folder.journal_path)
            space = space_of(study, read_layers(self._folder.layers_path))
            self._book = TrialBook(study, space, storage, name=self._folder.storage_name(study))
            self._unfinished: dict[int, JsonValue] = {}
            for _ in range(self._book.stored):
                self._ask()
            for number in sorted(self._unfinished):
                result = self._folder.result(number)
                if result is not None:
                    self._count(result)
        except BaseException:
            self._held.close()
            raise

    def draw(self, taken: set[int]) -> tuple[int, JsonValue] | None:
        """Return a trial that nobody works on: one that was forgotten, or a new one."""
        number = next((n for n in sorted(self._unfinished) if n not in taken), None)
        if number is None:
            trials = self._study.budget.trials
            number = self._ask() if trials is None or self._book.asked < trials else None
        return None if number is None else (number, self._unfinished[number])

    def tell(self, number: int, text: str | None, reason: str) -> None:
        """Publish an answer, or that there is none; of two answers the first counts."""
        if number not in self._unfinished:
            return
        design = design_from_json(self._unfinished[number])
        failure = Answer(result=failure_to_result(number, design, reason))
        deliver(self._folder, failure if text is None else answer_from_text(text))
        published = self._folder.result(number)
        if published is not None:
            self._count(published)

    def close(self) -> None:
        """Let go of the driver's lock."""
        self._held.close()

    def _ask(self) -> int | None:
        draw = self._book.ask()
        if draw is None:
            return None
        design = draw.design
        self._unfinished[draw.number] = design
        path = self._folder.trial_path(draw.number) / "design.json"
        if not path.is_file():
            write_json(path, design)
        return draw.number

    def _count(self, result: TrialResult) -> None:
        self._book.tell(result)
        del self._unfinished[result.trial]


def trainable(study: str | Path, run: str | Path) -> Callable[[Mapping[str, object]], None]:
    """Return the function that Tune runs for each design of a `CosearchSearcher`.

    Args:
        study: the same study file.
        run: the same run folder; where a node does not see it, its trained halves stay in a temporary folder.

    Raises:
        CodesignError: the study has stages.
    """
    question = load_study(str(study))
    _check(question)
    return _evaluator(question.to_yaml(), str(Path(run).resolve()), os.getcwd())


def _check(study: StudyFile) -> None:
    if study.fidelity is not None:
        raise CodesignError(
            "`fidelity` has no counterpart in Ray Tune, whose searchers learn from finished trials only: "
            "leave it out, or sweep with `executor: ray`"
        )


def _evaluator(text: str, run: str, directory: str) -> Callable[[Mapping[str, object]], None]:
    def evaluate(config: Mapping[str, object]) -> None:
        from ray import tune

        study = parse_study(text, "the study")
        if directory not in sys.path and Path(directory).is_dir():
            sys.path.append(directory)
        worker = Worker(study, cache=_cache(Path(run)), directory="")
        job = Job(number=int(str(config["trial"])), stage=0, design=json.loads(str(config["design"])))
        answer = worker.evaluate(job)
        tune.report({**answer.result.scores, "state": answer.result.state.value, ANSWER: answer.to_text()})

    return evaluate


def _cache(run: Path) -> Path:
    """Return the run's own cache where this node sees it, else one of the node's."""
    folder = RunFolder(path=run)
    return folder.cache_path if folder.manifest_path.is_file() else cache_of(run.name)
