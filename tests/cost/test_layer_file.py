"""Layers as files: both formats, defaults, and what wrong rows are told."""

import pytest

from evaluators.cost.layer_file import LayerFileError, layers_workload, read_layers
from evaluators.workload.graph import Operand, Phase

CSV = "name,B,K,C,OY,OX,FY,FX,stride,groups,count\nconv1,1,16,3,8,8,3,3,2,1,1\ndw,1,1,1,8,8,3,3,1,16,2\n"
YAML = """
- {name: conv1, K: 16, C: 3, OY: 8, OX: 8, FY: 3, FX: 3, stride: 2}
- {name: dw, OY: 8, OX: 8, FY: 3, FX: 3, groups: 16, count: 2}
"""


def test_csv_and_yaml_give_the_same_layers(tmp_path):
    (tmp_path / "layers.csv").write_text(CSV)
    (tmp_path / "layers.yaml").write_text(YAML)
    layers = read_layers(tmp_path / "layers.csv")
    assert layers == read_layers(tmp_path / "layers.yaml")
    assert layers[0].nest().macs == 16 * 3 * 64 * 9
    assert layers[0].nest().iy == 7 * 2 + 3
    assert layers[1].nest().macs == 16 * 64 * 9


def test_a_repeated_layer_is_that_many_ops_and_training_adds_both_gradients(tmp_path):
    (tmp_path / "layers.csv").write_text(CSV)
    layers = read_layers(tmp_path / "layers.csv")
    assert [op.layer for op in layers_workload(layers, train=False).ops] == ["conv1", "dw.0", "dw.1"]
    step = layers_workload(layers, train=True)
    assert [op.phase for op in step.ops[:3]] == [
        Phase.FORWARD,
        Phase.INPUT_GRADIENT,
        Phase.WEIGHT_GRADIENT,
    ]
    assert [op.contraction.output for op in step.ops[:3]] == [
        Operand.OUTPUT,
        Operand.INPUT,
        Operand.WEIGHT,
    ]
    assert step.backward_macs == 2 * step.macs


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("l.csv", "name,K\na,0\n", r"row 1, K: must be at least 1, but got '0'"),
        ("l.csv", "name,Q\na,1\n", r"(?s)columns: name,B,K.*row 1, Q: no such key.*got '1'"),
        ("l.csv", "name,K\n", r"no layer in it"),
        ("l.yaml", "a: 1\n", r"must hold a list of layers, but holds dict"),
        ("l.yaml", "[1\n", r"is not readable as YAML"),
        (
            "l.csv",
            "name,K\na,1,2\n",
            r"row 1: must have one cell for .* 2 columns name,K, but got 3",
        ),
        (
            "l.csv",
            "name,K,C\nx,4\n",
            r"row 1: .*3 columns name,K,C, but got 2: x,4; leave a cell",
        ),
        ("l.csv", "name,K,K\nx,4,5\n", r"columns that stand twice in its header: K"),
        ("l.csv", "K\n4\n", r"row 1, name: is required, but missing"),
        ("l.yaml", "- {name: a}\n- 7\n", r"row 2: must be a mapping of keys to values .*but got 7"),
        ("l.yaml", "- {name: a, K: 1, K: 2}\n", r"the key 'K' is written twice \(line 1\)"),
        ("l.txt", "", r"must end in one of \.csv, \.yaml, \.yml"),
    ],
)
def test_a_wrong_file_says_where(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(LayerFileError, match=message):
        read_layers(tmp_path / name)


def test_a_file_that_is_not_there_is_told_so(tmp_path):
    with pytest.raises(LayerFileError, match=r"nofile.csv does not exist"):
        read_layers(tmp_path / "nofile.csv")


def test_an_empty_cell_is_what_is_left_out(tmp_path):
    (tmp_path / "l.csv").write_text("name,K,C\nx,4,\n")
    assert read_layers(tmp_path / "l.csv")[0].C == 1
