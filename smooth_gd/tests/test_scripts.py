"""The experiments' scripts, run as a user runs them."""

import json
import signal
import tomllib
from pathlib import Path

import pytest

from smooth_gd.experiments import jax_runtime
from smooth_gd.experiments.concept import concept
from smooth_gd.experiments.mnist import mnist, silence
from smooth_gd.experiments.rnn import rnn
from smooth_gd.experiments.singleneuron import single

CONCEPT = "experiments/concept/concept.py"
SINGLE = "experiments/singleneuron/single.py"
RNN = "experiments/rnn/rnn.py"
MNIST = "experiments/mnist/mnist.py"
REPEATED = (SINGLE, "--quick", "--seed", 0)


def finished(scripts, folder, figures, script, *options):
    done = scripts.run(script, "--quick", *options, "--out", folder)
    assert done.returncode == 0, done.stderr
    return scripts.assert_finished(folder, figures)


def test_quick_concept(scripts, tmp_path):
    metrics = finished(scripts, tmp_path, ["concept"], CONCEPT)["metrics"]
    assert metrics["QIF_largest_jump_by_weight"] < 0.1
    assert metrics["LIF_largest_jump_by_weight"] > 1


def test_quick_single(scripts, undisturbed):
    result = scripts.assert_finished(undisturbed, ["single", "learning"])
    assert result["threads"] == 1  # XLA's, which --threads sets
    rows = scripts.rows(undisturbed)
    assert rows[-1]["loss"] < rows[0]["mean_loss"]


def test_quick_rnn(scripts, tmp_path):
    result = finished(scripts, tmp_path, ["learning", "changes", "weights"], RNN)
    assert result["metrics"]["loss_last"] < result["metrics"]["loss_first"] / 2


def test_quick_rnn_with_a_line_search(scripts, tmp_path):
    figures = ["learning", "changes", "weights"]
    result = finished(scripts, tmp_path, figures, RNN, "--line-search")
    assert result["experiment"] == "gd_rnn_line-search_quick"
    assert result["metrics"]["loss_last"] < result["metrics"]["loss_first"] / 2


def test_compiled_programs_are_kept_where_they_can_be(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = jax_runtime.cache_folder()
    assert found is not None
    assert Path(found).is_dir()
    assert Path(found).is_relative_to(tmp_path)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # no folder can be made in it
    assert jax_runtime.cache_folder() is None


def named(program, *options):
    settings = program.EXPERIMENT.parse(options)
    return program.EXPERIMENT.name(settings, getattr(settings, "dataset", "made"))


@pytest.mark.parametrize(
    ("program", "options", "name"),
    [
        (concept, (), "gd_concept"),
        (concept, ("--quick",), "gd_concept_quick"),
        (single, (), "gd_single"),
        (single, ("--quick",), "gd_single_quick"),
        (single, ("--lr", "0.2", "--clip", "0.1"), "gd_single_lr-0.2_clip-0.1"),
        (rnn, ("--seed", "7", "--lr", "0.01"), "gd_rnn"),
        (rnn, ("--seed", "0"), "gd_rnn_drawn"),
        (rnn, ("--task", "7", "--nudge", "1e-12", "--seed", "0"), "gd_rnn_task-7_nudge-1e-12"),
        (rnn, ("--nudge", "0.5"), "gd_rnn_nudge-0.5"),
        (rnn, ("--line-search", "--seed", "1", "--lr", "0.02"), "gd_rnn_line-search_drawn_lr-0.02"),
        (rnn, ("--line-search", "--epochs", "100"), "gd_rnn_line-search_100-epochs"),
        (mnist, (), "gd_mnist"),
        (mnist, ("--spread", "2", "--epochs", "10"), "gd_mnist_spread-2.0_10-epochs"),
        (mnist, ("--hidden", "50", "30", "--Nin-virtual", "3"), "gd_mnist_50-30_Nin_virtual-3"),
        (mnist, ("--dataset", "yin_yang", "--flip", "0"), "gd_yin_yang"),
        (mnist, ("--dtype", "float64", "--quick"), "gd_mnist_dtype-float64_quick"),
    ],
)
def test_names_tell_runs_apart(program, options, name):
    assert named(program, *options) == name


def test_rows_are_called_and_last_as_the_scripts_say(scripts):
    programs = {CONCEPT: concept, SINGLE: single, RNN: rnn, MNIST: mnist}
    rows = tomllib.loads((scripts.folder / "reproduction.toml").read_text())["row"]
    assert rows
    for row in rows:
        experiment = programs[row["script"]].EXPERIMENT
        for seed in row.get("seeds", [0]):
            settings = experiment.parse([*row.get("options", ()), "--seed", str(seed)])
            assert experiment.name(settings, row["dataset"]) == row["name"]
            assert getattr(settings, "epochs", 1) == row["epochs"]


@pytest.mark.parametrize(
    ("options", "loss"),
    [
        ((), 1.7e-4),
        (("--line-search",), 6e-5),
        (("--lr", "0.02"), None),
        (("--seed", "0"), None),
        (("--seed", "0", "--task", "7"), 1.7e-4),
        (("--nudge", "1e-12"), None),
        (("--epochs", "50"), None),
        (("--epochs", "100", "--line-search"), None),
        (("--quick",), None),
    ],
)
def test_the_published_loss_is_that_of_the_paper_s_setting(options, loss):
    published = rnn.published(rnn.EXPERIMENT.parse(options), "made")
    assert published == (loss and {"loss_last": loss})


def test_quick_mnist_and_a_run_that_is_stopped(scripts, tmp_path):
    options = ("--hidden", 20)
    result = finished(
        scripts, tmp_path / "one", ["curves", "activity", "raster", "example"], MNIST, *options
    )
    # Where MNIST is nowhere and cannot be fetched, 5,000 of its images stand in.
    names = ("mnist",) if scripts.has_data("MNIST/raw") else ("mnist", "mnist5k")
    assert result["dataset"] in names
    assert result["experiment"] == f"gd_{result['dataset']}_20_quick"
    rows = scripts.rows(tmp_path / "one")
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    scripts.assert_goes_on(
        tmp_path / "one",
        tmp_path / "other",
        signal.SIGKILL,
        MNIST,
        "--quick",
        *options,
        behind="checkpoint.pt",
    )


def test_quick_yin_yang(scripts, tmp_path):
    options = ("--dataset", "yin_yang", "--hidden", 20)
    done = scripts.run(MNIST, "--quick", *options, "--out", tmp_path)
    if not scripts.has_ended(done, "Yin-Yang", "yin_yang/publication_data"):
        return
    result = scripts.assert_finished(tmp_path, ["curves", "activity", "raster"])
    assert result["experiment"] == "gd_yin_yang_20_quick"
    assert result["dataset"] == result["data"]["name"] == "yin_yang"
    rows = scripts.rows(tmp_path)
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_goes_on_bit_for_bit(scripts, undisturbed, tmp_path, number):
    scripts.assert_goes_on(undisturbed, tmp_path, number, *REPEATED, behind="checkpoint.pt")


def test_the_seed_decides(scripts, undisturbed, tmp_path):
    scripts.assert_seed_decides(undisturbed, tmp_path, "0", *REPEATED)


@pytest.mark.parametrize(
    ("script", "options", "words"),
    [
        (MNIST, ("--device", "cuda:7"), "--device cuda:7: JAX sees"),
        (MNIST, ("--T", "7"), "must lie between 0 and the period"),
    ],
)
def test_options_that_cannot_be_had_are_refused(scripts, tmp_path, script, options, words):
    # A plugin for GPUs that finds none would say so on standard error, too.
    cpu = {"JAX_PLATFORMS": "cpu"}
    done = scripts.run(script, "--quick", *options, "--out", tmp_path / "run", **cpu)
    scripts.assert_refused(done, words)
    assert not (tmp_path / "run" / "result.json").exists()


@pytest.mark.parametrize(
    ("program", "options", "words"),
    [
        (concept, ("--dtype", "float32"), "the concept figure needs --dtype float64"),
        (single, ("--dtype", "float32"), "the single neuron needs --dtype float64"),
        (rnn, ("--dtype", "float32"), "the recurrent network needs --dtype float64"),
        (rnn, ("--epochs", 0), "--epochs 0 must be above 0"),
        (rnn, ("--nudge", -1), "--nudge -1.0 must be 0 or above"),
        (rnn, ("--lr", "nan"), "--lr nan must be above 0 and finite"),
        (mnist, ("--hidden",), "--hidden needs a number of neurons"),
        (mnist, ("--flip", 1), "--flip 1.0 must be 0 or above and below 1"),
        (mnist, ("--lr", 0), "--lr 0.0 must be above 0"),
        (mnist, ("--lr", "inf"), "--lr inf must be above 0 and finite"),
        (mnist, ("--gamma", "nan"), "--gamma nan must be 0 or above and finite"),
        (mnist, ("--gamma", "inf"), "--gamma inf must be 0 or above and finite"),
        (mnist, ("--spread", "inf"), "--spread inf must be above 0 and finite"),
        (mnist, ("--threads", 0), "--threads 0 must be above 0"),
        (mnist, ("--threads", 100_000), "--threads 100000: this machine has"),
        (mnist, ("--Nin-virtual", 64), "the darkest of more than 63 levels would spike after"),
    ],
)
def test_bad_options_are_refused(scripts, tmp_path, program, options, words):
    done = scripts.call(program.main, *options, "--out", tmp_path / "run")
    scripts.assert_refused(done, words)
    assert not (tmp_path / "run").exists()


def test_help_states_the_script_s_own_defaults(capsys):
    for program, words in (
        (single, "Seed of the fixed inputs; the paper's figure has 3. (default: 3)"),
        (rnn, "paper: 200 with --line-search. (default: 100, paper: 100)"),
        (mnist, "auto, cuda, cuda:N or cpu; auto takes the first of these that is there."),
    ):
        with pytest.raises(SystemExit):
            program.EXPERIMENT.parse(["--help"])
        assert words in " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_a_run_of_three_epochs_goes_on_where_one_of_two_ended(scripts, undisturbed, tmp_path):
    script, *options = REPEATED
    for words in (("--epochs", 2), ()):
        done = scripts.run(script, *options, *words, "--out", tmp_path)
        assert done.returncode == 0, done.stderr
    scripts.assert_same_run(tmp_path, undisturbed)


def written_run(folder, name, seed, silent, accuracies, dataset="mnist"):
    run = folder / name / f"seed{seed}"
    run.mkdir(parents=True)
    metrics = {"initial_silent_in_trial": silent}
    result = {"experiment": name, "dataset": dataset, "epochs": len(accuracies), "metrics": metrics}
    (run / "result.json").write_text(json.dumps(result))
    rows = [
        {"epoch": k, "test_accuracy": value, "test_accuracy_ordinary": value - 0.1}
        for k, value in enumerate(accuracies, 1)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_accuracy_against_silence(scripts, tmp_path):
    options = ("--results", tmp_path, "--epoch", 2)
    written_run(tmp_path, "gd_mnist", 0, 1.0, [0.2, 0.9, 0.95])
    refused = scripts.call(silence.main, *options)
    scripts.assert_refused(refused, "fewer than two spreads have runs of 2 epochs")
    written_run(tmp_path, "gd_mnist_spread-4.0_2-epochs", 0, 0.25, [0.5, 0.8])
    written_run(tmp_path, "gd_mnist_spread-8.0", 0, 0.1, [0.5])  # too short
    written_run(tmp_path, "gd_mnist_spread-2.0_quick", 0, 0.4, [0.5, 0.6])
    written_run(tmp_path, "gd_mnist", 1, 0.9, [0.5, 0.6], dataset="mnist5k")
    done = scripts.run("experiments/mnist/silence.py", *options)  # as users start it
    assert done.returncode == 0, done.stderr
    rows = [list(map(float, line.split())) for line in done.stdout.splitlines()[1:3]]
    assert rows[0] == pytest.approx([0.5, 1.0, 0.9, 0.8])
    assert rows[1] == pytest.approx([4.0, 0.25, 0.8, 0.7])
    assert (tmp_path / "figures" / "gd_mnist_silence.png").stat().st_size > 5000
