"""The decorators of the compiled functions, and where their machine code is kept.

numba notices a change of the file in which a function stands, but not of a file whose functions it calls.
The folder of the cache is therefore named after a fingerprint of all compiled modules: whatever changes in
one of them, everything is compiled again.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import numba

MODULES: Final = (
    "compiled",
    "layout",
    "counting",
    "blocks",
    "accesses",
    "given",
    "orders",
    "allocation",
    "windows",
    "latency_kernel",
    "kernel",
)
"""The modules of this package that hold compiled functions."""


def fingerprint() -> str:
    """Return a short hash of numba's version and the sources of all compiled modules."""
    digest = sha256(numba.__version__.encode())
    for module in MODULES:
        digest.update((Path(__file__).parent / f"{module}.py").read_bytes())
    return digest.hexdigest()[:16]


def _folders() -> Iterator[Path]:
    name = f"compiled-{fingerprint()}"
    yield Path(__file__).parent / "__pycache__" / name
    yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "codesign" / name
    yield Path(tempfile.gettempdir()) / f"codesign-{name}"


def _cache_folder() -> str:
    """Return the first folder that can be written: beside the sources, the user's cache, a temporary one."""
    for folder in _folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return str(folder)
        except OSError:
            continue
    return tempfile.mkdtemp(prefix="codesign-compiled-")


_CACHE_FOLDER: Final = _cache_folder()


def is_compiled() -> bool:
    """Return whether some process has compiled this version of the mapper before."""
    return any(Path(_CACHE_FOLDER).rglob("kernel.search_range-*.nbc"))


@contextmanager
def exclusive() -> Iterator[None]:
    """Hold the cache's lock: of processes that start together one compiles, the others find it done."""
    with (Path(_CACHE_FOLDER) / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)


if TYPE_CHECKING:
    from collections.abc import Callable

    _F = TypeVar("_F", bound=Callable[..., object])

    def entry(function: _F) -> _F: ...
    def jit(function: _F) -> _F: ...
    def inlined(function: _F) -> _F: ...

else:

    def _compiled(function, **options):
        """Compile `function` at its first call, once per version of the sources.

        Without numba's reference counting, which took most of the compiling and a third of the running
        time: compiled functions allocate nothing, all their memory comes in as arguments.
        """
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = _CACHE_FOLDER  # read while decorating only
        try:
            return numba.njit(
                cache=True, nogil=True, error_model="numpy", boundscheck=False, _nrt=False, **options
            )(function)
        finally:
            numba.config.CACHE_DIR = before

    def entry(function):
        """Compile a function that interpreted code calls."""
        return _compiled(function)

    def jit(function):
        """Compile a function that only compiled ones call: a quarter of the compiling is saved."""
        return _compiled(function, no_cpython_wrapper=True, no_cfunc_wrapper=True)

    def inlined(function):
        """Compile such a function into those that call it: handing over the arrays took half of its time."""
        return _compiled(function, no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=True)
