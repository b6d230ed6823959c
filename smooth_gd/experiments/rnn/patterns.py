"""The network, inputs, targets and loss of figure 3.

Functions take a dictionary `config`; `PAPER` is the one of the figure. Learned are p = (w, x0): the
weights [N, N - 1] between neurons, without those of a neuron to itself, and the states at time 0.
Of input neurons, 0 to N - 1 excite the neuron of their number, N to 2 N - 1 inhibit neurons 0 to
N - 1.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from smooth_gd.experiments.trials import Trial
from smooth_gd.spikegd.models import AbstractPseudoIFNeuron, Config, Events
from smooth_gd.spikegd.utils.network import spike_times

PAPER_SEED = 7
PAPER: dict[str, Any] = {
    "N": 10,
    "w_in_exc": 5.0,
    "w_in_inh": -5.0,
    "r_in": 1.0,
    "T": 10.0,
    "K": 500,
    "dt": 0.01,
    "Ntar": 2,
    "r_targets": (1.0, 0.5),
}
N, T = 10, 10.0
BEFORE = 10.0  # the inputs' spike trains begin so long before the trial
REFRACTORY = 1.0
BEYOND = 1.1  # times T: the first surplus spike is to come after it
SCALE = 2.0  # an error counts relative to t* + SCALE


class Parameters(NamedTuple):
    """What is learned."""

    w: Float[Array, "N N-1"]
    x0: Float[Array, "2 N"]


class Patterns(NamedTuple):
    """The spike patterns that a network is shown, and those that it is to spike.

    Attributes:
        T: the trial's end.
        spikes_in: times within the trial, and inputs, of the input spikes.
        weights_in: of the inputs.
        targets: of each target neuron, its spike times and the time of `BEYOND`.
    """

    T: float
    spikes_in: tuple[Float[Array, " Kin"], Int[Array, " Kin"]]
    weights_in: Float[Array, "N 2N"]
    targets: tuple[Float[Array, " n"], ...]


# ---------------------------------------------------------------------------------------- draws


def init_input(key: Array, config: Config) -> tuple[Array, tuple[Array, Array]]:
    """Poisson spike trains of rate r_in.

    The random numbers are those of JAX's older generator, as in the paper's figures.

    Args:
        key: for the draws.
        config: with N, T, r_in.

    Returns:
        The next key; times in order, and inputs, of all spikes drawn, also those after the trial;
        inf is no spike.
    """
    rate, shape = config["r_in"], (config["N"], int(5 * (config["T"] + BEFORE) * config["r_in"]))
    trains = []
    with jax.threefry_partitionable(False):
        for _ in range(2):
            key, own = jax.random.split(key)
            trains.append(jnp.cumsum(jax.random.exponential(own, shape) / rate, axis=1))
    times = jnp.concatenate(trains) - BEFORE
    times = jnp.where(times > 0, times, jnp.inf).ravel()
    order = jnp.argsort(times)
    return key, (times[order], jnp.repeat(jnp.arange(2 * config["N"]), shape[1])[order])


def init_weights(config: Config) -> Float[Array, "N 2N"]:
    """Weights of the inputs; config has N, w_in_exc, w_in_inh."""
    one = jnp.eye(config["N"])
    return jnp.concatenate([config["w_in_exc"] * one, config["w_in_inh"] * one], axis=1)


def init_target(key: Array, config: Config) -> tuple[Array, list[Float[Array, " n"]]]:
    """Target times: Poisson spike trains with refractory time `REFRACTORY`.

    Args:
        key: for the draws, of JAX's older generator.
        config: with Ntar, T, r_targets.

    Returns:
        The next key; of each target neuron its times, and `BEYOND` T after them.
    """
    T = config["T"]
    with jax.threefry_partitionable(False):
        key, own = jax.random.split(key)
        gaps = jax.random.exponential(own, (config["Ntar"], int(2.5 * T)))
    gaps = gaps / jnp.asarray(config["r_targets"])[:, None]
    times = jnp.cumsum(gaps.at[:, 1:].add(REFRACTORY), axis=1)
    return key, [jnp.append(own[own < T], BEYOND * T) for own in times]


def make_patterns(seed: int, config: Config = PAPER) -> Patterns:
    """Inputs and targets of a seed; `PAPER_SEED` gives those of the figure."""
    key, (times, neurons) = init_input(jax.random.PRNGKey(seed), config)
    _, targets = init_target(key, config)
    within = times < config["T"]
    spikes_in = times[within], neurons[within]
    return Patterns(config["T"], spikes_in, init_weights(config), tuple(targets))


# ---------------------------------------------------------------------------------------- model


def w_to_weights_net(w: Float[Array, "N N-1"]) -> Float[Array, "N N"]:
    """The weights between all neurons, 0 from a neuron to itself."""
    n = w.shape[0]
    others = np.nonzero(~np.eye(n, dtype=bool))
    return jnp.zeros((n, n), w.dtype).at[others].set(w.reshape(-1))


def weights_net_to_w(weights_net: Float[Array, "N N"]) -> Float[Array, "N N-1"]:
    """The inverse of `w_to_weights_net`."""
    n = weights_net.shape[0]
    return weights_net[np.nonzero(~np.eye(n, dtype=bool))].reshape(n, n - 1)


def start(n: int = N) -> Parameters:
    """No weights, all states 0."""
    return Parameters(jnp.zeros((n, n - 1)), jnp.zeros((2, n)))


def nudged(parameters: Parameters, spread: float, seed: int) -> Parameters:
    """Parameters with N(0, spread^2) added: what starts so close differs by rounding alone."""
    keys = jax.random.split(jax.random.key(seed), len(parameters))
    moved = (
        x + spread * jax.random.normal(key, x.shape, x.dtype)
        for key, x in zip(keys, parameters, strict=True)
    )
    return Parameters(*moved)


def outfn(
    neuron: AbstractPseudoIFNeuron,
    out: Events | tuple[Array, ...],
    p: Sequence[Array],
    t_targets: Sequence[Float[Array, " n"]],
    config: Config,
) -> list[Float[Array, " n"]]:
    """Times of the target neurons' first spikes, as many as there are targets.

    Pseudospikes follow the ordinary ones. After the trial a neuron's input is the sum of weights
    times the rates of the other neurons; in a recurrent network these are the rates without any
    current, from the voltages alone.

    Args:
        neuron: the neuron model.
        out: the events of a trial.
        p: what is learned.
        t_targets: of each target neuron.
        config: with T.
    """
    events = Events(*out)
    end = events.states[-1]
    rates = neuron.construct_ratefn(end)(-end[1])
    inputs = neuron.linear(rates, w_to_weights_net(p[0]))
    found = []
    for i, targets in enumerate(t_targets):
        n = len(targets)
        number = jnp.arange(1, n + 1)
        count = jnp.sum(~events.spike_in & (events.neurons == i))
        pseudo = neuron.t_pseudo(end[:, i], inputs[i], jnp.maximum(number - count, 1), config)
        ordinary = jnp.where(number <= count, spike_times(events, i, n), 0)
        found.append(jnp.where(number <= count, ordinary, pseudo))
    return found


def lossfn(
    t_outs: Sequence[Float[Array, " n"]], t_targets: Sequence[Float[Array, " n"]]
) -> Float[Array, ""]:
    """Mean of ((t - t*) / (t* + 2))^2; the surplus spike counts only while it is too early."""
    errors = []
    for t, target in zip(t_outs, t_targets, strict=True):
        relative = (t - target) / (target + SCALE)
        errors.append(relative.at[-1].min(0) ** 2)
    return jnp.mean(jnp.concatenate(errors))


def simulatefn(
    neuron: AbstractPseudoIFNeuron,
    p: Sequence[Array],
    weights_in: Float[Array, "N Nin"],
    spikes_in: tuple[Array, Array],
    t_targets: Sequence[Float[Array, " n"]],
    config: Config,
) -> tuple[Float[Array, ""], list[Float[Array, " n"]], Events]:
    """A trial: loss, times of the target neurons' spikes, events; config has T and K."""
    events = neuron.event(p[1], w_to_weights_net(p[0]), weights_in, spikes_in, config)
    times = outfn(neuron, events, p, t_targets, config)
    return lossfn(times, t_targets), times, events


def simulate_trial(
    neuron: AbstractPseudoIFNeuron, patterns: Patterns, p: Sequence[Array], K: int
) -> tuple[Float[Array, ""], list[Float[Array, " n"]], Events]:
    """`simulatefn` of the patterns, with K events."""
    config = {"T": patterns.T, "K": K}
    return simulatefn(neuron, p, patterns.weights_in, patterns.spikes_in, patterns.targets, config)


def loss(
    neuron: AbstractPseudoIFNeuron, patterns: Patterns, p: Sequence[Array], K: int
) -> tuple[Float[Array, ""], Trial]:
    """Loss of a trial, and what is kept of it."""
    value, times, events = simulate_trial(neuron, patterns, p, K)
    is_spike = ~events.spike_in & (events.neurons >= 0)
    n = p[0].shape[0]
    counts = jnp.sum(is_spike[:, None] & (events.neurons[:, None] == jnp.arange(n)), axis=0)
    seen = {"counts": counts, **{f"times_{i}": t for i, t in enumerate(times)}}
    return value, Trial(events.neurons[-1] == -1, seen)


def without_hidden_weights(p: Sequence[Array], n_targets: int) -> Parameters:
    """The same network, but nothing arrives at neurons that are no target neurons."""
    keeps = (jnp.arange(p[0].shape[0]) < n_targets)[:, None]
    return Parameters(jnp.where(keeps, p[0], 0), p[1])


def longest_move(
    before: Sequence[Float[Array, " n"]], after: Sequence[Float[Array, " n"]]
) -> Float[Array, ""]:
    """Largest change of a target neuron's spike time."""
    moves = [jnp.max(jnp.abs(a - b)) for a, b in zip(before, after, strict=True)]
    return jnp.max(jnp.stack(moves))
