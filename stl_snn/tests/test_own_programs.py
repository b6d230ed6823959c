"""Layers and networks in a program of one's own: words, NaN, precision, devices, export."""

import dataclasses

import pytest
import torch

from shared.errors import UserError
from stl_snn import func
from stl_snn.data import load, noisy
from stl_snn.lif import lif
from stl_snn.param import MNIST
from stl_snn.spiking_model import SpikingNetwork, initial
from stl_snn.training import Presentation, check_finite

SMALL = dataclasses.replace(MNIST(), channels=3, hidden=20, theta=0.5, spread=0.1, dropout=0.0)


def network_of(**options):
    torch.manual_seed(0)
    return SpikingNetwork(SMALL, (1, 8, 8), 3, **options)


def spikes_of(dtype=torch.float32):
    return (torch.rand(4, 3, 1, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.4).to(dtype)


def step(network, optimizer, x):
    optimizer.zero_grad()
    network(x).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: network_of(sharing="map"),
            "sharing must be one of neuron, channel, layer, not 'map'",
        ),
        (lambda: initial(2.0, (3, 4, 4), "neurons"), "layer, not 'neurons'"),
        (lambda: network_of().learn("both", True), "mode must be one of stl, sl, tl, not 'both'"),
        (lambda: Presentation(4, 20, "float16"), "bfloat16, not 'float16'"),
        (
            lambda: noisy(torch.rand(2, 3), "salt", 3, torch.Generator()),
            "kind must be one of gaussian, s&p, not 'salt'",
        ),
        (lambda: load("MNIST", None, 4, torch.device("cpu")), "cifar10dvs, not 'MNIST'"),
    ],
)
def test_words_that_mean_nothing_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_one_pixel_that_is_no_number_stops_a_step_before_a_weight_changes(value):
    network = network_of()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    x = spikes_of()
    x[2, 1, 0, 3, 3] = value
    with pytest.raises(FloatingPointError, match="look for NaN in the input"):
        step(network, optimizer, x)
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, before[name]), name


def test_the_sample_and_step_of_such_a_current_are_named():
    current = torch.zeros(4, 3, 5)
    current[2, 1, 3] = float("nan")
    theta = torch.ones(5, requires_grad=True)
    with pytest.raises(FloatingPointError, match=r"first in sample 2, step 1"):
        lif(current, theta).sum().backward()


def test_gradients_may_overflow_as_a_scaler_expects():
    theta = torch.ones(5, requires_grad=True)
    (lif(torch.full((2, 3, 5), 0.9), theta).sum() * float("inf")).backward()
    assert not theta.grad.isfinite().any()


def test_a_network_that_ran_away_is_told_once_an_epoch():
    network = network_of()
    check_finite(network)
    with torch.no_grad():
        network.conv1.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(UserError, match="became infinite or no numbers: lower --lr"):
        check_finite(network)
    with pytest.raises(UserError, match="lower --lr"):
        check_finite(network_of(), float("inf"))
    network = network_of()
    network.bn1.running_var[1] = float("inf")
    with pytest.raises(UserError, match="lower --lr"):
        check_finite(network)


def test_inference_mode_gives_the_same_votes_and_training_goes_on():
    network, x = network_of().eval(), spikes_of()
    expected = network(x)
    with torch.inference_mode():
        assert torch.equal(network(x), expected)
        network.train()(x)  # running averages move
    step(network, torch.optim.Adam(network.parameters()), x)
    assert all(p.grad.isfinite().all() for p in network.parameters())


def test_layers_under_autocast():
    layers = torch.nn.Sequential(
        func.Conv2d(1, 3, 3, padding=1),
        func.AdaptiveMaxPool2d(4),
        func.BatchNorm2d(3),
        func.AdaptiveAvgPool2d(2),
        func.LIF(True, torch.full((3, 2, 2), 0.1)),
        func.Dropout(0.1),
        func.Linear(12, 20),
        func.LIF(True, torch.full((20,), 0.1)),
        func.Vote(10),
    )
    with torch.autocast("cpu", torch.bfloat16):
        votes = layers(spikes_of())
    assert votes.dtype == torch.float32
    votes.sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in layers.parameters())


def test_pooling_in_other_dtypes_is_torch_s():
    x = torch.rand(2, 3, 4, 6, 6).bfloat16()
    expected = torch.nn.functional.max_pool2d(x.flatten(0, 1), 2).view(2, 3, 4, 3, 3)
    assert torch.equal(func.AdaptiveMaxPool2d(3)(x), expected)


def test_training_goes_on_in_another_dtype():
    """Adam's moments follow when its state is loaded; without, torch refuses the step."""
    network, x = network_of(), spikes_of()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    step(network, optimizer, x)
    network.double()
    optimizer.load_state_dict(optimizer.state_dict())
    state = [(p, optimizer.state[p]["exp_avg"].clone()) for p in network.parameters()]
    step(network, optimizer, x.double())
    for parameter, before in state:
        moment = optimizer.state[parameter]["exp_avg"]
        assert moment.dtype == parameter.dtype == torch.float64
        torch.testing.assert_close(moment, 0.9 * before + 0.1 * parameter.grad)


def test_what_a_layer_holds_moves_with_it():
    """Nothing but parameters and buffers, so that `.to(device)` after a step leaves nothing."""
    network = network_of()
    step(network, torch.optim.Adam(network.parameters()), spikes_of())
    network.to("meta")
    for layer in network.modules():
        held = [value for value in vars(layer).values() if isinstance(value, torch.Tensor)]
        assert not held, layer
    assert network(spikes_of().to("meta")).device.type == "meta"


def test_a_network_is_exported_and_loaded(tmp_path):
    network, x = network_of().eval(), spikes_of()
    with torch.no_grad():
        for synapses in network.synapses().values():
            synapses.weight.mul_(3)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(network, (x,), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "network.pt2")
    loaded = torch.export.load(tmp_path / "network.pt2").module()
    for given in (x, torch.cat([x, x.flip(0)])):
        expected = network(given)
        assert expected.abs().sum() > 0
        torch.testing.assert_close(loaded(given), expected)
