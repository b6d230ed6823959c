from shared.waiting import OWN, SPINS, set_waiting

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = tuple(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["packages"])
PAPERS = tuple(name for name in PACKAGES if (ROOT / name / "reproduction.toml").is_file())
# They load an OpenMP library, which looks at its variables once.
LIBRARIES = ("torch", "torchvision", "numba", "sklearn", "skimage", "librosa", "tonic")


def test_threads_that_wait_spin_for_a_while():
    environment = {}
    set_waiting(environment)
    assert environment == {"GOMP_SPINCOUNT": str(SPINS)}


@pytest.mark.parametrize("name", OWN)
def test_the_users_own_choice_stays(name):
    environment = {name: "ACTIVE"}
    set_waiting(environment)
    assert environment == {name: "ACTIVE"}


@pytest.mark.parametrize("package", PAPERS)
def test_importing_a_package_says_so_before_a_library_is_loaded(package):
    program = (
        f"import {package}, os, sys\n"
        f"print(os.environ['GOMP_SPINCOUNT'], *sys.modules.keys() & set({LIBRARIES}))"
    )
    environment = {name: value for name, value in os.environ.items() if name not in OWN}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == str(SPINS), done.stdout + done.stderr


def imported(file: Path) -> list[str]:
    """Top packages that a file's own lines import, in their order."""
    found = []
    for line in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(line, ast.Import):
            found += [name.name.split(".")[0] for name in line.names]
        elif isinstance(line, ast.ImportFrom) and line.module:
            found.append(line.module.split(".")[0])
    return found


def test_every_program_does_so_first():
    folders = (*(ROOT / package for package in PACKAGES), ROOT / "benchmarks")
    there = [file for folder in folders for file in folder.rglob("*.py")]
    files = [file for file in there if "tests" not in file.parts]
    programs = [file for file in files if '__name__ == "__main__"' in file.read_text("utf-8")]
    assert programs
    late = []
    for file in programs:
        names = [name for name in imported(file) if name in (*PACKAGES, *LIBRARIES)]
        late += [str(file)] if names and names[0] in LIBRARIES else []
    assert not late, "these need `import shared.waiting` first"
