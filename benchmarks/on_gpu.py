"""All that wants a GPU and takes minutes: Triton kernels against their oracles, then speed.

    python benchmarks/on_gpu.py                    in under ten minutes; `nox -s gpu`
    python benchmarks/on_gpu.py --only tests stl_snn

The kernels' tests come first, then every paper's benchmark, and STL-SNN on MNIST for two epochs in
float32 and in bfloat16. Each check is a process of its own that may take so long; what fails or
takes longer is named, and the rest goes on. Output and results lie in benchmarks/out/gpu, a folder
a check, beside summary.json. A check that lacks a library says which.
"""

import shared.waiting

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.errors import UserError
from shared.experiment import parse
from shared.options import script

REPOSITORY = Path(__file__).resolve().parents[1]
MOST = 600.0  # seconds of all checks together


@dataclass(frozen=True)
class Check:
    """A process that is started.

    Attributes:
        words: what Python is told.
        seconds: that it may take.
        has_out: it takes --out, a folder.
    """

    words: tuple[str, ...]
    seconds: float
    has_out: bool = True


def _bench(paper: str, seconds: float, *words: str) -> Check:
    common = ("--device", "cuda", "--rounds", "3")
    return Check((f"benchmarks/bench_{paper}.py", *common, *words), seconds)


def _stl(precision: str) -> Check:
    words = ("--device", "cuda", "--epochs", "2", "--precision", precision)
    return Check(("stl_snn/train.py", "-data", "mnist", *words), 75)


WITH_TRITON = ("shifting_learning", "brp_snn", "stl_snn")
TESTS = tuple(f"{paper}/tests/test_kernels_cuda.py" for paper in WITH_TRITON)
CHECKS = {
    "tests": Check(("-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS), 120, has_out=False),
    "shifting_learning": _bench("shifting_learning", 60, "--no-growth"),
    "brp_snn": _bench("brp_snn", 90, "--no-growth"),
    "stl_snn": _bench("stl_snn", 90),
    "smooth_gd": _bench("smooth_gd", 60, "--cases", "mnist", "rnn"),
    "stl_float32": _stl("float32"),
    "stl_bfloat16": _stl("bfloat16"),
}


@dataclass(frozen=True)
class Options:
    """The options."""

    only: tuple[str, ...] = ()
    """Checks that are made; without it all."""
    out: Path = Path("benchmarks/out/gpu")
    """Folder of their output."""

    def check(self) -> None:
        """Refuse checks that there are not."""
        if unknown := set(self.only) - set(CHECKS):
            raise UserError(f"--only {', '.join(sorted(unknown))}: there are {', '.join(CHECKS)}")


def made(name: str, check: Check, folder: Path, seconds: float) -> dict[str, object]:
    """What became of a check: its state, and the seconds that it took.

    Args:
        name: the check's.
        check: what is started.
        folder: its output is written there.
        seconds: after which it is killed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, *check.words, *(["--out", str(folder)] if check.has_out else [])]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "MPLBACKEND": "agg"}
    start = time.monotonic()
    with (folder / "output.txt").open("w") as output:
        child = subprocess.Popen(
            words,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=REPOSITORY,
            env=environment,
            start_new_session=True,
        )
        try:
            code = child.wait(seconds)
            state = "passed" if code == 0 else f"failed, exit code {code}"
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)  # with the processes that it has started
            child.wait()
            state = f"not ended after {seconds:.0f} s"
    took = time.monotonic() - start
    print(f"{name}: {state}, {took:.0f} s; {folder / 'output.txt'}", flush=True)
    return {"state": state, "seconds": took}


def make(checks: Sequence[str], out: Path) -> bool:
    """Make checks until the time is over; whether all passed."""
    out = out.resolve()
    begin, found = time.monotonic(), {}
    for name in checks:
        left = MOST - (time.monotonic() - begin)
        found[name] = made(name, CHECKS[name], out / name, min(CHECKS[name].seconds, left))
        (out / "summary.json").write_text(json.dumps(found, indent=1) + "\n")
    return all(check["state"] == "passed" for check in found.values())


def main() -> None:
    """Make the checks.

    Raises:
        UserError: there is no GPU that torch can use, or no such check.
    """
    options = parse(Options, __doc__)
    options.check()
    import torch

    if not torch.cuda.is_available():
        raise UserError("torch finds no CUDA device here; these checks are made on a GPU only")
    if not make(options.only or tuple(CHECKS), options.out):
        sys.exit(1)


if __name__ == "__main__":
    script(main)
