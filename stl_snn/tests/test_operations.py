"""Operations by count, against a network that was counted by hand."""

import dataclasses

import pytest
import torch

from stl_snn.operations import Counter, fan_out
from stl_snn.param import MNIST
from stl_snn.spiking_model import SpikingNetwork


def small(**changes):
    """conv 3 x 3 of 1 to 2 channels on 4 x 4, pool to 2 x 2, fully connected 8-3-20."""
    setting = dataclasses.replace(
        MNIST(), channels=2, kernel=3, blocks=(1,), hidden=3, theta=0.5, **changes
    )
    torch.manual_seed(0)
    return SpikingNetwork(setting, (1, 4, 4), 2).eval()


def test_a_network_counted_by_hand():
    network = small()
    synapses = network.synapses()
    with torch.no_grad():
        for layer in synapses.values():
            layer.weight.fill_(1.0)
        synapses["conv1"].weight[1] = 0  # the second feature map hears nothing
        synapses["fc1"].weight[2] = 0
    x = torch.zeros(1, 2, 1, 4, 4)
    x[0, 0, 0, 0, 0] = 1  # a corner: 4 outputs of a map see it
    x[0, 1, 0, 1, 1] = 1  # inside: 9 do
    with Counter(network) as counter, torch.no_grad():
        network(x)
    counts = counter.counts()
    # Step 1: 4 spikes in the corner's 2 x 2, one after pooling. Step 2: 9 spikes, 4 after pooling.
    # Normalization of the untrained network divides by sqrt(1 + 1e-5).
    assert (counts["conv1"].effective, counts["conv1"].dense) == (4 + 9, 2 * 2 * 100)
    assert (counts["fc1"].effective, counts["fc1"].dense) == ((1 + 4) * 2, 2 * 8 * 3)
    # Two of three hidden neurons hear something and fire at both steps.
    assert (counts["fc2"].effective, counts["fc2"].dense) == (2 * 2 * 20, 2 * 3 * 20)
    assert all(count.binary for count in counts.values())
    metrics = counter.metrics()
    assert metrics["Dense"] == 400 + 48 + 120
    assert metrics["Effective_ACs"] == 13 + 10 + 80
    assert metrics["Effective_MACs"] == 0
    assert metrics["energy_uj"] == pytest.approx(103 * 0.9e-6)
    assert metrics["energy_uj_dense_one_step"] == pytest.approx(568 / 2 * 4.6e-6)
    assert metrics["connection_sparsity"] == pytest.approx((9 + 8) / (18 + 24 + 60))
    # 13 spikes of the 32 first neurons, 4 of 3, 40 of 20, in two steps.
    assert metrics["activation_sparsity"] == pytest.approx(1 - (13 + 4 + 40) / (2 * (32 + 3 + 20)))
    assert counter.rates() == pytest.approx({"lif1": 13 / 64, "lif2": 4 / 6, "lif3": 1})


def test_the_size_of_batches_changes_nothing():
    network = small()
    x = (torch.rand(12, 3, 1, 4, 4, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    with torch.no_grad():
        network.synapses()["fc1"].weight.abs_()
    found = []
    for size in (12, 5, 1):
        with Counter(network) as counter, torch.no_grad():
            for batch in torch.split(x, size):
                network(batch)
        found.append(counter.metrics() | counter.rates())
    assert found[0]["Effective_ACs"] > 0
    for other in found[1:]:
        assert other == pytest.approx(found[0], rel=1e-12)


def test_grey_inputs_are_multiplied():
    network = small()
    with Counter(network) as counter, torch.no_grad():
        network(torch.full((2, 3, 1, 4, 4), 0.5))
    metrics = counter.metrics()
    assert metrics["Effective_MACs"] == 3 * 200
    assert not counter.counts()["conv1"].binary
    assert counter.counts()["fc1"].binary


def test_fan_out_of_a_convolution():
    layer = torch.nn.Conv2d(2, 5, 3, padding=1, bias=False)
    links = fan_out(layer, torch.ones_like(layer.weight), (2, 4, 4))
    assert links.shape == (2, 4, 4)
    border, inside = [20, 30, 30, 20], [30, 45, 45, 30]
    assert links[0].tolist() == [border, inside, inside, border]


def test_the_counter_leaves_no_trace():
    network = small()
    with Counter(network):
        pass
    assert not any(layer._forward_hooks for layer in network.modules())
