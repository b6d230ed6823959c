"""How many events are simulated: chosen while running, so that none is ever lost.

JAX needs the length of arrays before it knows how much will happen. A program starts with an
estimate, looks whether a trial wanted more, and then does that step again with more room. Sizes
come from a fixed ladder, so that few are ever compiled.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from shared.errors import UserError
from smooth_gd.spikegd.models import AbstractNeuron, Events
from smooth_gd.spikegd.utils.checks import check_numbers, check_spikes

Bound = TypeVar("Bound")

MOST_EVENTS = 2**20


def room_for(n: int) -> int:
    """The least size of a ladder that is at least n: multiples of 8, above 64 of its octave's 8th.

    Raises:
        UserError: n is above `MOST_EVENTS`: a network with so many events in a trial runs away.
    """
    if n > MOST_EVENTS:
        raise UserError(
            f"a trial has more than {MOST_EVENTS} events: the network runs away; lower its "
            "weights, or the trial's length"
        )
    rung = max(8, 1 << max(max(n - 1, 1).bit_length() - 4, 0))
    return max(-(-n // rung), 1) * rung


class Sized(Generic[Bound]):
    """A function compiled once for each size of its arrays.

    Args:
        function: its first argument is the size, which decides shapes.
        options: of `jax.jit`.
    """

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        self._jitted = jax.jit(function, static_argnums=0, **options)
        self._compiled: dict[Any, Any] = {}
        self.seconds = 0.0
        """Time spent on compilation so far, in s."""

    def __call__(self, bound: Bound, *arguments: Any) -> Any:
        """Call the function; arguments have the same shapes and types at every call of a size."""
        if bound not in self._compiled:
            started = time.monotonic()
            self._compiled[bound] = self._jitted.lower(bound, *arguments).compile()
            self.seconds += time.monotonic() - started
        return self._compiled[bound](*arguments)


@partial(jax.jit, static_argnums=(0, 5, 6))
def _events(
    neuron: AbstractNeuron,
    x0: Array,
    weights_net: Array,
    weights_in: Array,
    spikes_in: tuple[Array, Array],
    T: float,
    K: int,
) -> Events:
    return neuron.event(x0, weights_net, weights_in, spikes_in, {"T": T, "K": K})


@partial(jax.jit, static_argnums=0)
def voltages(
    neuron: AbstractNeuron, x0: Float[Array, "D N"], events: Events, times: Float[Array, " t"]
) -> Float[Array, "t N"]:
    """Membrane potentials of all neurons at given times of a trial; NaN where it was cut short."""
    found: Array = jax.vmap(neuron.voltage)(neuron.states_at(x0, events, times))
    return found


def simulate(
    neuron: AbstractNeuron,
    x0: Float[Array, "D N"],
    weights_net: Float[Array, "N N"],
    weights_in: Float[Array, "N Nin"],
    spikes_in: tuple[Float[Array, " Kin"], Int[Array, " Kin"]],
    T: float,
    K: int = 64,
) -> Events:
    """`AbstractNeuron.event` with as many events as the trial has.

    Args:
        neuron: the neuron model.
        x0: states at time 0.
        weights_net: of the synapses between neurons.
        weights_in: of the synapses from the inputs.
        spikes_in: times and inputs of the input spikes, in any order; time inf is no spike.
        T: the trial's end.
        K: the number to begin with.

    Raises:
        UserError: as in `AbstractNeuron.event`, or the network runs away.
    """
    # Here, since what is compiled cannot be looked at.
    check_spikes(*spikes_in, jnp.shape(weights_in)[1])
    check_numbers(x0=x0, weights_net=weights_net, weights_in=weights_in)
    K = room_for(K)
    while True:
        events: Events = _events(neuron, x0, weights_net, weights_in, spikes_in, T, K)
        if not jnp.isnan(events.times[0]):
            return events
        if int(events.neurons[-1]) == -1:
            raise UserError("a state became NaN: lower the weights, or check the neuron model")
        K = room_for(2 * K)
