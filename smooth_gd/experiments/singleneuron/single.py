"""A neuron learns two spike times from no spike at all (figure 2).

    python smooth_gd/experiments/singleneuron/single.py

A quadratic integrate-and-fire neuron has 20 fixed random inputs and two whose weights and times
are learned. At first it does not spike within the trial; its pseudospikes lie behind the trial's
end and are drawn in until they are ordinary spikes, one after the other. 3000 trials in epochs of
100; a unit of time is 10 ms.
"""

import argparse
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from shared.options import add_common_options, check_positive, script
from shared.run import Run, carry_out
from smooth_gd.experiments.setup import DEVICES, add_dtype_option, described, prepare
from smooth_gd.experiments.singleneuron.figures import draw_learning, draw_trials
from smooth_gd.experiments.trials import Learning, Trial
from smooth_gd.spikegd.models import Events
from smooth_gd.spikegd.qif import QIFNeuron
from smooth_gd.spikegd.utils.checks import needs_float64
from smooth_gd.spikegd.utils.events import simulate, voltages
from smooth_gd.spikegd.utils.network import times_with_pseudospikes

EXPERIMENT = "gd_single"
SEED, EPOCHS, K = 3, 30, 25
SETTINGS = {"lr": 0.1, "clip": 0.02}

# Numbers of trials are read off the paper's figure.
PUBLISHED = {
    "first_pseudospike": 10.7,
    "second_pseudospike": 11.9,
    "trial_of_first_ordinary_spike": 300,
    "trial_of_second_ordinary_spike": 1900,
    "trial_on_target": 2700,
}
T, TARGETS, TOLERANCE = 10.0, (2.5, 7.5), 0.1
N_FIXED, TIMES = 20, (1.0, 9.0)


class Inputs(NamedTuple):
    """Weights and times of input spikes, one an input."""

    weights: Float[Array, " n"]
    times: Float[Array, " n"]


def fixed_inputs(seed: int) -> Inputs:
    """The inputs that do not learn: weights ~ N(0, 1), times ~ U(0, T).

    The random numbers are those of JAX's older generator, as in the paper's figure.
    """
    with jax.threefry_partitionable(False):
        _, of_times, of_weights, _ = jax.random.split(jax.random.PRNGKey(seed), 4)
        times = jax.random.uniform(of_times, (N_FIXED,), minval=0, maxval=T)
        return Inputs(jax.random.normal(of_weights, (N_FIXED,)), times)


def trial_inputs(learned: Inputs, fixed: Inputs) -> tuple[Array, tuple[Array, Int[Array, " n"]]]:
    """Weights [1, n] and input spikes of a trial."""
    weights = jnp.concatenate([learned.weights, fixed.weights])[None]
    times = jnp.concatenate([learned.times, fixed.times])
    return weights, (times, jnp.arange(times.shape[0]))


def loss(
    neuron: QIFNeuron, learned: Inputs, fixed: Inputs, K: int
) -> tuple[Float[Array, ""], Trial]:
    """Mean squared error of the first two spikes, pseudospikes included."""
    weights, spikes_in = trial_inputs(learned, fixed)
    rest = jnp.zeros((2, 1))
    events = neuron.event(rest, jnp.zeros((1, 1)), weights, spikes_in, {"T": T, "K": K})
    times = times_with_pseudospikes(neuron, events, 0, len(TARGETS), T)
    count = jnp.sum(~events.spike_in & (events.neurons >= 0))
    seen = {"times": times, "ordinary": count, "learned": jnp.stack(learned)}
    return jnp.mean((times - jnp.asarray(TARGETS)) ** 2), Trial(~jnp.isnan(events.times[0]), seen)


def within_trial(learned: Inputs) -> Inputs:
    """Inputs with times in [0, T]."""
    return learned._replace(times=jnp.clip(learned.times, 0, T))


def learning_of(
    neuron: QIFNeuron, fixed: Inputs, lr: float = SETTINGS["lr"], clip: float = SETTINGS["clip"]
) -> Learning:
    """Learning from weights 0 and the times `TIMES`.

    Args:
        neuron: the neuron model.
        fixed: the inputs that do not learn.
        lr: step size.
        clip: largest entry of a gradient.
    """
    optimiser = optax.chain(optax.clip(clip), optax.sgd(lr))
    return Learning(
        lambda learned, K: loss(neuron, learned, fixed, K),
        lambda K: optimiser,
        Inputs(jnp.zeros(len(TIMES)), jnp.asarray(TIMES)),
        K,
        within_trial,
    )


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_common_options(parser, EXPERIMENT, EPOCHS, threads=1, devices=DEVICES)
    parser.set_defaults(seed=SEED)
    add_dtype_option(parser, "float64")
    parser.add_argument("--lr", type=float, help="step size (paper: 0.1)")
    parser.add_argument("--clip", type=float, help="largest entry of a gradient (paper: 0.02)")
    parser.set_defaults(**SETTINGS)
    args = parser.parse_args()
    needs_float64("the single neuron", args.dtype)
    check_positive(epochs=args.epochs, lr=args.lr, clip=args.clip)
    return args


def name_of(args: argparse.Namespace) -> str:
    """Name of the experiment: what differs from the paper stands behind it."""
    differing = [name for name, value in SETTINGS.items() if getattr(args, name) != value]
    words = [EXPERIMENT, *(f"{name}-{getattr(args, name)}" for name in differing)]
    return "_".join([*words, "quick"] if args.quick else words)


def first_where(condition: np.ndarray[Any, Any]) -> float | None:
    """Number of the first trial, from 1, from which on a condition holds to the end."""
    failing = np.flatnonzero(~condition)
    first = int(failing[-1]) + 2 if failing.size else 1
    return float(first) if first <= len(condition) else None


def train(args: argparse.Namespace, run: Run) -> None:
    """Train the neuron, draw the figures, write the result."""
    neuron, fixed = QIFNeuron(), fixed_inputs(args.seed)
    learning = learning_of(neuron, fixed, args.lr, args.clip)
    epochs = min(args.epochs, 3) if args.quick else args.epochs
    learning.run(run, epochs)
    history = learning.history
    name = run.save_figure(draw_learning(history, TARGETS, T), "learning")
    shown = [(words, of_trial(neuron, history, fixed, i)) for i, words in chosen_trials(history)]
    run.save_figure(draw_trials(shown, TARGETS, T), "trials")
    times, count = history["times"], history["ordinary"]
    near = np.all(np.abs(times - np.array(TARGETS)) < TOLERANCE, axis=1)
    changes = np.diff(count)
    is_paper = name_of(args) == EXPERIMENT and args.seed == SEED and epochs == EPOCHS
    run.finish(
        experiment=name_of(args),
        paper="smooth_gd",
        dataset="made",
        epochs=epochs,
        metrics={
            "loss_last": float(history["loss"][-1]),
            "first_pseudospike": float(times[0, 0]),
            "second_pseudospike": float(times[0, 1]),
            "trial_of_first_ordinary_spike": first_where(count >= 1),
            "trial_of_second_ordinary_spike": first_where(count >= 2),
            "trial_on_target": first_where(near),
            "spikes_added": float(changes[changes > 0].sum()),
            "spikes_removed": float(-changes[changes < 0].sum()),
            "trials": float(len(count)),
        },
        published=PUBLISHED if is_paper else None,
        figure=name,
    )


def chosen_trials(history: dict[str, np.ndarray[Any, Any]]) -> list[tuple[int, str]]:
    """The first trial, those in which a spike became ordinary, and the last."""
    count = history["ordinary"]
    new = [i for n in (1, 2) if (i := int(np.argmax(count >= n))) > 0]
    places = [0, *new, len(count) - 1]
    return [(i, f"trial {i + 1}") for i in dict.fromkeys(places)]


def of_trial(
    neuron: QIFNeuron, history: dict[str, np.ndarray[Any, Any]], fixed: Inputs, i: int
) -> dict[str, np.ndarray[Any, Any]]:
    """Voltage and inputs of trial i, for the figure."""
    learned = Inputs(*jnp.asarray(history["learned"][i]))
    weights, spikes_in = trial_inputs(learned, fixed)
    rest = jnp.zeros((2, 1))
    events: Events = simulate(neuron, rest, jnp.zeros((1, 1)), weights, spikes_in, T)
    grid = jnp.linspace(0, T, 2000)
    return {
        "time": np.asarray(grid),
        "voltage": np.asarray(voltages(neuron, rest, events, grid)[:, 0]),
        "times_in": np.asarray(spikes_in[0]),
        "weights": np.asarray(weights[0]),
        "spikes": history["times"][i],
    }


def main() -> None:
    """Train the neuron, or show the result of the run that is there."""
    args = parse()
    device = prepare(args)
    carry_out(args, name_of(args), described(device), lambda run: train(args, run))


if __name__ == "__main__":
    script(main)
