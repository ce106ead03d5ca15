"""What the README shows runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from codesign.study_reader import parse_study

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_python_example_runs(tmp_path: Path) -> None:
    (example,) = blocks("python")
    assert len(example.splitlines()) <= 20
    script = tmp_path / "example.py"
    script.write_text(example)
    root = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": root},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "designs on the front" in done.stdout
    assert "x less energy" in done.stdout


def test_the_study_file_is_valid() -> None:
    text, how_hard = blocks("yaml")
    assert yaml.safe_load(text)["name"] == "my_study"
    assert parse_study(text, "README").budget.trials == 100
    whole = parse_study(yaml.safe_dump(yaml.safe_load(text) | yaml.safe_load(how_hard)), "README")
    assert whole.stages == 4
    assert whole.budget.training_minutes == 60


@pytest.mark.parametrize("page", re.findall(r"\]\((docs/[^)]+)\)", README))
def test_the_pages_it_links_exist(page: str) -> None:
    assert (Path(__file__).parents[1] / page).is_file()
