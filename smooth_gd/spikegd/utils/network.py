"""Feed-forward networks as special recurrent ones, and what is read from events."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from smooth_gd.spikegd.models import AbstractPseudoNeuron, Events


def feedforward_weights(weights: Sequence[Float[Array, "N Nbefore"]]) -> Float[Array, "N N"]:
    """The recurrent weights of all neurons of a feed-forward network.

    Args:
        weights: of each layer; the first layer's, from the inputs, only give its size.
    """
    sizes = [w.shape[0] for w in weights]
    n = sum(sizes)
    whole = jnp.zeros((n, n), weights[0].dtype)
    start = 0
    for w in weights[1:]:
        before = w.shape[1]
        whole = whole.at[start + before : start + before + w.shape[0], start : start + before].set(
            w
        )
        start += before
    return whole


def pseudo_drives(
    neuron: AbstractPseudoNeuron,
    x: Float[Array, "D N"],
    weights: Sequence[Float[Array, "N Nbefore"]],
) -> Float[Array, " N"]:
    """The constant inputs of all neurons after the trial, layer by layer.

    Args:
        neuron: the neuron model.
        x: states of all layers at the trial's end.
        weights: of each layer; the inputs are silent after the trial.
    """
    n_first = weights[0].shape[0]
    drives = [jnp.zeros(n_first, x.dtype)]
    start = 0
    for w in weights[1:]:
        before = w.shape[1]
        rate = neuron.construct_ratefn(x[:, start : start + before])(drives[-1])
        drives.append(w @ rate)
        start += before
    return jnp.concatenate(drives)


def spike_times(events: Events, neuron: int | Int[Array, ""], n: int) -> Float[Array, " n"]:
    """Times of a neuron's first n ordinary spikes, inf where it has fewer.

    NaN where the trial was cut short, and so is the gradient.
    """
    own = ~events.spike_in & (events.neurons == neuron)
    times = jnp.where(own, events.times, _no_spike(events))
    place = jnp.argsort(times)[:n]
    found = times[place]
    return jnp.pad(found, (0, n - found.shape[0]), constant_values=_no_spike(events))


def first_spikes(events: Events, neurons: Int[Array, " n"]) -> Float[Array, " n"]:
    """Time of the first ordinary spike of each neuron, inf where it has none.

    NaN where the trial was cut short, and so is the gradient.
    """
    own = ~events.spike_in[:, None] & (events.neurons[:, None] == neurons)
    place = jnp.argmax(own, axis=0)
    return jnp.where(jnp.any(own, axis=0), events.times[place], _no_spike(events))


def _no_spike(events: Events) -> Float[Array, ""]:
    """The time of a spike that has not happened: inf, or NaN where the trial was cut short."""
    return jnp.where(jnp.isnan(events.times[0]), jnp.nan, jnp.inf)


def times_with_pseudospikes(
    neuron: AbstractPseudoNeuron,
    events: Events,
    of: int,
    n: int,
    T: float,
    drive: float | Float[Array, ""] = 0.0,
) -> Float[Array, " n"]:
    """Times of a neuron's first n spikes; pseudospikes follow its ordinary ones.

    NaN where the trial was cut short, and so is the gradient.

    Args:
        neuron: the neuron model.
        events: of the trial.
        of: the neuron.
        n: number of spikes.
        T: the trial's end.
        drive: the neuron's constant input after the trial.
    """
    ordinary = spike_times(events, of, n)
    count = jnp.sum(~events.spike_in & (events.neurons == of))
    number = jnp.arange(1, n + 1)
    x = events.states[-1][:, of : of + 1]
    after = jnp.maximum(number - count, 1)
    pseudo = neuron.t_pseudo(x, jnp.reshape(jnp.asarray(drive, x.dtype), 1), after, {"T": T})
    is_ordinary = number <= count
    return jnp.where(is_ordinary, jnp.where(is_ordinary, ordinary, 0), pseudo)
