"""The plain formulation: step by step, a (batch, in, out) tensor for the mean of outer products.

It says the equations of `neuron`, `trace` and `layer` one for one, and automatic differentiation
does the rest. The tests' oracle, and what the benchmark compares with; nothing else uses it.
"""

import math
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from hybrid_plasticity.layer import PlasticLayer
from hybrid_plasticity.networks import FullyConnected, Response
from hybrid_plasticity.neuron import Neuron, spike
from hybrid_plasticity.trace import Hebbian


def updated_trace(
    trace: Float[Tensor, "n_in n_out"],
    pre: Float[Tensor, "batch n_in"],
    post: Float[Tensor, "batch n_out"],
    hebbian: Hebbian,
) -> Float[Tensor, "n_in n_out"]:
    """H after a step: pre is x beta, post is f(V / theta - eta)."""
    outer = torch.bmm(pre[:, :, None], post[:, None, :])
    new = hebbian.decay * trace + hebbian.scale * outer.mean(0)
    return new if hebbian.limit is None else new.clamp(-hebbian.limit, hebbian.limit)


def activity(
    layer: PlasticLayer, potential: Float[Tensor, "batch n_out"]
) -> Float[Tensor, "batch n_out"]:
    """The postsynaptic factor f(V / theta - eta)."""
    above = potential / layer.neuron.theta - layer.eta
    return torch.tanh(above) if layer.hebbian.post == "tanh" else above


def integrated(
    current: Float[Tensor, "..."],
    potential: Float[Tensor, "..."],
    spikes: Float[Tensor, "..."],
    neuron: Neuron,
) -> Float[Tensor, "..."]:
    """Membrane potentials after a step."""
    if neuron.reset == "soft":
        return neuron.decay * (potential - neuron.theta * spikes) + current
    if neuron.reset == "hard":
        return neuron.decay * potential * (1 - spikes) + current
    return neuron.decay * potential + current


def layer_step(
    layer: PlasticLayer,
    x: Float[Tensor, "batch n_in"],
    potential: Float[Tensor, "batch n_out"],
    spikes: Float[Tensor, "batch n_out"],
    trace: Float[Tensor, "n_in n_out"] | None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """A step of a layer whose input, k(t) included, is x: potentials, spikes and trace after it."""
    current = torch.nn.functional.linear(x, layer.fc.weight, layer.fc.bias)
    if trace is not None:
        current = current + layer.alpha * (x @ trace)
    potential = integrated(current, potential, spikes, layer.neuron)
    fired = spike(potential, layer.neuron.theta, layer.neuron.lens)
    if trace is not None:
        post = activity(layer, potential)
        trace = updated_trace(trace, x * layer.acting_beta(), post, layer.hebbian)
    return potential, fired, trace


def fully_connected(
    network: FullyConnected, images: Float[Tensor, "batch *pixels"]
) -> tuple[Response, list[Tensor | None]]:
    """What `FullyConnected.forward` computes, and the traces after it, which are not kept."""
    layers = cast(list[PlasticLayer], list(network.layers))
    pixels = images.flatten(1)
    zeros = [pixels.new_zeros(len(pixels), layer.fc.out_features) for layer in layers]
    potentials, spikes, counts = list(zeros), list(zeros), list(zeros)
    traces: list[Tensor | None] = [
        None if layer.rule == "gp" else layer.hebb.clone() for layer in layers
    ]
    for t in range(network.steps):
        x = pixels
        for i, layer in enumerate(layers):
            x = x * math.exp(-t / network.tau_w)
            potentials[i], spikes[i], traces[i] = layer_step(
                layer, x, potentials[i], spikes[i], traces[i]
            )
            counts[i] = counts[i] + spikes[i]
            x = spikes[i]
    output = (potentials[-1] / network.neuron.theta).clamp(max=network.ceiling)
    return Response(output, counts, network.steps), traces
