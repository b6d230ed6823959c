"""Copies of the repository, with what has been compiled of it."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from shared.run import REPOSITORY

Ignored = Callable[[str, list[str]], Iterable[str]]


def copy_tree(source: Path, target: Path, ignore: Ignored) -> None:
    """Copy a folder; compiled files are valid there, and spare every process their compilation.

    Tests beside these compile too: what has only just been replaced is left out.
    """

    def copy(file: str, to: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            shutil.copy2(file, to)

    shutil.copytree(source, target, ignore=ignore, copy_function=copy)


class Copy:
    """A repository of some papers, in which a test declares rows and has them made.

    Args:
        folder: where it shall lie.
        papers: folders that are copied besides `shared` and `reproduce`.
        environment: variables for what is called in it.
    """

    def __init__(self, folder: Path, *papers: str, **environment: str) -> None:
        self.folder = folder
        self.environment = environment
        for name in ("shared", "reproduce", *papers):
            copy_tree(REPOSITORY / name, folder / name, shutil.ignore_patterns("tests"))

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start to make something."""
        return subprocess.Popen(
            [sys.executable, "-m", "reproduce.make", *words],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder), **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def make(self, *words: str, code: int = 0) -> str:
        """Make something to its end; what was said on both streams."""
        process = self.start(*words)
        out, err = process.communicate(timeout=300)
        assert process.returncode == code, out + err
        return out + err
