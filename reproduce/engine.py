"""Snakemake, which does the jobs."""

import difflib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from shared.errors import UserError
from shared.run import REPOSITORY

FOLDER = REPOSITORY / "reproduce"
PROFILES = FOLDER / "profiles"
# What is there is done: results appear in one step, and file times mean nothing in a fresh clone.
# Its folder is never locked, for a lock would outlive an engine that is killed; a run's own lock
# ends with its process, and `reproduce.job` waits for it.
ALWAYS = ("--rerun-triggers", "input", "--ignore-incomplete", "--keep-incomplete", "--nolock")


class Machine(NamedTuple):
    """Where jobs are done, and how many beside each other.

    Attributes:
        profile: a folder's name below reproduce/profiles, or the path of one's own.
        cores: of all jobs together; None: as the profile says.
        resources: limits for all jobs together, such as gpu_slots=4, which says, too, that there
            is a GPU.
    """

    profile: str = "local"
    cores: int | None = None
    resources: tuple[str, ...] = ()

    @property
    def gpu_slots(self) -> int | None:
        """Slots of all its GPUs; None where there is no GPU.

        Raises:
            UserError: a limit is none.
        """
        return self._limits.get("gpu_slots")

    @property
    def has_gpu(self) -> bool:
        """Whether slots of GPUs are given out."""
        return self.gpu_slots is not None

    @property
    def _limits(self) -> dict[str, int]:
        limits = {}
        for limit in self.resources:
            name, _, value = limit.partition("=")
            if not name.isidentifier() or not value.isdecimal():
                raise UserError(f"--resources {limit} must look like gpu_slots=4")
            limits[name] = int(value)
        return limits

    @property
    def options(self) -> list[str]:
        """What Snakemake is told of it.

        Raises:
            UserError: there is no such profile, or a limit is none.
        """
        options = ["--profile", str(_profile(self.profile))]
        if self.cores is not None:
            options += ["--cores", str(self.cores)]
        limits = [f"{name}={value}" for name, value in self._limits.items()]
        return [*options, "--resources", *limits] if limits else options


def _profile(name: str) -> Path:
    if Path(name).is_dir():
        return Path(name).resolve()
    known = sorted(path.name for path in PROFILES.iterdir())
    if name in known:
        return PROFILES / name
    near = difflib.get_close_matches(name, known, 1)
    raise UserError(f"there is no profile {name}; did you mean {(near or known)[0]}?")


def make(
    targets: Iterable[Path], machine: Machine, *, is_dry: bool = False, again: bool = False
) -> int:
    """Have files made that are missing.

    Args:
        targets: the files, relative to the repository.
        machine: where.
        is_dry: make nothing; find out whether it could be.
        again: make them although they are there.

    Returns:
        The engine's exit code.

    Raises:
        UserError: Snakemake is not installed, or could not do it; or the machine is none.
    """
    if importlib.util.find_spec("snakemake") is None:
        raise UserError("this needs Snakemake: pip install '.[reproduce]'")
    words: Sequence[str] = [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(FOLDER / "Snakefile")),
        *("--directory", str(REPOSITORY), *ALWAYS, *machine.options),
        *(["--dry-run"] if is_dry else ["--quiet", "host", "reason", "rules"]),
        *(["--force"] if again else []),
        *("--", *(path.as_posix() for path in targets)),
    ]
    if not is_dry:
        return call_and_wait(words)
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"Snakemake could not do it: {done.stderr.strip()}")
    return 0


def call_and_wait(words: Sequence[str]) -> int:
    """Run a command in the repository; Ctrl-C, which it gets too, lets it end by itself.

    Returns:
        Its exit code.
    """
    with subprocess.Popen(
        words, cwd=REPOSITORY, env={"MPLBACKEND": "agg", **os.environ}
    ) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.wait()
            raise
