"""How time and memory of a training step grow with batch, width, steps and events.

    python benchmarks/growth.py                    every paper; `nox -s bench -- growth`
    python benchmarks/growth.py --cases stl_snn    one of them
    python benchmarks/growth.py --no-memory        time only

One quantity is doubled at a time, the others stay at the start. A curve's exponent is the slope of
a line through the logarithms of the upper half of its sizes, where what every step costs at any
size weighs least; its law is the whole number that this is near to. Memory is that of a step in a
fresh process for each size, in JAX what XLA sets aside for it. A paper joins with an entry of
`GROWING` and one function: sizes in, a step out. It is the step that the paper's own benchmark
times as the fast side.
"""

import shared.waiting

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from measure import (
    Benchmark,
    Step,
    interleaved,
    memory_in_fresh_process,
    step_memory_mb,
    torch_prepared,
)
from measure import Options as EveryOption

from shared.figures import save_figure
from shared.options import script

Sizes = Mapping[str, int]
LAWS = {0: "constant", 1: "linear", 2: "quadratic", 3: "cubic"}
NEAR = 0.25  # an exponent this near to a whole number is called by its law


@dataclass(frozen=True)
class Options(EveryOption):
    """The options."""

    memory: bool = True
    """Measure memory, too: a process for each size."""


@dataclass(frozen=True)
class Growing:
    """What of a paper grows.

    Attributes:
        what: the step, in words, at the start.
        start: sizes from which one is changed at a time.
        sizes: what each is changed to, ascending.
        make: a step of these sizes, with what it needs.
        prepare: sets up and returns the device.
        memory: of a step in MB, told a small step to warm up with and the device.
    """

    what: str
    start: Sizes
    sizes: Mapping[str, Sequence[int]]
    make: Callable[[Sizes, torch.device], Step]
    prepare: Callable[[Options], torch.device] = torch_prepared
    memory: Callable[[Step, Step, torch.device], float] = step_memory_mb


# ---------------------------------------------------------------------------------------- papers
# A paper is imported where it is measured, so that the others need not be installed.


def shifting_learning(sizes: Sizes, device: torch.device) -> Step:
    """A trial of spike trains where there are events, else a batch of digits."""
    from bench_shifting_learning import Case, make_step

    digits = Case("digits", (784, sizes["width"], 10), sizes["batch"])
    trial = Case("trial", (500, sizes["width"], 22), 1, sizes["events"])
    return make_step(trial if sizes["events"] else digits, "fused", torch.float32, device)[1]


def brp_snn(sizes: Sizes, device: torch.device) -> Step:
    """BRP on a fully connected network."""
    from bench_brp_snn import Case, make_side

    case = Case(f"FC_{sizes['width']}_FC_10", (1, 28, 28))
    take = {"batch": sizes["batch"], "steps": sizes["steps"]}
    return make_side(case, "BRP", "layerwise", device, **take).step


def stl_snn(sizes: Sizes, device: torch.device) -> Step:
    """STL on MNIST's network; width in channels of a convolution."""
    from bench_stl_snn import step_side

    width, steps = sizes["width"] / 128, sizes["steps"]
    return step_side("fast", device, torch.float32, sizes["batch"], width, steps).step


def hybrid_plasticity(sizes: Sizes, device: torch.device) -> Step:
    """HP on the simple example."""
    from bench_hybrid_plasticity import simple

    take = {"hidden": sizes["width"], "steps": sizes["steps"]}
    return simple("fast", device, sizes["batch"], **take).step


def smooth_gd(sizes: Sizes, device: torch.device) -> Step:
    """The gradient of MNIST's network; events are those that each hidden layer has room for."""
    from bench_smooth_gd import gradient_step

    return gradient_step(sizes["batch"], sizes["width"], sizes["events"])


def _jax_prepared(options: Options) -> torch.device:
    """JAX's devices, as the paper's own benchmark sets them up."""
    from bench_smooth_gd import prepared

    return prepared(options)


def _jax_memory(step: Step, warm_up: Step, device: torch.device) -> float:
    """What XLA sets aside: a process's size would count the compiler."""
    from bench_smooth_gd import CompiledStep

    assert isinstance(step, CompiledStep)
    return step.memory_mb()


GROWING: Mapping[str, Growing] = {
    "shifting_learning": Growing(
        "784-800-10, 128 digits; events: a spike train of one trial, 500-800-22",
        {"batch": 128, "width": 800, "events": 0},
        {
            "batch": (32, 64, 128, 256, 512),
            "width": (200, 400, 800, 1600, 3200),
            "events": (500, 1000, 2000, 4000, 8000),
        },
        shifting_learning,
    ),
    "brp_snn": Growing(
        "BRP, 784-1000-10, batch 50, T = 20",
        {"batch": 50, "width": 1000, "steps": 20},
        {
            "batch": (13, 25, 50, 100, 200),
            "width": (250, 500, 1000, 2000, 4000),
            "steps": (10, 20, 40, 80, 160),
        },
        brp_snn,
    ),
    "stl_snn": Growing(
        "MNIST's network with 32 channels, batch 50, T = 4",
        {"batch": 50, "width": 32, "steps": 4},
        {"batch": (13, 25, 50, 100, 200), "width": (16, 32, 64, 128), "steps": (2, 4, 8, 16, 32)},
        stl_snn,
    ),
    "hybrid_plasticity": Growing(
        "HP, 784-512-10, batch 100, T = 10",
        {"batch": 100, "width": 512, "steps": 10},
        {
            "batch": (25, 50, 100, 200, 400),
            "width": (128, 256, 512, 1024, 2048),
            "steps": (5, 10, 20, 40, 80),
        },
        hybrid_plasticity,
    ),
    "smooth_gd": Growing(
        "784-100-100-10, batch 1000; events: room for those of each hidden layer",
        {"batch": 1000, "width": 100, "events": 0},
        {
            "batch": (250, 500, 1000, 2000, 4000),
            "width": (50, 100, 200, 400),
            "events": (80, 160, 320, 640),
        },
        smooth_gd,
        _jax_prepared,
        _jax_memory,
    ),
}


# --------------------------------------------------------------------------------------- measure


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Slope of the line through the logarithms of the upper half of the sizes, three at least."""
    n = max(3, len(sizes) // 2 + 1)
    slope, _ = np.polyfit(np.log(sizes[-n:]), np.log(np.maximum(values[-n:], 1e-9)), 1)
    return float(slope)


def law(power: float) -> str:
    """The law that an exponent is near to, or those that it lies between."""
    nearest = round(power)
    if nearest in LAWS and abs(power - nearest) <= NEAR:
        return LAWS[nearest]
    below = int(np.floor(power))
    if below not in LAWS or below + 1 not in LAWS:
        return "none of these"
    return f"between {LAWS[below]} and {LAWS[below + 1]}"


def curve(sizes: Sequence[int], values: Sequence[float]) -> dict[str, Any]:
    """What was measured, with its exponent and law."""
    power = exponent(sizes, values)
    return {"sizes": list(sizes), "values": list(values), "exponent": power, "law": law(power)}


def seconds(growing: Growing, changed: str, device: torch.device, rounds: int) -> list[float]:
    """Median seconds of a step for each size of one quantity, all sizes in turns."""
    steps = {
        str(size): growing.make({**growing.start, changed: size}, device)
        for size in growing.sizes[changed]
    }
    times = interleaved(steps, device, rounds, dict.fromkeys(steps, 1))
    return [times[size]["wall_median"] for size in steps]


def megabytes(name: str, changed: str, options: Options) -> list[float]:
    """Memory of a step for each size of one quantity, each in a process of its own."""
    return [
        memory_in_fresh_process(__file__, name, changed, str(size), *options.passed_on())
        for size in GROWING[name].sizes[changed]
    ]


def bench(name: str, options: Options, _: torch.device) -> dict[str, Any]:
    """The curves of a paper."""
    growing, found = GROWING[name], {}
    device = growing.prepare(options)
    print(f"\n{name}: {growing.what}")
    for changed, sizes in growing.sizes.items():
        found[changed] = {
            "seconds": curve(sizes, seconds(growing, changed, device, options.rounds))
        }
        if options.memory:
            found[changed]["megabytes"] = curve(sizes, megabytes(name, changed, options))
        for unit, row in found[changed].items():
            values = ", ".join(
                f"{value:.3g} at {size}" for size, value in zip(sizes, row["values"], strict=True)
            )
            print(
                f"  {changed}, {unit}: {values}; exponent {row['exponent']:.2f}, {row['law']}",
                flush=True,
            )
    return {name: {"what": growing.what, "start": dict(growing.start), "curves": found}}


def memory_of(name: str, changed: str, size: str, device: torch.device) -> float:
    """Memory of a step in MB; to be called in a fresh process."""
    growing = GROWING[name]
    device = growing.prepare(Options(device=str(device), threads=torch.get_num_threads()))
    small = {**growing.start, "batch": 2}
    warm_up = growing.make(small, device)
    step = growing.make({**growing.start, changed: int(size)}, device)
    return growing.memory(step, warm_up, device)


def draw(rows: Mapping[str, Any]) -> Figure:
    """A row of axes for time and one for memory, a column a quantity, a line a paper."""
    quantities = list(dict.fromkeys(q for row in rows.values() for q in row["curves"]))
    units = list(
        dict.fromkeys(u for row in rows.values() for c in row["curves"].values() for u in c)
    )
    figure, table = plt.subplots(
        len(units),
        len(quantities),
        figsize=(3.4 * len(quantities), 3.1 * len(units)),
        layout="constrained",
        squeeze=False,
    )
    for line, unit in zip(table, units, strict=True):
        for axes, quantity in zip(line, quantities, strict=True):
            _plot(axes, rows, quantity, unit)
    return figure


def _plot(axes: Axes, rows: Mapping[str, Any], quantity: str, unit: str) -> None:
    """The papers' curves of one quantity, each relative to what it was at its first size."""
    for i, (name, row) in enumerate(rows.items()):
        if (found := row["curves"].get(quantity, {}).get(unit)) is None:
            continue
        sizes, values = np.array(found["sizes"]), np.array(found["values"])
        label = f"{name}, {found['exponent']:.2f}: {found['law']}"
        axes.loglog(sizes / sizes[0], values / values[0], "o-", color=f"C{i}", label=label)
    for power in (1, 2):
        reach = np.array(axes.get_xlim())
        axes.plot(reach, reach**power, ":", color="0.7", lw=1, zorder=0)
    axes.set(xlabel=f"{quantity}, times its least", ylabel=f"{unit} of a step, times the least")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=6)


def more(content: dict[str, Any], options: Options, device: torch.device, folder: Path) -> None:
    """The figure; papers that an earlier call measured into this folder stay, with their commit."""
    for case in content["cases"].values():
        case["commit"] = content["commit"]
    stored = folder / "bench.json"
    if stored.is_file():
        earlier = json.loads(stored.read_text())["cases"]
        content["cases"] = earlier | content["cases"]
    save_figure(draw(content["cases"]), folder / "growth")


BENCHMARK = Benchmark("growth", __doc__, Options, tuple(GROWING), bench, memory_of, more)


if __name__ == "__main__":
    script(BENCHMARK.main)
