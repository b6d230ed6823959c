"""The classifier of figure 4 as functions of its parameters and a dictionary `config`.

Parameters are p = [weights, phi0]: the weights of each layer [neurons, neurons before], and the
phases of all neurons at time 0. An input is the place of each pixel's spike time among
`level_times`, Nin_virtual or more where the pixel does not spike. `PAPER` is the configuration of
the figure.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer

from smooth_gd.spikegd.models import (
    AbstractPhaseOscNeuron,
    AbstractPseudoPhaseOscNeuron,
    Config,
    Events,
)
from smooth_gd.spikegd.utils.network import feedforward_weights, first_spikes, pseudo_drives

PAPER: dict[str, Any] = {
    "seed": 0,
    "tau": 6 / math.pi,
    "I0": 5 / 4,
    "eps": 1e-6,
    "Nin": 784,
    "Nin_virtual": 1,
    "Nhidden": 100,
    "Nlayer": 3,
    "Nout": 10,
    "w_scale": 0.5,
    "T": 2.0,
    "K": 200,
    "dt": 0.001,
    "gamma": 1e-2,
    "Nbatch": 1000,
    "lr": 4e-3,
    "tau_lr": 100,
    "beta1": 0.9,
    "beta2": 0.999,
    "p_flip": 0.02,
    "Nepochs": 100,
}
THRESHOLD = 0.01  # of the leaky neuron that turns brightness into a spike time


def sizes_of(config: Config) -> tuple[int, ...]:
    """Inputs, hidden layers, outputs, from Nin, Nhidden, Nlayer, Nout."""
    return (config["Nin"], *[config["Nhidden"]] * (config["Nlayer"] - 1), config["Nout"])


def level_times(Nin_virtual: int, T: float) -> tuple[float, ...]:
    """T log(x / (x - .01)) for the levels x = 1, (n - 1) / n, ..., 1 / n of brightness.

    It is the time to threshold .01 of a leaky neuron driven by x; inf where that is not reached.
    """
    levels = (1 - i / Nin_virtual for i in range(Nin_virtual))
    return tuple(T * math.log(x / (x - THRESHOLD)) if x > THRESHOLD else math.inf for x in levels)


def transform_image(
    image: Integer[np.ndarray, "n *pixels"], config: Config
) -> Int[np.ndarray, "n pixels"]:
    """Inputs from images of gray values 0 to 255.

    Bins of brightness are 256 // (Nin_virtual + 1) wide and counted from white; with one time,
    pixels from 128 on spike.
    """
    flat = np.asarray(image).reshape(len(image), -1)
    codes: np.ndarray[Any, Any] = (255 - flat) // (256 // (config["Nin_virtual"] + 1))
    return codes


def init_weights(key: Array, config: Config) -> tuple[Array, list[Float[Array, "N Nbefore"]]]:
    """Weights ~ U(+-w_scale / sqrt(presynaptic neurons)), and the next key.

    The random numbers are those of JAX's older generator.
    """
    sizes, weights = sizes_of(config), []
    with jax.threefry_partitionable(False):
        for before, n in itertools.pairwise(sizes):
            key, own = jax.random.split(key)
            limit = config["w_scale"] / math.sqrt(before)
            weights.append(jax.random.uniform(own, (n, before), minval=-limit, maxval=limit))
    return key, weights


def init_phi0(neuron: AbstractPhaseOscNeuron, config: Config) -> Float[Array, " N"]:
    """Phases of all neurons in the middle of the period."""
    return jnp.full(sum(sizes_of(config)[1:]), neuron.Theta() / 2)


def eventffwd(
    neuron: AbstractPhaseOscNeuron,
    p: Sequence[Any],
    input: Int[Array, " Nin"],
    config: Config,
) -> Events:
    """Show one input to the network.

    Args:
        neuron: the neuron model.
        p: parameters.
        input: of the trial.
        config: with T, K, Nin_virtual.
    """
    weights, phi0 = p
    levels = config["Nin_virtual"]
    is_level = (input == jnp.arange(levels)[:, None]).astype(phi0.dtype)
    weights_in = jnp.zeros((phi0.shape[0], levels), phi0.dtype)
    weights_in = weights_in.at[: weights[0].shape[0]].set(weights[0] @ is_level.T)
    spikes_in = jnp.asarray(level_times(levels, config["T"]), phi0.dtype), jnp.arange(levels)
    return neuron.event(phi0[None], feedforward_weights(weights), weights_in, spikes_in, config)


def outfn(
    neuron: AbstractPseudoPhaseOscNeuron,
    out: Events | tuple[Array, ...],
    p: Sequence[Any],
    config: Config,
) -> Float[Array, " Nout"]:
    """First spike of each output neuron, a pseudospike where it has no ordinary one.

    Args:
        neuron: the neuron model.
        out: the events of a trial.
        p: parameters.
        config: with T.
    """
    events, (weights, phi0) = Events(*out), p
    outputs = weights[-1].shape[0]
    end = events.states[-1]
    pseudo = neuron.t_pseudo(end, pseudo_drives(neuron, end, weights), 1, config)[-outputs:]
    first = first_spikes(events, jnp.arange(phi0.shape[0] - outputs, phi0.shape[0]))
    return jnp.where(jnp.isinf(first), pseudo, first)


def time_loss(
    first: Float[Array, "batch out"], labels: Int[Array, " batch"], T: float, gamma: float
) -> Float[Array, " batch"]:
    """-log softmax(-t)[label] + gamma (exp(t_label / T) - 1) of the first spikes' times t."""
    of_label = jnp.take_along_axis(first, labels[:, None], axis=1)[:, 0]
    log_share = -of_label - jax.nn.logsumexp(-first, axis=1)
    return -log_share + gamma * jnp.expm1(of_label / T)


def lossfn(
    t_outs: Float[Array, " Nout"], label: Int[Array, ""], config: Config
) -> tuple[Float[Array, ""], Array]:
    """Loss of one trial, and whether its class was found; config has T and gamma."""
    label = jnp.asarray(label)
    loss = time_loss(t_outs[None], label[None], config["T"], config["gamma"])[0]
    return loss, jnp.argmin(t_outs) == label
