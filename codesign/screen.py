"""Tables on a terminal, and in a pipe or a file."""

from __future__ import annotations

import sys

import typer
from rich.console import Console
from rich.table import Table

_WIDTH = 240  # a pipe has no width to fit


def show(table: Table) -> None:
    """Print a table: as wide as a terminal is, and elsewhere as it needs, with no blanks at the ends."""
    if sys.stdout.isatty():
        Console().print(table)
        return
    console = Console(width=_WIDTH)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        typer.echo(line.rstrip())
