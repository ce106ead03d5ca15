"""`cosearch cost` and `cosearch crosscheck`: what a model or a list of layers costs on a chip."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from codesign.errors import CodesignError

if TYPE_CHECKING:
    from rich.console import Console

    from evaluators.cost.model import CostReport
    from evaluators.cost.problem import Problem
    from evaluators.workload.graph import Workload
    from hw_templates.accelerator import Accelerator


class CostCommandError(CodesignError):
    """`cost` or `crosscheck` was asked for something that cannot be."""


_WIDEST = 32  # the bits of a tensor that nothing quantizes

Subject = Annotated[
    str,
    typer.Argument(
        metavar="MODEL_OR_LAYERS",
        help="pkg.mod:factory, ./net.py:build, torchvision:NAME, or a file of layers (.csv, .yaml: "
        "name,B,K,C,OY,OX,FY,FX,stride,groups,count, and IY,IX; K and C are counted PER GROUP, and what is "
        'left out is 1: "Layer files" in docs/cost_model.md).',
    ),
]
Chip = Annotated[
    str, typer.Option("--chip", metavar="NAME_OR_FILE", help="A template, its file, or an accelerator.yaml.")
]
Knobs = Annotated[
    list[str] | None, typer.Option("--set", metavar="KNOB=VALUE", help="A knob of the template.")
]
Shapes = Annotated[
    list[str] | None, typer.Option("--input", metavar="SHAPE", help="1x3x224x224; once per input of a model.")
]
Bits = Annotated[
    str, typer.Option("--bits", metavar="W,A[,G]", help="Bits of weights, activations, gradients: 1 to 32.")
]
Train = Annotated[bool, typer.Option("--train", help="A training step: forward, backward and update.")]
Strict = Annotated[bool, typer.Option("--strict", help="Fail where an op's arithmetic is not known.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON (with a `version`) instead of text.")]


def cost(
    subject: Subject,
    chip: Chip = "eyeriss_like",
    knobs: Knobs = None,
    inputs: Shapes = None,
    bits: Bits = "8,8,32",
    train: Train = False,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Say what a model or a list of layers costs on a chip, and where the energy goes."""
    from evaluators.cost.area import area_mm2
    from evaluators.cost.model import cost as cost_of

    accelerator = load_chip(chip, knobs or [])
    workload = load_workload(subject, inputs or [], bits, train)
    if strict and workload.unmodelled:
        raise CostCommandError(
            f"{len(workload.unmodelled)} op(s) have unknown arithmetic and would be costed as memory-bound: "
            + ", ".join(sorted(set(workload.unmodelled)))
        )
    report = cost_of(workload, accelerator)
    if as_json:
        data = report.to_json(mappings=True)
        data |= {"area_mm2": area_mm2(accelerator), "unmodelled": workload.unmodelled}
        typer.echo(json.dumps(data, allow_nan=False))
        return
    from rich.console import Console

    _refuse_infeasible(report)
    _print(Console(), report, area_mm2(accelerator))
    if workload.unmodelled:
        typer.echo(f"costed as memory-bound: {', '.join(sorted(set(workload.unmodelled)))}", err=True)


def _refuse_infeasible(report: CostReport) -> None:
    """Raise a `CostCommandError` where a contraction fits nowhere; JSON records the same in its rows."""
    lines = [
        f"  {row.op} ({row.phase.value}): {row.infeasible.level} needs {row.infeasible.demand_bits:g} bits "
        f"and has {row.infeasible.capacity_bits}"
        for row in report.infeasible
        if row.infeasible is not None
    ]
    if lines:
        raise CostCommandError(
            f"{report.accelerator} cannot map {len(lines)} contraction(s); enlarge the level or unroll other "
            "loops in array.*.unroll:\n" + "\n".join(lines)
        )


def load_chip(name: str, knobs: list[str]) -> Accelerator:
    """Return the chip that `name` means, with `knobs` ("name=value") of its template set.

    Raises:
        HardwareError: no such chip, or a knob or value that is not legal.
        CostCommandError: a knob without a value, or knobs of a chip that has none.
    """
    from hw_templates.chip_file import accelerator_from_file, read_text
    from hw_templates.templates import load

    path = Path(name)
    if path.is_file() and "format_version" in read_text(path):
        if knobs:
            raise CostCommandError(f"{name} is one chip without knobs, but --set gives {', '.join(knobs)}")
        return accelerator_from_file(path)
    parameters = {}
    template = load(name)
    for text in knobs:
        knob, found, value = text.partition("=")
        if not found:
            raise CostCommandError(f"--set takes KNOB=VALUE, but got {text!r}")
        legal = template.knobs[knob].values if knob in template.knobs else ()
        parameters[knob] = next((one for one in legal if str(one) == value), value)
    return template.build(parameters)


def load_workload(subject: str, inputs: list[str], bits: str, train: bool) -> Workload:
    """Return the workload of a layer file or a traced model, with `bits` applied.

    Raises:
        LayerFileError, SourceError, TraceError: the subject cannot be read, built or traced.
        CostCommandError: bits that cannot be read, or a model without the shapes of its inputs.
    """
    from evaluators.cost.layer_file import SUFFIXES, layers_workload, read_layers

    check_bits(bits)
    path = Path(subject)
    if path.suffix in SUFFIXES:
        if inputs:
            raise CostCommandError(
                f"{subject} is a file of layers, whose shapes are its columns, but --input gives "
                f"{', '.join(inputs)}; leave --input out (IY and IX set the input of a layer)"
            )
        return with_bits(layers_workload(read_layers(path), train=train), bits)
    if not inputs:
        raise CostCommandError(
            f"{subject} is a model: give the shape of its input, as in --input 1x3x224x224"
        )
    import torch
    from torch import nn

    from codesign.inspection_source import load_model, parse_input
    from evaluators.workload.optimizers import Optimizer
    from evaluators.workload.trace import trace

    model: nn.Module = load_model(subject)
    specs = [parse_input(text) for text in inputs]
    examples = tuple(torch.empty(spec.shape, dtype=spec.dtype, device="meta") for spec in specs)
    if not train:
        return with_bits(trace(model, examples, training=False), bits)
    return with_bits(trace(model, examples, loss="cross_entropy", optimizer=Optimizer.SGD), bits)


def check_bits(bits: str) -> tuple[float, float, float]:
    """Return the bits of weights, activations and gradients in "W,A" or "W,A,G".

    Raises:
        CostCommandError: if `bits` is something else, or a width is not from 1 to 32.
    """
    try:
        widths = [float(part) for part in bits.split(",")]
    except ValueError:
        widths = []
    if len(widths) not in (2, 3) or not all(1 <= width <= _WIDEST for width in widths):
        raise CostCommandError(
            f"--bits takes W,A or W,A,G, such as 4,8 or 8,8,16, each from 1 to {_WIDEST}, but got {bits!r}"
        )
    weight, activation, gradient = [*widths, 32.0][:3]
    return weight, activation, gradient


def with_bits(workload: Workload, bits: str) -> Workload:
    """Return the workload with the bits of "W,A" or "W,A,G"; gradients default to 32.

    Raises:
        CostCommandError: if `bits` is something else.
    """
    from evaluators.workload.graph import Role

    weight, activation, gradient = check_bits(bits)
    learning = (Role.GRADIENT, Role.ACTIVATION_GRADIENT, Role.OPTIMIZER_STATE)
    table = {}
    for index, tensor in enumerate(workload.tensors):
        if tensor.role is Role.WEIGHT:
            table[index] = weight
        elif tensor.role in learning:
            table[index] = gradient
        else:
            table[index] = activation
    return workload.rewrite(bits=table)


def _print(console: Console, report: CostReport, chip_mm2: float) -> None:
    from rich.markup import escape  # `[uJ]` would be read as a style
    from rich.table import Table

    table = Table(title=escape(f"{report.accelerator} ({report.technology})"))
    for column in ("op", "pass", "MACs", "energy [uJ]", "latency [us]", "utilisation", "DRAM [KiB]"):
        table.add_column(escape(column), justify="left" if column in ("op", "pass") else "right")
    for row in report.rows:
        if row.energy_pj == 0:
            continue
        table.add_row(
            escape(row.op),
            row.phase.value,
            f"{row.macs:,}",
            f"{row.energy_pj * 1e-6:.3f}",
            f"{row.latency_cycles / report.clock_hz * 1e6:.2f}",
            f"{row.utilization:.0%}" if row.macs else "",
            f"{row.dram_bits / 8192:.1f}",
        )
    console.print(table)
    console.print(
        f"total {report.energy_pj * 1e-6:.3f} uJ, {report.latency_s * 1e6:.2f} us, "
        f"{report.dram_bits / 8192:.1f} KiB of DRAM traffic, {report.macs:,} MACs, {chip_mm2:.3f} mm2"
    )
    _chart(console, report)


def _chart(console: Console, report: CostReport) -> None:
    """Print a bar for each place where the energy goes, the longest first."""
    from rich.markup import escape

    levels: dict[str, float] = {}
    for row in report.rows:
        for level, operands in row.energy_by_level_pj.items():
            levels[level] = levels.get(level, 0.0) + sum(operands.values())
    total = sum(levels.values()) or 1.0
    for level, energy_pj in sorted(levels.items(), key=lambda item: -item[1]):
        console.print(f"{escape(level):>20} {energy_pj / total:6.1%} {'█' * round(50 * energy_pj / total)}")


Against = Annotated[str, typer.Option("--against", metavar="TOOL", help="zigzag (extra codesign[zigzag]).")]
REFERENCE_LAYERS = (
    # name, K, C, groups, output, kernel, stride: typical shapes, divisible by common arrays and not
    ("3x3", 64, 32, 1, 14, 3, 1),
    ("3x3 stride 2", 48, 24, 1, 15, 3, 2),
    ("1x1", 100, 30, 1, 7, 1, 1),
    ("depthwise", 1, 1, 48, 14, 3, 1),
    ("linear", 10, 64, 1, 1, 1, 1),
)


def crosscheck(
    chips: Annotated[
        list[str] | None, typer.Argument(metavar="[CHIP]...", help="Templates (default: all).")
    ] = None,
    against: Against = "zigzag",
    as_json: Json = False,
) -> None:
    """Evaluate our mappings of typical layers in another tool's own cost model, and print both.

    Counted with the other tool's switches; differences that remain are listed in docs/cost_model.md.
    """
    from evaluators.cost.mapper import ZIGZAG, map_all
    from evaluators.cost.zigzag import zigzag_cost
    from hw_templates.templates import names

    if against != "zigzag":
        raise CostCommandError(f"--against knows zigzag, but got {against!r}")
    rows = []
    for name in chips or names():
        accelerator = load_chip(name, [])
        for layer, problem in _reference_problems():
            mapped = map_all([(problem, accelerator)], switches=ZIGZAG)[0]
            theirs = zigzag_cost(mapped, accelerator)
            ours_pj = mapped.energy_pj(accelerator)
            rows.append(
                {
                    "chip": name,
                    "layer": layer,
                    "energy_pj": ours_pj,
                    "zigzag_energy_pj": theirs.energy_pj,
                    "energy_ratio": ours_pj / theirs.energy_pj,
                    "latency_ratio": mapped.latency_cycles / theirs.latency_cycles,
                    "dram_ratio": mapped.dram_bits(accelerator) / (theirs.dram_bits or 1.0),
                }
            )
    if as_json:
        typer.echo(json.dumps({"version": 1, "rows": rows}))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title="ours over ZigZag's, on our mappings")
    for column in ("chip", "layer", "energy", "latency", "DRAM"):
        table.add_column(column, justify="left" if column in ("chip", "layer") else "right")
    for row in rows:
        ratios = (f"{row[key]:.4f}" for key in ("energy_ratio", "latency_ratio", "dram_ratio"))
        table.add_row(str(row["chip"]), str(row["layer"]), *ratios)
    Console().print(table)


def _reference_problems() -> list[tuple[str, Problem]]:
    from evaluators.cost.problem import Problem, Storage
    from evaluators.workload.graph import LoopNest, Operand

    byte = Storage(bits=8.0)
    problems = []
    for name, k, c, groups, out, kernel, stride in REFERENCE_LAYERS:
        size = out * stride
        nest = LoopNest(
            k=k, c=c, groups=groups, oy=out, ox=out, fy=kernel, fx=kernel,
            stride_y=stride, stride_x=stride, iy=size, ix=size,
        )  # fmt: skip
        problems.append((name, Problem(nest=nest, accumulated=Operand.OUTPUT, storage=(byte, byte, byte))))
    return problems
