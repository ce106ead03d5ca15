"""Turn what stopped a trace into one message: the law, the line of the user's code, the way out."""

from __future__ import annotations

import inspect
import linecache
import logging
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from torch._subclasses import fake_tensor

from evaluators.workload.errors import TraceError
from evaluators.workload.recorder import DtypeError, FloatIndexError, Recorder

_OUR_FOLDER = Path(__file__).resolve().parent
_TORCH_FOLDER = Path(torch.__file__).resolve().parent


@contextmanager
def blamed(recorder: Recorder, model: nn.Module) -> Iterator[None]:
    """Re-raise whatever the step of `model` raises as a `TraceError` that names the user's line.

    `SystemExit` too: a model that calls sys.exit must not end the program that inspects it.
    """
    log = logging.getLogger(fake_tensor.__name__)
    was_disabled, log.disabled = log.disabled, True  # it prints the traceback that our message replaces
    try:
        yield
    except (TraceError, FloatIndexError):
        raise
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        where = _where(frames, recorder.deepest_failure, model)
        raise TraceError(f"the trace stopped at {where}: {_law(error, frames)}") from error
    finally:
        log.disabled = was_disabled


def _where(frames: Sequence[traceback.FrameSummary], path: str | None, model: nn.Module) -> str:
    """Return the user's line and the innermost module that was running."""
    module = dict(model.named_modules()).get(path) if path is not None else None
    what = " ".join(repr(module).split()) if module is not None else ""
    named = f"module {path!r} ({what[:117] + '...' if len(what) > 120 else what})" if path else ""
    line = _user_line(frames)
    if line is not None:
        return f"{line} (in {named})" if named else line
    return f"{named} of {_home(type(model))}" if named else f"the model, {_home(type(model))}"


def _user_line(frames: Sequence[traceback.FrameSummary]) -> str | None:
    """Return `file:line: source` of the innermost frame outside torch and this package."""
    for frame in reversed(frames):
        folder = Path(frame.filename).resolve()
        if _is_ours(folder) or _is_torchs(folder):
            continue
        if "site-packages" in folder.parts and frame is not frames[-1]:
            continue
        source = linecache.getline(frame.filename, frame.lineno or 0).strip()
        return f"{frame.filename}:{frame.lineno}: `{source}`"
    return None


def _home(kind: type[nn.Module]) -> str:
    """Return a class and, where a user wrote it, its file and line."""
    try:
        path, line = inspect.getfile(kind), inspect.getsourcelines(kind)[1]
    except (OSError, TypeError):  # made in an interactive session
        return kind.__name__
    return kind.__name__ if _is_torchs(Path(path).resolve()) else f"{kind.__name__} ({path}:{line})"


def _is_ours(path: Path) -> bool:
    return _OUR_FOLDER in path.parents


def _is_torchs(path: Path) -> bool:
    return _TORCH_FOLDER in path.parents


def _law(error: BaseException, frames: Sequence[traceback.FrameSummary]) -> str:
    if isinstance(error, (fake_tensor.DataDependentOutputException, fake_tensor.DynamicOutputShapeException)):
        return _law_of_values(frames)
    if isinstance(error, DtypeError):
        return f"{error}; convert one, or give the input's dtype (on the command line: 8x128:float32)"
    if isinstance(error, SystemExit):
        return f"a model must not end the program, but it called sys.exit({error.code!r})"
    text = str(error).strip().splitlines()
    first = text[0] if text else "no message"
    return f"{type(error).__name__}: {first}; {_way_out(error, first, frames)}"


def _law_of_values(frames: Sequence[traceback.FrameSummary]) -> str:
    """Say who read a value; where torch's own layers did, what keeps them from it."""
    law = "control flow and shapes must not depend on the values of tensors, but "
    reader = _layer_of_torch(frames)
    if reader is not None and reader.name.startswith("pack"):
        return (
            f"{law}the lengths of packed sequences are values; trace the model on padded batches (the "
            "longest), without pack_padded_sequence"
        )
    if reader is not None:
        return (
            f"{law}torch's own layer reads one ({reader.filename}:{reader.lineno}); give attention "
            "is_causal= with its mask"
        )
    return (
        f"{law}this line reads a value; replace .item(), if tensor: or boolean indexing by torch.where or a "
        "mask, or trace the part without it"
    )


def _layer_of_torch(frames: Sequence[traceback.FrameSummary]) -> traceback.FrameSummary | None:
    """Return the innermost line of torch.nn that the user's line led to, if one did."""
    found = None
    for frame in frames:
        path = Path(frame.filename).resolve()
        if not _is_torchs(path) and not _is_ours(path):
            found = None
        elif _TORCH_FOLDER / "nn" in path.parents and path.name != "module.py":  # which only calls forward
            found = frame
    return found


def _way_out(error: BaseException, text: str, frames: Sequence[traceback.FrameSummary]) -> str:
    lowered = text.lower()
    if ".numpy()" in text:
        return "a trace has no data to give to NumPy: stay in torch, or trace the part without it"
    if "NestedTensor" in text:
        return "nested tensors have sizes that are values: pad, and give encoders enable_nested_tensor=False"
    if "cuda" in lowered or isinstance(error, fake_tensor.FakeTensorDeviceMismatchError):
        return "build and run the model on the CPU: no .cuda(), no device= of another kind"
    if isinstance(error, TypeError) and ("positional argument" in lowered or "keyword argument" in lowered):
        return "give one example input per argument of forward (on the command line: --input, once for each)"
    if "dtype" in lowered or ("type (" in lowered and "should be the same" in lowered):
        return "give the input's dtype (on the command line: 8x128:int64), or convert in the model"
    last = Path(frames[-1].filename).resolve() if frames else None
    if last is not None and (_is_torchs(last) or _is_ours(last) or isinstance(error, RuntimeError)):
        return "check the shapes and dtypes of the inputs against the model"
    return "the model's own code raised it: call the model on such an input to see it whole"
