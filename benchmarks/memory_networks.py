"""The networks of the memory benchmarks, in plain torch: each name gives a model, its inputs and its loss.

Widths and resolutions are those of the papers unless the name says otherwise; inputs are small (a real step
of each has to run on a laptop), which changes no op.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluators.workload.losses import Loss


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One network to be traced and run."""

    build: Callable[[], nn.Module]
    inputs: Callable[[], tuple[Tensor, ...]]
    loss: Loss = "cross_entropy"


def images(batch: int = 4, size: int = 64, channels: int = 3) -> Callable[[], tuple[Tensor, ...]]:
    return lambda: (torch.zeros(batch, channels, size, size),)


def conv_bn(
    cin: int, cout: int, k: int = 3, s: int = 1, g: int = 1, act: nn.Module | None = None
) -> nn.Sequential:
    layers = [nn.Conv2d(cin, cout, k, s, k // 2, groups=g, bias=False), nn.BatchNorm2d(cout)]
    return nn.Sequential(*layers, *([act] if act is not None else []))


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10)
    )


def lenet5() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(),
        nn.Linear(84, 10),
    )  # fmt: skip


def vgg11() -> nn.Module:
    layers: list[nn.Module] = []
    cin = 3
    for width in (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0):
        if width:
            layers += [nn.Conv2d(cin, width, 3, padding=1), nn.ReLU(inplace=True)]
            cin = width
        else:
            layers.append(nn.MaxPool2d(2))
    head = [
        nn.Linear(512 * 4, 1024),
        nn.ReLU(True),
        nn.Dropout(),
        nn.Linear(1024, 1024),
        nn.ReLU(True),
        nn.Dropout(),
    ]
    return nn.Sequential(*layers, nn.Flatten(), *head, nn.Linear(1024, 100))


class BasicBlock(nn.Module):
    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.a, self.b = conv_bn(cin, cout, 3, stride), conv_bn(cout, cout)
        self.skip = conv_bn(cin, cout, 1, stride) if stride != 1 or cin != cout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.a(x))
        out = self.b(out)
        out += self.skip(x)
        return F.relu(out)


class Bottleneck(nn.Module):
    def __init__(self, cin: int, width: int, stride: int) -> None:
        super().__init__()
        act = nn.ReLU(inplace=True)
        self.body = nn.Sequential(
            conv_bn(cin, width, 1, act=act),
            conv_bn(width, width, 3, stride, act=act),
            conv_bn(width, 4 * width, 1),
        )
        self.skip = conv_bn(cin, 4 * width, 1, stride) if stride != 1 or cin != 4 * width else None
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.skip is None else self.skip(x)
        return self.act(self.body(x) + identity)


def resnet18() -> nn.Module:
    layers: list[nn.Module] = [conv_bn(3, 64, 7, 2, act=nn.ReLU(True)), nn.MaxPool2d(3, 2, 1)]
    cin = 64
    for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [BasicBlock(cin, width, stride), BasicBlock(width, width, 1)]
        cin = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))


def resnet50() -> nn.Module:
    layers: list[nn.Module] = [conv_bn(3, 64, 7, 2, act=nn.ReLU(True)), nn.MaxPool2d(3, 2, 1)]
    cin = 64
    for width, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for i in range(count):
            layers.append(Bottleneck(cin, width, stride if i == 0 else 1))
            cin = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000))


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int, reduced: int, gate: nn.Module, act: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, reduced, 1),
            act,
            nn.Conv2d(reduced, channels, 1),
            gate,
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.body(x)


class Inverted(nn.Module):
    """MobileNet's inverted residual, with V3's and EfficientNet's squeeze-and-excite where asked."""

    def __init__(
        self, cin: int, mid: int, cout: int, k: int, stride: int, act: nn.Module, se: nn.Module | None = None
    ) -> None:
        super().__init__()
        layers = [conv_bn(cin, mid, 1, act=act)] if mid != cin else []
        layers.append(conv_bn(mid, mid, k, stride, mid, act))
        if se is not None:
            layers.append(nn.Sequential(se))
        self.body = nn.Sequential(*layers, conv_bn(mid, cout, 1))
        self.residual = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.residual else self.body(x)


def mobilenet_v2() -> nn.Module:
    act = nn.ReLU6(inplace=True)
    layers: list[nn.Module] = [conv_bn(3, 32, 3, 2, act=act)]
    cin = 32
    plan = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
    for expand, cout, count, stride in plan:
        for i in range(count):
            layers.append(Inverted(cin, cin * expand, cout, 3, stride if i == 0 else 1, act))
            cin = cout
    return nn.Sequential(
        *layers, conv_bn(320, 1280, 1, act=act), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2),
        nn.Linear(1280, 1000),
    )  # fmt: skip


def mobilenet_v3_small() -> nn.Module:
    relu, hard = nn.ReLU(inplace=True), nn.Hardswish(inplace=True)
    layers: list[nn.Module] = [conv_bn(3, 16, 3, 2, act=hard)]
    cin = 16
    plan = (
        (3, 16, 16, True, relu, 2), (3, 72, 24, False, relu, 2), (3, 88, 24, False, relu, 1),
        (5, 96, 40, True, hard, 2), (5, 240, 40, True, hard, 1), (5, 240, 40, True, hard, 1),
        (5, 120, 48, True, hard, 1), (5, 144, 48, True, hard, 1), (5, 288, 96, True, hard, 2),
        (5, 576, 96, True, hard, 1), (5, 576, 96, True, hard, 1),
    )  # fmt: skip
    for k, mid, cout, squeeze, act, stride in plan:
        se = SqueezeExcite(mid, max(8, mid // 4), nn.Hardsigmoid(), nn.ReLU()) if squeeze else None
        layers.append(Inverted(cin, mid, cout, k, stride, act, se))
        cin = cout
    return nn.Sequential(
        *layers, conv_bn(96, 576, 1, act=hard), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(576, 1024), hard, nn.Dropout(0.2), nn.Linear(1024, 1000),
    )  # fmt: skip


def efficientnet_b0() -> nn.Module:
    act = nn.SiLU(inplace=True)
    layers: list[nn.Module] = [conv_bn(3, 32, 3, 2, act=act)]
    cin = 32
    plan = (
        (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3),
        (6, 5, 2, 192, 4), (6, 3, 1, 320, 1),
    )  # fmt: skip
    for expand, k, stride, cout, count in plan:
        for i in range(count):
            mid = cin * expand
            se = SqueezeExcite(mid, max(1, cin // 4), nn.Sigmoid(), nn.SiLU(inplace=True))
            layers.append(Inverted(cin, mid, cout, k, stride if i == 0 else 1, act, se))
            cin = cout
    return nn.Sequential(
        *layers, conv_bn(320, 1280, 1, act=act), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2),
        nn.Linear(1280, 1000),
    )  # fmt: skip


class ChannelsLastNorm(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.mix = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.scale = nn.Parameter(torch.full((width,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        y = self.scale * self.mix(self.depthwise(x).permute(0, 2, 3, 1))
        return x + y.permute(0, 3, 1, 2)


def convnext_atto() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, 40, 4, 4), ChannelsLastNorm(40)]
    widths, depths = (40, 80, 160, 320), (2, 2, 6, 2)
    for i, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        if i:
            layers += [ChannelsLastNorm(widths[i - 1]), nn.Conv2d(widths[i - 1], width, 2, 2)]
        layers += [ConvNeXtBlock(width) for _ in range(depth)]
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(320), nn.Linear(320, 100)
    )


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        act = nn.ReLU(inplace=True)

        def double(cin: int, cout: int) -> nn.Sequential:
            return nn.Sequential(conv_bn(cin, cout, act=act), conv_bn(cout, cout, act=act))

        self.down = nn.ModuleList([double(3, 32), double(32, 64), double(64, 128)])
        self.middle = double(128, 256)
        self.up = nn.ModuleList([nn.ConvTranspose2d(c, c // 2, 2, 2) for c in (256, 128, 64)])
        self.merge = nn.ModuleList([double(c, c // 2) for c in (256, 128, 64)])
        self.head = nn.Conv2d(32, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.middle(x)
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([up(x), skips.pop()], 1))
        return self.head(x)


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], **options: object) -> None:
        super().__init__()
        self.embed = nn.Embedding(1000, 64)
        self.rnn = kind(64, 128, num_layers=2, batch_first=True, **options)
        self.head = nn.Linear(256 if options.get("bidirectional") else 128, 10)

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.rnn(self.embed(tokens))
        return self.head(states[:, -1])


def tokens(batch: int = 8, length: int = 32) -> Callable[[], tuple[Tensor, ...]]:
    return lambda: (torch.zeros(batch, length, dtype=torch.long),)


class TextEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(2000, 128)
        layer = nn.TransformerEncoderLayer(128, 4, 512, batch_first=True, norm_first=False)
        self.encoder = nn.TransformerEncoder(layer, 4)
        self.head = nn.Linear(128, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(tokens)).mean(1))


class Attention(nn.Module):
    """Self-attention through torch's fused kernel; `causal` as a language model needs it."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.heads, self.causal = heads, causal

    def forward(self, x: Tensor) -> Tensor:
        b, t, w = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(y.transpose(1, 2).reshape(b, t, w))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, causal)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViTTiny(nn.Module):
    def __init__(self, patches: int = 16) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 192, 16, 16)
        self.token = nn.Parameter(torch.zeros(1, 1, 192))
        self.position = nn.Parameter(torch.zeros(1, patches + 1, 192))
        self.blocks = nn.Sequential(*(Block(192, 3, False) for _ in range(12)))
        self.norm, self.head = nn.LayerNorm(192), nn.Linear(192, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


class GPT(nn.Module):
    """Two blocks of GPT-2's shape at width 256, embedding and head tied."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.position = nn.Embedding(1000, 256), nn.Embedding(64, 256)
        self.blocks = nn.Sequential(*(Block(256, 4, True) for _ in range(2)))
        self.norm, self.head = nn.LayerNorm(256), nn.Linear(256, 1000, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens) + self.position(torch.arange(tokens.shape[1], device=tokens.device))
        return self.head(self.norm(self.blocks(x)))


def autoencoder() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(),
        nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(), nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU(),
        nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(16, 3, 4, 2, 1), nn.Sigmoid(),
    )  # fmt: skip


class DenseLayer(nn.Module):
    def __init__(self, cin: int, growth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(cin), nn.ReLU(True), nn.Conv2d(cin, 4 * growth, 1, bias=False),
            nn.BatchNorm2d(4 * growth), nn.ReLU(True),
            nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], 1)


def densenet() -> nn.Module:
    """DenseNet-BC with growth 12 and three blocks of six layers."""
    layers: list[nn.Module] = [nn.Conv2d(3, 24, 3, padding=1, bias=False)]
    width = 24
    for block in range(3):
        for _ in range(6):
            layers.append(DenseLayer(width, 12))
            width += 12
        if block < 2:
            layers += [
                nn.BatchNorm2d(width),
                nn.ReLU(True),
                nn.Conv2d(width, width // 2, 1, bias=False),
                nn.AvgPool2d(2),
            ]
            width //= 2
    return nn.Sequential(
        *layers, nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)
    )


class ShuffleUnit(nn.Module):
    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        half, act = cout // 2, nn.ReLU(inplace=True)
        self.stride = stride
        self.left = (
            nn.Sequential(conv_bn(cin, cin, 3, 2, cin), conv_bn(cin, half, 1, act=act))
            if stride == 2
            else None
        )
        inner = cin if stride == 2 else half
        self.right = nn.Sequential(
            conv_bn(inner, half, 1, act=act),
            conv_bn(half, half, 3, stride, half),
            conv_bn(half, half, 1, act=act),
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.left is None:
            kept, x = x.chunk(2, 1)
        else:
            kept = self.left(x)
        out = torch.cat([kept, self.right(x)], 1)
        b, c, h, w = out.shape
        return out.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)


def shufflenet_v2() -> nn.Module:
    act = nn.ReLU(inplace=True)
    layers: list[nn.Module] = [conv_bn(3, 24, 3, 2, act=act), nn.MaxPool2d(3, 2, 1)]
    cin = 24
    for cout, count in ((116, 4), (232, 8), (464, 4)):
        layers += [ShuffleUnit(cin if i == 0 else cout, cout, 2 if i == 0 else 1) for i in range(count)]
        cin = cout
    return nn.Sequential(
        *layers, conv_bn(464, 1024, 1, act=act), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1024, 1000)
    )


class Fire(nn.Module):
    def __init__(self, cin: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(cin, squeeze, 1)
        self.one, self.three = nn.Conv2d(squeeze, expand, 1), nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x), inplace=True)
        return torch.cat([F.relu(self.one(x), inplace=True), F.relu(self.three(x), inplace=True)], 1)


def squeezenet() -> nn.Module:
    """SqueezeNet 1.1."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, 2), nn.ReLU(True), nn.MaxPool2d(3, 2, ceil_mode=True), Fire(64, 16, 64),
        Fire(128, 16, 64), nn.MaxPool2d(3, 2, ceil_mode=True), Fire(128, 32, 128), Fire(256, 32, 128),
        nn.MaxPool2d(3, 2, ceil_mode=True), Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256),
        Fire(512, 64, 256), nn.Dropout(), nn.Conv2d(512, 1000, 1), nn.ReLU(True), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )  # fmt: skip


class GANStep(nn.Module):
    """Generator and discriminator (DCGAN at 32x32) in one step; returns both losses."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(
            nn.ConvTranspose2d(64, 128, 4), nn.BatchNorm2d(128), nn.ReLU(True),
            nn.ConvTranspose2d(128, 64, 4, 2, 1), nn.BatchNorm2d(64), nn.ReLU(True),
            nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU(True), nn.ConvTranspose2d(32, 3, 4, 2, 1),
            nn.Tanh(),
        )  # fmt: skip
        self.discriminator = nn.Sequential(
            nn.Conv2d(3, 64, 4, 2, 1), nn.LeakyReLU(0.2, True), nn.Conv2d(64, 128, 4, 2, 1),
            nn.BatchNorm2d(128), nn.LeakyReLU(0.2, True), nn.Conv2d(128, 1, 8), nn.Flatten(0),
        )  # fmt: skip

    def forward(self, noise: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        fake = self.generator(noise)
        judged_real, judged_fake = self.discriminator(real), self.discriminator(fake.detach())
        loss_d = F.binary_cross_entropy_with_logits(judged_real, torch.ones_like(judged_real))
        loss_d = loss_d + F.binary_cross_entropy_with_logits(judged_fake, torch.zeros_like(judged_fake))
        fooled = self.discriminator(fake)
        return loss_d, F.binary_cross_entropy_with_logits(fooled, torch.ones_like(fooled))


def both_losses(losses: tuple[Tensor, Tensor]) -> Tensor:
    return losses[0] + losses[1]


class TwoInTwoOut(nn.Module):
    """An image and a vector in; classes and a box out."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(conv_bn(3, 32, 3, 2, act=nn.ReLU()), conv_bn(32, 64, 3, 2, act=nn.ReLU()))
        self.vector = nn.Sequential(nn.Linear(20, 64), nn.ReLU())
        self.classes, self.box = nn.Linear(128, 10), nn.Linear(128, 4)

    def forward(self, image: Tensor, vector: Tensor) -> dict[str, Tensor]:
        joined = torch.cat([self.image(image).mean((2, 3)), self.vector(vector)], 1)
        return {"classes": self.classes(joined), "box": self.box(joined)}


def audio_cnn() -> nn.Module:
    layers: list[nn.Module] = []
    for cin, cout, k, s in ((1, 64, 80, 4), (64, 64, 3, 1), (64, 128, 3, 1), (128, 256, 3, 1)):
        layers += [nn.Conv1d(cin, cout, k, s, k // 2), nn.BatchNorm1d(cout), nn.ReLU(), nn.MaxPool1d(4)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(256, 35))


def video_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(3, 16, 3, padding=1), nn.BatchNorm3d(16), nn.ReLU(), nn.MaxPool3d(2),
        nn.Conv3d(16, 32, 3, padding=1), nn.GroupNorm(4, 32), nn.ReLU(), nn.AdaptiveAvgPool3d(1),
        nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


CASES: dict[str, Case] = {
    "mlp": Case(build=mlp, inputs=images(64, 28, 1)),
    "lenet5": Case(build=lenet5, inputs=images(32, 28, 1)),
    "vgg11": Case(build=vgg11, inputs=images()),
    "resnet18": Case(build=resnet18, inputs=images()),
    "resnet50": Case(build=resnet50, inputs=images()),
    "mobilenet_v2": Case(build=mobilenet_v2, inputs=images()),
    "mobilenet_v3_small": Case(build=mobilenet_v3_small, inputs=images()),
    "efficientnet_b0": Case(build=efficientnet_b0, inputs=images()),
    "convnext_atto": Case(build=convnext_atto, inputs=images()),
    "unet": Case(build=UNet, inputs=images(2)),
    "gru": Case(build=lambda: Recurrent(nn.GRU), inputs=tokens()),
    "lstm": Case(build=lambda: Recurrent(nn.LSTM), inputs=tokens()),
    "lstm_bidirectional": Case(build=lambda: Recurrent(nn.LSTM, bidirectional=True), inputs=tokens()),
    "transformer_encoder": Case(build=TextEncoder, inputs=tokens()),
    "vit_tiny": Case(build=ViTTiny, inputs=images()),
    "gpt": Case(build=GPT, inputs=tokens(4, 64)),
    "autoencoder": Case(build=autoencoder, inputs=images(8), loss="mse"),
    "densenet": Case(build=densenet, inputs=images(4, 32)),
    "shufflenet_v2": Case(build=shufflenet_v2, inputs=images()),
    "squeezenet": Case(build=squeezenet, inputs=images()),
    "gan_step": Case(
        build=GANStep, inputs=lambda: (torch.zeros(8, 64, 1, 1), torch.zeros(8, 3, 32, 32)), loss=both_losses
    ),
    "two_in_two_out": Case(
        build=TwoInTwoOut, inputs=lambda: (torch.zeros(8, 3, 32, 32), torch.zeros(8, 20)), loss="mse"
    ),
    "audio_cnn": Case(build=audio_cnn, inputs=lambda: (torch.zeros(4, 1, 8000),)),
    "video_cnn": Case(build=video_cnn, inputs=lambda: (torch.zeros(2, 3, 8, 32, 32),)),
}
