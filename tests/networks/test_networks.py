"""The networks: a contract over the registry, their published sizes, and what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from evaluators.networks import NetworkError, build, compressible_layers, describe, layer_infos, names
from evaluators.networks.registry import NETWORKS, scaled
from evaluators.workload.trace import trace


def own_network(
    *, width: float, depth: int, input_shape: tuple[int, int, int], num_classes: int
) -> nn.Module:
    """A user's own network, named in a study as `module:callable`."""
    return nn.Sequential(
        nn.Flatten(), nn.Dropout(0.5), nn.Linear(input_shape[1] * input_shape[2], num_classes)
    )


def no_builder(width: float, depth: int) -> nn.Module:
    return nn.Linear(depth, round(width))


def no_network(*, width: float, depth: int, input_shape: tuple[int, int, int], num_classes: int) -> int:
    """Return what is no network."""
    return 3


def _build(name: str, seed: int = 0, width: float = 1.0, depth: int = 1) -> nn.Module:
    return build(name, width=width, depth=depth, input_shape=(3, 32, 32), num_classes=10, seed=seed)


@pytest.mark.parametrize("name", names())
def test_every_network_keeps_the_contract(name: str) -> None:
    model = _build(name)
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert describe(name)
    infos = layer_infos(model)
    layers = compressible_layers(model)
    assert [info.name for info in infos] == list(layers)
    assert all(tuple(layers[info.name].weight.shape) == info.weight_shape for info in infos)
    assert infos[-1].name == "classifier"
    twin = copy.deepcopy(model)
    assert twin.state_dict().keys() == model.state_dict().keys()


PUBLISHED = {  # full-size networks: three of their copies at twice the width would take gigabytes
    # image, classes, million parameters, million MACs at width and depth 1
    "resnet50": ((3, 224, 224), 1000, 25.557, 4089),  # He et al., CVPR 2016; torchvision: 25.6 M, 4.09 G
    "mobilenet_v2": ((3, 224, 224), 1000, 3.505, 301),  # Sandler et al., CVPR 2018, table 4: 3.4 M, 300 M
    "efficientnet_b0": ((3, 224, 224), 1000, 5.289, 386),  # Tan and Le, ICML 2019, table 2: 5.3 M, 0.39 B
    "vgg19": ((3, 32, 32), 10, 20.035, 398),  # 80.13 MB at 32 bits, in Zhao et al., ISCA 2020
}
SMALL = [name for name in names() if name not in PUBLISHED]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_have_their_published_size(name: str) -> None:
    shape, classes, parameters_m, macs_m = PUBLISHED[name]
    with torch.device("meta"):
        model = build(name, width=1, depth=1, input_shape=shape, num_classes=classes, seed=0)
    inference = trace(model, (torch.empty(1, *shape, device="meta"),), training=False)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(parameters_m, abs=5e-4)
    assert inference.macs / 1e6 == pytest.approx(macs_m, abs=0.6)


@pytest.mark.parametrize("name", names())
def test_a_seed_decides_the_weights_and_nothing_else_is_touched(name: str) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first, same, other = (_build(name, seed, 0.25).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", names())
def test_width_and_depth_make_it_larger(name: str) -> None:
    def parameters(width: float, depth: int) -> int:
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in _build(name, 0, width, depth).parameters())

    assert parameters(0.5, 1) < parameters(1.0, 1) < parameters(1.0, 2) < parameters(2.0, 2)


@pytest.mark.parametrize("name", [name for name in SMALL if name != "mlp"])
def test_two_of_four_fits_behind_the_first_layer_at_any_width(name: str) -> None:
    for width in (0.25, 0.6, 1.0, 1.3):
        _, *later = layer_infos(_build(name, width=width))
        assert all(info.weight_shape[1] % 4 == 0 for info in later if "depthwise" not in info.name)


def test_resnet_of_depth_three_has_the_size_of_resnet_20() -> None:
    """He et al., CVPR 2016, table 6: ResNet-20 has 0.27 M parameters, in 20 layers."""
    model = _build("resnet", depth=3)
    main_path = [name for name in compressible_layers(model) if "shortcut" not in name]
    assert len(main_path) == 20
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(0.27e6, rel=0.02)


def test_small_cnn_in_closed_form() -> None:
    """Convolutions 3x8x9, 8x16x9, 16x32x9; normalisation 2 x (8 + 16 + 32); classifier 32x10 + 10."""
    expected = 9 * (3 * 8 + 8 * 16 + 16 * 32) + 2 * (8 + 16 + 32) + 330
    assert sum(p.numel() for p in _build("small_cnn").parameters()) == expected


@given(st.integers(1, 512), st.floats(0.05, 8))
@settings(deadline=None)
def test_scaled_channels_are_multiples_of_four_close_to_the_wish(channels: int, width: float) -> None:
    result = scaled(channels, width)
    assert result % 4 == 0
    assert result >= 4
    assert abs(result - channels * width) <= 4


def test_a_users_own_network_is_found_by_its_address() -> None:
    model = build(f"{__name__}:own_network", width=1, depth=1, input_shape=(1, 4, 4), num_classes=3, seed=0)
    assert model(torch.zeros(2, 1, 4, 4)).shape == (2, 3)
    assert [info.name for info in layer_infos(model)] == ["2"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "smal_cnn",
            r"no network is named 'smal_cnn'. Did you mean 'small_cnn'\? Known: .*mlp, .*module:callable",
        ),
        (
            "nowhere.at.all:net",
            r"'nowhere.at.all:net' must be an importable module:callable.*No module named",
        ),
        (":net", r"':net' must be an importable module:callable"),
        (f"{__name__}:own_networ", r"must name a callable of module .*Did you mean 'own_network'\?"),
        (f"{__name__}:NAMES", "none of that name"),
        (
            f"{__name__}:no_builder",
            r"must be a function of width, depth, input_shape, num_classes, passed by",
        ),
        (f"{__name__}:no_network", r"must return a torch.nn.Module, but it returned a int"),
    ],
)
def test_what_is_no_network_is_explained(name: str, message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        build(name, width=1, depth=1, input_shape=(1, 8, 8), num_classes=10, seed=0)


@pytest.mark.parametrize(("width", "depth"), [(0.0, 1), (-1.0, 1), (float("nan"), 1), (1.0, 0)])
def test_senseless_sizes_are_refused(width: float, depth: int) -> None:
    with pytest.raises(NetworkError, match=r"`width > 0` and `depth >= 1` must hold, but got width="):
        _build("small_cnn", 0, width, depth)


def test_a_network_without_a_layer_to_compress_is_refused() -> None:
    with pytest.raises(
        NetworkError, match="needs a Conv2d or a Linear layer to compress, but ReLU has neither"
    ):
        layer_infos(nn.ReLU())


def test_layers_that_share_a_weight_are_refused() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    with pytest.raises(NetworkError, match=r"a weight of its own .*'0' and '1' share one; give '1' its own"):
        layer_infos(nn.Sequential(first, second))
    layer_infos(nn.Sequential(first, first))  # one module, called twice, is one layer


def test_a_name_is_registered_once() -> None:
    names()
    with pytest.raises(NetworkError, match="'small_cnn' is registered twice"):
        NETWORKS.register("small_cnn")(own_network)
