"""The published program's names, calls and fresh networks."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from shared.errors import UserError
from shifting_learning import SL_TCA, Dataset, SL_mnist, SL_small, SL_xor
from shifting_learning.network import Network, published_network, reward_error
from shifting_learning.reference import PlainLayer
from shifting_learning.SL_Layer import SNNLayer
from shifting_learning.SL_MultiInputLy import SNN_MInLy
from shifting_learning.tables import Trainer


def test_every_published_name_is_there(scripts):
    scripts.assert_published_names()


def test_names_that_the_readme_places_in_a_file_are_there(scripts):
    readme = (scripts.folder / "README.md").read_text()
    placed = re.findall(r"`(\w+)`\s+in\s+`(\w+\.py)`", readme)
    assert placed
    for name, file in placed:
        assert re.search(rf"^(def )?{name}\b", (scripts.folder / file).read_text(), re.MULTILINE)


# -------------------------------------------------------------------------------- fresh weights


def fresh_networks() -> dict[str, Network]:
    """A fresh network of each experiment with the published settings."""
    generator = torch.Generator().manual_seed(3)
    mnist = SL_mnist.EXPERIMENT.parse(["--preset", "published"])
    tca = SL_TCA.EXPERIMENT.parse(["--preset", "published", "--hidden", "300"])
    iris = SL_small.EXPERIMENT.parse(["--preset", "published"])
    table = SL_small.load(iris)
    is_train = torch.ones(50, len(table.labels), dtype=torch.bool)
    torch.manual_seed(0)
    return {
        "mnist": SL_mnist.build(mnist, 784, 10, generator),
        "tca": SL_TCA.build(tca, 500, 10.0),
        "iris": Trainer(iris, table, is_train, torch.device("cpu")).network,
        "xor": SL_xor.build(300, [8], "shifting", "published", generator),
        "published": published_network([784, 400, 400, 10]),
    }


@pytest.mark.parametrize("name", ["mnist", "tca", "iris", "xor", "published"])
def test_fresh_timings_are_uniform_up_to_eight_by_the_number_of_inputs(name):
    for layer in fresh_networks()[name].layers:
        drawn = layer.e_ts * layer.inCh / 8
        assert drawn.min() >= 0
        assert drawn.max() <= 1
        assert kstest(drawn.flatten().double().numpy(), "uniform").pvalue > 1e-3
        assert torch.equal(layer.e_tp, torch.ones_like(layer.e_tp))


def test_a_fresh_layer_is_drawn_from_torchs_random_state_as_published():
    torch.manual_seed(5)
    layers = SNNLayer(20, 30), SNN_MInLy(30, 10)
    torch.manual_seed(5)
    for layer in layers:
        assert torch.equal(layer.e_ts, torch.rand(layer.inCh, layer.outCh) * (8 / layer.inCh))


# ---------------------------------------------------------------------------------------- ties


def train_xor(network: Network) -> torch.Tensor:
    """Output codes over 400 epochs of XOR with the published steps, [400, 4, 2]."""
    z, labels = SL_xor.patterns()
    codes = []
    for _ in range(SL_xor.Settings().epochs):
        codes.append(network(z))
        network.learn(reward_error(codes[-1], labels, "published"), 1e-3, 1e-2)
    return torch.stack(codes)


def test_published_ties_follow_the_plain_formulation_where_events_leave_it():
    # Timings drawn so that one turns negative in epoch 133, while two of the patterns' inputs share
    # a time.
    generator = torch.Generator().manual_seed(4)
    first = torch.rand(2, 8, generator=generator, dtype=torch.float64) * 4
    last = torch.rand(8, 2, generator=generator, dtype=torch.float64)

    def network(kind: type[SNNLayer], ties: str) -> Network:
        return Network(kind(2, 8, first, ties=ties), kind(8, 2, last, ties=ties))

    plain = train_xor(network(PlainLayer, "published"))
    torch.testing.assert_close(train_xor(network(SNNLayer, "published")), plain, rtol=1e-6, atol=0)
    by_event = train_xor(network(SNNLayer, "event"))
    apart = (by_event / plain - 1).abs().amax(dim=(1, 2)) > 1e-6
    assert apart.any()
    assert not apart[0]


# ---------------------------------------------------------------------------------------- calls


def make_smaller(monkeypatch, program, **sizes) -> None:
    """Let a program's published calls train a small network for one epoch."""
    published = program._published
    small = {"epochs": 1, **sizes}
    monkeypatch.setattr(program, "_published", lambda *words: replace(published(*words), **small))


def test_one_network_of_xor():
    torch.manual_seed(0)
    assert SL_xor.Xor() in (0, 1)


def test_iris_is_trained_saved_and_tested(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    x, y = Dataset.iris_loader()
    assert x.shape == (150, 4)
    assert x.min().item() == pytest.approx(0.01)
    assert x.max().item() == pytest.approx(1.01)
    assert sorted(y.unique().tolist()) == pytest.approx([0.01, 0.99])
    with pytest.raises(UserError, match="call Train first"):
        SL_small.Test(x, y)
    accuracy = SL_small.Run((x, y), f=1, epN=60)
    assert accuracy > 0.7
    correct, tested = SL_small.Test(x[30:60], y[30:60])
    assert int(correct) / tested == accuracy
    assert "accuracy" in capsys.readouterr().out


def test_digits_are_trained_saved_and_tested(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def few(asked):
        return replace(SL_mnist.defaults(asked), epochs=1, hidden=(20,))

    monkeypatch.setattr(SL_mnist, "EXPERIMENT", replace(SL_mnist.EXPERIMENT, defaults=few))
    with pytest.raises(UserError, match="train first"):
        SL_mnist.MNIST_test(100, 100, "digits")
    SL_mnist.MNIST_train(200, 50, "digits")
    capsys.readouterr()
    correct, sn = SL_mnist.MNIST_test(100, 100, "digits", isConMx=True)
    assert 0 <= int(correct) <= sn == 100
    numbers = np.fromstring(capsys.readouterr().out.replace("[", " ").replace("]", " "), sep=" ")
    assert numbers.sum() == 100


def test_spike_trials_are_trained_saved_and_tested(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_smaller(monkeypatch, SL_TCA, hidden=30)
    for name in ("TRAIN_TRIALS", "VALIDATION_TRIALS"):
        monkeypatch.setattr(SL_TCA, name, 6)
    parts = SL_TCA.preprocess()
    few = parts["train"][:4]
    trials = (
        [torch.from_numpy(trial.times) for trial in few],
        [torch.from_numpy(trial.synapses) for trial in few],
        torch.tensor([trial.target for trial in few]),
    )
    with pytest.raises(UserError, match="call Spike_train first"):
        SL_TCA.Spike_test(*trials)
    SL_TCA.Spike_train()
    correct, n = SL_TCA.Spike_test(*trials)
    assert 0 <= correct <= n == 4


def test_loaders_give_all_images_at_once(monkeypatch):
    split = Dataset.datasets.load("digits", validation=0.0)
    monkeypatch.setattr(Dataset.datasets, "load", lambda name, **options: split)
    images, labels = next(iter(Dataset.mnist_test_loader))
    assert images.shape == (len(split.test.labels), 1, 8, 8)
    assert images.max() == 1
    assert torch.equal(labels, torch.from_numpy(split.test.labels))
    edges, _ = Dataset.mnist_test_border_detection()
    assert set(edges.unique().tolist()) == {0.0, 1.0}
    shuffled, _ = next(iter(Dataset.mnist_train_loader))
    assert shuffled.shape[0] == len(split.train.labels)
    assert Dataset.MNIST_show("mnist", "test").axes[0].images
