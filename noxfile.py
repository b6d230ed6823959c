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

PAPERS = ("shifting_learning",)  # papers whose code is here
TEST_TOOLS = ("hypothesis>=6.100", "pytest>=8.2", "pytest-timeout>=2.3")
ENVIRONMENT = {
    "MPLBACKEND": "agg",  # figures go to files
    "PYTHONDONTWRITEBYTECODE": "",  # compiling torch's sources at every start takes 20 s
}


def _install(session: nox.Session, *extras: str) -> None:
    session.install("-e", f".[{','.join(extras)}]" if extras else ".")


def _experiment(session: nox.Session, paper: str, script: str, *options: str) -> None:
    _install(session, paper)
    words = (f"{paper}/{script}", *options, *session.posargs)
    session.run("python", *words, env=ENVIRONMENT)


def _test(session: nox.Session, *folders: str) -> None:
    """Run pytest on folders; a first argument that is a path replaces them."""
    session.install(*TEST_TOOLS)
    arguments = session.posargs or []
    has_path = any(
        not word.startswith("-") and os.path.exists(word.split("::")[0]) for word in arguments
    )
    paths = () if has_path else folders
    session.run("python", "-m", "pytest", *paths, *arguments, env=ENVIRONMENT)


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
    """Time and memory, fused against plain, outputs compared."""
    _install(session, *PAPERS)
    script = "benchmarks/bench_shifting_learning.py"
    session.run("python", script, *session.posargs, env=ENVIRONMENT)


@nox.session
def report(session: nox.Session) -> None:
    """The results table of README.md and its figures, from results/."""
    _install(session)
    session.run("python", "-m", "shared.report", *session.posargs, env=ENVIRONMENT)
