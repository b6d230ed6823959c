"""Leaky neurons' gradients from event to event: ours beside jaxsnn's, on the same network.

Both move from spike to spike. jaxsnn simulates layer after layer, in as many steps as it is told,
and has two ways back: JAX differentiates the spike times ("analytical"), or an adjoint network runs
back from spike to spike ("eventprop"). Ours simulates all neurons at once, in as many events as it
is told, and goes back from event to event in their order ("fast"), where JAX used to differentiate
the whole simulation ("before"). All are given the room that the busiest trial needs.
"""

import importlib.util
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from shared.errors import UserError
from smooth_gd.experiments.mnist.data import load
from smooth_gd.experiments.mnist.network import Network
from smooth_gd.spikegd.lif import LIFNeuron
from smooth_gd.spikegd.utils.network import feedforward_weights, first_spikes

SIZES = (5, 100, 3)  # of the Yin-Yang task
BATCH = 64
AMPLE = 1500  # events that no trial needs
# Mean and standard deviation of the weights: hidden neurons spike twice, outputs often.
DRAWN = ((1.5, 0.8), (0.25, 0.4))
METHODS = ("analytical", "eventprop")  # of jaxsnn
NEURON = LIFNeuron()


class StepwiseLIF(LIFNeuron):
    """The same neuron, with JAX's derivatives through all that the simulation computes."""

    def spike(self, *arguments: Any) -> Any:
        """As inherited; what is overridden is differentiated as it stands."""
        return super().spike(*arguments)


Weights = tuple[Float[Array, "before n"], Float[Array, "before n"]]
First = Callable[[Weights], Float[Array, "batch out"]]


class Trials(NamedTuple):
    """What both sides are shown.

    Attributes:
        weights: of both layers, [presynaptic, postsynaptic].
        times: of the input spikes, [batch, inputs].
        labels: classes, [batch].
        hidden: most spikes of hidden neurons in a trial.
        events: most spikes of hidden and output neurons in a trial.
    """

    weights: Weights
    times: Float[Array, "batch inputs"]
    labels: Array
    hidden: int
    events: int


def check() -> None:
    """Look whether the peer is there.

    Raises:
        UserError: it is not.
    """
    if importlib.util.find_spec("jaxsnn") is None:
        raise UserError(
            "jaxsnn is not installed: nox -s bench -- smooth_gd installs it; "
            "--cases mnist growth rnn does without"
        )


def trials() -> Trials:
    """Points of the Yin-Yang task, a spike for each coordinate."""
    part = load("yin_yang", None, Network(), 0.0).train
    times, labels = jnp.asarray(part.inputs[:BATCH]), jnp.asarray(part.labels[:BATCH])
    draw = np.random.default_rng(0)
    first, second = (
        jnp.asarray(draw.normal(mean, sd, pair))
        for (mean, sd), pair in zip(DRAWN, pairwise(SIZES), strict=True)
    )
    events = jax.jit(lambda times: simulated((first, second), times, AMPLE))(times)
    spikes = np.asarray(~events.spike_in & (events.neurons >= 0))
    hidden = (spikes & np.asarray(events.neurons < SIZES[1])).sum(1)
    return Trials((first, second), times, labels, int(hidden.max()), int(spikes.sum(1).max()))


def simulated(
    weights: Weights, times: Float[Array, "batch inputs"], K: int, neuron: LIFNeuron = NEURON
) -> Any:
    """Our events of a batch of trials, K of each."""
    n_in, n_hidden, n_out = SIZES
    whole = feedforward_weights([w.T for w in weights])
    inputs = jnp.pad(weights[0].T, ((0, n_out), (0, 0)))
    config = {"T": Network().T, "K": K}
    start = jnp.zeros((2, n_hidden + n_out), times.dtype)

    def trial(times: Float[Array, " inputs"]) -> Any:
        return neuron.event(start, whole, inputs, (times, jnp.arange(n_in)), config)

    return jax.vmap(trial)(times)


def ours(shown: Trials, neuron: LIFNeuron = NEURON) -> First:
    """First spikes of the outputs, of all neurons at once."""
    outputs = SIZES[1] + jnp.arange(SIZES[2])

    def first(weights: Weights) -> Float[Array, "batch out"]:
        events = simulated(weights, shown.times, shown.events + SIZES[0] + 1, neuron)
        return jax.vmap(lambda trial: first_spikes(trial, outputs))(events)

    return first


def jaxsnns(shown: Trials, method: str) -> First:
    """The same of jaxsnn, with one of its ways back."""
    # Here, since the other cases do without it.
    from jaxsnn.event.loss import first_spike
    from jaxsnn.event.modules import LIF, LIFParameters, Linear, Source
    from jaxsnn.event.topology import Topology
    from jaxsnn.event.types import Spike

    tau = NEURON.tau
    neuron = LIFParameters(tau_syn=tau / 2, tau_mem=tau, v_th=NEURON.V_th, v_reset=NEURON.v_reset)
    network = Topology(Network().T, method)
    network.add(
        {
            "in": Source(SIZES[0]),
            "first": Linear(),
            "hidden": LIF(SIZES[1], shown.hidden + SIZES[0] + 1, neuron),
            "second": Linear(),
            "out": LIF(SIZES[2], shown.events + 1, neuron),
        }
    )
    network.connect([("in", "first"), ("first", "hidden"), ("hidden", "second"), ("second", "out")])
    _, apply = network.done()
    order = jnp.argsort(shown.times, 1)
    spikes = Spike(
        time=jnp.take_along_axis(shown.times, order, 1),
        idx=order,
        current=jnp.zeros_like(shown.times),
        layer_idx=jnp.zeros_like(order),
        internal=jnp.ones_like(order, bool),
    )

    def first(weights: Weights) -> Float[Array, "batch out"]:
        parameters = {"in": None, "first": weights[0], "hidden": None, "second": weights[1]}
        events = apply({"in": spikes}, parameters | {"out": None})
        return jax.vmap(lambda trial: first_spike(trial, SIZES[2]))(events["out"])

    return first


def steps() -> dict[str, Callable[[], Any]]:
    """By side the mean loss of a batch with its gradient; with 64 bit numbers on."""
    shown, network = trials(), Network()

    def step(first: First) -> Callable[[], Any]:
        def loss(weights: Weights) -> Array:
            times = first(weights)
            times = jnp.where(jnp.isfinite(times), times, network.T)
            return jnp.mean(network.loss(times, shown.labels))

        compute = jax.jit(jax.value_and_grad(loss))
        return lambda: jax.block_until_ready(compute(shown.weights))

    peers = {f"jaxsnn_{method}": step(jaxsnns(shown, method)) for method in METHODS}
    return peers | {"before": step(ours(shown, StepwiseLIF())), "fast": step(ours(shown))}
