"""Sweeps, comparisons of what learns, joint decisions: run as a user runs them."""

import json
import shutil

import pandas as pd
import pytest
import torch

from shared.errors import UserError
from stl_snn import compare, decide, sweep
from stl_snn.data import Data, Part
from stl_snn.param import SETTINGS, deepened
from stl_snn.train import make_parser

OPTIONS = ("--quick", "--threads", 1, "--batch-size", 20, "--noise-samples", 20)
NAME = "stl_mnist_width-0.0625_batch-size-20_theta-{}_quick"


@pytest.fixture(scope="module")
def swept(scripts, tmp_path_factory):
    """Folder of two trainings of different initial thresholds."""
    folder = tmp_path_factory.mktemp("sweep")
    words = ("theta", "--values", 0.5, 1, *OPTIONS, "--into", folder)
    done = scripts.run("sweep.py", *words)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def trained(swept, tmp_path):
    """A copy of one of the runs, to be damaged."""
    return shutil.copytree(swept / NAME.format("0.5") / "seed0", tmp_path / "trained")


def change(folder, **options):
    config = json.loads((folder / "config.json").read_text())
    config["options"] |= options
    (folder / "config.json").write_text(json.dumps(config))


def test_a_sweep_trains_and_draws(scripts, swept):
    for theta in (0.5, 1):
        result = scripts.result(swept / NAME.format(f"{theta:g}") / "seed0")
        assert result["metrics"]["theta_mean_lif1"] == pytest.approx(theta, abs=0.1)
    assert (swept / "figures" / "stl_mnist_theta.png").stat().st_size > 5000


def test_a_sweep_of_depths_trains_what_is_not_there(scripts, swept):
    # The training of the sweep before has the data set's depth: it is not done again.
    before = {path: path.stat().st_mtime_ns for path in swept.glob("*/seed0/result.json")}
    words = ("depth", "--values", 3, 2, "--theta", 0.5, *OPTIONS, "--into", swept)
    done = scripts.run("sweep.py", *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("already in") == 1
    assert {path: path.stat().st_mtime_ns for path in before} == before
    deeper = NAME.format("0.5").replace("mnist", "mnist_depth-3")
    metrics = scripts.result(swept / deeper / "seed0")["metrics"]
    assert {"rate_lif2", "rate_lif3", "energy_uj"} <= metrics.keys()
    assert (swept / "figures" / "stl_mnist_depth.png").stat().st_size > 5000


@pytest.mark.parametrize("data", SETTINGS)
def test_depths_that_are_swept_can_be(data):
    setting = SETTINGS[data]()
    depths = sweep.SWEEPS["depth"].values(setting)
    assert sum(setting.blocks) in depths
    for depth in depths:
        assert sum(deepened(setting, depth).blocks) == depth


def test_a_value_that_cannot_be_is_named():
    with pytest.raises(UserError, match=r"^--values 2 cannot be: --depth 2 leaves a pooling"):
        sweep.trainings("depth", [4, 2], ["-data", "cifar10"])


def test_what_learns_is_compared(scripts, trained, tmp_path):
    names = [NAME.format("0.5").replace("mnist", f"mnist{word}") for word in ("", "_sl", "_tl")]
    result = scripts.result(trained)
    for name in names:  # one run by three names
        folder = shutil.copytree(trained, tmp_path / "results" / name / "seed0")
        (folder / "result.json").write_text(json.dumps(result | {"experiment": name}))
    words = (*OPTIONS, "--theta", 0.5, "--results", tmp_path / "results")
    done = scripts.call(compare.main, *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"stl, sl, tl on {result['dataset']}, 2 epochs: ")
    for ending in ("", "_noise", "_rates"):
        drawn = tmp_path / "results" / "figures" / f"{names[0]}{ending}.png"
        assert drawn.stat().st_size > 5000


def test_runs_are_found_by_the_options_of_their_training():
    def found(*words):
        return list(compare.names_of(make_parser().parse_args(words)).values())

    assert found("-data", "nmnist", "--width", "0.25") == [
        f"stl_nmnist{word}_width-0.25" for word in ("", "_sl", "_tl", "_tl_norm")
    ]
    assert found("--no-train-norm", "--quick") == [
        f"stl_mnist{word}_width-0.0625_quick"
        for word in ("_no-norm", "_sl_no-norm", "_tl", "_tl_norm")
    ]


def test_runs_of_a_stand_in_are_not_mixed_in():
    table = [("stl_mnist", "mnist5k", 9), ("stl_mnist", "mnist", 3), ("stl_mnist_sl", "mnist5k", 9),
             ("stl_mnist_sl", "mnist", 3), ("stl_mnist_tl", "mnist", 2),
             ("brp_mnist", "digits", 9)]  # fmt: skip
    results = pd.DataFrame(table, columns=["experiment", "dataset", "epochs"])
    results["metrics"] = [{"row": row} for row in range(len(table))]
    names = {"stl": "stl_mnist", "sl": "stl_mnist_sl", "tl": "stl_mnist_tl"}
    metrics = compare.runs_of(compare.of_one_set(results, names), names)
    assert {mode: list(found["row"]) for mode, found in metrics.items()} == {
        "stl": [1], "sl": [3], "tl": [4]
    }  # fmt: skip
    alone = compare.of_one_set(results[results["dataset"] == "mnist5k"], names)
    assert list(alone["dataset"]) == ["mnist5k", "mnist5k"]


@pytest.mark.parametrize(
    ("runs", "kept"),
    [
        ([("stl", 3), ("sl", 3), ("tl", 2)], [0, 1]),
        ([("stl", 3), ("sl", 3), ("tl", 3), ("stl", 20)], [0, 1, 2]),
        ([("stl", 3), ("stl", 3), ("sl", 5)], [2]),  # one of each: the longest
        ([("stl", 3), ("stl", 3), ("sl", 3)], [0, 1, 2]),
    ],
)
def test_runs_of_different_lengths_are_not_compared(runs, kept):
    results = pd.DataFrame(runs, columns=["experiment", "epochs"])
    assert list(compare.of_one_length(results).index) == kept


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--learning", "sl"), "--learning, -tl and --no-tl say what learns"),
        (("--out", "figures"), "--out names one run's folder"),
        (("--width", 0.5), "has no runs called stl_mnist_width-0.5, stl_mnist_sl_width-0.5"),
    ],
)
def test_comparisons_that_cannot_be_are_refused(scripts, swept, options, words):
    done = scripts.call(compare.main, *options, "--results", swept)
    scripts.assert_refused(done, words)


def test_networks_decide_together(scripts, swept, tmp_path):
    runs = [swept / NAME.format(theta) / "seed0" for theta in ("0.5", "1")]
    options = ("--quick", "--threads", 1, "--decisions", 2, "--out", tmp_path)
    done = scripts.run("decide.py", *runs, *options)
    assert done.returncode == 0, done.stderr
    metrics = scripts.result(tmp_path)["metrics"]
    assert metrics["decisions"] == 4
    for number, run in enumerate(runs, 1):
        alone = scripts.result(run)["metrics"]["test_accuracy_last"]
        assert metrics[f"test_accuracy_network_{number}"] == alone
    assert 0 <= metrics["test_accuracy_joint"] <= 1


def test_networks_of_different_data_do_not_decide_together(scripts, swept, trained, tmp_path):
    change(trained, data="fashion_mnist")
    runs = (swept / NAME.format("1") / "seed0", trained)
    done = scripts.run("decide.py", *runs, "--quick", "--out", tmp_path / "out")
    scripts.assert_refused(done, "they cannot decide together")


def test_a_run_of_another_paper_does_not_decide(trained):
    (trained / "config.json").write_text(json.dumps({"options": {"dataset": "mnist", "lr": 0.1}}))
    with pytest.raises(UserError, match=r"is no folder of a run of stl_snn/train\.py"):
        decide.read(trained)


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
