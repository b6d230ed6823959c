"""The program `main.py`, run as a user runs it."""

import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from brp_snn import compare
from brp_snn import main as main_module
from brp_snn.data import (
    EVALUATION_SEED,
    Data,
    Input,
    Source,
    evaluation_stream,
    load,
)
from brp_snn.function import MODES
from brp_snn.gesture import CAMERAS
from brp_snn.main import (
    EXPERIMENT,
    angle_stream,
    main,
    make_network,
    published,
    without_idle,
    without_validation,
)
from brp_snn.models import NetworkBuilder, RateNetwork
from brp_snn.train import OPTIMIZERS, Presentation, Trainer
from shared.datasets import Dataset, EventPart, Events, EventSet, Split
from shared.errors import UserError
from shared.tensors import Samples

NETWORK = ("--topology", "FC_40_FC_10")
REPEATED = ("main.py", "--quick", "--dropout", 0.2, "--threads", 1, *NETWORK)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rate", [False, True])
def test_every_mode_lowers_the_loss_of_training(mode, rate):
    torch.manual_seed(0)
    labels = torch.arange(60) % 3
    pixels = torch.zeros(60, 1, 6, 6)
    for label in range(3):
        pixels[labels == label, :, 2 * label : 2 * label + 2] = 0.9
    part = Samples(pixels, torch.nn.functional.one_hot(labels, 3).float())
    data = Data("bars", part, part, part, "values", (1, 6, 6), lambda x, training: x)
    kind = RateNetwork if rate else NetworkBuilder
    network = kind("CONV_4_3_1_1_FC_20_FC_3", (1, 6, 6), mode)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    trainer = Trainer(network, data, Presentation(10, 1.0, "MSE"), optimizer, torch.Generator())
    # A fresh spiking network is all but silent: the first epochs wake its output.
    rows = [trainer.train_epoch(20) for _ in range(60)]
    assert rows[-1]["train_loss"] < 0.7 * rows[0]["train_loss"]
    if mode != "shallow":  # random features need not tell the bars apart
        assert rows[-1]["train_loss"] < 0.1 * rows[0]["train_loss"]
        assert trainer.evaluate(part, 30, "test")["test_accuracy"] > 0.95
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_pixels_spike_as_often_as_they_are_bright():
    part = Samples(torch.full((1, 1, 100, 100), 0.3), torch.zeros(1, 2))
    data = Data("gray", part, part, part, "values", (1, 100, 100), lambda x, training: x)
    shown = Input(data, part.inputs, 1.0, True, torch.Generator().manual_seed(0))
    spikes = shown(0, 8)
    assert shown.steps(8) == 8
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    assert float(spikes.mean()) == pytest.approx(0.3, abs=0.01)
    halved = Input(data, part.inputs, 0.5, True, torch.Generator().manual_seed(0))
    assert float(halved(0, 8).mean()) == pytest.approx(0.6, abs=0.01)


def test_frames_are_shown_one_a_step():
    frames = torch.arange(2 * 3 * 5 * 4 * 4).reshape(2, 3, 5, 4, 4)
    part = Samples(frames, torch.zeros(2, 2))
    data = Data("film", part, part, part, "spikes", (3, 4, 4), lambda x, training: x.float())
    shown = Input(data, frames, 1.0, False, torch.Generator())
    assert shown.steps(20) == 5
    torch.testing.assert_close(shown(1, 3)[1, 0], frames[0, :, 2].float())
    # Without steps, frames are channels.
    assert data.rate_shape == tuple(shown.rates().shape[1:]) == (15, 4, 4)
    torch.testing.assert_close(shown.rates()[1, 5:10], frames[1, 1].float())


def test_frames_of_values_spike_at_random_in_their_span():
    frames = torch.tensor([-1.0, 0.5, 1.0, 3.0]).view(1, 1, 4, 1).expand(1, 1, 4, 10_000)
    part = Samples(frames, torch.zeros(1, 2))
    shape, span = (1, 10_000), (0.0, 2.0)
    data = Data("sound", part, part, part, "frames", shape, lambda x, training: x, span)
    shown = Input(data, frames, 1.0, True, torch.Generator().manual_seed(0))
    assert shown.steps(20) == 4
    assert shown(0, 4).mean((1, 2, 3)).tolist() == pytest.approx([0, 0.25, 0.5, 1], abs=0.02)


@pytest.mark.parametrize("label", [-1, 10])
def test_a_label_outside_the_classes_is_one_sentence(label, monkeypatch):
    labels = np.arange(10)
    good = Split(np.zeros((10, 1, 4, 4), np.uint8), labels)
    bad = Split(good.inputs, np.where(labels == 3, label, labels))
    monkeypatch.setattr(
        "shared.datasets.load", lambda *_, **__: Dataset("mnist", good, good, bad, 10)
    )
    with pytest.raises(UserError, match=f"has the label {label}, but the classes are 0 to 9"):
        load("MNIST", Source(None, torch.device("cpu")))


@pytest.mark.parametrize("act", ["sigmoid", "relu", "tanh", "none"])
def test_a_rate_network_of_signed_outputs_has_signed_targets(act):
    settings = EXPERIMENT.parse(["--dataset", "regression_synth", "--rate", "--output-act", act])
    lowest = main_module.load(settings, torch.device("cpu")).train.targets.min()
    assert (lowest < -0.9) == (act in ("tanh", "none"))


@pytest.mark.parametrize("rate", [(), ("--rate",), ("--rate", "--output-act", "tanh")])
def test_quick_run_of_a_regression(scripts, tmp_path, rate):
    done = scripts.call(main, "--dataset", "regression_synth", "--quick", *rate, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    result = scripts.assert_finished(tmp_path, ["curves"])
    assert result["dataset"] == "regression_synth"
    rows = scripts.rows(tmp_path)
    assert result["metrics"]["test_squared_error_last"] == rows[-1]["test_squared_error"]
    assert all(0 < row["train_loss"] < 1 for row in rows)


def test_quick_run_with_convolutions(scripts, tmp_path):
    done = scripts.call(
        main, "--quick", "--topology", "CONV_4_5_1_2_FC_30_FC_10", "--out", tmp_path
    )
    assert done.returncode == 0, done.stderr
    result = scripts.assert_finished(tmp_path, ["curves", "angles"])
    loaded = result["dataset"]
    assert result["experiment"] == f"brp_{loaded}_BRP_CONV-4-5-1-2-FC-30-FC-10_quick"
    assert result["data"]["name"] == loaded
    assert result["data"]["samples"] == 900
    rows = scripts.rows(tmp_path)
    for part in ("train", "test"):
        assert {f"{part}_loss", f"{part}_accuracy"} <= rows[0].keys()
    assert 0 < rows[0]["angle_1"] < 180


def test_nothing_is_held_out_where_nothing_is_to_be(scripts, tmp_path):
    parts = [Samples(torch.arange(n).view(n, 1), torch.eye(10)[:n]) for n in (6, 3, 2)]
    data = Data("some", *parts, "values", (1,), lambda x, training: x.float())
    whole = without_validation(data)
    assert [len(p) for p in (whole.train, whole.validation, whole.test)] == [9, 0, 2]
    assert whole.train.inputs.flatten().tolist() == [*range(6), *range(3)]
    done = scripts.call(main, "--quick", "--rate", "--validation", 0, *NETWORK, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    metrics = scripts.assert_finished(tmp_path, ["curves"])["metrics"]
    assert "test_accuracy_last" in metrics
    assert not [name for name in metrics if name.endswith("_selected")]
    assert not [name for name in scripts.rows(tmp_path)[0] if name.startswith("validation")]


def test_quick_run_of_a_rate_network_in_two_trials(scripts, tmp_path):
    options = ("--quick", "--rate", "--train-mode", "DRTP", "--trials", 2, *NETWORK)
    done = scripts.call(main, *options, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    results = [scripts.assert_finished(tmp_path / f"seed{seed}", ["curves"]) for seed in (0, 1)]
    assert [result["seed"] for result in results] == [0, 1]
    assert results[0]["metrics"] != results[1]["metrics"]


def test_quick_run_on_recordings_of_a_camera(scripts, offline, tmp_path):
    root = scripts.data_root()
    options = ("--dataset", "nmnist", "--quick", "--spike_window", 3, *NETWORK)
    done = scripts.call(main, *options, "--data-root", root, "--out", tmp_path / "run")
    if not (root / "nmnist_small.zip").is_file():
        scripts.assert_refused(done, "N-MNIST was not found")
        return
    assert done.returncode == 0, done.stderr
    result = scripts.assert_finished(tmp_path / "run", ["curves", "angles"])
    assert result["experiment"] == "brp_nmnist_small_BRP_FC-40-FC-10_T3_quick"
    assert result["dataset"] == "nmnist_small"


def test_gestures_that_are_not_there_are_one_sentence(scripts, offline, tmp_path):
    options = ("--dataset", "dvsgesture", "--data-root", tmp_path, "--out", tmp_path / "run")
    done = scripts.call(main, *options)
    scripts.assert_refused(done, "DVS Gesture was not found")
    assert "put the archives there" in done.stderr


@pytest.mark.parametrize("seed", [0, 42, 2**32 - 1, EVALUATION_SEED])
def test_weights_and_the_thresholds_of_tests_and_angles_do_not_correlate(seed):
    torch.manual_seed(seed)
    weights = NetworkBuilder("FC_300_FC_10", (1, 28, 28)).blocks[0].weight.detach().flatten()

    def correlation(stream):  # the largest of the first numbers, wherever the weights begin
        draws = torch.rand(len(weights), generator=stream)
        n = len(weights) - 20
        shifted = [torch.stack([weights[:n], draws[i : i + n]]) for i in range(20)]
        return max(abs(float(torch.corrcoef(pair)[0, 1])) for pair in shifted)

    cpu = torch.device("cpu")
    for stream in (evaluation_stream(cpu), angle_stream(seed, cpu)):
        assert correlation(stream) < 6 / len(weights) ** 0.5
    assert correlation(torch.Generator().manual_seed(seed)) > 0.99  # it sees what must not be


def test_tests_draw_the_same_thresholds_in_all_runs():
    first = []
    for seed in (0, 7):
        torch.manual_seed(seed)
        first.append(torch.rand(5, generator=evaluation_stream(torch.device("cpu"))))
    assert torch.equal(*first)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_goes_on_bit_for_bit(scripts, undisturbed, tmp_path, number):
    scripts.assert_goes_on(
        undisturbed, tmp_path, number, *REPEATED, behind="checkpoint.pt", main=main
    )


def test_a_run_of_one_epoch_grows_to_one_of_two(scripts, undisturbed, tmp_path):
    for epochs in (1, 2):
        done = scripts.call(main, *REPEATED[1:], "--epochs", epochs, "--out", tmp_path)
        assert done.returncode == 0, done.stderr
    scripts.assert_same_run(tmp_path, undisturbed)


def test_a_stand_in_is_said_and_named(scripts, offline, tmp_path):
    options = ("--quick", "--rate", *NETWORK, "--data-root", tmp_path / "empty")
    done = scripts.call(main, *options, "--out", tmp_path / "run")  # warnings are errors here
    assert done.returncode == 0, done.stderr
    assert "GOING ON WITH mnist5k" in done.stdout
    result = scripts.result(tmp_path / "run")
    assert result["experiment"] == "brp_mnist5k_rate_BRP_FC-40-FC-10_quick"
    assert result["data"]["name"] == result["dataset"] == "mnist5k"


def test_a_run_is_bound_to_its_data(scripts, tmp_path, monkeypatch):
    options = ("--quick", "--rate", *NETWORK, "--out", tmp_path)
    assert scripts.call(main, *options).returncode == 0
    data = EXPERIMENT.load(EXPERIMENT.parse(["--quick"]), torch.device("cpu"))
    other = replace(data, train=Samples(data.train.inputs.flip(0), data.train.targets))
    assert other.fingerprint != data.fingerprint
    monkeypatch.setattr("brp_snn.data.load", lambda name, source: other)
    scripts.assert_refused(scripts.call(main, *options), "holds a run on")


def test_the_seed_decides(scripts, undisturbed, tmp_path):
    weights = "layers.0.fc.weight"
    scripts.assert_seed_decides(undisturbed, tmp_path, weights, *REPEATED, main=main)


def test_what_a_run_as_users_start_it_leaves(scripts, undisturbed):
    result = scripts.assert_finished(undisturbed, ["curves", "angles"])
    assert result["experiment"].endswith("BRP_FC-40-FC-10_dropout-0.2_quick")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--topology", "FC_20_DENSE_10"), "'DENSE' is no layer; a topology joins layers by _"),
        (("--topology", "CONV_8_5_x_2_FC_10"), "'x' after CONV is no number"),
        (("--topology", "CONV_8_5_1"), "CONV at its end lacks numbers"),
        (("--topology", "CONV_8_3_1_1"), "must end with FC_{units}"),
        (("--topology", "FC_8_CONV_8_3_1_1_FC_10"), "CONV cannot follow FC"),
        (("--topology", "CONV_4_29_1_0_FC_10"), "too small for its kernel and the pooling"),
        (("--topology", "C_4_3_1_1_FC_10"), "C needs input of shape (channels, length)"),
        (("--topology", "FC_20_FC_11"), "end it with FC_10"),
        (("--decay", "1"), "--decay 1.0 must be 0 or above and below 1"),
        (("--lens", "0"), "--lens 0.0 must be above 0"),
        (("--lr", "-1"), "--lr -1.0 must be above 0"),
        (("--dropout", "1"), "--dropout 1.0 must be 0 or above and below 1"),
        (("--lr", "inf"), "--lr inf must be above 0 and finite"),
        (("--thresh", "nan"), "--thresh nan must be finite"),
        (("--validation", "0.2"), "--validation 0.2: hold 0.1 out, or 0"),
        (
            ("--topology", "FC_9999999999_FC_10"),
            "not enough memory: lower --batch-size, or make the network",
        ),
        (("--rate", "--output-act", "relu"), "add --output-act sigmoid"),
        (("--dataset", "regression_synth", "--loss", "CE"), "take MSE or BCE"),
        (("--split", "speaker"), "MNIST has no speakers"),
        (("--scaling", "log-l2"), "--scaling log-l2 is of spoken digits, not of MNIST"),
        (("--rate", "--thresh", "0.4"), "--thresh is of spiking units: leave out it or --rate"),
        (("--rate", "--lens", "0.4"), "--lens is of spiking units"),
        (("--rate", "--decay", "0.4"), "--decay is of spiking units"),
        (("--rate", "--randKill", "0.1"), "--randKill is of spiking units"),
        (("--rate", "--spike_window", "9"), "of frames, which MNIST has not: leave out it or"),
        (("--dataset", "nmnist", "--randKill", "0.1"), "--randKill is not used for nmnist"),
        (("--freeze-conv-layers", *NETWORK), "FC_40_FC_10 has no convolution to freeze"),
        (("--nettalk", "some.mat"), "--nettalk is the file of --dataset nettalk, not of MNIST"),
        (("--codename", "a/../b"), "--codename 'a/../b' may hold letters, digits, '-', '_', '.'"),
        (("--codename", ""), "--codename '' may hold letters"),
        (("--device", "cuda:99"), "--device cuda:99"),
        (("--dataset", "ImageNet"), "'ImageNet'"),
    ],
)
def test_bad_options_are_refused(scripts, tmp_path, options, words):
    done = scripts.call(main, "--quick", *options, "--out", tmp_path / "run")
    scripts.assert_refused(done, words)
    assert not [path.name for path in (tmp_path / "run").glob("*") if path.name != ".lock"]


@pytest.mark.parametrize("rate", [(), ("--rate", "--output-act", "none", "--loss", "MSE")])
def test_learning_that_explodes_is_reported(scripts, tmp_path, rate):
    options = ("--quick", *rate, "--optimizer", "SGD", *NETWORK, "--lr", 1e38)
    done = scripts.call(main, *options, "--out", tmp_path)
    scripts.assert_refused(done, "lower --lr")
    assert not (tmp_path / "checkpoint.pt").exists()


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ([], "brp_mnist_BRP"),
        (["--quick"], "brp_mnist_BRP_quick"),
        (
            ["--rate", "--train-mode", "FA", "--hidden-act", "relu"],
            "brp_mnist_rate_FA_hidden-act-relu",
        ),
        (["--dataset", "fsdd", "--rate", "--spike_window", "9"], "brp_fsdd_rate_BRP_T9"),
        (["--output-act", "none"], "brp_mnist_BRP"),  # without effect
        (["--lr", "0.01", "--fc-zero-init"], "brp_mnist_BRP_lr-0.01_fc-zero-init"),
        (["--dataset", "classification_synth", "--lr", "5e-4"], "brp_classification_synth_BRP"),
        (["--freeze-conv-layers", "--spike-window", "9"], "brp_mnist_BRP_T9_frozen"),
        (
            ["--topology", "FC_1000_FC_10", "--epochs", "3", "--validation", "0"],
            "brp_mnist_BRP_FC-1000-FC-10_validation-0.0_3-epochs",
        ),
        (["--dataset", "FashionMNIST"], "brp_fashion_mnist_BRP"),
        (["--dataset", "CIFAR10aug", "--epochs", "200"], "brp_cifar10aug_BRP_200-epochs"),
        (["--dataset", "regression_synth", "--codename", "x"], "brp_regression_synth_BRP_x"),
    ],
)
def test_names_tell_runs_apart(options, name):
    settings = without_idle(EXPERIMENT.parse(options))
    loaded = {"MNIST": "mnist", "FashionMNIST": "fashion_mnist", "CIFAR10aug": "cifar10"}.get(
        settings.dataset, settings.dataset
    )
    assert EXPERIMENT.name(settings, loaded) == name


def test_names_follow_the_data_that_were_loaded():
    settings = EXPERIMENT.parse(["--dataset", "tidigits", "--split", "speaker"])
    assert EXPERIMENT.name(settings, "fsdd") == "brp_fsdd_BRP_held-out-speakers"
    assert EXPERIMENT.name(EXPERIMENT.parse([]), "mnist5k") == "brp_mnist5k_BRP"


@pytest.mark.parametrize(
    ("words", "goes_on"),
    [
        ("", True),
        ("--cont", True),
        ("--cont True", True),
        ("--cont False", False),
        ("--cont=false", False),
        ("--no-cont", False),
        ("--no-resume", False),
    ],
)
def test_going_on_has_two_names(words, goes_on):
    assert EXPERIMENT.parse(words.split()).resume is goes_on


def test_going_on_is_yes_or_no(scripts):
    scripts.assert_refused(scripts.call(main, "--cont", "maybe"), "Unrecognized options: maybe")


@pytest.mark.parametrize(
    ("name", "steps"),
    [  # of 1 along a gradient of 1, at a step size of 1
        ("SGD", [1, 1.9, 2.71]),
        ("NAG", [1.9, 2.71, 3.439]),
    ],
)
def test_momentum_is_nine_tenths(name, steps):
    weight = torch.zeros(1, requires_grad=True)
    optimizer = OPTIMIZERS[name]([weight], lr=1.0)
    before = 0.0
    for step in steps:
        weight.grad = torch.ones(1)
        optimizer.step()
        assert float(-weight.detach()) - before == pytest.approx(step)
        before = float(-weight.detach())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--loss CE --output-act none", True),
        ("--loss CE --output-act sigmoid", False),
        ("--loss MSE --output-act none", False),
    ],
)
def test_a_linear_output_under_cross_entropy_projects_its_softmax(words, expected):
    parts = (Samples(torch.zeros(4, 6), torch.eye(10)[:4]) for _ in range(3))
    data = Data("some", *parts, "values", (6,), lambda x, training: x)
    options = f"--rate --topology FC_3_FC_10 --train-mode DFA {words}"
    settings = EXPERIMENT.parse(options.split())
    assert make_network(settings, data).softmax_error is expected


@pytest.mark.parametrize(
    ("options", "loaded", "expected"),
    [
        ("", "mnist", 0.9597),
        ("", "mnist5k", None),
        ("--epochs 200 --dataset CIFAR10aug", "cifar10", 0.4701),
        ("--epochs 100 --dataset CIFAR10aug", "cifar10", None),
        ("--epochs 200 --dataset CIFAR10", "cifar10", None),
        ("--epochs 20", "mnist", None),
        ("--validation 0.1", "mnist", None),
        ("--quick", "mnist", None),
        ("--codename again --test-batch-size 9", "mnist", 0.9597),
        ("--lr 1e-3", "mnist", None),
        ("--optimizer NAG", "mnist", None),
        ("--dropout 0.05", "mnist", None),
        ("--init he", "mnist", None),
        ("--fc-zero-init", "mnist", None),
        ("--loss MSE", "mnist", None),
        ("--batch-size 100", "mnist", None),
        ("--batch-size 60", "mnist", None),
        ("--batch-size 60 --lr 1.5e-4", "mnist", 0.9597),
        ("--batch-size 60 --lr 5e-4", "mnist", None),
        ("--batch-size 60 --lr 5e-4 --train-mode FA", "mnist", 0.981),
        ("--batch-size 60 --lr 5e-4 --train-mode FA --topology FC_500_FC_500_FC_10", "mnist", None),
        ("--hidden-act relu", "mnist", None),
        ("--output-act tanh --loss MSE", "mnist", None),
    ],
)
def test_published_numbers_stand_beside_runs_of_their_kind_and_length(options, loaded, expected):
    words = "--rate --topology FC_1000_FC_10 --validation 0 " + options
    found = published(EXPERIMENT.parse(words.split()), loaded)
    assert found == (expected and {"test_accuracy_last": expected})


def test_nothing_published_stands_beside_spiking_networks():
    assert published(EXPERIMENT.parse(["--validation", "0"]), "mnist") is None


DRTPS_COMMAND = (
    "--dataset CIFAR10aug --train-mode DRTP --epochs 200 --freeze-conv-layers --dropout 0.05 "
    "--topology CONV_64_3_1_1_CONV_256_3_1_1_FC_2000_FC_10 --loss CE --output-act none --lr 5e-4"
)


@pytest.mark.parametrize("rate", [False, True])
def test_the_example_command_of_drtps_program_is_accepted(rate, capsys):
    settings = without_idle(EXPERIMENT.parse((DRTPS_COMMAND + " --rate" * rate).split()))
    assert settings.output_act == ("none" if rate else "sigmoid")
    note = "--output-act: activations act with --rate only; a spiking unit's is its spike\n"
    assert capsys.readouterr().out == ("" if rate else note)


def test_a_quick_run_of_one_epoch_with_an_idle_activation(scripts, tmp_path):
    options = ("--quick", "--epochs", 1, "--output-act", "none", *NETWORK)
    done = scripts.call(main, *options, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("activations act with --rate only") == 1
    assert scripts.assert_finished(tmp_path, ["curves"])["epochs"] == len(scripts.rows(tmp_path))
    assert len(scripts.rows(tmp_path)) == 1


def test_modes_are_compared(scripts, tmp_path):
    options = ("--quick", "--rate", *NETWORK)
    for mode in ("DRTP", "FA"):
        refused = scripts.call(compare.main, *options, "--results", tmp_path)
        out = tmp_path / mode / "seed0"
        done = scripts.call(main, *options, "--train-mode", mode, "--out", out)
        assert done.returncode == 0, done.stderr
    scripts.assert_refused(refused, "does not hold runs of two modes: run main.py with the same")
    done = scripts.call(compare.main, *options, "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    loaded = scripts.result(out)["dataset"]
    figure = tmp_path / "figures" / f"brp_{loaded}_rate_modes_FC-40-FC-10_quick.png"
    assert figure.stat().st_size > 5000


def test_trials_can_be_added(scripts, tmp_path):
    options = ("--quick", "--rate", *NETWORK, "--out", tmp_path)
    for trials in (2, 3):
        done = scripts.call(main, *options, "--trials", trials)
        assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seed0", "seed1", "seed2"]


def test_frozen_convolutions_stay_and_the_next_layer_has_an_angle(scripts, tmp_path):
    options = ("--quick", "--freeze-conv-layers", "--topology", "CONV_4_5_1_2_FC_30_FC_10")
    done = scripts.call(main, *options, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    scripts.assert_finished(tmp_path, ["curves", "angles"])
    assert "angle_1" not in scripts.rows(tmp_path)[0]
    assert 0 < scripts.rows(tmp_path)[0]["angle_2"] < 180


def test_gestures_are_shown_to_their_network(monkeypatch):
    events = Events(
        *(np.arange(100, dtype=np.int64) % side for side in (128, 128, 2)), np.arange(100)
    )
    part = EventPart([events] * 22, np.arange(22) % 11)
    cameras = (lambda root: EventSet("dvs_gesture", part, part, part, 128, 128, 11), 4)
    monkeypatch.setitem(CAMERAS, "dvsgesture", cameras)
    data = load("dvsgesture", Source(None, torch.device("cpu"), window=6))
    network = make_network(EXPERIMENT.parse(["--dataset", "dvsgesture"]), data)
    assert data.shape == network.shape == (1, 32, 32)
    optimizer = torch.optim.Adam(network.parameters(), 1e-4)
    trainer = Trainer(network, data, Presentation(6, 1.0, "MSE"), optimizer, torch.Generator())
    assert 0 < trainer.train_epoch(11)["train_loss"] < 1


def test_threads_asked_for_are_threads_used(assert_keeps_one_thread):
    assert_keeps_one_thread(
        "from brp_snn import _kernels\n"
        "from brp_snn.models import Neuron\n"
        "made = torch.ones(2, 4, 1, 3)\n"
        "_kernels.integrate(made, made[0], made.clone(), Neuron(), (1, 1))"
    )
