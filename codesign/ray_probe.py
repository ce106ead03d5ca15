"""Asks a Ray cluster who it is, as a program of its own (`python -m codesign.ray_probe ADDRESS`).

Ray waits for minutes for a cluster that is not there, and some of its failures end the process: so it is
asked by a child, which is given a time limit and whose last words are read.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from codesign.errors import ClusterError
from codesign.network_port import is_open
from codesign.sections.executor import RAY_PLACE

PROBE_S = 90.0  # our choice: importing Ray and connecting takes 3 s on an idle machine, 25 s on a busy one
_NODE_S = 60.0  # our choice: a node starts a worker and imports torch
_MARK = "codesign-ray-probe "
DOCTOR = "`cosearch doctor --ray {address}` says more"


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """One living machine of a cluster.

    Args:
        versions: of the packages that decide what a trial comes to; empty where nobody asked.
        problem: why the machine could not be asked.
    """

    address: str
    resources: dict[str, float]
    versions: dict[str, str] = field(default_factory=dict)
    problem: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterFacts:
    """What a cluster says of itself."""

    ray: str
    python: str
    nodes: tuple[Node, ...]


def token_source() -> str | None:
    """Return where Ray finds its token here; None where there is none."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return "RAY_AUTH_TOKEN"
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    if named:
        return f"{named} (RAY_AUTH_TOKEN_PATH)" if Path(named).expanduser().is_file() else None
    default = Path.home() / ".ray" / "auth_token"
    return str(default) if default.is_file() else None


def use_token() -> None:
    """Have Ray send the token where there is one; it does so by itself only for `auto`.

    To be called before Ray is imported, which is when it reads its settings.

    Raises:
        ClusterError: the file that is said to hold it cannot be read.
    """
    path = os.environ.get("RAY_AUTH_TOKEN_PATH")
    if path and not os.environ.get("RAY_AUTH_TOKEN") and not os.access(path, os.R_OK):
        raise ClusterError(
            f"RAY_AUTH_TOKEN_PATH: the file {path} is not there, or cannot be read by this user"
        )
    if token_source() is not None:
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def probe(address: str, timeout_s: float = PROBE_S, *, on_nodes: bool = False) -> ClusterFacts:
    """Ask the cluster at an address who it is.

    Args:
        address: auto, HOST:PORT or ray://HOST:PORT.
        on_nodes: also ask every node what is installed there.

    Raises:
        ClusterError: nobody answers there, it refuses us, or it is of another version.
    """
    use_token()
    _check_port(address)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "codesign.ray_probe", address, *(["nodes"] if on_nodes else [])],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        said = error.stderr.decode(errors="replace") if isinstance(error.stderr, bytes) else ""
        raise ClusterError(explain(address, said or f"no answer in {timeout_s:.0f} s")) from None
    for line in done.stdout.splitlines():
        if line.startswith(_MARK):
            data = json.loads(line.removeprefix(_MARK))
            nodes = tuple(Node(**node) for node in data["nodes"])
            return ClusterFacts(ray=data["ray"], python=data["python"], nodes=nodes)
    raise ClusterError(explain(address, done.stderr))


def explain(address: str, said: str) -> str:
    """Return one message, with the way out, for what Ray said when it could not be reached."""
    doctor = DOCTOR.format(address=address)
    if "InvalidAuthToken" in said or "Unauthenticated" in said or "no authentication token" in said:
        source = token_source()
        ours = f"refuses the token in {source}" if source else "wants a token, and there is none here"
        return (
            f"the Ray cluster at {address!r} {ours}: copy ~/.ray/auth_token of its head node to "
            f"this machine (or point RAY_AUTH_TOKEN_PATH at it) and set RAY_AUTH_MODE=token; {doctor}"
        )
    if "Version mismatch" in said:
        found = " ".join(said[said.index("Version mismatch") :].split())[:300]
        return (
            f"the Ray cluster at {address!r} is of another version: {found}. Driver and nodes need the same "
            f"Ray and Python; {doctor}"
        )
    if "ray[client]" in said:
        return f"an address with ray:// needs `pip install 'ray[client]=={_ray_version()}'` here and there"
    if "Could not find any running Ray instance" in said:
        return (
            "no Ray cluster runs on this machine and RAY_ADDRESS is not set: start one with `ray start "
            "--head`, name one (executor.ray.address: HOST:PORT), or try a private one with `address: local`"
        )
    lines = [line for line in said.strip().splitlines() if line.strip()]
    last = lines[-1].strip()[:300] if lines else "no reason given"
    return f"the Ray cluster at {address!r} does not answer ({last}): does it run, and on this port? {doctor}"


def endpoint(address: str) -> tuple[str, int] | None:
    """Return host and port of an address that names them; None for `auto` and `local`.

    Raises:
        ClusterError: it is none of the forms there are.
    """
    name = os.environ.get("RAY_ADDRESS", "auto") if address == "auto" else address
    if name in ("auto", "local"):
        return None
    match = RAY_PLACE.fullmatch(name)
    if match is None:
        raise ClusterError(
            f"a Ray address is auto, local, HOST:PORT or ray://HOST:PORT, but got {name!r} (ports by "
            "default: 6379, and 10001 with ray://)"
        )
    return match[1], int(match[2])


def _check_port(address: str) -> None:
    place = endpoint(address)
    if place is not None and not is_open(*place):
        raise ClusterError(
            f"nobody listens at {place[0]}:{place[1]}, where the Ray cluster {address!r} should be: start it "
            "there with `ray start --head` (port 6379; ray:// has 10001), or open the port in its firewall; "
            f"{DOCTOR.format(address=address)}"
        )


def _ray_version() -> str:
    from importlib.metadata import version

    return version("ray")


def _versions() -> dict[str, str]:
    """Return what is installed where this runs; raise where codesign cannot be imported."""
    from importlib import import_module, metadata

    import_module("codesign.worker")
    found = {}
    for package in ("codesign", "torch", "numpy"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _main(address: str, on_nodes: bool) -> None:
    use_token()
    import logging

    import ray

    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    nodes = [
        {"address": str(node["NodeManagerAddress"]), "resources": dict(node["Resources"])}
        | (_asked(node["NodeID"]) if on_nodes else {})
        for node in cast(Any, ray).nodes()
        if node["Alive"]
    ]
    facts = {"ray": ray.__version__, "python": platform.python_version(), "nodes": nodes}
    sys.stdout.write("\n" + _MARK + json.dumps(facts) + "\n")
    sys.stdout.flush()
    ray.shutdown()


def _asked(node_id: str) -> dict[str, object]:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node_id=node_id, soft=False)
    remote = cast(Any, ray).remote(num_cpus=0, max_retries=0, scheduling_strategy=there)
    asked = remote(_versions).remote()
    try:
        return {"versions": ray.get(asked, timeout=_NODE_S)}
    except ray.exceptions.RayTaskError as error:
        return {"problem": f"{type(error.cause).__name__}: {error.cause}"}
    except ray.exceptions.RayError as error:
        return {"problem": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}


if __name__ == "__main__":
    _main(sys.argv[1], "nodes" in sys.argv[2:])
