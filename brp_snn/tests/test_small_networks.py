"""The two-layer spiking network of SNN.py and the network without spikes of threenet.py."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from brp_snn import threenet
from brp_snn.SNN import HIDDEN, SNN, mem_update
from brp_snn.threenet import Net
from shared.datasets import Speech
from shared.errors import UserError


def assert_torchs_own(layer):
    """Weights and biases uniform in +- 1 / sqrt(inputs)."""
    values = torch.cat([value.detach().flatten() for value in layer.parameters()])
    scaled = values * math.sqrt(layer.in_features)
    assert 1 - 20 / len(scaled) < scaled.abs().max() <= 1
    assert scaled.mean().abs() < 4 / math.sqrt(3 * len(scaled))
    assert scaled.var().item() == pytest.approx(1 / 3, abs=4 * math.sqrt(4 / 45 / len(scaled)))


def test_the_two_layer_network_is_the_published_one():
    torch.manual_seed(0)
    network = SNN(batch_size=50, input_size=784, num_classes=10)
    assert HIDDEN == 500
    assert {name: tuple(value.shape) for name, value in network.state_dict().items()} == {
        "fc1.weight": (500, 784),
        "fc1.bias": (500,),
        "fc2.weight": (10, 500),
        "fc2.bias": (10,),
    }
    assert_torchs_own(network.fc1)
    assert_torchs_own(network.fc2)


@pytest.mark.parametrize("task", ["mnist", "nettalk", "gesture"])
def test_the_two_layer_network_shows_each_task_its_way(task):
    torch.manual_seed(0)
    network = SNN(3, 12, 4).double()
    with torch.no_grad():
        for value in network.parameters():
            value.mul_(3)
    shape = (3, 7, 12) if task == "gesture" else (3, 3, 4)
    inputs = torch.rand(shape, dtype=torch.float64)
    inputs = inputs if task == "mnist" else inputs.round()
    torch.manual_seed(1)
    output = network(inputs, task, 5)
    torch.manual_seed(1)
    draws = torch.rand(5, *shape)
    state = [torch.zeros(3, n, dtype=torch.float64) for n in (HIDDEN, HIDDEN, 4, 4)]
    total = 0
    for step in range(5):
        x = inputs[:, step] if task == "gesture" else inputs
        x = (inputs > draws[step]).double() if task == "mnist" else x
        state[:2] = mem_update(network.fc1, x.flatten(1), *state[:2])
        state[2:] = mem_update(network.fc2, state[1], *state[2:])
        total = total + state[3] / 5
    assert total.max() > 0
    torch.testing.assert_close(output, total)
    for one, other in zip(
        torch.autograd.grad(output.square().sum(), list(network.parameters())),
        torch.autograd.grad(total.square().sum(), list(network.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_a_task_that_there_is_not_is_one_sentence():
    with pytest.raises(UserError, match="no task is called 'letters': choose from mnist, nettalk"):
        SNN(1, 4, 2)(torch.zeros(1, 4), "letters", 3)


def test_quick_run_of_the_two_layer_network(scripts, tmp_path):
    done = scripts.run("SNN.py", "--quick", "--spike_window", 4, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    result = scripts.assert_finished(tmp_path, ["curves", "angles"])
    assert result["experiment"].endswith("_BRP_FC-500-FC-10_T4_quick")


# ------------------------------------------------------------------------------------- threenet.py

REPEATED = ("threenet.py", "--dataset", "fsdd", "--quick", "--deterministic")


@pytest.fixture
def spoken(monkeypatch):
    """Noises in place of recordings: a digit has a pitch."""
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 10
    times = np.arange(1500) / 8000
    waveforms = tuple(
        (np.sin(2 * np.pi * 300 * (1 + label) * times) + 0.1 * rng.normal(size=1500)).astype(
            np.float32
        )
        for label in labels
    )
    names = tuple("ann" if i < 100 else "bob" if i < 200 else "eve" for i in range(300))
    speech = Speech("fsdd", waveforms, labels, names, 8000)
    monkeypatch.setitem(threenet.READERS, "fsdd", lambda root: speech)


def test_the_network_without_spikes_is_the_published_one():
    torch.manual_seed(0)
    network = Net(1640, 500, 10)
    assert list(network.state_dict()) == [
        "hidden.weight", "hidden.bias", "predict.weight", "predict.bias"
    ]  # fmt: skip
    assert_torchs_own(network.hidden)
    assert_torchs_own(network.predict)
    x = torch.rand(3, 1640)
    expected = network.predict(functional.relu(network.hidden(x)))
    torch.testing.assert_close(network(x), expected)


@pytest.mark.parametrize("split", ["random", "speaker"])
def test_it_learns_in_a_hundred_steps_of_the_whole_set(spoken, split, scripts, tmp_path):
    done = scripts.call(
        threenet.main, "--dataset", "fsdd", "--split", split, "--device", "cpu", "--out", tmp_path
    )
    assert done.returncode == 0, done.stderr
    result = scripts.assert_finished(tmp_path, ["curves"])
    assert result["epochs"] == len(scripts.rows(tmp_path)) == 100
    assert result["metrics"]["test_accuracy_last"] > 0.9
    held_out = "_held-out-speakers" if split == "speaker" else ""
    assert result["experiment"] == f"brp_threenet_fsdd{held_out}"
    state = scripts.state(tmp_path)
    assert state["network"]["hidden.weight"].shape == (500, 1640)
    assert state["optimizer"]["param_groups"][0]["lr"] == 0.01


def test_quick_run_of_spoken_digits(scripts, tmp_path):
    root = scripts.data_root()
    done = scripts.run_offline(*REPEATED, "--data-root", root, "--out", tmp_path / "run")
    if not (root / "fsdd.zip").is_file():
        scripts.assert_refused(done, "was not found")
        return
    assert done.returncode == 0, done.stderr
    result = scripts.assert_finished(tmp_path / "run", ["curves"])
    assert result["experiment"] == "brp_threenet_fsdd_quick"


def test_a_stopped_run_goes_on_bit_for_bit(spoken, scripts, tmp_path, monkeypatch):
    options = ("--dataset", "fsdd", "--device", "cpu", "--deterministic", "--epochs", 14)
    done = scripts.call(threenet.main, *options, "--out", tmp_path / "whole")
    assert done.returncode == 0, done.stderr
    calls = iter(range(100))

    def stopped(network, part, prefix):
        if next(calls) == 23:  # in the test of the twelfth step
            raise KeyboardInterrupt
        return scores(network, part, prefix)

    scores = threenet.scores
    with monkeypatch.context() as patch:
        patch.setattr(threenet, "scores", stopped)
        done = scripts.call(threenet.main, *options, "--out", tmp_path / "parted")
    assert done.returncode == 130
    assert (tmp_path / "parted/checkpoint.pt").exists()  # of the tenth step
    done = scripts.call(threenet.main, *options, "--out", tmp_path / "parted")
    assert done.returncode == 0, done.stderr
    scripts.assert_same_run(tmp_path / "whole", tmp_path / "parted")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--hidden", 0), "--hidden 0 must be above 0"),
        (("--lr", "inf"), "--lr inf must be above 0 and finite"),
        (("--frames", -1), "--frames -1 must be above 0"),
        (("--dataset", "MNIST"), "'MNIST'"),
        (("--lr", "1e30"), "lower --lr"),
    ],
)
def test_bad_input_is_refused(spoken, options, words, scripts, tmp_path):
    command = ("--dataset", "fsdd", *options, "--device", "cpu", "--out", tmp_path / "run")
    scripts.assert_refused(scripts.call(threenet.main, *command), words)
