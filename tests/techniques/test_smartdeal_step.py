"""What a SmartDeal training step moves: rounding as stored, in torch and in the workload."""

from __future__ import annotations

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from evaluators.networks import build
from evaluators.networks.layers import compressible_layers, layer_infos
from evaluators.techniques import compress_model, rewrite
from evaluators.techniques.smartdeal_step import moved_by, round_what_is_moved, rounded
from evaluators.workload.graph import Phase, Role, Workload
from evaluators.workload.trace import trace
from search_spaces.learning import Optimizer
from search_spaces.smartdeal import SmartDeal, remodels

STEP = SmartDeal(threshold=0.0, step_bits=8)


@settings(deadline=None)  # the first call of torch takes its time
@given(seed=st.integers(0, 100), bits=st.sampled_from([8, 16]))
def test_rounded_values_are_integers_on_a_scale_an_example(seed: int, bits: int) -> None:
    values = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    values[1] *= 1e-6
    levels = rounded(values, bits)
    high = 2 ** (bits - 1) - 1
    for before, after in zip(values, levels, strict=True):
        scale = before.abs().max() / high
        torch.testing.assert_close(after / scale, (before / scale).round(), rtol=0, atol=1e-6)
        assert float((after - before).abs().max()) <= float(scale) / 2 * (1 + 1e-9)
    torch.testing.assert_close(rounded(levels, bits), levels)


def test_an_example_of_zeros_stays_zero() -> None:
    assert torch.equal(rounded(torch.zeros(2, 3), 8), torch.zeros(2, 3))


def _distinct(values: torch.Tensor) -> int:
    return max(len(example.unique()) for example in values)


class _Shortcut(nn.Module):
    """Two readers of one activation, whose errors are added."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.hidden = torch.relu(self.first(images))
        self.hidden.retain_grad()
        return self.second(self.hidden) + 3 * self.hidden


def test_activations_and_errors_are_rounded_where_they_are_stored() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, images = _Shortcut(), torch.randn(2, 2, 24, 24)
        target = torch.randn(2, 4, 24, 24)
    before = images.clone()
    for layer in (model.first, model.second):
        round_what_is_moved(layer, 8)
    (model(images) - target).square().sum().backward()
    assert torch.equal(images, before)  # the caller's own images are left alone
    assert _distinct(model.hidden) <= 255  # the shortcut reads what the layer reads
    assert model.hidden.grad is not None
    assert _distinct(model.hidden.grad) <= 255  # after the sum of both readers
    assert model.first.weight.grad is not None
    model.eval()
    assert _distinct(model(images)) > 255


def test_gradients_stay_near_those_of_single_precision() -> None:
    def gradients(step_bits: int) -> torch.Tensor:
        model = build("small_cnn", width=1.0, depth=1, input_shape=(1, 8, 8), num_classes=10, seed=0)
        compress_model(
            model,
            {
                info.name: (SmartDeal(threshold=0.0, step_bits=step_bits),)
                for info in layer_infos(model)
                if remodels(info)
            },
        )
        draw = torch.Generator().manual_seed(0)
        images = torch.randn(32, 1, 8, 8, generator=draw)
        labels = torch.randint(0, 10, (32,), generator=draw)
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        layer = compressible_layers(model)["stage2.conv1"]
        found = layer.get_parameter("parametrizations.weight.0.basis").grad
        assert found is not None
        return found.flatten()

    plain, narrow, wide = gradients(32), gradients(8), gradients(16)
    assert float(torch.cosine_similarity(plain, narrow, dim=0)) > 0.95
    assert float(torch.cosine_similarity(plain, wide, dim=0)) > 0.9999


@functools.cache
def _workload() -> Workload:
    model = build("resnet", width=0.5, depth=1, input_shape=(3, 8, 8), num_classes=10, seed=0)
    images = (torch.zeros(4, 3, 8, 8),)
    return trace(model, images, loss="cross_entropy", optimizer=Optimizer.MOMENTUM, training=True)


def _rewritten() -> Workload:
    workload = _workload()
    for layer in workload.layers:
        workload = rewrite(STEP, workload, layer)
    return workload


def test_every_map_that_a_step_moves_is_at_eight_bits() -> None:
    workload = _rewritten()
    maps = (Role.ACTIVATION, Role.SAVED, Role.ACTIVATION_GRADIENT, Role.INPUT)
    wide = [
        tensor.name
        for index, tensor in enumerate(workload.tensors)
        if tensor.role in maps and len(tensor.shape) == 4 and workload.bits[index] > 8
    ]
    assert wide == []


def test_gradients_of_weights_stay_wide() -> None:
    workload = _rewritten()
    for index in workload.structure.gradients.values():
        assert workload.bits[index] == 32


def test_what_one_layer_moves() -> None:
    structure = _workload().structure
    moved = {structure.tensors[index].name for index in moved_by(structure, "stage1.block1.conv2")}
    errors = [
        op.outputs[0]
        for op in structure.ops
        if op.phase is Phase.INPUT_GRADIENT and op.layer == "stage1.block1.conv2" and op.contraction
    ]
    assert {structure.tensors[index].name for index in errors} <= moved
    assert "stage1.block1.conv2/convolution" in moved  # its output
    assert "stage1.block1.norm1/native_batch_norm" in moved  # between the contraction before it and its input
    assert "stage1.block1.conv1/convolution" not in moved  # rounded only if that layer is


def test_a_scale_an_example_is_counted() -> None:
    workload = rewrite(STEP, _workload(), "stage1.block1.conv2")
    index = workload.outputs_of("stage1.block1.conv2")[0]
    assert workload.stored_bits[index] == pytest.approx(workload.tensors[index].numel * 8 + 4 * 32)
