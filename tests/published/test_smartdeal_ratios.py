"""SmartDeal's compression ratios, from published layer shapes and sparsities alone.

Left out by name: VGG-11 (its dense size of 845.75 MB is not that of any VGG-11), MLP-1 and MLP-2 (layer sizes
not published), DeepLabV3+ and ResNet-164 (no sparsity, and no shapes of ours to check them by).
"""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest

from evaluators.techniques.smartdeal_layout import slice_layout
from evaluators.techniques.smartdeal_storage import compression_ratio, hardware_bits, training_ratio

WITHIN = 0.03


def _shapes() -> ModuleType:
    path = Path(__file__).with_name("published_shapes.py")
    spec = importlib.util.spec_from_file_location("published_shapes", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


nets = _shapes()

RESNET18_LISTS = {
    # github VITA-Group/SmartDeal, resnet18-structure-percentage{,-smaller,-smaller-smaller,-smaller3}.txt
    12.96: ".4 .6 .4 .4 .4 .2 .3 .1 .4 .4 .3 .3 .2 .4 .6 .8 .9 .6 .9 .9",
    10.38: ".3 .5 .3 .3 .3 .2 .3 .1 .3 .3 .3 .3 .2 .3 .5 .7 .7 .5 .7 .7",
    9.20: ".2 .4 .2 .2 .2 .2 .2 .1 .2 .2 .2 .2 .2 .2 .4 .6 .6 .4 .6 .6",
    7.78: ".2 .2 .2 .2 .2 .2 .2 .1 .2 .2 .2 .2 .2 .2 .2 .4 .4 .4 .4 .4",
}


def test_the_shapes_are_those_of_the_networks() -> None:
    counts = {
        net.__name__: sum(math.prod(s) for s in net().values()) for net in (nets.resnet50, nets.vgg19_cifar)
    }
    assert counts == {"resnet50": 25_502_912, "vgg19_cifar": 20_024_000}
    # 25,557,032 parameters: torchvision's resnet50
    assert counts["resnet50"] + nets.normalisation_and_bias(nets.resnet50()) == 25_557_032
    # 3,504,872: torchvision's mobilenet_v2
    shapes = nets.mobilenet_v2()
    assert sum(math.prod(s) for s in shapes.values()) + nets.normalisation_and_bias(shapes) == 3_504_872


@pytest.mark.parametrize(("ratio", "fractions"), RESNET18_LISTS.items())
def test_training_storage_of_resnet18_from_its_pruning_lists(ratio: float, fractions: str) -> None:
    shapes = nets.resnet18_cifar()
    pruned = dict(zip(list(shapes)[:-1], map(float, fractions.split()), strict=True))  # fc is never pruned
    assert training_ratio(shapes, pruned) == pytest.approx(ratio, abs=0.006)  # the last digit printed


@pytest.mark.parametrize(("sparsity", "ratio"), [(0.450, 11.53), (0.586, 14.24)])
def test_resnet50_from_its_sparsity(sparsity: float, ratio: float) -> None:
    shapes = nets.resnet50()
    other = nets.normalisation_and_bias(shapes)
    found = compression_ratio(shapes, 1 - sparsity, other_parameters=other)
    assert found == pytest.approx(ratio, rel=WITHIN)


@pytest.mark.parametrize(("sparsity", "ratio"), [(0.928, 74.19), (0.937, 80.94)])
def test_vgg19_from_its_sparsity_needs_an_index_shared_by_a_pruning_group(
    sparsity: float, ratio: float
) -> None:
    shapes = nets.vgg19_cifar()
    other = nets.normalisation_and_bias(shapes)
    found = compression_ratio(shapes, 1 - sparsity, index_group=32, other_parameters=other)
    assert found == pytest.approx(ratio, rel=WITHIN)
    # With a bit for every row of every filter, even a network of zeros could not be that small.
    assert compression_ratio(shapes, 0.0) < ratio


def test_mobilenet_v2_with_no_sparsity() -> None:
    shapes = nets.mobilenet_v2()
    found = compression_ratio(shapes, other_parameters=nets.normalisation_and_bias(shapes))
    assert found == pytest.approx(6.57, rel=WITHIN)


def test_efficientnet_b0_with_no_sparsity() -> None:
    # Weights alone: the published 20.40 MB of the dense network has no room for its normalisation.
    shapes = nets.efficientnet_b0()
    assert sum(math.prod(shape) for shape in shapes.values()) * 4 > 20.40e6
    assert compression_ratio(shapes) == pytest.approx(6.67, rel=WITHIN)


@pytest.mark.parametrize(
    ("length", "slices", "rows"),
    [
        (4096, 8, 171), (2048, 4, 171), (1280, 3, 143), (1024, 2, 171), (960, 2, 160), (576, 1, 192),
        (512, 1, 171), (384, 1, 128), (320, 1, 107), (256, 1, 86), (192, 1, 64), (160, 1, 54), (144, 1, 48),
        (128, 1, 43), (96, 1, 32), (64, 1, 22), (32, 1, 11), (24, 1, 8), (16, 1, 6),
    ],
)  # fmt: skip
def test_slices_of_every_length_that_the_released_code_lists(length: int, slices: int, rows: int) -> None:
    layout = slice_layout((10, length, 1, 1))
    assert layout is not None
    assert (layout.slices, layout.rows) == (slices, rows)
    assert slice_layout((10, length)) == layout


def test_bases_weigh_what_the_sheet_derives() -> None:
    wide = slice_layout((64, 64, 3, 3))
    narrow = slice_layout((64, 64, 1, 1))
    assert wide is not None
    assert narrow is not None
    assert hardware_bits(wide, 1.0).basis / (64 * 64 * 9) == 0.125  # bits a weight of a 192 x 3 slice
    assert hardware_bits(narrow, 1.0).basis / (64 * 64) == 1.125


@pytest.mark.parametrize("shape", [(64, 3, 7, 7), (96, 1, 3, 3), (32, 16, 5, 5)])
def test_stems_depthwise_and_other_kernels_are_left(shape: tuple[int, ...]) -> None:
    assert slice_layout(shape) is None
