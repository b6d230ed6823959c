"""The published program's names, and what golden vectors do not see of it.

Fresh weights, the order of data, the optimizer and its schedule, and the test: each was compared
with the published program, and is held to it here.
"""

import argparse
import dataclasses
import math

import pytest
import torch
from torch.nn.functional import mse_loss, one_hot

from shared import datasets
from shared.datasets import Dataset, Split
from shared.errors import UserError
from shared.tensors import Samples
from stl_snn import func, param, spiking_model
from stl_snn.data import Data
from stl_snn.loaders import get_model_and_dataset
from stl_snn.params import mnist_para
from stl_snn.spiking_model import SpikingNetwork
from stl_snn.training import Presentation, Trainer

SHAPES = {
    "conv1.weight": (128, 1, 5, 5),
    "bn1.weight": (128,),
    "bn1.bias": (128,),
    "bn1.running_mean": (128,),
    "bn1.running_var": (128,),
    "bn1.num_batches_tracked": (),
    "lif1.thresh": (128, 28, 28),
    "conv2.weight": (128, 128, 5, 5),
    "bn2.weight": (128,),
    "bn2.bias": (128,),
    "bn2.running_mean": (128,),
    "bn2.running_var": (128,),
    "bn2.num_batches_tracked": (),
    "lif2.thresh": (128, 14, 14),
    "fc1.weight": (2048, 6272),
    "lif3.thresh": (2048,),
    "fc2.weight": (100, 2048),
    "lif4.thresh": (100,),
}
"""The published network's state, in its order."""

ARGS = argparse.Namespace(data="mnist", gpu=False, tl=True)


@pytest.fixture
def digits(monkeypatch):
    """A few images in place of MNIST, which may not be there; pixels tell the number."""
    images = torch.arange(70, dtype=torch.uint8).view(70, 1, 1, 1).expand(70, 1, 28, 28).numpy()
    labels = (torch.arange(70) % 10).numpy()

    def load(name, root, *, validation):
        assert (name, validation) == ("mnist", 0)  # the published program holds nothing out
        train, test = Split(images, labels), Split(images[:20], labels[:20])
        return Dataset("mnist", train, Split(images[:0], labels[:0]), test, 10)

    monkeypatch.setattr(datasets, "load", load)


def test_published_names(scripts):
    scripts.assert_published_names()


def test_published_settings():
    found = {name: getattr(mnist_para, name) for name in dir(mnist_para) if name[0] != "_"}
    assert found == {
        "batch_size": 50,
        "gama": 0.93,
        "lr": 1e-3,
        "epoch": 100,
        "tau": 0.5,
        "time_step": 4,
        "num_classes": 10,
        "alpha": 2,
        "init_thresh": 2.0,
        "train_thresh": True,
        "hete_thresh": 0.01,
    }


def test_fresh_weights():
    torch.manual_seed(0)
    state = spiking_model.MNIST().state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == SHAPES
    assert list(state) == list(SHAPES)
    for name, values in state.items():
        layer, kind = name.split(".")
        if kind == "thresh":  # normal, of mean 2 and standard deviation 0.01 / 100
            n = values.numel()
            assert float(values.mean()) == pytest.approx(2, abs=5e-4 / math.sqrt(n))
            assert float(values.std()) == pytest.approx(1e-4, rel=4 / math.sqrt(2 * n))
            assert float((values - 2).abs().max()) < 6e-4
        elif layer.startswith("bn"):
            expected = 1.0 if kind in ("weight", "running_var") else 0.0
            assert (values == expected).all(), name
        else:  # uniform up to 1 / sqrt(inputs of a neuron), as torch draws by itself
            bound = 1 / math.sqrt(values[0].numel())
            assert 0.99 * bound < float(values.abs().max()) <= bound
            assert float(values.std()) == pytest.approx(bound / math.sqrt(3), rel=0.03)
            assert abs(float(values.mean())) < 5 * bound / math.sqrt(3 * values.numel())


def test_a_run_s_network_starts_as_the_published_one():
    torch.manual_seed(0)
    ours = SpikingNetwork(param.MNIST(), (1, 28, 28), 10).state_dict()
    torch.manual_seed(0)
    published = spiking_model.MNIST().state_dict()
    assert all(torch.equal(ours[name], published[name]) for name in SHAPES)


def test_a_published_state_dict_loads():
    draw = torch.Generator().manual_seed(0)
    state = {name: torch.rand(shape, generator=draw) for name, shape in SHAPES.items()}
    images = torch.rand(3, 1, 28, 28, generator=draw)
    network = spiking_model.MNIST().eval()
    network.load_state_dict(state)
    torch.manual_seed(1)
    votes = network(images)
    assert votes.shape == (3, 10)
    ours = SpikingNetwork(param.MNIST(), (1, 28, 28), 10).eval()
    ours.load_state_dict(state)
    torch.manual_seed(1)
    spikes = (images[:, None] >= torch.rand(3, 4, 1, 28, 28)).float()
    assert torch.equal(ours(spikes), votes)


def test_the_published_network_s_arguments():
    torch.manual_seed(0)
    network = spiking_model.MNIST(
        train=False, thresh=1.5, heterogeneity=1.0, tau=0.25, P=3, time_step=2
    )
    assert network.fc2.weight.shape == (30, 2048)
    for neurons in network.neurons().values():
        assert not neurons.thresh.requires_grad
        assert neurons.tau == 0.25
        assert float(neurons.thresh.mean()) == pytest.approx(1.5, abs=0.01)
        assert float(neurons.thresh.std()) == pytest.approx(0.01, rel=0.6)
    learning = {name for name, p in network.named_parameters() if p.requires_grad}
    assert learning == {name for name, _ in network.named_parameters() if "thresh" not in name}
    votes = network(torch.rand(2, 1, 28, 28)).detach()
    assert votes.shape == (2, 10)
    torch.testing.assert_close((6 * votes).round(), 6 * votes)  # of 3 neurons in 2 steps


def test_the_published_spike():
    x = torch.tensor([-1.0, -0.1, 0.0, 0.3], dtype=torch.float64, requires_grad=True)
    spikes = func.atan.apply(x)
    assert spikes.tolist() == [0, 0, 1, 1]
    (3 * spikes).sum().backward()
    assert x.grad.tolist() == pytest.approx([3 / (1 + (math.pi * v) ** 2) for v in x.tolist()])


def test_published_calls_of_layers():
    x = torch.rand(2, 3, 4, 6, 6)
    convolution = func.Conv2d(
        in_channels=4, out_channels=8, kernel_size=3, stride=2, padding=1, groups=2, bias=True
    )
    expected = torch.stack([torch.nn.Conv2d.forward(convolution, x[:, t]) for t in range(3)], 1)
    torch.testing.assert_close(convolution(x), expected)
    assert func.Conv2d(in_channels=4, out_channels=8, kernel_size=3, bias=False).bias is None
    linear = func.Linear(in_features=4, out_features=7, bias=True)
    torch.testing.assert_close(linear(x[..., 0, 0]), torch.nn.functional.linear(
        x[..., 0, 0], linear.weight, linear.bias))  # fmt: skip
    thresh = torch.ones(4, 6, 6) * 2.0
    neurons = func.LIF(train=False, thresh=thresh, tau=0.5, heterogeneity=0.01)
    assert not neurons.thresh.requires_grad
    assert torch.equal(thresh, torch.full((4, 6, 6), 2.0))  # the argument stays as it was


def test_parts_of_the_published_loop(digits):
    torch.manual_seed(0)
    model, train_loader, test_loader, criterion, optimizer, scheduler, epochs, batch_size = (
        get_model_and_dataset(ARGS)
    )
    assert (epochs, batch_size) == (100, 50)
    seen = []
    for _ in range(2):
        batches = list(train_loader)
        assert [len(labels) for _, labels in batches] == [50, 20]
        pixels = torch.cat([images[:, 0, 0, 0] for images, _ in batches])
        seen.append((255 * pixels).round().long().tolist())
        assert sorted(seen[-1]) == list(range(70))
        labels = torch.cat([labels for _, labels in batches])
        assert labels.tolist() == [number % 10 for number in seen[-1]]
    assert seen[0] != seen[1] != list(range(70))
    tested = torch.cat([images[:, 0, 0, 0] for images, _ in test_loader])
    assert (255 * tested).round().tolist() == list(range(20))
    assert criterion is mse_loss
    (group,) = optimizer.param_groups
    assert {name: group[name] for name in ("lr", "betas", "eps", "weight_decay")} == {
        "lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-6
    }  # fmt: skip
    assert len(group["params"]) == len(list(model.parameters())) == 12
    for _ in range(3):
        optimizer.step()
        scheduler.step()
    assert group["lr"] == pytest.approx(1e-3 * 0.93**3, rel=1e-12)


def test_only_28_by_28_images_have_loaders():
    with pytest.raises(UserError, match="has no loaders for nmnist: take mnist or fashion_mnist"):
        get_model_and_dataset(argparse.Namespace(data="nmnist", gpu=False, tl=True))


def test_a_run_s_step_is_the_published_step(digits):
    """The published loop over the same images in the same order; without dropout."""
    images = torch.randint(256, (8, 1, 28, 28), dtype=torch.uint8)
    labels = torch.arange(8)
    torch.manual_seed(0)
    model, _, _, criterion, optimizer, *_ = get_model_and_dataset(ARGS)
    setting = dataclasses.replace(param.MNIST(), dropout=0.0)
    network = SpikingNetwork(setting, (1, 28, 28), 10)
    network.load_state_dict(model.state_dict())
    for drop in (model.drop1, model.drop2):
        drop.p = 0.0
    part = Samples(images, labels)
    trainer = Trainer(network, Data("drawn", part, part, part, 10), Presentation(4, 4))
    own = torch.optim.Adam(
        network.learn("stl", True), lr=setting.lr, weight_decay=setting.weight_decay, fused=True
    )
    network.train()
    for i in range(2):
        batch = slice(4 * i, 4 * i + 4)
        torch.manual_seed(i)
        loss = criterion(model(images[batch].float() / 255), one_hot(labels[batch], 10).float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        torch.manual_seed(i)
        own_loss, _ = trainer.step(images[batch], labels[batch], own)
        torch.testing.assert_close(own_loss, loss.detach())
    for name, values in model.state_dict().items():
        found = network.state_dict()[name]
        torch.testing.assert_close(found, values, rtol=1e-5, atol=1e-6, msg=name)


def test_a_run_takes_every_image_once_an_epoch_in_a_fresh_order(monkeypatch):
    part = Samples(torch.zeros(23, 1, 28, 28, dtype=torch.uint8), torch.arange(23))
    network = torch.nn.Linear(1, 1)
    trainer = Trainer(network, Data("drawn", part, part, part, 23), Presentation(4, 5))
    taken = []

    def step(inputs, labels, optimizer):
        taken.append(labels)
        return torch.zeros(()), torch.zeros(())

    monkeypatch.setattr(trainer, "step", step)
    torch.manual_seed(0)
    orders = []
    for _ in range(2):
        taken.clear()
        trainer.train_epoch(None)
        assert [len(batch) for batch in taken] == [5, 5, 5, 5, 3]
        orders.append(torch.cat(taken).tolist())
        assert sorted(orders[-1]) == list(range(23))
    assert orders[0] != orders[1] != list(range(23))
