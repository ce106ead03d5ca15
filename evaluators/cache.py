"""The cache of what training makes: one folder an entry, whole or not there, damage treated as absence.

half-<digest>/         weights.safetensors, facts.json, and facts-<epochs>.json of earlier stages
pretrained-<digest>/   the same for a dense network
partial-<digest>/      one that is in the making: checkpoint.pt, facts-<epochs>.json of the stages that are
                       done, or failure.json where training diverged
<kind>-<digest>.lock   held by whoever makes it; a dead holder's lock is free again
"""

from __future__ import annotations

import fcntl
import json
import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One thing in the cache, whatever its state."""

    folder: Path
    kind: str
    digest: str

    @property
    def home(self) -> Path:
        """The folder of the finished thing."""
        return self.folder / f"{self.kind}-{self.digest}"

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
        """Hold the right to change the entry."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.home.with_suffix(".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @property
    def is_whole(self) -> bool:
        """Whether it is finished and its files can be read; says in the log what is wrong with them."""
        return self.home.is_dir() and _has_weights(self.home) and _read_json(self.home / FACTS) is not None

    def trained(self, epochs: int | None) -> Trained | None:
        """Return the facts of the finished half, or those at the end of an earlier stage; None: not known.

        Args:
            epochs: of fine-tuning at the end of the stage; None for the finished half.
        """
        if epochs is None:
            return _read_trained(self.home / FACTS) if _has_weights(self.home) else None
        return _read_trained(self.home / _of_stage(epochs)) or _read_trained(self.partial / _of_stage(epochs))

    def weights(self) -> dict[str, Tensor] | None:
        """Return the tensors of the finished thing; None where it is not there whole."""
        if not self.is_whole:
            return None
        return load_file(self.home / WEIGHTS)

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
        building = Path(tempfile.mkdtemp(dir=self.folder, prefix=f".{self.home.name}."))
        try:
            state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
            save_file(state, building / WEIGHTS)
            _write_json(building / FACTS, facts)
            for path in self.partial.glob("facts-*.json"):
                shutil.copyfile(path, building / path.name)
            self.discard()
            building.rename(self.home)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise
        shutil.rmtree(self.partial, ignore_errors=True)


def _of_stage(epochs: int) -> str:
    return f"facts-{epochs}.json"


def _has_weights(home: Path) -> bool:
    try:
        with safe_open(home / WEIGHTS, framework="pt"):
            return True
    except FileNotFoundError:
        if home.is_dir():
            log.warning("%s has no weights: it will be made again", home)
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
    return data if isinstance(data, dict) else None


def _write_json(path: Path, data: Mapping[str, object]) -> None:
    building = path.with_name(f".{path.name}.building")  # one writer: the holder of the entry's lock
    building.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    building.replace(path)
