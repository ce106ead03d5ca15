"""Database servers of the tests' own, each in a folder of its own and as a user who is not root."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

_PLACES = (*Path("/usr/lib/postgresql").glob("*/bin"), Path("/usr/sbin"))  # Debian's, outside most paths
_USER = "nobody" if os.getuid() == 0 else None


def _program(name: str) -> Path:
    places = (*_PLACES, *map(Path, os.environ["PATH"].split(os.pathsep)))
    found = next((place / name for place in places if (place / name).is_file()), None)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="codesign-server-"))
    if _USER is not None:
        shutil.chown(folder, _USER)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _prepare(command: Sequence[str | Path], folder: Path) -> None:
    done = subprocess.run(command, user=_USER, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"{command[0]} does not work here: {done.stderr.strip()[-300:]}")


@contextmanager
def _serving(command: Sequence[str | Path], folder: Path, answers: Callable[[], object]) -> Iterator[None]:
    """Start a server, wait until it answers (whatever that raises before), and stop it at the end."""
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, user=_USER, cwd=folder, stdout=log, stderr=log)
    deadline = time.monotonic() + 60
    try:
        while True:
            try:
                answers()
                break
            except Exception:
                if server.poll() is not None or time.monotonic() > deadline:
                    said = (folder / "log").read_text(errors="replace")[-1000:]
                    pytest.fail(f"{command[0]} did not start: {said}")
                time.sleep(0.1)
        yield
    finally:
        server.send_signal(signal.SIGINT if "postgres" in str(command[0]) else signal.SIGTERM)
        server.wait(timeout=60)


@contextmanager
def postgresql() -> Iterator[str]:
    """PostgreSQL; yields its address."""
    psycopg = pytest.importorskip("psycopg", reason="the extra `postgresql` is not installed")
    initdb, postgres, port = _program("initdb"), _program("postgres"), _free_port()
    with _folder() as folder:
        data = folder / "data"
        _prepare([initdb, "-D", data, "-U", "codesign", "--auth=trust", "-E", "UTF8", "--locale=C"], folder)
        start = [postgres, "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", folder]

        def answers() -> None:
            psycopg.connect(host="127.0.0.1", port=port, user="codesign", dbname="postgres").close()

        with _serving(start, folder, answers):
            yield f"postgresql+psycopg://codesign@127.0.0.1:{port}/postgres"


@contextmanager
def mysql() -> Iterator[str]:
    """MariaDB, which speaks MySQL; yields the address of an empty database."""
    pymysql = pytest.importorskip("pymysql", reason="the extra `mysql` is not installed")
    install, mariadbd, port = _program("mariadb-install-db"), _program("mariadbd"), _free_port()
    with _folder() as folder:
        data = folder / "data"
        _prepare(
            [install, "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal"],
            folder,
        )
        start = [mariadbd, "--no-defaults", f"--datadir={data}", f"--port={port}"]
        start += ["--bind-address=127.0.0.1", f"--socket={folder}/socket", f"--pid-file={folder}/pid"]

        def answers() -> None:
            with pymysql.connect(host="127.0.0.1", port=port, user="root") as connection:
                connection.cursor().execute("CREATE DATABASE IF NOT EXISTS codesign CHARACTER SET utf8mb4")

        with _serving(start, folder, answers):
            yield f"mysql+pymysql://root@127.0.0.1:{port}/codesign"


@contextmanager
def redis() -> Iterator[str]:
    """Redis, which writes each change down before it answers; yields its address."""
    client = pytest.importorskip("redis", reason="the extra `redis` is not installed")
    server, port = _program("redis-server"), _free_port()
    with _folder() as folder:
        start = [server, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder]
        start += ["--appendonly", "yes", "--appendfsync", "always"]
        with _serving(start, folder, client.Redis(port=port).ping):
            yield f"redis://127.0.0.1:{port}/0"


SERVERS: Mapping[str, Callable[[], AbstractContextManager[str]]] = {
    "postgresql": postgresql,
    "mysql": mysql,
    "redis": redis,
}
