"""Two processes that share every batch train as one does. Run as a program, this is one of them."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from brp_snn.data import Data
from brp_snn.lisnn import train as lisnn
from brp_snn.lisnn.LISNN import LateralNetwork
from brp_snn.main import main
from brp_snn.models import NetworkBuilder, RateNetwork
from brp_snn.train import OPTIMIZERS, Presentation, Trainer
from shared import parallel
from shared.parallel import LOST
from shared.tensors import Samples

BATCH, STEPS = 5, 10  # two samples for one process and three for the other
KINDS = {
    "BP": (NetworkBuilder, "BP"),
    "DFA": (NetworkBuilder, "DFA"),
    "BRP": (NetworkBuilder, "BRP"),
    "rate": (RateNetwork, "DRTP"),
}
LISNN = (
    *("--quick", "--dataset", "mnist5k", "--epochs", 2, "--spike-window", 5, "--lr", 0.02),
    *("--device", "cpu", "--threads", 1),
)
STOPPED = (
    *("--quick", "--dataset", "MNIST", "--topology", "FC_20_FC_10", "--dropout", 0.2),
    *("--spike-window", 5, "--init", "he", "--epochs", 40, "--device", "cpu", "--threads", 1),
)


def made_samples():
    draws = torch.Generator().manual_seed(5)
    n = BATCH * (STEPS - 1) + 1  # the last batch has fewer samples than there are processes
    pixels = torch.randint(256, (n, 1, 8, 8), generator=draws, dtype=torch.uint8)
    return Samples(pixels, torch.randint(10, (n,), generator=draws))


def found(network, row):
    return {**network.state_dict(), "row": torch.tensor(list(row.values())).double()}


def trained(kind, mode):
    """Ten steps in float64 of a network with convolutions and dropout."""
    torch.manual_seed(0)
    part = made_samples().one_hot(10)
    part = Samples(part.inputs, part.targets.double())
    shown = Data("made", part, part, part, "values", (1, 8, 8), lambda x, training: x / 255)
    network = kind("CONV_4_3_1_1_FC_12_FC_10", (1, 8, 8), mode, dropout=0.3, init="he").double()
    network.register_forward_pre_hook(lambda module, args: (args[0].double(), *args[1:]))
    optimizer = OPTIMIZERS["Adam"](network.parameters(), lr=1e-3)
    stream = torch.Generator().manual_seed(3)
    trainer = Trainer(network, shown, Presentation(6, 0.5, "MSE"), optimizer, stream)
    return found(network, trainer.train_epoch(BATCH))


def trained_lisnn():
    """Ten steps in float64."""
    torch.manual_seed(0)
    network = LateralNetwork((1, 8, 8), 4).double()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    stream = torch.Generator().manual_seed(3)
    learner = parallel.replicated(network)
    row = lisnn.train_epoch(learner, made_samples(), 6, BATCH, optimizer, stream)
    return found(network, row)


def all_trained():
    return {name: trained(*kind) for name, kind in KINDS.items()} | {"lisnn": trained_lisnn()}


@pytest.fixture(scope="module")
def shared_work(on_two_processes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shares")
    on_two_processes(__file__, folder)
    return folder


@pytest.fixture(scope="module")
def alone():
    return all_trained()


@pytest.mark.parametrize("name", [*KINDS, "lisnn"])
def test_two_processes_train_as_one_does(shared_work, alone, name):
    ours, theirs = (
        torch.load(shared_work / f"{rank}.pt", weights_only=True)[name] for rank in range(2)
    )
    for key, value in alone[name].items():
        torch.testing.assert_close(ours[key], value, rtol=0, atol=1e-6, msg=f"{name}: {key}")
        torch.testing.assert_close(theirs[key], ours[key], rtol=0, atol=0)


@pytest.mark.parametrize("name", KINDS)
def test_these_ten_steps_move_what_is_compared(alone, name):
    kind, mode = KINDS[name]
    torch.manual_seed(0)
    untrained = kind("CONV_4_3_1_1_FC_12_FC_10", (1, 8, 8), mode, dropout=0.3, init="he").double()
    for key, value in untrained.named_parameters():
        assert (alone[name][key] - value).abs().max() > 1e-4, key


def test_the_program_of_lisnn_is_the_same_with_two_processes(scripts, shared_work, tmp_path):
    done = scripts.call(lisnn.main, *LISNN, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    ours, one = scripts.result(shared_work / "lisnn"), scripts.result(tmp_path)
    assert (ours["processes"], one["processes"]) == (2, 1)
    rows = scripts.rows(tmp_path)
    assert rows[0]["train_loss"] != rows[1]["train_loss"]  # the network is not silent
    for row, wanted in zip(scripts.rows(shared_work / "lisnn"), rows, strict=True):
        assert row == pytest.approx(wanted, abs=1e-3)


def killed(scripts, folder):
    """A run by torchrun whose first process is killed behind its second checkpoint: its words."""
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *scripts.command("main.py", *STOPPED, "--out", folder)[1:],
    ]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=scripts.environment(),
    ) as process:
        try:
            deadline = time.monotonic() + 300
            while not (folder / "checkpoint.previous.pt").exists():
                assert process.poll() is None, process.communicate()[1]
                assert time.monotonic() < deadline
                time.sleep(0.01)
            workers = psutil.Process(process.pid).children(recursive=True)
            first = [each for each in workers if each.environ().get("RANK") == "0"]
            first[0].kill()
            _, words = process.communicate(timeout=100)
        finally:
            process.kill()
    assert process.returncode == 1
    assert not (folder / "result.json").exists()
    return words


def test_a_killed_process_ends_all_and_one_or_two_go_on(scripts, on_two_processes, tmp_path):
    words = killed(scripts, tmp_path / "two")
    assert words.count(LOST) == 1
    assert words.count("Traceback") == 1  # torchrun's own, which reports the killed process
    shutil.copytree(tmp_path / "two", tmp_path / "one")
    on_two_processes(scripts.folder / "main.py", *STOPPED, "--out", tmp_path / "two")
    for folder in ("one", "undisturbed"):
        done = scripts.call(main, *STOPPED, "--out", tmp_path / folder)
        assert done.returncode == 0, done.stderr
    expected = scripts.rows(tmp_path / "undisturbed")
    # The loss moves, so that a lost step would show.
    assert abs(expected[0]["train_loss"] - expected[-1]["train_loss"]) > 0.01
    for folder, processes in (("one", 1), ("two", 2)):
        assert scripts.result(tmp_path / folder)["processes"] == processes
        rows = scripts.rows(tmp_path / folder)
        assert [row["epoch"] for row in rows] == list(range(1, 41))
        for row, wanted in zip(rows, expected, strict=True):
            assert row["train_loss"] == pytest.approx(wanted["train_loss"], rel=1e-3)


if __name__ == "__main__":
    torch.set_num_threads(1)
    parallel.join()
    folder = Path(sys.argv[1])
    torch.save(all_trained(), folder / f"{os.environ['RANK']}.pt")
    sys.argv[1:] = [*map(str, LISNN), "--out", str(folder / "lisnn")]
    lisnn.main()
    parallel.leave()
