"""A neuron learns two spike times from no spike at all (figure 2).

    python smooth_gd/experiments/singleneuron/single.py

A quadratic integrate-and-fire neuron has 20 fixed random inputs and two whose weights and times
are learned. At first it does not spike within the trial; its pseudospikes lie after the trial's
end and are drawn in until they are ordinary spikes, one after the other. 3000 trials in epochs of
100; a unit of time is 10 ms.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from shared.errors import UserError
from shared.experiment import UNNAMED, Experiment, Made, Positive, paper
from shared.options import script
from shared.run import Run
from smooth_gd.experiments import jax_runtime
from smooth_gd.experiments.jax_runtime import Device, prepare
from smooth_gd.experiments.singleneuron.figures import (
    draw_learning,
    draw_single,
    plot_dynamics,
    plot_gradients,
    plot_spiketimes,
)
from smooth_gd.experiments.trials import TRIALS, Learning, Trial
from smooth_gd.spikegd.models import AbstractPseudoIFNeuron, Config, Events
from smooth_gd.spikegd.qif import QIFNeuron
from smooth_gd.spikegd.utils import plotting
from smooth_gd.spikegd.utils.checks import check_config, needs_float64
from smooth_gd.spikegd.utils.network import times_with_pseudospikes
from smooth_gd.spikegd.utils.plotting import idx_to_color

__all__ = ["idx_to_color", "plot_dynamics", "plot_gradients", "plot_spiketimes", "run"]

EPOCHS = 30
PAPER: dict[str, Any] = {
    "seed": 3,
    "Nin": 22,
    "Ntrain": 2,
    "T": 10.0,
    "K": 25,
    "dt": 0.01,
    "t_targets": (2.5, 7.5),
    "Ntrial": EPOCHS * TRIALS,
    "lr": 0.1,
}
CLIP = 0.02  # largest entry of a gradient
TIMES = (1.0, 9.0)  # of the trained inputs at first

# Trials are counted from 1.
PUBLISHED = {
    "first_pseudospike": 10.7,
    "second_pseudospike": 11.9,
    "trial_of_first_ordinary_spike": 317,
    "trial_of_second_ordinary_spike": 1769,
    "trial_on_target": 2701,
}
TOLERANCE = 0.1


class Inputs(NamedTuple):
    """Weights and times of input spikes, one per input."""

    weights: Float[Array, " n"]
    times: Float[Array, " n"]


def fixed_inputs(seed: int, config: Config = PAPER) -> Inputs:
    """The inputs that do not learn: weights ~ N(0, 1), times ~ U(0, T).

    The random numbers are those of JAX's older generator, as in the paper's figure.

    Args:
        seed: of the draws.
        config: with Nin, Ntrain, T.
    """
    shape = (config["Nin"] - config["Ntrain"],)
    with jax.threefry_partitionable(False):
        _, of_times, of_weights, _ = jax.random.split(jax.random.PRNGKey(seed), 4)
        times = jax.random.uniform(of_times, shape, minval=0, maxval=config["T"])
        return Inputs(jax.random.normal(of_weights, shape), times)


def trial_inputs(learned: Inputs, fixed: Inputs) -> tuple[Array, tuple[Array, Int[Array, " n"]]]:
    """Weights [1, n] and input spikes of a trial."""
    weights = jnp.concatenate([learned.weights, fixed.weights])[None]
    times = jnp.concatenate([learned.times, fixed.times])
    return weights, (times, jnp.arange(times.shape[0]))


def simulate_trial(
    neuron: AbstractPseudoIFNeuron, learned: Inputs, fixed: Inputs, config: Config
) -> tuple[Float[Array, " n"], Events]:
    """A trial: times of the first spikes, pseudospikes included, and events.

    Args:
        neuron: the neuron model.
        learned: inputs that learn.
        fixed: inputs that do not.
        config: with T, K, t_targets, which say how many spikes are looked at.
    """
    weights, spikes_in = trial_inputs(learned, fixed)
    rest = jnp.zeros((2, 1))
    events = neuron.event(rest, jnp.zeros((1, 1)), weights, spikes_in, config)
    n = len(config["t_targets"])
    return times_with_pseudospikes(neuron, events, 0, n, config["T"]), events


def loss(
    neuron: AbstractPseudoIFNeuron, learned: Inputs, fixed: Inputs, config: Config
) -> tuple[Float[Array, ""], Trial]:
    """Mean squared error of the first spikes, and what is kept of the trial."""
    times, events = simulate_trial(neuron, learned, fixed, config)
    count = jnp.sum(~events.spike_in & (events.neurons >= 0))
    seen = {"times": times, "ordinary": count, "learned": jnp.stack(learned)}
    error = jnp.mean((times - jnp.asarray(config["t_targets"])) ** 2)
    return error, Trial(events.neurons[-1] == -1, seen)


def learning_of(
    neuron: AbstractPseudoIFNeuron,
    fixed: Inputs,
    config: Config = PAPER,
    clip: float = CLIP,
    trials: int = TRIALS,
) -> Learning:
    """Learning from weights 0 and the times `TIMES`; trained times stay in the trial.

    Args:
        neuron: the neuron model.
        fixed: the inputs that do not learn.
        config: with T, K, t_targets, lr.
        clip: largest entry of a gradient.
        trials: of an epoch.
    """

    def within_trial(learned: Inputs) -> Inputs:
        return learned._replace(times=jnp.clip(learned.times, 0, config["T"]))

    optimizer = optax.chain(optax.clip(clip), optax.sgd(config["lr"]))
    return Learning(
        lambda learned, K: loss(neuron, learned, fixed, {**config, "K": K}),
        lambda K: optimizer,
        Inputs(jnp.zeros(len(TIMES)), jnp.asarray(TIMES)),
        config["K"],
        within_trial,
        lambda gradient: {"gradient": jnp.stack(gradient)},
        trials,
    )


def metrics_of(history: dict[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
    """The history of learning under the names of `run`."""
    names = {"p": "learned", "t_out": "times", "loss": "loss", "grad": "gradient"}
    return {name: jnp.asarray(history[own]) for name, own in names.items()}


def examples_of(
    neuron: AbstractPseudoIFNeuron, fixed: Inputs, metrics: dict[str, Any], config: Config
) -> dict[str, Any]:
    """The first and the last trial, under the names of `run`."""
    found: dict[str, list[Any]] = {"p": [], "times_in": [], "t_out": [], "traces": []}
    simulate = jax.jit(lambda learned: simulate_trial(neuron, learned, fixed, config))
    for i in (0, -1):
        learned = Inputs(*metrics["p"][i])
        times, events = simulate(learned)
        found["p"].append(metrics["p"][i])
        found["times_in"].append(jnp.concatenate([learned.times, fixed.times]))
        found["t_out"].append(times)
        found["traces"].append(neuron.traces(jnp.zeros((2, 1)), events, config))
    stacked = {name: jnp.stack(found[name]) for name in ("p", "times_in", "t_out")}
    return {**stacked, "traces": found["traces"]}


def run(neuron: AbstractPseudoIFNeuron, config: Config) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train weights and times of two inputs until the neuron spikes at its targets.

    Args:
        neuron: the neuron model.
        config: as `PAPER`. K is the number of events to begin with.

    Returns:
        What happened in each trial: "p" [trials, 2, Ntrain], weights and times before it, "t_out"
        [trials, targets], "loss", and "grad" as p. And of the first and the last trial: "p",
        "times_in", "t_out", and "traces", times and states.

    Raises:
        UserError: config lacks something, or Ntrain is not 2.
    """
    check_config(config, *PAPER)
    if config["Ntrain"] != len(TIMES):
        raise UserError(
            f"Ntrain = {config['Ntrain']} must be {len(TIMES)}: inputs at 1 and 9 learn"
        )
    fixed = fixed_inputs(config["seed"], config)
    learning = learning_of(neuron, fixed, config, trials=min(config["Ntrial"], TRIALS))
    metrics = metrics_of(learning.learn(config["Ntrial"]))
    return metrics, examples_of(neuron, fixed, metrics, {**config, "K": learning.K})


@dataclass(frozen=True)
class Settings(jax_runtime.Settings):
    """The options."""

    seed: Annotated[int, UNNAMED] = PAPER["seed"]
    """Seed of the fixed inputs; the paper's figure has 3."""
    epochs: Annotated[Positive[int], paper(EPOCHS)] = EPOCHS
    """Epochs of 100 trials."""
    lr: Annotated[Positive[float], paper(PAPER["lr"])] = PAPER["lr"]
    """Step size."""
    clip: Annotated[Positive[float], paper(CLIP)] = CLIP
    """Largest entry of a gradient."""

    def check(self) -> None:
        """Refuse float32; raises `UserError`."""
        needs_float64("the single neuron", self.dtype)


def defaults(asked: Settings) -> Settings:
    """What options that are not given start from."""
    return replace(Settings(), epochs=3 if asked.quick else EPOCHS)


def first_where(condition: np.ndarray[Any, Any]) -> float | None:
    """Number of the first trial, from 1, from which on a condition holds to the end."""
    failing = np.flatnonzero(~condition)
    first = int(failing[-1]) + 2 if failing.size else 1
    return float(first) if first <= len(condition) else None


def train(settings: Settings, data: Made, device: Device, run: Run) -> None:
    """Train the neuron, draw the figures, write the result."""
    neuron, fixed, epochs = QIFNeuron(), fixed_inputs(settings.seed), settings.epochs
    config = {**PAPER, "lr": settings.lr, "Ntrial": epochs * TRIALS}
    learning = learning_of(neuron, fixed, config, settings.clip)
    learning.run(run, epochs)
    history, config = learning.history, {**config, "K": learning.K}
    metrics = metrics_of(history)
    examples = examples_of(neuron, fixed, metrics, config)
    with plt.style.context(plotting.STYLE):
        figure = run.save_figure(draw_single(metrics, examples, config), "single")
    run.save_figure(draw_learning(history, config), "learning")
    run.finish(epochs=epochs, metrics=numbers_of(history), figure=figure)


def numbers_of(history: dict[str, np.ndarray[Any, Any]]) -> dict[str, float | None]:
    """What is reported of the trials."""
    times, count = history["times"], history["ordinary"]
    near = np.all(np.abs(times - np.array(PAPER["t_targets"])) < TOLERANCE, axis=1)
    changes = np.diff(count)
    return {
        "loss_last": float(history["loss"][-1]),
        "first_pseudospike": float(times[0, 0]),
        "second_pseudospike": float(times[0, 1]),
        "trial_of_first_ordinary_spike": first_where(count >= 1),
        "trial_of_second_ordinary_spike": first_where(count >= 2),
        "trial_on_target": first_where(near),
        "spikes_added": float(changes[changes > 0].sum()),
        "spikes_removed": float(-changes[changes < 0].sum()),
        "trials": float(len(count)),
    }


def published(settings: Settings, data: str) -> dict[str, float] | None:
    """The paper's numbers, where seed, steps and length are the paper's too."""
    same = ("seed", "epochs", "lr", "clip")
    is_paper = all(getattr(settings, name) == getattr(Settings(), name) for name in same)
    return PUBLISHED if is_paper else None


EXPERIMENT = Experiment(
    paper="smooth_gd",
    description=__doc__,
    settings=Settings,
    load=lambda settings, device: Made("made"),
    session=lambda settings, data: "gd_single",
    defaults=defaults,
    published=published,
    prepare=prepare,
)


def main() -> None:
    """Train the neuron, or show the result of the run that is there."""
    EXPERIMENT.main(train)


if __name__ == "__main__":
    script(main)
