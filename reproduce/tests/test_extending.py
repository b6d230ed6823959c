"""The walk-through of docs/extending.md, done in a copy of the repository."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from reproduce.tests.copies import copy_tree
from shared.run import REPOSITORY

PAGE = REPOSITORY / "docs" / "extending.md"
COPIED = (
    *("shared", "shifting_learning", "brp_snn", "stl_snn", "comparison", "reproduce", "docs"),
    *("README.md", "pyproject.toml"),
)
FENCE = re.compile(
    r"^```(\w+)(?: file=(\S+))?(?: (before|instead-of)=\"([^\n]*)\")?\n(.*?)^```$", re.M | re.S
)


class Block(NamedTuple):
    language: str
    file: str
    how: str
    anchor: str
    text: str


def blocks() -> list[Block]:
    found = [Block(*match) for match in FENCE.findall(PAGE.read_text())]
    return [block._replace(anchor=block.anchor.replace('\\"', '"')) for block in found]


def applied(text: str, block: Block) -> str:
    if not block.how:  # a new file, or more of one
        return f"{text}\n{block.text}".lstrip()
    assert text.count(block.anchor) == 1, f"{block.file} has no single {block.anchor}"
    behind = f"\n\n{block.anchor}" if block.how == "before" else ""
    return text.replace(block.anchor, block.text.rstrip("\n") + behind)


@pytest.fixture(scope="module")
def listed(tmp_path_factory) -> str:
    """What the walk-through prints in its own copy."""
    folder = tmp_path_factory.mktemp("copy") / "repository"
    ignored = shutil.ignore_patterns("tests", "runs")
    for name in COPIED:
        source = REPOSITORY / name
        if source.is_dir():
            copy_tree(source, folder / name, ignored)
        else:
            shutil.copy(source, folder / name)
    for block in blocks():
        if block.file:
            path = folder / block.file
            before = path.read_text() if path.exists() else ""
            path.write_text(applied(before, block))
    commands = "".join(block.text for block in blocks() if block.language == "sh")
    python = Path(sys.executable).parent
    done = subprocess.run(
        ["bash", "-euc", commands],
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{python}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(folder),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_walk_through_ends_with_a_verdict(listed):
    assert re.search(r"sl_bars_hidden-40_signed_3-epochs +bars +done, 2 seeds", listed)
    assert re.search(r"claim:sl_signed_learns +(holds|does not hold|undecided)", listed)


def test_a_rule_joins_the_comparison(listed):
    assert re.search(r"^cmp_digits_random_quick, digits, seed 0, 2 epochs", listed, re.M)
    assert re.search(r"^test_accuracy_4_bits +0\.\d+", listed, re.M)


def lines_of(language: str, compared: bool) -> list[int]:
    """Lines of the steps in a language, of those that join the comparison or of the others."""
    return [
        len(block.text.splitlines())
        for block in blocks()
        if block.language == language
        and block.file
        and block.file.startswith("comparison/") == compared
    ]


@pytest.mark.parametrize("language", ["python", "toml"])
def test_no_step_takes_more_than_sixty_lines(language):
    steps = lines_of(language, compared=False)
    assert steps
    assert sum(steps) < 60


def test_a_rule_joins_the_comparison_in_less_than_eighty_lines():
    (lines,) = lines_of("python", compared=True)
    assert lines < 80
