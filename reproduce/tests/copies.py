"""A copy of the repository in which a test declares rows of its own and has them made."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from shared.run import REPOSITORY


class Copy:
    """A repository of some papers.

    Args:
        folder: where it shall lie.
        papers: folders that are copied besides `shared` and `reproduce`.
        environment: variables for what is called in it.
    """

    def __init__(self, folder: Path, *papers: str, **environment: str) -> None:
        self.folder = folder
        self.environment = environment
        for name in ("shared", "reproduce", *papers):
            ignored = shutil.ignore_patterns("__pycache__", "tests")
            shutil.copytree(REPOSITORY / name, folder / name, ignore=ignored)

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
