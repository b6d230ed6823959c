"""Two processes that share every batch train as one does. Run as a program, this is one of them."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from shared import parallel
from shared.tensors import Samples
from stl_snn import func, synchronized
from stl_snn.data import Data
from stl_snn.param import MNIST
from stl_snn.spiking_model import SpikingNetwork
from stl_snn.train import main
from stl_snn.training import Presentation, Trainer

BATCH, STEPS = 5, 10  # two samples for one process and three for the other
SETTING = replace(MNIST(), channels=4, kernel=3, hidden=12, population=2, theta=0.5, spread=0.01)
QUICK = (
    *("--quick", "--epochs", 2, "--width", 0.03, "--theta", 0.5, "--noise-samples", 0),
    *("--threads", 1, "--device", "cpu"),
)


def made_data():
    draws = torch.Generator().manual_seed(5)
    n = BATCH * (STEPS - 1) + 1  # the last batch has fewer samples than there are processes
    pixels = torch.randint(256, (n, 1, 8, 8), generator=draws, dtype=torch.uint8)
    part = Samples(pixels, torch.randint(3, (n,), generator=draws))
    return Data("made", part, part, part, 3, augmented=True)


def trained():
    """Ten steps in float64: what they end with, and the epoch's row."""
    torch.manual_seed(0)
    layers = func if parallel.processes() == 1 else synchronized
    network = SpikingNetwork(SETTING, (1, 8, 8), 3, layers=layers).double()
    network.register_forward_pre_hook(lambda module, args: (args[0].double(),))
    optimizer = torch.optim.Adam(network.learn("stl", True), lr=1e-3)
    trainer = Trainer(network, made_data(), Presentation(3, BATCH))
    row = trainer.train_epoch(optimizer)
    return {**network.state_dict(), "row": torch.tensor(list(row.values())).double()}


@pytest.fixture(scope="module")
def shared_work(on_two_processes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shares")
    on_two_processes(__file__, folder)
    return folder


def test_two_processes_train_as_one_does(shared_work):
    ours, theirs = (torch.load(shared_work / f"{rank}.pt", weights_only=True) for rank in range(2))
    torch.manual_seed(0)
    untrained = SpikingNetwork(SETTING, (1, 8, 8), 3).double().state_dict()
    alone = trained()
    for name, value in alone.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=1e-6, msg=name)
        torch.testing.assert_close(theirs[name], ours[name], rtol=0, atol=0)
    moved = {name for name, value in untrained.items() if (alone[name] - value).abs().max() > 1e-4}
    assert moved == set(untrained)  # thresholds, weights and statistics all do


def test_the_program_is_the_same_with_two_processes(scripts, shared_work, tmp_path):
    done = scripts.call(main, *QUICK, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    ours, one = scripts.result(shared_work / "run"), scripts.result(tmp_path)
    assert (ours["processes"], one["processes"]) == (2, 1)
    rows = zip(scripts.rows(shared_work / "run"), scripts.rows(tmp_path), strict=True)
    for row, wanted in rows:  # the second shows that a test by the first process moves no draws
        assert row == pytest.approx(wanted, abs=1e-3)


def test_a_test_is_of_the_layers_of_one_process():
    x = torch.rand(2, 3, 4, 5, 5)
    for layer, other in (
        (synchronized.BatchNorm2d(4), func.BatchNorm2d(4)),
        (synchronized.Dropout(0.5), func.Dropout(0.5)),
    ):
        for training in (True, False):
            torch.manual_seed(1)
            expected = other.train(training)(x)
            torch.manual_seed(1)
            assert torch.equal(layer.train(training)(x), expected)


if __name__ == "__main__":
    torch.set_num_threads(1)
    parallel.join()
    folder = Path(sys.argv[1])
    torch.save(trained(), folder / f"{os.environ['RANK']}.pt")
    sys.argv[1:] = [*map(str, QUICK), "--out", str(folder / "run")]
    main()
    parallel.leave()
