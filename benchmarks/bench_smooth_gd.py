"""Smooth gradient descent: time and memory of gradients, by layers against the plain event loop.

    python benchmarks/bench_smooth_gd.py              gradients of MNIST, LIF and RNN
    python benchmarks/bench_smooth_gd.py --cases mnist

The plain side of MNIST is `AbstractNeuron.event` over all neurons with 200 events, mapped over the
batch, as in the published program but for the derivative, which goes from event to event; the fast
side is what the experiment uses, with as many events as the batch has. Both compute the loss and
its gradient of the same network, which has been trained for some steps, on the same digits. Before
anything is timed, in turns, the fast side must agree with the event loop in float64 to 1e-9, and to
1e-3 when it computes in float32 itself (the event loop in float32 is further off). The RNN's plain
side simulates 500 events, the fast side as many as there are; both compute in float64 and must
agree to 1e-9. So must leaky neurons' gradient, with JAX's derivative through all of the simulation,
and that of jaxsnn, the nearest peer (`lif_peer.py`). Memory is what XLA sets aside for a step's
results and all between, with the network that training starts from: a process's size would count
the compiler.
"""

import shared.waiting

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import lif_peer
import numpy as np
import torch
from measure import Benchmark, Options, interleaved, memory_in_fresh_process, print_times

from shared.options import script
from smooth_gd.experiments.jax_runtime import Settings, prepare, threads_of
from smooth_gd.experiments.mnist.data import load, sized
from smooth_gd.experiments.mnist.network import Network, Parameters
from smooth_gd.experiments.mnist.training import State, Trainer, needed
from smooth_gd.experiments.rnn import patterns as rnn
from smooth_gd.spikegd.layered import Bounds
from smooth_gd.spikegd.qif import QIFNeuron
from smooth_gd.spikegd.utils.events import room_for
from smooth_gd.spikegd.utils.parallel import Chunks

BATCH, K_PUBLISHED, STEPS = 1000, 200, 40
BARS = {"mnist": 8.0, "lif": 1.0, "rnn": 2.0}
MEMORY_BAR = 5.0
TOLERANCES = {"float64": 1e-9, "float32": 1e-3}
TOLERANCE = 1e-9  # of cases in float64
K_RNN = 500  # events that the published program of figure 3 simulates
SIDES = ("plain", "fast")
CPU = torch.device("cpu")  # what `measure` asks for; JAX runs on its own devices
Step = Callable[[], Any]


@dataclass(frozen=True)
class CompiledStep:
    """A step of training as a function that JAX compiles, and what it is called with.

    Attributes:
        function: what `jax.jit` gives.
        arguments: its arguments.
        devices: how many devices share its work in equal parts.
    """

    function: Any
    arguments: tuple[Any, ...]
    devices: int = 1

    def __call__(self) -> Any:
        """The step's results, waited for."""
        return jax.block_until_ready(self.function(*self.arguments))

    def memory_mb(self) -> float:
        """Memory of the results and of all that is computed on the way, in MB, as XLA lays it out.

        The arguments are not counted: they are there before.
        """
        laid_out = self.function.lower(*self.arguments).compile().memory_analysis()
        each = laid_out.temp_size_in_bytes + laid_out.output_size_in_bytes
        return float(self.devices * each / 1e6)


def trained(dtype: str, hidden: tuple[int, ...] = (100, 100), steps: int = STEPS) -> Any:
    """A network after some steps of training: trainer, parameters, and digits to go on with."""
    network = Network(sizes=(1, *hidden, 1))
    data = load("mnist", None, network, 0.02)
    few = replace(data, disturbed=lambda key, codes: codes)
    trainer = Trainer(sized(network, data), few, BATCH, 4e-3, 0, jax.devices()[0])
    state: State = trainer.initial(dtype)
    key = jax.random.key(0)
    for i in range(steps):
        part = data.train
        chosen = np.arange(i * BATCH, (i + 1) * BATCH) % len(part.labels)  # a stand-in has few
        state, _, _ = trainer.step(state, part.inputs[chosen], part.labels[chosen], key)
    return trainer, jax.tree.map(np.asarray, state.parameters), data.train


def chunked_step(
    trainer: Trainer, bounds: Bounds, parameters: Parameters, part: Any, batch: int
) -> CompiledStep:
    """The gradient as the experiment computes it, with room for events as the bounds say."""
    trainer.chunks = Chunks(batch, jax.devices()[0])
    inputs = trainer.chunks.cut(part.inputs[:batch])
    labels = trainer.chunks.cut(part.labels[:batch] + 1) - 1
    keys = jax.random.split(jax.random.key(0), trainer.chunks.n)
    compute = jax.jit(trainer.gradient, static_argnums=0)
    arguments = (bounds, parameters, inputs, labels, keys)
    return CompiledStep(compute, arguments, trainer.chunks.n_devices)


def fast_step(trainer: Trainer, parameters: Parameters, part: Any, batch: int) -> CompiledStep:
    """The gradient as the experiment computes it, with room as needed."""
    while True:
        step = chunked_step(trainer, trainer.bounds, parameters, part, batch)
        (_, _, *wanted), _ = step()
        more = needed(trainer.bounds, *wanted)
        if more is None:
            return step
        trainer.bounds = more


def gradient_step(batch: int, hidden: int, n_events: int = 0) -> CompiledStep:
    """A fast gradient step of two hidden layers; room for so many events of each, or as needed."""
    trainer, parameters, part = trained("float32", (hidden, hidden), 30)
    if not n_events:
        return fast_step(trainer, parameters, part, batch)
    bounds = Bounds((n_events, n_events), (8, 8))
    return chunked_step(trainer, bounds, parameters, part, batch)


def plain_step(
    network: Network, parameters: Parameters, part: Any, batch: int, K: int
) -> CompiledStep:
    """The gradient by the event loop over all neurons."""
    codes, labels = jnp.asarray(part.inputs[:batch]), jnp.asarray(part.labels[:batch])

    def loss(parameters: Parameters, codes: Any, labels: Any) -> Any:
        return jnp.mean(network.loss(network.plain_first(parameters, codes, K), labels))

    return CompiledStep(jax.jit(jax.value_and_grad(loss)), (parameters, codes, labels))


def mnist_steps(dtype: str, batch: int, steps: int = STEPS) -> dict[str, CompiledStep]:
    """Both sides."""
    trainer, parameters, part = trained(dtype, steps=steps)
    return {
        "plain": plain_step(trainer.network, parameters, part, batch, K_PUBLISHED),
        "fast": fast_step(trainer, parameters, part, batch),
    }


def largest_difference(one: Any, other: Any) -> float:
    """Of two gradients, relative to the largest entry of each array; NaN where there is one."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return float(np.max([np.abs(a - b).max() / np.abs(b).max() for a, b in pairs]))


def errors(batch: int) -> dict[str, float]:
    """Errors of loss and gradients against the event loop in float64; with 64 bit numbers on."""
    trainer, parameters, part = trained("float32", steps=30)
    wide = jax.tree.map(lambda leaf: leaf.astype(np.float64), parameters)
    network = trainer.network
    loss, true = plain_step(network, wide, part, batch, K_PUBLISHED)()
    (wide_loss, *_), wide_gradient = fast_step(trainer, wide, part, batch)()
    (narrow_loss, *_), narrow_gradient = fast_step(trainer, parameters, part, batch)()
    plain_loss, plain_gradient = plain_step(network, parameters, part, batch, K_PUBLISHED)()
    return {
        "float64": largest_difference((wide_loss, wide_gradient), (loss, true)),
        "float32": largest_difference((narrow_loss, narrow_gradient), (loss, true)),
        "float32_of_event_loop": largest_difference((plain_loss, plain_gradient), (loss, true)),
    }


def rnn_steps() -> dict[str, Step]:
    """The gradient of a trial of the recurrent network, with 500 events and with all there are."""
    neuron, made = QIFNeuron(), rnn.make_patterns(rnn.PAPER_SEED)
    parameters = rnn.start()

    def step(K: int) -> Step:
        compute = jax.jit(jax.value_and_grad(lambda p: rnn.loss(neuron, made, p, K)[0]))
        return lambda: jax.block_until_ready(compute(parameters))

    *_, events = rnn.simulate_trial(neuron, made, parameters, K_RNN)
    n_events = int(jnp.sum(events.neurons >= 0))
    return {"plain": step(K_RNN), "fast": step(room_for(n_events + 1))}


def first_calls(steps: dict[str, Step]) -> tuple[dict[str, Any], dict[str, float]]:
    """Outputs of all sides, and the seconds that they took with compilation."""
    outputs, seconds = {}, {}
    for side, step in steps.items():
        started = time.monotonic()
        outputs[side] = step()
        seconds[side] = time.monotonic() - started
    return outputs, seconds


def timed_case(
    name: str, steps: dict[str, Step], compilation: dict[str, float], options: Options
) -> dict[str, Any]:
    """Time all sides, which have been compiled and compared; "fast" against the best other one."""
    repeats = {side: 5 if side == "fast" else 1 for side in steps}
    times = interleaved(steps, CPU, options.rounds, repeats)
    other = min(steps.keys() - {"fast"}, key=lambda side: times[side]["wall_median"])
    ratio = times[other]["wall_median"] / times["fast"]["wall_median"]
    print(f"\n{name}: {ratio:.1f} times faster than {other} (bar {BARS[name]:.0f}); first calls "
          f"{compilation[other]:.1f} s and {compilation['fast']:.1f} s", flush=True)  # fmt: skip
    return {
        "seconds": times,
        "speed_ratio": ratio,
        "bar": BARS[name],
        "first_call_seconds": compilation,
    }


_ERRORS = """
import json, bench_smooth_gd as bench
bench.prepare(bench.Settings(dtype="float64"))
print(json.dumps(bench.errors(200)))
"""


def errors_in_own_process() -> dict[str, float]:
    """`errors` in a process that allows 64 bit numbers."""
    command = [sys.executable, "-c", _ERRORS]
    folder = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def mnist(options: Options) -> dict[str, Any]:
    """The gradient step of figure 4's network."""
    steps = mnist_steps("float32", BATCH)
    found = errors_in_own_process()
    for dtype, tolerance in TOLERANCES.items():
        assert found[dtype] < tolerance, found
    row = timed_case("mnist", steps, first_calls(steps)[1], options)
    words = options.passed_on()
    memory = {side: memory_in_fresh_process(__file__, side, *words) for side in SIDES}
    print_times(row["seconds"], memory)
    row |= {
        "errors": found,
        "step_memory_mb": memory,
        "memory_ratio": memory["plain"] / memory["fast"],
        "memory_bar": MEMORY_BAR,
    }
    print(f"  memory {row['memory_ratio']:.1f} times less (bar {MEMORY_BAR:.0f}); largest "
          f"error {found['float64']:.1e} in float64, {found['float32']:.1e} in float32 (event loop "
          f"{found['float32_of_event_loop']:.1e})", flush=True)  # fmt: skip
    return row


def in_float64(name: str, make: Callable[[], dict[str, Step]], options: Options) -> dict[str, Any]:
    """Compare and time the sides of a case with 64 bit numbers: they stay on."""
    jax.config.update("jax_enable_x64", True)
    steps = make()
    outputs, compilation = first_calls(steps)
    fast = outputs.pop("fast")
    error = max(largest_difference(fast, other) for other in outputs.values())
    assert error < TOLERANCE, error  # NaN, which too few events give, is not below it either
    row = timed_case(name, steps, compilation, options) | {"error": error}
    for side, t in row["seconds"].items():
        print(f"  {side:18s} {1e3 * t['wall_median']:9.1f} ms wall "
              f"({1e3 * t['wall_least']:.1f} to {1e3 * t['wall_most']:.1f})")  # fmt: skip
    print(f"  largest error {error:.1e}", flush=True)
    return row


def leaky(options: Options) -> dict[str, Any]:
    """The gradient of a network of leaky neurons, beside the nearest peer's."""
    return in_float64("lif", lif_peer.steps, options)


def recurrent(options: Options) -> dict[str, Any]:
    """The gradient of figure 3's network."""
    return in_float64("rnn", rnn_steps, options)


def memory_of(side: str, device: torch.device) -> float:
    """Memory of a gradient step before training, in MB."""
    return mnist_steps("float32", BATCH, steps=0)[side].memory_mb()


MEASURES = {"mnist": mnist, "lif": leaky, "rnn": recurrent}
"""What is measured for each case; the last two turn 64 bit numbers on."""


def bench(case: str, options: Options, device: torch.device) -> dict[str, Any]:
    """Compare, time and weigh the sides of a case."""
    return {case: MEASURES[case](options)}


def more(content: dict[str, Any], options: Options, device: torch.device, folder: Path) -> None:
    """JAX's threads and devices: what `record` knows are torch's, which nothing here uses."""
    content["threads"] = threads_of(options.threads)
    content["jax_devices"] = len(jax.devices())


def prepared(options: Options) -> torch.device:
    """Set JAX up; the arrays that are timed are waited for on the host.

    Raises:
        UserError: the peer of a case is not installed.
    """
    if "lif" in options.cases and not options.memory_of:
        lif_peer.check()
    prepare(Settings(threads=options.threads, device=options.device))
    return CPU


BENCHMARK = Benchmark(
    "smooth_gd", __doc__, Options, tuple(MEASURES), bench, memory_of, more, prepared
)


if __name__ == "__main__":
    script(BENCHMARK.main)
