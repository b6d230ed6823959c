"""Networks: fast equals plain, what learns in which mode, what a step does."""

import dataclasses

import pytest
import torch

from shared.errors import UserError
from shared.tensors import Samples
from stl_snn import func, reference
from stl_snn.data import Data, augment, noisy, spikes
from stl_snn.param import CIFAR10, CIFAR10DVS, MNIST, SETTINGS, DVSGesture, deepened, scaled
from stl_snn.spiking_model import SpikingNetwork
from stl_snn.train import warn_of_non_positive
from stl_snn.training import Presentation, Trainer, joint_accuracy

SMALL = dataclasses.replace(MNIST(), channels=6, hidden=30, theta=0.7, spread=0.1)


def network_of(setting=SMALL, shape=(1, 12, 12), n_classes=3, **options):
    torch.manual_seed(0)
    return SpikingNetwork(setting, shape, n_classes, **options)


def bars(n=60):
    """Images whose class is the place of a bright bar."""
    labels = torch.arange(n) % 3
    images = torch.zeros(n, 1, 12, 12, dtype=torch.uint8)
    for label in range(3):
        images[labels == label, :, 4 * label : 4 * label + 4] = 230
    part = Samples(images, labels)
    return Data("bars", part, part, part, 3)


@pytest.mark.parametrize("blocks", [(1, 1), (2,), (1, 2)])
@pytest.mark.parametrize("sharing", ["neuron", "channel"])
def test_the_fast_network_equals_the_plain_one(blocks, sharing):
    setting = dataclasses.replace(SMALL, blocks=blocks, dropout=0.0)
    x = (torch.rand(4, 5, 2, 12, 12, generator=torch.Generator().manual_seed(0)) < 0.3).double()
    found = []
    for layers in (func, reference):
        network = network_of(setting, (2, 12, 12), sharing=sharing, layers=layers).double()
        with torch.no_grad():
            for layer in network.synapses().values():
                layer.weight.mul_(3)
        loss = (network(x) * torch.arange(3)).square().sum()
        loss.backward()
        gradients = {name: p.grad for name, p in network.named_parameters()}
        assert all(gradient.abs().sum() > 0 for gradient in gradients.values())
        found.append({"loss": loss.detach(), **gradients, **dict(network.named_buffers())})
    assert found[0].keys() == found[1].keys()
    for name, expected in found[1].items():
        torch.testing.assert_close(found[0][name], expected, rtol=1e-9, atol=1e-11, msg=name)


def test_the_networks_are_those_of_the_paper():
    network = SpikingNetwork(MNIST(), (1, 28, 28), 10)
    assert {name: tuple(neurons.thresh.shape) for name, neurons in network.neurons().items()} == {
        "lif1": (128, 28, 28), "lif2": (128, 14, 14), "lif3": (2048,), "lif4": (100,),
    }  # fmt: skip
    assert [tuple(layer.weight.shape) for layer in network.synapses().values()] == [
        (128, 1, 5, 5), (128, 128, 5, 5), (2048, 128 * 49), (100, 2048),
    ]  # fmt: skip
    assert all(layer.bias is None for layer in network.synapses().values())
    thresholds = torch.cat([layer.thresh.flatten() for layer in network.neurons().values()])
    thresholds = thresholds.detach()
    assert float(thresholds.mean()) == pytest.approx(2, abs=1e-4)
    assert float(thresholds.std()) == pytest.approx(1e-4, rel=0.05)
    cifar = SpikingNetwork(scaled(CIFAR10(), 0.0625), (3, 32, 32), 10)
    assert [layer.weight.shape[0] for layer in cifar.synapses().values()] == [16] * 6 + [128, 100]
    gesture = SpikingNetwork(scaled(DVSGesture(), 0.0625), (2, 128, 128), 11)
    assert [layer.weight.shape[0] for layer in gesture.synapses().values()] == [8] * 5 + [32, 110]
    recorded = SpikingNetwork(scaled(CIFAR10DVS(), 0.0625), (2, 128, 128), 10)
    shapes = [layer.weight.shape[0] for layer in recorded.synapses().values()]
    assert shapes == [8] * 5 + [32, 100]  # seven layers
    assert gesture.synapses()["fc1"].weight.shape[1] == 8 * 16
    assert [cls().steps for cls in SETTINGS.values()] == [4, 4, 8, 10, 20, 20]


def test_width_and_depth():
    assert scaled(MNIST(), 0.25) == dataclasses.replace(MNIST(), channels=32, hidden=512)
    assert deepened(MNIST(), 5).blocks == (1, 4)
    assert deepened(CIFAR10(), 6) == CIFAR10()
    with pytest.raises(UserError, match="--depth 3 leaves a pooling without a convolution"):
        deepened(CIFAR10(), 3)
    with pytest.raises(UserError, match="cannot be pooled 2 times"):
        SpikingNetwork(SMALL, (1, 3, 3), 3)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("mode", ["stl", "sl", "tl"])
def test_each_mode_trains_what_it_should(mode, norm):
    data, network = bars(), network_of()
    trainer = Trainer(network, data, Presentation(4, 20))
    learning = network.learn(mode, norm)
    optimizer = torch.optim.Adam(learning, lr=3e-3)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    rows = [trainer.train_epoch(optimizer) for _ in range(12)]
    moved = {
        name for name, p in network.named_parameters() if not torch.equal(before[name], p.detach())
    }
    kinds = {"weight": mode != "tl", "thresh": mode != "sl", "norm": norm}
    for name in before:
        kind = "norm" if name.startswith("bn") else name.rsplit(".", 1)[1]
        assert (name in moved) == kinds[kind], name
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert all(torch.isfinite(p.grad).all() for p in learning)
    frozen = [p.grad for p in network.parameters() if not p.requires_grad]
    assert frozen == [None] * len(frozen)


def test_thresholds_and_synapses_learn_to_tell_bars_apart():
    data, network = bars(), network_of()
    trainer = Trainer(network, data, Presentation(4, 20))
    optimizer = torch.optim.Adam(network.learn("stl", True), lr=3e-3)
    for _ in range(30):
        trainer.train_epoch(optimizer)
    assert trainer.evaluate(data.test, "test")["test_accuracy"] == 1


def test_a_test_changes_nothing_and_repeats():
    data, network = bars(), network_of()
    trainer = Trainer(network, data, Presentation(4, 25))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.get_rng_state()
    votes = trainer.votes(data.test)
    assert torch.equal(trainer.votes(data.test), votes)
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_other_draws_are_other_spikes():
    data, network = bars(), network_of()
    shown = [
        spikes(data.test.inputs.float() / 255, 4, torch.Generator().manual_seed(draw))
        for draw in (0, 0, 1)
    ]
    assert torch.equal(shown[0], shown[1])
    assert not torch.equal(shown[0], shown[2])
    assert set(shown[0].unique().tolist()) == {0.0, 1.0}
    bright = data.test.inputs[:, None].expand(-1, 4, -1, -1, -1) > 0
    assert float(shown[0][bright].mean()) == pytest.approx(230 / 255, abs=0.02)
    assert float(shown[0][~bright].sum()) == 0
    assert network(shown[0]).shape == (60, 3)


def test_a_joint_decision_averages_votes():
    labels = torch.tensor([0, 1])
    votes = [torch.tensor([[0.6, 0.4], [0.6, 0.4]]), torch.tensor([[0.5, 0.4], [0.1, 0.9]])]
    assert joint_accuracy(votes[:1], labels) == 0.5
    assert joint_accuracy(votes, labels) == 1


def test_a_floor_holds_while_thresholds_learn():
    network = network_of(dataclasses.replace(SMALL, spread=0.0), floor=0.695)
    trainer = Trainer(network, bars(), Presentation(4, 20))
    optimizer = torch.optim.Adam(network.learn("tl", False), lr=3e-3)
    for _ in range(4):
        trainer.train_epoch(optimizer)
    least = min(float(layer.thresh.detach().min()) for layer in network.neurons().values())
    assert least == pytest.approx(0.695)
    assert network.non_positive() == dict.fromkeys(network.neurons(), 0)


def test_thresholds_that_went_non_positive_are_counted():
    network = network_of()
    with torch.no_grad():
        network.neurons()["lif3"].thresh[:4] = torch.tensor([-1.0, 0.0, -0.1, 0.1])
    assert network.non_positive() == {"lif1": 0, "lif2": 0, "lif3": 3, "lif4": 0}


def test_thresholds_that_went_non_positive_are_reported(capsys):
    network = network_of(dataclasses.replace(SMALL, theta=0.02, spread=0.0))
    trainer = Trainer(network, bars(), Presentation(4, 20))
    trainer.train_epoch(torch.optim.Adam(network.learn("tl", False), lr=0.1))
    count = warn_of_non_positive(network, 7)
    assert count == sum(network.non_positive().values()) > 0
    words = capsys.readouterr().err
    assert words.startswith("epoch 7: thresholds at 0 or below, whose neurons fire without input: ")
    for name, number in network.non_positive().items():
        assert (f"{number} in {name}" in words) == (number > 0)


def test_learning_that_explodes_is_refused():
    network = network_of()
    trainer = Trainer(network, bars(), Presentation(4, 20))
    with pytest.raises(UserError, match="lower --lr"):
        trainer.train_epoch(torch.optim.Adam(network.learn("stl", True), lr=1e38, fused=True))


def test_half_precision_learns_too():
    network = network_of()
    trainer = Trainer(network, bars(), Presentation(4, 20, "bfloat16"))
    optimizer = torch.optim.Adam(network.learn("stl", True), lr=3e-3)
    rows = [trainer.train_epoch(optimizer) for _ in range(12)]
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert all(p.dtype == torch.float32 for p in network.parameters())


def test_noise_and_augmentation():
    images = torch.full((400, 1, 12, 12), 0.5)
    salted = noisy(images, "s&p", 10, torch.Generator().manual_seed(0))
    assert float((salted == 1).float().mean()) == pytest.approx(0.1, abs=0.01)
    assert float((salted == 0).float().mean()) == pytest.approx(0.1, abs=0.01)
    grey = noisy(images, "gaussian", 1, torch.Generator().manual_seed(0))
    assert float(grey.std()) == pytest.approx(0.1, abs=0.01)
    for kind in ("gaussian", "s&p"):
        assert torch.equal(noisy(images, kind, 0, torch.Generator()), images)
    torch.manual_seed(0)
    pictures = torch.zeros(300, 2, 12, 12)
    pictures[:, :, 5, 4] = 1
    moved = augment(pictures)
    assert moved.shape == pictures.shape
    places = moved[:, 0].flatten(1).argmax(1)
    assert (moved.flatten(1).sum(1) == 2).all()  # both channels move alike, and none leaves
    assert torch.equal(places, moved[:, 1].flatten(1).argmax(1))
    rows, columns = places // 12, places % 12
    assert (rows.min(), rows.max()) == (1, 9)
    assert (columns.min(), columns.max()) == (0, 11)  # 4 -> 0 to 8, mirrored 3 to 11
