"""How long a training step of each paper takes beside other programs.

    python benchmarks/bench_waiting.py                               every paper
    python benchmarks/bench_waiting.py --cases hybrid_plasticity     one of them

Two sides do the same steps in processes of their own, in turns: "library" waits as GNU's OpenMP
does by default, "ours" as `shared.waiting` says. Turns on the idle machine are followed by turns
beside processes that do nothing of use: one for each core, of the same priority ("busy"), where a
fair share of the machine is half of it, with which a step takes twice the idle time; one more than
there are cores ("crowded"); and a single one of higher priority ("yielding"), from which the steps
cannot take a core. A turn's number is the mean over its steps: beside others single steps are short
or long by chance. Smooth gradients have no OpenMP: their two sides are the same, and show how far
such numbers waver.
"""

import shared.waiting

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import Step, record, set_torch_up, write

from shared.errors import UserError
from shared.experiment import Positive, parse
from shared.options import script

# Both OpenMP libraries are loaded before `shared` says how their threads are to wait.
_LIBRARY = """
import runpy, sys, torch
from numba.np.ufunc import omppool
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
SIDES = {"library": ("-c", _LIBRARY, __file__), "ours": (__file__,)}
"""What Python is told in each side's process."""
CORES = os.cpu_count() or 1
BESIDE = {"idle": (0, 0), "busy": (CORES, 0), "crowded": (CORES + 1, 0), "yielding": (1, 5)}
"""By state how many busy processes there are, and by how much the steps are nicer than they."""
BUSY_BAR = 2.2  # ours beside busy processes, in units of ours on the idle machine
IDLE_BAR = 1.03  # ours in units of the library's, on the idle machine
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Options:
    """The options."""

    cases: tuple[str, ...] = ()
    """Papers whose step is done; without it all."""
    rounds: Positive[int] = 4
    """Turns of every side, idle and busy."""
    seconds: Positive[float] = 1.5
    """Length of a turn in s."""
    threads: Positive[int] | None = None
    """CPU threads; without it all cores."""
    out: Path = Path("benchmarks/out/waiting")
    """Folder of bench.json."""
    steps_of: str = ""
    """For the benchmark's own use: do steps of this paper in this process."""


def shifting_learning(threads: int | None) -> Step:
    """784-800-10, a batch of 128 digits."""
    from bench_shifting_learning import CASES, make_step

    return make_step(CASES["mnist"], "fused", torch.float32, CPU)[1]


def brp_snn(threads: int | None) -> Step:
    """The convolutional network of MNIST by BRP, T = 20, batch 50."""
    from bench_brp_snn import CASES, make_side

    return make_side(CASES["mnist"], "BRP", "layerwise", CPU).step


def stl_snn(threads: int | None) -> Step:
    """The network of MNIST at a quarter of its width, T = 4, batch 50."""
    from stl_snn.param import MNIST, scaled
    from stl_snn.spiking_model import SpikingNetwork
    from stl_snn.training import squared_error

    torch.manual_seed(0)
    setting = scaled(MNIST(), 0.25)
    network = SpikingNetwork(setting, (1, 28, 28), 10).train()
    adam = torch.optim.Adam(network.parameters(), fused=True)
    x = (torch.rand(setting.batch_size, setting.steps, 1, 28, 28) < 0.13).float()
    labels = torch.arange(setting.batch_size) % 10

    def step() -> None:
        adam.zero_grad()
        squared_error(network(x), labels).backward()
        adam.step()

    return step


def hybrid_plasticity(threads: int | None) -> Step:
    """The simple example by HP, 784-512-10, T = 10, batch 100."""
    from bench_hybrid_plasticity import simple

    return simple("fast", CPU).step


def smooth_gd(threads: int | None) -> Step:
    """The gradient of the network of MNIST, 784-100-100-10, a batch of 1000 digits."""
    from bench_smooth_gd import BATCH, gradient_step

    from smooth_gd.experiments.jax_runtime import Settings, prepare

    prepare(Settings(dtype="float32", threads=threads, device="cpu"))
    return gradient_step(BATCH, 100, 0)


CASES: dict[str, Callable[[int | None], Step]] = {
    case.__name__: case
    for case in (shifting_learning, brp_snn, stl_snn, hybrid_plasticity, smooth_gd)
}


def serve(case: str, threads: int | None) -> None:
    """Do steps for as many seconds as each line of standard input says; print their mean in s."""
    set_torch_up(threads)
    step = CASES[case](threads)
    for _ in range(3):
        step()
    print("ready", flush=True)
    for line in sys.stdin:
        started, n = time.perf_counter(), 0
        while n == 0 or time.perf_counter() - started < float(line):
            step()
            n += 1
        print((time.perf_counter() - started) / n, flush=True)


class Worker:
    """A side's process.

    Args:
        case: the paper.
        program: what Python is told, before the options.
        threads: CPU threads; None for all cores.
        niceness: how far it lets other programs go first.
    """

    def __init__(
        self, case: str, program: tuple[str, ...], threads: int | None, niceness: int
    ) -> None:
        inherited = {k: v for k, v in os.environ.items() if k not in shared.waiting.OWN}
        inherited["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path])
        words = ["--steps-of", case, *(["--threads", str(threads)] if threads else [])]
        self._process = subprocess.Popen(
            ["nice", "-n", str(niceness), sys.executable, *program, *words],
            env=inherited,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        while self._answer() != "ready":
            pass

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise UserError("a process that does the steps has ended; its words stand above")
        return line.strip()

    def mean_step(self, seconds: float) -> float:
        """Mean time of a step in s, over steps of so many seconds."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        return float(self._answer())

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def busy(n: int) -> Iterator[None]:
    """Other programs: n processes that count for nothing."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        time.sleep(0.2)
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def bench(case: str, options: Options) -> dict[str, Any]:
    """Time both sides of a paper's step in every state of the machine."""
    turns = {side: {state: list[float]() for state in BESIDE} for side in SIDES}
    with contextlib.ExitStack() as stack:
        workers = {}
        for side, program in SIDES.items():
            for niceness in {of for _, of in BESIDE.values()}:
                worker = Worker(case, program, options.threads, niceness)
                stack.callback(worker.end)
                workers[side, niceness] = worker
        for _ in range(options.rounds):
            for state, (others, niceness) in BESIDE.items():
                with busy(others):
                    for side in SIDES:
                        mean = workers[side, niceness].mean_step(options.seconds)
                        turns[side][state].append(mean)
    seconds = {
        side: {state: float(np.median(found)) for state, found in states.items()}
        for side, states in turns.items()
    }
    ours, library = seconds["ours"], seconds["library"]
    ratios = {
        "busy_to_idle": ours["busy"] / ours["idle"],
        "idle_to_library": ours["idle"] / library["idle"],
        **{f"faster_{state}": library[state] / ours[state] for state in BESIDE if state != "idle"},
    }
    times = ", ".join(
        f"{state} {1e3 * ours[state]:.1f} (library's {1e3 * library[state]:.1f})"
        for state in BESIDE
    )
    print(
        f"{case}: {times} ms; busy {ratios['busy_to_idle']:.2f} times idle (bar {BUSY_BAR}), idle "
        f"{ratios['idle_to_library']:.2f} of the library's (bar {IDLE_BAR})",
        flush=True,
    )
    return {"seconds": seconds, "turns": turns, "ratios": ratios}


def main() -> None:
    """Read the options and measure, or do steps for the process that measures.

    Raises:
        UserError: there is no such case.
    """
    options = parse(Options, __doc__)
    if options.steps_of:
        serve(options.steps_of, options.threads)
        return
    unknown = set(options.cases) - set(CASES)
    if unknown:
        raise UserError(f"--cases {', '.join(unknown)}: there are {', '.join(CASES)}")
    content = record(CPU) | {"busy_bar": BUSY_BAR, "idle_bar": IDLE_BAR}
    content["cases"] = {case: bench(case, options) for case in options.cases or CASES}
    write(content, options.out)


if __name__ == "__main__":
    script(main)
