"""The scripts as a user runs them: quick runs end to end, kills, interrupts, bad input."""

import signal

import pytest

# Six epochs, so that training goes on for a while behind the second checkpoint.
REPEATED = (
    *("SL_mnist.py", "--dataset", "digits", "--hidden", "40", "--epochs", "6"),
    "--deterministic",
)


# ------------------------------------------------------------------------- quick runs, all paths


@pytest.mark.parametrize(
    ("script", "options", "figures"),
    [
        ("SL_xor.py", ("--repeat", "20"), ["xor", "potentials"]),
        ("SL_xor.py", ("--rule", "exact", "--preset", "published"), ["xor"]),
        ("SL_xor.py", ("--preset", "older", "--hidden", "8", "8"), ["xor"]),
        ("SL_small.py", (), ["folds", "roc"]),
        ("SL_small.py", ("--dataset", "wine", "--fold", "2"), ["folds"]),
        (
            "SL_small.py",
            ("--dataset", "breast_cancer", "--rule", "exact", "--preset", "published"),
            ["folds"],
        ),
        ("SL_small.py", ("--preset", "published", "--hidden", "5", "5"), ["folds"]),
        ("SL_mnist.py", (), ["curves", "confusion", "roc", "raster"]),
        ("SL_mnist.py", ("--preset", "published", "--rule", "exact"), ["curves"]),
        ("SL_mnist.py", ("--dataset", "digits", "--preprocess", "canny"), ["curves"]),
        ("SL_mnist.py", ("--dataset", "digits", "--preprocess", "binary"), ["curves"]),
        ("SL_mnist.py", ("--dataset", "digits", "--preprocess", "cut"), ["curves"]),
        ("SL_mnist.py", ("--dataset", "digits", "--hidden", "40", "40"), ["raster"]),
        ("SL_TCA.py", (), ["curves", "trial", "count"]),
        ("SL_TCA.py", ("--rule", "exact"), ["curves"]),
        ("SL_TCA.py", ("--preset", "published", "--hidden", "200"), ["curves"]),
    ],
)
def test_quick(script, options, figures, scripts, tmp_path):
    done = scripts.run(script, "--quick", *options, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    result = scripts.assert_finished(tmp_path, figures)
    assert result["experiment"].startswith("sl_")
    assert result["experiment"].endswith("_quick")
    assert len(scripts.rows(tmp_path)) == result["epochs"]
    assert "measured  published" in done.stdout


def test_shift_demonstration(scripts, tmp_path):
    done = scripts.run("figures.py", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "shift.png").stat().st_size > 5000


def test_a_saved_network_is_tested_alone(scripts, undisturbed):
    done = scripts.run(*REPEATED, "--test", undisturbed)
    assert done.returncode == 0, done.stderr
    metrics = scripts.result(undisturbed)["metrics"]
    names = {"as_trained": "", "cut": "_cut", "published_test": "_published_test"}
    for how, end in names.items():
        assert f"{how:16} {100 * metrics[f'test_accuracy_last{end}']:6.2f} %" in done.stdout
    scripts.assert_refused(scripts.run(*REPEATED, "--test", "nowhere"), "train first")
    other = scripts.run(*REPEATED, "--hidden", 30, "--test", undisturbed)
    scripts.assert_refused(other, "holds another network")


def test_saved_tables_are_tested_alone(scripts, tmp_path):
    options = ("SL_small.py", "--quick")
    assert scripts.run(*options, "--out", tmp_path).returncode == 0
    accuracy = scripts.result(tmp_path)["metrics"]["test_accuracy_last"]
    done = scripts.run(*options, "--test", tmp_path)
    assert f"test accuracy of 5 saved networks: {100 * accuracy:.2f} %" in done.stdout
    scripts.assert_refused(scripts.run(*options, "--test", "nowhere"), "train first")
    other = scripts.run(*options, "--fold", 1, "--test", tmp_path)
    scripts.assert_refused(other, "give the options that the run was trained with")


def test_a_stopped_nested_run_goes_on_bit_for_bit(scripts, tmp_path):
    options = ("SL_small.py", "--fold", 0, "--repeat", 1, "--epochs", 200, "--deterministic")
    done = scripts.run(*options, "--out", tmp_path / "whole")
    assert done.returncode == 0, done.stderr
    scripts.assert_goes_on(tmp_path / "whole", tmp_path / "part", signal.SIGKILL, *options)


def test_published_settings_are_those_of_the_program(scripts, tmp_path):
    done = scripts.run(
        *("SL_mnist.py", "--dataset", "digits", "--hidden", 20, "--epochs", 2, "--preset"),
        *("published", "--out", tmp_path),
    )
    assert done.returncode == 0, done.stderr
    metrics = scripts.result(tmp_path)["metrics"]
    assert metrics["validation_accuracy_last"] is None
    assert metrics["test_accuracy_selected"] is None


def test_controls_of_credit_in_time_are_recorded(scripts, tmp_path):
    done = scripts.run("SL_TCA.py", "--quick", "--hidden", 50, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    metrics = scripts.result(tmp_path)["metrics"]
    for part in ("validation", "test"):
        assert 0 <= metrics[f"{part}_accuracy_of_spike_counts"] <= 1
        assert 0 <= metrics[f"{part}_accuracy_last_times_shuffled"] <= 1


def test_digits_are_learned(scripts, tmp_path):
    options = ("--dataset", "digits", "--hidden", 100, "--batch-size", 32)
    done = scripts.run("SL_mnist.py", *options, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    metrics = scripts.result(tmp_path)["metrics"]
    assert metrics["test_accuracy_last"] > 0.9
    assert metrics["test_accuracy_selected"] > 0.9
    assert 1 <= metrics["selected_epoch"] <= 20


def test_xor_is_learned_by_nearly_every_network(scripts, tmp_path):
    done = scripts.run("SL_xor.py", "--repeat", 200, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert scripts.result(tmp_path)["metrics"]["success_rate"] >= 0.98


# ------------------------------------------------------------- the same bytes, kills, interrupts


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_goes_on_bit_for_bit(number, scripts, undisturbed, tmp_path):
    scripts.assert_goes_on(undisturbed, tmp_path, number, *REPEATED)


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(scripts, undisturbed, tmp_path):
    scripts.assert_seed_decides(undisturbed, tmp_path, "layers.0.e_ts", *REPEATED)


def test_a_finished_run_shows_its_result_again(scripts, undisturbed):
    before = (undisturbed / "result.json").read_bytes()
    done = scripts.run(*REPEATED, "--out", undisturbed)
    assert done.returncode == 0
    assert "--no-resume computes it anew" in done.stdout
    assert (undisturbed / "result.json").read_bytes() == before


def test_a_damaged_checkpoint_is_refused_by_name(scripts, tmp_path):
    scripts.stopped_run(tmp_path, signal.SIGKILL, *REPEATED)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    done = scripts.run(*REPEATED, "--out", tmp_path)
    scripts.assert_refused(done, f"{path} is damaged")


# ---------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("script", "options", "words"),
    [
        ("SL_mnist.py", ("--device", "cuda:77"), "--device cuda:77: torch sees"),
        ("SL_mnist.py", ("--device", "tpu"), "is not one of auto, cpu, cuda, cuda:N, mps"),
        ("SL_mnist.py", ("--epochs", "0"), "--epochs 0 must be above 0"),
        ("SL_mnist.py", ("--batch-size", "-1"), "--batch-size -1 must be above 0"),
        ("SL_mnist.py", ("--seed", "-1"), "--seed -1: a seed lies between"),
        ("SL_mnist.py", ("--threads", "0"), "at least one thread"),
        ("SL_mnist.py", ("--validation", "1"), "--validation 1.0 must lie in [0, 1)"),
        ("SL_mnist.py", ("--shift", "-1"), "--shift -1 must be 0 or above"),
        ("SL_mnist.py", ("--preset", "best"), "invalid choice: 'best'"),
        ("SL_small.py", ("--fold", "5"), "invalid choice: 5"),
        ("SL_small.py", ("--hidden", "5", "0"), "--hidden 0 must be above 0"),
        ("SL_small.py", ("--dataset", "wine_quality", "--data-root", "/"), "get winequality-red"),
        ("SL_xor.py", ("--repeat", "0"), "--repeat 0 must be above 0"),
        ("SL_TCA.py", ("--train-file", "nowhere.mat"), "nowhere.mat"),
    ],
)
def test_bad_input_ends_with_code_2_and_one_sentence(script, options, words, scripts, tmp_path):
    done = scripts.run(script, "--quick", *options, "--out", tmp_path / "run")
    # No more lines than one cannot be asked for: without the Spike set a warning is before it.
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "result.json").exists()


def test_missing_data_set_names_the_path_and_what_to_do(scripts, tmp_path):
    done = scripts.run_offline(
        *("SL_mnist.py", "--quick", "--dataset", "fashion_mnist", "--data-root", tmp_path),
        *("--out", tmp_path / "run"),
    )
    scripts.assert_refused(done, str(tmp_path))


def test_mnist_without_files_falls_back_loudly_under_another_name(scripts, tmp_path):
    done = scripts.run_offline(
        "SL_mnist.py", "--quick", "--data-root", tmp_path, "--out", tmp_path / "run"
    )
    assert done.returncode == 0, done.stderr
    assert "mnist5k" in done.stderr
    result = scripts.result(tmp_path / "run")
    assert result["dataset"] == "mnist5k"
    assert result["experiment"] == "sl_mnist5k_quick"
