"""Shifting learning: time and memory of a training step, fused against plain formulation.

    python benchmarks/bench_shifting_learning.py               both networks, then growth with size
    python benchmarks/bench_shifting_learning.py --no-growth   both networks only

Both sides take the same inputs, timings and errors, do the same work (forward, feedback, one Adam
step of both layers) and must give the same numbers: in float64 first, to 1e-9; then they are timed
in float32, interleaved, in this process. Peak memory is that of a step in a fresh process each.
"""

import shared.waiting

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from measure import (
    Benchmark,
    Options,
    interleaved,
    memory_in_fresh_process,
    print_times,
    step_memory_mb,
    timed,
)

from shared import datasets
from shared.figures import save_figure
from shared.options import script
from shifting_learning.Dataset import code, image_intensities
from shifting_learning.network import Network, reward_error
from shifting_learning.reference import PlainLayer, PlainMultiInputLayer
from shifting_learning.SL_Layer import SNNLayer
from shifting_learning.SL_MultiInputLy import SNN_MInLy

SIDES = ("plain", "fused")
BARS = {"mnist": 60.0, "tca": 20.0}
GPU_BAR = 20.0
GROWTH = {
    "batch": (8, 16, 32, 64, 128, 256, 512),
    "inputs": (98, 196, 392, 784, 1568, 3136),
    "outputs": (100, 200, 400, 800, 1600, 3200),
}
PLAIN_LIMIT = 128 * 784 * 800  # entries of a (batch, in, out) array that the plain side may hold


@dataclass(frozen=True)
class Case:
    """Layer sizes, and the trials they are taught with.

    Attributes:
        name: of the case.
        sizes: inputs, hidden neurons, outputs.
        batch: trials a step.
        spikes: spikes of the one trial; 0 for one spike an input.
    """

    name: str
    sizes: tuple[int, int, int]
    batch: int
    spikes: int = 0


CASES = {
    "mnist": Case("mnist", (784, 800, 10), 128),
    "tca": Case("tca", (500, 3200, 22), 1, spikes=4000),
}


def digit_codes(n: int, n_in: int) -> torch.Tensor:
    """Codes of MNIST test images (the 5,000 of mnist5k where MNIST is not there), [n, n_in].

    Other sizes than 784 repeat or cut the pixels.
    """
    images = datasets.load("mnist", fallback=True, download=False).test.inputs
    pixels = np.resize(image_intensities(np.resize(images, (n, *images.shape[1:]))), (n, 784))
    return code(torch.from_numpy(np.tile(pixels, -(-n_in // 784))[:, :n_in].copy()))


def make_step(
    case: Case, side: str, dtype: torch.dtype, device: torch.device
) -> tuple[Network, Callable[[], torch.Tensor]]:
    """A network and its training step, which returns the output codes."""
    generator = torch.Generator().manual_seed(0)
    n_in, n_hidden, n_out = case.sizes
    # Spike trains: all timings together reach 1.2, so that hidden neurons spike late and the search
    # cannot stop early.
    spread = 2.4 * n_in / case.spikes if case.spikes else 40.0
    e_ts = [
        torch.rand(n_in, n_hidden, generator=generator) * (spread / n_in),
        torch.rand(n_hidden, n_out, generator=generator) * (8 / n_hidden),
    ]
    kind = SNNLayer if side == "fused" else PlainLayer
    first: Any = kind
    if case.spikes:
        first = SNN_MInLy if side == "fused" else PlainMultiInputLayer
        times = torch.rand(case.spikes, generator=generator).sort().values * 2
        synapse = torch.randint(n_in, (case.spikes,), generator=generator)
        inputs = (times.to(device, dtype), synapse.to(device))
    else:
        inputs = (digit_codes(case.batch, n_in).to(device, dtype),)
    network = Network(
        first(n_in, n_hidden, e_ts[0].to(dtype)), kind(n_hidden, n_out, e_ts[1].to(dtype))
    ).to(device)
    labels = (torch.arange(case.batch) % n_out).to(device)

    def step() -> torch.Tensor:
        z_out = network(*inputs)
        network.learn(reward_error(z_out, labels, "first_spike", 20.0), 1e-4, 0.0)
        return z_out

    return network, step


def compare(case: Case, device: torch.device) -> dict[str, float]:
    """Largest relative differences of two float64 steps, and how float32 sums shift plain codes.

    Raises:
        AssertionError: codes or timings of the two sides differ by more than 1e-9.
    """
    found = {}
    for side in SIDES:
        network, step = make_step(case, side, torch.float64, device)
        z_out = [step(), step()]
        found[side] = [*z_out, *(layer.e_ts.detach().clone() for layer in network.layers)]
    plain, fused = found["plain"], found["fused"]
    codes = max(float(((a - b) / a).abs().max()) for a, b in zip(plain[:2], fused[:2], strict=True))
    timings = max(
        float((a - b).abs().max() / a.abs().max())
        for a, b in zip(plain[2:], fused[2:], strict=True)
    )
    assert codes < 1e-9, f"{case.name}: the output codes of the two sides differ by {codes}"
    assert timings < 1e-9, f"{case.name}: the timings of the two sides differ by {timings}"
    return {"codes": codes, "timings": timings, "float32_flips": float32_flips(case, device)}


def float32_flips(case: Case, device: torch.device) -> float:
    """Share of hidden causal sets that the plain side gets wrong where it sums in float32."""
    masks = []
    for dtype in (torch.float32, torch.float64):
        network, step = make_step(case, "plain", dtype, device)
        step()
        masks.append(network.layers[0].cause_mask)
    wrong = (masks[0] != masks[1]).any(dim=-2)
    return wrong.double().mean().item()


def memory_of(name: str, side: str, device: torch.device) -> float:
    """Memory of a step of a case, in MB; to be called in a fresh process."""
    case = CASES[name]
    _, step = make_step(case, side, torch.float32, device)
    small = Case("small", (20, 10, 2), min(case.batch, 2), min(case.spikes, 30))
    _, warm_up = make_step(small, side, torch.float32, device)
    return step_memory_mb(step, warm_up, device)


def grow(device: torch.device) -> dict[str, dict[str, list[list[float]]]]:
    """Seconds of a step of one 784-800 layer as batch, inputs or outputs grow, [[size, s], ...]."""
    found: dict[str, dict[str, list[list[float]]]] = {}
    for what, sizes in GROWTH.items():
        found[what] = {side: [] for side in SIDES}
        for size in sizes:
            n = {"batch": 128, "inputs": 784, "outputs": 800, what: size}
            case = Case(what, (n["inputs"], n["outputs"], 10), n["batch"])
            for side in SIDES:
                if side == "plain" and n["batch"] * n["inputs"] * n["outputs"] > PLAIN_LIMIT:
                    continue
                _, step = make_step(case, side, torch.float32, device)
                step()
                repeats = 1 if side == "plain" else 5
                seconds = float(np.median([timed(step, device)[0] for _ in range(repeats)]))
                found[what][side].append([size, seconds])
                print(f"{what} {size:5d}  {side:5s}  {1e3 * seconds:9.1f} ms", flush=True)
    return found


def draw_growth(growth: dict[str, dict[str, list[list[float]]]]) -> Figure:
    """Step time against size, both sides."""
    figure, panels = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained", sharey=True)
    for axes, (what, sides) in zip(panels, growth.items(), strict=True):
        for side, points in sides.items():
            sizes, seconds = np.array(points).T
            axes.loglog(sizes, 1e3 * seconds, "o-", label=side)
        axes.set(xlabel=what, title=f"growth with {what}")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("training step (ms)")
    panels[0].legend()
    return figure


def bench(name: str, options: Options, device: torch.device) -> dict[str, Any]:
    """Compare, time and weigh both sides on a network."""
    case = CASES[name]
    differences = compare(case, device)
    steps = {side: make_step(case, side, torch.float32, device)[1] for side in SIDES}
    times = interleaved(steps, device, options.rounds, {"plain": 1, "fused": 10})
    memory = {
        side: memory_in_fresh_process(__file__, name, side, *options.passed_on()) for side in SIDES
    }
    ratio = times["plain"]["wall_median"] / times["fused"]["wall_median"]
    bar = GPU_BAR if device.type == "cuda" else BARS[name]
    row = {
        "sizes": case.sizes,
        "batch": case.batch,
        "spikes": case.spikes,
        "differences": differences,
        "seconds": times,
        "step_memory_mb": memory,
        "speed_ratio": ratio,
        "memory_ratio": memory["fused"] / memory["plain"],
        "bar": bar,
    }
    print(f"\n{name} {'-'.join(map(str, case.sizes))}, batch {case.batch}")
    print_times(times, memory)
    print(f"  fused is {ratio:.0f} times faster (bar {bar:.0f}) with "
          f"{row['memory_ratio']:.3f} of the memory (bar 0.1); largest relative "
          f"difference {max(differences['codes'], differences['timings']):.1e}")  # fmt: skip
    return {name: row}


def more(content: dict[str, Any], options: Options, device: torch.device, folder: Path) -> None:
    """Growth with the size, and its figure."""
    if options.growth:
        content["growth"] = grow(device)
        save_figure(draw_growth(content["growth"]), folder / "growth")


BENCHMARK = Benchmark("shifting_learning", __doc__, Options, tuple(CASES), bench, memory_of, more)


if __name__ == "__main__":
    script(BENCHMARK.main)
