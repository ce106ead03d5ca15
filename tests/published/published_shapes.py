"""Weight shapes of published networks, written out from their papers' tables: no torch, no data."""

from __future__ import annotations

Shapes = dict[str, tuple[int, ...]]


def resnet50() -> Shapes:
    """ResNet-50 for 1000 classes (He et al., CVPR 2016, table 1)."""
    shapes: Shapes = {"conv1": (64, 3, 7, 7)}
    channels = 64
    for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), start=1):
        for block in range(blocks):
            at = f"stage{stage}.{block}"
            shapes[f"{at}.conv1"] = (width, channels, 1, 1)
            shapes[f"{at}.conv2"] = (width, width, 3, 3)
            shapes[f"{at}.conv3"] = (4 * width, width, 1, 1)
            if block == 0:
                shapes[f"{at}.shortcut"] = (4 * width, channels, 1, 1)
            channels = 4 * width
    return shapes | {"fc": (1000, 2048)}


def vgg19_cifar() -> Shapes:
    """VGG-19 for CIFAR-10: 16 convolutions and one linear layer (Simonyan and Zisserman, ICLR 2015, E)."""
    shapes: Shapes = {}
    channels = 3
    for number, width in enumerate((64,) * 2 + (128,) * 2 + (256,) * 4 + (512,) * 8, start=1):
        shapes[f"conv{number}"] = (width, channels, 3, 3)
        channels = width
    return shapes | {"fc": (10, 512)}


def mobilenet_v2() -> Shapes:
    """MobileNetV2 for 1000 classes (Sandler et al., CVPR 2018, table 2)."""
    shapes: Shapes = {"stem": (32, 3, 3, 3)}
    channels = 32
    plan = ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1))
    for stage, (expansion, width, blocks) in enumerate(plan, start=1):
        for block in range(blocks):
            at, hidden = f"stage{stage}.{block}", expansion * channels
            if expansion > 1:
                shapes[f"{at}.expand"] = (hidden, channels, 1, 1)
            shapes[f"{at}.depthwise"] = (hidden, 1, 3, 3)
            shapes[f"{at}.project"] = (width, hidden, 1, 1)
            channels = width
    return shapes | {"head": (1280, 320, 1, 1), "fc": (1000, 1280)}


def efficientnet_b0() -> Shapes:
    """EfficientNet-B0 for 1000 classes (Tan and Le, ICML 2019, table 1); squeezed to 1/4 of the input."""
    shapes: Shapes = {"stem": (32, 3, 3, 3)}
    channels = 32
    plan = (
        (1, 16, 1, 3), (6, 24, 2, 3), (6, 40, 2, 5), (6, 80, 3, 3), (6, 112, 3, 5), (6, 192, 4, 5),
        (6, 320, 1, 3),
    )  # fmt: skip
    for stage, (expansion, width, blocks, kernel) in enumerate(plan, start=1):
        for block in range(blocks):
            at, hidden = f"stage{stage}.{block}", expansion * channels
            if expansion > 1:
                shapes[f"{at}.expand"] = (hidden, channels, 1, 1)
            shapes[f"{at}.depthwise"] = (hidden, 1, kernel, kernel)
            shapes[f"{at}.squeeze"] = (channels // 4, hidden, 1, 1)
            shapes[f"{at}.excite"] = (hidden, channels // 4, 1, 1)
            shapes[f"{at}.project"] = (width, hidden, 1, 1)
            channels = width
    return shapes | {"head": (1280, 320, 1, 1), "fc": (1000, 1280)}


def resnet18_cifar() -> Shapes:
    """ResNet-18 for CIFAR-10 with a 3x3 stem, in the order of its state dict: 21 weights."""
    shapes: Shapes = {"conv1": (64, 3, 3, 3)}
    channels = 64
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        for block in range(2):
            at = f"layer{stage}.{block}"
            shapes[f"{at}.conv1"] = (width, channels, 3, 3)
            shapes[f"{at}.conv2"] = (width, width, 3, 3)
            if channels != width:
                shapes[f"{at}.shortcut"] = (width, channels, 1, 1)
            channels = width
    return shapes | {"fc": (10, 512)}


def normalisation_and_bias(shapes: Shapes) -> int:
    """Return the parameters beside the weights: two a filter where a normalisation follows, one of `fc`."""
    return sum(shape[0] * (1 if name == "fc" else 2) for name, shape in shapes.items())
