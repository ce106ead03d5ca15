"""`cosearch doctor`: whether this machine, a storage and a cluster are ready for a sweep."""

from __future__ import annotations

import json
from typing import Annotated

import typer

Storage = Annotated[
    str | None, typer.Option("--storage", metavar="URL", help="Also a trial storage, e.g. postgresql://...")
]
Ray = Annotated[
    str | None,
    typer.Option("--ray", metavar="ADDRESS", help="Also a Ray cluster: auto, HOST:PORT or ray://HOST:PORT."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON (with a `version`) instead of text.")]


def doctor(storage: Storage = None, ray: Ray = None, as_json: Json = False) -> None:
    """Check what a sweep needs, one line each: ok, a warning, or a problem with the way out.

    Exit code 1 where there is a problem.
    """
    from codesign.doctor import State, examine

    findings = []
    for finding in examine(storage, ray):
        findings.append(finding)
        if not as_json:
            typer.echo(f"{finding.state.value:<8} {finding.name:<10} {finding.text}")
    if as_json:
        typer.echo(json.dumps({"version": 1, "findings": [one.to_json() for one in findings]}, indent=1))
    if any(finding.state is State.PROBLEM for finding in findings):
        raise typer.Exit(1)
