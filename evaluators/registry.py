"""Named functions, found by importing a folder: data sets and networks register themselves.

A user's own function enters by its address, `module:callable`, and needs no registration.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable
from typing import Generic, TypeVar

FunctionT = TypeVar("FunctionT", bound=Callable[..., object])


class Registry(Generic[FunctionT]):
    """A table of functions by name, filled by decorators in the modules of one package."""

    def __init__(self, *, kind: str, package: str, error: type[ValueError]) -> None:
        """Make an empty table.

        Args:
            kind: what the functions are, in the words of the messages ("data set").
            package: the package whose modules register; imported on the first look-up.
            error: the error class of the floor, raised for every problem.
        """
        self._kind = kind
        self._package = package
        self._error = error
        self._functions: dict[str, FunctionT] = {}

    def register(self, name: str) -> Callable[[FunctionT], FunctionT]:
        """File a function under a name.

        Raises:
            ValueError: the name is taken (as the floor's own error).
        """

        def file_under(function: FunctionT) -> FunctionT:
            if name in self._functions:
                raise self._error(f"a {self._kind} needs a name of its own, but {name!r} is registered twice")
            self._functions[name] = function
            return function

        return file_under

    def names(self) -> tuple[str, ...]:
        """Return every registered name, in alphabetical order."""
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__):
            if not module.name.startswith("_"):
                importlib.import_module(f"{self._package}.{module.name}")
        return tuple(sorted(self._functions))

    def find(self, name: str) -> FunctionT:
        """Return the function of a registered name, or the one at the address `module:callable`.

        Raises:
            ValueError: nothing has this name or address (as the floor's own error).
        """
        if ":" in name:
            return self._import(name)
        known = self.names()
        if name not in self._functions:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise self._error(
                f"no {self._kind} is named {name!r}.{hint} Known: {', '.join(known)}; "
                "your own is written module:callable"
            )
        return self._functions[name]

    def describe(self, name: str) -> str:
        """Return the first line of the docstring of a registered function."""
        return (self.find(name).__doc__ or "").strip().partition("\n")[0]

    def _import(self, address: str) -> FunctionT:
        module_name, _, attribute = address.partition(":")
        try:
            module = importlib.import_module(module_name)
        except (ImportError, ValueError) as error:
            raise self._error(
                f"the {self._kind} {address!r} must be an importable module:callable, but importing "
                f"{module_name!r} failed: {error}"
            ) from error
        function: FunctionT | None = getattr(module, attribute, None)
        if not callable(function):
            known = [name for name, value in vars(module).items() if callable(value) and name[0] != "_"]
            close = difflib.get_close_matches(attribute, known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise self._error(
                f"the {self._kind} {address!r} must name a callable of module {module_name!r}, "
                f"but it has none of that name.{hint}"
            )
        return function
