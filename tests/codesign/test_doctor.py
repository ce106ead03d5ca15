"""The doctor: every check can say ok, and says the way out where it is not."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from codesign import doctor
from codesign.cli import app
from codesign.doctor import Finding, State, examine
from codesign.errors import ClusterError
from codesign.ray_probe import ClusterFacts, Node


def found(name: str, storage: str | None = None, ray: str | None = None) -> Finding:
    return next(finding for finding in examine(storage, ray) if finding.name.startswith(name))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


def test_this_machine_is_well(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    findings = {finding.name: finding for finding in examine(None, None)}
    assert list(findings) == ["python", "packages", "machine", "gpu", "folder", "kernels"]
    assert all(finding.state is not State.PROBLEM for finding in findings.values())
    assert "ray" in findings["packages"].text


def test_a_package_of_another_version_or_none_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor.metadata.version

    def version(name: str) -> str:
        if name == "moocore":
            raise doctor.metadata.PackageNotFoundError(name)
        return "4.8.0" if name == "optuna" else real(name)

    monkeypatch.setattr(doctor.metadata, "version", version)
    finding = found("packages")
    assert finding.state is State.PROBLEM
    assert "optuna is 4.8.0, but <6,>=5.0 is needed" in finding.text
    assert "moocore>=0.2 is not installed" in finding.text
    assert "pip install" in finding.text


def test_a_folder_that_cannot_be_written_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gone = tmp_path / "gone"
    monkeypatch.setattr(doctor.Path, "cwd", lambda: gone)
    finding = found("folder")
    assert finding.state is State.PROBLEM
    assert f"{gone} cannot be written" in finding.text


def test_little_disk_little_memory_and_no_kernels_are_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "FREE_BYTES", 2**60)
    monkeypatch.setattr(doctor, "MEMORY_BYTES", 2**60)
    monkeypatch.setattr("evaluators.cost.compiled.is_compiled", lambda: False)
    assert [found(name).state for name in ("folder", "machine", "kernels")] == [State.WARNING] * 3


@pytest.mark.parametrize("address", ["journal", "sqlite:///trials.db"])
def test_a_storage_that_answers_is_ok(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert found("storage", storage=address).state is State.OK


def test_a_storage_that_does_not_answer_says_why_and_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    finding = found("storage", storage=f"postgresql://me:secret@127.0.0.1:{port}/trials")
    assert finding.state is State.PROBLEM
    assert f"nobody listens at 127.0.0.1:{port}" in finding.text
    assert "secret" not in finding.text
    assert "an address reads journal or KIND://" in found("storage", storage="no address").text
    assert "does not answer" in found("storage", storage="sqlite:////nowhere/at/all.db").text

    def missing(address: str) -> str:
        raise ModuleNotFoundError("No module named 'psycopg2'", name="psycopg2")

    monkeypatch.setattr(doctor, "_ping_database", missing)
    text = found("storage", storage="postgresql:///trials").text
    assert "its driver is missing: `pip install psycopg2-binary`" in text


def test_a_cluster_that_is_not_there_is_a_problem_with_a_way_out() -> None:
    finding = found("ray", ray=f"127.0.0.1:{free_port()}")
    assert finding.name == "ray token"
    assert finding.state is State.WARNING
    assert "`ray get-auth-token --generate`" in finding.text
    findings = list(examine(None, f"127.0.0.1:{free_port()}"))
    assert findings[-1].state is State.PROBLEM
    assert "`ray start --head`" in findings[-1].text
    assert "cosearch doctor" not in findings[-1].text
    assert found("ray", ray="local").name == "ray token"


def test_the_nodes_of_a_cluster_are_held_against_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = {"numpy": doctor.metadata.version("numpy")}
    nodes = (
        Node(address="10.0.0.1", resources={"CPU": 4.0}, versions=ours),
        Node(address="10.0.0.2", resources={"CPU": 8.0, "GPU": 1.0}, versions={"numpy": "1.0"}),
        Node(address="10.0.0.3", resources={}, problem="ModuleNotFoundError: No module named 'codesign'"),
    )
    monkeypatch.setenv("RAY_AUTH_TOKEN", "token")
    monkeypatch.setattr(
        doctor, "probe", lambda *_, **__: ClusterFacts(ray="2.60.0", python="3.11.7", nodes=nodes)
    )
    findings = list(examine(None, "10.0.0.1:6379"))[-5:]
    states = [finding.state for finding in findings]
    assert states == [State.OK, State.OK, State.OK, State.WARNING, State.PROBLEM]
    assert "3 nodes, 12 CPU, 1 GPU" in findings[1].text
    assert "numpy 1.0 (here " in findings[3].text
    assert "No module named 'codesign'" in findings[4].text


def test_the_command_exits_with_one_where_there_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["doctor"]).exit_code == 0

    def refused(*_: object, **__: object) -> ClusterFacts:
        raise ClusterError("the Ray cluster refuses us")

    monkeypatch.setattr(doctor, "probe", refused)
    done = CliRunner().invoke(app, ["doctor", "--ray", "auto", "--json"])
    assert done.exit_code == 1
    data = json.loads(done.stdout)
    assert data["version"] == 1
    assert data["findings"][-1] == {"name": "ray", "state": "problem", "text": "the Ray cluster refuses us"}
