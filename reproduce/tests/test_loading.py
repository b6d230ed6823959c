"""The blocks of docs/loading.md give back what the runs that they load have said."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shared.run import REPOSITORY

PAGE = (REPOSITORY / "docs" / "loading.md").read_text()
COMMANDS = re.search(r"^```sh\n(.*?)^```$", PAGE, re.M | re.S)[1].splitlines()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)


def test_every_command_has_its_block():
    assert len(COMMANDS) == len(BLOCKS) == 5


def output_of(folder: Path, *words: str) -> str:
    """What python prints in a process of its own: programs set JAX and torch up for all of it."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# Spikes of BRP's inputs are drawn anew: a hundred or more samples, so many points apart.
@pytest.mark.parametrize(("number", "apart"), [(0, 0), (1, 0.1), (2, 0), (3, 1e-6), (4, 1e-6)])
def test_a_network_comes_back(number, apart, tmp_path):
    script, *options = COMMANDS[number].removeprefix("python ").split()
    output_of(tmp_path, str(REPOSITORY / script), *options)
    found = float(output_of(tmp_path, "-c", f"{BLOCKS[number]}\nprint(found)").split()[-1])
    (result,) = tmp_path.rglob("result.json")
    stored = json.loads(Path(result).read_text())["metrics"]["test_accuracy_last"]
    assert abs(found - stored) <= apart
