"""Sessions: an experiment, a test suite, lint, bench, report. `nox -l` lists them.

What stands behind `--` goes to the script, in test sessions to pytest. Every session has an
environment of its own with its paper's extra only; uv links large wheels, so that is cheap.
"""

import os

import nox

nox.needs_version = ">=2024.10"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "tests"]

# Papers whose code is here.
PAPERS = ("shifting_learning", "brp_snn", "stl_snn", "hybrid_plasticity", "smooth_gd")
TEST_TOOLS = (
    "hypothesis>=6.100",
    "pytest>=8.2",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",
    "setuptools>=77",  # a test builds a wheel
)
# Libraries that STL-SNN is timed against; nothing else needs them.
PEERS = ("snntorch==1.0.0", "spikingjelly==2.0.0")
ENVIRONMENT = {
    "MPLBACKEND": "agg",  # figures go to files
    "PYTHONDONTWRITEBYTECODE": "",  # compiling torch's sources at every start takes 20 s
}


def _install(session: nox.Session, *extras: str) -> None:
    session.install("-e", f".[{','.join(extras)}]" if extras else ".")


def _experiment(session: nox.Session, paper: str, script: str, *options: str) -> None:
    _install(session, paper)
    _run(session, f"{paper}/{script}", *options, *session.posargs)


def _check_several(session: nox.Session) -> None:
    """Refuse --out in a session of several runs."""
    if any(word.split("=")[0] == "--out" for word in session.posargs):
        session.error("--out is the folder of one run; leave it out, and runs/ has one for each")


def _run(session: nox.Session, script: str, *options: str) -> None:
    session.run("python", script, *options, env=ENVIRONMENT)


def _compare(session: nox.Session, *experiments: str) -> None:
    """Figures that compare the rules of hybrid plasticity, from the runs in runs/."""
    variant = ("--variant", "quick") if "--quick" in session.posargs else ()
    for experiment in experiments:
        _run(session, "hybrid_plasticity/compare.py", experiment, *variant)


def _test(session: nox.Session, *folders: str) -> None:
    """Run pytest on folders; arguments that are paths replace them.

    Without arguments a process a core takes a file of tests at a time, with a thread each.
    """
    session.install(*TEST_TOOLS)
    arguments = session.posargs or ["-n", "auto", "--dist", "loadfile"]
    has_path = any(
        not word.startswith("-") and os.path.exists(word.split("::")[0]) for word in arguments
    )
    paths = () if has_path else folders
    environment = ENVIRONMENT if session.posargs else {**ENVIRONMENT, "OMP_NUM_THREADS": "1"}
    session.run("python", "-m", "pytest", *paths, *arguments, env=environment)


# ------------------------------------------------------------------------- shifting learning


@nox.session
def sl_xor(session: nox.Session) -> None:
    """XOR: one network, or `-- --repeat 1000`."""
    _experiment(session, "shifting_learning", "SL_xor.py")


@nox.session
def sl_iris(session: nox.Session) -> None:
    """Iris, five folds and ten seeds; `-- --dataset wine` for another table."""
    _experiment(session, "shifting_learning", "SL_small.py")


@nox.session
def sl_tca(session: nox.Session) -> None:
    """Temporal credit assignment: count the rewards of a spike train."""
    _experiment(session, "shifting_learning", "SL_TCA.py")


@nox.session
def sl_mnist(session: nox.Session) -> None:
    """MNIST, 784-800-10, 20 epochs: a few minutes on two cores."""
    _experiment(session, "shifting_learning", "SL_mnist.py")


@nox.session
def sl_fashion(session: nox.Session) -> None:
    """Fashion-MNIST on the same network."""
    _experiment(session, "shifting_learning", "SL_mnist.py", "--dataset", "fashion_mnist")


@nox.session
def test_shifting_learning(session: nox.Session) -> None:
    """Tests of shifting learning."""
    _install(session, "shifting_learning")
    _test(session, "shifting_learning")


# ----------------------------------------------------------------------------------- BRP-SNN


@nox.session
def brp_mnist(session: nox.Session) -> None:
    """MNIST by BRP; `-- --train-mode DFA` or another mode, `-- --rate` without spikes."""
    _experiment(session, "brp_snn", "main.py")


@nox.session
def brp_modes(session: nox.Session) -> None:
    """All modes, of MNIST or another --dataset, then their curves; `-- --epochs 3`, say."""
    _check_several(session)
    for mode in ("BP", "FA", "DFA", "sDFA", "BRP", "shallow"):
        _experiment(session, "brp_snn", "main.py", "--train-mode", mode)
    _run(session, "brp_snn/compare.py", *session.posargs)


@nox.session
def brp_cifar10(session: nox.Session) -> None:
    """Mirrored CIFAR-10 by BRP; hours on two cores, meant for a GPU."""
    _experiment(session, "brp_snn", "main.py", "--dataset", "CIFAR10aug")


@nox.session
def brp_tidigits(session: nox.Session) -> None:
    """Spoken digits by BRP: TIDigits where you have it, else the free set fsdd."""
    _experiment(session, "brp_snn", "main.py", "--dataset", "tidigits")


@nox.session
def brp_gesture(session: nox.Session) -> None:
    """Gestures in front of an event camera (DVS Gesture) by BRP."""
    _experiment(session, "brp_snn", "main.py", "--dataset", "dvsgesture")


@nox.session
def brp_nettalk(session: nox.Session) -> None:
    """How English words are pronounced (NETtalk) by BRP."""
    _experiment(session, "brp_snn", "main.py", "--dataset", "nettalk")


@nox.session
def brp_synthetic(session: nox.Session) -> None:
    """Synthetic classification, then regression, by BRP."""
    _check_several(session)
    for task in ("classification_synth", "regression_synth"):
        _experiment(session, "brp_snn", "main.py", "--dataset", task)


@nox.session
def brp_lisnn(session: nox.Session) -> None:
    """LISNN on MNIST with and without lateral interactions; `-- --dataset nmnist` for another."""
    _check_several(session)
    for switch in ("--lateral", "--no-lateral"):
        _experiment(session, "brp_snn", "lisnn/train.py", switch)
    _run(session, "brp_snn/lisnn/compare.py", *(w for w in session.posargs if w == "--quick"))


@nox.session
def test_brp_snn(session: nox.Session) -> None:
    """Tests of BRP-SNN."""
    _install(session, "brp_snn")
    _test(session, "brp_snn")


# ----------------------------------------------------------------------------------- STL-SNN


@nox.session
def stl_mnist(session: nox.Session) -> None:
    """MNIST by STL; `-- --learning sl` or `tl`: synapses or thresholds only."""
    _experiment(session, "stl_snn", "train.py", "-data", "mnist")


@nox.session
def stl_fashion(session: nox.Session) -> None:
    """Fashion-MNIST on the same skeleton; `-- --steps 8`."""
    _experiment(session, "stl_snn", "train.py", "-data", "fashion_mnist")


@nox.session
def stl_cifar10(session: nox.Session) -> None:
    """CIFAR-10, 8 layers; days on two cores, meant for a GPU."""
    _experiment(session, "stl_snn", "train.py", "-data", "cifar10")


@nox.session
def stl_nmnist(session: nox.Session) -> None:
    """N-MNIST, digits in front of an event camera."""
    _experiment(session, "stl_snn", "train.py", "-data", "nmnist")


@nox.session
def stl_modes(session: nox.Session) -> None:
    """MNIST by STL, SL and TL, then figures that compare them; `-- --width 0.125`, say."""
    _check_several(session)
    for mode in ("stl", "sl", "tl"):
        _experiment(session, "stl_snn", "train.py", "-data", "mnist", "--learning", mode)
    _run(session, "stl_snn/compare.py", *session.posargs)


@nox.session
def stl_depth(session: nox.Session) -> None:
    """Energy against the number of convolutions; `-- --width 0.25` for a laptop."""
    _experiment(session, "stl_snn", "sweep.py", "depth")


@nox.session
def stl_theta(session: nox.Session) -> None:
    """What becomes of other initial thresholds; `-- --width 0.25` for a laptop."""
    _experiment(session, "stl_snn", "sweep.py", "theta")


@nox.session
def test_stl_snn(session: nox.Session) -> None:
    """Tests of STL-SNN."""
    _install(session, "stl_snn")
    _test(session, "stl_snn")


# ------------------------------------------------------------------------- hybrid plasticity


@nox.session
def hp_simple(session: nox.Session) -> None:
    """Fashion-MNIST by HP, GP and LP, then Gaussian noise, and their comparison."""
    _check_several(session)
    for rule in ("hp", "gp", "lp"):
        _experiment(session, "hybrid_plasticity", f"simple_example/main_fashion_{rule}.py")
    _compare(session, "hp_simple")


@nox.session
def hp_classification(session: nox.Session) -> None:
    """MNIST with a convolutional network; `-- fashion_mnist` or `-- cifar10` for another set."""
    words = list(session.posargs)
    dataset = words.pop(0) if words and not words[0].startswith("-") else "mnist"
    _install(session, "hybrid_plasticity")
    _run(session, f"hybrid_plasticity/classification/{dataset}/main_{dataset}.py", *words)


@nox.session
def hp_tolerance(session: nox.Session) -> None:
    """Fault tolerance: HP and GP on Fashion-MNIST and MNIST, cropped and noisy."""
    _check_several(session)
    for dataset in ("fashion", "mnist"):
        for rule in ("hp", "gp"):
            script = f"tolerance_learning/main_{dataset}_{rule}.py"
            _experiment(session, "hybrid_plasticity", script)
    _compare(session, "hp_tolerance_fashion_mnist", "hp_tolerance_mnist")


@nox.session
def hp_fewshot(session: nox.Session) -> None:
    """Omniglot, 5-way 1-shot, by HP and GP."""
    _check_several(session)
    for rule in ("hp", "gp"):
        _experiment(session, "hybrid_plasticity", f"few_shot_learning/main_run_{rule}.py")
    _compare(session, "hp_fewshot")


@nox.session
def hp_multitask(session: nox.Session) -> None:
    """50 pixel-shuffled MNIST tasks by HP, GP and spiking EWC."""
    _check_several(session)
    for script in ("hp_model/main_hp.py", "gp_model/main_gp.py", "spiking_ewc/main_ewc.py"):
        _experiment(session, "hybrid_plasticity", f"multitask_learning/{script}")
    _compare(session, "hp_multitask")


@nox.session
def test_hybrid_plasticity(session: nox.Session) -> None:
    """Tests of hybrid plasticity."""
    _install(session, "hybrid_plasticity")
    _test(session, "hybrid_plasticity")


# --------------------------------------------------------------- smooth exact gradient descent


@nox.session
def gd_concept(session: nox.Session) -> None:
    """How a spike appears in a quadratic and in a leaky neuron."""
    _experiment(session, "smooth_gd", "experiments/concept/concept.py")


@nox.session
def gd_single(session: nox.Session) -> None:
    """A single neuron learns two spike times, 3000 trials."""
    _experiment(session, "smooth_gd", "experiments/singleneuron/single.py")


@nox.session
def gd_rnn(session: nox.Session) -> None:
    """A recurrent network learns spike patterns; `-- --line-search` as in the supplement."""
    _experiment(session, "smooth_gd", "experiments/rnn/rnn.py")


@nox.session
def gd_mnist(session: nox.Session) -> None:
    """MNIST, 784-100-100-10 theta neurons, 100 epochs; `-- --dataset yin_yang` for points."""
    _experiment(session, "smooth_gd", "experiments/mnist/mnist.py")


@nox.session
def test_smooth_gd(session: nox.Session) -> None:
    """Tests of smooth exact gradient descent."""
    _install(session, "smooth_gd")
    session.install("beartype>=0.20")
    _test(session, "smooth_gd")


# ------------------------------------------------------------------------------- everything


@nox.session
def tests(session: nox.Session) -> None:
    """Tests of `shared` and of every paper."""
    _install(session, *PAPERS)
    _test(session, "shared", *PAPERS)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff (lint and format) and mypy."""
    _install(session, *PAPERS)
    session.install("mypy>=1.15", "ruff>=0.9", "types-psutil", "types-tqdm")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session
def bench(session: nox.Session) -> None:
    """Time and memory of every paper, fast against plain; `-- hybrid_plasticity` for one."""
    _install(session, *PAPERS)
    words = list(session.posargs)
    papers = (words.pop(0),) if words and words[0] in PAPERS else PAPERS
    if "stl_snn" in papers:
        session.install(*PEERS)
    for paper in papers:
        _run(session, f"benchmarks/bench_{paper}.py", *words)


@nox.session
def report(session: nox.Session) -> None:
    """The results table of README.md and its figures, from results/."""
    _install(session)
    session.run("python", "-m", "shared.report", *session.posargs, env=ENVIRONMENT)
