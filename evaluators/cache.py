"""The cache of what training makes: one folder an entry, whole or not there, damage treated as absence.

half-<digest>/         weights.safetensors, facts.json, and facts-<epochs>.json of earlier stages
pretrained-<digest>/   the same for a dense network
partial-<digest>/      one that is in the making: checkpoint.pt, facts-<epochs>.json of the stages that are
                       done, or failure.json where training diverged
<kind>-<digest>.lock   held by whoever makes it; a dead holder's lock is free again

Finished things may also lie in a folder that several runs share, under a digest of more (`provenance.py`).
There is no lock there: who comes second leaves what is there.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import MappingProxyType

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from evaluators.learning.training import DivergedError, diverged_from_json
from evaluators.trained import Trained, trained_from_json, trained_to_json

WEIGHTS = "weights.safetensors"
FACTS = "facts.json"
FAILURE = "failure.json"
CHECKPOINT = "checkpoint.pt"
log = logging.getLogger(__name__)


class Kind(Enum):
    """What an entry is."""

    HALF = "half"
    PRETRAINED = "pretrained"


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One thing in the cache, whatever its state.

    Args:
        folder: the cache.
        digest: of everything that decides what is in it.
    """

    folder: Path
    kind: Kind
    digest: str

    @property
    def home(self) -> Path:
        """The folder of the finished thing."""
        return self.folder / f"{self.kind.value}-{self.digest}"

    @property
    def partial(self) -> Path:
        """The folder of the thing in the making."""
        return self.folder / f"partial-{self.digest}"

    @property
    def checkpoint(self) -> Path:
        """The file from which training goes on."""
        return self.partial / CHECKPOINT

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the right to change the entry; what a killed holder was building is cleared away."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.home.with_suffix(".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            for path in self.folder.glob(f".{self.home.name}.*"):
                shutil.rmtree(path, ignore_errors=True)
            yield

    @property
    def is_whole(self) -> bool:
        """Whether it is finished and its files can be read; says in the log what is wrong with them."""
        return _has_files(self.home) and _READERS[self.kind](self.home / FACTS) is not None

    def trained(self, epochs: int | None) -> Trained | None:
        """Return the facts of the finished half, or those at the end of an earlier stage; None: not known.

        Args:
            epochs: of fine-tuning at the end of the stage; None for the finished half.
        """
        if epochs is None:
            return _read_trained(self.home / FACTS) if _has_files(self.home) else None
        return _read_trained(self.home / _of_stage(epochs)) or _read_trained(self.partial / _of_stage(epochs))

    def weights_of(self, model: nn.Module) -> dict[str, Tensor] | None:
        """Return the finished tensors, if they are there whole and are those of a model."""
        if not self.is_whole:
            return None
        found = load_file(self.home / WEIGHTS)
        shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
        if {name: tensor.shape for name, tensor in found.items()} != shapes:
            log.warning("%s holds the weights of another network: it will be made again", self.home)
            return None
        return found

    def keep_stage(self, epochs: int, trained: Trained) -> None:
        """Write the facts at the end of a stage, beside the finished half where there is one."""
        folder = self.home if self.home.is_dir() else self.partial
        folder.mkdir(parents=True, exist_ok=True)
        _write_json(folder / _of_stage(epochs), trained_to_json(trained))

    def keep_failure(self, error: DivergedError) -> None:
        """Write that training diverged, so that nobody tries again."""
        self.partial.mkdir(parents=True, exist_ok=True)
        _write_json(self.partial / FAILURE, error.to_json())
        self.checkpoint.unlink(missing_ok=True)

    def raise_failure(self, until: int) -> None:
        """Raise the kept failure where training to an epoch meets it.

        Raises:
            DivergedError: training diverged before, no later than in this epoch.
        """
        data = _read_json(self.partial / FAILURE)
        try:
            error = None if data is None else diverged_from_json(data)
        except (KeyError, TypeError, ValueError):
            log.warning("%s does not hold a failure: it is ignored", self.partial / FAILURE)
            return
        if error is not None and error.epoch <= until:
            raise error

    def discard(self) -> None:
        """Remove what is left of a damaged home."""
        shutil.rmtree(self.home, ignore_errors=True)

    def publish(self, model: nn.Module, facts: Mapping[str, object]) -> None:
        """Put the finished thing in its place, with the facts of its stages; what was in the making goes."""

        def fill(folder: Path) -> None:
            state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
            save_file(state, folder / WEIGHTS)
            _write_json(folder / FACTS, facts)

        self._install(fill)

    def take(self, other: Entry) -> bool:
        """Have what another entry has, as links where the file system can; return whether this is whole now.

        A damaged or vanished source, or a folder that cannot be written, is said in the log and no more.
        """

        def fill(folder: Path) -> None:
            for path in sorted(other.home.glob("[!.]*")):
                _link(path, folder / path.name)

        if other.is_whole:
            try:
                if not self.is_whole:
                    self._install(fill)
                for path in other.home.glob("facts-*.json"):  # of stages that were asked for later
                    if not (self.home / path.name).exists():
                        _link(path, self.home / path.name)
            except OSError as error:
                log.warning("%s could not be had as %s: %s", other.home, self.home, error)
        return self.is_whole  # another process may have been faster

    def _install(self, fill: Callable[[Path], None]) -> None:
        """Build a folder elsewhere, and put it in its place in one step."""
        building = self.folder / f".{self.home.name}.{uuid.uuid4().hex}"
        building.mkdir(parents=True)
        try:
            fill(building)
            for path in self.partial.glob("facts-*.json"):
                if not (building / path.name).exists():
                    shutil.copyfile(path, building / path.name)
            self.discard()  # damaged, or nobody would put another in its place
            building.rename(self.home)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise
        shutil.rmtree(self.partial, ignore_errors=True)


def _of_stage(epochs: int) -> str:
    return f"facts-{epochs}.json"


def _has_files(home: Path) -> bool:
    """Return whether a finished folder has its two files, and the weights are as long as they say."""
    if not home.is_dir():
        return False
    missing = [name for name in (WEIGHTS, FACTS) if not (home / name).is_file()]
    if missing:
        log.warning("%s lacks %s: it will be made again", home, " and ".join(missing))
        return False
    try:
        with safe_open(home / WEIGHTS, framework="pt"):
            return True
    except (OSError, SafetensorError) as error:
        log.warning("%s is not readable (%s): it will be made again", home / WEIGHTS, error)
        return False


def _read_trained(path: Path) -> Trained | None:
    data = _read_json(path)
    if data is None:
        return None
    try:
        return trained_from_json(data)
    except (KeyError, TypeError, ValueError, AttributeError):
        log.warning("%s does not hold the facts of a half: it will be made again", path)
        return None


def _read_json(path: Path) -> Mapping[str, object] | None:
    """Return the object in a file; None where there is none, said in the log where it is damaged."""
    try:
        data: object = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("%s is not readable (%s): it will be made again", path, error)
        return None
    if not isinstance(data, dict):
        log.warning("%s is not readable (no JSON object): it will be made again", path)
        return None
    return data


_READERS: Mapping[Kind, Callable[[Path], object]] = MappingProxyType(
    {Kind.HALF: _read_trained, Kind.PRETRAINED: _read_json}
)


def _link(path: Path, target: Path) -> None:
    """Give a file a second name, or copy it where that cannot be; files here are replaced, never changed."""
    try:
        os.link(path, target)
    except OSError:  # another file system, or one without links; a file that is gone fails again
        building = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        shutil.copyfile(path, building)
        building.replace(target)


def _write_json(path: Path, data: Mapping[str, object]) -> None:
    building = path.with_name(f".{path.name}.building")  # one writer: the holder of the entry's lock
    building.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    building.replace(path)
