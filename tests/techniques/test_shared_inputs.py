"""Tensors with several readers: every reader, a residual sum too, sees the same quantized values."""

from __future__ import annotations

import copy

import torch
from torch import nn

from evaluators.networks import build, layer_infos
from evaluators.techniques import bake_model, compress_model, restore_model
from evaluators.techniques.quantization import INPUT_QUANTIZER
from evaluators.techniques.shared_inputs import sources_of
from search_spaces.choice import Choice
from search_spaces.quantization import FullPrecision, UniformQuantization

EXAMPLE = torch.zeros(1, 1, 8, 8)
FOUR = UniformQuantization(weight_bits=8, activation_bits=4)


def _resnet() -> nn.Module:
    return build("resnet", width=0.5, depth=2, input_shape=(1, 8, 8), num_classes=4, seed=0)


def _images(seed: int = 0) -> torch.Tensor:
    return torch.randn((16, 1, 8, 8), generator=torch.Generator().manual_seed(seed))


def _all(model: nn.Module, **others: Choice) -> dict[str, tuple[Choice, ...]]:
    special = {name.replace("__", "."): choice for name, choice in others.items()}
    return {info.name: (special.get(info.name, FOUR),) for info in layer_infos(model)}


def _output_of(model: nn.Module, name: str) -> torch.Tensor:
    seen: list[torch.Tensor] = []
    handle = model.get_submodule(name).register_forward_hook(lambda _m, _i, output: seen.append(output))
    model(_images(1))
    handle.remove()
    return seen[0].detach()


def test_the_source_is_the_module_that_made_the_tensor() -> None:
    sources = sources_of(_resnet(), EXAMPLE)
    assert sources["stage1.block1.conv1"] == "relu"
    assert sources["stage1.block2.conv1"] == "stage1.block1"  # its last ReLU is a function
    assert sources["stage2.block1.conv1"] == sources["stage2.block1.shortcut.conv"] == "stage1.block2"
    assert "conv" not in sources  # the image
    assert "stage1.block1.conv2" not in sources  # made and read within the block


def test_an_operation_in_place_is_not_mistaken_for_what_it_changed() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Identity(), nn.Conv2d(4, 4, 3)
    )
    assert sources_of(model, EXAMPLE) == {"4": "2"}


def test_the_sum_reads_what_is_stored() -> None:
    model = _resnet()
    compress_model(model, _all(model), EXAMPLE)
    model(_images())
    for name in ("relu", "stage1.block1", "stage1.block2", "stage2.block1"):
        assert len(_output_of(model, name).unique()) <= 16, name
    alone = _resnet()
    compress_model(alone, _all(alone))
    alone(_images())
    assert len(_output_of(alone, "stage1.block1").unique()) > 16


def test_the_widest_reader_decides_and_the_narrower_one_goes_on() -> None:
    model = _resnet()
    wide = UniformQuantization(weight_bits=8, activation_bits=8)
    compress_model(model, _all(model, stage2__block1__shortcut__conv=wide), EXAMPLE)
    model(_images())
    stored = _output_of(model, "stage1.block2").unique()
    assert 16 < len(stored) <= 256
    read: list[torch.Tensor] = []
    narrow = model.get_submodule("stage2.block1.conv1")
    narrow.register_forward_hook(lambda _layer, inputs, _output: read.append(inputs[0]))
    model(_images(1))
    assert len(read[0].unique()) <= 16


def test_a_reader_of_32_bits_leaves_the_tensor_as_it_is() -> None:
    model = _resnet()
    compress_model(model, _all(model, stage2__block1__shortcut__conv=FullPrecision()), EXAMPLE)
    model(_images())
    assert len(_output_of(model, "stage1.block2").unique()) > 256


def test_copies_and_restored_models_predict_the_same() -> None:
    model = _resnet()
    choices = _all(model)
    compress_model(model, choices, EXAMPLE)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for seed in range(3):
        optimizer.zero_grad()
        model(_images(seed)).square().mean().backward()
        optimizer.step()
    model.eval()
    twin = copy.deepcopy(model)
    expected = model(_images(1))
    assert torch.equal(twin(_images(1)), expected)
    with torch.no_grad():
        for name, part in twin.named_parameters():
            if INPUT_QUANTIZER in name:
                part.add_(1.0)
    assert not torch.equal(twin(_images(1)), expected)  # the copy uses its own quantizers
    assert torch.equal(model(_images(1)), expected)
    bake_model(model, choices)
    fresh = _resnet()
    restore_model(fresh, choices, model.state_dict(), EXAMPLE)
    assert torch.equal(fresh.eval()(_images(1)), expected)


def test_a_chain_computes_what_it_did_with_quantizers_before_the_layers() -> None:
    """Without a second reader it makes no difference where the quantizer stands, gradients included."""
    found = []
    for example in (None, EXAMPLE):
        model = build("small_cnn", width=1.0, depth=1, input_shape=(1, 8, 8), num_classes=4, seed=0)
        compress_model(model, _all(model), example)
        loss = model(_images()).square().mean()
        loss.backward()
        found.append([loss.detach(), *(part.grad for part in model.parameters())])
    assert all(torch.equal(first, second) for first, second in zip(*found, strict=True))
