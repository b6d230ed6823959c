"""How the benchmarks measure: interleaved rounds in one process, memory in a fresh one.

A benchmark is a `Benchmark`, which has the command line and the order of the work; its script says
what is compared.
"""

import shared.waiting

import ctypes
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from shared.device import keep_freed_memory, set_threads, torch_device
from shared.errors import UserError
from shared.experiment import Positive, parse
from shared.run import commit, device_name, processor, versions

Step = Callable[[], object]


@dataclass(frozen=True)
class Options:
    """The options of every benchmark."""

    cases: tuple[str, ...] = ()
    """What is measured; without it all cases."""
    rounds: Positive[int] = 5
    """Turns of every side."""
    growth: bool = True
    """Measure growth with size or steps, too, where the benchmark does."""
    device: str = "auto"
    """auto, cuda, cuda:N, mps or cpu."""
    threads: Positive[int] | None = None
    """CPU threads; without it all cores."""
    out: Path | None = None
    """Folder of bench.json and figures; without it benchmarks/out/<paper>."""
    memory_of: tuple[str, ...] = ()
    """For the benchmark's own use: measure one side's memory in this process."""

    def passed_on(self) -> list[str]:
        """The options that a process which measures memory needs, too."""
        threads = ["--threads", str(self.threads)] if self.threads else []
        return ["--device", self.device, *threads]


Chosen = TypeVar("Chosen", bound=Options)


def set_torch_up(threads: int | None) -> None:
    """Set torch up, for all sides alike; None takes all cores."""
    keep_freed_memory()
    torch.set_flush_denormal(True)
    set_threads(threads)


def torch_prepared(options: Options) -> torch.device:
    """`set_torch_up` by a benchmark's options."""
    set_torch_up(options.threads)
    return torch_device(options.device)


@dataclass(frozen=True)
class Benchmark(Generic[Chosen]):
    """A paper's benchmark.

    Attributes:
        paper: the paper's folder.
        description: the script's docstring, for --help.
        options: class of the options.
        cases: that there are.
        bench: compares, times and weighs the sides of a case; a row of bench.json by name.
        memory_of: memory of a side in MB, told the words of --memory-of and the device.
        more: adds to the content of bench.json what is measured besides, and draws figures into
            the folder, if any.
        prepare: sets up and returns the device.
    """

    paper: str
    description: str | None
    options: type[Chosen]
    cases: tuple[str, ...]
    bench: Callable[[str, Chosen, torch.device], dict[str, Any]]
    memory_of: Callable[..., float]
    more: Callable[[dict[str, Any], Chosen, torch.device, Path], None] = lambda *_: None
    prepare: Callable[[Chosen], torch.device] = torch_prepared

    def main(self) -> None:
        """Read the options and measure, or weigh one side.

        Raises:
            UserError: there is no such case.
        """
        options = parse(self.options, self.description)
        unknown = set(options.cases) - set(self.cases)
        if unknown:
            raise UserError(f"--cases {', '.join(unknown)}: there are {', '.join(self.cases)}")
        chosen = tuple(case for case in self.cases if case in (options.cases or self.cases))
        options = replace(options, cases=chosen)
        device = self.prepare(options)
        if options.memory_of:
            print(self.memory_of(*options.memory_of, device))
            return
        rows: dict[str, Any] = {}
        content = record(device) | {"cases": rows}
        for case in options.cases:
            rows |= self.bench(case, options, device)
        folder = options.out or Path("benchmarks/out") / self.paper
        self.more(content, options, device, folder)
        write(content, folder)


def timed(step: Step, device: torch.device) -> tuple[float, float]:
    """Wall and CPU seconds of one step."""

    def now() -> tuple[float, float]:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()

    wall, cpu = now()
    step()
    wall_after, cpu_after = now()
    return wall_after - wall, cpu_after - cpu


def interleaved(
    steps: Mapping[str, Step], device: torch.device, rounds: int, repeats: Mapping[str, int]
) -> dict[str, dict[str, float]]:
    """Times of several sides in turns, after one step of each to warm up.

    Args:
        steps: a step of each side.
        device: where they run.
        rounds: how often every side has its turn.
        repeats: steps a turn, whose median counts: single milliseconds are lost in the clock's
            noise.

    Returns:
        By side: median, least and most wall seconds a step, and median CPU seconds.
    """
    for step in steps.values():
        step()
    times: dict[str, list[tuple[float, float]]] = {side: [] for side in steps}
    for _ in range(rounds):
        for side, step in steps.items():
            several = [timed(step, device) for _ in range(repeats[side])]
            times[side].append(tuple(np.median(several, axis=0)))
    found = {}
    for side, values in times.items():
        wall, cpu = np.array(values).T
        found[side] = {
            "wall_median": float(np.median(wall)),
            "wall_least": float(wall.min()),
            "wall_most": float(wall.max()),
            "cpu_median": float(np.median(cpu)),
        }
    return found


def print_times(times: Mapping[str, Mapping[str, float]], memory: Mapping[str, float]) -> None:
    """A line a side: its times and its memory in MB."""
    for side, t in times.items():
        print(f"  {side:12s} {1e3 * t['wall_median']:9.1f} ms wall "
              f"({1e3 * t['wall_least']:.1f} to {1e3 * t['wall_most']:.1f}), "
              f"{1e3 * t['cpu_median']:9.1f} ms CPU, {memory[side]:7.0f} MB")  # fmt: skip


def step_memory_mb(step: Step, warm_up: Step, device: torch.device) -> float:
    """Memory that a step takes at its peak beyond what was there before it, in MB.

    To be called in a fresh process: the largest allocation on CUDA, else the largest resident size.

    Args:
        step: the step.
        warm_up: a small step, after which compilers and thread pools are no longer counted.
        device: where it runs.

    Raises:
        UserError: memory cannot be measured on this system.
    """
    warm_up()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # free memory that the process still holds would hide a need
    before = _resident_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from the present size
    step()
    return _resident_mb("VmHWM") - before


def _resident_mb(key: str) -> float:
    """Present ("VmRSS") or largest ("VmHWM") resident size of this process, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024 / 1e6
    raise UserError("the benchmark measures memory on Linux and on CUDA only")


def memory_in_fresh_process(script: str, *words: str) -> float:
    """What a benchmark prints last when it is called with --memory-of and these words."""
    command = [sys.executable, script, "--memory-of", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def record(device: torch.device) -> dict[str, Any]:
    """What the numbers of a benchmark depend on; says so where other programs are running."""
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"the load of this machine is {load:.1f}: others work here too, times will waver")
    return {
        "device": device_name(device),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "load_before": load,
        "commit": commit(),
        "versions": versions(),
    }


def write(content: Mapping[str, Any], folder: Path) -> None:
    """Write bench.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.json").write_text(json.dumps(content, indent=1) + "\n")
    print(f"\n{folder / 'bench.json'}")
