r"""Templates of neuron models, simulated exactly from event to event.

A neuron model states how a state flows between events, after what time it spikes, and what a spike
and a pulse do; `AbstractNeuron` simulates networks of it:

    AbstractNeuron
        AbstractIFNeuron            state (V, I): a voltage and its synaptic current
            AbstractPseudoIFNeuron  goes on spiking after the trial, by simple pseudodynamics
        AbstractPhaseOscNeuron      state phi: a phase that grows at rate 1 from 0 to Theta
            AbstractPseudoPhaseOscNeuron

Arrays are laid out as [state D, neuron N], weights as [postsynaptic, presynaptic]. All functions
can be differentiated, compiled and mapped by JAX. Times are in the unit of the time constants.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from smooth_gd.spikegd.utils.checks import check_shapes, check_spikes


class Events(NamedTuple):
    """What happened in a trial.

    Attributes:
        times: of the events in order; T past the last one. NaN throughout where K was too small.
        spike_in: whether the event is an input spike.
        neurons: the neuron, or of an input spike the input, that spiked; -1 past the last event.
        states: of all neurons right after each event; past the last one, at T.
    """

    times: Float[Array, " K"]
    spike_in: Bool[Array, " K"]
    neurons: Int[Array, " K"]
    states: Float[Array, "K D N"]


class AbstractNeuron(ABC):
    """A neuron model without parameters of single neurons."""

    n_states: ClassVar[int]

    @abstractmethod
    def flow(self, x: Float[Array, "D N"], dt: Float[Array, ""]) -> Float[Array, "D N"]:
        """The states a time dt later, without spikes or pulses in between."""

    @abstractmethod
    def dt_spike(self, x: Float[Array, "D N"]) -> Float[Array, " N"]:
        """Time to each neuron's next spike if no pulse comes; inf where it never spikes."""

    @abstractmethod
    def spike(
        self, x: Float[Array, "D N"], spiking: Bool[Array, " N"], drive: Float[Array, " N"]
    ) -> Float[Array, "D N"]:
        """The states after an event: spiking neurons are reset, then each takes its pulse."""

    @abstractmethod
    def voltage(self, x: Float[Array, "D N"]) -> Float[Array, " N"]:
        """The membrane potential."""

    def event(
        self,
        x0: Float[Array, "D N"],
        weights_net: Float[Array, "N N"],
        weights_in: Float[Array, "N Nin"],
        spikes_in: tuple[Float[Array, " Kin"], Int[Array, " Kin"]],
        T: float,
        K: int,
    ) -> Events:
        """Simulate a network for a trial; a feed-forward one is a network with zero weights.

        Args:
            x0: states at time 0.
            weights_net: of the synapses between neurons.
            weights_in: of the synapses from the inputs.
            spikes_in: times and inputs of the input spikes, in any order; time inf is no spike.
            T: the trial's end.
            K: number of events that are simulated, ordinary and input spikes together; one more
                than happen is enough. See `smooth_gd.spikegd.utils.events.simulate` for a choice
                by the program.

        Returns:
            The events, K of them.

        Raises:
            UserError: shapes do not fit, or an input spike is NaN, negative or past T.
        """
        times_in, neurons_in = spikes_in
        n = jnp.shape(x0)[-1]
        check_shapes(
            {
                "x0": (x0, (self.n_states, None)),
                "weights_net": (weights_net, (n, n)),
                "weights_in": (weights_in, (n, None)),
                "times of the input spikes": (times_in, (None,)),
                "inputs of the input spikes": (neurons_in, jnp.shape(times_in)),
            }
        )
        check_spikes(times_in, neurons_in, jnp.shape(weights_in)[1], T)
        order = jnp.argsort(times_in)
        times_in = jnp.append(jnp.asarray(times_in)[order], jnp.inf)
        neurons_in = jnp.append(jnp.asarray(neurons_in)[order], 0)
        # A row a presynaptic neuron or input: an event reads one.
        rows_net, rows_in = jnp.transpose(weights_net), jnp.transpose(weights_in)

        def step(
            carry: tuple[Array, Array, Array], _: None
        ) -> tuple[tuple[Array, Array, Array], Events]:
            t, x, shown = carry
            dts = self.dt_spike(x)
            first = jnp.argmin(dts)
            t_net, t_in = t + dts[first], times_in[shown]
            is_in = (t_in <= t_net) & (t_in <= T)
            is_net = ~is_in & (t_net <= T)
            t_next = jnp.where(is_in, t_in, jnp.where(is_net, t_net, T))
            dt = jnp.where(is_in, t_in - t, jnp.where(is_net, dts[first], T - t))
            x = self.flow(x, dt)
            spiking = is_net & (jnp.arange(n) == first)
            drive = jnp.where(is_in, rows_in[neurons_in[shown]], rows_net[first])
            x = jnp.where(is_in | is_net, self.spike(x, spiking, drive), x)
            who = jnp.where(is_in, neurons_in[shown], jnp.where(is_net, first, -1))
            return (t_next, x, shown + is_in), Events(t_next, is_in, who, x)

        start = (jnp.zeros((), x0.dtype), x0, jnp.zeros((), int))
        _, events = jax.lax.scan(step, start, None, length=K)
        complete = events.neurons[-1] == -1
        return events._replace(times=jnp.where(complete, events.times, jnp.nan))

    def traces(
        self, x0: Float[Array, "D N"], events: Events, times: Float[Array, " t"]
    ) -> Float[Array, "t D N"]:
        """The states at given times of a trial.

        Args:
            x0: states at time 0.
            events: of the trial.
            times: between 0 and T.
        """
        before = jnp.searchsorted(events.times, times, side="right")
        starts = jnp.append(jnp.zeros(1), events.times)[before]
        states = jnp.concatenate([x0[None], events.states])[before]
        moved: Array = jax.vmap(self.flow)(states, times - starts)
        return moved


class AbstractIFNeuron(AbstractNeuron):
    """An integrate-and-fire neuron with a synaptic current that decays: state (V, I).

    A pulse of weight w adds w to I; a spike sets V to `v_reset` and leaves I.
    """

    n_states = 2
    v_reset: float

    def spike(
        self, x: Float[Array, "2 N"], spiking: Bool[Array, " N"], drive: Float[Array, " N"]
    ) -> Float[Array, "2 N"]:
        """See `AbstractNeuron.spike`."""
        return jnp.stack([jnp.where(spiking, self.v_reset, x[0]), x[1] + drive])

    def voltage(self, x: Float[Array, "2 N"]) -> Float[Array, " N"]:
        """See `AbstractNeuron.voltage`."""
        return x[0]


class AbstractPseudoNeuron(AbstractNeuron):
    """A neuron that spikes on after the trial, so that every spike has a time.

    The pulses that presynaptic neurons would send after the trial are replaced by a constant
    input: the sum of weights times rates, which follow layer by layer in feed-forward order.
    """

    @abstractmethod
    def construct_ratefn(
        self, x: Float[Array, "D N"]
    ) -> Callable[[Float[Array, " N"]], Float[Array, " N"]]:
        """A function from the constant input to each neuron's rate after the trial.

        Args:
            x: states at the trial's end.
        """

    @abstractmethod
    def t_pseudo(
        self, x: Float[Array, "D N"], drive: Float[Array, " N"], k: int | Int[Array, " N"], T: float
    ) -> Float[Array, " N"]:
        """Time of each neuron's k-th pseudospike.

        Args:
            x: states at the trial's end.
            drive: the constant input, sum of weights times rates.
            k: number of the pseudospike, from 1.
            T: the trial's end.
        """


class AbstractPseudoIFNeuron(AbstractIFNeuron, AbstractPseudoNeuron):
    """An integrate-and-fire neuron that after the trial runs on with a constant current."""

    @abstractmethod
    def pseudo_phase(
        self, x: Float[Array, "2 N"], drive: Float[Array, " N"]
    ) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
        """Phase at the trial's end, and period, of the neuron under a constant current."""

    def construct_ratefn(
        self, x: Float[Array, "2 N"]
    ) -> Callable[[Float[Array, " N"]], Float[Array, " N"]]:
        """See `AbstractPseudoNeuron.construct_ratefn`."""

        def rate(drive: Float[Array, " N"]) -> Float[Array, " N"]:
            phase, period = self.pseudo_phase(x, drive)
            return phase / period

        return rate

    def t_pseudo(
        self, x: Float[Array, "2 N"], drive: Float[Array, " N"], k: int | Int[Array, " N"], T: float
    ) -> Float[Array, " N"]:
        """See `AbstractPseudoNeuron.t_pseudo`."""
        phase, period = self.pseudo_phase(x, drive)
        return T + k * period - phase


class AbstractPhaseOscNeuron(AbstractNeuron):
    """A neuron that oscillates by itself, described by its phase; pulses are instantaneous.

    The phase grows at rate 1 and is 0 right after a spike; at `Theta` the neuron spikes.
    """

    n_states = 1

    @property
    @abstractmethod
    def Theta(self) -> float:
        """The period, and so the phase of a spike."""

    @abstractmethod
    def Phi(self, V: Float[Array, " N"]) -> Float[Array, " N"]:
        """The phase of a potential: the time from the reset to it."""

    @abstractmethod
    def iPhi(self, phi: Float[Array, " N"]) -> Float[Array, " N"]:
        """The potential of a phase, the inverse of `Phi`."""

    @abstractmethod
    def H(self, phi: Float[Array, " N"], w: Float[Array, " N"]) -> Float[Array, " N"]:
        """The phase after a pulse that raises the potential by w: Phi(iPhi(phi) + w)."""

    def flow(self, x: Float[Array, "1 N"], dt: Float[Array, ""]) -> Float[Array, "1 N"]:
        """See `AbstractNeuron.flow`."""
        return x + dt

    def dt_spike(self, x: Float[Array, "1 N"]) -> Float[Array, " N"]:
        """See `AbstractNeuron.dt_spike`."""
        return self.Theta - x[0]

    def spike(
        self, x: Float[Array, "1 N"], spiking: Bool[Array, " N"], drive: Float[Array, " N"]
    ) -> Float[Array, "1 N"]:
        """See `AbstractNeuron.spike`."""
        return self.H(jnp.where(spiking, 0, x[0]), drive)[None]

    def voltage(self, x: Float[Array, "1 N"]) -> Float[Array, " N"]:
        """See `AbstractNeuron.voltage`."""
        return self.iPhi(x[0])


class AbstractPseudoPhaseOscNeuron(AbstractPhaseOscNeuron, AbstractPseudoNeuron):
    """An oscillating neuron that after the trial takes its constant input as a single pulse."""

    def construct_ratefn(
        self, x: Float[Array, "1 N"]
    ) -> Callable[[Float[Array, " N"]], Float[Array, " N"]]:
        """See `AbstractPseudoNeuron.construct_ratefn`."""
        return lambda drive: self.H(x[0], drive) / self.Theta

    def t_pseudo(
        self, x: Float[Array, "1 N"], drive: Float[Array, " N"], k: int | Int[Array, " N"], T: float
    ) -> Float[Array, " N"]:
        """See `AbstractPseudoNeuron.t_pseudo`."""
        return T + k * self.Theta - self.H(x[0], drive)
