"""The network of figure 4: theta neurons in layers, taught by the times of first spikes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from smooth_gd.spikegd.layered import Bounds, Levels, Response, Spikes, present
from smooth_gd.spikegd.theta import ThetaNeuron
from smooth_gd.spikegd.utils.checks import check_positive
from smooth_gd.spikegd.utils.network import feedforward_weights, first_spikes, pseudo_drives


class Parameters(NamedTuple):
    """What is learned.

    Attributes:
        weights: of each layer, [neurons, neurons before].
        phases: of each layer's neurons at time 0, between 0 and the period.
    """

    weights: tuple[Float[Array, "N Nbefore"], ...]
    phases: tuple[Float[Array, " N"], ...]


@dataclass(frozen=True)
class Network:
    """What is fixed; defaults are the paper's.

    Attributes:
        sizes: inputs, hidden layers, outputs.
        neuron: the neuron model.
        T: length of a trial.
        Nin_virtual: times at which inputs can spike, one a level of brightness.
        gamma: weight of the term that draws the label's spike forward.
        spread: weights start in +-spread / sqrt(presynaptic neurons).

    Raises:
        UserError: a value is not above 0.
    """

    sizes: tuple[int, ...] = (784, 100, 100, 10)
    neuron: ThetaNeuron = ThetaNeuron(tau=6 / math.pi)
    T: float = 2.0
    Nin_virtual: int = 1
    gamma: float = 1e-2
    spread: float = 0.5

    def __post_init__(self) -> None:
        check_positive(
            T=self.T, Nin_virtual=self.Nin_virtual, spread=self.spread, size=min(self.sizes)
        )

    @property
    def times_in(self) -> tuple[float, ...]:
        """T log(x / (x - .01)) for the levels x = 1, (n - 1) / n, ..., 1 / n of brightness.

        It is the time to threshold .01 of a leaky neuron driven by x.
        """
        levels = (1 - i / self.Nin_virtual for i in range(self.Nin_virtual))
        return tuple(self.T * math.log(x / (x - 0.01)) for x in levels)

    @property
    def period(self) -> float:
        """The neurons' period."""
        return self.neuron.Theta()

    def initial(self, key: Array, dtype: jnp.dtype | type) -> Parameters:
        """Random weights, phases in the middle of the period."""
        keys = jax.random.split(key, len(self.sizes) - 1)
        weights = []
        for key, before, n in zip(keys, self.sizes[:-1], self.sizes[1:], strict=True):
            limit = self.spread / math.sqrt(before)
            weights.append(jax.random.uniform(key, (n, before), dtype, -limit, limit))
        phases = tuple(jnp.full(n, self.period / 2, dtype) for n in self.sizes[1:])
        return Parameters(tuple(weights), phases)

    def codes(self, images: UInt8[np.ndarray, "n ..."]) -> UInt8[np.ndarray, "n pixels"]:
        """Place of each pixel's spike time, `Nin_virtual` where it does not spike.

        The 256 grey values are cut into Nin_virtual + 1 equal ranges; with one time, pixels from
        128 on spike.
        """
        level = images.reshape(len(images), -1).astype(np.uint16) * (self.Nin_virtual + 1) // 256
        return (self.Nin_virtual - level).astype(np.uint8)

    def respond(self, parameters: Parameters, inputs: Levels | Spikes, bounds: Bounds) -> Response:
        """Show a batch of inputs, layer by layer."""
        return present(self.neuron, parameters.weights, parameters.phases, inputs, self.T, bounds)

    def levels(self, codes: Int[Array, "batch pixels"]) -> Levels:
        """Inputs of `respond` from codes."""
        return Levels(codes, self.times_in)

    def loss(
        self, first: Float[Array, "batch out"], labels: Int[Array, " batch"]
    ) -> Float[Array, " batch"]:
        """-log softmax(-t)[label] + gamma (exp(t_label / T) - 1) of the first spikes' times t."""
        of_label = jnp.take_along_axis(first, labels[:, None], axis=1)[:, 0]
        log_share = -of_label - jax.nn.logsumexp(-first, axis=1)
        return -log_share + self.gamma * jnp.expm1(of_label / self.T)

    def plain_first(
        self, parameters: Parameters, codes: Int[Array, "batch pixels"], K: int
    ) -> Float[Array, "batch out"]:
        """`Response.first` by the event loop over all neurons: the oracle of `respond`.

        NaN for trials with K or more events.
        """
        weights_net = feedforward_weights(parameters.weights)
        x0 = jnp.concatenate(parameters.phases)[None]
        n, outputs = weights_net.shape[0], self.sizes[-1]
        times_in = jnp.asarray(self.times_in, x0.dtype)

        def trial(codes: Array) -> Array:
            is_level = (codes == jnp.arange(self.Nin_virtual)[:, None]).astype(x0.dtype)
            weights_in = jnp.zeros((n, self.Nin_virtual), x0.dtype)
            weights_in = weights_in.at[: self.sizes[1]].set(parameters.weights[0] @ is_level.T)
            spikes_in = times_in, jnp.arange(self.Nin_virtual)
            events = self.neuron.event(
                x0, weights_net, weights_in, spikes_in, {"T": self.T, "K": K}
            )
            drives = pseudo_drives(self.neuron, events.states[-1], parameters.weights)
            pseudo = self.neuron.t_pseudo(events.states[-1], drives, 1, {"T": self.T})[-outputs:]
            first = first_spikes(events, jnp.arange(n - outputs, n))
            return jnp.where(jnp.isinf(first), pseudo, first)

        return jax.vmap(trial)(codes)


def clipped(parameters: Parameters, period: float) -> Parameters:
    """Parameters with phases in [0, period]."""
    return parameters._replace(phases=tuple(jnp.clip(phi, 0, period) for phi in parameters.phases))


def layers_of(sizes: Sequence[int]) -> str:
    """Such as 784-100-100-10."""
    return "-".join(map(str, sizes))
