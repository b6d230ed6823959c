"""STL-SNN: time and memory of a layer of neurons and of training steps, against four others.

    python benchmarks/bench_stl_snn.py                    the layer, then steps of three widths
    python benchmarks/bench_stl_snn.py --cases step_1/8   the step at 1/8 of the width only
    python benchmarks/bench_stl_snn.py --sides before fast

Sides: "fast" is what everything else uses, "before" what it was before spikes alone were visited
and normalization, neurons and pooling were one operation (`stl_before.py`; steps only), "plain" the
same network a step at a time under autograd (`stl_snn/reference.py`), "snntorch" its Leaky neurons
in a loop over the steps, "spikingjelly" its multi-step mode, on a GPU with the fastest backend that
it has there. All start from the same weights and see the same spikes; thresholds are such that the
layers fire as those of a trained network do. Before anything is timed the sides must agree in
float64: spikes or votes of all, and the gradients of all but snnTorch, which leaves the reset out
of its gradient. SpikingJelly has no threshold that learns: its side has one constant threshold for
a layer, which is less work. A peer that is not installed is left out by name.

Batch normalization takes each step's own statistics on all sides; dropout is off, since the sides
would draw different masks. Memory is the peak of a step in a fresh process.
"""

import shared.waiting

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import libraries
import stl_before
import torch
from libraries import MISSING, fastest_backend
from measure import (
    Benchmark,
    interleaved,
    memory_in_fresh_process,
    print_times,
    step_memory_mb,
)
from measure import Options as EveryOption
from torch import Tensor, nn
from torch.nn import functional

from shared.options import script
from stl_snn import func, reference
from stl_snn.func import LIF
from stl_snn.lif import lif
from stl_snn.param import MNIST, scaled
from stl_snn.spiking_model import SpikingNetwork
from stl_snn.training import squared_error

if "snntorch" not in MISSING:
    import snntorch
if "spikingjelly" not in MISSING:
    from spikingjelly.activation_based import functional as sj
    from spikingjelly.activation_based import layer as sj_layer
    from spikingjelly.activation_based import surrogate as sj_surrogate

SideName = Literal["plain", "before", "fast", "snntorch", "spikingjelly"]
SIDES: tuple[SideName, ...] = get_args(SideName)
LAYERS = {"plain": reference, "before": stl_before}  # `func` on other sides
OURS = ("plain", "before", "fast")
THETA = 0.5  # of the layer of neurons
# Spikes per neuron and step of the network's layers after training (MNIST at 1/8 of the width).
RATES = (0.06, 0.12, 0.35, 0.10)
SETTING = dataclasses.replace(MNIST(), spread=0.0, dropout=0.0)
BATCH, STEPS = SETTING.batch_size, SETTING.steps
LAYER = (128, 28, 28)
RATE = 0.13  # of input spikes; the mean pixel of MNIST
TOLERANCE = 1e-9
CPU_BARS: dict[str, dict[str, float]] = {
    "layer": {"plain": 4.0, "snntorch": 1.0, "spikingjelly": 1.0},
    "step": {"before": 1.3, "plain": 1.3},
    "step_1/4": {"before": 1.4},
    "step_1/8": {"before": 1.4},
}
GPU_BARS: dict[str, dict[str, float]] = {"step": {"plain": 2.5, "spikingjelly": 1.2}}


class Found(NamedTuple):
    """What a step gave: outputs [batch, ...], and gradients by name."""

    output: Tensor
    gradients: dict[str, Tensor]


class Side(NamedTuple):
    """One way to do the work.

    Attributes:
        step: does it.
        found: does it and gives what the sides are compared by.
    """

    step: Callable[[], object]
    found: Callable[[], Found]


# ------------------------------------------------------------------------------- libraries' side


def leaky(theta: Tensor) -> nn.Module:
    """A neuron of snnTorch with our dynamics and a threshold a neuron that learns."""
    surrogate = snntorch.surrogate.atan(alpha=SETTING.alpha)
    return libraries.leaky(SETTING.tau, theta, surrogate, learns=True)


def lif_node(theta: float = THETA) -> nn.Module:
    """A neuron of SpikingJelly with our dynamics, all steps at once."""
    return libraries.lif_node(SETTING.tau, theta, sj_surrogate.ATan(alpha=SETTING.alpha))


class SnnTorchNetwork(nn.Module):
    """The network of MNIST in snnTorch: all layers of a step, then the next step."""

    def __init__(self, like: SpikingNetwork) -> None:
        super().__init__()
        synapses = list(like.synapses().values())
        self.convs = nn.ModuleList(
            nn.Conv2d(c.in_channels, c.out_channels, c.kernel_size, padding=c.padding, bias=False)
            for c in synapses[:2]
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(c.out_channels) for c in synapses[:2])
        self.fcs = nn.ModuleList(
            nn.Linear(c.in_features, c.out_features, bias=False) for c in synapses[2:]
        )
        self.neurons = nn.ModuleList(
            leaky(layer.thresh.detach().clone()) for layer in like.neurons().values()
        )
        copy_weights(synapses, [*self.convs, *self.fcs])

    def forward(self, x: Tensor) -> Tensor:
        """Votes [batch, classes] for spikes [time, batch, ...]."""
        potentials = [neuron.reset_mem() for neuron in self.neurons]
        spikes = []
        for s in x:
            for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
                s, potentials[i] = self.neurons[i](norm(conv(s)), potentials[i])
                s = functional.max_pool2d(s, 2).to(x)  # its spikes are float32 always
            s = s.flatten(1)
            for i, fc in enumerate(self.fcs, len(self.convs)):
                s, potentials[i] = self.neurons[i](fc(s.to(x)), potentials[i])
            spikes.append(s)
        return votes(torch.stack(spikes).to(x))


class _NormByStep(nn.BatchNorm2d):
    """Batch normalization of each step apart on [time, batch, ...]."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([super(_NormByStep, self).forward(step) for step in x])


class SpikingJellyNetwork(nn.Module):
    """The network of MNIST in SpikingJelly: all steps of a layer, then the next layer."""

    def __init__(self, like: SpikingNetwork) -> None:
        super().__init__()
        synapses = list(like.synapses().values())
        # One of each layer's, which are all alike: a mean would be rounded.
        thetas = [float(layer.thresh.detach().flatten()[0]) for layer in like.neurons().values()]
        layers: list[nn.Module] = []
        own: list[nn.Module] = []
        for conv, theta in zip(synapses[:2], thetas[:2], strict=True):
            sizes = (conv.in_channels, conv.out_channels, conv.kernel_size)
            own.append(sj_layer.Conv2d(*sizes, padding=conv.padding, bias=False, step_mode="m"))
            layers += [own[-1], _NormByStep(conv.out_channels), lif_node(theta)]
            layers.append(sj_layer.MaxPool2d(2, step_mode="m"))
        layers.append(sj_layer.Flatten(step_mode="m"))
        for fc, theta in zip(synapses[2:], thetas[2:], strict=True):
            own.append(sj_layer.Linear(fc.in_features, fc.out_features, bias=False, step_mode="m"))
            layers += [own[-1], lif_node(theta)]
        self.layers = nn.Sequential(*layers)
        copy_weights(synapses, own)

    def forward(self, x: Tensor) -> Tensor:
        """Votes [batch, classes] for spikes [time, batch, ...]."""
        sj.reset_net(self.layers)
        return votes(self.layers(x))


def votes(spikes: Tensor) -> Tensor:
    """Mean of each class's neurons and of time, of spikes [time, batch, neurons]."""
    return spikes.unflatten(2, (-1, SETTING.population)).mean((0, 3))


def copy_weights(synapses: Sequence[nn.Module], into: Sequence[nn.Module]) -> None:
    """Give layers the weights of others."""
    with torch.no_grad():
        for one, other in zip(synapses, into, strict=True):
            other.weight.copy_(one.weight)


# ----------------------------------------------------------------------------------------- sides


def layer_side(side: str, device: torch.device, dtype: torch.dtype, batch: int) -> Side:
    """A layer of neurons, forward and backward."""
    draw = torch.Generator().manual_seed(0)
    current, signal = (
        torch.randn(batch, STEPS, *LAYER, generator=draw, dtype=dtype).to(device) for _ in range(2)
    )
    if side in ("plain", "fast"):
        x, teach = current, signal
    else:  # time first, as these libraries have it
        x, teach = (tensor.transpose(0, 1).contiguous() for tensor in (current, signal))
    x.requires_grad_()
    theta = torch.full(LAYER, THETA, dtype=dtype, device=device, requires_grad=True)
    neurons: nn.Module | None = None
    if side == "snntorch":
        neurons = leaky(theta.detach().clone()).to(device, dtype)
        theta = neurons.threshold
    elif side == "spikingjelly":
        neurons = lif_node()
        fastest_backend(device, neurons)

    def forward() -> Tensor:
        if side == "plain":
            return reference.lif(x, theta, SETTING.tau, SETTING.alpha)
        if side == "fast":
            return lif(x, theta, SETTING.tau, SETTING.alpha)
        assert neurons is not None
        if side == "spikingjelly":
            sj.reset_net(neurons)
            return neurons(x)
        potential, spikes = neurons.reset_mem(), []
        for drive in x:
            spike, potential = neurons(drive, potential)
            spikes.append(spike)
        return torch.stack(spikes)

    def step() -> Tensor:
        x.grad = theta.grad = None
        spikes = forward()
        spikes.backward(teach)
        return spikes.detach()

    def found() -> Found:
        spikes = step()
        gradients = {"current": x.grad}
        if side in ("plain", "fast"):
            gradients["theta"] = theta.grad
            return Found(spikes, gradients)
        gradients["current"] = gradients["current"].transpose(0, 1)
        return Found(spikes.transpose(0, 1), gradients)

    return Side(step, found)


@lru_cache
def thetas(width: float) -> tuple[float, ...]:
    """Thresholds at which the layers of the fresh network fire as `RATES` says."""
    torch.manual_seed(0)
    network = SpikingNetwork(scaled(SETTING, width), (1, 28, 28), 10)
    x, found = _input(8, torch.float32), []
    with torch.no_grad():
        for layer in network.children():
            if isinstance(layer, LIF):
                found.append(_theta(layer, x, RATES[len(found)]))
                layer.thresh.fill_(found[-1])
            x = layer(x)
    return tuple(found)


def _theta(layer: LIF, current: Tensor, rate: float) -> float:
    """The threshold at which neurons fire so often, by bisection."""
    least, most = 0.0, float(current.max())
    for _ in range(20):
        middle = (least + most) / 2
        layer.thresh.fill_(middle)
        least, most = (middle, most) if layer(current).mean() > rate else (least, middle)
    return round(most, 3)


def _input(batch: int, dtype: torch.dtype, steps: int = STEPS) -> Tensor:
    """Spikes of pixels, [batch, time, 1, 28, 28]."""
    draw = torch.Generator().manual_seed(1)
    return (torch.rand(batch, steps, 1, 28, 28, generator=draw) < RATE).to(dtype)


def step_side(
    side: str,
    device: torch.device,
    dtype: torch.dtype,
    batch: int,
    width: float = 1.0,
    steps: int = STEPS,
) -> Side:
    """A training step of the network of so many times the full width: forward, backward, Adam."""
    fire_at = thetas(width)
    torch.manual_seed(0)
    setting = scaled(SETTING, width)
    ours = SpikingNetwork(setting, (1, 28, 28), 10, layers=LAYERS.get(side, func))
    for theta, neurons in zip(fire_at, ours.neurons().values(), strict=True):
        nn.init.constant_(neurons.thresh, theta)
    network: nn.Module = {
        "snntorch": SnnTorchNetwork,
        "spikingjelly": SpikingJellyNetwork,
    }.get(side, lambda network: network)(ours)
    network.to(device, dtype).train()
    if side == "spikingjelly":
        fastest_backend(device, network)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.0, fused=True)  # weights stay equal
    x = _input(batch, dtype, steps).to(device)
    x = x if side in OURS else x.transpose(0, 1).contiguous()
    labels = (torch.arange(batch) % 10).to(device)

    def step() -> Tensor:
        found = network(x)
        optimizer.zero_grad(set_to_none=True)
        squared_error(found, labels).backward()
        optimizer.step()
        return found.detach()

    def found() -> Found:
        output = step()
        kinds = {"conv": nn.Conv2d, "fc": nn.Linear}
        gradients = {}
        for name, kind in kinds.items():
            weights = [m.weight for m in network.modules() if isinstance(m, kind)]
            gradients |= {f"{name}{i}": weight.grad for i, weight in enumerate(weights)}
        if side in OURS:
            gradients |= {name: layer.thresh.grad for name, layer in ours.neurons().items()}
        return Found(output, gradients)

    return Side(step, found)


CASES: Mapping[str, Callable[..., Side]] = {
    "layer": layer_side,
    "step": step_side,
    "step_1/4": partial(step_side, width=0.25),
    "step_1/8": partial(step_side, width=0.125),
}
REPEATS = {"layer": 3, "step": 1, "step_1/4": 3, "step_1/8": 5}


@dataclass(frozen=True)
class Options(EveryOption):
    """The options."""

    sides: tuple[SideName, ...] = SIDES
    """What is timed; fast always is."""

    def of(self, case: str) -> list[str]:
        """The sides of a case."""
        absent = set(MISSING)
        if case == "layer":
            absent.add("before")  # its neurons are the same
        return [side for side in SIDES if side in {*self.sides, "fast"} - absent]


# ----------------------------------------------------------------------------------------- bench


def differences(case: str, sides: Sequence[str], device: torch.device) -> dict[str, float]:
    """Largest differences to the plain side in float64, relative to the largest entry.

    Raises:
        AssertionError: one is above the tolerance.
    """
    plain = CASES[case]("plain", device, torch.float64, 4).found()
    found = {}
    for side in sides:
        if side == "plain":
            continue
        other = CASES[case](side, device, torch.float64, 4).found()
        pairs = {"output": (plain.output, other.output)}
        if side != "snntorch":  # its gradient leaves the reset out
            pairs |= {key: (plain.gradients[key], g) for key, g in other.gradients.items()}
        for key, (expected, value) in pairs.items():
            largest = float(expected.abs().max()) or 1.0
            found[f"{side} {key}"] = float((value - expected).abs().max()) / largest
            assert found[f"{side} {key}"] < TOLERANCE, f"{case}: {side} {key} differs"
    return found


def rounding(case: str, sides: Sequence[str], device: torch.device) -> dict[str, float]:
    """By side the largest difference of float32 to the plain side in float64, relative."""
    plain = CASES[case]("plain", device, torch.float64, 4).found()
    found = {}
    for side in sides:
        other = CASES[case](side, device, torch.float32, 4).found()
        pairs = [(plain.output, other.output)]
        pairs += [(plain.gradients[key], value) for key, value in other.gradients.items()]
        found[side] = max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)
    return found


def bench(case: str, options: Options, device: torch.device) -> dict[str, Any]:
    """Compare, time and weigh all sides."""
    sides = options.of(case)
    exact = differences(case, sides, device)
    rounded = rounding(case, [side for side in ("before", "fast") if side in sides], device)
    steps = {side: CASES[case](side, device, torch.float32, BATCH).step for side in sides}
    times = interleaved(steps, device, options.rounds, dict.fromkeys(sides, REPEATS[case]))
    del steps
    memory = {
        side: memory_in_fresh_process(__file__, case, side, *options.passed_on()) for side in sides
    }
    ratios = {
        side: times[side]["wall_median"] / times["fast"]["wall_median"]
        for side in sides
        if side != "fast"
    }
    bars = (GPU_BARS if device.type == "cuda" else CPU_BARS).get(case, {})
    print(f"\n{case}")
    print_times(times, memory)
    said = ", ".join(
        f"{ratio:.2f} times faster than {side} (bar {bars.get(side)})"
        for side, ratio in ratios.items()
    )
    print(f"  fast is {said}; largest difference in float64 {max(exact.values()):.1e}")
    errors = ", ".join(f"{side} {error:.1e}" for side, error in rounded.items())
    print(f"  largest difference of float32 to plain in float64: {errors}", flush=True)
    row = {
        "batch": BATCH,
        "steps": STEPS,
        "differences": exact,
        "differences_float32": rounded,
        "seconds": times,
        "step_memory_mb": memory,
        "speed_ratios": ratios,
        "bars": bars,
    }
    return {case: row}


def memory_of(case: str, side: str, device: torch.device) -> float:
    """Memory of a step in MB; to be called in a fresh process."""
    warm_up = CASES[case](side, device, torch.float32, 2).step
    step = CASES[case](side, device, torch.float32, BATCH).step
    return step_memory_mb(step, warm_up, device)


def more(content: dict[str, Any], options: Options, device: torch.device, folder: Path) -> None:
    """Which peers these were."""
    content["peers"] = libraries.peers()
    if "spikingjelly" not in MISSING:
        content["spikingjelly_backend"] = fastest_backend(device, lif_node())


BENCHMARK = Benchmark("stl_snn", __doc__, Options, tuple(CASES), bench, memory_of, more)


if __name__ == "__main__":
    script(BENCHMARK.main)
