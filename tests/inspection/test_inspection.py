"""`cosearch inspect`: the figures, the picture, the command, and what it answers to bad input."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import torch
import typer
from torch import nn
from typer.testing import CliRunner

from codesign.errors import CodesignError
from codesign.inspection import Inspection, inspect_model
from codesign.inspection_command import inspect
from codesign.inspection_picture import memory_picture
from codesign.inspection_source import InputSpec, SourceError, load_loss, load_model, parse_input
from codesign.report.quantities import format_quantity
from evaluators.workload.errors import IndexInputError, TraceError, WorkloadError
from evaluators.workload.measure import measure_peak_bytes
from evaluators.workload.optimizers import Optimizer

NET = """
import torch
from torch import nn
import neighbour

WIDTH = neighbour.WIDTH
MODEL = nn.Linear(4, 4)

def build():
    body = [nn.Conv2d(3, WIDTH, 3), nn.BatchNorm2d(WIDTH), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*body, nn.Linear(WIDTH * 36, 10))

def tokens():
    return nn.Sequential(nn.Embedding(50, 16), nn.Linear(16, 50))

def spectrum():
    class Spectrum(nn.Linear):
        def forward(self, x):
            return torch.fft.rfft(super().forward(x)).real
    return Spectrum(8, 8)

def squared(output):
    return output.square().mean()

def needs(width):
    return nn.Linear(width, width)

def number():
    return 3

def leaves():
    raise SystemExit(4)

def on_a_gpu():
    return nn.Linear(4, 4).cuda()

def counted():
    print('built', torch.zeros(1).device.type)
    return nn.Linear(4, 4)

def drawn():
    print('built', torch.zeros(1).device.type)
    width = int(torch.ones(1).item()) * 4
    return nn.Linear(4, width)

class Hidden(nn.Linear):
    def __init__(self):
        super().__init__(4, 4)
        self.scales = [torch.ones(4)]
    def forward(self, x):
        return super().forward(x) * self.scales[0]

class OnlyTrains(nn.Linear):
    def __init__(self):
        super().__init__(4, 4)
    def forward(self, x):
        y = super().forward(x)
        return y if self.training else y[y > 0]

class Unused(nn.Linear):
    def __init__(self):
        super().__init__(4, 4)
        self.spare = nn.Linear(4, 4)
"""


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "neighbour.py").write_text("WIDTH = 6\n")
    (tmp_path / "broken.py").write_text("import nowhere_to_be_found\n")
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(3)\n")
    (tmp_path / "wrong.py").write_text("def build(:\n")
    (tmp_path / "notes.txt").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "net", raising=False)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    return "./net.py"


def figures(net: str, *options: str) -> dict[str, object]:
    app = typer.Typer()
    app.command()(inspect)
    result = CliRunner().invoke(
        app, [f"{net}:build", "--input", "8x3x8x8", "--json", *options], catch_exceptions=False
    )
    assert result.exit_code == 0
    return dict(json.loads(result.stdout))


def test_the_json_has_what_was_promised(net: str) -> None:
    found = figures(net, "--optimizer", "adam")
    assert found["version"] == 1
    assert found["parameters"] == found["trained_parameters"] == 3 * 6 * 9 + 6 + 12 + 2160 + 10
    assert found["forward_macs"] == 8 * (6 * 3 * 9 * 36 + 2160)
    assert found["backward_macs"] == 8 * (6 * 3 * 9 * 36 + 2 * 2160)
    model, images = load_model(f"{net}:build"), (torch.zeros(8, 3, 8, 8),)
    measured = measure_peak_bytes(model, images, loss="cross_entropy", optimizer=Optimizer.ADAM)
    assert found["peak_training_bytes"] == measured
    assert found["peak_inference_bytes"] == measure_peak_bytes(model, images, training=False)
    for planned in (found["planned"], found["planned_inference"]):
        assert isinstance(planned, dict)
        assert list(planned) == ["basic", "v1", "v2", "v3", "best", "lower_bound"]
        assert (
            planned["lower_bound"]
            <= planned["best"]
            <= 1.02 * planned["lower_bound"]
            <= 1.02 * planned["basic"]
        )
    assert found["unmodelled_ops"] == []
    assert not list(Path().glob("*.svg"))  # no picture unless it is asked for


def test_training_less_needs_less(net: str) -> None:
    peaks = [figures(net, "--train", what)["peak_training_bytes"] for what in ("none", "last:1", "all")]
    assert peaks == sorted(peaks)  # type: ignore[type-var]
    assert figures(net, "--train", "none")["backward_macs"] == 0
    assert figures(net, "--train", "last:1")["trained_parameters"] == 2170


def test_on_a_terminal_it_prints_and_draws(net: str) -> None:
    app = typer.Typer()
    app.command()(inspect)
    result = CliRunner().invoke(app, [f"{net}:build", "--input", "8x3x8x8"], catch_exceptions=False)
    assert result.exit_code == 0
    for word in (
        "parameters",
        "MACs backward",
        "torch",
        "planned: best",
        "lower bound",
        "largest tensors",
        "memory.svg",
    ):
        assert word in result.stdout
    assert ElementTree.parse("memory.svg").getroot().tag.endswith("svg")


def test_a_loss_of_ones_own(net: str) -> None:
    assert figures(net, "--loss", f"{net}:squared")["peak_training_bytes"]


def test_indices_are_recognised_where_no_dtype_is_given(net: str) -> None:
    model = load_model(f"{net}:tokens")
    guessed = inspect_model(model, (parse_input("2x7"),))
    given = inspect_model(model, (parse_input("2x7:int64"),))
    assert guessed.to_json() == given.to_json()
    with pytest.raises(IndexInputError):
        inspect_model(model, (parse_input("2x7:float32"),))


def test_unmodelled_ops_are_named_without_a_warning(net: str) -> None:
    found = inspect_model(load_model(f"{net}:spectrum"), (parse_input("2x8"),), loss="mse")
    assert "aten::_fft_r2c" in found.unmodelled_ops


def test_the_curve_sums_to_the_peak(net: str) -> None:
    found = inspect_model(load_model(f"{net}:build"), (parse_input("8x3x8x8"),))
    totals = found.curve.live_bytes.sum(axis=0)
    assert totals.max() == totals[found.curve.peak_op] == found.peak_training_bytes
    assert sum(tensor.size_bytes for tensor in found.at_peak) == found.peak_training_bytes


def picture_of(model: nn.Module, text: str) -> tuple[Inspection, str]:
    found = inspect_model(model, (parse_input(text),), loss="mse")
    return found, memory_picture(found, "a <model> & more")


def test_the_picture_is_self_contained() -> None:
    found, svg = picture_of(nn.Linear(16, 16), "4x16")
    root = ElementTree.fromstring(svg)
    text = "".join(root.itertext())
    assert "a <model> & more" in text
    assert all(tensor.name in text for tensor in found.at_peak[:10])
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")
    assert "nan" not in svg


def test_the_picture_of_many_ops_shows_their_peak() -> None:
    deep = nn.Sequential(*(nn.Linear(4, 4) for _ in range(250)))
    found, svg = picture_of(deep, "2x4")
    assert len(found.curve.ops) > 720
    assert "forward" in svg
    assert "update" in svg


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("8x3xa", "positive sizes joined by x, such as 8x3x64x64"),
        ("8x0", "positive sizes joined by x"),
        ("", "positive sizes joined by x"),
        ("4x8:", "no dtype named ''"),
        ("\u0664x8", "positive sizes joined by x"),
        ("999999999999999999999x8", r"fewer than 2\*\*63 bytes, but '999999999999999999999x8' has more"),
        ("9" * 5000, r"fewer than 2\*\*63 bytes"),
        ("8x3:int46", r"no dtype named 'int46'; did you mean 'int64'\?"),
    ],
)
def test_inputs_that_are_none(text: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        parse_input(text)


def test_inputs() -> None:
    assert parse_input("8X3x64x64") == InputSpec(shape=(8, 3, 64, 64))
    assert parse_input("2:bool") == InputSpec(shape=(2,), dtype=torch.bool)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("net", "an address must be MODULE:CALLABLE"),
        ("./nothing.py:build", "no such file: nothing.py"),
        ("./notes.txt:build", "notes.txt is no Python file"),
        ("./net.py:biuld", "has nothing named 'biuld'; did you mean 'build'"),
        ("./net.py:WIDTH", "must be callable and build a model, but it is a int"),
        ("./net.py:number", "must build a torch.nn.Module, but it returned int"),
        (
            "./net.py:needs",
            r"needs\(width\) must build the model without arguments \(missing a required argument",
        ),
        (
            "./broken.py:build",
            r"cannot be imported: ModuleNotFoundError: .*nowhere_to_be_found.*broken.py:1\)",
        ),
        ("./leaves.py:build", r"cannot be imported: SystemExit: 3 \(.*leaves.py:2\)"),
        ("./wrong.py:build", r"cannot be imported: SyntaxError: invalid syntax \(.*wrong.py:1\)"),
        (".:x", "a module must be a dotted name such as"),
        ("./net.py:leaves", r"must build the model, but it raised: SystemExit: 4 \(.*net.py:\d+\)"),
        ("./net.py:on_a_gpu", r"but it raised: .*net.py:\d+\); build the model on the CPU"),
        ("no.such.module:build", r"cannot import 'no.such.module'.*or give its file, such as ./net.py:build"),
        ("timm:resnet18", "cannot import 'timm'"),
    ],
)
def test_addresses_that_lead_nowhere(net: str, address: str, message: str) -> None:
    if address.startswith("timm"):
        try:
            __import__("timm")
        except ImportError:
            pass
        else:
            pytest.skip("timm is installed")
    with pytest.raises(SourceError, match=message):
        load_model(address)


def test_a_module_that_breaks_on_import(net: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("raises.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(".")
    with pytest.raises(SourceError, match=r"'raises' cannot be imported: ZeroDivisionError.*raises.py:1\)"):
        load_model("raises:build")


def test_a_model_may_stand_there_ready_made(net: str) -> None:
    assert isinstance(load_model(f"{net}:MODEL"), nn.Linear)


def test_losses(net: str) -> None:
    assert load_loss("mse") == "mse"
    assert callable(load_loss(f"{net}:squared"))
    with pytest.raises(SourceError, match=r"a loss must be callable, but ./net.py:WIDTH is a int"):
        load_loss(f"{net}:WIDTH")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (("--optimizer", "adma"), CodesignError, r"no optimizer named 'adma'; did you mean 'adam'\?"),
        (("--train", "last"), WorkloadError, "all, none, bias or last:K"),
        (("--loss", "msr"), SourceError, r"no loss named 'msr'; did you mean 'mse'\?"),
        (("--picture", "m.png"), SourceError, r"its name must end in .svg, but got 'm.png'"),
        (("--picture", "no/such/m.svg"), SourceError, r"folder must exist, but 'no/such' does not"),
        (("--input", "4"), TraceError, r"the trace stopped at"),
    ],
)
def test_options_that_are_wrong(
    net: str, options: tuple[str, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        figures(net, *options)


@pytest.mark.parametrize(
    "options", [("--optimizer", "adma"), ("--train", "last"), ("--loss", "msr"), ("--picture", "m.png")]
)
def test_wrong_options_are_told_before_the_model_is_built(net: str, options: tuple[str, ...]) -> None:
    with pytest.raises((CodesignError, WorkloadError), match=r"no \w+ named|must be all|must end in"):
        run(f"{net}:leaves", "--input", "4x4", *options)


def run(address: str, *options: str) -> str:
    app = typer.Typer()
    app.command()(inspect)
    result = CliRunner().invoke(app, [address, *options], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_a_model_is_built_without_weights_where_it_can_be(net: str) -> None:
    assert run(f"{net}:counted", "--input", "2x4", "--json").startswith("built meta\n{")
    # One that reads a value is built a second time, with weights.
    assert run(f"{net}:drawn", "--input", "2x4", "--json").startswith("built meta\nbuilt cpu\n{")
    hidden = json.loads(
        run(f"{net}:Hidden", "--input", "2x4", "--json")
    )  # fails when it runs, not when built
    assert hidden["parameters"] == 20


def test_the_training_step_without_an_inference(net: str) -> None:
    found = json.loads(run(f"{net}:OnlyTrains", "--input", "2x4", "--json"))
    model = load_model(f"{net}:OnlyTrains")
    measured = measure_peak_bytes(model, (torch.zeros(2, 4),), loss="cross_entropy", optimizer=Optimizer.SGD)
    assert found["peak_training_bytes"] == measured
    assert found["peak_inference_bytes"] is None
    assert found["planned_inference"] == {}
    assert "must not depend on the values" in found["inference_error"]
    assert "no inference: the trace stopped" in run(f"{net}:OnlyTrains", "--input", "2x4")


def test_parameters_that_the_loss_does_not_reach_do_not_train(net: str) -> None:
    found = json.loads(run(f"{net}:Unused", "--input", "2x4", "--json"))
    assert (found["parameters"], found["trained_parameters"]) == (40, 20)


def test_the_picture_labels_the_peak_above_the_curve() -> None:
    found, svg = picture_of(nn.Linear(16, 16), "4x16")
    root = ElementTree.fromstring(svg)
    (label,) = [
        text for text in root.iter("{http://www.w3.org/2000/svg}text") if text.get("class") == "label"
    ]
    assert label.text == f"peak {format_quantity(found.peak_training_bytes, 'bytes')}"
    points = [
        float(point.split(",")[1])
        for path in root.iter("{http://www.w3.org/2000/svg}path")
        for point in path.attrib["d"].strip("MZ").split(" L")
    ]
    assert min(points) > float(label.attrib["y"])
