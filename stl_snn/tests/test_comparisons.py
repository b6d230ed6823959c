"""Sweeps, comparisons of what learns, joint decisions: run as a user runs them."""

import json
import shutil

import pytest
import torch

from shared.errors import UserError
from stl_snn import decide
from stl_snn.data import Data, Part

OPTIONS = ("--quick", "--threads", 1, "--batch-size", 20, "--noise-samples", 20)
NAME = "stl_mnist_width-0.0625_batch-size-20_theta-{}_quick"


@pytest.fixture(scope="module")
def sweep(scripts, tmp_path_factory):
    """Folder of two trainings of different initial thresholds."""
    folder = tmp_path_factory.mktemp("sweep")
    words = ("theta", "--values", 0.5, 1, *OPTIONS, "--into", folder)
    done = scripts.run("sweep.py", *words)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def trained(sweep, tmp_path):
    """A copy of one of the runs, to be damaged."""
    return shutil.copytree(sweep / NAME.format("0.5") / "seed0", tmp_path / "trained")


def change(folder, **options):
    config = json.loads((folder / "config.json").read_text())
    config["options"] |= options
    (folder / "config.json").write_text(json.dumps(config))


def test_a_sweep_trains_and_draws(scripts, sweep):
    for theta in (0.5, 1):
        result = scripts.result(sweep / NAME.format(f"{theta:g}") / "seed0")
        assert result["metrics"]["theta_mean_lif1"] == pytest.approx(theta, abs=0.1)
    for ending, size in (("png", 5000), ("pdf", 2000)):
        assert (sweep / "figures" / f"stl_mnist_theta.{ending}").stat().st_size > size


def test_a_sweep_of_depths_draws_what_is_there(scripts, sweep, tmp_path):
    # The training of the sweep before has the data set's depth: it is not done again.
    before = {path: path.stat().st_mtime_ns for path in sweep.glob("*/seed0/result.json")}
    words = ("depth", "--values", 2, "--theta", 0.5, *OPTIONS, "--into", sweep)
    done = scripts.run("sweep.py", *words)
    assert done.returncode == 0, done.stderr
    assert "already in" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (sweep / "figures" / "stl_mnist_depth.png").stat().st_size > 5000


def test_what_learns_is_compared(scripts, sweep, tmp_path):
    variant = NAME.format("0.5").removeprefix("stl_mnist_")
    words = ("stl_mnist", "--variant", variant, "--results", sweep, "--out", tmp_path)
    done = scripts.run("compare.py", *words)
    assert done.returncode == 0, done.stderr
    for figure in ("noise", "rates"):
        assert (tmp_path / f"stl_mnist_{variant}_{figure}.png").stat().st_size > 5000


def test_networks_decide_together(scripts, sweep, tmp_path):
    runs = [sweep / NAME.format(theta) / "seed0" for theta in ("0.5", "1")]
    options = ("--quick", "--threads", 1, "--decisions", 2, "--out", tmp_path)
    done = scripts.run("decide.py", *runs, *options)
    assert done.returncode == 0, done.stderr
    metrics = scripts.result(tmp_path)["metrics"]
    assert metrics["decisions"] == 4
    for number, run in enumerate(runs, 1):
        alone = scripts.result(run)["metrics"]["test_accuracy_last"]
        assert metrics[f"test_accuracy_network_{number}"] == alone
    assert 0 <= metrics["test_accuracy_joint"] <= 1


def test_networks_of_different_data_do_not_decide_together(scripts, sweep, trained, tmp_path):
    change(trained, data="fashion_mnist")
    runs = (sweep / NAME.format("1") / "seed0", trained)
    done = scripts.run("decide.py", *runs, "--quick", "--out", tmp_path / "out")
    scripts.assert_refused(done, "they cannot decide together")


def test_a_checkpoint_of_another_network_does_not_decide(trained):
    change(trained, width=0.125)
    part = Part(torch.zeros(2, 1, 28, 28, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(UserError, match="is a checkpoint of another network"):
        decide.read(trained).network(Data("mnist", part, part, part, 10))


def test_what_is_not_there_is_named(scripts, tmp_path):
    with pytest.raises(UserError, match=r"is no folder of a run of stl_snn/train\.py"):
        decide.read(tmp_path)
    done = scripts.run("sweep.py", "theta", "--out", tmp_path)
    scripts.assert_refused(done, "give --into for all")
