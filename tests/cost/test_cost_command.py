"""`cosearch cost` and `crosscheck`, as the command line calls them."""

import json
from types import SimpleNamespace

import pytest
import typer
import yaml
from typer.testing import CliRunner

from codesign.cost_command import CostCommandError, cost, crosscheck
from hw_templates import templates
from hw_templates.accelerator import HardwareError

LAYERS = "name,B,K,C,OY,OX,FY,FX,stride,groups,count\nconv1,1,16,3,8,8,3,3,2,1,1\ndw,1,1,1,8,8,3,3,1,16,2\n"


def invoke(*arguments):
    app = typer.Typer()
    app.command("cost")(cost)
    app.command("crosscheck")(crosscheck)
    return CliRunner().invoke(app, arguments)


@pytest.fixture
def layers(tmp_path):
    path = tmp_path / "layers.csv"
    path.write_text(LAYERS)
    return str(path)


def test_json_has_every_layer_its_ledger_and_its_mapping(layers):
    result = invoke("cost", layers, "--chip", "tpu_like", "--set", "pe_rows=8", "--bits", "4,8", "--json")
    assert result.exit_code == 0, result.output
    data = json.loads(result.output)
    assert data["version"] == 1
    assert [row["layer"] for row in data["rows"]] == ["conv1", "dw.0", "dw.1"]
    for row in data["rows"]:
        assert row["latency_cycles"] > 0
        assert row["dram_bits"] > 0
        assert row["mapping"]["order"]
        assert row["energy_pj"]["dram"]["W"] > 0
    assert data["area_mm2"] > 0


def test_fewer_weight_bits_cost_less_and_training_costs_more(layers):
    def energy_pj(*options):
        return json.loads(invoke("cost", layers, "--json", *options).output)["energy_pj"]

    assert energy_pj("--bits", "4,8") < energy_pj("--bits", "8,8") < energy_pj("--bits", "8,8,8", "--train")


def test_text_shows_totals_and_where_the_energy_goes(layers, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    result = invoke("cost", layers)
    assert "energy [uJ]" in result.output
    assert "latency [us]" in result.output
    assert result.exit_code == 0
    assert "total" in result.output
    assert "dram" in result.output
    assert "█" in result.output


def test_an_exported_accelerator_is_a_chip_too(layers, tmp_path):
    path = tmp_path / "accelerator.yaml"
    path.write_text(templates.load("eyeriss_like").build().to_yaml())
    named = json.loads(invoke("cost", layers, "--json").output)
    filed = json.loads(invoke("cost", layers, "--json", "--chip", str(path)).output)
    assert filed == named
    wrong = invoke("cost", layers, "--chip", str(path), "--set", "pe_rows=4")
    assert "is one chip without knobs" in str(wrong.exception)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--bits", "8"), "--bits takes W,A or W,A,G"),
        (("--bits", "8,x"), "--bits takes W,A or W,A,G"),
        (("--bits", "64,64"), "each from 1 to 32, but got '64,64'"),
        (("--bits", "8,0.5"), "each from 1 to 32, but got '8,0.5'"),
        (("--bits", "8,8,nan"), "each from 1 to 32, but got '8,8,nan'"),
        (("--input", "1x3x4x4"), "leave --input out"),
        (("--set", "pe_rows"), "--set takes KNOB=VALUE, but got 'pe_rows'"),
        (("--set", "pe_rows=5"), r"pe_rows must be one of [4, 6, 8, 12, 16, 24], but got '5'"),
        (("--chip", "eyeris_like"), "Did you mean 'eyeriss_like'"),
    ],
)
def test_wrong_options_say_what_is_legal(layers, options, message):
    result = invoke("cost", layers, *options)
    assert isinstance(result.exception, ValueError)
    assert message in str(result.exception)


def test_a_model_needs_the_shape_of_its_input():
    result = invoke("cost", "torch.nn:Identity")
    assert isinstance(result.exception, CostCommandError)
    assert "give the shape of its input" in str(result.exception)


def test_crosscheck_knows_one_tool():
    result = invoke("crosscheck", "--against", "timeloop")
    assert "--against knows zigzag, but got 'timeloop'" in str(result.exception)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("clok",), "1 GHz", "chip.clok: no such key. Did you mean 'clock'? Known: technology,"),
        (("memories", "accumulators", "capacty"), "1 KiB", "Did you mean 'capacity'?"),
        (("memories", "accumulators", "capacity"), 1024, "accumulators.capacity: 1024 has no unit"),
        (
            ("memories", "accumulators", "capacity"),
            "4 bits",
            "memories.accumulators.capacity: must hold at least one word",
        ),
        (("array", "columns", "unroll"), ["Q"], "unroll.0: must be one of B, K, C"),
        (("technology",), "7nm", "there is no technology '7nm'"),
    ],
)
def test_a_chip_file_with_a_fault_names_file_path_value_and_what_is_legal(
    layers, tmp_path, path, value, message
):
    file = altered_chip(tmp_path, path, value)
    result = invoke("cost", layers, "--chip", file)
    assert isinstance(result.exception, HardwareError)
    assert str(result.exception).startswith(file)
    assert message in str(result.exception)


def test_a_layer_that_fits_nowhere_is_a_message_and_a_record(layers, tmp_path):
    memory = {"word": "4 bits", "granularity": "4 bits", "capacity": "4 bits"}
    file = altered_chip(tmp_path, ("memories", "accumulators"), memory)
    text = invoke("cost", layers, "--chip", file)
    assert isinstance(text.exception, CostCommandError)
    assert "cannot map 3 contraction(s)" in str(text.exception)
    assert "accumulators needs" in str(text.exception)
    rows = json.loads(invoke("cost", layers, "--chip", file, "--json").output)["rows"]
    assert rows[0]["infeasible"]["level"] == "accumulators"
    assert rows[0]["infeasible"]["demand_bits"] > rows[0]["infeasible"]["capacity_bits"] == 4


def altered_chip(folder, path, value):
    """Return the file of a chip with one entry changed; a mapping changes the entries that it has."""
    data = yaml.safe_load(templates.load("tpu_like").build().to_yaml())
    section = data["chip"]
    for part in path[:-1]:
        section = section[part]
    section[path[-1]] = {**section[path[-1]], **value} if isinstance(value, dict) else value
    file = folder / "chip.yaml"
    file.write_text(yaml.safe_dump(data, sort_keys=False))
    return str(file)


def test_strict_refuses_what_it_cannot_count(monkeypatch):
    monkeypatch.setattr(
        "codesign.cost_command.load_workload", lambda *_: SimpleNamespace(unmodelled=("aten::_fft_r2c",))
    )
    result = invoke("cost", "anything", "--strict")
    assert isinstance(result.exception, CostCommandError)
    assert "1 op(s) have unknown arithmetic" in str(result.exception)
    assert "aten::_fft_r2c" in str(result.exception)
