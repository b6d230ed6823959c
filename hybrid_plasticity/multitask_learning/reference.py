"""The multitask network as its equations say it, a loop over steps and layers; the tests' oracle.

Arrays lie as in the paper: activity [batch, neurons], masks [n_in, n_out].
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hybrid_plasticity.multitask_learning.network import TaskNetwork
from hybrid_plasticity.neuron import Neuron, spike
from hybrid_plasticity.trace import Hebbian


class Plain(NamedTuple):
    """What a presentation gives.

    Attributes:
        output: [batch, classes].
        traces: both layers' traces after the last step [n_in, n_out].
        potentials: both layers' potentials after it [batch, n].
    """

    output: Tensor
    traces: list[Tensor]
    potentials: list[Tensor]


class Local(NamedTuple):
    """What a layer's trace may do: alpha [1], beta [1, n_in] and eta [1, n_out]."""

    alpha: Tensor
    beta: Tensor
    eta: Tensor


class State(NamedTuple):
    """A layer between two steps: potentials and spikes [batch, n], and the trace [n_in, n_out]."""

    potential: Tensor
    spikes: Tensor
    trace: Tensor


def plain_step(
    constants: tuple[Neuron, Hebbian],
    weight: Float[Tensor, "n_in n_out"],
    mask: Float[Tensor, "_ _"] | float,
    local: Local | None,
    pre: Float[Tensor, "batch n_in"],
    state: State,
    outer_products: bool = False,
) -> State:
    """A step of a layer.

    Args:
        constants: of its neurons and its trace.
        weight: all weights.
        mask: of 0 and 1; 1 for no mask.
        local: of its trace; None where there is none, which leaves the trace as it is.
        pre: inputs of the step, attenuated.
        state: before the step.
        outer_products: as in `plain_forward`.
    """
    neuron, hebbian = constants
    matrix, trace = weight * mask, state.trace
    if local is not None:
        matrix = matrix + local.alpha * trace * (1 - mask)
    potential = neuron.decay * (state.potential - neuron.theta * state.spikes) + pre @ matrix
    if local is not None:
        post = torch.tanh(potential / neuron.theta - local.eta)
        mean = _mean_outer_product(pre * local.beta, post, outer_products)
        trace = hebbian.decay * trace + mean
    return State(potential, spike(potential, neuron.theta, neuron.lens), trace)


def plain_forward(
    network: TaskNetwork,
    x: Float[Tensor, "batch n_in"],
    masks: Sequence[Float[Tensor, "_ _"] | float],
    outer_products: bool = False,
) -> Plain:
    """A presentation, with gradients through everything.

    Args:
        network: constants and parameters.
        x: inputs, the same at every step.
        masks: of 0 and 1, for both layers and the readout; 1 for no mask.
        outer_products: form the outer product of each sample, (batch, n_in, n_out), and take its
            mean, as the published programs do; else one matrix product gives the mean.
    """
    layers = (network.first, network.second)
    nothing = [x.new_zeros(len(x), len(layer.weight)) for layer in layers]
    states = [
        State(zero, zero, torch.zeros_like(layer.weight.T))
        for zero, layer in zip(nothing, layers, strict=True)
    ]
    neuron, hebbian, ks = network.constants
    for k in ks:
        z = x
        for i, (layer, mask) in enumerate(zip(layers, masks[:2], strict=True)):
            local = Local(layer.alpha, layer.beta, layer.eta) if network.rule == "hp" else None
            states[i] = plain_step(
                (neuron, hebbian), layer.weight.T, mask, local, k * z, states[i], outer_products
            )
            z = states[i].spikes
    output = states[1].potential @ (network.readout.T * masks[2])
    return Plain(output, [s.trace for s in states], [s.potential for s in states])


def _mean_outer_product(pre: Tensor, post: Tensor, outer_products: bool) -> Tensor:
    if outer_products:
        return torch.bmm(pre.unsqueeze(2), post.unsqueeze(1)).mean(0)
    return pre.T @ post / len(pre)
