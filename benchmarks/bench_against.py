"""Each paper's training step beside that of its published program.

    python benchmarks/bench_against.py --against FOLDER                          every paper
    python benchmarks/bench_against.py --against FOLDER --cases brp_snn stl_snn  some of them

The published programs are no part of this project. FOLDER holds checkouts of them, under the names
that git gives a clone; a paper whose program is not there is left out:

    git clone https://github.com/SZU-ADDG/Shifting-Learning
    git clone https://github.com/thomasaimondy/BRP-SNN
    git clone https://github.com/sunhongze/STL-SNN
    git clone https://github.com/yjwu12/Hybrid-plasticity-Spiking-Network-Model
    git clone https://github.com/chklos/spikegd

They are imported as they are, a program in processes of its own, and called as their own training
loops call them. Both sides have the same weights and inputs and do a whole step, optimizer and
random draws of the input included (smooth gradients: loss and gradient). Outputs and gradients of a
first step must agree in float64 to 1e-9, on a smaller batch where the published program would want
too much memory; then both are timed in float32, in turns. How far they are apart in float32 is
recorded: rounding takes a potential or a sum to the other side of a threshold now and then.

Both run on the CPU unless --device says otherwise: the published programs ask for a GPU by `cuda()`
and are given the device that was asked for.
"""

import shared.waiting

import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from against.common import SIDES, Where, differences, too_far
from measure import interleaved, record, set_torch_up, write

from shared.device import torch_device
from shared.errors import UserError
from shared.experiment import Positive, parse
from shared.options import script

Precision = Literal["float64", "float32"]
SURROUNDINGS = ("device", "processor", "threads", "commit", "versions")


class Program(NamedTuple):
    """A published program.

    Attributes:
        address: to clone it from; its last part is the checkout's name.
        file: that is imported, by which a checkout is known.
    """

    address: str
    file: str

    def checkout(self, folder: Path) -> Path:
        """Where a clone in the folder lies."""
        return folder / self.address.rpartition("/")[2]


PROGRAMS = {
    "shifting_learning": Program("https://github.com/SZU-ADDG/Shifting-Learning", "SL_Layer.py"),
    "brp_snn": Program("https://github.com/thomasaimondy/BRP-SNN", "models.py"),
    "stl_snn": Program("https://github.com/sunhongze/STL-SNN", "spiking_model.py"),
    "hybrid_plasticity": Program(
        "https://github.com/yjwu12/Hybrid-plasticity-Spiking-Network-Model",
        "simple-example/model_hp.py",
    ),
    "smooth_gd": Program("https://github.com/chklos/spikegd", "experiments/mnist/mnist.py"),
}


@dataclass(frozen=True)
class Options:
    """The options."""

    against: Path | None = None
    """Folder with the checkouts of the published programs."""
    cases: tuple[str, ...] = ()
    """Papers whose step is measured; without it all."""
    rounds: Positive[int] = 5
    """Turns of both sides."""
    device: str = "cpu"
    """cpu, cuda or cuda:N."""
    threads: Positive[int] | None = None
    """CPU threads; without it all cores."""
    out: Path = Path("benchmarks/out/against")
    """Folder of bench.json."""
    rows_of: tuple[str, ...] = ()
    """For the benchmark's own use: compare or time the steps of a checkout in this process."""


# --------------------------------------------------------------------------------- one program


def compared(paper: str, checkout: Path, dtype: torch.dtype, device: torch.device) -> Any:
    """By row the largest differences of the sides, relative to the largest entry of each array."""
    found = {}
    for name, row in rows_of(paper).items():
        sides = row.make(Where(checkout, device, dtype, row.compared))
        found[name] = differences(*(side.found() for side in sides))
    return found


def timed(paper: str, checkout: Path, device: torch.device, rounds: int) -> Any:
    """By row what is recorded of it, but for the comparison in float64."""
    rounded = compared(paper, checkout, torch.float32, device)
    found = {}
    for name, row in rows_of(paper).items():
        sides = row.make(Where(checkout, device, torch.float32, row.batch))
        steps = {who: side.step for who, side in zip(SIDES, sides, strict=True)}
        times = interleaved(steps, device, rounds, dict(zip(SIDES, (1, row.repeats), strict=True)))
        published, ours = (times[side]["wall_median"] for side in SIDES)
        found[name] = {
            "what": row.what,
            "batch": row.batch,
            "compared_batch": row.compared,
            "differences_float32": rounded[name],
            "seconds": times,
            "speed_ratio": published / ours,
        }
    return found


def rows_of(paper: str) -> Any:
    """The rows of a paper's module, which is imported only now: it needs the paper's extra."""
    return importlib.import_module(f"against.{paper}").ROWS


def serve(options: Options, paper: str, checkout: str, precision: Precision, out: str) -> None:
    """Compare in float64, or time in float32, in this process; write what was found."""
    device, folder = torch_device(options.device), Path(checkout)
    dtype = getattr(torch, precision)
    torch.set_default_dtype(dtype)  # the published programs ask for no dtype
    if precision == "float64":
        found = compared(paper, folder, dtype, device)
    else:
        found = timed(paper, folder, device, options.rounds)
    Path(out).write_text(json.dumps(found))


# ------------------------------------------------------------------------------- all programs


def in_own_process(options: Options, paper: str, checkout: Path, precision: Precision) -> Any:
    """What `serve` found in a fresh process; None where it came to no end."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        threads = ["--threads", str(options.threads)] if options.threads else []
        settings = ["--device", options.device, "--rounds", str(options.rounds), *threads]
        words = [paper, str(checkout), precision, str(out)]
        command = [sys.executable, __file__, *settings, "--rows-of", *words]
        done = subprocess.run(command)
        return json.loads(out.read_text()) if done.returncode == 0 else None


def bench(options: Options, paper: str, checkout: Path) -> dict[str, Any] | None:
    """The rows of a paper; None where a process failed, or the sides differ."""
    exact = in_own_process(options, paper, checkout, "float64")
    for name, found in (exact or {}).items():
        for far in too_far(found):
            print(f"{name}: {far} differs by {found[far]:.1e} in float64")
    if exact is None or any(map(too_far, exact.values())):
        return None
    rows: dict[str, Any] | None = in_own_process(options, paper, checkout, "float32")
    for name, row in (rows or {}).items():
        row["differences"] = exact[name]
        show(name, row)
    return rows


def show(name: str, row: Any) -> None:
    """Print a row."""
    print(f"\n{name}: {row['what']}")
    for side, t in row["seconds"].items():
        print(f"  {side:10s} {1e3 * t['wall_median']:9.1f} ms wall "
              f"({1e3 * t['wall_least']:.1f} to {1e3 * t['wall_most']:.1f}), "
              f"{1e3 * t['cpu_median']:9.1f} ms CPU")  # fmt: skip
    print(f"  ours is {row['speed_ratio']:.1f} times faster; largest relative difference "
          f"{max(row['differences'].values()):.1e} in float64, "
          f"{max(row['differences_float32'].values()):.1e} in float32", flush=True)  # fmt: skip


def revision(checkout: Path) -> str | None:
    """The checked-out commit of a clone; None of a folder that is no clone."""
    if not (checkout / ".git").exists():
        return None
    words = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    return subprocess.run(words, capture_output=True, text=True).stdout.strip() or None


def there(folder: Path, papers: Sequence[str]) -> dict[str, Path]:
    """The checkouts that are there, by paper; says which are not.

    Raises:
        UserError: there is none of them.
    """
    found = {}
    for paper in papers:
        checkout = PROGRAMS[paper].checkout(folder)
        if (checkout / PROGRAMS[paper].file).is_file():
            found[paper] = checkout.resolve()
        else:
            print(f"{paper} is left out: there is no {checkout / PROGRAMS[paper].file}; "
                  f"git clone {PROGRAMS[paper].address}")  # fmt: skip
    if not found:
        raise UserError(f"{folder} has none of the published programs: clone them there first")
    return found


def main() -> None:
    """Read the options and measure, or do the part of one program for the process that measures.

    Raises:
        UserError: no folder is given, it has no checkout, or there is no such paper; or a program
            came to no end, or its step is another than ours: the others are measured first.
    """
    options = parse(Options, __doc__)
    if options.rows_of:
        set_torch_up(options.threads)
        serve(options, *options.rows_of)
        return
    if options.against is None:
        raise UserError("--against FOLDER names the folder of the published programs; see --help")
    unknown = set(options.cases) - set(PROGRAMS)
    if unknown:
        raise UserError(f"--cases {', '.join(unknown)}: there are {', '.join(PROGRAMS)}")
    checkouts = there(options.against, options.cases or tuple(PROGRAMS))
    set_torch_up(options.threads)
    content = record(torch_device(options.device)) | {"programs": {}, "cases": {}}
    failed = []
    for paper, checkout in checkouts.items():
        if rows := bench(options, paper, checkout):
            content["programs"][paper] = {
                "address": PROGRAMS[paper].address,
                "commit": revision(checkout),
            }
            content["cases"] |= rows
        else:
            failed.append(paper)
    if content["cases"]:
        write(content | kept(content, options.out), options.out)
    if failed:
        raise UserError(f"{', '.join(failed)} could not be measured; the reason stands above")


def kept(content: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Programs and cases of this call, and those of an earlier one in the same surroundings."""
    stored = folder / "bench.json"
    earlier = json.loads(stored.read_text()) if stored.is_file() else {}
    if any(earlier.get(name) != content[name] for name in SURROUNDINGS):
        earlier = {}  # they would stand under a commit, device or version that is not theirs
    return {part: earlier.get(part, {}) | content[part] for part in ("programs", "cases")}


if __name__ == "__main__":
    script(main)
