"""Turn what stopped a trace into one message: the law, the line of the user's code, the way out."""

from __future__ import annotations

import linecache
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch._subclasses import fake_tensor

from evaluators.workload.errors import TraceError
from evaluators.workload.recorder import FloatIndexError, Recorder

_OUR_FOLDER = Path(__file__).resolve().parent
_TORCH_FOLDER = Path(torch.__file__).resolve().parent


@contextmanager
def blamed(recorder: Recorder) -> Iterator[None]:
    """Re-raise whatever the step raises as a `TraceError` that names the user's line."""
    log = logging.getLogger(fake_tensor.__name__)
    was_disabled, log.disabled = log.disabled, True  # it prints the traceback that our message replaces
    try:
        yield
    except (TraceError, FloatIndexError):
        raise
    except Exception as error:
        module = recorder.deepest_failure
        where = f" (in module {module!r})" if module else ""
        raise TraceError(f"the trace stopped at {_user_line(error)}{where}: {_law(error)}") from error
    finally:
        log.disabled = was_disabled


def _user_line(error: BaseException) -> str:
    """Return `file:line: source` of the innermost frame outside torch and this package."""
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        folder = Path(frame.filename).resolve()
        if _OUR_FOLDER in folder.parents or _TORCH_FOLDER in folder.parents:
            continue
        if "site-packages" in folder.parts and frame is not frames[-1]:
            continue
        source = linecache.getline(frame.filename, frame.lineno or 0).strip()
        return f"{frame.filename}:{frame.lineno}: `{source}`"
    return "the model's first layer"


def _law(error: Exception) -> str:
    data_dependent = (
        fake_tensor.DataDependentOutputException,
        fake_tensor.DynamicOutputShapeException,
    )
    if isinstance(error, data_dependent):
        return (
            "control flow and shapes must not depend on the values of tensors, but this line reads a value; "
            "replace .item(), if tensor: or boolean indexing by torch.where or a mask, or trace the part "
            "without it"
        )
    text = str(error).strip().splitlines()
    first = text[0] if text else type(error).__name__
    return f"{type(error).__name__}: {first}; check the shapes and dtypes of the inputs against the model"
