"""What the tests of hybrid plasticity share."""

import contextlib
import io
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


@contextlib.contextmanager
def as_before() -> Iterator[None]:
    """Takes back what programs that run in this process set in it."""
    threads, words = torch.get_num_threads(), sys.argv
    deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        sys.argv = words
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)
        torch.use_deterministic_algorithms(deterministic)


@pytest.fixture(scope="session")
def scripts(scripts_of):
    """The paper's scripts, run in this process: that saves the start of torch.

    One whose environment is another, and one that is sent a signal, has a process of its own.
    """
    made = scripts_of("hybrid_plasticity")
    in_a_process = made.run

    def run(
        script: str | Path, *options: object, **changes: str
    ) -> subprocess.CompletedProcess[str]:
        if changes:
            return in_a_process(script, *options, **changes)
        out, err = io.StringIO(), io.StringIO()
        with as_before(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            _, *sys.argv = made.command(script, *options)
            words = sys.argv
            with pytest.raises(SystemExit) as ended:
                runpy.run_path(words[0], run_name="__main__")
        code = int(ended.value.code or 0)
        return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())

    made.run = run
    return made


@pytest.fixture
def torch_as_before():
    with as_before():
        yield


@pytest.fixture
def call(scripts):
    """Runs a script."""
    return scripts.run
