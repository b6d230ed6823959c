"""Networks written as NIR: what a file holds, and that it computes the same."""

import nir
import numpy as np
import pytest
import torch

from brp_snn.exchange import DT, to_nir
from brp_snn.models import NetworkBuilder, Neuron, RateNetwork

STEPS, BATCH = 12, 5
NEURON = Neuron(threshold=0.4, decay=0.3)
NETWORKS = [
    ("FC_30_FC_20_FC_10", (1, 8, 8)),
    ("FC_30_FC_10", (64,)),
    ("CONV_4_5_1_2_FC_30_FC_10", (2, 8, 8)),
]


def lively(topology: str, shape: tuple[int, ...]) -> NetworkBuilder:
    """A network all of whose layers spike."""
    torch.manual_seed(3)
    network = NetworkBuilder(topology, shape, neuron=NEURON).requires_grad_(False)
    for block in network.blocks:
        block.weight.mul_(4)
    return network


def shown(graph: nir.NIRGraph, spikes: torch.Tensor) -> torch.Tensor:
    """Mean output of a chain of nodes for spikes [batch, channels, time, *space]: Euler steps."""
    potentials: dict[str, torch.Tensor] = {}
    fired: dict[str, torch.Tensor] = {}
    follows, chain = dict(graph.edges), ["input"]  # a file does not keep the nodes' order
    while chain[-1] in follows:
        chain.append(follows[chain[-1]])
    total = torch.zeros(())
    for t in range(spikes.shape[2]):
        x = spikes[:, :, t]
        for name in chain:
            node = graph.nodes[name]
            if isinstance(node, nir.Flatten):
                x = x.flatten(1)
            elif isinstance(node, nir.Affine):
                x = x @ torch.tensor(node.weight).T + torch.tensor(node.bias)
            elif isinstance(node, nir.Conv2d):
                weight, bias = torch.tensor(node.weight), torch.tensor(node.bias)
                options = {"stride": tuple(node.stride), "padding": tuple(node.padding)}
                x = torch.nn.functional.conv2d(x, weight, bias, **options)
            elif isinstance(node, nir.AvgPool2d):
                x = torch.nn.functional.avg_pool2d(x, tuple(node.kernel_size))
            elif isinstance(node, nir.LIF):
                tau, r = torch.tensor(node.tau).float(), torch.tensor(node.r).float()
                before = potentials.get(name, torch.zeros(x.shape))
                rested = before * (1 - fired.get(name, torch.zeros(x.shape)))
                x = rested + DT / tau * (torch.tensor(node.v_leak).float() - rested + r * x)
                potentials[name] = x
                fired[name] = x = (x > torch.tensor(node.v_threshold).float()).float()
        total = total + x
    return total / spikes.shape[2]


@pytest.mark.parametrize(("topology", "shape"), NETWORKS)
def test_a_written_network_computes_the_same(topology, shape, tmp_path):
    network = lively(topology, shape)
    nir.write(tmp_path / "network.nir", to_nir(network))
    spikes = (torch.rand(BATCH, shape[0], STEPS, *shape[1:]) < 0.4).float()
    expected = network(spikes, torch.zeros(BATCH, 10))
    assert 0.05 < expected.mean() < 0.95
    torch.testing.assert_close(shown(nir.read(tmp_path / "network.nir"), spikes), expected)


def test_a_graph_is_a_chain_of_named_nodes():
    graph = to_nir(lively(*NETWORKS[2]))
    names = ["input", "map_0", "neurons_0", "pool_0", "flatten_1", "map_1", "neurons_1", "map_2"]
    assert list(graph.nodes) == [*names, "neurons_2", "output"]
    assert graph.edges == list(zip(list(graph.nodes)[:-1], list(graph.nodes)[1:], strict=True))
    np.testing.assert_allclose(1 - DT / graph.nodes["neurons_1"].tau, NEURON.decay)


def test_what_nir_cannot_hold_is_refused():
    with pytest.raises(ValueError, match="no pooling for one-dimensional convolutions"):
        to_nir(NetworkBuilder("C_4_3_1_1_FC_10", (2, 12)))


def test_units_without_spikes_have_no_nodes():
    with pytest.raises(ValueError, match="a RateNetwork has none"):
        to_nir(RateNetwork("FC_7_FC_3", (5,), "BP"))
