"""Our mappings in ZigZag's own model, where the extra `[zigzag]` is installed."""

import pytest

from evaluators.cost.mapper import ZIGZAG, map_all
from evaluators.cost.problem import Problem, Storage
from evaluators.cost.zigzag import ZigZagError, zigzag_cost
from evaluators.workload.graph import LoopNest, Operand
from hw_templates import templates

BYTE = Storage(bits=8.0)
CONV = LoopNest(k=64, c=32, oy=14, ox=14, fy=3, fx=3, iy=14, ix=14)


def mapped(chip, accumulated=Operand.OUTPUT, storage=BYTE):
    problem = Problem(nest=CONV, accumulated=accumulated, storage=(storage, BYTE, BYTE))
    return map_all([(problem, chip)], switches=ZIGZAG)[0]


@pytest.mark.parametrize("name", ["eyeriss_like", "tpu_like", "gemmini_like", "diannao_like"])
def test_our_mapping_costs_the_same_there(name):
    pytest.importorskip("zigzag", reason="needs the extra [zigzag]")
    chip = templates.load(name).build()
    ours = mapped(chip)
    theirs = zigzag_cost(ours, chip)
    assert ours.energy_pj(chip) == pytest.approx(theirs.energy_pj, rel=0.005)
    assert ours.dram_bits(chip) == pytest.approx(theirs.dram_bits, rel=0.005)
    assert ours.latency_cycles == pytest.approx(theirs.latency_cycles, rel=0.08)


def test_what_zigzag_cannot_express_is_refused():
    chip = templates.load("tpu_like").build()
    with pytest.raises(ZigZagError, match="no backward passes"):
        zigzag_cost(mapped(chip, Operand.WEIGHT), chip)
    with pytest.raises(ZigZagError, match="neither resident nor compressed"):
        zigzag_cost(mapped(chip, storage=Storage(bits=8.0, density=0.5)), chip)


def test_without_zigzag_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "zigzag.parser.accelerator_factory", None)
    chip = templates.load("tpu_like").build()
    with pytest.raises(ZigZagError, match=r"pip install 'codesign\[zigzag\]'"):
        zigzag_cost(mapped(chip), chip)
