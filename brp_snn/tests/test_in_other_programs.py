"""Networks and functions in a program of one's own: other precisions, export, wrong words, NaN."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.functional import mse_loss, one_hot

from brp_snn import layerwise
from brp_snn.angles import shadow
from brp_snn.cost import step_cost
from brp_snn.data import Data
from brp_snn.function import MODES, teaching_signal, trainingHook
from brp_snn.lisnn.LISNN import LISNN, LateralNetwork
from brp_snn.lisnn.train import train_epoch
from brp_snn.models import Activation, NetworkBuilder, RateNetwork
from brp_snn.module import FA_wrapper
from brp_snn.setup import SynthDataset, Tidigits
from brp_snn.SNN import SNN
from brp_snn.synth_dataset_gen import generate
from brp_snn.tidigits import features, read_data, scaled
from brp_snn.train import Presentation, Trainer
from shared.datasets import Speech
from shared.errors import UserError
from shared.tensors import Samples

TOPOLOGY, SHAPE, STEPS, BATCH = "CONV_3_3_1_1_FC_6_FC_3", (1, 6, 7), 12, 4
LATERAL = (1, 8, 8)


def lively(network):
    """A network whose weights are so large that all layers spike."""
    with torch.no_grad():
        for value in network.parameters():
            value.mul_(2.5)
    return network


def spiking(mode="BRP", topology=TOPOLOGY, shape=SHAPE):
    torch.manual_seed(0)
    return lively(NetworkBuilder(topology, shape, mode, init="he"))


def presentation(shape=SHAPE, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    spikes = (torch.rand(STEPS, BATCH, *shape, generator=generator) < 0.4).to(dtype)
    return spikes, one_hot(torch.arange(BATCH) % 3, 3).to(dtype)


def by_layers(network, spikes, targets):
    network.zero_grad()
    return layerwise.gradients(network, lambda a, b: spikes[a:b], len(spikes), targets, mse_loss)


def gradients_of(network):
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


# ------------------------------------------------------------------------------------------ words


@pytest.mark.parametrize(
    ("call", "word", "allowed"),
    [
        (lambda w: NetworkBuilder("FC_3", (4,), w), "brp", "BRP, BP, FA, DFA, DRTP, sDFA, shallow"),
        (lambda w: RateNetwork("FC_3", (4,), w), "bp", "BRP, BP, FA, DFA, DRTP, sDFA, shallow"),
        (lambda w: NetworkBuilder("FC_3", (4,), init=w), "He", "torch, he"),
        (lambda w: RateNetwork("FC_3", (4,), hidden_act=w), "gelu", "tanh, sigmoid, relu, none"),
        (Activation, "Tanh", "tanh, sigmoid, relu, none"),
        (lambda w: shadow(NetworkBuilder("FC_3", (4,)), w), "bptt", "BRP, BP, FA"),
        (lambda w: trainingHook(torch.zeros(1), None, None, None, w), "dfa", "BRP, BP, FA"),
        (lambda w: teaching_signal(w, *[torch.eye(2)] * 3), "BP", "BRP, DRTP, DFA, sDFA"),
        (lambda w: step_cost("FC_3", (4,), w, "plain", batch=1, steps=1), "brp", "BRP, BP"),
        (lambda w: step_cost("FC_3", (4,), "BP", w, batch=1, steps=1), "fast", "plain, layerwise"),
        (generate, "sorting", "regression, classification"),
        (lambda w: SynthDataset(w, "train"), "sorting", "regression, classification"),
        (lambda w: SynthDataset("regression", w), "valid", "train, test"),
        (lambda w: Tidigits(w, 1, 4, 5), "validation", "train, valid, test"),
        (lambda w: scaled(np.ones((2, 3)), w), "L1", "l1, l2, log-l2"),
        (lambda w: features(Speech("no", (), np.zeros(0, int), (), 8000), w), "none", "l1, l2"),
    ],
)
def test_a_word_that_there_is_not_is_refused_at_once(call, word, allowed):
    with pytest.raises(ValueError, match=f"must be one of {allowed}.*, not '{word}'"):
        call(word)


def test_scalings_are_looked_at_before_recordings_are_read(tmp_path):
    wavs = tmp_path / "ah"
    wavs.mkdir()
    with pytest.raises((ValueError, UserError)):
        read_data(tmp_path, scaling="L1")


@pytest.mark.parametrize("change", [{"kind": "movies"}, {"target_kind": "labels"}])
def test_a_kind_of_data_that_there_is_not_is_refused(change):
    part = Samples(torch.zeros(2, 4), torch.eye(2))
    words = {"kind": "values", "target_kind": "classes"} | change
    with pytest.raises(ValueError, match=r"kind of .* must be one of .*, not"):
        Data("x", part, part, part, shape=(4,), shown=lambda x, training: x, **words)


def trainer_of(inputs, loss="MSE"):
    good = Samples(torch.zeros(3, 4), torch.eye(3))
    part = Samples(inputs, torch.eye(3))
    data = Data("x", part, good, good, "values", (4,), lambda x, training: x)
    network = NetworkBuilder("FC_5_FC_3", (4,))
    optimizer = torch.optim.Adam(network.parameters())
    return Trainer(network, data, Presentation(5, 1.0, loss), optimizer, torch.Generator())


def test_a_loss_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="loss must be one of MSE, BCE, CE, not 'mse'"):
        trainer_of(torch.zeros(3, 4), "mse")


# -------------------------------------------------------------------------------------------- NaN


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_input_that_is_no_number_is_refused_before_anything_is_learned(value):
    inputs = torch.zeros(3, 4)
    inputs[1, 2] = value
    with pytest.raises(UserError, match=r"sample 1 \(counted from 0\) of the train part has a"):
        trainer_of(inputs)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("step", [0, STEPS - 1])
def test_the_readout_of_a_sample_with_nan_is_nan_and_that_of_others_is_not(mode, step):
    network = spiking(mode)
    spikes, targets = presentation()
    good = network(spikes.movedim(0, 2), targets).detach()
    spikes[step, 2, 0, 3, 3] = math.nan
    plain = network(spikes.movedim(0, 2), targets).detach()
    fast = layerwise.readout(network, lambda a, b: spikes[a:b], STEPS, BATCH)
    outcome = by_layers(network, spikes, targets)
    for output in (plain, fast, outcome.output):
        assert output[2].isnan().all()
        torch.testing.assert_close(output[[0, 1, 3]], good[[0, 1, 3]])
    assert outcome.loss.isnan()


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_weights_that_are_no_numbers_are_told_by_the_readout(layer):
    network = spiking()
    spikes, targets = presentation()
    with torch.no_grad():
        network.blocks[layer].weight.view(-1)[0] = math.nan
    assert network(spikes.movedim(0, 2), targets).isnan().all()
    assert layerwise.readout(network, lambda a, b: spikes[a:b], STEPS, BATCH).isnan().all()


@pytest.mark.parametrize("by_torch", [False, True])
def test_lateral_networks_tell_of_nan_too(by_torch, monkeypatch):
    network = lively(LateralNetwork(LATERAL, 4))
    spikes, _ = presentation(LATERAL)
    if by_torch:
        monkeypatch.setattr("brp_snn._kernels.by_numba", lambda tensor: False)
        monkeypatch.setattr("brp_snn._sparse.by_numba", lambda tensor: False)
    good = network(spikes).detach()
    spikes[0, 1, 0, 4, 4] = math.nan
    output = network(spikes)
    assert output[1].isnan().all()
    torch.testing.assert_close(output[[0, 2, 3]], good[[0, 2, 3]])
    with torch.no_grad():
        network.fc1.weight[3, 7] = math.nan
    assert network(spikes).isnan().all()


def test_published_classes_tell_of_nan_in_an_image():
    lateral = LISNN(SimpleNamespace(dts="MNIST", if_lateral=True))
    images = torch.rand(2, 1, 28, 28)
    images[1, 0, 14, 14] = math.nan
    bits = torch.rand(2, 9)
    bits[1, 4] = math.nan
    for output in (lateral(images, 3), SNN(2, 9, 3)(bits, "mnist", 3)):
        assert output[0].isfinite().all()
        assert output[1].isnan().all()


def test_an_epoch_of_a_lateral_network_with_nan_is_one_sentence():
    network = LateralNetwork(LATERAL, 4)
    optimizer = torch.optim.Adam(network.parameters())
    part = Samples(torch.zeros(4, *LATERAL, dtype=torch.uint8), torch.arange(4))
    with torch.no_grad():
        network.conv2.bias[0] = math.nan
    with pytest.raises(UserError, match="no number any more: lower --lr; the last checkpoint"):
        train_epoch(network, part, 3, 2, optimizer, torch.Generator())


# ------------------------------------------------------------------------- precision and inference


@pytest.mark.parametrize("mode", MODES)
def test_inference_mode_gives_the_same_and_refuses_to_learn(mode):
    network = spiking(mode)
    spikes, targets = presentation()
    expected = network(spikes.movedim(0, 2), targets).detach()
    with torch.inference_mode():
        found = network(spikes.movedim(0, 2), targets)
        fast = layerwise.readout(network, lambda a, b: spikes[a:b], STEPS, BATCH)
        with pytest.raises(RuntimeError, match=r"leave it, layerwise\.gradients builds"):
            by_layers(network, spikes, targets)
    assert torch.equal(found, expected)
    torch.testing.assert_close(fast, expected)
    by_layers(network, spikes, targets)  # the network learns after it as before
    assert all(value.isfinite().all() for value in gradients_of(network).values())


def test_other_networks_in_inference_mode():
    lateral = lively(LateralNetwork(LATERAL, 4))
    spikes, _ = presentation(LATERAL)
    expected = lateral(spikes).detach()
    with torch.inference_mode():
        assert torch.equal(lateral(spikes), expected)
    lateral(spikes).sum().backward()
    assert lateral.conv1.weight.grad.isfinite().all()
    two_layers = lively(SNN(4, 9, 3))
    bits = torch.rand(4, 9).round()
    with torch.inference_mode():
        output = two_layers(bits, "nettalk", 5)
    assert torch.equal(output, two_layers(bits, "nettalk", 5).detach())


@pytest.mark.parametrize("mode", MODES)
def test_autocast_does_not_reach_into_spiking_networks(mode):
    network = spiking(mode)
    spikes, targets = presentation()
    by_layers(network, spikes, targets)
    expected = gradients_of(network)
    with torch.autocast("cpu", torch.bfloat16):
        outcome = by_layers(network, spikes.bfloat16(), targets)
        found = gradients_of(network)
        network.zero_grad()
        output = network(spikes.bfloat16().movedim(0, 2), targets)
    mse_loss(output, targets).backward()  # outside, as torch wants it
    assert output.dtype == outcome.output.dtype == torch.float32
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
        if (own := gradients_of(network).get(name)) is not None:
            torch.testing.assert_close(own, value, rtol=1e-4, atol=1e-6, msg=name)


def test_autocast_and_lateral_networks():
    network = lively(LateralNetwork(LATERAL, 4))
    spikes, _ = presentation(LATERAL)
    expected = network(spikes)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(network(spikes.bool()), expected)
    bits = torch.rand(4, 9).round()
    two_layers = SNN(4, 9, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert two_layers(bits, "nettalk", 5).dtype == torch.float32


@pytest.mark.parametrize("mode", MODES)
def test_rate_networks_learn_under_autocast(mode):
    torch.manual_seed(0)
    network = RateNetwork(TOPOLOGY, SHAPE, mode)
    x, targets = torch.rand(BATCH, *SHAPE), presentation()[1]
    mse_loss(network(x, targets), targets).backward()
    expected = gradients_of(network)
    network.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        loss = mse_loss(network(x, targets).float(), targets)
    loss.backward()
    for name, value in gradients_of(network).items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected[name], rtol=0.1, atol=0.02, msg=name)


def test_a_wrapper_under_autocast_goes_back_through_its_fixed_weights():
    wrapped = FA_wrapper(torch.nn.Linear(3, 2))
    x = torch.rand(4, 3, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        output = wrapped(x)
    output.sum().backward()
    torch.testing.assert_close(x.grad, wrapped.fixed_fb_weights.sum(0).expand(4, 3))


@pytest.mark.parametrize("mode", MODES)
def test_a_network_made_double_after_a_step_learns_on_with_its_moments(mode):
    network = spiking(mode)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    spikes, targets = presentation()
    by_layers(network, spikes, targets)
    optimizer.step()
    moments = [state["exp_avg"].clone() for state in optimizer.state.values()]
    network.double()
    optimizer.load_state_dict(optimizer.state_dict())  # moments follow in type and device
    for state, before in zip(optimizer.state.values(), moments, strict=True):
        assert state["exp_avg"].dtype == torch.float64
        assert torch.equal(state["exp_avg"], before.double())
    outcome = by_layers(network, spikes, targets)
    found = gradients_of(network)
    network.zero_grad()
    output = network(spikes.movedim(0, 2), targets)
    mse_loss(output, targets.double()).backward()
    torch.testing.assert_close(outcome.output, output.detach(), rtol=1e-12, atol=1e-14)
    for name, value in gradients_of(network).items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-10, msg=name)
    optimizer.step()
    assert all(value.isfinite().all() for value in network.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_network_moved_after_a_step_learns_on():
    network = spiking()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    spikes, targets = presentation()
    for device in ("cpu", "cuda"):
        network.to(device)
        optimizer.load_state_dict(optimizer.state_dict())
        by_layers(network, spikes.to(device), targets.to(device))
        optimizer.step()
    assert all(value.isfinite().all() for value in network.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_takes_torchs_operations(dtype):
    network = spiking().to(dtype)
    spikes, targets = presentation(dtype=dtype)
    outcome = by_layers(network, spikes, targets)
    assert outcome.output.dtype == dtype
    assert all(value.isfinite().all() for value in gradients_of(network).values())


# ----------------------------------------------------------------------------------------- export


@pytest.mark.parametrize("mode", ["BRP", "DFA", "BP", "shallow"])
def test_spiking_networks_can_be_exported(mode):
    network = spiking(mode).eval()
    spikes, targets = presentation()
    inputs = (spikes[:4].movedim(0, 2), targets)
    program = torch.export.export(network, inputs)
    torch.testing.assert_close(program.module()(*inputs), network(*inputs))


def test_rate_networks_can_be_exported():
    network = RateNetwork(TOPOLOGY, SHAPE, "FA").eval()
    images = torch.rand(BATCH, *SHAPE)
    program = torch.export.export(network, (images,))
    torch.testing.assert_close(program.module()(images), network(images))


@pytest.mark.parametrize("lateral", [True, False])
def test_lateral_networks_can_be_exported(lateral):
    network = lively(LateralNetwork(LATERAL, 4, lateral)).eval()
    spikes = presentation(LATERAL)[0][:3]
    program = torch.export.export(network, (spikes,))
    expected = network(spikes).detach()
    assert expected.max() > 0
    torch.testing.assert_close(program.module()(spikes), expected)


def test_published_classes_can_be_exported():
    network = LISNN(SimpleNamespace(dts="NMNIST", if_lateral=True)).eval()
    frames = (torch.rand(1, 2, 36, 36, 3) < 0.3).float()
    program = torch.export.export(network, (frames, 2))
    torch.testing.assert_close(program.module()(frames, 2), network(frames, 2))
