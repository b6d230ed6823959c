"""The program `train.py`, run as a user runs it."""

import shutil
import signal

import numpy as np
import pytest
import torch

from shared.datasets import _cifar10dvs
from shared.errors import UserError
from stl_snn.data import LOADED
from stl_snn.spiking_model import SpikingNetwork
from stl_snn.train import EXPERIMENT, decay_of, groups, main, published, setting_of

FIGURES = ["curves", "rates", "thresholds", "noise", "energy"]
# Wide and bright enough that layers fire and learn in two epochs of little data.
ALIVE = ("--theta", 0.5, "--batch-size", 20)
REPEATED = (
    *("train.py", "--quick", "--threads", 1, "--noise-samples", 20, "--decisions", 3),
    *ALIVE,
)


def read(*options):
    return EXPERIMENT.parse([str(option) for option in options])


def itself(settings):
    """What the loaders call the data set that was asked for."""
    return LOADED.get(settings.data, settings.data)


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
        (("--floor", 0.1, "--depth", 3, "--theta", 1), "stl_mnist_floor-0.1_depth-3_theta-1.0"),
        (("--epochs", 5, "--whole-decay", "--lr", 0.01), "stl_mnist_lr-0.01_whole-decay_5-epochs"),
        (("--weight-decay", 0, "--lr-decay", 0.9), "stl_mnist_lr-decay-0.9_weight-decay-0.0"),
        (("--theta-decay", 0), "stl_mnist_theta-decay-0.0"),
        (("--precision", "bfloat16", "--batch-size", 20), "stl_mnist_batch-size-20_bfloat16"),
        (("--decisions", 5, "--noise-samples", 0), "stl_mnist"),
        (("-data", "dvsgesture", "--quick"), "stl_dvsgesture_quick"),
        (("--quick", "--epochs", 5, "--width", 1), "stl_mnist_width-1.0_5-epochs_quick"),
        (("-data", "cifar10dvs", "--no-tl"), "stl_cifar10dvs_sl"),
    ],
)
def test_names_say_what_differs(options, expected):
    settings = read(*options)
    assert EXPERIMENT.name(settings, itself(settings)) == expected


@pytest.mark.parametrize(
    ("asked", "loaded", "expected"),
    [
        ("mnist", "mnist5k", "stl_mnist5k"),
        ("nmnist", "nmnist_small", "stl_nmnist_small"),
        ("cifar10dvs", "cifar10_dvs", "stl_cifar10dvs"),
    ],
)
def test_names_follow_the_data_that_were_loaded(asked, loaded, expected):
    assert EXPERIMENT.name(read("-data", asked), loaded) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("-data", "cifar10"), {"test_accuracy_best_published_protocol": 0.9242}),
        (
            ("-data", "dvsgesture", "--epochs", 100, "--seed", 1),
            {"test_accuracy_best_published_protocol": 0.9722},
        ),
        (("-data", "mnist"), None),
        (
            ("-data", "cifar10dvs"),
            {
                "test_accuracy_best_published_protocol": 0.7850,
                "test_accuracy_best_published_protocol_later_table": 0.7730,
            },
        ),
        (("-data", "cifar10", "--epochs", 1), None),
        (("-data", "cifar10", "--whole-decay"), None),
        (("-data", "cifar10", "--learning", "sl"), None),
        (("-data", "cifar10", "--width", 0.5), None),
        (("-data", "cifar10", "--quick"), None),
    ],
)
def test_only_the_paper_s_run_has_its_number(options, expected):
    settings = read(*options)
    assert published(settings, itself(settings)) == expected
    assert published(settings, "a_stand_in") is None


@pytest.mark.parametrize("epochs", [1, 5, 100, 300])
def test_a_run_of_any_length_can_have_the_whole_decay(epochs):
    options = ("--epochs", epochs, "--width", 0.25)
    assert decay_of(read(*options)) == 0.93
    after = decay_of(read(*options, "--whole-decay")) ** epochs
    assert after == pytest.approx(0.93**100, rel=1e-12)
    slower = decay_of(read(*options, "--whole-decay", "--lr-decay", 0.95))
    assert slower**epochs == pytest.approx(0.95**100, rel=1e-12)


def test_switches_are_real():
    assert read("-gpu").device == "cuda"
    assert read("--no-gpu").device == "cpu"
    assert read().device == "auto"


def test_options_that_are_not_given_are_the_data_set_s():
    settings = read("-data", "cifar10dvs", "--learning", "tl")
    assert (settings.steps, settings.batch_size, settings.depth) == (20, 16, 5)
    assert not settings.train_norm
    assert setting_of(settings).hidden == 512
    assert setting_of(read("-data", "cifar10", "--width", 0.5)).channels == 128


def test_quick_run_of_images(scripts, undisturbed):
    result = scripts.assert_finished(undisturbed, FIGURES)
    data = result["dataset"]
    assert data.startswith("mnist")
    assert result["experiment"] == f"stl_{data}_batch-size-20_theta-0.5_quick"
    assert result["data"]["name"] == data
    assert result["data"]["samples"] == 600
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


def test_the_step_size_falls_after_every_epoch(scripts, undisturbed):
    state = scripts.state(undisturbed)
    (group,) = state["optimizer"]["param_groups"]
    assert group["lr"] == pytest.approx(1e-3 * 0.93**2, rel=1e-12)
    assert (group["weight_decay"], tuple(group["betas"])) == (1e-6, (0.9, 0.999))


@pytest.mark.parametrize(
    ("learning", "expected"),
    [
        ("stl", {"thresh": 1e-9, "weight": 1e-6, "bias": 1e-6}),
        ("tl", {"thresh": 1e-9}),
    ],
)
def test_thresholds_can_have_a_weight_decay_of_their_own(learning, expected):
    settings = read("--learning", learning, "--theta-decay", 1e-9, "--width", 0.02)
    network = SpikingNetwork(setting_of(settings), (1, 28, 28), 10)
    made = torch.optim.Adam(groups(settings, network), weight_decay=settings.weight_decay)
    names = {id(value): name.rpartition(".")[2] for name, value in network.named_parameters()}
    found = [
        (names[id(value)], group["weight_decay"])
        for group in made.param_groups
        for value in group["params"]
    ]
    assert set(found) == set(expected.items())
    assert len(found) == sum(value.requires_grad for value in network.parameters())


@pytest.mark.parametrize(
    ("options", "steps", "expected"),
    [
        (("--epochs", 10, "--whole-decay"), 1080, 0.341),  # MNIST
        (("-data", "nmnist", "--epochs", 15), 18, 1.833),  # its subset
    ],
)
def test_weight_decay_alone_lowers_a_threshold_whose_loss_has_no_gradient(options, steps, expected):
    """Adam divides the decay's term by its own size, as it does any gradient's."""
    settings = read(*options)
    threshold = torch.nn.Parameter(torch.tensor(settings.theta, dtype=torch.float64))
    adam = torch.optim.Adam([threshold], lr=settings.lr, weight_decay=settings.weight_decay)
    for _ in range(settings.epochs):
        for _ in range(steps):
            threshold.grad = torch.zeros_like(threshold)
            adam.step()
        adam.param_groups[0]["lr"] *= decay_of(settings)
    assert threshold.item() == pytest.approx(expected, abs=1e-3)


def test_quick_run_of_recordings(scripts, tmp_path):
    options = ("-data", "nmnist", "--quick", "--threads", 1, "--learning", "tl", "--steps", 3)
    done = scripts.call(main, *options, *ALIVE, "--out", tmp_path)
    if not scripts.has_ended(done, "N-MNIST", "nmnist_small.zip"):
        return
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
    scripts.assert_goes_on(
        undisturbed, tmp_path, number, *REPEATED, behind="checkpoint.pt", main=main
    )


def test_a_run_grows_and_equals_one_of_that_length(scripts, undisturbed, tmp_path):
    grown = shutil.copytree(undisturbed, tmp_path / "grown")
    for folder in (grown, tmp_path / "long"):
        done = scripts.call(main, *REPEATED[1:], "--epochs", 3, "--out", folder)
        assert done.returncode == 0, done.stderr
    scripts.assert_same_run(grown, tmp_path / "long")


def test_a_whole_decay_does_not_grow():
    assert EXPERIMENT.grows(read())
    assert not EXPERIMENT.grows(read("--whole-decay"))


def test_the_seed_decides(scripts, undisturbed, tmp_path):
    before = scripts.state(undisturbed)
    for seed in (0, 1):
        out = tmp_path / f"seed{seed}"
        done = scripts.call(main, *REPEATED[1:], "--seed", seed, "--out", out)
        assert done.returncode == 0, done.stderr
    scripts.assert_same_run(tmp_path / "seed0", undisturbed)
    other = scripts.state(tmp_path / "seed1")["network"]["conv1.weight"]
    assert not np.array_equal(other, before["network"]["conv1.weight"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--learning", "sl", "-tl"), "--learning sl contradicts -tl: give one of them"),
        (("--learning", "tl", "--no-tl"), "--learning tl contradicts --no-tl: give one of them"),
        (("--steps", 0), "--steps 0 must be above 0"),
        (("--floor", 3), "--floor 3.0 must be at most --theta 2.0, where the thresholds start"),
        (("--floor", 0), "--floor 0.0 must be above 0"),
        (("--theta", -1), "--theta -1.0 must be above 0"),
        (("--depth", 1), "--depth 1 leaves a pooling without a convolution"),
        (("--dropout", 1), "--dropout 1.0 must be 0 or above and below 1"),
        (("--tau", 1), "--tau 1.0 must be 0 or above and below 1"),
        (("--weight-decay", "nan"), "--weight-decay nan must be 0 or above and finite"),
        (("--spread", "nan"), "--spread nan must be 0 or above and finite"),
        (("--theta-decay", -1), "--theta-decay -1.0 must be 0 or above"),
        (("--theta-decay", 0, "--no-tl"), "--theta-decay needs thresholds that learn"),
        (("--lr", "inf"), "--lr inf must be above 0 and finite"),
        (("--width", "inf"), "--width inf must be above 0 and finite"),
        (("--floor", "nan"), "--floor nan must be above 0 and finite"),
        (("--spread", -1), "--spread -1.0 must be 0 or above"),
        (("--decisions", 0), "--decisions 0 must be above 0"),
    ],
)
def test_bad_options_are_refused(options, words):
    with pytest.raises(UserError) as caught:
        read("--quick", *options)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-data", "imagenet"), "invalid choice 'imagenet'"),
        (("--learning", "bp"), "invalid choice 'bp'"),
        (("--batch", 3), "Unrecognized options: --batch"),
    ],
)
def test_unknown_words_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        read(*options)


def test_a_refusal_is_one_sentence(scripts, tmp_path):
    done = scripts.call(main, "--quick", "--steps", 0, "--out", tmp_path / "run")
    scripts.assert_refused(done, "--steps 0 must be above 0")
    assert not (tmp_path / "run").exists()


def test_data_that_are_not_there_are_named(scripts, tmp_path, offline):
    options = ("-data", "dvsgesture", "--quick", "--data-root", tmp_path)
    done = scripts.call(main, *options, "--out", tmp_path / "run")
    scripts.assert_refused(done, "DVS Gesture was not found")
    options = ("-data", "cifar10dvs", "--quick", "--data-root", tmp_path)
    done = scripts.call(main, *options, "--out", tmp_path / "run")
    scripts.assert_refused(done, "CIFAR10-DVS was not found")


def test_a_checkpoint_of_another_network_is_refused(scripts, undisturbed, tmp_path):
    shutil.copy(undisturbed / "checkpoint.pt", tmp_path)
    done = scripts.call(main, *REPEATED[1:], "--depth", 3, "--out", tmp_path)
    scripts.assert_refused(done, "is a checkpoint of another network")
    assert (tmp_path / "checkpoint.pt").read_bytes() == (undisturbed / "checkpoint.pt").read_bytes()
