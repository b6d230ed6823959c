"""Counted operations and memory against what torch really does."""

import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from brp_snn import _sparse, layerwise
from brp_snn.cost import sizes, step_cost
from brp_snn.models import NetworkBuilder, Neuron

TOPOLOGY, SHAPE = "CONV_4_5_1_2_FC_30_FC_10", (1, 12, 12)
PAPERS = ("CONV_32_5_1_2_FC_1000_FC_10", (1, 28, 28))
BATCH, STEPS = 3, 6


def product(_, one, other, **rest):
    """Operations of adding a product of matrices to what is there, from the shapes."""
    return 2 * math.prod(one) * other[-1]


IN_PLACE = {torch.ops.aten.addmm_: product, torch.ops.aten.baddbmm_: product}


def presentation(steps=STEPS):
    torch.manual_seed(0)
    spikes = (torch.rand(steps, BATCH, *SHAPE) < 0.5).float()
    return spikes, torch.eye(10)[:BATCH]


def plain_step(network, steps):
    spikes, targets = presentation(steps)
    loss = torch.nn.functional.mse_loss(network(spikes.movedim(0, 2), targets), targets)
    loss.backward()


def layerwise_step(network, steps):
    spikes, targets = presentation(steps)
    layerwise.gradients(
        network, lambda a, b: spikes[a:b], steps, targets, torch.nn.functional.mse_loss
    )


def test_sizes_of_the_papers_network():
    conv, hidden, output = sizes(*PAPERS)
    assert conv == (25 * 32 * 784, 784, 32 * 784, True, True)
    assert hidden == (6272 * 1000, 6272, 1000, False, True)
    assert output == (1000 * 10, 1000, 10, False, True)
    assert not sizes("C_4_3_1_1_FC_2", (2, 9), freeze_conv_layers=True)[0].learns


@pytest.mark.parametrize("mode", ["BP", "FA", "BRP", "DFA", "shallow"])
@pytest.mark.parametrize(("form", "steps"), [("plain", 6), ("layerwise", 6), ("layerwise", 30)])
def test_operations_are_those_that_torch_counts(mode, form, steps, monkeypatch):
    monkeypatch.setattr(_sparse, "takes", lambda weight: False)
    network = NetworkBuilder(TOPOLOGY, SHAPE, mode)
    with FlopCounterMode(display=False, custom_mapping=IN_PLACE) as counter:
        (plain_step if form == "plain" else layerwise_step)(network, steps)
    counted = step_cost(TOPOLOGY, SHAPE, mode, form, batch=BATCH, steps=steps)
    operations = counter.get_total_flops() / 2
    if form == "layerwise" and mode in ("BRP", "shallow") and steps > 20:  # it streams
        operations -= BATCH * 30 * 10  # the readout's error meets the output's eligibility once
    assert operations == counted.operations


@pytest.mark.parametrize("mode", ["BP", "BRP", "DFA", "shallow"])
def test_memory_of_the_plain_form_is_what_autograd_saves(mode):
    network = NetworkBuilder(TOPOLOGY, SHAPE, mode)
    parameters = {p.untyped_storage().data_ptr() for p in network.parameters()}
    saved = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            saved[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    spikes, targets = presentation()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = network(spikes.movedim(0, 2), targets)
    assert output.requires_grad
    found = sum(size for size, _ in saved.values())
    counted = step_cost(TOPOLOGY, SHAPE, mode, "plain", batch=BATCH, steps=STEPS).kept
    assert found == pytest.approx(counted, rel=0.1)


def test_memory_of_brp_does_not_grow_with_time_and_that_of_bp_does():
    def kept(mode, form, steps):
        return step_cost(*PAPERS, mode, form, batch=BATCH, steps=steps).kept

    assert kept("BRP", "layerwise", 200) == kept("BRP", "layerwise", 50)
    assert kept("BP", "layerwise", 200) == 4 * kept("BP", "layerwise", 50)
    assert kept("BRP", "plain", 200) > 3.9 * kept("BRP", "plain", 50)
    assert kept("BRP", "layerwise", 20) < kept("BRP", "plain", 20) / 3


def test_the_window_is_the_reach_of_a_gradient():
    def window(steps, neuron):
        return layerwise.window(steps, neuron, torch.float32)

    assert window(200, Neuron()) == 20  # 10 steps of reach, and a piece of 10
    assert window(8, Neuron()) == 8
    assert window(200, Neuron(decay=0.9)) == 170
