"""The simple example and fault tolerance as a user runs them."""

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from hybrid_plasticity.distortion_program import check_can_be_written, tell_what_is_kept
from hybrid_plasticity.distortions import NOISE_KINDS
from hybrid_plasticity.published import PublishedModel, save
from hybrid_plasticity.simple_example import shared_parameters as simple
from hybrid_plasticity.simple_example.shared_parameters import COMPILED
from hybrid_plasticity.simple_example.shared_parameters import SETTINGS as SIMPLE_SETTINGS
from hybrid_plasticity.tolerance_learning import shared_parameters as tolerance
from hybrid_plasticity.tolerance_learning.saved_network import (
    NoiseOptions,
    SavedNetwork,
    load_network,
    session_of,
)
from hybrid_plasticity.tolerance_learning.shared_parameters import SETTINGS
from shared import datasets
from shared.errors import UserError

SIMPLE, TOLERANCE = "simple_example", "tolerance_learning"
MNIST = f"{TOLERANCE}/main_mnist_hp.py"  # runs everywhere: MNIST has a stand-in
FASHION_MNIST = ("Fashion-MNIST", "FashionMNIST/raw")
REPEATED = (MNIST, "--quick", "--deterministic")


def test_tolerance(scripts, undisturbed):
    result = scripts.assert_finished(undisturbed, ["curves", "distortions", "constants"])
    assert result["experiment"] == f"hp_tolerance_{result['dataset']}_hp_quick"
    metrics = result["metrics"]
    for kind in ("crop", "gaussian", "salt", "pepper", "s&p", "speckle"):
        for ending in ("", "_frozen", "_carried"):
            assert f"test_accuracy_{kind}_6{ending}" in metrics
        assert metrics[f"test_accuracy_{kind}_0"] == metrics["test_accuracy_last"]
    for ending in ("frozen", "single", "carried"):
        assert f"test_accuracy_last_{ending}" in metrics
    assert metrics["test_accuracy_best"] >= metrics["test_accuracy_last"]


def test_a_killed_run_goes_on_bit_for_bit(scripts, undisturbed, tmp_path):
    # A quick run has two epochs, so it is killed behind the first.
    scripts.assert_goes_on(undisturbed, tmp_path, signal.SIGKILL, *REPEATED, behind="checkpoint.pt")
    state = scripts.state(tmp_path)
    assert {"network", "optimizer", "local_optimizer", "generator"} <= state.keys()
    assert state["settings"] == SETTINGS.state_dict()
    assert "layers.0.hebb" in state["network"]


def test_same_seed_same_bytes_and_another_seed_other_ones(scripts, undisturbed, tmp_path):
    scripts.assert_seed_decides(undisturbed, tmp_path, "layers.0.fc.weight", *REPEATED)


@pytest.mark.parametrize(
    ("rule", "encoding"), [("hp", "intensity"), ("gp", "bernoulli"), ("lp", "intensity")]
)
def test_simple_example(rule, encoding, scripts, tmp_path):
    script = f"{SIMPLE}/main_fashion_{rule}.py"
    words = ("--encoding", encoding, "--constants", "compiled")
    done = scripts.run(script, "--quick", *words, "--out", tmp_path)
    if not scripts.has_ended(done, *FASHION_MNIST):
        return
    result = scripts.assert_finished(tmp_path, ["curves", "distortions"])
    encoded = "_bernoulli" if encoding == "bernoulli" else ""
    assert result["experiment"] == f"hp_simple_{rule}{encoded}_compiled_quick"
    assert (tmp_path / "constants.png").exists() == (rule != "gp")
    noisy = scripts.rows(tmp_path)[-1]["test_accuracy_gaussian_6"]
    last = result["metrics"]["test_accuracy_gaussian_6"]
    if encoding == "intensity":
        assert noisy == last
    else:  # spikes are drawn anew at every test
        assert noisy == pytest.approx(last, abs=0.1)
    assert result["published"] is None


@pytest.mark.parametrize(
    ("words", "name", "as_published"),
    [
        ((), "hp_simple_hp", True),
        (("--epochs", "30"), "hp_simple_hp", True),
        (("--epochs", "2"), "hp_simple_hp_2-epochs", False),
        (("--encoding", "bernoulli"), "hp_simple_hp_bernoulli", False),
        (("--constants", "compiled"), "hp_simple_hp_compiled", False),
        (("--constants", "compiled", "--epochs", "30"), "hp_simple_hp_compiled_30-epochs", False),
        (("--quick",), "hp_simple_hp_quick", False),
    ],
)
def test_only_the_paper_s_run_has_its_numbers(words, name, as_published):
    own = simple.program("hp")
    experiment = own.experiment(None)
    options = experiment.parse(words)
    assert experiment.name(options, "fashion_mnist") == name
    assert own.numbers(options, "fashion_mnist") == (own.published if as_published else None)


def test_compiled_constants_have_20_epochs():
    experiment = simple.program("hp").experiment(None)
    assert experiment.parse(["--constants", "compiled"]).epochs == 20
    assert experiment.parse([]).epochs == 30


def test_a_stand_in_is_named_and_has_no_published_number():
    own = tolerance.program("fashion_mnist", "gp")
    experiment = own.experiment(None)
    options = experiment.parse([])
    assert experiment.name(options, "mnist5k") == "hp_tolerance_mnist5k_gp"
    assert own.numbers(options, "fashion_mnist") == {"test_accuracy_best": 0.885}
    assert own.numbers(options, "mnist5k") is None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: simple.program("GP"), "rule must be one of hp, gp, lp, not 'GP'"),
        (lambda: tolerance.program("mnist", "lp"), "rule must be one of hp, gp, not 'lp'"),
        (lambda: tolerance.program("cifar10", "hp"), "must be one of mnist, fashion_mnist"),
    ],
)
def test_there_is_no_other_program(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_run_grows_and_equals_one_of_that_length(call, scripts, undisturbed, tmp_path):
    assert call(*REPEATED, "--epochs", 1, "--out", tmp_path).returncode == 0
    done = call(*REPEATED, "--epochs", 2, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    scripts.assert_same_run(tmp_path, undisturbed)


def test_saved_networks_are_tested_and_compared(scripts, tmp_path):
    trained = {
        rule: tmp_path / f"hp_tolerance_fashion_mnist_{rule}_quick/seed0" for rule in ("hp", "gp")
    }
    for rule, folder in trained.items():
        done = scripts.run(f"{TOLERANCE}/main_fashion_{rule}.py", "--quick", "--out", folder)
        if not scripts.has_ended(done, *FASHION_MNIST):
            return
    checkpoint = trained["hp"] / "checkpoint.pt"
    for script, options in (
        ("test_fashion_crop.py", ()),
        ("test_fashion_noise.py", ("--kind", "salt", "--kind", "speckle")),
    ):
        out = tmp_path / script
        words = ("--quick", "--checkpoint", checkpoint, *options, "--out", out)
        done = scripts.run(f"{TOLERANCE}/{script}", *words)
        assert done.returncode == 0, done.stderr
        # The same numbers as right after training.
        after_training = scripts.result(trained["hp"])["metrics"]
        for name, value in scripts.result(out)["metrics"].items():
            assert after_training[name] == value, name
    # The same from files as the published programs write them, by the published options.
    network, _ = load_network(checkpoint, "hp")
    save(PublishedModel(network), tmp_path / "files", "mlp_v0", 0.1)
    words = ("--f", tmp_path / "files", "--names", "mlp_v0", "--model", "mask_model_0")
    words += ("--noise", "sp", "--p", scripts.data_root(), "--quick", "--out", tmp_path / "sp")
    done = scripts.run(f"{TOLERANCE}/test_fashion_noise.py", *words)
    assert done.returncode == 0, done.stderr
    found = scripts.result(tmp_path / "sp")["metrics"]
    assert "test_accuracy_s&p_6_frozen" in found
    assert found == {name: after_training[name] for name in found}
    words = ("--quick", "--rule", "gp", "--checkpoint", checkpoint, "--out", tmp_path / "refused")
    done = scripts.run(f"{TOLERANCE}/test_fashion_crop.py", *words)
    scripts.assert_refused(done, "holds a network of the rule hp: pass --rule hp")
    names = ("hp_tolerance_fashion_mnist", "--variant", "quick", "--results", tmp_path)
    done = scripts.run("compare.py", *names)
    assert done.returncode == 0, done.stderr
    for figure in ("training", "levels"):
        path = tmp_path / "figures" / f"hp_tolerance_fashion_mnist_quick_{figure}.png"
        assert path.stat().st_size > 5000


def test_checkpoints_that_cannot_be_used(scripts, undisturbed, tmp_path):
    crop = f"{TOLERANCE}/test_fashion_crop.py"
    done = scripts.run(crop, "--checkpoint", tmp_path / "none.pt", "--out", tmp_path / "a")
    scripts.assert_refused(done, "there is no checkpoint")
    cut = tmp_path / "cut.pt"
    cut.write_bytes((undisturbed / "checkpoint.pt").read_bytes()[:1000])
    done = scripts.run(crop, "--checkpoint", cut, "--out", tmp_path / "b")
    scripts.assert_refused(done, f"{cut} is damaged")
    other = torch.load(undisturbed / "checkpoint.pt", weights_only=True)
    network = other["state"]["network"]
    network["layers.0.eta"] = network["layers.0.eta"][:, :100].clone()
    torch.save(other, tmp_path / "other.pt")
    done = scripts.run(crop, "--checkpoint", tmp_path / "other.pt", "--out", tmp_path / "c")
    scripts.assert_refused(done, "another network than 784-512-10 (its layers.0.eta differs)")


def test_a_network_of_other_constants_is_refused(tmp_path):
    path = tmp_path / "checkpoint.pt"

    def write(settings):
        state = {"network": settings.network("hp").state_dict(), "settings": settings.state_dict()}
        torch.save({"epoch": 3, "seconds": 0.0, "state": state}, path)

    write(SETTINGS)
    assert load_network(path, "hp")[1] == 3
    write(COMPILED)  # those of fault tolerance
    load_network(path, "hp")
    write(SIMPLE_SETTINGS)
    with pytest.raises(
        UserError, match=r"with other constants than fault tolerance's \(its neuron"
    ):
        load_network(path, "hp")


def test_a_test_is_bound_to_its_images_and_its_network():
    split = datasets.Split(np.zeros((2, 1, 28, 28), np.uint8), np.zeros(2, np.int64))
    data = datasets.Dataset("fashion_mnist", split, split, split, 10)
    other = replace(data, test=datasets.Split(split.inputs + 1, split.labels))
    network, another = SETTINGS.network("hp"), SETTINGS.network("hp")
    cases = ((network, data), (network, data), (another, data), (network, other))
    marks = [SavedNetwork(model, 3, images).fingerprint for model, images in cases]
    assert marks[0] == marks[1]
    assert len({mark["checksum"] for mark in marks}) == 3
    assert (marks[0]["name"], marks[0]["samples"]) == ("fashion_mnist", 2)


NOISE, CROP = f"{TOLERANCE}/test_fashion_noise.py", f"{TOLERANCE}/test_fashion_crop.py"
LEARNED = "runs/hybrid_plasticity/hp_tolerance_fashion_mnist_gp/seed77/checkpoint.pt"


@pytest.mark.parametrize(
    ("script", "options", "words"),
    [
        (MNIST, ("--names", "x"), "--names x begins the names of files in a folder: pass --f"),
        (MNIST, ("--names", "../x", "--f", "y"), "leave folders out of it"),
        (MNIST, ("--f", __file__), "is a file: name another one"),
        (MNIST, ("--f", f"{__file__}/below"), "is a file: name another one"),
        (CROP, ("--names", "x"), "--names x begins the names of files in a folder: pass --f"),
        (CROP, ("--f", __file__), "is no folder: name that of mlp_v1.pth"),
        (CROP, ("--model", "mask_model_1", "--seed", 77), f"there is no checkpoint {LEARNED}"),
        (
            CROP,
            ("--f", ".", "--checkpoint", "a.pt"),
            "--f contradicts --checkpoint",
        ),
        (NOISE, ("--model", "mask_model_0", "--rule", "hp"), "--model contradicts --rule"),
        (NOISE, ("--noise", "sp", "--kind", "salt"), "--noise contradicts --kind"),
    ],
)
def test_options_that_do_not_go_together(script, options, words, call, scripts, tmp_path):
    scripts.assert_refused(call(script, *options, "--out", tmp_path / "run"), words)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    check_can_be_written(tmp_path / "new" / "folder")
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(UserError, match=r"cannot be written, as .* may not be"):
        check_can_be_written(tmp_path / "new" / "folder")


@pytest.mark.parametrize(("epochs", "said"), [(6, True), (7, False)])
def test_a_run_too_short_to_keep_an_epoch_says_so(epochs, said, tmp_path, capsys):
    tell_what_is_kept(tolerance.Options(f=tmp_path, epochs=epochs))
    words = (
        "will get no files: the published best epoch is sought from epoch 7 on, and this run has"
    )
    assert (words in capsys.readouterr().out) == said


def test_tests_of_some_kinds_of_noise_have_folders_of_their_own():
    names = []
    for noise, kind in ((None, ()), ("sp", ()), (None, ("s&p",)), (None, ("speckle", "salt") * 2)):
        options = NoiseOptions(noise=noise, kind=kind)
        names.append(session_of(options, "fashion_mnist", "test", NOISE_KINDS))
    assert names == ["test_hp", "test_hp_sp", "test_hp_sp", "test_hp_salt-speckle"]


@pytest.mark.parametrize(
    ("script", "options", "words"),
    [
        (MNIST, ("--epochs", "0"), "--epochs 0 must be above 0"),
        (MNIST, ("--device", "cuda:77"), "--device cuda:77: torch sees"),
        (MNIST, ("--encoding", "rank"), "invalid choice 'rank'"),
        (
            f"{TOLERANCE}/test_fashion_noise.py",
            ("--kind", "fog"),
            "invalid choice 'fog'",
        ),
        ("compare.py", ("hp_simple", "--results", "results/none"), "no result.json under"),
    ],
)
def test_bad_input_ends_with_code_2_and_one_sentence(script, options, words, scripts, tmp_path):
    out = () if script == "compare.py" else ("--out", tmp_path / "run")
    done = scripts.run(script, *options, *out)
    scripts.assert_refused(done, words)
    assert not (tmp_path / "run" / "result.json").exists()
