"""What the tests of hybrid plasticity share."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def scripts(scripts_of):
    return scripts_of("hybrid_plasticity")


@pytest.fixture(scope="session")
def has_fashion_mnist(scripts) -> bool:
    root = Path(os.environ.get("SNN_DATA") or scripts.folder.parent / "datasets")
    return (root / "FashionMNIST" / "raw").is_dir()


@pytest.fixture
def torch_as_before():
    """Takes back what programs that run in this process set in torch."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


@pytest.fixture
def call(scripts, torch_as_before, monkeypatch, capsys):
    """Runs a script like `scripts.run`, but in this process: that saves the start of torch."""

    def run(script: str | Path, *options: object) -> subprocess.CompletedProcess[str]:
        _, *words = scripts.command(script, *options)
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(words[0], run_name="__main__")
        return subprocess.CompletedProcess(words, ended.value.code, *capsys.readouterr())

    return run
