"""How a spike appears: smoothly in a quadratic neuron, with a jump in a leaky one (figure 1).

    python smooth_gd/experiments/concept/concept.py

A quadratic integrate-and-fire (QIF) neuron and, as a control, a leaky one (LIF) get one excitatory
input whose weight grows, or an excitatory and an inhibitory input whose time moves. Shown are the
voltages of some examples, the time of the first spike over the whole range, and its slope.
The spike times of the QIF neuron change continuously, except where they leave the trial; those of
the LIF neuron jump in the middle of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from shared.errors import UserError
from shared.experiment import Experiment, Made
from shared.options import script
from shared.run import Run
from smooth_gd.experiments import jax_runtime
from smooth_gd.experiments.concept.figures import (
    draw_concept,
    idx_to_color,
    plot_current,
    plot_gradients,
    plot_spikes,
    plot_spiketimes,
    plot_voltage,
)
from smooth_gd.experiments.jax_runtime import Device, prepare
from smooth_gd.spikegd.lif import LIFNeuron
from smooth_gd.spikegd.models import AbstractIFNeuron, Config, Events
from smooth_gd.spikegd.qif import QIFNeuron
from smooth_gd.spikegd.utils import plotting
from smooth_gd.spikegd.utils.checks import needs_float64
from smooth_gd.spikegd.utils.network import first_spikes

__all__ = [
    "idx_to_color",
    "plot_current",
    "plot_gradients",
    "plot_spikes",
    "plot_spiketimes",
    "plot_voltage",
    "run",
    "vary_t",
    "vary_w",
]

T_INPUT = 0.5
QUICK_POINTS = 2000
CHUNK = 10_000  # points of a grid that are computed at once
Results = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """What one neuron model is shown.

    Attributes:
        neuron: the model.
        T: length of a trial.
        K: number of events simulated.
        weights: examples of the excitatory weight, in units of the least one that makes a spike.
        excitation: weight beside the inhibitory input, in the same unit.
        times: examples of the inhibitory input's time, in units of the time of the spike that the
            excitatory input alone makes.
        points: of a grid.
    """

    neuron: QIFNeuron | LIFNeuron
    T: float
    K: int
    weights: tuple[float, ...]
    excitation: float
    times: tuple[float, ...]
    points: int

    @property
    def config(self) -> Config:
        """T, K and dt."""
        return {"T": self.T, "K": self.K, "dt": 0.01}


SETTINGS = {
    "QIF": Setting(QIFNeuron(), 4.0, 4, (0.95, 1.15, 1.5), 1.5, (0.5, 0.62, 1.4), 100_000),
    "LIF": Setting(LIFNeuron(), 3.0, 5, (0.95, 1.15, 1.4), 1.4, (0.8, 1.5, 3.0), 500_000),
}
# Of the figure, to two digits.
PUBLISHED = {
    "QIF_inhibition_1": 1.10,
    "QIF_inhibition_2": 1.36,
    "QIF_inhibition_3": 3.07,
    "LIF_inhibition_1": 0.61,
    "LIF_inhibition_2": 1.15,
    "LIF_inhibition_3": 2.30,
}


def run(
    neuron: AbstractIFNeuron,
    spikes_in: tuple[Float[ArrayLike, " Kin"], Int[ArrayLike, " Kin"]],
    weights_in: Float[ArrayLike, "1 Nin"],
    p_grid: Float[ArrayLike, " n"],
    p_ex: Float[ArrayLike, " m"],
    vary: str,
    config: Config,
) -> tuple[Results, Results]:
    """Vary a weight or a time of a single resting neuron's input.

    Args:
        neuron: the neuron model.
        spikes_in: times and inputs of the input spikes.
        weights_in: of the inputs.
        p_grid: values at which the first spike and its slope are computed.
        p_ex: values at which the states over the trial are computed, too.
        vary: "weight", of input 0, or "time", of input spike 0.
        config: with T, K and dt.

    Returns:
        Dictionaries of the grid and of the examples: the values "p", the first spikes "spiketimes"
        (inf without one, NaN where K is too small), their slopes "grads"; of the examples "traces",
        times and states of each.

    Raises:
        UserError: vary is neither, or config lacks something.
    """
    if vary not in ("weight", "time"):
        raise UserError(f"vary must be 'weight' or 'time', not {vary!r}")
    weights, times = jnp.asarray(weights_in), jnp.asarray(spikes_in[0])
    rest = jnp.zeros((2, 1))

    def spike(p: Array) -> tuple[Array, Events]:
        w = weights.at[0, 0].set(p) if vary == "weight" else weights
        t = times.at[0].set(p) if vary == "time" else times
        events = neuron.event(rest, jnp.zeros((1, 1)), w, (t, jnp.asarray(spikes_in[1])), config)
        return first_spikes(events, jnp.arange(1))[0], events

    both = jax.value_and_grad(spike, has_aux=True)

    @jax.jit
    def over(values: Array) -> tuple[Array, Array]:
        def one(p: Array) -> tuple[Array, Array]:
            (time, _), slope = both(p)
            return time, slope

        found: tuple[Array, Array] = jax.lax.map(one, values, batch_size=CHUNK)
        return found

    found: list[Any] = [jax.jit(both)(p) for p in jnp.asarray(p_ex)]
    examples = {
        "p": jnp.asarray(p_ex),
        "spiketimes": jnp.stack([time for (time, _), _ in found]),
        "grads": jnp.stack([slope for _, slope in found]),
        "traces": [neuron.traces(rest, events, config) for (_, events), _ in found],
    }
    spiketimes, grads = over(jnp.asarray(p_grid))
    return {"p": jnp.asarray(p_grid), "spiketimes": spiketimes, "grads": grads}, examples


def vary_w(
    neuron: AbstractIFNeuron,
    w_ex_relative: Float[ArrayLike, " m"] | Sequence[float],
    config: Config,
    Nvar: int = 100_000,
) -> tuple[Results, Results]:
    """`run` over the weight of an excitatory input at `T_INPUT`, from 0 to twice the least.

    Args:
        neuron: the neuron model.
        w_ex_relative: the examples' weights, in units of the least that makes a spike.
        config: with T, K and dt.
        Nvar: steps of the grid.
    """
    least = neuron.min_I0_to_spike()
    grid = jnp.linspace(0, 2 * least, Nvar + 1)
    spikes_in = jnp.array([T_INPUT]), jnp.array([0])
    examples = least * jnp.asarray(w_ex_relative)
    return run(neuron, spikes_in, jnp.zeros((1, 1)), grid, examples, "weight", config)


def vary_t(
    neuron: AbstractIFNeuron,
    t_ex_relative: Float[ArrayLike, " m"] | Sequence[float],
    config: Config,
    w_exc_relative: float = 1.5,
    Nvar: int = 100_000,
) -> tuple[Results, Results]:
    """`run` over the time of an inhibitory input of minus the least weight, from 0 to T.

    Args:
        neuron: the neuron model.
        t_ex_relative: the examples' times, in units of the time of the spike that the excitatory
            input makes alone.
        config: with T, K and dt.
        w_exc_relative: weight of the excitatory input at `T_INPUT`, in units of the least.
        Nvar: steps of the grid.
    """
    least = neuron.min_I0_to_spike()
    excitation = w_exc_relative * least
    alone = T_INPUT + neuron.dt_spike(jnp.array([0.0, excitation]))
    spikes_in = jnp.array([0.0, T_INPUT]), jnp.array([0, 1])
    weights_in = jnp.array([[-least, excitation]])
    grid = jnp.linspace(0, config["T"], Nvar + 1)
    examples = alone * jnp.asarray(t_ex_relative)
    return run(neuron, spikes_in, weights_in, grid, examples, "time", config)


def largest_jump(grid: Results, T: float) -> float:
    """Largest change of the first spike's time between neighbors; it is T without a spike."""
    spikes = np.asarray(grid["spiketimes"])
    return float(np.abs(np.diff(np.where(np.isfinite(spikes), spikes, T))).max())


@dataclass(frozen=True)
class Settings(jax_runtime.Settings):
    """The options."""

    def check(self) -> None:
        """Refuse float32; raises `UserError`."""
        needs_float64("the concept figure", self.dtype)


def work(settings: Settings, data: Made, device: Device, run: Run) -> None:
    """Vary, draw, and write the result."""
    grids, shown = {}, {}
    metrics: dict[str, float | None] = {}
    for name, setting in SETTINGS.items():
        points = QUICK_POINTS if settings.quick else setting.points
        neuron, config = setting.neuron, setting.config
        by_weight = vary_w(neuron, setting.weights, config, points)
        by_time = vary_t(neuron, setting.times, config, setting.excitation, points)
        for what, (grid, examples) in (("weight", by_weight), ("time", by_time)):
            assert not np.isnan(np.asarray(grid["spiketimes"])).any(), f"K = {setting.K}"
            grids[name, what], shown[name, what] = grid, examples
            metrics[f"{name}_largest_jump_by_{what}"] = largest_jump(grid, setting.T)
        for number, time in enumerate(by_time[1]["p"], 1):
            metrics[f"{name}_inhibition_{number}"] = float(time)
        metrics[f"{name}_least_weight"] = float(neuron.min_I0_to_spike())
        metrics[f"{name}_points"] = float(points)
    configs = {name: setting.config for name, setting in SETTINGS.items()}
    with plt.style.context(plotting.STYLE):
        figure = run.save_figure(draw_concept(grids, shown, configs), "concept")
    run.log(1, {k: value for k, value in metrics.items() if value is not None}, show=False)
    run.finish(epochs=1, metrics=metrics, figure=figure)


EXPERIMENT = Experiment(
    paper="smooth_gd",
    description=__doc__,
    settings=Settings,
    load=lambda settings, device: Made("none"),
    session=lambda settings, data: "gd_concept",
    published=lambda settings, data: PUBLISHED,
    prepare=prepare,
)


def main() -> None:
    """Draw the figure, or show the result that is there."""
    EXPERIMENT.main(work)


if __name__ == "__main__":
    script(main)
