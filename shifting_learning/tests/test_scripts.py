"""The scripts as a user runs them: quick runs end to end, kills, interrupts, bad input."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ("SL_mnist.py", "--dataset", "digits", "--hidden", "40", "--deterministic")


def command(script: str, *options: str | Path) -> list[str]:
    return [sys.executable, str(ROOT / "shifting_learning" / script), *map(str, options)]


def environment(**changes: str) -> dict[str, str]:
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "MPLBACKEND": "agg",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONDONTWRITEBYTECODE": "",  # compiling torch's sources at every start takes 20 s
        "OMP_NUM_THREADS": "1",  # threads that wait for a busy core hold small networks up
        **changes,
    }


def run(script: str, *options: str | Path, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(script, *options),
        capture_output=True,
        text=True,
        timeout=600,
        env=environment(**changes),
    )


def result_of(folder: Path) -> dict[str, object]:
    return json.loads((folder / "result.json").read_text())


def parameters_of(folder: Path) -> dict[str, torch.Tensor]:
    content = torch.load(folder / "checkpoint.pt", weights_only=True)
    return content["state"]["network"]


def assert_same(one: object, other: object) -> None:
    """Equal to the bit, through dicts and lists of tensors."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other


# ------------------------------------------------------------------------- quick runs, all paths


@pytest.mark.parametrize(
    ("script", "options", "figures"),
    [
        ("SL_xor.py", ("--repeat", "20"), ["xor"]),
        ("SL_xor.py", ("--rule", "exact", "--preset", "published"), ["xor"]),
        ("SL_small.py", (), ["folds"]),
        ("SL_small.py", ("--dataset", "wine", "--fold", "2"), ["folds"]),
        ("SL_small.py", ("--dataset", "breast_cancer", "--rule", "exact"), ["folds"]),
        ("SL_mnist.py", (), ["curves", "confusion", "roc", "raster"]),
        ("SL_mnist.py", ("--preset", "published", "--rule", "exact"), ["curves"]),
        ("SL_mnist.py", ("--dataset", "digits", "--preprocess", "canny"), ["curves"]),
        ("SL_mnist.py", ("--dataset", "digits", "--preprocess", "binary"), ["curves"]),
        ("SL_TCA.py", (), ["curves", "trial", "count"]),
        ("SL_TCA.py", ("--rule", "exact"), ["curves"]),
    ],
)
def test_quick(script, options, figures, tmp_path):
    done = run(script, "--quick", *options, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    result = result_of(tmp_path)
    assert result["paper"] == "shifting_learning"
    assert result["experiment"].startswith("sl_")
    assert result["experiment"].endswith("_quick")
    assert (tmp_path / result["figure"]).exists()
    for figure in figures:
        assert (tmp_path / f"{figure}.png").stat().st_size > 5000
        assert (tmp_path / f"{figure}.pdf").stat().st_size > 2000
    for name, value in result["metrics"].items():
        if "accuracy" in name and value is not None:
            assert 0 <= value <= 1
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, result["epochs"] + 1))
    assert "measured  published" in done.stdout


def test_shift_demonstration(tmp_path):
    done = run("figures.py", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "shift.png").stat().st_size > 5000


def test_digits_are_learned(tmp_path):
    options = ("--dataset", "digits", "--hidden", 100, "--batch-size", 32)
    done = run("SL_mnist.py", *options, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    metrics = result_of(tmp_path)["metrics"]
    assert metrics["test_accuracy_last"] > 0.9
    assert metrics["test_accuracy_selected"] > 0.9
    assert 1 <= metrics["selected_epoch"] <= 20


def test_xor_is_learned_by_nearly_every_network(tmp_path):
    done = run("SL_xor.py", "--repeat", 200, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert result_of(tmp_path)["metrics"]["success_rate"] >= 0.98


# ------------------------------------------------------------- the same bytes, kills, interrupts


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    done = run(*DIGITS, "--epochs", "6", "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder


def stop_in_mid_epoch(folder: Path, number: signal.Signals) -> tuple[int, str]:
    """Start the run and stop it behind its second checkpoint, while it trains on.

    Returns:
        Exit code and what it wrote to standard error.
    """
    with subprocess.Popen(
        command(*DIGITS, "--epochs", "6", "--out", folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        deadline = time.monotonic() + 300
        while not (folder / "checkpoint.previous.pt").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(number)
        _, words = process.communicate(timeout=60)
    return process.returncode, words


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_goes_on_bit_for_bit(number, undisturbed, tmp_path):
    code, words = stop_in_mid_epoch(tmp_path, number)
    if number == signal.SIGINT:
        assert code == 130
        assert "the same command goes on from the last checkpoint" in words
    assert not (tmp_path / "result.json").exists()
    done = run(*DIGITS, "--epochs", "6", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert_same(parameters_of(tmp_path), parameters_of(undisturbed))
    assert (tmp_path / "metrics.jsonl").read_bytes() == (undisturbed / "metrics.jsonl").read_bytes()
    assert result_of(tmp_path)["metrics"] == result_of(undisturbed)["metrics"]


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(undisturbed, tmp_path):
    for folder, seed in (("same", "0"), ("other", "1")):
        done = run(*DIGITS, "--epochs", "6", "--seed", seed, "--out", tmp_path / folder)
        assert done.returncode == 0, done.stderr
    assert_same(parameters_of(tmp_path / "same"), parameters_of(undisturbed))
    weights = "layers.0.e_ts"
    other = parameters_of(tmp_path / "other")[weights]
    assert not torch.equal(other, parameters_of(undisturbed)[weights])


def test_a_finished_run_shows_its_result_again(undisturbed):
    before = (undisturbed / "result.json").read_bytes()
    done = run(*DIGITS, "--epochs", "6", "--out", undisturbed)
    assert done.returncode == 0
    assert "--no-resume computes it anew" in done.stdout
    assert (undisturbed / "result.json").read_bytes() == before


def test_a_damaged_checkpoint_is_refused_by_name(tmp_path):
    stop_in_mid_epoch(tmp_path, signal.SIGKILL)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    done = run(*DIGITS, "--epochs", "6", "--out", tmp_path)
    assert done.returncode == 2
    assert f"{path} is damaged" in done.stderr
    assert len(done.stderr.splitlines()) == 1


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
        ("SL_xor.py", ("--repeat", "0"), "--repeat 0 must be above 0"),
        ("SL_TCA.py", ("--train-file", "nowhere.mat"), "nowhere.mat"),
    ],
)
def test_bad_input_ends_with_code_2_and_one_sentence(script, options, words, tmp_path):
    done = run(script, "--quick", *options, "--out", tmp_path / "run")
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "result.json").exists()


def test_missing_data_set_names_the_path_and_what_to_do(tmp_path):
    # Port 9 refuses connections at once: no network, without waiting for one.
    done = run(
        *("SL_mnist.py", "--quick", "--dataset", "fashion_mnist", "--data-root", tmp_path),
        *("--out", tmp_path / "run"),
        https_proxy="http://127.0.0.1:9",
        http_proxy="http://127.0.0.1:9",
    )
    assert done.returncode == 2, done.stderr
    assert str(tmp_path) in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_mnist_without_files_falls_back_loudly_under_another_name(tmp_path):
    done = run(
        *("SL_mnist.py", "--quick", "--data-root", tmp_path, "--out", tmp_path / "run"),
        https_proxy="http://127.0.0.1:9",
        http_proxy="http://127.0.0.1:9",
    )
    assert done.returncode == 0, done.stderr
    assert "mnist5k" in done.stderr
    result = result_of(tmp_path / "run")
    assert result["dataset"] == "mnist5k"
    assert result["experiment"] == "sl_mnist5k_quick"
