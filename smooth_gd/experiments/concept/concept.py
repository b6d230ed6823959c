"""How a spike appears: smoothly in a quadratic neuron, with a jump in a leaky one (figure 1).

    python smooth_gd/experiments/concept/concept.py

A quadratic integrate-and-fire (QIF) neuron and, as a control, a leaky one (LIF) get one excitatory
input whose weight grows, or an excitatory and an inhibitory input whose time moves. Shown are the
voltages of some examples, the time of the first spike over the whole range, and its slope.
The spike times of the QIF neuron change continuously, except where they leave the trial; those of
the LIF neuron jump in the middle of it.
"""

import argparse
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from shared.options import add_common_options, script
from shared.run import Run, carry_out
from smooth_gd.experiments.concept.figures import Sweep, draw_concept
from smooth_gd.experiments.setup import DEVICES, add_dtype_option, described, prepare
from smooth_gd.spikegd.lif import LIFNeuron
from smooth_gd.spikegd.models import AbstractIFNeuron
from smooth_gd.spikegd.qif import QIFNeuron
from smooth_gd.spikegd.utils.checks import needs_float64
from smooth_gd.spikegd.utils.events import simulate, voltages
from smooth_gd.spikegd.utils.network import first_spikes

EXPERIMENT = "gd_concept"
T_INPUT = 0.5
DT = 0.01
QUICK_POINTS = 2000
CHUNK = 10_000  # points of a sweep in one program


@dataclass(frozen=True)
class Setting:
    """What one neuron model is shown.

    Attributes:
        neuron: the model.
        T: length of a trial.
        K: number of events simulated.
        weights: examples of the excitatory weight, in units of the least one that makes a spike.
        excitation: weight beside the inhibitory input, in the same unit.
        times: examples of the inhibitory input's time.
        points: of a sweep.
    """

    neuron: QIFNeuron | LIFNeuron
    T: float
    K: int
    weights: tuple[float, ...]
    excitation: float
    times: tuple[float, ...]
    points: int


SETTINGS = {
    "QIF": Setting(QIFNeuron(), 4.0, 4, (0.95, 1.15, 1.5), 1.5, (0.5, 0.62, 1.4), 100_000),
    "LIF": Setting(LIFNeuron(), 3.0, 5, (0.95, 1.15, 1.4), 1.4, (0.8, 1.5, 3.0), 500_000),
}


def first_spike(
    setting: Setting, weights: Float[Array, "2"], times: Float[Array, "2"]
) -> Float[Array, ""]:
    """Time of the first spike under an excitatory and an inhibitory input; inf without one."""
    neuron: AbstractIFNeuron = setting.neuron
    spikes_in = times, jnp.arange(2)
    events = neuron.event(
        jnp.zeros((2, 1)),
        jnp.zeros((1, 1)),
        weights[None],
        spikes_in,
        {"T": setting.T, "K": setting.K},
    )
    first = first_spikes(events, jnp.arange(1))[0]
    return jnp.where(jnp.isnan(events.times[0]), jnp.nan, first)


def inputs(
    setting: Setting, what: str, value: Float[Array, ""]
) -> tuple[Float[Array, "2"], Float[Array, "2"]]:
    """Weights and times of both inputs where the one that is swept has a value."""
    w_min = setting.neuron.min_I0_to_spike()
    if what == "weight":
        return jnp.stack([value * w_min, jnp.zeros(())]), jnp.array([T_INPUT, jnp.inf])
    weights = jnp.array([setting.excitation * w_min, -w_min])
    return weights, jnp.stack([jnp.asarray(T_INPUT), value])


def sweep(setting: Setting, what: str, points: int) -> Sweep:
    """First spike and its slope over the swept weight (0 to 2) or time (0 to T)."""
    last = 2.0 if what == "weight" else setting.T
    grid = np.linspace(0, last, points)

    def spike(value: Array) -> Array:
        return first_spike(setting, *inputs(setting, what, value))

    both = jax.jit(jax.vmap(jax.value_and_grad(spike)))
    found = [both(jnp.asarray(part)) for part in np.split(grid, max(points // CHUNK, 1))]
    times, slopes = (np.concatenate([np.asarray(f[i]) for f in found]) for i in (0, 1))
    assert not np.isnan(times).any(), f"K = {setting.K} is too small"
    return Sweep(grid, times, np.where(np.isfinite(times), slopes, np.nan))


def examples(setting: Setting, what: str) -> list[tuple[float, Any, Any]]:
    """The examples' swept values, with grid of times and voltages."""
    grid = jnp.arange(0, setting.T, DT)
    rest = jnp.zeros((2, 1))
    found = []
    for value in setting.weights if what == "weight" else setting.times:
        weights, times = inputs(setting, what, jnp.asarray(value))
        spikes_in = times, jnp.arange(2)
        events = simulate(
            setting.neuron, rest, jnp.zeros((1, 1)), weights[None], spikes_in, setting.T
        )
        voltage = voltages(setting.neuron, rest, events, grid)[:, 0]
        found.append((value, np.asarray(grid), np.asarray(voltage)))
    return found


def largest_jump(swept: Sweep, T: float) -> float:
    """Largest change of the first spike's time between neighbours; it is T without a spike."""
    return float(np.abs(np.diff(np.where(np.isfinite(swept.spikes), swept.spikes, T))).max())


def name_of(args: argparse.Namespace) -> str:
    """Name of the experiment."""
    return f"{EXPERIMENT}_quick" if args.quick else EXPERIMENT


def work(args: argparse.Namespace, run: Run) -> None:
    """Sweep, draw, and write the result."""
    sweeps, shown = {}, {}
    metrics: dict[str, float | None] = {}
    for name, setting in SETTINGS.items():
        points = QUICK_POINTS if args.quick else setting.points
        for what in ("weight", "time"):
            swept = sweep(setting, what, points)
            sweeps[name, what], shown[name, what] = swept, examples(setting, what)
            metrics[f"{name}_largest_jump_by_{what}"] = largest_jump(swept, setting.T)
        metrics[f"{name}_least_weight"] = float(setting.neuron.min_I0_to_spike())
        metrics[f"{name}_points"] = float(points)
    ends = {name: setting.T for name, setting in SETTINGS.items()}
    figure = run.save_figure(draw_concept(sweeps, shown, ends), "concept")
    run.log(1, {name: value for name, value in metrics.items() if value is not None}, show=False)
    run.finish(
        experiment=name_of(args),
        paper="smooth_gd",
        dataset="none",
        epochs=1,
        metrics=metrics,
        figure=figure,
    )


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_common_options(parser, EXPERIMENT, None, threads=1, devices=DEVICES)
    add_dtype_option(parser, "float64")
    args = parser.parse_args()
    needs_float64("the concept figure", args.dtype)
    return args


def main() -> None:
    """Draw the figure, or show the result that is there."""
    args = parse()
    device = prepare(args)
    carry_out(args, name_of(args), described(device), lambda run: work(args, run))


if __name__ == "__main__":
    script(main)
