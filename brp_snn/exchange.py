"""Spiking networks in the Neuromorphic Intermediate Representation (NIR).

    from brp_snn.exchange import to_nir
    nir.write("network.nir", to_nir(network))

NIR (Pedersen et al., Nature Communications 15:8122, 2024) describes a leaky integrate-and-fire
neuron in continuous time, tau dV/dt = -V + R I, with a reset to 0 at the threshold. One Euler step
of length dt is V <- (1 - dt / tau) V + (R dt / tau) I: this program's unit with
decay = 1 - dt / tau and R = tau / dt. Simulators that read NIR, such as snnTorch, take dt = 1e-4 s.

Needs the extra `nir`.
"""

from itertools import pairwise

import nir
import numpy as np
from jaxtyping import Float
from torch import Tensor

from brp_snn.models import Block, FC_block, NetworkBuilder, Neuron, RateNetwork

DT = 1e-4
"""Length of a step, in s, that NIR's readers assume."""


def to_nir(network: NetworkBuilder) -> nir.NIRGraph:
    """The network as a chain of maps, neurons and poolings, without what only training needs.

    The output node passes the output layer's spikes on; the readout is their mean over the steps.
    As NIR's shapes have no batch, a reader that takes them literally shows one sample at a time.

    Args:
        network: fully connected layers, two-dimensional convolutions, or both.

    Returns:
        Nodes input, then for each layer k from 0 flatten_k (where the layer is fully connected and
        its input is not flat), map_k, neurons_k and pool_k (behind convolutions), then output.

    Raises:
        ValueError: the network has one-dimensional convolutions, for whose pooling NIR has no node,
            or no spiking units.
    """
    if isinstance(network, RateNetwork):
        raise ValueError("NIR's nodes are spiking units: a RateNetwork has none")
    shape = network.shape
    nodes: dict[str, nir.NIRNode] = {"input": nir.Input({"input": np.array(shape)})}
    for k, block in enumerate(network.blocks):
        if block.layer.kind == "C":
            raise ValueError("NIR has no pooling for one-dimensional convolutions (C_...)")
        if isinstance(block, FC_block) and len(shape) > 1:
            nodes[f"flatten_{k}"] = nir.Flatten({"input": np.array(shape)}, start_dim=0, end_dim=-1)
        nodes[f"map_{k}"] = _map(block, shape)
        nodes[f"neurons_{k}"] = _neurons(block, network.neuron)
        if block.pool:
            size = np.array(block.pool)
            nodes[f"pool_{k}"] = nir.AvgPool2d(size, size, np.zeros(2, dtype=int))
        shape = block.out_shape
    nodes["output"] = nir.Output({"output": np.array(shape)})
    names = list(nodes)
    return nir.NIRGraph(nodes, list(pairwise(names)))


def _numbers(parameter: Tensor) -> Float[np.ndarray, "..."]:
    return parameter.detach().cpu().numpy().copy()


def _map(block: Block, shape: tuple[int, ...]) -> nir.NIRNode:
    weight, bias = _numbers(block.weight), _numbers(block.bias)
    if isinstance(block, FC_block):
        return nir.Affine(weight, bias)
    stride, padding = block.layer.stride, block.layer.padding
    return nir.Conv2d(
        input_shape=shape[1:],
        weight=weight,
        stride=(stride, stride),
        padding=(padding, padding),
        dilation=(1, 1),
        groups=1,
        bias=bias,
    )


def _neurons(block: Block, neuron: Neuron) -> nir.LIF:
    ones = np.ones(block.unit_shape)
    tau = DT / (1 - neuron.decay)
    return nir.LIF(
        tau=tau * ones,
        r=tau / DT * ones,
        v_leak=0 * ones,
        v_threshold=neuron.threshold * ones,
    )
