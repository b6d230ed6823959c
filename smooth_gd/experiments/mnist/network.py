"""The network of figure 4: theta neurons in layers, taught by the times of first spikes."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from shared.errors import UserError
from smooth_gd.experiments.mnist.model import (
    eventffwd,
    level_times,
    outfn,
    time_loss,
    transform_image,
)
from smooth_gd.spikegd.layered import Bounds, Levels, Response, Spikes, present, present_unmarked
from smooth_gd.spikegd.theta import ThetaNeuron
from smooth_gd.spikegd.utils.checks import check_positive


class Parameters(NamedTuple):
    """What is learned.

    Attributes:
        weights: of each layer, [neurons, neurons before].
        phases: of each layer's neurons at time 0, between 0 and the period.
    """

    weights: tuple[Float[Array, "N Nbefore"], ...]
    phases: tuple[Float[Array, " N"], ...]


PAPER_NEURON = ThetaNeuron(tau=6 / math.pi)
MOST_LEVELS = 63
"""Of brightness; the time of the darkest, T log(x / (x - .01)) for x = 1 / levels, is within T."""


def check_levels(Nin_virtual: int) -> None:
    """Refuse levels of brightness of which one has its time past the trial's end.

    Raises:
        UserError: one has.
    """
    if Nin_virtual > MOST_LEVELS:
        raise UserError(
            f"Nin_virtual = {Nin_virtual}: the darkest of more than {MOST_LEVELS} levels would "
            "spike after the trial's end"
        )


@dataclass(frozen=True)
class Network:
    """What is fixed; defaults are the paper's.

    Attributes:
        sizes: inputs, hidden layers, outputs.
        neuron: the neuron model.
        T: length of a trial.
        Nin_virtual: times at which inputs can spike, one for each level of brightness.
        gamma: weight of the term that draws the label's spike forward.
        spread: weights start in +-spread / sqrt(presynaptic neurons).

    Raises:
        UserError: a value is not above 0, or there are so many levels that one is past T.
    """

    sizes: tuple[int, ...] = (784, 100, 100, 10)
    neuron: ThetaNeuron = PAPER_NEURON
    T: float = 2.0
    Nin_virtual: int = 1
    gamma: float = 1e-2
    spread: float = 0.5

    def __post_init__(self) -> None:
        check_positive(
            T=self.T, Nin_virtual=self.Nin_virtual, spread=self.spread, size=min(self.sizes)
        )
        check_levels(self.Nin_virtual)

    @property
    def times_in(self) -> tuple[float, ...]:
        """Times at which inputs can spike."""
        return level_times(self.Nin_virtual, self.T)

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
        """Place of each pixel's spike time, `Nin_virtual` or more where it does not spike."""
        return transform_image(images, {"Nin_virtual": self.Nin_virtual}).astype(np.uint8)

    def respond(self, parameters: Parameters, inputs: Levels | Spikes, bounds: Bounds) -> Response:
        """Show a batch of inputs, layer by layer; NaN in trials that want more than the bounds."""
        return present(self.neuron, parameters.weights, parameters.phases, inputs, self.T, bounds)

    def respond_unmarked(
        self, parameters: Parameters, inputs: Levels | Spikes, bounds: Bounds
    ) -> Response:
        """The same for callers who look at what was wanted; other trials are wrong, not NaN."""
        weights, phases = parameters
        return present_unmarked(self.neuron, weights, phases, inputs, self.T, bounds)

    def levels(self, codes: Int[Array, "batch pixels"]) -> Levels:
        """Inputs of `respond` from codes."""
        return Levels(codes, self.times_in)

    def loss(
        self, first: Float[Array, "batch out"], labels: Int[Array, " batch"]
    ) -> Float[Array, " batch"]:
        """`time_loss` of the first spikes' times."""
        return time_loss(first, labels, self.T, self.gamma)

    def plain_first(
        self, parameters: Parameters, codes: Int[Array, "batch pixels"], K: int
    ) -> Float[Array, "batch out"]:
        """`Response.first` by the event loop over all neurons: the oracle of `respond`.

        NaN for trials with K or more events.
        """
        config = {"T": self.T, "K": K, "Nin_virtual": self.Nin_virtual}
        p = [parameters.weights, jnp.concatenate(parameters.phases)]

        def trial(codes: Array) -> Array:
            return outfn(self.neuron, eventffwd(self.neuron, p, codes, config), p, config)

        return jax.vmap(trial)(codes)


def clipped(parameters: Parameters, period: float) -> Parameters:
    """Parameters with phases in [0, period]."""
    return parameters._replace(phases=tuple(jnp.clip(phi, 0, period) for phi in parameters.phases))
