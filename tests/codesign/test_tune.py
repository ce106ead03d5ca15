"""The study inside Ray Tune: what the searcher draws, remembers and tells, without Tune's own machinery."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from codesign.drive import open_sweep
from codesign.errors import CodesignError
from codesign.jobs import Answer, Job
from codesign.results import TrialState
from codesign.run_folder import open_run
from codesign.tune import ANSWER, CosearchSearcher, trainable
from tests.codesign.conftest import STUDY, FormulaExecutor, formula_result


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "formula.yaml"
    path.write_text(STUDY.replace("trials: 40", "trials: 6"))
    return path


def answer_to(config: object) -> dict[str, object]:
    assert isinstance(config, dict)
    job = Job(number=config["trial"], stage=0, design=json.loads(config["design"]))
    result = formula_result(job)
    return {**result.scores, ANSWER: Answer(result=result).to_text()}


def test_a_run_of_tune_is_a_run_folder_as_any_other(tmp_path: Path, study: Path) -> None:
    run = tmp_path / "run"
    searcher = CosearchSearcher(study, run)
    configs = [searcher.suggest(f"t{index}") for index in range(7)]
    assert configs[6] == CosearchSearcher.FINISHED
    for index in (3, 0, 1, 2, 4):
        searcher.on_trial_complete(f"t{index}", answer_to(configs[index]))
    searcher.on_trial_complete("t5", None, error=True)
    searcher.on_trial_complete("t5", answer_to(configs[5]))  # a second answer changes nothing
    searcher.close()
    results = open_run(run).results()
    assert [result.trial for result in results] == list(range(6))
    assert results[5].state is TrialState.FAILED
    assert "Ray Tune ended the trial with an error" in str(results[5].reason)


def test_after_a_kill_nothing_is_counted_twice_and_nothing_forgotten(tmp_path: Path, study: Path) -> None:
    run = tmp_path / "run"
    killed = CosearchSearcher(study, run)
    first = [killed.suggest(f"t{index}") for index in range(3)]
    killed.save(str(tmp_path / "snapshot"))
    fourth = killed.suggest("t3")  # after Tune's last snapshot
    killed.on_trial_complete("t0", answer_to(first[0]))
    killed.close()
    again = CosearchSearcher(study, run)
    again.restore(str(tmp_path / "snapshot"))
    again.on_trial_complete("t0", answer_to(first[0]))  # Tune had not noticed: it ran it again
    assert again.suggest("u0") == fourth
    for name, config in (("t1", first[1]), ("t2", first[2]), ("u0", fourth)):
        again.on_trial_complete(name, answer_to(config))
    for index in (4, 5):
        again.on_trial_complete(f"u{index}", answer_to(again.suggest(f"u{index}")))
    assert again.suggest("more") == CosearchSearcher.FINISHED
    again.close()
    assert [result.trial for result in open_run(run).results()] == list(range(6))


def test_resume_goes_on_with_what_tune_began(tmp_path: Path, study: Path) -> None:
    searcher = CosearchSearcher(study, tmp_path / "run")
    configs = [searcher.suggest(f"t{index}") for index in range(4)]
    searcher.on_trial_complete("t2", answer_to(configs[2]))
    searcher.close()
    folder = open_run(tmp_path / "run")
    with folder.driver_lock():
        assert open_sweep(folder, folder.study(), FormulaExecutor(folder), lambda tick: None).run()
    assert [result.trial for result in folder.results()] == list(range(6))


def test_a_searcher_can_be_pickled_while_it_is_open(tmp_path: Path, study: Path) -> None:
    searcher = CosearchSearcher(study, tmp_path / "run")
    first = searcher.suggest("t0")
    data = pickle.dumps(searcher)
    searcher.close()
    copy = pickle.loads(data)
    assert copy.suggest("t1") != first
    copy.close()


def test_a_trial_without_an_answer_has_failed(tmp_path: Path, study: Path) -> None:
    searcher = CosearchSearcher(study, tmp_path / "run")
    searcher.suggest("t0")
    searcher.on_trial_complete("t0", {"loss": 1.0})
    searcher.close()
    result = open_run(tmp_path / "run").result(0)
    assert result is not None
    assert result.reason == "the trainable reported no answer"


def test_a_study_with_stages_is_refused(tmp_path: Path, study: Path) -> None:
    text = study.read_text() + "training: {epochs: 4}\nfidelity: {epochs: [1]}\n"
    study.write_text(text)
    for make in (CosearchSearcher, trainable):
        with pytest.raises(CodesignError, match="`fidelity` has no counterpart in Ray Tune"):
            make(study, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_the_example_of_the_docs_runs(tmp_path: Path, study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # where Ray writes the token of a private cluster
    text = study.read_text().replace("trials: 6", "trials: 3").replace("dataset: digits", "dataset: shapes")
    study.write_text(
        text.replace("dataset: shapes", "dataset: {name: shapes, input_shape: [1, 8, 8], num_classes: 10}")
        .replace("objectives: [validation_accuracy, ", "objectives: [inference_latency_s, ")
        .replace("14]", "1e12]")
    )
    import ray

    monkeypatch.setattr("ray.train.constants.DEFAULT_STORAGE_PATH", str(tmp_path / "tune"))
    monkeypatch.chdir(tmp_path)
    study.rename("my_study.yaml")
    page = (Path(__file__).parents[2] / "docs" / "sweeps.md").read_text()
    example = page.split("```python\n")[1].split("```")[0]
    ray.init(address="local", num_cpus=1, include_dashboard=False, object_store_memory=100 * 2**20)
    try:
        exec(compile(example, "docs/sweeps.md", "exec"), {})
    finally:
        ray.shutdown()
    results = open_run(tmp_path / "runs" / "tuned").results()
    assert [result.state for result in results] == [TrialState.COMPLETED] * 3
