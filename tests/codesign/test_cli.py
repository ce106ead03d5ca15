"""The command line end to end, on real data and real training, small."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

STUDY = """
name: tiny
description: "Digits; <b>bold</b> questions are escaped."
network: small_cnn
dataset: {name: digits, train_examples: 200, validation_examples: 100}
space:
  network: {width: [0.5, 1.0]}
  quantization: {weight_bits: [2, 4, 8], activation_bits: [4, 8]}
  sparsity: {patterns: [dense, unstructured], density: 0.5}
  learning: {batch_size: 32}
  accelerator: {templates: {eyeriss_like: {pe_rows: [8, 12]}, tpu_like: {}}}
objectives: [validation_accuracy, inference_energy_pj]
constraints: [area_mm2 <= 3]
training: {pretrain_epochs: 1, epochs: 1}
sampler: {name: random, window: 4}
budget: {trials: 8}
"""


def cosearch(*arguments: str | Path, cwd: Path, timeout: float = 400) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "codesign", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=timeout,
        check=False,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which the tiny study has been run to its end."""
    home = tmp_path_factory.mktemp("cli")
    (home / "tiny.yaml").write_text(STUDY)
    done = cosearch("run", "tiny.yaml", cwd=home)
    assert done.returncode == 0, done.stderr
    assert "[8/8]" in done.stdout
    return home


def test_a_run_leaves_everything_in_its_folder(finished: Path) -> None:
    run = finished / "runs" / "tiny"
    for name in ("study.yaml", "manifest.json", "journal.log", "layers.json", "front.json", "report.html"):
        assert (run / name).is_file(), name
    assert len(list((run / "trials").glob("*/result.json"))) == 8
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["packages"]["torch"]
    assert manifest["study_hash"]


def test_status_counts_every_trial_once(finished: Path) -> None:
    status = json.loads(cosearch("status", "runs/tiny", "--json", cwd=finished).stdout)
    assert status["version"] == 1
    assert status["planned"] == 8
    assert status["completed"] + status["gated"] + status["failed"] == 8
    assert status["running"] == 0
    assert status["hypervolume"] > 0
    assert "8 trials planned" in cosearch("status", "runs/tiny", cwd=finished).stdout


def test_the_front_is_printed_and_written(finished: Path, tmp_path: Path) -> None:
    done = cosearch("front", "runs/tiny", "--json", "--csv", tmp_path / "front.csv", cwd=finished)
    front = json.loads(done.stdout)
    assert front["reference"]["trial"] == 0
    assert front["designs"]
    assert {"trial", "design", "scores"} <= set(front["designs"][0])
    assert 0 <= front["designs"][0]["scores"]["test_accuracy"] <= 1
    rows = list(csv.DictReader((tmp_path / "front.csv").read_text().splitlines()))
    assert [int(row["trial"]) for row in rows if row["role"] == "front"] == [
        d["trial"] for d in front["designs"]
    ]
    assert "validation accuracy" in cosearch("front", "runs/tiny", cwd=finished).stdout


def test_an_exported_design_scores_the_same_again(finished: Path, tmp_path: Path) -> None:
    done = cosearch("export", "runs/tiny", "--knee", "0", "--out", tmp_path / "out", cwd=finished)
    assert done.returncode == 0, done.stderr
    for folder in map(Path, done.stdout.split()):
        names = {path.name for path in folder.iterdir()}
        assert names == {"design.yaml", "accelerator.yaml", "scores.json", "weights.safetensors", "README.md"}
        saved = json.loads((folder / "scores.json").read_text())["scores"]
        again = json.loads(cosearch("evaluate", folder, "--json", cwd=tmp_path).stdout)["scores"]
        assert again == saved


def test_an_export_never_overwrites(finished: Path, tmp_path: Path) -> None:
    assert cosearch("export", "runs/tiny", "0", "--out", tmp_path, cwd=finished).returncode == 0
    done = cosearch("export", "runs/tiny", "0", "--out", tmp_path, cwd=finished)
    assert done.returncode == 2
    assert "exists already" in done.stderr


def test_a_finished_run_can_be_given_more_trials(finished: Path, tmp_path: Path) -> None:
    first = cosearch("run", "tiny.yaml", "--trials", "3", "--out", tmp_path / "more", cwd=finished)
    assert first.returncode == 0, first.stderr
    done = cosearch("resume", tmp_path / "more", "--trials", "5", cwd=finished)
    assert done.returncode == 0, done.stderr
    assert json.loads(cosearch("status", tmp_path / "more", "--json", cwd=finished).stdout)["planned"] == 5
    designs = [
        (home / "trials" / f"{n:05d}" / "design.json").read_text()
        for n in range(5)
        for home in (tmp_path / "more", finished / "runs" / "tiny")
    ]
    assert designs[0::2] == designs[1::2]  # the same trials as the run that had eight from the start


def test_the_same_seed_gives_the_same_front_in_another_process(finished: Path, tmp_path: Path) -> None:
    done = cosearch(
        "run", "tiny.yaml", "--out", tmp_path / "again", "-o", "executor=in_process", cwd=finished
    )
    assert done.returncode == 0, done.stderr
    first = (finished / "runs" / "tiny" / "front.json").read_text()
    assert (tmp_path / "again" / "front.json").read_text() == first


def test_resume_after_kill_9_loses_nothing(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    driver = subprocess.Popen(
        [sys.executable, "-m", "codesign", "run", "tiny.yaml", "--out", str(out)],
        cwd=finished,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    deadline = time.monotonic() + 240
    while len(list(out.glob("trials/*/result.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    before = {path: path.read_text() for path in out.glob("trials/*/result.json")}
    assert 3 <= len(before) < 8
    done = cosearch("resume", out, cwd=finished)
    assert done.returncode == 0, done.stderr
    assert all(path.read_text() == text for path, text in before.items())
    status = json.loads(cosearch("status", out, "--json", cwd=finished).stdout)
    assert status["completed"] + status["gated"] + status["failed"] == 8
    assert (out / "front.json").read_text() == (finished / "runs" / "tiny" / "front.json").read_text()


def test_ctrl_c_finishes_what_runs_and_says_how_to_go_on(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "stopped"
    driver = subprocess.Popen(
        [sys.executable, "-m", "codesign", "run", "tiny.yaml", "--out", str(out), "--trials", "40"],
        cwd=finished,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 240
    while not list(out.glob("trials/*/result.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    driver.send_signal(signal.SIGINT)
    stdout, stderr = driver.communicate(timeout=240)
    assert driver.returncode == 130
    assert "press Ctrl-C again" in stdout
    assert f"cosearch resume {out}" in stderr


def test_help_answers_without_loading_torch(tmp_path: Path) -> None:
    done = cosearch("--help", cwd=tmp_path)
    assert done.returncode == 0
    for command in ("run", "resume", "status", "front", "evaluate", "export", "report", "list", "check"):
        assert command in done.stdout


def test_list_shows_everything_registered(tmp_path: Path) -> None:
    listed = json.loads(cosearch("list", "--json", cwd=tmp_path).stdout)
    names = {kind: {row["name"] for row in rows} for kind, rows in listed.items() if kind != "version"}
    assert {"quickstart", "fashion_mnist"} <= names["studies"]
    assert {"eyeriss_like", "tpu_like", "stm32f746_like"} <= names["accelerators"]
    assert {"quantization", "sparsity"} <= names["families"]
    assert "validation_accuracy" in names["scores"]
    assert {"synflow", "naswot"} <= names["zero_cost"]
    wrong = cosearch("list", "acelerators", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "Did you mean 'accelerators'" in wrong.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "quickstrat"], "Did you mean 'quickstart'"),
        (["run", "tiny.yaml", "-o", "space.quantisation.weight_bits=4"], "Did you mean 'quantization'"),
        (["run", "tiny.yaml", "-o", "space.accelerator.templates=[eyeris_like]"], "eyeriss_like"),
        (["run", "tiny.yaml", "-o", "dataset.name=fashion_mnist", "--data-root", "nowhere", "-o",
          "dataset.download=false", "--out", "runs/other"], "nowhere"),
        (["run", "tiny.yaml", "-o", "storage=sqlite:////nowhere/at/all.db", "--out", "runs/other"],
         "cannot be opened: there is no folder /nowhere/at"),
        (["run", "tiny.yaml", "-o", "storage=postgresql+psycopg://me:secret@127.0.0.1:1/x",
          "--out", "new/other"],
         "nobody listens at 127.0.0.1:1"),
        (["check", "tiny.yaml", "-o", "storage=postgres://h/x"], "Did you mean 'postgresql'?"),
        (["check", "tiny.yaml", "-o", "executor=banana"], "Known: local, ray, in_process"),
        (["run", "tiny.yaml"], "exists already"),
        (["resume", "nowhere"], "nowhere is not a run folder: there is no such folder; `cosearch run STUDY"),
        (["status", "runs/tinny"], "Did you mean 'runs/tiny'? Run folders there: runs/tiny"),
        (["front", "runs"], "it has no manifest.json; `cosearch run STUDY --out runs` makes one."),
        (["report", "tiny.yaml"], "tiny.yaml is not a run folder: it is a file; name the folder"),
        (["run", "runs/tiny"], "this is a run folder: `cosearch resume runs/tiny` continues it"),
        (["check", "runs"], "this is a folder: name a file"),
        (["export", "runs/tiny", "99"], "no trained design to export: no such trial has a result"),
        (["export", "runs/tiny"], "nothing is asked for: name trials, or use --front or --knee"),
        (["export", "runs/tiny", "0", "--out", "tiny.yaml"], "tiny.yaml cannot be made"),
        (["run", "tiny.yaml", "--out", "tiny.yaml/x"], "tiny.yaml/x cannot be made: Not a directory"),
        (["compare", "tiny.yaml", "--minutes", "0"], "--minutes must be a finite number above 0, but got 0"),
        (["compare", "tiny.yaml", "--minutes", "inf"], "a finite number above 0, but got inf"),
        (["evaluate", "nowhere"], "cannot be read"),
        (["check", "tiny.yaml", "-o", "objectives=[test_accuracy]"], "reported only"),
        (["check", "tiny.yaml", "-o", "constraints=['area <= 3']"], "no score is named 'area'"),
        (["check", "tiny.yaml", "-o", "budget.trials=0"], "budget.trials"),
    ],
)  # fmt: skip
def test_a_user_error_is_one_message_and_exit_code_2(
    finished: Path, arguments: list[str], message: str
) -> None:
    before = sorted(path for path in finished.rglob("*"))
    done = cosearch(*arguments, cwd=finished)
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr
    assert done.stderr.startswith("error: ")
    assert sorted(path for path in finished.rglob("*")) == before  # nothing half-written


def test_a_finished_run_says_that_nothing_was_left_to_do(finished: Path) -> None:
    done = cosearch("resume", "runs/tiny", "-q", cwd=finished)
    assert done.returncode == 0, done.stderr
    assert (
        "nothing was left to do (8 trials were drawn): a larger budget goes on, e.g. --trials 16"
        in done.stdout
    )


def test_a_constraint_nobody_can_meet_is_reported_not_hidden(finished: Path, tmp_path: Path) -> None:
    done = cosearch(
        "run",
        "tiny.yaml",
        "--out",
        tmp_path / "none",
        "-o",
        "constraints=['area_mm2 <= 0.000001']",
        cwd=finished,
    )
    assert done.returncode == 0, done.stderr
    status = json.loads(cosearch("status", tmp_path / "none", "--json", cwd=finished).stdout)
    assert status["gated"] == 7
    assert status["completed"] == 1  # the reference design is never gated
    assert status["front"] == 0
    assert "no feasible design" in done.stdout.lower()
    gated = cosearch("export", tmp_path / "none", "3", cwd=finished)
    assert gated.returncode == 2
    assert (
        "no trained design to export: it was gated (area_mm2 <= 1e-06 is broken); completed: 0"
        in gated.stderr
    )
    empty = cosearch("export", tmp_path / "none", "--front", cwd=finished)
    assert empty.returncode == 2
    assert "the front is empty: no trained design keeps every constraint" in empty.stderr


def test_a_diverging_training_is_a_failed_trial_with_its_reason(finished: Path, tmp_path: Path) -> None:
    rates = ["-o", "training.learning_rate=1e30"]
    done = cosearch("run", "tiny.yaml", "--trials", "2", "--out", tmp_path / "nan", *rates, cwd=finished)
    assert done.returncode == 2  # no trial could be scored: a run that shows nothing is no success
    assert "every trial of" in done.stderr
    assert "loss must stay finite" in done.stderr
    result = json.loads((tmp_path / "nan" / "trials" / "00000" / "result.json").read_text())
    assert result["state"] == "failed"
    assert "loss must stay finite" in result["reason"]


def test_check_prints_a_schema_that_knows_the_families(tmp_path: Path) -> None:
    schema = json.loads(cosearch("check", "--schema", cwd=tmp_path).stdout)
    assert {"quantization", "sparsity", "accelerator"} <= set(schema["$defs"]["Space"]["properties"])


def test_two_drivers_on_one_run_are_refused(finished: Path) -> None:
    from codesign.run_folder import open_run

    with open_run(finished / "runs" / "tiny").driver_lock():
        done = cosearch("resume", "runs/tiny", "--trials", "9", cwd=finished)
    assert done.returncode == 2
    assert "is driven by another process" in done.stderr


def test_another_run_format_is_refused(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"format": 99}')
    done = cosearch("status", tmp_path, cwd=finished)
    assert done.returncode == 2
    assert "run format 99" in done.stderr


def test_runs_that_share_a_storage_do_not_meet(finished: Path, tmp_path: Path) -> None:
    shared = f"storage=sqlite:///{tmp_path / 'trials.db'}"
    for name in ("one", "two"):
        out = tmp_path / name
        done = cosearch("run", "tiny.yaml", "--trials", "2", "--out", out, "-o", shared, cwd=finished)
        assert done.returncode == 0, done.stderr
        assert len(list(out.glob("trials/*/result.json"))) == 2


def test_a_study_that_was_changed_is_not_continued(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "changed"
    assert cosearch("run", "tiny.yaml", "--trials", "1", "--out", out, cwd=finished).returncode == 0
    study = (out / "study.yaml").read_text()
    (out / "study.yaml").write_text(study.replace("seed: 0", "seed: 9"))
    before = (out / "study.yaml").read_text()
    done = cosearch("resume", out, "--trials", "3", cwd=finished)
    assert done.returncode == 2
    assert "was changed since the run began" in done.stderr
    assert (out / "study.yaml").read_text() == before


def test_a_failed_start_leaves_an_empty_folder_of_the_users_as_it_was(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    done = cosearch("run", "tiny.yaml", "--out", tmp_path / "mine", "-o", "dataset=nodata", cwd=finished)
    assert done.returncode == 2
    assert list((tmp_path / "mine").iterdir()) == []


def test_damaged_weights_are_one_message(finished: Path, tmp_path: Path) -> None:
    assert cosearch("export", "runs/tiny", "0", "--out", tmp_path, cwd=finished).returncode == 0
    (tmp_path / "tiny-00000" / "weights.safetensors").write_bytes(b"no")
    done = cosearch("evaluate", tmp_path / "tiny-00000", cwd=finished)
    assert done.returncode == 2
    assert "not readable as safetensors" in done.stderr


@pytest.mark.parametrize("name", ["facts.json", "weights.safetensors"])
def test_the_export_of_a_damaged_half_is_one_message(name: str, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "runs" / "tiny", tmp_path / "tiny")
    for path in (tmp_path / "tiny" / "cache").glob(f"half-*/{name}"):
        path.write_bytes(b"{")
    done = cosearch("export", tmp_path / "tiny", "0", "--out", tmp_path / "out", cwd=finished)
    assert done.returncode == 2
    assert "any more, or are damaged; a new run of the same study trains them again" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", [("check",), ("compare", "--seeds", "1", "--trials", "1")])
def test_what_only_the_layers_show_to_be_wrong_is_said_with_file_and_line(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    wrong = STUDY.replace("  sparsity:", "  decomposition: {kind: grouped,\n    groups: [7]}\n  sparsity:")
    (tmp_path / "wrong.yaml").write_text(wrong)
    done = cosearch(*command, "wrong.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "wrong.yaml: 1 problem\n  space.decomposition.groups: `groups: 7` must divide" in done.stderr
    line = 1 + wrong.splitlines().index("    groups: [7]}")
    assert done.stderr.rstrip().endswith(f"(line {line})")
