"""Sessions: experiments, the reproduction, tests, lint, bench, report. `nox -l` lists them.

What stands behind `--` goes to the script, in test sessions to pytest. Every session has an
environment of its own with its paper's extra only; uv links large wheels, so that is cheap.
`nox -s tests -- --constraints` (or any other session) installs the versions of constraints.txt.
"""

import os
from collections.abc import Callable
from typing import Literal, NamedTuple

import nox

nox.needs_version = ">=2025.2"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "tests"]
nox.options.error_on_missing_interpreters = False  # tests_newest takes those that are there

PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)
# Papers whose code is here.
PAPERS = ("shifting_learning", "brp_snn", "stl_snn", "hybrid_plasticity", "smooth_gd")
CLUSTERS = ("cluster", "kubernetes")
BENCHMARKS = (*PAPERS, "waiting", "comparison")
ENVIRONMENT = {
    "MPLBACKEND": "agg",  # figures go to files
    "PYTHONDONTWRITEBYTECODE": "",  # compiling torch's sources at every start takes 20 s
}
# The word by which a session is told to install the versions of constraints.txt.
CONSTRAINTS = "--constraints"


class Experiment(NamedTuple):
    """What a session of an experiment does.

    Attributes:
        paper: folder, and extra that is installed.
        runs: a script of that folder and its options for each run, one after the other.
        about: what `nox -l` says.
        compare: script and options that draw what compares the runs, if any.
        compare_takes: "all" that stands behind `--`, or of it --quick alone, as that ("quick") or
            as a "variant".
    """

    paper: str
    runs: tuple[tuple[str, ...], ...]
    about: str
    compare: tuple[tuple[str, ...], ...] = ()
    compare_takes: Literal["all", "quick", "variant"] = "quick"


def _sl(script: str, about: str, *options: str) -> Experiment:
    return Experiment("shifting_learning", ((script, *options),), about)


def _brp(dataset: str, about: str) -> Experiment:
    return Experiment("brp_snn", (("main.py", "--dataset", dataset),), about)


def _stl(dataset: str, about: str) -> Experiment:
    return Experiment("stl_snn", (("train.py", "-data", dataset),), about)


def _gd(script: str, about: str) -> Experiment:
    return Experiment("smooth_gd", ((f"experiments/{script}",),), about)


def _hp(about: str, names: tuple[str, ...], *scripts: str) -> Experiment:
    compare = tuple(("compare.py", name) for name in names)
    return Experiment("hybrid_plasticity", tuple((s,) for s in scripts), about, compare, "variant")


BRP_MODES = ("BP", "FA", "DFA", "sDFA", "BRP", "shallow")
EXPERIMENTS = {
    # shifting learning
    "sl_xor": _sl("SL_xor.py", "XOR: one network, or `-- --repeat 1000`."),
    "sl_iris": _sl("SL_small.py", "Iris, five folds and ten seeds; `-- --dataset wine` or other."),
    "sl_tca": _sl("SL_TCA.py", "Temporal credit assignment: count the rewards of a spike train."),
    "sl_mnist": _sl("SL_mnist.py", "MNIST, 784-800-10, 20 epochs: minutes on two cores."),
    "sl_fashion": _sl(
        "SL_mnist.py", "Fashion-MNIST on the same network.", "--dataset", "fashion_mnist"
    ),
    # BRP-SNN
    "brp_mnist": Experiment(
        "brp_snn",
        (("main.py",),),
        "MNIST by BRP; `-- --train-mode DFA` or another mode, `-- --rate` without spikes.",
    ),
    "brp_modes": Experiment(
        "brp_snn",
        tuple(("main.py", "--train-mode", mode) for mode in BRP_MODES),
        "All modes, of MNIST or another --dataset, then their curves; `-- --epochs 3`, say.",
        (("compare.py",),),
        "all",
    ),
    "brp_cifar10": _brp("CIFAR10aug", "Mirrored CIFAR-10 by BRP; meant for a GPU."),
    "brp_tidigits": _brp("tidigits", "Spoken digits by BRP: TIDigits where you have it, or fsdd."),
    "brp_gesture": _brp("dvsgesture", "Gestures in front of an event camera (DVS Gesture) by BRP."),
    "brp_nettalk": _brp("nettalk", "How English words are pronounced (NETtalk) by BRP."),
    "brp_synthetic": Experiment(
        "brp_snn",
        tuple(
            ("main.py", "--dataset", task) for task in ("classification_synth", "regression_synth")
        ),
        "Synthetic classification, then regression, by BRP.",
    ),
    "brp_lisnn": Experiment(
        "brp_snn",
        (("lisnn/train.py", "--lateral"), ("lisnn/train.py", "--no-lateral")),
        "LISNN on MNIST with and without lateral interactions; `-- --dataset nmnist` or other.",
        (("lisnn/compare.py",),),
    ),
    # STL-SNN
    "stl_mnist": _stl("mnist", "MNIST by STL; `-- --learning sl` or `tl`: synapses or thresholds."),
    "stl_fashion": _stl("fashion_mnist", "Fashion-MNIST on the same skeleton; `-- --steps 8`."),
    "stl_cifar10": _stl("cifar10", "CIFAR-10, 8 layers; days on two cores, meant for a GPU."),
    "stl_nmnist": _stl("nmnist", "N-MNIST, digits in front of an event camera."),
    "stl_modes": Experiment(
        "stl_snn",
        tuple(("train.py", "-data", "mnist", "--learning", mode) for mode in ("stl", "sl", "tl")),
        "MNIST by STL, SL and TL, then figures that compare them; `-- --width 0.125`, say.",
        (("compare.py",),),
        "all",
    ),
    "stl_depth": Experiment(
        "stl_snn",
        (("sweep.py", "depth"),),
        "Energy against the number of convolutions; `-- --width 0.25` for a laptop.",
    ),
    "stl_theta": Experiment(
        "stl_snn",
        (("sweep.py", "theta"),),
        "What becomes of other initial thresholds; `-- --width 0.25` for a laptop.",
    ),
    # hybrid plasticity
    "hp_simple": _hp(
        "Fashion-MNIST by HP, GP and LP, then Gaussian noise, and their comparison.",
        ("hp_simple",),
        *(f"simple_example/main_fashion_{rule}.py" for rule in ("hp", "gp", "lp")),
    ),
    "hp_tolerance": _hp(
        "Fault tolerance: HP and GP on Fashion-MNIST and MNIST, cropped and noisy.",
        ("hp_tolerance_fashion_mnist", "hp_tolerance_mnist"),
        *(
            f"tolerance_learning/main_{d}_{r}.py"
            for d in ("fashion", "mnist")
            for r in ("hp", "gp")
        ),
    ),
    "hp_fewshot": _hp(
        "Omniglot, 5-way 1-shot, by HP and GP.",
        ("hp_fewshot",),
        *(f"few_shot_learning/main_run_{rule}.py" for rule in ("hp", "gp")),
    ),
    "hp_multitask": _hp(
        "50 pixel-shuffled MNIST tasks by HP, GP and spiking EWC.",
        ("hp_multitask",),
        "multitask_learning/hp_model/main_hp_model.py",
        "multitask_learning/gp_model/main_gp_model.py",
        "multitask_learning/spiking_ewc/main_spiking_ewc.py",
    ),
    # smooth exact gradient descent
    "gd_concept": _gd("concept/concept.py", "How a spike appears, quadratic and leaky."),
    "gd_single": _gd("singleneuron/single.py", "A neuron learns two spike times, 3000 trials."),
    "gd_rnn": _gd(
        "rnn/rnn.py", "A recurrent network learns spike patterns; `-- --line-search` as in S1."
    ),
    "gd_mnist": _gd(
        "mnist/mnist.py", "MNIST, 784-100-100-10, 100 epochs; `-- --dataset yin_yang` for points."
    ),
}


def _words(session: nox.Session) -> list[str]:
    """What stands behind `--` for the script."""
    return [word for word in session.posargs if word != CONSTRAINTS]


def _install(session: nox.Session, *extras: str, groups: tuple[str, ...] = ()) -> None:
    """Install the project with extras, and groups of pyproject.toml."""
    pinned = ("-c", "constraints.txt") if CONSTRAINTS in session.posargs else ()
    tools = nox.project.dependency_groups(PROJECT, *groups) if groups else ()
    session.install(*pinned, "-e", f".[{','.join(extras)}]" if extras else ".", *tools)


def _run(session: nox.Session, script: str, *options: str) -> None:
    session.run("python", script, *options, env=ENVIRONMENT)


def _carry_out(session: nox.Session, experiment: Experiment) -> None:
    """Do the runs of an experiment, then compare them."""
    words = _words(session)
    is_several = len(experiment.runs) > 1
    if is_several and any(word.split("=")[0] == "--out" for word in words):
        session.error("--out is the folder of one run; leave it out, and runs/ has one for each")
    _install(session, experiment.paper)
    for script, *options in experiment.runs:
        _run(session, f"{experiment.paper}/{script}", *options, *words)
    quick = ["--variant", "quick"] if experiment.compare_takes == "variant" else ["--quick"]
    passed_on = words if experiment.compare_takes == "all" else quick if "--quick" in words else []
    for script, *options in experiment.compare:
        _run(session, f"{experiment.paper}/{script}", *options, *passed_on)


def _register(name: str, experiment: Experiment) -> None:
    def do(session: nox.Session) -> None:
        _carry_out(session, experiment)

    do.__doc__ = experiment.about
    nox.session(do, name=name)


for _name, _experiment in EXPERIMENTS.items():
    _register(_name, _experiment)


@nox.session
def hp_classification(session: nox.Session) -> None:
    """MNIST with a convolutional network; `-- fashion_mnist` or `-- cifar10` for another set."""
    words = _words(session)
    dataset = words.pop(0) if words and not words[0].startswith("-") else "mnist"
    _install(session, "hybrid_plasticity")
    _run(session, f"hybrid_plasticity/classification/{dataset}/main_{dataset}.py", *words)


# ------------------------------------------------------------------------------- tests and tools


def _test(session: nox.Session, *folders: str) -> None:
    """Run pytest on folders; arguments that are paths replace them.

    Without arguments a process on each core takes a file of tests at a time, with one thread, in
    the order of the folders: those whose files take longest come first.
    """
    words = _words(session)
    arguments = words or ["-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder"]
    has_path = any(
        not word.startswith("-") and os.path.exists(word.split("::")[0]) for word in arguments
    )
    paths = () if has_path else folders
    environment = ENVIRONMENT if words else {**ENVIRONMENT, "OMP_NUM_THREADS": "1"}
    session.run("python", "-m", "pytest", *paths, *arguments, env=environment)


def _test_session(paper: str) -> Callable[[nox.Session], None]:
    def do(session: nox.Session) -> None:
        _install(session, paper, groups=("tests",))
        _test(session, paper)

    do.__doc__ = f"Tests of {paper}."
    return do


for _paper in PAPERS:
    nox.session(_test_session(_paper), name=f"test_{_paper}")


@nox.session
def test_comparison(session: nox.Session) -> None:
    """Tests of the comparison."""
    _install(session, "comparison", "reproduce", groups=("tests",))
    _test(session, "comparison")


@nox.session
def tests(session: nox.Session) -> None:
    """Tests of `shared`, of every paper, of the verdicts and of the benchmarks."""
    _install(session, *PAPERS, "comparison", "reproduce", *CLUSTERS, groups=("tests",))
    _test(session, "reproduce", "comparison", *reversed(PAPERS), "shared", "benchmarks")


def _test_versions(session: nox.Session, install: tuple[str, ...], test: tuple[str, ...]) -> None:
    """Imports, golden vectors and quick runs of every paper, with versions that uv chooses."""
    tools = nox.project.dependency_groups(PROJECT, "tests")
    session.install(*install, "-e", f".[{','.join((*PAPERS, 'comparison', 'reproduce'))}]", *tools)
    shared = [f"shared/tests/test_{name}.py" for name in ("modules", "tensors")]
    golden = [f"{paper}/tests/test_golden.py" for paper in PAPERS]
    for words in ((*shared, *golden), ("-k", "quick", *PAPERS)):
        session.run("python", "-m", "pytest", *test, *words, *_words(session), env=ENVIRONMENT)


@nox.session(python=PYTHONS[0], venv_backend="uv")
def tests_oldest(session: nox.Session) -> None:
    """Imports, golden vectors and quick runs with the oldest versions that are allowed."""
    # An old release may use what a newer one of its own dependencies advises against.
    tolerated = ("-W", "default::DeprecationWarning", "-W", "default::FutureWarning")
    _test_versions(session, ("--resolution", "lowest-direct"), tolerated)


@nox.session(python=PYTHONS, venv_backend="uv")
def tests_newest(session: nox.Session) -> None:
    """The same with the newest versions, on each Python that is there or that uv can have."""
    _test_versions(session, ("--upgrade",), ())


@nox.session
def test_peers(session: nox.Session) -> None:
    """Networks that others read back: snnTorch by NIR, ONNX's runtime; NeuroBench's counts."""
    _install(session, *PAPERS, "comparison", "nir", groups=("tests", "peers"))
    _test(session, "peers")


@nox.session
def test_page(session: nox.Session) -> None:
    """The page of claims in Chromium: filters, sorting, pictures, keyboard, a phone, axe."""
    _install(session, "reproduce", groups=("tests", "browser"))
    words = _words(session)
    session.run("python", "-m", "pytest", "reproduce/tests/in_browser.py", *words, env=ENVIRONMENT)


@nox.session
def test_cluster(session: nox.Session) -> None:
    """Quick runs of every paper on a SLURM of two nodes that it starts here; needs root."""
    _install(session, *PAPERS, "reproduce", "cluster", groups=("tests",))
    words = _words(session)
    session.run("python", "-m", "pytest", "reproduce/tests/on_cluster.py", *words, env=ENVIRONMENT)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff (lint and format) and mypy."""
    _install(session, *PAPERS, "comparison", "reproduce", groups=("lint",))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session
def bench(session: nox.Session) -> None:
    """Time and memory of every paper, fast against plain; `-- stl_snn` for one.

    `-- growth`: how steps grow; `-- waiting`: every paper's step beside other programs;
    `-- comparison`: all rules in turns; `-- --against FOLDER` or `-- stl_snn --against FOLDER`:
    beside the published programs, of which the folder has clones.
    """
    words = _words(session)
    if any(word.split("=")[0] == "--against" for word in words):
        paper = () if words[0].startswith("-") else ("--cases", words.pop(0))
        _install(session, *PAPERS)
        _run(session, "benchmarks/bench_against.py", *paper, *words)
        return
    named = (*BENCHMARKS, "growth")
    chosen = (words.pop(0),) if words and words[0] in named else BENCHMARKS
    # Libraries that these are timed against; nothing else needs them.
    against = {"brp_snn", "stl_snn", "smooth_gd", "growth"} & set(chosen)
    extra = ("comparison",) if "comparison" in chosen else ()
    _install(session, *PAPERS, *extra, groups=("bench",) if against else ())
    for name in chosen:
        script = name if name == "growth" else f"bench_{name}"
        _run(session, f"benchmarks/{script}.py", *words)


@nox.session
def gpu(session: nox.Session) -> None:
    """On a GPU, in under ten minutes: Triton kernels against their oracles, then speed."""
    _install(session, *PAPERS, "gpu", groups=("tests", "bench"))
    _run(session, "benchmarks/on_gpu.py", *_words(session))


@nox.session
def compare(session: nox.Session) -> None:
    """All rules on one task: `-- --quick`, or a reduced edition that fits `-- --minutes 30`."""
    _install(session, "comparison")
    _run(session, "comparison/session.py", *_words(session))


COMPARED = (
    "hybrid_plasticity/compare.py hp_simple",
    "hybrid_plasticity/compare.py hp_tolerance_fashion_mnist",
    "smooth_gd/experiments/mnist/silence.py --epoch 10",
    "stl_snn/compare.py --width 0.125 --epochs 3 --decisions 5",
    "stl_snn/compare.py -data nmnist --width 0.0625 --epochs 15",
    "stl_snn/compare.py -data fashion_mnist --width 0.125 --epochs 10 --whole-decay",
)
"""Figures of stored runs that the papers' own programs draw."""


@nox.session
def report(session: nox.Session) -> None:
    """Tables of results and of speed, claims with verdicts, figures, report.html: from results/."""
    _install(session, "comparison", "reproduce")
    for module in ("shared.report", "reproduce", "comparison.report"):
        session.run("python", "-m", module, *_words(session), env=ENVIRONMENT)
    _run(session, "benchmarks/report.py", *_words(session))
    if not session.posargs:
        for script in COMPARED:
            _run(session, *script.split(), "--results", "results")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation site in site/, every link and name in it checked."""
    _install(session, groups=("docs",))
    quiet = {"DISABLE_MKDOCS_2_WARNING": "true", "NO_MKDOCS_2_WARNING": "1"}
    session.run("mkdocs", "build", "--strict", *_words(session), env=quiet)


@nox.session
def reproduce(session: nox.Session) -> None:
    """What is missing of `-- sl_mnist`, `-- claim:NAME` or `-- figure:NAME`; `-- --list`."""
    words = _words(session)
    computed = () if "--list" in words else (*PAPERS, "comparison", *CLUSTERS)
    _install(session, *computed, "reproduce")
    session.run("python", "-m", "reproduce.make", *words, env=ENVIRONMENT)


@nox.session
def nightly(session: nox.Session) -> None:
    """Compute the cheapest stored run of every paper anew; fails if a number has moved."""
    _install(session, *PAPERS, "comparison", "reproduce")
    session.run("python", "-m", "reproduce.make", "--nightly", *_words(session), env=ENVIRONMENT)
