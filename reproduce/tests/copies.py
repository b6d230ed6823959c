"""Copies of the repository, with what has been compiled of it."""

import contextlib
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

Ignored = Callable[[str, list[str]], Iterable[str]]


def copy_tree(source: Path, target: Path, ignore: Ignored) -> None:
    """Copy a folder; compiled files are valid there, and spare every process their compilation.

    Tests beside these compile too: what has only just been replaced is left out.
    """

    def copy(file: str, to: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            shutil.copy2(file, to)

    shutil.copytree(source, target, ignore=ignore, copy_function=copy)
