"""NASWOT: how differently a network's ReLUs switch for the images of one batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode

from evaluators.learning.zero_cost.registry import ZeroCostError, zero_cost

aten = torch.ops.aten

# Piecewise linear with a kink at zero: one bit says which piece. ReLU6's second kink is left out of the code,
# as in the authors' implementation, which looks at every module whose type has "ReLU" in its name.
_SWITCHES = frozenset({aten.relu, aten.relu_, aten.leaky_relu, aten.leaky_relu_, aten._prelu_kernel})
_CLAMPS = frozenset({aten.hardtanh, aten.hardtanh_})  # ReLU6 where the lower end is zero

# Activations of the other kinds that torch has; they have no linear pieces, or none that one bit tells apart.
_OTHERS = frozenset(
    {
        *(aten.elu, aten.elu_, aten.celu, aten.celu_, aten.gelu, aten.gelu_, aten.silu, aten.silu_),
        *(aten.mish, aten.mish_, aten.softplus, aten.hardswish, aten.hardswish_, aten.hardsigmoid),
        *(aten.hardsigmoid_, aten.sigmoid, aten.sigmoid_, aten.tanh, aten.tanh_, aten.log_sigmoid_forward),
        *(aten.hardshrink, aten.softshrink, aten.threshold, aten.threshold_),
    }
)


@zero_cost("naswot")
def naswot(model: nn.Module, images: torch.Tensor) -> float:
    """NASWOT: log-determinant of (ReLUs that switch alike) over the pairs of a batch's images.

    The kernel of two images counts the units that are on for both or off for both: their number less the
    Hamming distance of the binary codes. Batch norms use the batch's own statistics, as in an untrained
    network of the paper; everything else evaluates. Scores of different batches or batch sizes cannot be
    compared.

    Returns:
        Minus infinity where the kernel is singular, for example where two images have the same code.

    Raises:
        ZeroCostError: fewer than two images; no ReLU (or ReLU6, leaky ReLU, PReLU); another activation
            beside them; a ReLU whose input does not begin with the batch.

    Source: Mellor et al. 2021, Neural architecture search without training, arXiv 2006.04647, section 3.
    """
    count = len(images)
    if count < 2:
        raise ZeroCostError(f"naswot compares the images of a batch of two or more, but it has {count}")
    for part in model.modules():
        if isinstance(part, _BatchNorm):
            part.train()
    switches = _Switches(count)
    with torch.no_grad(), switches:
        model(images)
    if not switches.units:
        raise ZeroCostError(
            "naswot is defined for networks with ReLU activations, but this one has none; use synflow"
        )
    return log_determinant(switches.kernel)


def log_determinant(kernel: NDArray[np.float64]) -> float:
    """Return the logarithm of the determinant of a positive semi-definite matrix, shape (b, b).

    Minus infinity where it is singular to rounding: an eigenvalue is not above the largest one times the
    size times the machine's precision, as in `numpy.linalg.matrix_rank`.
    """
    eigenvalues = np.linalg.eigvalsh(kernel)
    smallest = eigenvalues[-1] * len(kernel) * np.finfo(np.float64).eps
    if eigenvalues[0] <= smallest:
        return -np.inf
    return float(np.log(eigenvalues).sum())


class _Switches(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches the activations of one forward pass, modules' and functions' alike."""

    def __init__(self, images: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kernel = np.zeros((images, images))
        self.units = 0

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        packet = func.overloadpacket
        if packet in _SWITCHES or (packet in _CLAMPS and args[1:2] == (0,)):
            self._count(packet, args[0])
        elif packet in _OTHERS or packet in _CLAMPS:
            raise ZeroCostError(
                f"naswot is defined for networks whose only activations are ReLUs, but this one uses "
                f"{packet.__name__}; use synflow"
            )
        call: Callable[..., object] = func
        return call(*args, **(kwargs or {}))

    def _count(self, packet: object, values: object) -> None:
        images = len(self.kernel)
        if not isinstance(values, torch.Tensor) or values.ndim < 1 or len(values) != images:
            shape = tuple(values.shape) if isinstance(values, torch.Tensor) else type(values).__name__
            raise ZeroCostError(
                f"naswot needs activations that begin with the batch of {images} images, but {packet} got "
                f"{shape}"
            )
        code = (values.detach() > 0).flatten(1).double()
        off = 1.0 - code
        self.kernel += (code @ code.T + off @ off.T).cpu().numpy()
        self.units += code.shape[1]
