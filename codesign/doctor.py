"""What a machine, a storage and a cluster need for a sweep, each looked at and explained in one line."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from importlib import metadata
from pathlib import Path

import psutil
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from codesign.errors import ClusterError
from codesign.masking import masked
from codesign.network_port import is_open
from codesign.ray_probe import Node, endpoint, probe, token_source

FREE_BYTES = 2**30  # our choice: trained halves of the bundled studies take some hundred MiB
MEMORY_BYTES = 2**30  # our choice, for one worker
_DRIVERS = {  # what Optuna's guide of storages names for each kind of address
    "psycopg2": "psycopg2-binary",
    "MySQLdb": "mysqlclient",
    "pymysql": "pymysql",
    "redis": "redis",
}


class State(Enum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One check: what was looked at, and what came of it, with the way out where it is not well."""

    name: str
    state: State
    text: str

    def to_json(self) -> dict[str, str]:
        """Return the finding as JSON data."""
        return {"name": self.name, "state": self.state.value, "text": self.text}


def examine(storage: str | None, ray: str | None) -> Iterator[Finding]:
    """Look at everything, one finding at a time.

    Args:
        storage: also a trial storage, by its URL.
        ray: also a Ray cluster, by its address.
    """
    yield from _packages()
    yield from _machine()
    yield _folder(Path.cwd())
    yield _kernels()
    if storage is not None:
        yield _storage(storage)
    if ray is not None:
        yield _token()
        yield from _cluster(ray)


def _packages() -> Iterator[Finding]:
    python, needed = _needed()
    version = platform.python_version()
    if Version(version) in python:
        yield Finding(name="python", state=State.OK, text=f"{version} (needs {python})")
    else:
        yield Finding(
            name="python",
            state=State.PROBLEM,
            text=f"{version}, but codesign needs Python {python}: install it",
        )
    wrong, known = [], []
    for requirement in needed:
        try:
            found = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement} is not installed")
            continue
        known.append(f"{requirement.name} {found}")
        if not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} is {found}, but {requirement.specifier} is needed")
    if wrong:
        text = f"{'; '.join(wrong)}: `pip install -c constraints.txt codesign` in a fresh environment"
        yield Finding(name="packages", state=State.PROBLEM, text=text)
    else:
        yield Finding(name="packages", state=State.OK, text=", ".join(known))


def _needed() -> tuple[SpecifierSet, list[Requirement]]:
    """Return the ranges of Python and of the packages, as installed or as the checkout's file says."""
    checkout = Path(__file__).parents[1] / "pyproject.toml"
    if checkout.is_file():
        project = tomllib.loads(checkout.read_text("utf-8"))["project"]
        python, lines = project["requires-python"], project["dependencies"]
    else:
        own = metadata.metadata("codesign")
        python, lines = own["Requires-Python"], metadata.requires("codesign") or []
    needed = [Requirement(line) for line in lines]
    return SpecifierSet(python), [one for one in needed if one.marker is None or one.marker.evaluate()]


def _machine() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0))
    memory = psutil.virtual_memory()
    text = f"{cores} cores, {memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB of memory free"
    if memory.available < cores * MEMORY_BYTES:
        workers = max(1, memory.available // MEMORY_BYTES)
        text += f": too little for a worker a core; -o executor.local.workers={workers}"
        yield Finding(name="machine", state=State.WARNING, text=text)
    else:
        yield Finding(name="machine", state=State.OK, text=text)
    import torch

    if torch.cuda.is_available():
        text = f"{torch.cuda.get_device_name(0)}; proxies train on the CPU, so only code of your own uses it"
    else:
        text = "none that torch sees; none is needed"
    yield Finding(name="gpu", state=State.OK, text=text)


def _folder(folder: Path) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        text = f"{folder} cannot be written ({error.strerror}): run in another folder, or name one with --out"
        return Finding(name="folder", state=State.PROBLEM, text=text)
    free = shutil.disk_usage(folder).free
    text = f"{folder} can be written, {free / 2**30:.1f} GiB free"
    if free < FREE_BYTES:
        text += ": trained halves may need more; name a folder elsewhere with --out"
        return Finding(name="folder", state=State.WARNING, text=text)
    return Finding(name="folder", state=State.OK, text=text)


def _kernels() -> Finding:
    from evaluators.cost.compiled import is_compiled

    if is_compiled():
        return Finding(name="kernels", state=State.OK, text="the cost model is compiled")
    text = "the cost model is not compiled yet: the first trial on this machine waits for it"
    return Finding(name="kernels", state=State.WARNING, text=text)


def _storage(address: str) -> Finding:
    if address == "journal":
        return Finding(name="storage", state=State.OK, text="journal: a file in the run folder, no server")
    from sqlalchemy.engine import make_url

    try:
        url = make_url(address)
    except Exception as error:
        text = f"{type(error).__name__}: an address reads journal or KIND://USER:PASSWORD@HOST:PORT/NAME"
        return Finding(name="storage", state=State.PROBLEM, text=text)
    shown = masked(address)
    port = url.port or {"postgresql": 5432, "mysql": 3306, "redis": 6379}.get(url.get_backend_name())
    if url.host and port and not is_open(url.host, port):
        text = f"{shown}: nobody listens at {url.host}:{port}: start the server, or open its firewall"
        return Finding(name="storage", state=State.PROBLEM, text=text)
    try:
        answer = _ping_redis(address) if address.startswith("redis") else _ping_database(address)
    except ModuleNotFoundError as error:
        package = _DRIVERS.get(str(error.name), str(error.name))
        text = f"{shown}: its driver is missing: `pip install {package}`"
        return Finding(name="storage", state=State.PROBLEM, text=text)
    except Exception as error:  # every back end raises its own kind
        said = (
            " ".join(str(error).split()).split(" (Background on this error")[0][:200] or type(error).__name__
        )
        check = "its folder" if url.get_backend_name() == "sqlite" else "user, password and whether it exists"
        text = f"{shown} does not answer: {said}. Check {check}"
        return Finding(name="storage", state=State.PROBLEM, text=text)
    return Finding(name="storage", state=State.OK, text=f"{shown} answers ({answer})")


def _ping_database(address: str) -> str:
    import sqlalchemy

    engine = sqlalchemy.create_engine(address)
    try:
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text("SELECT 1"))
            return f"{engine.dialect.name} {'.'.join(map(str, engine.dialect.server_version_info or ()))}"
    finally:
        engine.dispose()


def _ping_redis(address: str) -> str:
    import redis

    with redis.Redis.from_url(address, socket_timeout=5) as client:
        client.ping()
    return "redis"


def _token() -> Finding:
    mode, source = os.environ.get("RAY_AUTH_MODE"), token_source()
    if source is not None:
        text = f"sent from {source}; every node needs the same one (RAY_AUTH_MODE is {mode or 'not set'})"
        return Finding(name="ray token", state=State.OK, text=text)
    text = (
        "none here. `ray start` uses ~/.ray/auth_token where there is one, and else starts a cluster that "
        "anyone on its network may use: make one on the head node with `ray get-auth-token --generate`, copy "
        "the file to every node and to this machine (or point RAY_AUTH_TOKEN_PATH at it), then start with "
        "RAY_AUTH_MODE=token"
    )
    return Finding(name="ray token", state=State.PROBLEM if mode == "token" else State.WARNING, text=text)


def _cluster(address: str) -> Iterator[Finding]:
    try:
        if endpoint(address) is None and address == "local":
            yield Finding(name="ray", state=State.OK, text="local: a private one is started with the sweep")
            return
        facts = probe(address, on_nodes=True)
    except ClusterError as error:
        yield Finding(name="ray", state=State.PROBLEM, text=str(error).split("; `cosearch doctor")[0])
        return
    total = {
        name: sum(node.resources.get(name, 0.0) for node in facts.nodes) for name in ("CPU", "GPU", "memory")
    }
    text = (
        f"{address} answers: {len(facts.nodes)} nodes, {total['CPU']:g} CPU, {total['GPU']:g} GPU, "
        f"{total['memory'] / 2**30:.1f} GiB; Ray {facts.ray}, Python {facts.python} there and here"
    )
    yield Finding(name="ray", state=State.OK, text=text)
    for node in facts.nodes:
        yield _node(node)


def _node(node: Node) -> Finding:
    name = f"ray node {node.address}"
    parts = [f"{amount:g} {what}" for what, amount in node.resources.items() if what in ("CPU", "GPU")]
    if node.problem is not None:
        text = f"{node.problem}: install there what is installed here (`pip install` of the same codesign)"
        return Finding(name=name, state=State.PROBLEM, text=text)
    ours = {package: _version(package) for package in node.versions}
    other = [f"{p} {found} (here {ours[p]})" for p, found in node.versions.items() if found != ours[p]]
    if other:
        text = f"{', '.join(other)}: results may differ in the last digits; install the same versions"
        return Finding(name=name, state=State.WARNING, text=text)
    same = ", ".join(f"{package} {version}" for package, version in node.versions.items())
    return Finding(name=name, state=State.OK, text=f"{', '.join(parts)}; {same}")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
