"""The network, inputs, targets and loss of figure 3."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from smooth_gd.experiments.trials import Trial
from smooth_gd.spikegd.models import Events
from smooth_gd.spikegd.qif import QIFNeuron
from smooth_gd.spikegd.utils.network import times_with_pseudospikes

N, T, K = 10, 10.0, 500
W_IN = 5.0
PAPER_SEED = 7
RATES, REFRACTORY = (1.0, 0.5), 1.0
BEYOND = 1.1 * T  # the first surplus spike is to come behind it
SCALE = 2.0  # an error counts relative to t* + SCALE


class Task(NamedTuple):
    """What a network is shown and is to do.

    Attributes:
        times_in, neurons_in: input spikes; inputs 0 to N - 1 excite the neuron of their number,
            inputs N to 2 N - 1 inhibit neuron 0 to N - 1.
        targets: of each target neuron, its spike times and `BEYOND`.
    """

    times_in: Float[np.ndarray, " Kin"]
    neurons_in: Int[np.ndarray, " Kin"]
    targets: tuple[Float[np.ndarray, " n"], ...]


class Parameters(NamedTuple):
    """What is learned: weights [N, N - 1], without those of a neuron to itself, and states at 0."""

    w: Float[Array, "N N-1"]
    x0: Float[Array, "2 N"]


def make_task(seed: int) -> Task:
    """Poisson inputs of rate 1 and targets; of the paper's seed those of the paper.

    Targets are Poisson spike trains with refractory time `REFRACTORY`.
    """
    if seed == PAPER_SEED:
        with np.load(Path(__file__).parent / "task_seed7.npz") as saved:
            return Task(
                saved["times_in"], saved["neurons_in"], (saved["target_0"], saved["target_1"])
            )
    rng = np.random.default_rng(seed)
    counts = rng.poisson(T, 2 * N)
    times = np.concatenate([rng.uniform(0, T, n) for n in counts])
    order = np.argsort(times)
    targets = []
    for rate in RATES:
        gaps = REFRACTORY + rng.exponential(1 / rate, int(2 * T))
        spikes = np.cumsum(gaps) - REFRACTORY
        targets.append(np.append(spikes[spikes < T], BEYOND))
    return Task(times[order], np.repeat(np.arange(2 * N), counts)[order], tuple(targets))


def weights_in() -> Float[np.ndarray, "N inputs"]:
    """Weights of the inputs."""
    return W_IN * np.concatenate([np.eye(N), -np.eye(N)], axis=1)


def start() -> Parameters:
    """No weights, all states 0."""
    return Parameters(jnp.zeros((N, N - 1)), jnp.zeros((2, N)))


def full_weights(w: Float[Array, "N N-1"]) -> Float[Array, "N N"]:
    """The weights between all neurons, 0 from a neuron to itself."""
    return jnp.zeros((N, N), w.dtype).at[np.nonzero(~np.eye(N, dtype=bool))].set(w.reshape(-1))


def simulate_trial(neuron: QIFNeuron, task: Task, parameters: Parameters, K: int) -> Events:
    """A trial."""
    weights = full_weights(parameters.w)
    spikes_in = jnp.asarray(task.times_in), jnp.asarray(task.neurons_in)
    return neuron.event(parameters.x0, weights, jnp.asarray(weights_in()), spikes_in, T, K)


def target_times(
    neuron: QIFNeuron, task: Task, parameters: Parameters, events: Events
) -> list[Float[Array, " n"]]:
    """Times of the target neurons' spikes, one more than they are to have in the trial.

    After the trial a neuron's input is the sum of weights times the rates of the other neurons; in
    a recurrent network these are the rates without any current, from the voltages alone.
    """
    end = events.states[-1]
    rate = neuron.construct_ratefn(end.at[1].set(0))(jnp.zeros(N, end.dtype))
    drive = full_weights(parameters.w) @ rate
    return [
        times_with_pseudospikes(neuron, events, i, len(target), T, drive[i])
        for i, target in enumerate(task.targets)
    ]


def errors(
    times: Sequence[Float[Array, " n"]], targets: Sequence[Float[np.ndarray, " n"]]
) -> Float[Array, " all"]:
    """((t - t*) / (t* + 2))^2 of each spike; of the surplus one only while it is too early."""
    found = []
    for t, target in zip(times, targets, strict=True):
        relative = (t - target) / (target + SCALE)
        found.append(relative.at[-1].min(0) ** 2)
    return jnp.concatenate(found)


def loss(
    neuron: QIFNeuron, task: Task, parameters: Parameters, K: int
) -> tuple[Float[Array, ""], Trial]:
    """Mean error of a trial, and what is kept of it."""
    events = simulate_trial(neuron, task, parameters, K)
    times = target_times(neuron, task, parameters, events)
    is_spike = ~events.spike_in & (events.neurons >= 0)
    counts = jnp.sum(is_spike[:, None] & (events.neurons[:, None] == jnp.arange(N)), axis=0)
    seen: dict[str, Any] = {"counts": counts}
    seen |= {f"times_{i}": t for i, t in enumerate(times)}
    return jnp.mean(errors(times, task.targets)), Trial(~jnp.isnan(events.times[0]), seen)


def without_hidden_weights(parameters: Parameters) -> Parameters:
    """The same network, but nothing arrives at neurons that are no target neurons."""
    keeps = (jnp.arange(N) < len(RATES))[:, None]
    return parameters._replace(w=jnp.where(keeps, parameters.w, 0))


def longest_move(
    before: Sequence[Float[Array, " n"]], after: Sequence[Float[Array, " n"]]
) -> Float[Array, ""]:
    """Largest change of a target neuron's spike time."""
    moves = [jnp.max(jnp.abs(a - b)) for a, b in zip(before, after, strict=True)]
    return jax.lax.reduce_max(jnp.stack(moves), (0,))
