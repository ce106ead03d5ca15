"""`cosearch inspect`: what a model needs, before anything of it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from torch import nn

    from codesign.inspection import Inspection
    from evaluators.workload.optimizers import Optimizer


Address = Annotated[
    str,
    typer.Argument(
        metavar="MODULE:CALLABLE",
        help="Builds the model: pkg.mod:factory, ./net.py:build, torchvision:NAME or timm:NAME.",
    ),
]
Shapes = Annotated[
    list[str],
    typer.Option("--input", metavar="SHAPE", help="8x3x64x64 or 8x128:int64; once per input of the model."),
]
LossName = Annotated[
    str, typer.Option("--loss", metavar="LOSS", help="cross_entropy, mse, or module:callable.")
]
Rule = Annotated[str, typer.Option("--optimizer", metavar="RULE", help="sgd, momentum, adam or adamw.")]
Trains = Annotated[str, typer.Option("--train", metavar="WHAT", help="all, none, bias or last:K (layers).")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON (with a `version`) instead of text.")]
Picture = Annotated[
    Path | None,
    typer.Option("--picture", help="SVG of memory over the step (default: memory.svg; none with --json)."),
]


def inspect(
    address: Address,
    inputs: Shapes,
    loss: LossName = "cross_entropy",
    optimizer: Rule = "sgd",
    train: Trains = "all",
    as_json: Json = False,
    picture: Picture = None,
) -> None:
    """Say what a torch model needs: parameters, MACs, peak memory in training and inference, plans for it.

    Nothing of the model runs and no data is needed: the training step is traced under fake tensors.
    """
    from rich.console import Console

    from codesign.files import write_atomic
    from codesign.inspection import inspect_model
    from codesign.inspection_picture import memory_picture
    from codesign.inspection_source import load_loss, load_model, parse_input
    from evaluators.workload.errors import TraceError
    from evaluators.workload.selection import check_scheme

    # What can be wrong without the model is looked at before it is built.
    path = _picture_path(picture or (None if as_json else Path("memory.svg")))
    specs, rule = tuple(map(parse_input, inputs)), _rule(optimizer)
    check_scheme(train)
    objective = load_loss(loss)

    def inspected(model: nn.Module) -> Inspection:
        return inspect_model(model, specs, loss=objective, optimizer=rule, train=train)

    try:
        found = inspected(load_model(address, on_meta=True))
    except TraceError:  # it may keep a tensor out of torch's sight, which is then a meta one
        found = inspected(load_model(address))
    if path is not None:
        write_atomic(path, memory_picture(found, f"{address}, {optimizer}, trains {train}"))
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=1))
        return
    console = Console()
    _print(console, found)
    console.print(f"picture  {path}", soft_wrap=True)


def _picture_path(path: Path | None) -> Path | None:
    from codesign.inspection_source import SourceError

    if path is None:
        return None
    if path.suffix.lower() != ".svg":
        raise SourceError(f"a picture is an SVG file, so its name must end in .svg, but got {str(path)!r}")
    if not path.parent.is_dir():
        raise SourceError(f"a picture's folder must exist, but {str(path.parent)!r} does not; make it first")
    return path


def _rule(name: str) -> Optimizer:
    from codesign.inspection_source import SourceError
    from evaluators.workload.errors import unknown
    from evaluators.workload.optimizers import Optimizer

    try:
        return Optimizer(name)
    except ValueError:
        raise SourceError(unknown("optimizer", name, [rule.value for rule in Optimizer])) from None


def _print(console: Console, found: Inspection) -> None:
    from codesign.report.quantities import format_quantity

    rows = (
        ("parameters", format_quantity(found.parameters, "count"), found.parameters),
        ("  that train", format_quantity(found.trained_parameters, "count"), found.trained_parameters),
        ("MACs forward", format_quantity(found.forward_macs, "macs"), found.forward_macs),
        ("MACs backward", format_quantity(found.backward_macs, "macs"), found.backward_macs),
    )
    for label, short, exact in rows:
        console.print(f"{label:<16}{short:>12}   {exact:,}", highlight=False)
    if found.inference_error:
        console.print("[yellow]no inference[/]:", end=" ")
        console.print(found.inference_error, markup=False, highlight=False, soft_wrap=True)
    _print_memory(console, found)
    _print_peak(console, found)
    if found.unmodelled_ops:
        names = ", ".join(found.unmodelled_ops)
        console.print(f"[yellow]costed by reads and writes only[/]: {names}", highlight=False)


def _print_memory(console: Console, found: Inspection) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from codesign.report.quantities import format_quantity

    table = Table(title="memory at the peak", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("")
    table.add_column("training", justify="right")
    table.add_column("inference", justify="right")
    sizes = [("torch", found.peak_training_bytes, found.peak_inference_bytes)]
    sizes += [
        (f"planned: {name}", found.planned[name], found.planned_inference.get(name)) for name in found.planned
    ]
    for label, training, inference in sizes:
        label = label.replace("planned: lower_bound", "lower bound")
        in_inference = "-" if inference is None else format_quantity(inference, "bytes")
        table.add_row(label, format_quantity(training, "bytes"), in_inference)
    console.print(table)
    console.print("planned: in place, each gradient applied as soon as it is complete", style="dim")


def _print_peak(console: Console, found: Inspection) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from codesign.report.quantities import format_quantity

    at = found.curve.ops[found.curve.peak_op] if found.curve.ops else "no op"
    table = Table(
        title=f"largest tensors alive at the training peak ({at})", title_justify="left", box=SIMPLE_HEAD
    )
    for name in ("tensor", "role", "shape"):
        table.add_column(name)
    table.add_column("size", justify="right")
    for tensor in found.at_peak[:10]:
        shape = "×".join(map(str, tensor.shape))
        size = format_quantity(tensor.size_bytes, "bytes")
        table.add_row(tensor.name, tensor.role.replace("_", " "), shape, size)
    console.print(table)
