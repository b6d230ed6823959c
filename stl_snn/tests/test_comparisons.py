"""Sweeps, comparisons of what learns, joint decisions: run as a user runs them."""

import json
import shutil
from dataclasses import replace

import pandas as pd
import pytest
import torch

from shared.errors import UserError
from shared.experiment import parse
from shared.tensors import Samples
from stl_snn import compare, decide, sweep, train
from stl_snn.data import Data
from stl_snn.param import SETTINGS, deepened
from stl_snn.train import EXPERIMENT
from stl_snn.training import Presentation, Trainer, accuracy

OPTIONS = (
    *("--quick", "--threads", 1, "--epochs", 1),
    *("--batch-size", 20, "--noise-samples", 20),
)
NAME = "stl_{}_batch-size-20_theta-{}_1-epochs_quick"


@pytest.fixture(scope="module")
def swept(scripts, tmp_path_factory):
    """Folder of two trainings of different initial thresholds."""
    folder = tmp_path_factory.mktemp("sweep")
    words = ("theta", "--values", 0.5, 1, *OPTIONS, "--into", folder)
    done = scripts.run("sweep.py", *words)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def data(swept):
    """What the trainings were of: MNIST or what stands in for it."""
    (name,) = {json.loads(path.read_text())["dataset"] for path in swept.rglob("seed0/result.json")}
    return name


@pytest.fixture(scope="module")
def run_of(swept, data):
    """The folder of the training of an initial threshold."""
    return lambda theta: swept / "stl_snn" / NAME.format(data, theta) / "seed0"


@pytest.fixture
def trained(run_of, tmp_path):
    """A copy of one of the runs, to be damaged."""
    return shutil.copytree(run_of(0.5), tmp_path / "trained")


def change(folder, **options):
    config = json.loads((folder / "config.json").read_text())
    config["options"] |= options
    (folder / "config.json").write_text(json.dumps(config))


def test_a_sweep_trains_and_draws(scripts, swept, data, run_of):
    for theta in (0.5, 1.0):
        result = scripts.result(run_of(theta))
        assert result["metrics"]["theta_mean_lif1"] == pytest.approx(theta, abs=0.1)
    assert (
        swept / "figures" / f"stl_{data}_batch-size-20_1-epochs_quick_theta.png"
    ).stat().st_size > 5000


def test_a_sweep_of_depths_trains_what_is_not_there(scripts, swept, data, run_of):
    # The training of the sweep before has the data set's depth: it is not done again.
    before = {path: path.stat().st_mtime_ns for path in swept.rglob("seed0/result.json")}
    words = ("depth", "--values", 3, 2, "--theta", 0.5, *OPTIONS, "--into", swept)
    done = scripts.call(sweep.main, *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("already in") == 1
    assert {path: path.stat().st_mtime_ns for path in before} == before
    deeper = swept / "stl_snn" / NAME.format(f"{data}_depth-3", 0.5) / "seed0"
    metrics = scripts.result(deeper)["metrics"]
    assert {"rate_lif2", "rate_lif3", "energy_uj"} <= metrics.keys()
    assert (swept / "figures" / f"{NAME.format(data, 0.5)}_depth.png").stat().st_size > 5000


@pytest.mark.parametrize("name", SETTINGS)
def test_depths_that_are_swept_can_be(name):
    setting = SETTINGS[name]()
    depths = sweep.SWEEPS["depth"].values(setting)
    assert sum(setting.blocks) in depths
    for depth in depths:
        assert sum(deepened(setting, depth).blocks) == depth


@pytest.mark.parametrize(
    ("words", "values", "said"),
    [
        (("depth", "-data", "cifar10"), [4, 2], "--values 2 cannot be: --depth 2 leaves a pooling"),
        (("depth",), [2.5], "--values 2.5 cannot be: --depth 2.5 is no whole number"),
        (("theta",), [1, -1], r"--values -1 cannot be: --theta -1\.0 must be above 0"),
    ],
)
def test_a_value_that_cannot_be_is_named(words, values, said):
    settings = parse(sweep.Settings, "", words, defaults=train.defaults)
    with pytest.raises(UserError, match=f"^{said}"):
        sweep.trainings(settings, values)


def test_what_learns_is_compared(scripts, trained, data, tmp_path):
    names = [NAME.format(f"{data}{word}", 0.5) for word in ("", "_sl", "_tl")]
    result = scripts.result(trained)
    for name in names:  # one run by three names
        folder = shutil.copytree(trained, tmp_path / "results" / "stl_snn" / name / "seed0")
        (folder / "result.json").write_text(json.dumps(result | {"experiment": name}))
    words = (*OPTIONS, "--theta", 0.5, "--results", tmp_path / "results")
    done = scripts.call(compare.main, *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"STL, SL, TL on {data}, 1 epoch: ")
    for ending in ("", "_noise", "_rates"):
        drawn = tmp_path / "results" / "figures" / f"{names[0]}{ending}.png"
        assert drawn.stat().st_size > 5000


def names(*words, data="mnist"):
    return list(compare.names_of(EXPERIMENT.parse(words), data).values())


def test_runs_are_found_by_the_options_of_their_training():
    assert names("-data", "nmnist", "--width", "0.25", data="nmnist") == [
        f"stl_nmnist{word}_width-0.25" for word in ("", "_sl", "_tl", "_tl_norm")
    ]
    assert names("--no-train-norm", "--quick") == [
        f"stl_mnist{word}_quick" for word in ("_no-norm", "_sl_no-norm", "_tl", "_tl_norm")
    ]


def test_runs_of_different_lengths_are_not_compared():
    assert not set(names("--epochs", "3")) & set(names("--epochs", "2"))


def table(*runs):
    results = pd.DataFrame(runs, columns=["experiment", "dataset"])
    results["metrics"] = [{"row": row} for row in range(len(runs))]
    return results


def test_runs_of_a_stand_in_are_not_mixed_in():
    settings = parse(compare.Settings, "", [], defaults=train.defaults)
    results = table(("stl_mnist5k", "mnist5k"), ("stl_mnist", "mnist"), ("stl_mnist_sl", "mnist"),
                    ("stl_mnist5k_sl", "mnist5k"), ("stl_mnist_tl", "mnist"),
                    ("brp_mnist", "digits"))  # fmt: skip
    found = compare.names_in(results, settings)
    assert found == {"STL": "stl_mnist", "SL": "stl_mnist_sl", "TL": "stl_mnist_tl"}
    metrics = compare.metrics_of(results, found)
    assert {mode: list(own["row"]) for mode, own in metrics.items()} == {
        "STL": [1], "SL": [2], "TL": [4]
    }  # fmt: skip
    alone = compare.names_in(results[results["dataset"] != "mnist"], settings)
    assert alone == {"STL": "stl_mnist5k", "SL": "stl_mnist5k_sl"}


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


def test_networks_decide_together(scripts, run_of, data, tmp_path):
    runs = [run_of(theta) for theta in (0.5, 1.0)]
    options = ("--quick", "--threads", 1, "--decisions", 2, "--out", tmp_path)
    done = scripts.run("decide.py", *runs, *options)
    assert done.returncode == 0, done.stderr
    result = scripts.result(tmp_path)
    first = scripts.result(runs[0])["experiment"]
    assert first.startswith(f"stl_{data}_")
    assert result["experiment"] == f"{first}_joint_decisions-2_quick"
    metrics = result["metrics"]
    assert metrics["decisions"] == 4
    for number, run in enumerate(runs, 1):
        alone = scripts.result(run)["metrics"]["test_accuracy_last"]
        assert metrics[f"test_accuracy_network_{number}"] == alone
    assert 0 <= metrics["test_accuracy_joint"] <= 1


def together(*words):
    decide.EXPERIMENT.run(decide.EXPERIMENT.parse([str(word) for word in words]), decide.decide)


def test_a_network_decides_in_the_precision_of_its_training(run_of, trained, tmp_path):
    """In bfloat16 votes are others, and those that training tested are these."""
    change(trained, precision="bfloat16")
    together(trained, "--quick", "--out", tmp_path / "out")
    found = json.loads((tmp_path / "out" / "result.json").read_text())["metrics"]
    one = decide.read(trained)
    part = train.EXPERIMENT.load(one.settings, torch.device("cpu"))
    shown = Presentation(one.setting.steps, one.setting.batch_size, "bfloat16")
    votes = Trainer(one.network(part), part, shown).votes(part.test)
    in_full = Trainer(one.network(part), part, replace(shown, precision="float32"))
    assert not torch.equal(votes, in_full.votes(part.test))
    assert found["test_accuracy_network_1"] == accuracy(votes, part.test.labels)


def test_networks_of_different_data_do_not_decide_together(run_of, trained, tmp_path):
    change(trained, data="fashion_mnist")
    with pytest.raises(UserError, match="they cannot decide together"):
        together(run_of(1.0), trained, "--quick", "--out", tmp_path / "out")


def test_a_run_of_another_paper_does_not_decide(trained):
    (trained / "config.json").write_text(json.dumps({"options": {"dataset": "mnist", "lr": 0.1}}))
    with pytest.raises(UserError, match=r"is no folder of a run of stl_snn/train\.py"):
        decide.read(trained)


def test_a_checkpoint_of_another_network_does_not_decide(trained):
    change(trained, width=0.125)
    images = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    part = Samples(images, torch.zeros(2, dtype=torch.int64))
    with pytest.raises(UserError, match="is a checkpoint of another network"):
        decide.read(trained).network(Data("mnist", part, part, part, 10))


def test_what_is_not_there_is_named(scripts, tmp_path):
    with pytest.raises(UserError, match=r"is no folder of a run of stl_snn/train\.py"):
        together(tmp_path)
    with pytest.raises(UserError, match="no network is named"):
        together("--quick")
    done = scripts.call(sweep.main, "theta", "--out", tmp_path)
    scripts.assert_refused(done, "give --into for all")
