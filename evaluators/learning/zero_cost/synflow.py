"""SynFlow: how much flows from the input to the output through each weight, without data."""

from __future__ import annotations

import torch
from torch import nn

from evaluators.learning.zero_cost.registry import ZeroCostError, zero_cost
from evaluators.techniques.quantization import pass_inputs


@zero_cost("synflow")
def synflow(model: nn.Module, images: torch.Tensor) -> float:
    """SynFlow: sum of |weight x d(summed outputs)/d(weight)|, all weights absolute, all inputs one.

    The sum runs over the tensors of two or more dimensions: the weights of convolutions and linear layers,
    not their biases, nor the normalisations'. Every entry of the network's state is made absolute, running
    means included, as in the authors' code; batch norms use their running statistics. Quantizers of
    activations let the flow pass, since it is no activation that they were made for; quantized and pruned
    weights enter as they are. It grows exponentially with the depth: compare its logarithm.

    Source: Tanaka et al. 2020, Pruning neural networks without any data by iteratively conserving synaptic
        flow, arXiv 2006.05467, eq. 2 and algorithm 1; as a proxy of accuracy: Abdelfattah et al. 2021,
        Zero-cost proxies for lightweight NAS, arXiv 2101.08134, section 3.2 (double precision).
    """
    pass_inputs(model)
    model.double()
    with torch.no_grad():
        for values in model.state_dict().values():
            if isinstance(values, torch.Tensor) and values.is_floating_point():
                values.abs_()
    weights = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    output: object = model(torch.ones_like(images[:1], dtype=torch.float64))
    if not isinstance(output, torch.Tensor) or not weights:
        raise ZeroCostError(
            "synflow is defined for networks with weights that return one tensor, but this one has "
            f"{len(weights)} weights and returns a {type(output).__name__}"
        )
    if not output.requires_grad:
        raise ZeroCostError(
            "synflow needs an output that depends on the weights through differentiable operations, but "
            "nothing flows back from this one"
        )
    slopes = torch.autograd.grad(output.sum(), weights, allow_unused=True)
    flows = [
        float((weight.detach() * slope).abs().sum())
        for weight, slope in zip(weights, slopes, strict=True)
        if slope is not None  # a layer that the forward pass does not use
    ]
    return sum(flows)
