"""Snakemake, which does the jobs."""

import difflib
import importlib.util
import os
import re
import shutil
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

# Extras of the project that bring what Snakemake needs to give jobs to a cluster.
EXTRAS = {"slurm": "cluster", "kubernetes": "kubernetes"}


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
            if not name.isidentifier() or not value.isdecimal() or int(value) == 0:
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


def _content(profile: Path) -> str | None:
    """What a folder says of a machine, where Snakemake looks for it; None: it is no profile."""
    for pattern in ("profile*.yaml", "config*.yaml"):
        for path in sorted(profile.glob(pattern)):
            return path.read_text()
    return None


def _profile(name: str) -> Path:
    if name and _content(Path(name)) is not None:
        return Path(name).resolve()
    known = sorted(path.name for path in PROFILES.iterdir())
    if name in known:
        return PROFILES / name
    near = difflib.get_close_matches(name, known, 1)
    advice = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    raise UserError(
        f"there is no profile {name!r}, and no folder of that name with a profile.yaml; {advice}"
    )


def _check_cluster(profile: str, *, is_dry: bool) -> None:
    """Refuse a profile whose cluster cannot be reached from here; Snakemake does so at length.

    Raises:
        UserError: what Snakemake needs to submit jobs is not installed, or SLURM is not.
    """
    found = re.search(r"^executor: *([\w-]+)", _content(_profile(profile)) or "", re.MULTILINE)
    executor = found[1] if found else "local"
    package = f"snakemake-executor-plugin-{executor}"
    if executor != "local" and importlib.util.find_spec(package.replace("-", "_")) is None:
        wanted = f"'.[{EXTRAS[executor]}]'" if executor in EXTRAS else package
        raise UserError(f"--profile {profile} needs {package}: pip install {wanted}")
    if executor == "slurm" and not is_dry and shutil.which("sbatch") is None:
        raise UserError(
            f"--profile {profile} needs SLURM, but there is no sbatch here: give the command on a "
            "machine from which jobs are submitted"
        )


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
        UserError: Snakemake is not installed, or could not do it; or the machine is none, or is a
            cluster that is not here.
    """
    if importlib.util.find_spec("snakemake") is None:
        raise UserError("this needs Snakemake: pip install '.[reproduce]'")
    _check_cluster(machine.profile, is_dry=is_dry)
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
