"""Made rows of seconds in a copy of the repository: what is missing is made, once."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import psutil
import pytest

from reproduce import engine
from reproduce.tests.copies import Copy

TOY = '''
"""A made paper: one number that comes closer to 1 with every epoch."""

import dataclasses
import os
import time
from pathlib import Path
from typing import Annotated

import numpy as np

from shared import experiment
from shared.errors import UserError
from shared.experiment import UNNAMED, Experiment, Made, Positive
from shared.options import script
from shared.run import Run


@dataclasses.dataclass(frozen=True)
class Settings(experiment.Settings):
    epochs: Annotated[Positive[int], UNNAMED] = 2
    """Steps."""
    lr: float = 0.5
    """How far each goes."""
    pause: float = 0.0
    """Seconds that each waits."""
    fail: bool = False
    """Whether it goes wrong."""


def work(settings: Settings, data: Made, device: str, run: Run) -> None:
    if settings.fail:
        raise UserError("this toy is broken")
    done, state = run.load() or (0, {"x": np.zeros(1)})
    x = state["x"]
    for epoch in range(done + 1, settings.epochs + 1):
        time.sleep(settings.pause)
        x = x + settings.lr * (1 - x) + 0.001 * settings.seed
        with Path(os.environ["TOY_LOG"]).open("a") as log:
            log.write(f"{run.experiment} {settings.seed} {epoch}\\n")
        run.log(epoch, {"test_accuracy": float(x[0])})
        run.save(epoch, {"x": x})
    (run.folder / "curve.png").write_bytes(b"a picture")
    metrics = {"test_accuracy_last": float(x[0]), "s": time.time()}
    run.finish(epochs=settings.epochs, metrics=metrics)


EXPERIMENT = Experiment(
    paper="toys",
    description=__doc__,
    settings=Settings,
    load=lambda settings, device: Made("beads"),
    session=lambda settings, data: "toy",
    prepare=lambda settings: "cpu",
)

if __name__ == "__main__":
    script(lambda: EXPERIMENT.main(work))
'''

DECLARED = """
[[row]]
name = "toy"
script = "toy.py"
seeds = [0, 1]
dataset = "beads"
epochs = 2
minutes = 1
tolerance = 0.0
unsteady = ["s"]

[[row]]
name = "toy_pause-0.3"
script = "toy.py"
options = ["--pause", "0.3", "--epochs", "12"]
seeds = [0]
dataset = "beads"
epochs = 12
minutes = 60

[[row]]
name = "toy_fail"
script = "toy.py"
options = ["--fail"]
seeds = [0]
dataset = "beads"
epochs = 2
minutes = 1

[[claim]]
name = "toy_learns"
says = "The number comes close to 1."
where = "here"
kind = "above"
left = { row = "toy", metric = "test_accuracy_last" }
right = 0.7
seeds = 2

[[figure]]
name = "toys"
title = "Two toys"
dataset = "beads"
[figure.curves]
quick = "toy"
slow = "toy_pause-0.3"
"""


class Toys(Copy):
    """A repository of one made paper."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "toys.log"
        super().__init__(folder, TOY_LOG=str(self.log))
        (folder / "toys").mkdir()
        (folder / "toys/toy.py").write_text(TOY)
        (folder / "toys/reproduction.toml").write_text(DECLARED)
        self.log.touch()

    def epochs(self, experiment: str) -> list[str]:
        """Seed and epoch of what was computed, in order."""
        lines = map(str.split, self.log.read_text().splitlines())
        return [f"{seed} {epoch}" for name, seed, epoch in lines if name == experiment]

    def kept(self, row: str, seed: int) -> Path:
        return self.folder / "results/toys" / row / f"seed{seed}"

    def kill_amid(self, *words: str, spared: str | None = None) -> None:
        """Kill a call and all that it started as soon as the slow toy has done three epochs.

        `spared` is a word of the command line of what may live on.
        """
        process = self.start(*words)
        metrics = self.folder / "runs/toys/toy_pause-0.3/seed0/metrics.jsonl"
        deadline = time.monotonic() + 120
        while not metrics.exists() or metrics.read_text().count("\n") < 3:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        for each in [psutil.Process(process.pid), *psutil.Process(process.pid).children(True)]:
            if spared is None or spared not in " ".join(each.cmdline()):
                each.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)


@pytest.fixture
def copy(tmp_path, monkeypatch) -> Toys:
    """A repository and an environment whose paths have a blank."""
    environment = tmp_path / "an environment"
    environment.symlink_to(sys.prefix)
    python = environment / Path(sys.executable).relative_to(sys.prefix)
    monkeypatch.setattr(sys, "executable", str(python))
    return Toys(tmp_path / "a repository")


def test_what_is_missing_is_made_once_in_a_fresh_clone_too(copy, tmp_path):
    copy.make("toy")
    for seed in (0, 1):
        names = {path.name for path in copy.kept("toy", seed).iterdir()}
        assert names == {"result.json", "metrics.jsonl", "curve.png"}
    assert sorted(copy.epochs("toy")) == ["0 1", "0 2", "1 1", "1 2"]
    assert "done already: 2 runs" in copy.make("toy")

    clone = Toys(tmp_path / "clone")
    shutil.copytree(copy.folder / "results", clone.folder / "results")
    for path in (clone.folder / "results").rglob("*"):  # older than every program
        os.utime(path, (0, 0))
    before = {path: path.read_bytes() for path in clone.folder.glob("results/**/*.*")}
    assert "1 run, 1 min" in clone.make("toy", "--seeds", "0-2", "-n")
    assert clone.epochs("toy") == []
    clone.make("toy", "--seeds", "0-2")
    assert clone.epochs("toy") == ["2 1", "2 2"]
    assert (
        before.items() <= {p: p.read_bytes() for p in clone.folder.glob("results/**/*.*")}.items()
    )


def test_a_killed_run_goes_on_from_its_checkpoint(copy):
    copy.make("toy", "--seeds", "0")
    copy.kill_amid("toys", "--seeds", "0", "--cores", "1")
    assert not (copy.kept("toy_pause-0.3", 0) / "result.json").exists()
    assert re.search(r"toy_pause-0.3 +beads +seed 0 at epoch \d+ of 12 \(\d+ %\): \d+ min",
                     copy.make("--list"))  # fmt: skip
    assert "from epoch" in copy.make("toy_pause-0.3", "-n")
    copy.make("toy_pause-0.3")
    done = copy.epochs("toy_pause-0.3")
    assert done.count("0 1") == done.count("0 2") == 1
    assert list(dict.fromkeys(done)) == [f"0 {epoch}" for epoch in range(1, 13)]
    rows = (copy.kept("toy_pause-0.3", 0) / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["test_accuracy"] for row in rows] == [1 - 0.5**k for k in range(1, 13)]
    assert copy.epochs("toy") == ["0 1", "0 2"]


def test_what_still_runs_when_the_engine_is_killed_is_waited_for(copy):
    copy.kill_amid("toy_pause-0.3", spared="toy.py")
    copy.make("toy_pause-0.3")
    assert copy.epochs("toy_pause-0.3") == [f"0 {epoch}" for epoch in range(1, 13)]
    assert (copy.kept("toy_pause-0.3", 0) / "result.json").exists()


def test_a_job_whose_result_is_kept_does_nothing(copy):
    copy.make("toy", "--seeds", "0")
    (copy.folder / "toys/toy.py").write_text("raise SystemExit('called')")
    output = copy.folder / "elsewhere/result.json"
    words = ("-m", "reproduce.job", "run", "toys", "toy", "--threads", "1", "--output", output)
    environment = {**os.environ, "PYTHONPATH": str(copy.folder)}

    def call(seed):
        command = [sys.executable, *words, seed]
        return subprocess.run(command, cwd=copy.folder, env=environment, capture_output=True)

    assert call("1").returncode == 2
    assert not output.exists()
    assert call("0").returncode == 0
    assert output.read_bytes() == (copy.kept("toy", 0) / "result.json").read_bytes()


def test_one_job_held_many_times_is_done_once_and_none_fails(copy):
    output = "results/toys/toy/seed0/result.json"
    words = ("-m", "reproduce.job", "run", "toys", "toy", "0", "--threads", "1", "--output", output)
    held = [
        subprocess.Popen(
            [sys.executable, *words], cwd=copy.folder, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(copy.folder), **copy.environment},
        )
        for _ in range(6)
    ]  # fmt: skip
    said = [process.communicate(timeout=300)[1] for process in held]
    assert [process.returncode for process in held] == [0] * 6, said
    assert copy.epochs("toy") == ["0 1", "0 2"]
    assert (copy.folder / output).exists()


def test_what_is_computed_again_is_not_trained_twice_for_two_who_wait(copy):
    copy.make("toy", "--seeds", "0")
    folder = copy.folder / "runs/again/toys/toy"
    folder.mkdir(parents=True)
    output = "runs/again/toys/toy/seed0.json"
    words = ("-m", "reproduce.job", "again", "toys", "toy", "0", "--output", output)
    with filelock.FileLock(folder / ".seed0.lock"):
        held = [
            subprocess.Popen(
                [sys.executable, *words], cwd=copy.folder, stderr=subprocess.PIPE, text=True,
                env={**os.environ, "PYTHONPATH": str(copy.folder), **copy.environment},
            )
            for _ in range(2)
        ]  # fmt: skip
        for process in held:
            assert process.stderr is not None
            assert "waiting for the run that is writing to" in process.stderr.readline()
    said = [process.communicate(timeout=300)[1] for process in held]
    assert [process.returncode for process in held] == [0, 0], said
    assert copy.epochs("toy") == ["0 1", "0 2"] * 2
    assert (copy.folder / output).exists()


def test_claims_figures_and_what_fails(copy):
    said = copy.make("claim:toy_learns")
    assert re.search(r"^claim:toy_learns (holds|undecided)", said, re.M)
    assert sorted(copy.epochs("toy")) == ["0 1", "0 2", "1 1", "1 2"]
    said = copy.make("figure:toys", "toy_fail", code=1)
    assert "this toy is broken" in said
    assert "the same command goes on where it stopped" in said
    assert (copy.folder / "results/figures/toys.png").stat().st_size > 5000
    assert (copy.kept("toy_pause-0.3", 0) / "result.json").exists()
    assert not copy.kept("toy_fail", 0).exists()
    said = copy.make("--list")
    assert re.search(r"figure:toys +drawn", said)
    assert "missing: 1 run, 1 min by measured rows and 0 s by estimates" in said


def test_a_result_of_something_else_is_not_kept(copy):
    path = copy.folder / "toys/reproduction.toml"
    path.write_text(
        path.read_text().replace('dataset = "beads"\nepochs = 2', 'dataset = "gems"\nepochs = 2')
    )
    said = copy.make("toy", "--seeds", "0", code=1)
    assert "has dataset beads, but toys/reproduction.toml says gems" in said
    assert not (copy.kept("toy", 0) / "result.json").exists()


def test_again_finds_a_number_that_moved(copy):
    assert "nothing is stored" in copy.make("--nightly", code=2)
    copy.make("toy", "--seeds", "0")
    assert "toy, seed 0" in copy.make("--again", "toy", "-n")
    assert copy.epochs("toy") == ["0 1", "0 2"]
    assert "no number moved" in copy.make("--again", "toy")
    path = copy.kept("toy", 0) / "result.json"
    before = path.read_text()
    result = json.loads(before)
    result["metrics"]["test_accuracy_last"] += 1e-6
    path.write_text(json.dumps(result))
    said = copy.make("--nightly", code=1)
    assert re.search(r"test_accuracy_last +0.750001 +0.75 +-1e-06  moved", said)
    assert "moved: 1 number" in said
    path.write_text(before)
    toy = copy.folder / "toys/toy.py"
    toy.write_text(toy.read_text().replace("lr: float = 0.5", "lr: float = 0.25"))
    said = copy.make("--again", "toy", code=1)
    assert re.search(r"--lr +0.5 +0.25", said)
    assert path.read_text() == before
    assert copy.epochs("toy") == ["0 1", "0 2"] * 4


def test_time_limits_are_those_of_a_gpu_where_its_slots_are_given_out(copy):
    path = copy.folder / "toys/reproduction.toml"
    path.write_text(path.read_text().replace("minutes = 1\n", "minutes = 1\ngpu_minutes = 45\n"))

    def limits(*resources):
        machine = engine.Machine("slurm", None, resources)
        command = [sys.executable, "-m", "snakemake", "--snakefile", "reproduce/Snakefile", "-n"]
        targets = [f"results/toys/{row}/seed7/result.json" for row in ("toy", "toy_pause-0.3")]
        done = subprocess.run(
            [*command, *engine.ALWAYS, *machine.options, "--", *targets],
            cwd=copy.folder, env={**os.environ, "PYTHONPATH": str(copy.folder)},
            capture_output=True, text=True,
        )  # fmt: skip
        return sorted(map(int, re.findall(r"runtime=(\d+)", done.stdout + done.stderr)))

    # Twice the minutes and ten.
    assert limits() == [12, 130]
    assert limits("gpu_slots=1") == [100, 130]


def test_gpu_slots_bound_what_runs_at_once(copy):
    path = copy.folder / "toys/reproduction.toml"
    path.write_text(path.read_text().replace("minutes = 1\n", "minutes = 1\ngpu_slots = 2\n"))
    sharing = copy.make("toy", "--seeds", "0,1", "--cores", "2", "--resources", "gpu_slots=4")
    assert "Execute 2 jobs" in sharing
    in_turn = copy.make("toy", "--seeds", "2,3", "--cores", "2", "--resources", "gpu_slots=2")
    assert in_turn.count("Execute 1 jobs") == 2
