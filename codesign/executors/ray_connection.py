"""The few things that the executor asks of Ray, behind one interface, and Ray's errors in three kinds."""

from __future__ import annotations

import atexit
import logging
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol, cast

from codesign.errors import ClusterError, MachineError
from codesign.executors.ray_worker import Order, RayWorker
from codesign.network_port import is_open
from codesign.ray_probe import endpoint, explain, probe, use_token
from codesign.sections.executor import RayCluster as Settings

# What of the user's folder is not sent to the workers; the run folders are the tool's own.
UNSENT = ("runs/", ".git/", "**/__pycache__/", ".venv/", "venv/", "*.safetensors")


class WorkerLostError(Exception):
    """A worker is gone: killed, out of memory, or its node is."""


class WorkerFailedError(Exception):
    """A worker is there, and what it was asked raised an error."""


class Connection(Protocol):
    """A cluster, as the executor sees it: workers and what they were asked are opaque."""

    def room(self) -> int:
        """Return how many workers the cluster would hold were it empty."""
        ...

    def hire(self, order: Order) -> object:
        """Ask for a worker; it starts when there is room."""
        ...

    def ask(self, worker: object, method: str, *values: object) -> object:
        """Call a method of a worker, and return what its answer will be known by."""
        ...

    def first(self, asked: Sequence[object], timeout_s: float) -> object | None:
        """Return one that is answered, or None after `timeout_s`."""
        ...

    def answer(self, asked: object) -> object:
        """Return an answer that is there.

        Raises:
            WorkerLostError: the worker is gone.
            WorkerFailedError: the method raised.
            ClusterError: the cluster is gone, or a node's disk is full.
        """
        ...

    def put(self, value: object) -> object:
        """Make a value known to every worker, and return what it is known by."""
        ...

    def fire(self, worker: object) -> None:
        """End a worker, whatever it does."""
        ...

    def is_there(self) -> bool:
        """Return whether the cluster still answers."""
        ...

    def close(self) -> None:
        """Disconnect; a cluster that was not started here goes on."""
        ...


@cache
def _actor_class() -> Any:  # what Ray makes of a class has no type of its own
    import ray

    return ray.remote(RayWorker)


def fetch(reference: object) -> object:
    """Return what `Connection.put` made known."""
    import ray

    return ray.get(cast(Any, reference))


@dataclass(frozen=True, kw_only=True, slots=True)
class RayConnection:
    """Connects to a cluster, or starts a private one.

    Args:
        settings: where, and what one worker needs.
        place: host and port that must go on listening; None for a private cluster.
    """

    settings: Settings
    place: tuple[str, int] | None

    def room(self) -> int:
        """Return how many workers the cluster would hold were it empty."""
        import ray

        with _ray_errors(self.settings.address):
            nodes: list[dict[str, Any]] = cast(Any, ray).nodes()
        need = {"CPU": self.settings.cpus_per_trial}
        if self.settings.gpus_per_trial:
            need["GPU"] = self.settings.gpus_per_trial
        if self.settings.trial_memory_bytes:
            need["memory"] = self.settings.trial_memory_bytes
        return sum(
            min(int(node["Resources"].get(name, 0.0) / amount + 1e-9) for name, amount in need.items())
            for node in nodes
            if node["Alive"]
        )

    def hire(self, order: Order) -> object:
        """Ask for a worker that Ray neither restarts nor asks twice."""
        with _ray_errors(self.settings.address):
            options = _actor_class().options(
                num_cpus=self.settings.cpus_per_trial,
                num_gpus=self.settings.gpus_per_trial,
                memory=self.settings.trial_memory_bytes or 0,
                max_restarts=0,
                max_task_retries=0,
            )
            worker: object = options.remote(order, fetch)
        return worker

    def ask(self, worker: object, method: str, *values: object) -> object:
        """Call a method of a worker."""
        with _ray_errors(self.settings.address):
            asked: object = getattr(worker, method).remote(*values)
        return asked

    def first(self, asked: Sequence[object], timeout_s: float) -> object | None:
        """Return one that is answered, or None after `timeout_s`."""
        import ray

        with _ray_errors(self.settings.address):
            done, _ = ray.wait(list(asked), num_returns=1, timeout=timeout_s)
        return done[0] if done else None

    def answer(self, asked: object) -> object:
        """Return an answer that is there; see `Connection`."""
        import ray
        from ray import exceptions

        try:
            with _ray_errors(self.settings.address):
                return ray.get(cast(Any, asked))
        except exceptions.RuntimeEnvSetupError as error:
            raise ClusterError(
                f"the nodes of {self.settings.address!r} cannot set up the code that the study names: "
                f"{_first_line(error)}"
            ) from None
        except exceptions.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, BaseException) else error
            if isinstance(cause, MachineError):
                raise ClusterError(
                    f"on a node of the Ray cluster at {self.settings.address!r}: {cause}"
                ) from None
            raise WorkerFailedError(f"{type(cause).__name__}: {_first_line(cause)}") from None
        except exceptions.RayError as error:
            raise WorkerLostError(_why_lost(error)) from None

    def put(self, value: object) -> object:
        """Put a value into the object store."""
        import ray

        with _ray_errors(self.settings.address):
            reference: object = ray.put(value)
        return reference

    def fire(self, worker: object) -> None:
        """End a worker, whatever it does."""
        import ray

        with suppress(Exception):  # it is gone, or the cluster is: then there is nothing to end
            ray.kill(cast(Any, worker), no_restart=True)

    def is_there(self) -> bool:
        """Return whether anybody listens where the cluster is."""
        return self.place is None or is_open(*self.place)

    def close(self) -> None:
        """Disconnect; a private cluster ends."""
        import ray

        if not self.is_there():  # leaving would wait for it, and after a minute Ray ends the process
            atexit.unregister(ray.shutdown)
            return
        with suppress(Exception):
            ray.shutdown()


def connect(settings: Settings, sent: Path | None) -> RayConnection:
    """Connect to the cluster that the settings name.

    Args:
        sent: the user's folder, which goes to the workers; None where they need none of it.

    Raises:
        ClusterError: there is none, it refuses us, or it is of another version; said within about a minute.
    """
    use_token()
    address = settings.address
    private = address == "local"
    if not private:
        probe(address)
    import ray

    runtime = {} if sent is None else {"working_dir": str(sent), "excludes": list(UNSENT)}
    try:
        with _own_signals():
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                namespace="codesign",
                runtime_env=runtime,
                include_dashboard=False if private else None,
            )
        place = endpoint(address)
        if place is None and not private:
            place = endpoint(ray.get_runtime_context().gcs_address)
    except Exception as error:  # Ray has no common class for what goes wrong here
        raise ClusterError(explain(address, f"{error!r} {error.__cause__!r}")) from error
    return RayConnection(settings=settings, place=place)


class _ray_errors:  # noqa: N801  # used as a function
    """Turn what Ray raises where the cluster itself is gone into one message."""

    def __init__(self, address: str) -> None:
        self._address = address

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        from ray.exceptions import LocalRayletDiedError, RaySystemError, RpcError

        if isinstance(error, RaySystemError | RpcError | LocalRayletDiedError | ConnectionError):
            raise ClusterError(lost(self._address, _first_line(error))) from error


def lost(address: str, reason: str) -> str:
    """Return the message for a cluster that was there and is not any more."""
    return (
        f"the Ray cluster at {address!r} was lost ({reason}). Everything that was finished is in the run "
        "folder; `cosearch resume` goes on once the cluster is back, or with another executor"
    )


class _own_signals:  # noqa: N801  # used as a function
    """Keep Ray from answering signals in place of the driver."""

    def __enter__(self) -> None:
        self._main = threading.current_thread() is threading.main_thread()
        self._before = signal.getsignal(signal.SIGTERM)

    def __exit__(self, *raised: object) -> None:
        if self._main:
            signal.signal(signal.SIGTERM, self._before)


def _why_lost(error: Exception) -> str:
    from ray import exceptions

    if isinstance(error, exceptions.OutOfMemoryError):
        return "Ray killed it because its node ran out of memory"
    text = " ".join(str(error).split())
    for mark in ("The actor is dead because", "Worker exit detail:"):
        if mark in text:
            text = text[text.index(mark) :].removeprefix("Worker exit detail: ")
    text = text.split(" Some common causes")[0]  # a list of guesses
    return f"{type(error).__name__}: {text[:300]}"


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
