"""The multitask network as its equations say it, a loop over steps and layers; the tests' oracle.

Arrays lie as in the paper: activity [batch, neurons], masks [n_in, n_out].
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hybrid_plasticity.multitask_learning.network import TaskNetwork
from hybrid_plasticity.plastic import spike


class Plain(NamedTuple):
    """Outputs [batch, classes], and both layers' traces after the last step [n_in, n_out]."""

    output: Tensor
    traces: list[Tensor]


def plain_forward(
    network: TaskNetwork,
    x: Float[Tensor, "batch n_in"],
    masks: Sequence[Float[Tensor, "_ _"]],
    outer_products: bool = False,
) -> Plain:
    """A presentation, with gradients through everything.

    Args:
        network: constants and parameters.
        x: inputs, the same at every step.
        masks: of 0 and 1, for both layers and the readout; ones for no mask.
        outer_products: form the outer product of each sample, (batch, n_in, n_out), and take its
            mean, as the published programs do; else one matrix product gives the mean.
    """
    layers = (network.first, network.second)
    potentials = [x.new_zeros(len(x), len(layer.weight)) for layer in layers]
    spikes = [torch.zeros_like(v) for v in potentials]
    traces = [torch.zeros_like(layer.weight.T) for layer in layers]
    neuron, hebbian, ks = network.constants
    for k in ks:
        z = x
        for i, (layer, mask) in enumerate(zip(layers, masks[:2], strict=True)):
            pre, matrix = k * z, layer.weight.T * mask
            if network.rule == "hp":
                matrix = matrix + layer.alpha * traces[i] * (1 - mask)
            carried = neuron.decay * (potentials[i] - neuron.theta * spikes[i])
            potentials[i] = carried + pre @ matrix
            z = spikes[i] = spike(potentials[i], neuron.theta, neuron.lens)
            if network.rule == "hp":
                post = torch.tanh(potentials[i] / neuron.theta - layer.eta)
                mean = _mean_outer_product(pre * layer.beta, post, outer_products)
                traces[i] = hebbian.decay * traces[i] + mean
    return Plain(potentials[1] @ (network.readout.T * masks[2]), traces)


def _mean_outer_product(pre: Tensor, post: Tensor, outer_products: bool) -> Tensor:
    if outer_products:
        return torch.bmm(pre.unsqueeze(2), post.unsqueeze(1)).mean(0)
    return pre.T @ post / len(pre)
