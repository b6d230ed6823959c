"""Quick runs of all papers on a SLURM of two nodes, disturbed. `nox -s test_cluster` runs this.

It starts the SLURM itself, on this machine (`slurm.py`). The runs need no data from elsewhere.
"""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from conftest import NO_NETWORK
from reproduce.tests import slurm
from reproduce.tests.copies import Copy

# Numbers that no two runs share.
TIMES = ("seconds", "cpu_seconds", "peak_memory_mb")


class Quick(NamedTuple):
    """A run of seconds, seed 0 of a row that a test declares.

    Attributes:
        paper: folder of the script.
        name: of the experiment, as its result has it.
        script, options, dataset, epochs: as in a row.
    """

    paper: str
    name: str
    script: str
    options: str
    dataset: str
    epochs: int

    @property
    def declared(self) -> str:
        """What reproduction.toml says."""
        options = json.dumps(["--quick", "--epochs", str(self.epochs), *self.options.split()])
        return (
            f'[[row]]\nname = "{self.name}"\nscript = "{self.script}"\noptions = {options}\n'
            f'seeds = [0]\ndataset = "{self.dataset}"\nepochs = {self.epochs}\nminutes = 1\n'
        )

    @property
    def place(self) -> Path:
        """Its folder below runs/ and results/."""
        return Path(self.paper) / self.name / "seed0"


# Those with many epochs are disturbed: they train for seconds behind their second checkpoint.
STL = Quick(
    *("stl_snn", "stl_mnist5k_20-epochs_quick", "train.py"),
    *("--noise-samples 20 --decisions 1", "mnist5k", 20),
)
BRP = Quick(
    *("brp_snn", "brp_classification_synth_BRP_30-epochs_quick", "main.py"),
    *("--dataset classification_synth", "classification_synth", 30),
)
SHIFTING = Quick(
    *("shifting_learning", "sl_digits_hidden-40_4-epochs_quick", "SL_mnist.py"),
    *("--dataset digits --hidden 40", "digits", 4),
)
HYBRID = Quick(
    *("hybrid_plasticity", "hp_tolerance_mnist5k_hp_3-epochs_quick"),
    *("tolerance_learning/main_mnist_hp.py", "", "mnist5k", 3),
)
SMOOTH = Quick(
    *("smooth_gd", "gd_single_4-epochs_quick", "experiments/singleneuron/single.py"),
    *("", "made", 4),
)
ALL = (STL, BRP, SHIFTING, HYBRID, SMOOTH)


class Quicks(Copy):
    """A repository in which each paper declares one quick run.

    It has neither data nor a network, so that MNIST's stand-in is taken everywhere.
    """

    def __init__(self, place: Path) -> None:
        (place / "nothing").mkdir()
        environment = {"SNN_DATA": str(place / "nothing"), "OMP_NUM_THREADS": "1", **NO_NETWORK}
        papers = [quick.paper for quick in ALL]
        super().__init__(place / "repository", *papers, **environment)
        for quick in ALL:
            (self.folder / quick.paper / "reproduction.toml").write_text(quick.declared)
        # A real cluster is asked less often.
        with (self.folder / "reproduce/profiles/slurm/profile.yaml").open("a") as profile:
            profile.write("slurm-init-seconds-before-status-checks: 3\n")
        self.engines: list[subprocess.Popen[str]] = []

    def start_all(self, *quicks: Quick) -> subprocess.Popen[str]:
        """Start to make some runs on the cluster."""
        engine = self.start(*(quick.name for quick in quicks), "--profile", "slurm")
        self.engines.append(engine)
        return engine

    def kill_engines(self) -> None:
        """Kill Snakemake, which can end nothing more; what SLURM has runs on."""
        for engine in self.engines:
            if engine.poll() is None:
                process = psutil.Process(engine.pid)
                for each in [process, *process.children(recursive=True)]:
                    each.send_signal(signal.SIGKILL)
                engine.communicate(timeout=60)

    def run(self, quick: Quick) -> Path:
        """Where it runs."""
        return self.folder / "runs" / quick.place

    def kept(self, quick: Quick) -> Path:
        """What is kept of it."""
        return self.folder / "results" / quick.place

    def is_amid(self, quick: Quick) -> bool:
        """Whether it trains on behind two checkpoints."""
        run = self.run(quick)
        begun, ended = run / "checkpoint.previous.pt", run / "result.json"
        assert not ended.exists(), f"{quick.name} is too short to be disturbed"
        return begun.exists()

    def is_kept(self, quick: Quick) -> bool:
        """Whether its result is there."""
        return (self.kept(quick) / "result.json").exists()


@pytest.fixture(scope="session")
def cluster() -> Iterator[slurm.Cluster]:
    if reason := slurm.obstacle():
        pytest.exit(reason, returncode=2)
    with slurm.Cluster() as cluster:
        yield cluster


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Quicks]:
    """A fresh copy; what a test that failed has left at work is ended."""
    copy = Quicks(tmp_path)
    yield copy
    copy.kill_engines()


@pytest.fixture(scope="session")
def undisturbed(cluster: slurm.Cluster, tmp_path_factory: pytest.TempPathFactory) -> Quicks:
    """The runs as they are without a cluster."""
    copy = Quicks(tmp_path_factory.mktemp("undisturbed"))
    copy.make(*(quick.name for quick in ALL), "--profile", "local")
    return copy


def jobs_of(cluster: slurm.Cluster, copy: Quicks, quick: Quick) -> list[slurm.Submitted]:
    """The jobs that were submitted for a run."""
    return [
        job for job in cluster.jobs() if job.folder == copy.folder and quick.name in job.comment
    ]


def end(engine: subprocess.Popen[str]) -> None:
    """Wait for a call to its end."""
    out, err = engine.communicate(timeout=400)
    assert engine.returncode == 0, out + err


def wait_until_amid(copy: Quicks, quick: Quick) -> None:
    """Wait until a run that was submitted trains; others can be in front of it."""
    slurm.wait_until(lambda: copy.is_amid(quick), f"{quick.name} is amid", 300)


def assert_same(scripts_of: Any, copy: Quicks, undisturbed: Quicks, *quicks: Quick) -> None:
    """A run gave the bytes of the undisturbed one, times excepted, and they are what is kept."""
    for quick in quicks:
        run, other = copy.run(quick), undisturbed.run(quick)
        scripts_of(quick.paper).assert_same_run(run, other)
        results = [json.loads((path / "result.json").read_text()) for path in (run, other)]
        for result in results:
            for name in TIMES:
                assert result.pop(name) > 0
        assert results[0] == results[1]
        for name in ("result.json", "metrics.jsonl"):
            assert (copy.kept(quick) / name).read_bytes() == (run / name).read_bytes()


def test_a_killed_job_is_retried_and_ends_as_if_undisturbed(cluster, copy, undisturbed, scripts_of):
    engine = copy.start_all(*ALL)
    wait_until_amid(copy, STL)
    (job,) = jobs_of(cluster, copy, STL)
    cluster.kill_job(job.number)
    end(engine)
    for quick in ALL:
        states = [job.state for job in jobs_of(cluster, copy, quick)]
        assert states == (["CANCELLED"] if quick == STL else []) + ["COMPLETED"], quick.name
    assert {job.node for quick in ALL for job in jobs_of(cluster, copy, quick)} == {"n1", "n2"}
    assert_same(scripts_of, copy, undisturbed, *ALL)


def test_snakemake_is_killed_and_started_again_and_nothing_finished_runs_twice(
    cluster, copy, undisturbed, scripts_of
):
    asked = (BRP, SHIFTING, SMOOTH)
    copy.start_all(*asked)

    def done() -> list[Quick]:
        return [quick for quick in asked if copy.is_kept(quick)]

    slurm.wait_until(lambda: bool(done()), "one has ended", 300)
    copy.kill_engines()
    before = {quick: (copy.kept(quick) / "result.json").stat().st_ino for quick in done()}
    assert len(before) < len(asked)
    end(copy.start_all(*asked))
    for quick, file in before.items():
        assert (copy.kept(quick) / "result.json").stat().st_ino == file  # no other was put there
        assert len(jobs_of(cluster, copy, quick)) == 1
    assert {job.state for quick in asked for job in jobs_of(cluster, copy, quick)} == {"COMPLETED"}
    assert_same(scripts_of, copy, undisturbed, *asked)
    assert "done already: 3 runs" in copy.make(*(quick.name for quick in asked))


def test_a_job_of_a_node_that_dies_ends_on_the_other(cluster, copy, undisturbed, scripts_of):
    engine = copy.start_all(BRP)
    wait_until_amid(copy, BRP)
    (job,) = jobs_of(cluster, copy, BRP)
    cluster.fail(job.node)
    assert copy.is_amid(BRP)
    slurm.wait_until(lambda: cluster.states()[job.node] == "down", "the node is given up")
    cluster.hurry(job.number)
    end(engine)
    (after,) = jobs_of(cluster, copy, BRP)
    assert (after.state, {job.node, after.node}) == ("COMPLETED", {"n1", "n2"})
    assert_same(scripts_of, copy, undisturbed, BRP)
    cluster.start_node(job.node)
