"""BRP-SNN: time and memory of a training step: layer by layer, sparsely, and step by step.

    python benchmarks/bench_brp_snn.py                  all networks, then growth with the steps
    python benchmarks/bench_brp_snn.py --no-growth      all networks only

The plain side runs the network a step at a time and lets autograd find the gradients, in every
mode; the dense one goes layer by layer in whole products and torch's convolutions, as the other
does on devices other than the CPU. All sides take the same weights, input and targets, and fill the
same gradients, which are there before the step. The input is drawn from digits for the MNIST
networks, else from one rate. Readouts and gradients must agree to 1e-9 in float64, at the timed
size, before anything is timed; then all are timed in float32, in turns. How far they are apart in
float32 is recorded: mostly 1e-6 and less, but rounding can take a potential to the other side of
the threshold or of the surrogate's edge, and such a unit moves a gradient by some 1e-3. Memory is
the peak of a step in a fresh process each, its input drawn in it, above parameters and gradients.

BP's step of the fully connected network has two sides more: the same network in snnTorch, a step at
a time, and in SpikingJelly, all steps of a layer at once. Their readouts must be ours in float64,
and SpikingJelly's gradients; snnTorch leaves the reset out of its own.
"""

import shared.waiting

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args
from unittest.mock import patch

import libraries
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from measure import (
    Benchmark,
    interleaved,
    memory_in_fresh_process,
    print_times,
    step_memory_mb,
)
from measure import Options as EveryOption
from torch import Tensor, nn
from torch.nn.functional import mse_loss, one_hot

from brp_snn import _sparse, layerwise
from brp_snn.cost import FORMS, Cost, Form, step_cost
from brp_snn.function import Mode
from brp_snn.models import NetworkBuilder, act_fun
from shared import datasets
from shared.figures import save_figure
from shared.options import script

Way = Literal["plain", "dense", "layerwise", "snntorch", "spikingjelly"]
OURS: tuple[Way, ...] = ("plain", "dense", "layerwise")
WITH_PEERS = "mnist_fc BP"
Timed = Literal["BRP", "BP", "FA", "DFA"]
SPEED_BARS: dict[Mode, float] = {"BRP": 1.4, "BP": 1.2}
DENSE_BARS = {"mnist_fc BRP": 1.5, "mnist BRP": 1.6}  # against the dense side
GPU_BAR = 5.0
# Layerwise in units of plain; without convolutions there is too little to save.
MEMORY_BARS = dict.fromkeys(("mnist BRP", "gesture BRP"), 1 / 3)
TOLERANCE = 1e-9  # in float64
BATCH, STEPS = 50, 20
RATE = 0.13  # of input spikes where there are no digits; the mean pixel of MNIST
GROWTH = (10, 20, 50, 100, 200)  # steps
GROWING: tuple[tuple[Mode, Form], ...] = (
    ("BRP", "layerwise"),
    ("BP", "layerwise"),
    ("BRP", "plain"),
)
PLAIN_LIMIT = 12e9  # bytes that the plain side may keep


class Case(NamedTuple):
    """A network and the shape of its input at one step."""

    topology: str
    shape: tuple[int, ...]

    def levels(self, batch: int) -> Tensor:
        """Probabilities of spikes, [batch, *shape]: digits for a network that takes them."""
        if self.shape != (1, 28, 28):
            return torch.full((batch, *self.shape), RATE)
        return _digits()[:batch].float() / 255


@cache
def _digits() -> Tensor:
    return torch.from_numpy(datasets.load("mnist", fallback=True, download=False).test.inputs)


CASES = {
    "mnist_fc": Case("FC_1000_FC_10", (1, 28, 28)),
    "mnist": Case("CONV_32_5_1_2_FC_1000_FC_10", (1, 28, 28)),
    "gesture": Case("CONV_32_5_1_2_FC_1000_FC_11", (2, 32, 32)),
}


@dataclass(frozen=True)
class Side:
    """One way to do a training step.

    Attributes:
        step: does it; the gradients stay in the parameters.
        found: does it and gives readout and gradients by name, to compare the sides by.
    """

    step: Callable[[], Tensor]
    found: Callable[[], dict[str, Tensor]]


def make_side(
    case: Case,
    mode: Mode,
    way: Way,
    device: torch.device,
    *,
    batch: int = BATCH,
    steps: int = STEPS,
    dtype: torch.dtype = torch.float32,
    stored_input: bool = True,
) -> Side:
    """A side with its network, input and gradients.

    Args:
        case: network and shape.
        mode: the learning mode.
        way: plain, dense or layerwise.
        device: where it runs.
        batch: samples.
        steps: steps of a presentation.
        dtype: of weights and activity.
        stored_input: the input is drawn beforehand; else in the step, where it is asked for.
    """
    torch.manual_seed(0)
    network = NetworkBuilder(case.topology, case.shape, mode).to(device, dtype)
    labels = torch.arange(batch, device=device) % network.n_classes
    targets = one_hot(labels, network.n_classes).to(dtype)
    trained = peer_of(way, network, device) if way in libraries.PEERS else network
    for parameter in trained.parameters():
        parameter.grad = torch.zeros_like(parameter)
    generator = torch.Generator(device).manual_seed(1)
    levels = case.levels(batch).to(device, dtype)

    def fresh(start: int, stop: int) -> Tensor:
        return torch.bernoulli(levels.expand(stop - start, *levels.shape), generator=generator)

    stored = fresh(0, steps) if stored_input else None

    def draw(start: int, stop: int) -> Tensor:
        return fresh(start, stop) if stored is None else stored[start:stop]

    def step() -> Tensor:
        if way in ("dense", "layerwise"):
            with in_whole_products() if way == "dense" else nullcontext():
                return layerwise.gradients(network, draw, steps, targets, mse_loss).output
        trained.zero_grad(set_to_none=False)
        output: Tensor = trained(draw(0, steps).movedim(0, 2), targets)
        mse_loss(output, targets).backward()
        return output.detach()

    def found() -> dict[str, Tensor]:
        readout = step()
        names = [name for name, _ in network.named_parameters()]
        given = dict(zip(names, (p.grad for p in trained.parameters()), strict=True))
        gradients = {name: grad for name, grad in given.items() if grad is not None}
        return {"readout": readout, **gradients}

    return Side(step, found)


class Peer(nn.Module):
    """A fully connected network of ours with a library's neurons, and the same weights."""

    def __init__(self, like: NetworkBuilder, neurons: Callable[[], nn.Module]) -> None:
        super().__init__()
        synapses = [block.fc for block in like.blocks]
        self.fcs = nn.ModuleList(nn.Linear(fc.in_features, fc.out_features) for fc in synapses)
        self.neurons = nn.ModuleList(neurons() for _ in synapses)
        for own, theirs in zip(self.fcs, synapses, strict=True):
            own.load_state_dict(theirs.state_dict())


class SnnTorchPeer(Peer):
    """All layers of a step, then the next step."""

    def forward(self, spikes: Tensor, _: Tensor) -> Tensor:
        """The mean number of output spikes for spikes [batch, channels, time, ...]."""
        potentials = [neurons.reset_mem() for neurons in self.neurons]
        total = torch.zeros((), dtype=spikes.dtype, device=spikes.device)
        for step in spikes.unbind(2):
            x = step.flatten(1)
            for i, (fc, neurons) in enumerate(zip(self.fcs, self.neurons, strict=True)):
                x, potentials[i] = neurons(fc(x), potentials[i])
            total = total + x
        return total / spikes.shape[2]


class SpikingJellyPeer(Peer):
    """All steps of a layer, then the next layer."""

    def forward(self, spikes: Tensor, _: Tensor) -> Tensor:
        """The mean number of output spikes for spikes [batch, channels, time, ...]."""
        x = spikes.movedim(2, 0).flatten(2)
        for fc, neurons in zip(self.fcs, self.neurons, strict=True):
            neurons.reset()
            x = neurons(fc(x))
        return x.mean(0)


def peer_of(way: Way, like: NetworkBuilder, device: torch.device) -> nn.Module:
    """The network of a library, with SpikingJelly's fastest neurons of the device."""
    unit = like.neuron

    def spikes(above: Tensor) -> Tensor:
        return act_fun(above, 0.0, unit.lens)

    peer: Peer
    if way == "snntorch":
        constants = (unit.decay, unit.threshold, spikes)
        peer = SnnTorchPeer(like, lambda: libraries.leaky(*constants, learns=False))
    else:
        peer = SpikingJellyPeer(
            like, lambda: libraries.lif_node(unit.decay, unit.threshold, spikes)
        )
        libraries.fastest_backend(device, peer)
    return peer.to(device, like.blocks[0].weight.dtype)


def sides_of(name: str, mode: Mode) -> tuple[Way, ...]:
    """The sides of a network in a mode."""
    if f"{name} {mode}" != WITH_PEERS:
        return OURS
    return (*OURS, *(way for way in get_args(Way) if way not in (*OURS, *libraries.MISSING)))


def in_whole_products() -> Any:
    """Within it, layers take no notice of zeros."""
    return patch.object(_sparse, "takes", lambda weight: False)


def differences(
    name: str, mode: Mode, device: torch.device, dtype: torch.dtype
) -> dict[str, float]:
    """Largest differences from the plain side, relative to the largest entry of each array.

    Of snnTorch the readout alone is compared.

    Raises:
        AssertionError: one is above the tolerance, in float64.
    """
    found = {way: make_side(CASES[name], mode, way, device, dtype=dtype).found()
             for way in sides_of(name, mode)}  # fmt: skip
    plain = found.pop("plain")
    largest = {}
    for key, value in plain.items():
        others = [side for way, side in found.items() if way != "snntorch" or key == "readout"]
        scale = float(value.abs().max()) or 1.0
        largest[key] = max(float((other[key] - value).abs().max()) for other in others) / scale
        exact = dtype != torch.float64 or largest[key] < TOLERANCE
        assert exact, f"{mode}: {key} differs by {largest[key]}"
    return largest


@dataclass(frozen=True)
class Options(EveryOption):
    """The options."""

    modes: tuple[Timed, ...] = get_args(Timed)
    """Learning modes."""


def bench(name: str, options: Options, device: torch.device) -> dict[str, Any]:
    """Compare, time and weigh all sides of a network in every mode."""
    return {f"{name} {mode}": bench_one(name, mode, options, device) for mode in options.modes}


def bench_one(name: str, mode: Mode, options: Options, device: torch.device) -> Any:
    """Compare, time and weigh all sides of one network in one mode."""
    case = CASES[name]
    sides = sides_of(name, mode)
    exact = differences(name, mode, device, torch.float64)
    rounded = differences(name, mode, device, torch.float32)
    steps = {way: make_side(case, mode, way, device).step for way in sides}
    times = interleaved(steps, device, options.rounds, dict.fromkeys(sides, 2))
    memory = {way: memory_of_step(options, name, mode, way) for way in sides}
    speed, over_dense = (
        times[way]["wall_median"] / times["layerwise"]["wall_median"] for way in ("plain", "dense")
    )
    share = memory["layerwise"] / memory["plain"]
    on_cuda = device.type == "cuda"
    speed_bar = GPU_BAR if on_cuda else SPEED_BARS.get(mode)
    memory_bar = MEMORY_BARS.get(f"{name} {mode}")
    dense_bar = None if on_cuda else DENSE_BARS.get(f"{name} {mode}")
    print(f"\n{name} {mode}")
    print_times(times, memory)
    print(f"  layerwise is {over_dense:.2f} times faster than dense (bar {dense_bar}), {speed:.2f} "
          f"times faster than plain (bar {speed_bar}) in {share:.2f} of its memory "
          f"(bar {memory_bar and round(memory_bar, 2)}); largest relative difference "
          f"{max(exact.values()):.1e} in float64, {max(rounded.values()):.1e} in float32",
          flush=True)  # fmt: skip
    return {
        "topology": case.topology,
        "batch": BATCH,
        "steps": STEPS,
        "differences": exact,
        "differences_float32": rounded,
        "seconds": times,
        "step_memory_mb": memory,
        "speed_ratio": speed,
        "bar": speed_bar,
        "dense_ratio": over_dense,
        "dense_bar": dense_bar,
        "memory_ratio": share,
        "memory_bar": memory_bar,
        "analytic": {form: as_row(cost(case, mode, form)) for form in FORMS},
    }


def cost(case: Case, mode: Mode, form: Form, steps: int = STEPS) -> Cost:
    """Operations and memory by count."""
    return step_cost(*case, mode, form, batch=BATCH, steps=steps)


def as_row(found: Cost) -> dict[str, float]:
    """A cost for bench.json: multiply-accumulates by kind, and MB."""
    kinds = ("forward", "weights", "through", "signals")
    return {kind: getattr(found, kind) for kind in kinds} | {"kept_mb": found.kept / 1e6}


def memory_of_step(options: Options, name: str, mode: Mode, way: Way, steps: int = STEPS) -> float:
    """Peak memory of a step in a fresh process, in MB; its input is drawn in the step."""
    words = (name, mode, way, str(steps))
    return memory_in_fresh_process(__file__, *words, *options.passed_on())


def memory_of(name: str, mode: Mode, way: Way, steps: str, device: torch.device) -> float:
    """Peak memory of a step beyond parameters and gradients, in MB; in a fresh process only."""
    make = (CASES[name], mode, way, device)
    small = make_side(*make, batch=2, steps=STEPS, stored_input=False).step
    return step_memory_mb(
        make_side(*make, steps=int(steps), stored_input=False).step, small, device
    )


def grow(options: Options) -> dict[str, list[dict[str, float]]]:
    """Memory against the number of steps, measured and counted, for the MNIST network."""
    found: dict[str, list[dict[str, float]]] = {}
    for mode, form in GROWING:
        rows = found[f"{mode} {form}"] = []
        for steps in GROWTH:
            counted = cost(CASES["mnist"], mode, form, steps).kept
            if form == "layerwise" or counted < PLAIN_LIMIT:
                measured = memory_of_step(options, "mnist", mode, form, steps)
                rows.append({"steps": steps, "measured_mb": measured, "counted_mb": counted / 1e6})
        print(f"{mode} {form}: " + ", ".join(
            f"{row['measured_mb']:.0f} MB at T = {row['steps']}" for row in rows
        ), flush=True)  # fmt: skip
    return found


def draw_memory(growth: dict[str, list[dict[str, float]]]) -> Figure:
    """Memory against the number of steps: measured points, counted lines."""
    figure, axes = plt.subplots(figsize=(5.2, 3.6), layout="constrained")
    for i, (side, rows) in enumerate(growth.items()):
        steps, measured, counted = np.array([tuple(row.values()) for row in rows]).T
        axes.loglog(steps, measured, "o", color=f"C{i}", label=f"{side}, measured")
        axes.loglog(steps, counted, "--", color=f"C{i}", label=f"{side}, counted")
    axes.set(
        xlabel="steps of a presentation, T",
        ylabel="peak memory of a training step (MB)",
        title="Memory against time (MNIST network, batch 50)",
        xticks=GROWTH,
        xticklabels=[str(steps) for steps in GROWTH],
    )
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    return figure


def draw_cost(rows: dict[str, Any]) -> Figure:
    """Operations by kind, and memory counted and measured, of every mode and form."""
    bars = [
        (f"{mode}\n{form}", row["analytic"][form], row["step_memory_mb"][form])
        for mode in get_args(Timed)
        for form in FORMS
        if (row := rows.get(f"mnist {mode}"))
    ]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
    at, bottom = np.arange(len(bars)), np.zeros(len(bars))
    kinds = {"forward": "forward", "weights": "weight gradients",
             "through": "backward through layers", "signals": "projected signals"}  # fmt: skip
    for kind, label in kinds.items():
        values = np.array([counted[kind] / 1e9 for _, counted, _ in bars])
        left.bar(at, values, bottom=bottom, label=label)
        bottom += values
    left.set(ylabel="multiply-accumulates of a step (10⁹)", title="Operations, counted")
    right.bar(at - 0.2, [counted["kept_mb"] for _, counted, _ in bars], 0.4, label="counted")
    right.bar(at + 0.2, [measured for _, _, measured in bars], 0.4, label="measured")
    right.set(ylabel="memory of a step (MB)", title="Memory")
    for axes in (left, right):
        axes.set_xticks(at, [name for name, _, _ in bars], fontsize=7)
        axes.set_ylim(top=1.25 * axes.get_ylim()[1])  # room for the legend
        axes.legend(fontsize=7, ncols=2)
    figure.suptitle(f"MNIST network, batch {BATCH}, T = {STEPS}")
    return figure


def more(content: dict[str, Any], options: Options, device: torch.device, folder: Path) -> None:
    """Memory against the steps, figures, and which libraries these were."""
    content["peers"] = libraries.peers()
    if "mnist" in options.cases:
        save_figure(draw_cost(content["cases"]), folder / "cost")
    if options.growth:
        content["growth"] = grow(options)
        save_figure(draw_memory(content["growth"]), folder / "memory")


BENCHMARK = Benchmark("brp_snn", __doc__, Options, tuple(CASES), bench, memory_of, more)


if __name__ == "__main__":
    script(BENCHMARK.main)
