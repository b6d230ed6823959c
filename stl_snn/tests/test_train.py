"""The program `train.py`, run as a user runs it."""

import shutil
import signal

import numpy as np
import pytest

from shared.datasets import _cifar10dvs
from shared.errors import UserError
from stl_snn.train import completed, main, make_parser, name_of, published, setting_of

FIGURES = ["curves", "rates", "thresholds", "noise", "energy"]
# Wide and bright enough that layers fire and learn in two epochs of little data.
ALIVE = ("--theta", 0.5, "--batch-size", 20)
REPEATED = (
    *("train.py", "--quick", "--threads", 1, "--noise-samples", 20, "--decisions", 3),
    *ALIVE,
)


def read(*options):
    return completed(make_parser().parse_args([str(option) for option in options]))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), "stl_mnist"),
        (("-tl",), "stl_mnist"),
        (("--no-tl",), "stl_mnist_sl"),
        (("--learning", "tl"), "stl_mnist_tl"),
        (("--learning", "tl", "--train-norm"), "stl_mnist_tl_norm"),
        (("--no-train-norm",), "stl_mnist_no-norm"),
        (("-data", "fashion_mnist", "--steps", 8, "--width", 0.25), "stl_fashion_width-0.25_T8"),
        (("-data", "cifar10", "--steps", 8, "--lr", 1e-4), "stl_cifar10_lr-0.0001"),
        (("-data", "nmnist", "--sharing", "channel"), "stl_nmnist_per-channel"),
        (("--floor", 0.1, "--depth", 3, "--theta", 1), "stl_mnist_floor-0.1_depth-3_theta-1"),
        (("--epochs", 5, "--whole-decay", "--lr", 0.01), "stl_mnist_lr-0.01_whole-decay"),
        (("-data", "dvsgesture", "--quick"), "stl_dvsgesture_width-0.0625_quick"),
        (("-data", "cifar10dvs", "--no-tl"), "stl_cifar10dvs_sl"),
    ],
)
def test_names_say_what_differs(options, expected):
    assert name_of(read(*options)) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("-data", "cifar10"), {"test_accuracy_last": 0.9242}),
        (("-data", "dvsgesture", "--epochs", 100, "--seed", 1), {"test_accuracy_last": 0.9722}),
        (("-data", "mnist"), None),
        (
            ("-data", "cifar10dvs"),
            {"test_accuracy_last": 0.7850, "test_accuracy_last_later_table": 0.7730},
        ),
        (("-data", "cifar10", "--epochs", 1), None),
        (("-data", "cifar10", "--whole-decay"), None),
        (("-data", "cifar10", "--learning", "sl"), None),
        (("-data", "cifar10", "--width", 0.5), None),
        (("-data", "cifar10", "--quick"), None),
    ],
)
def test_only_the_paper_s_run_has_its_number(options, expected):
    assert published(read(*options)) == expected


@pytest.mark.parametrize("epochs", [1, 5, 100, 300])
def test_a_run_of_any_length_can_have_the_whole_decay(epochs):
    options = ("--epochs", epochs, "--width", 0.25)
    assert setting_of(read(*options)).lr_decay == 0.93
    behind = setting_of(read(*options, "--whole-decay")).lr_decay ** epochs
    assert behind == pytest.approx(0.93**100, rel=1e-12)
    slower = setting_of(read(*options, "--whole-decay", "--lr-decay", 0.95)).lr_decay
    assert slower**epochs == pytest.approx(0.95**100, rel=1e-12)


def test_switches_are_real():
    parse = make_parser().parse_args
    assert parse(["-gpu"]).device == "cuda"
    assert parse(["--no-gpu"]).device == "cpu"
    assert parse([]).device == "auto"


def test_quick_run_of_images(scripts, undisturbed):
    result = scripts.assert_finished(undisturbed, FIGURES)
    assert result["experiment"] == "stl_mnist_width-0.0625_batch-size-20_theta-0.5_quick"
    assert result["dataset"].startswith("mnist")
    metrics, rows = result["metrics"], scripts.rows(undisturbed)
    assert metrics["test_accuracy_last"] == rows[-1]["test_accuracy"]
    best = max(row["test_accuracy"] for row in rows)
    assert metrics["test_accuracy_best_published_protocol"] == best
    assert metrics["decisions"] == 3
    assert metrics["test_accuracy_s&p_0"] == metrics["test_accuracy_gaussian_0"]
    assert {"Dense", "Effective_MACs", "Effective_ACs", "activation_sparsity"} <= metrics.keys()
    assert 0 < metrics["Effective_ACs"] < metrics["Dense"]
    assert 0 < metrics["rate_lif1"] < 1
    assert rows[1]["train_loss"] < rows[0]["train_loss"]
    assert rows[1]["theta_sd_lif1"] != rows[0]["theta_sd_lif1"]


def test_the_step_size_falls_behind_every_epoch(scripts, undisturbed):
    state = scripts.state(undisturbed)
    (group,) = state["optimizer"]["param_groups"]
    assert group["lr"] == pytest.approx(1e-3 * 0.93**2, rel=1e-12)
    assert (group["weight_decay"], tuple(group["betas"])) == (1e-6, (0.9, 0.999))


def test_quick_run_of_recordings(scripts, tmp_path):
    options = ("-data", "nmnist", "--quick", "--threads", 1, "--learning", "tl", "--steps", 3)
    done = scripts.run("train.py", *options, *ALIVE, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    result = scripts.assert_finished(tmp_path, FIGURES)
    assert result["dataset"].startswith("nmnist")
    assert "test_accuracy_gaussian_0" not in result["metrics"]
    assert result["metrics"]["test_accuracy_s&p_14"] is not None


def test_quick_run_of_a_copy_of_cifar10_dvs(scripts, tmp_path, monkeypatch):
    """From made recordings in the official format, as a user's archives have them."""
    monkeypatch.setattr(_cifar10dvs, "PER_CLASS", 10)
    for label, name in enumerate(_cifar10dvs.ZIPS):
        for number in range(10):
            address = np.arange(40) * 401 + label  # of 40 events, all over the camera
            words = np.stack([address % 2**15, 25 * np.arange(40) + number], 1).astype(">u4")
            path = tmp_path / "CIFAR10DVS" / name / f"cifar10_{name}_{number}.aedat"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"#!AER-DAT2.0\r\n" + words.tobytes())
    options = ("-data", "cifar10dvs", "--quick", "--threads", 1, "--steps", 2)
    done = scripts.call(main, *options, *ALIVE, "--data-root", tmp_path, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    result = scripts.assert_finished(tmp_path / "run", FIGURES)
    assert result["dataset"] == "cifar10_dvs"
    assert result["metrics"]["noise_samples"] == 10
    assert "rate_lif7" in result["metrics"]  # five convolutions and two fully connected layers


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_goes_on_bit_for_bit(scripts, undisturbed, tmp_path, number):
    scripts.assert_goes_on(undisturbed, tmp_path, number, *REPEATED, behind="checkpoint.pt")


def test_the_seed_decides(scripts, undisturbed, tmp_path):
    scripts.assert_seed_decides(undisturbed, tmp_path, "conv1.weight", *REPEATED)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--learning", "sl", "-tl"), "--learning sl contradicts -tl: give one of them"),
        (("--learning", "tl", "--no-tl"), "--learning tl contradicts --no-tl: give one of them"),
        (("--steps", 0), "--steps 0 must be above 0"),
        (("--floor", 3), "--floor 3.0 must be above 0 and at most --theta 2.0"),
        (("--theta", -1), "--theta -1.0 must be above 0"),
        (("--depth", 1), "--depth 1 leaves a pooling without a convolution"),
        (("--dropout", 1), "--dropout 1.0 must be at least 0 and below 1"),
        (("--tau", 1), "--tau 1.0 must be at least 0 and below 1"),
        (("--weight-decay", "nan"), "--weight-decay nan must be a finite number"),
        (("--spread", "nan"), "--spread nan must be a finite number"),
        (("--lr", "inf"), "--lr inf must be a finite number"),
        (("--width", "inf"), "--width inf must be a finite number"),
        (("--floor", "nan"), "--floor nan must be a finite number"),
        (("--spread", -1), "--spread -1.0 must not be below 0"),
        (("--decisions", 0), "--decisions 0 must be above 0"),
    ],
)
def test_bad_options_are_refused(options, words):
    with pytest.raises(UserError) as caught:
        completed(make_parser().parse_args(["--quick", *map(str, options)]))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-data", "imagenet"), "invalid choice: 'imagenet'"),
        (("--learning", "bp"), "invalid choice: 'bp'"),
    ],
)
def test_unknown_words_are_refused(capsys, options, words):
    with pytest.raises(SystemExit) as caught:
        make_parser().parse_args(options)
    assert caught.value.code == 2
    assert words in capsys.readouterr().err


def test_a_refusal_is_one_sentence(scripts, tmp_path):
    done = scripts.run("train.py", "--quick", "--steps", 0, "--out", tmp_path / "run")
    scripts.assert_refused(done, "--steps 0 must be above 0")
    assert not (tmp_path / "run").exists()


def test_data_that_are_not_there_are_named(scripts, tmp_path):
    options = ("-data", "dvsgesture", "--quick", "--data-root", tmp_path)
    done = scripts.run_offline("train.py", *options, "--out", tmp_path / "run")
    scripts.assert_refused(done, "DVS Gesture was not found")
    options = ("-data", "cifar10dvs", "--quick", "--data-root", tmp_path)
    done = scripts.call(main, *options, "--out", tmp_path / "run")
    scripts.assert_refused(done, "CIFAR10-DVS was not found")


def test_a_checkpoint_of_another_network_is_refused(scripts, undisturbed, tmp_path):
    shutil.copy(undisturbed / "checkpoint.pt", tmp_path)
    done = scripts.run(*REPEATED, "--depth", 3, "--out", tmp_path)
    scripts.assert_refused(done, "is a checkpoint of another network")
    assert (tmp_path / "checkpoint.pt").read_bytes() == (undisturbed / "checkpoint.pt").read_bytes()
