"""MACs along the whole path, model to trace to cost report, against torch's own FLOP counter."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.memory_networks import CASES
from evaluators.cost.mapper import Effort
from evaluators.cost.model import cost
from evaluators.workload.graph import Phase
from evaluators.workload.optimizers import Optimizer
from evaluators.workload.trace import trace
from hw_templates import templates

BRIEF = Effort(orders=1, screening=1, spatial_mappings=1)  # MACs depend on no mapping
FORWARD = (Phase.FORWARD,)
UNGROUPED = ("mlp", "lenet5", "autoencoder", "squeezenet", "gpt")
SLOW_UNGROUPED = ("resnet18", "unet", "densenet", "transformer_encoder", "vit_tiny")


def report_macs(model, inputs, loss):
    """Return MACs of the forward pass and of all others, from a cost report of a training step."""
    step = trace(model, inputs, loss=loss, optimizer=Optimizer.SGD)
    report = cost(step, templates.load("eyeriss_like").build(), effort=BRIEF)
    forward = sum(row.macs for row in report.rows if row.phase in FORWARD)
    return forward, report.macs - forward


def counted_macs(model, inputs, loss):
    """Return the same from torch: its FLOPs are two a MAC."""
    model.train()
    with FlopCounterMode(display=False) as forward:
        output = model(*inputs)
    target = torch.zeros(len(output), *output.shape[2:], dtype=torch.long)
    value = F.cross_entropy(output, target) if loss == "cross_entropy" else output.square().mean()
    with FlopCounterMode(display=False) as backward:
        value.backward()
    return forward.get_total_flops() / 2, backward.get_total_flops() / 2


def check(name):
    case = CASES[name]
    model, inputs = case.build(), case.inputs()
    with sdpa_kernel(SDPBackend.MATH):  # torch counts nothing of its fused attention on a CPU
        ours, theirs = (count(model, inputs, case.loss) for count in (report_macs, counted_macs))
    assert ours == theirs


@pytest.mark.parametrize("name", UNGROUPED)
def test_a_reports_macs_are_torchs(name):
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW_UNGROUPED)
def test_a_reports_macs_are_torchs_on_larger_networks(name):
    check(name)


def test_grouped_convolutions_have_the_closed_form():
    """Torch 2.13 forgets the groups of backward; each pass has as many MACs as the forward pass."""
    model = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 12, 3, 2, groups=4))
    inputs = (torch.zeros(2, 8, 9, 9),)
    forward, backward = report_macs(model, inputs, "mse")
    depthwise, grouped = 2 * 8 * 9 * 9 * 9, 2 * 12 * 4 * 4 * (8 // 4) * 9
    assert forward == depthwise + grouped == counted_macs(model, inputs, "mse")[0]
    assert backward == depthwise + 2 * grouped  # the first layer's input needs no gradient


@pytest.mark.parametrize("name", ["mlp", "lstm", "gpt", "audio_cnn", "video_cnn", "two_in_two_out"])
def test_nothing_is_left_unmodelled(name):
    assert_all_modelled(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CASES))
def test_nothing_is_left_unmodelled_on_any_network(name):
    assert_all_modelled(name)


def assert_all_modelled(name):
    """Every op's arithmetic is known, which is more than 99 % of MACs; a warning would fail the trace."""
    case = CASES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step = trace(case.build(), case.inputs(), loss=case.loss, optimizer=Optimizer.ADAM)
    assert step.unmodelled == ()
    assert step.macs > 0
