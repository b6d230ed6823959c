"""The scripts as a user runs them: quick runs end to end, kills, interrupts, bad input.

Where a process of its own adds nothing, a script's main runs in this one: torch is imported once.
"""

import signal
import tomllib
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from shared import datasets
from shared.errors import UserError
from shifting_learning import SL_TCA, SL_mnist, SL_small, SL_xor, figures
from shifting_learning.spike_trials import generate_features, generate_trials

PROGRAMS = (SL_xor, SL_small, SL_mnist, SL_TCA)
# Six epochs, so that training goes on for a while after the second checkpoint.
REPEATED = (
    *("SL_mnist.py", "--dataset", "digits", "--hidden", "40", "--epochs", "6"),
    *("--deterministic", "--threads", "1"),
)


# ------------------------------------------------------------------------- quick runs, all paths


@pytest.mark.parametrize(
    ("program", "options", "figures"),
    [
        (SL_xor, ("--repeat", "20"), ["xor", "potentials"]),
        (SL_xor, ("--rule", "exact", "--preset", "published"), ["xor"]),
        (SL_xor, ("--preset", "older", "--hidden", "8", "8"), ["xor"]),
        (SL_small, (), ["folds", "roc"]),
        (SL_small, ("--dataset", "wine", "--fold", "2"), ["folds"]),
        (
            SL_small,
            ("--dataset", "breast_cancer", "--rule", "exact", "--preset", "published"),
            ["folds"],
        ),
        (SL_small, ("--preset", "published", "--hidden", "5", "5"), ["folds"]),
        (SL_mnist, (), ["curves", "confusion", "roc", "raster"]),
        (SL_mnist, ("--preset", "published", "--rule", "exact", "--hidden", "100"), ["curves"]),
        (SL_mnist, ("--dataset", "digits", "--preprocess", "canny"), ["curves"]),
        (SL_mnist, ("--dataset", "digits", "--preprocess", "binary"), ["curves"]),
        (SL_mnist, ("--dataset", "digits", "--preprocess", "cut"), ["curves"]),
        (SL_mnist, ("--dataset", "digits", "--hidden", "40", "40"), ["raster"]),
        (SL_TCA, ("--hidden", "400"), ["curves", "trial", "count"]),
        (SL_TCA, ("--hidden", "50", "--rule", "exact"), ["curves"]),
        (SL_TCA, ("--preset", "published", "--hidden", "50"), ["curves"]),
    ],
)
def test_quick(program, options, figures, scripts, tmp_path):
    done = scripts.call(program.main, "--quick", *options, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    result = scripts.assert_finished(tmp_path, figures)
    assert result["experiment"].startswith("sl_")
    assert result["experiment"].endswith("_quick")
    assert len(scripts.rows(tmp_path)) == result["epochs"]
    assert "measured  published" in done.stdout
    if program is SL_TCA:
        for part in ("validation", "test"):
            assert 0 <= result["metrics"][f"{part}_accuracy_of_spike_counts"] <= 1
            assert 0 <= result["metrics"][f"{part}_accuracy_last_times_shuffled"] <= 1


@pytest.mark.parametrize("script", ["SL_xor.py", "SL_TCA.py"])
def test_a_script_runs_by_its_path(script, scripts, tmp_path):
    """The other two are killed and continued below."""
    options = ("--hidden", 20, "--epochs", 1, "--no-resume")
    done = scripts.run(script, "--quick", *options, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert scripts.result(tmp_path)["experiment"].endswith("_hidden-20_1-epochs_quick")


def test_shift_demonstration(scripts, tmp_path):
    done = scripts.call(figures.main, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "shift.png").stat().st_size > 5000


def test_a_saved_network_is_tested_alone(scripts, undisturbed):
    options = REPEATED[1:]
    done = scripts.call(SL_mnist.main, *options, "--test", undisturbed)
    assert done.returncode == 0, done.stderr
    metrics = scripts.result(undisturbed)["metrics"]
    names = {"as_trained": "", "cut": "_cut", "published_test": "_published_test"}
    for how, end in names.items():
        assert f"{how:16} {100 * metrics[f'test_accuracy_last{end}']:6.2f} %" in done.stdout
    refused = scripts.call(SL_mnist.main, *options, "--test", "nowhere")
    scripts.assert_refused(refused, "train first")
    other = scripts.call(SL_mnist.main, *options, "--hidden", 30, "--test", undisturbed)
    scripts.assert_refused(other, "not 30: give the options that it was trained with")
    other = scripts.call(SL_mnist.main, *options, "--preprocess", "canny", "--test", undisturbed)
    scripts.assert_refused(other, "--preprocess none, not canny: give the options")


def test_saved_tables_are_tested_alone(scripts, tmp_path):
    def run(*options):
        return scripts.call(SL_small.main, "--quick", *options)

    assert run("--out", tmp_path).returncode == 0
    accuracy = scripts.result(tmp_path)["metrics"]["test_accuracy_last"]
    done = run("--test", tmp_path)
    assert f"test accuracy of 5 saved networks: {100 * accuracy:.2f} %" in done.stdout
    scripts.assert_refused(run("--test", "nowhere"), "train first")
    for option, then, now in (("fold", None, 1), ("seed", 0, 3), ("dataset", "iris", "wine")):
        scripts.assert_refused(
            run(f"--{option}", now, "--test", tmp_path),
            f"holds a run with --{option} {then}, not {now}: give the options",
        )


def test_one_fold_is_drawn_under_its_number():
    rows = [{"epoch": 1, "loss": 0.5, "train_accuracy": 0.5, "test_accuracy": 0.5}]
    figure = SL_small.draw(rows, torch.full((2, 1), 0.5), "iris", only=3)
    right = figure.axes[2]
    assert right.get_xticks().tolist() == [3]
    assert right.collections[0].get_offsets()[:, 0].mean() == pytest.approx(3)
    plt.close(figure)


def test_a_stopped_nested_run_goes_on_bit_for_bit(scripts, tmp_path):
    options = ("SL_small.py", "--fold", 0, "--repeat", 1, "--epochs", 100, "--deterministic")
    options += ("--threads", 1)
    done = scripts.call(SL_small.main, *options[1:], "--out", tmp_path / "whole")
    assert done.returncode == 0, done.stderr
    folders = (tmp_path / "whole", tmp_path / "part")
    scripts.assert_goes_on(*folders, signal.SIGKILL, *options, main=SL_small.main)


def test_published_settings_are_those_of_the_program(scripts, tmp_path):
    done = scripts.call(
        *(SL_mnist.main, "--dataset", "digits", "--hidden", 20, "--epochs", 2, "--preset"),
        *("published", "--out", tmp_path),
    )
    assert done.returncode == 0, done.stderr
    metrics = scripts.result(tmp_path)["metrics"]
    assert metrics["validation_accuracy_last"] is None
    assert metrics["test_accuracy_selected"] is None


def test_digits_are_learned(scripts, tmp_path):
    options = ("--dataset", "digits", "--hidden", 100, "--batch-size", 32)
    done = scripts.call(SL_mnist.main, *options, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    metrics = scripts.result(tmp_path)["metrics"]
    assert metrics["test_accuracy_last"] > 0.9
    assert metrics["test_accuracy_selected"] > 0.9
    assert 1 <= metrics["selected_epoch"] <= 20


def test_xor_is_learned_by_nearly_every_network(scripts, tmp_path):
    done = scripts.call(SL_xor.main, "--repeat", 200, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert scripts.result(tmp_path)["metrics"]["success_rate"] >= 0.98


# ------------------------------------------------------------- the same bytes, kills, interrupts


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_goes_on_bit_for_bit(number, scripts, undisturbed, tmp_path):
    scripts.assert_goes_on(undisturbed, tmp_path, number, *REPEATED, main=SL_mnist.main)


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(scripts, undisturbed, tmp_path):
    weights = "layers.0.e_ts"
    scripts.assert_seed_decides(undisturbed, tmp_path, weights, *REPEATED, main=SL_mnist.main)


def test_a_finished_run_shows_its_result_again(scripts, undisturbed):
    before = (undisturbed / "result.json").read_bytes()
    done = scripts.call(SL_mnist.main, *REPEATED[1:], "--out", undisturbed)
    assert done.returncode == 0
    assert "--no-resume computes it anew" in done.stdout
    assert (undisturbed / "result.json").read_bytes() == before


def test_a_damaged_checkpoint_is_refused_by_name(scripts, tmp_path):
    scripts.stopped_run(tmp_path, signal.SIGKILL, *REPEATED)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    done = scripts.call(SL_mnist.main, *REPEATED[1:], "--out", tmp_path)
    scripts.assert_refused(done, f"{path} is damaged")


# ---------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("program", "options", "words"),
    [
        (SL_mnist, ("--device", "cuda:77"), "--device cuda:77: torch sees"),
        (SL_mnist, ("--device", "tpu"), "is not one of auto, cpu, cuda, cuda:N, mps"),
        (SL_mnist, ("--epochs", "0"), "--epochs 0 must be above 0"),
        (SL_mnist, ("--batch-size", "-1"), "--batch-size -1 must be above 0"),
        (SL_mnist, ("--seed", "-1"), "--seed -1: a seed lies between"),
        (SL_mnist, ("--threads", "0"), "--threads 0 must be above 0"),
        (SL_mnist, ("--validation", "1"), "--validation 1.0 must be 0 or above and below 1"),
        (SL_mnist, ("--shift", "-1"), "--shift -1 must be 0 or above"),
        (SL_mnist, ("--preset", "best"), "'best'"),
        (SL_mnist, ("--hidden",), "--hidden needs a number of neurons"),
        (SL_mnist, ("--output-rate", "0"), "--output-rate 0.0 must be above 0"),
        (SL_mnist, ("--smoothing", "1"), "--smoothing 1.0 must be 0 or above and below 1"),
        (SL_small, ("--sharpness", "-5"), "--sharpness -5.0 must be above 0"),
        (SL_TCA, ("--wake", "-3"), "--wake -3.0 must be 0 or above"),
        (SL_small, ("--fold", "5"), "--fold 5 must be 0 or above and below 5"),
        (SL_small, ("--hidden", "5", "0"), "--hidden 0 must be above 0"),
        (SL_small, ("--dataset", "wine_quality", "--data-root", "/"), "get winequality-red"),
        (SL_xor, ("--repeat", "0"), "--repeat 0 must be above 0"),
        (SL_TCA, ("--train-file", "nowhere.mat"), "nowhere.mat"),
        (SL_TCA, ("--shuffle", "once"), "'once'"),
    ],
)
def test_bad_input_ends_with_code_2_and_one_sentence(program, options, words, scripts, tmp_path):
    done = scripts.call(program.main, "--quick", *options, "--out", tmp_path / "run")
    scripts.assert_refused(done, words)
    assert not (tmp_path / "run" / "result.json").exists()


def test_missing_data_set_names_the_path_and_what_to_do(scripts, offline, tmp_path):
    options = ("--quick", "--dataset", "fashion_mnist", "--data-root", tmp_path)
    done = scripts.call(SL_mnist.main, *options, "--out", tmp_path / "run")
    scripts.assert_refused(done, str(tmp_path))


def test_mnist_without_files_falls_back_loudly_under_another_name(scripts, offline, tmp_path):
    options = ("--quick", "--data-root", tmp_path, "--out", tmp_path / "run")
    done = scripts.call(SL_mnist.main, *options)  # warnings are errors here
    assert done.returncode == 0, done.stderr
    assert "GOING ON WITH mnist5k" in done.stdout
    result = scripts.result(tmp_path / "run")
    assert result["dataset"] == "mnist5k"
    assert result["experiment"] == "sl_mnist5k_quick"


def test_spike_trials_without_files_are_generated_under_another_name(
    scripts, tmp_path, monkeypatch
):
    """Said on standard output: here, a warning would be an error."""

    def missing(*_, **__):
        raise datasets.DatasetMissingError("the Spike set was looked for in no folder.")

    monkeypatch.setattr(datasets, "load_spike_set", missing)
    done = scripts.call(SL_TCA.main, "--quick", "--hidden", 20, "--epochs", 1, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "GOING ON WITH spike_set_generated" in done.stdout
    result = scripts.result(tmp_path)
    assert result["dataset"] == result["data"]["name"] == "spike_set_generated"
    assert result["experiment"] == "sl_tca_generated_hidden-20_1-epochs_quick"


def test_names_tell_runs_apart():
    for program, words, name in (
        (SL_small, (), "sl_iris"),
        (SL_small, ("--rule", "exact", "--repeat", "3", "--seed", "2"), "sl_iris_exact"),
        (SL_small, ("--dataset", "breast_cancer"), "sl_breast_cancer"),
        (SL_small, ("--preset", "published", "--hidden", "5", "5"), "sl_iris_hidden-5-5_published"),
        (SL_small, ("--fold", "2", "--lr-ets", "0.1"), "sl_iris_fold-2_lr_ets-0.1"),
        (SL_TCA, (), "sl_tca"),
        (SL_TCA, ("--rule", "exact"), "sl_tca_exact"),
        (SL_TCA, ("--preset", "published"), "sl_tca_published"),
        (SL_TCA, ("--train-file", "mine/own.mat"), "sl_tca_train-own"),
        (SL_TCA, ("--hidden", "400", "--epochs", "60"), "sl_tca_hidden-400_60-epochs"),
    ):
        settings = program.EXPERIMENT.parse(words)
        data = getattr(settings, "dataset", "spike_set")
        assert program.EXPERIMENT.name(settings, data) == name


def test_rows_are_called_and_last_as_the_scripts_say(scripts):
    programs = {f"{program.__name__.split('.')[-1]}.py": program for program in PROGRAMS}
    rows = tomllib.loads((scripts.folder / "reproduction.toml").read_text())["row"]
    assert rows
    for row in rows:
        experiment = programs[row["script"]].EXPERIMENT
        for seed in row.get("seeds", [0]):
            settings = experiment.parse([*row.get("options", ()), "--seed", str(seed)])
            assert experiment.name(settings, row["dataset"]) == row["name"]
            assert settings.epochs == row["epochs"]


def test_a_longer_run_of_networks_grows_where_no_schedule_forbids_it(scripts, tmp_path):
    """XOR's step sizes stay as they are; those of the other experiments fall over all epochs."""

    def run(epochs, folder):
        out = tmp_path / folder
        done = scripts.call(SL_xor.main, "--epochs", epochs, "--repeat", 5, "--out", out)
        assert done.returncode == 0, done.stderr
        return out

    run(100, "grown")
    scripts.assert_same_run(run(200, "grown"), run(200, "whole"))
    short = ("--quick", "--epochs", 2, "--out", tmp_path / "iris")
    assert scripts.call(SL_small.main, *short).returncode == 0
    longer = scripts.call(SL_small.main, "--quick", "--epochs", 3, "--out", tmp_path / "iris")
    scripts.assert_refused(longer, "whose schedule depends on their number")


def test_trials_of_one_s_own_that_the_network_cannot_count_are_refused(monkeypatch):
    made = generate_features(np.random.default_rng(0))
    trials = generate_trials(2, np.random.default_rng(1), made)
    too_much = replace(trials[1], rewards=np.array([6, 6, 6, 6]))
    own = replace(made, trials=(trials[0], too_much))
    monkeypatch.setattr(datasets, "load_spike_set", lambda *path, **root: own)
    settings = SL_TCA.EXPERIMENT.parse(["--train-file", "own.mat"])
    with pytest.raises(UserError, match=r"own\.mat: the rewards of trial 2 are 24"):
        SL_TCA.load(settings)


def test_a_time_constant_that_codes_cannot_have_is_refused():
    settings = SL_TCA.EXPERIMENT.parse(["--tau", "0.01"])
    with pytest.raises(UserError, match=r"--tau 0\.01: .* give more than 0\.924"):
        SL_TCA.build(settings, 500, 10.0)
