"""What the techniques do to a workload, against bits counted by hand."""

from __future__ import annotations

import functools
import math

import pytest
import torch

from evaluators.networks import build
from evaluators.techniques import LayerDensity, TechniqueError, observe, rewrite
from evaluators.techniques.integer_pipeline import requantized_with
from evaluators.techniques.passes import companions_of, is_training
from evaluators.techniques.quantization import in_reading_order
from evaluators.workload.errors import WorkloadError
from evaluators.workload.graph import Role, Workload
from evaluators.workload.trace import trace
from search_spaces.choice import Choice
from search_spaces.learning import Optimizer
from search_spaces.quantization import FullPrecision, Granularity, UniformQuantization
from search_spaces.sparsity import NM, Dense, FilterPruned, Unstructured

LAYER = "stage2.conv1"  # weights 16 x 8 x 3 x 3 = 1152, input 8 x 8 x 8
NUMEL = 1152
W4A6 = UniformQuantization(weight_bits=4, activation_bits=6)


@functools.cache
def _workload(name: str, optimizer: Optimizer | None = None) -> Workload:
    model = build(name, width=1.0, depth=1, input_shape=(1, 8, 8), num_classes=10, seed=0)
    images = (torch.zeros(4 if optimizer else 1, 1, 8, 8),)
    if optimizer is None:
        return trace(model, images, loss=None, optimizer=None, training=False)
    return trace(model, images, loss="cross_entropy", optimizer=optimizer, training=True)


def _weight_bits(workload: Workload, *choices: Choice) -> float:
    for choice in choices:
        workload = rewrite(choice, workload, LAYER)
    return float(workload.stored_bits[workload.weight_of(LAYER)])


@pytest.mark.parametrize(
    ("choices", "bits"),
    [
        ((Dense(), FullPrecision()), NUMEL * 32),
        ((Dense(), W4A6), NUMEL * 4 + 16 * 32),  # 16 filters, a 32-bit scale each
        (
            (
                Dense(),
                UniformQuantization(weight_bits=4, activation_bits=6, granularity=Granularity.PER_TENSOR),
            ),
            NUMEL * 4 + 32,
        ),
        ((Unstructured(density=0.25), FullPrecision()), NUMEL * 0.25 * 32 + NUMEL),  # the bitmap
        ((Unstructured(density=0.25), W4A6), NUMEL * 0.25 * 4 + NUMEL + 16 * 32),
        ((NM(n=2, m=4), W4A6), NUMEL / 2 * (4 + 2) + 16 * 32),  # 2 bits say which of 4
        ((NM(n=1, m=8), FullPrecision()), NUMEL / 8 * (32 + 3)),
        ((NM(n=1, m=3), FullPrecision()), NUMEL / 3 * (32 + 2)),  # log2(3) takes 2 bits
        ((FilterPruned(density=0.5), W4A6), NUMEL / 2 * 4 + 16 + 16 * 32),  # 1 bit a filter
        ((FilterPruned(density=0.01), FullPrecision()), NUMEL / 16 * 32 + 16),  # one filter is kept
    ],
)
def test_weight_storage_in_closed_form(choices: tuple[Choice, ...], bits: float) -> None:
    workload = _workload("small_cnn")
    assert _weight_bits(workload, *choices) == pytest.approx(bits, rel=1e-12)
    assert _weight_bits(workload, *reversed(choices)) == pytest.approx(bits, rel=1e-12)


def test_an_inference_is_an_integer_pipeline() -> None:
    """The input, and what normalisation and ReLU pass on to it, at 6 bits; nothing else is touched."""
    workload = _workload("small_cnn")
    after = rewrite(W4A6, workload, LAYER)
    changed = {i for i in range(len(workload.tensors)) if workload.bits[i] != after.bits[i]}
    (producer,) = workload.outputs_of("stage1.conv1")
    assert producer in changed
    activations = [workload.tensors[i] for i in changed - {workload.weight_of(LAYER)}]
    assert {tensor.shape for tensor in activations} == {(1, 8, 8, 8)}
    assert len(activations) == 3  # convolution, normalisation, ReLU
    assert all(after.bits[i] == 6 for i in changed - {workload.weight_of(LAYER)})
    assert not changed & set(workload.outputs_of(LAYER))


def test_the_image_is_quantized_too() -> None:
    workload = _workload("small_cnn")
    after = rewrite(W4A6, workload, "stage1.conv1")
    (image,) = workload.inputs_of("stage1.conv1")
    assert workload.tensors[image].role is Role.INPUT
    assert after.bits[image] == 6


def test_a_tensor_with_two_readers_keeps_the_wider_bits() -> None:
    """A block that changes the shape has two convolutions that read one tensor."""
    workload = _workload("resnet")
    first, second = "stage2.block1.conv1", "stage2.block1.shortcut.conv"
    (shared,) = workload.inputs_of(first)
    assert workload.inputs_of(second) == (shared,)
    bits = {
        first: UniformQuantization(weight_bits=4, activation_bits=3),
        second: UniformQuantization(weight_bits=4, activation_bits=7),
    }
    for order in ((first, second), (second, first)):
        after = workload
        for layer in order:
            after = rewrite(bits[layer], after, layer)
        assert after.bits[shared] == 7
    whole: dict[str, tuple[Choice, ...]] = {first: (FullPrecision(),), second: (bits[second],)}
    assert [choice for _, choice in in_reading_order(whole)] == [bits[second], FullPrecision()]
    after = functools.reduce(
        lambda done, step: rewrite(step[1], done, step[0]), in_reading_order(whole), workload
    )
    assert after.bits[shared] == 32  # one reader wants all of it


def test_what_waits_for_a_sum_has_the_bits_of_its_own_readers() -> None:
    """The block's input is stored for its first convolution; the sum takes it as it is."""
    workload = _workload("resnet")
    inner, after_sum = "stage1.block1.conv1", "stage2.block1.conv1"
    (skipped,) = workload.inputs_of(inner)
    (summed,) = workload.inputs_of(after_sum)
    assert skipped not in requantized_with(workload.structure, after_sum)
    after = rewrite(UniformQuantization(weight_bits=4, activation_bits=7), workload, after_sum)
    assert after.bits[summed] == 7
    assert after.bits[skipped] == 32
    (fused,) = workload.outputs_of("stage1.block1.conv2")  # the last operand of the sum: still an accumulator
    assert after.bits[fused] == 7
    (waiting,) = workload.outputs_of("stage2.block1.shortcut.conv")  # made before the sum's last operand
    wide = rewrite(UniformQuantization(weight_bits=4, activation_bits=7), workload, "stage3.block1.conv1")
    assert wide.bits[waiting] == 32


def test_training_keeps_the_master_copy_and_saves_what_is_quantized() -> None:
    workload = _workload("small_cnn", Optimizer.ADAM)
    after = rewrite(W4A6, workload, LAYER)
    assert is_training(workload)
    (saved,) = workload.inputs_of(LAYER)
    assert workload.tensors[saved].role is Role.SAVED
    assert after.bits[saved] == 6
    assert after.index_bits[saved] == 1  # clipped or not, a bit a value
    changed = {i for i in range(len(workload.tensors)) if workload.stored_bits[i] != after.stored_bits[i]}
    assert changed == {saved}


@pytest.mark.parametrize(
    ("optimizer", "states"),
    [(Optimizer.SGD, 0), (Optimizer.MOMENTUM, 1), (Optimizer.ADAM, 2), (Optimizer.ADAMW, 2)],
)
def test_a_frozen_mask_thins_gradient_and_state(optimizer: Optimizer, states: int) -> None:
    workload = _workload("small_cnn", optimizer)
    weight = workload.weight_of(LAYER)
    companions = companions_of(workload.structure, weight)
    assert [workload.tensors[i].role for i in companions] == [Role.GRADIENT] + [Role.OPTIMIZER_STATE] * states
    after = rewrite(Unstructured(density=0.25), workload, LAYER)
    assert after.stored_bits[weight] == NUMEL * (0.25 * 32 + 1)
    assert all(after.stored_bits[i] == NUMEL * 0.25 * 32 for i in companions)
    changed = {i for i in range(len(workload.tensors)) if workload.stored_bits[i] != after.stored_bits[i]}
    assert changed == {weight, *companions}


def test_an_inference_has_no_companions() -> None:
    workload = _workload("small_cnn")
    assert not is_training(workload)
    assert companions_of(workload.structure, workload.weight_of(LAYER)) == ()


@pytest.mark.parametrize("bits", [(2, 4), (4, 8), (8, 16)])
@pytest.mark.parametrize("optimizer", [None, Optimizer.MOMENTUM])
def test_fewer_bits_never_cost_more(bits: tuple[int, int], optimizer: Optimizer | None) -> None:
    def total(width: int) -> float:
        workload = _workload("small_cnn", optimizer)
        for layer in workload.layers:
            workload = rewrite(UniformQuantization(weight_bits=width, activation_bits=width), workload, layer)
        return float(workload.stored_bits.sum())

    assert total(bits[0]) < total(bits[1])


def test_measured_weights_replace_the_expectation_where_they_are_compressed() -> None:
    workload = rewrite(W4A6, rewrite(Unstructured(density=0.5), _workload("small_cnn"), LAYER), LAYER)
    weight, dense = workload.weight_of(LAYER), workload.weight_of("stage3.conv1")
    after = observe(
        workload,
        {
            LAYER: LayerDensity(weights=0.4, inputs=0.7),
            "stage3.conv1": LayerDensity(weights=1.0, inputs=0.5),
        },
    )
    assert after.stored_bits[weight] == pytest.approx(NUMEL * (0.4 * 4 + 1) + 16 * 32)
    assert after.density[dense] == 1


@pytest.mark.parametrize("optimizer", [None, Optimizer.MOMENTUM])
def test_measured_zeros_of_inputs_are_seen_but_still_stored(optimizer: Optimizer | None) -> None:
    workload = rewrite(W4A6, _workload("small_cnn", optimizer), LAYER)
    (inputs,) = workload.inputs_of(LAYER)
    after = observe(workload, {LAYER: LayerDensity(weights=1.0, inputs=0.25)})
    assert after.density[inputs] == 0.25
    assert after.stored_bits[inputs] == pytest.approx(workload.stored_bits[inputs])


def test_in_training_the_mask_decides_not_the_values() -> None:
    workload = rewrite(Unstructured(density=0.5), _workload("small_cnn", Optimizer.MOMENTUM), LAYER)
    after = observe(workload, {LAYER: LayerDensity(weights=0.3, inputs=1.0)})
    assert after.density[workload.weight_of(LAYER)] == 0.5


def test_an_unmeasured_workload_stays() -> None:
    workload = _workload("small_cnn")
    assert observe(workload, {}).density is workload.density


@pytest.mark.parametrize("choice", [FullPrecision(), Dense(), W4A6, NM(n=2, m=4), FilterPruned(density=0.5)])
def test_an_unknown_layer_is_refused(choice: Choice) -> None:
    with pytest.raises(WorkloadError, match=r"no layer named 'stage2.conv'; did you mean 'stage2.conv1'\?"):
        rewrite(choice, _workload("small_cnn"), "stage2.conv")


def test_a_choice_without_a_technique_is_refused() -> None:
    with pytest.raises(TechniqueError, match="no technique is registered for float"):
        rewrite(4.0, _workload("small_cnn"), LAYER)


def test_index_bits_of_nm_are_those_that_tell_the_places_apart() -> None:
    workload = _workload("small_cnn")
    for m in (2, 4, 8):
        after = rewrite(NM(n=1, m=m), workload, LAYER)
        assert after.index_bits[workload.weight_of(LAYER)] == pytest.approx(math.log2(m) / m)
