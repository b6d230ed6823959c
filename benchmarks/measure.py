"""How the benchmarks measure: interleaved rounds in one process, memory in a fresh one."""

import ctypes
import gc
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shared.errors import UserError
from shared.run import commit, device_name, versions

Step = Callable[[], object]


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
        "processor": platform.processor() or platform.machine(),
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
