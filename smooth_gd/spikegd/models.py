r"""Templates of neuron models, simulated exactly from event to event.

A neuron model states how a state flows between events, after what time it spikes, and what a spike
and a pulse do; `AbstractNeuron` simulates networks of it:

    AbstractNeuron
        AbstractIFNeuron            state (V, I): a voltage and its synaptic current
            AbstractPseudoIFNeuron  goes on spiking after the trial, by simple pseudodynamics
        AbstractPhaseOscNeuron      state phi: a phase that grows at rate 1 from 0 to Theta
            AbstractPseudoPhaseOscNeuron

Arrays are laid out as [state D, neuron N], weights as [postsynaptic, presynaptic]. All functions
but `traces` can be differentiated, compiled and mapped by JAX. Times are in the unit of the time
constants. What a simulation needs to know stands in a dictionary `config`: T, the trial's end; K,
the number of events that are simulated; dt, the distance of the times of `traces`.

Of events at one time the spikes of the network come first, that of the lowest number before the
others; then the input spikes, in the order in which they are given. Events at T are not part of
the trial.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from shared.errors import UserError
from smooth_gd.spikegd.utils.checks import (
    check_config,
    check_numbers,
    check_positive,
    check_shapes,
    check_spikes,
    nan_unless,
)

Config = Mapping[str, Any]
SpikesIn = tuple[Float[Array, " Kin"], Int[Array, " Kin"]]
State = tuple[Array, Array, Array, Array]
"""Of a simulation: time, states of the neurons, times to their next spikes, input spikes shown."""


class Events(NamedTuple):
    """What happened in a trial.

    Attributes:
        times: of the events in order; T past the last one.
        spike_in: whether the event is an input spike.
        neurons: the neuron, or of an input spike the input, that spiked; -1 past the last event.
        states: of all neurons right after each event; past the last one, at T.

    Times and states are NaN throughout, and so is what follows from them and its gradients, where K
    was too small, a weight or state NaN, or an input spike's time NaN or negative.
    """

    times: Float[Array, " K"]
    spike_in: Bool[Array, " K"]
    neurons: Int[Array, " K"]
    states: Float[Array, "K D N"]


class AbstractNeuron(ABC):
    """A neuron model without parameters of single neurons.

    A subclass states `flow`, `dt_spike` and either `transmit` or, for other networks than those
    described here, `spike`. Where it states `spike`, or a parameter is an array, derivatives go
    through all that a simulation computes, and take longer.
    """

    n_states: ClassVar[int | None] = None

    @abstractmethod
    def flow(self, x: Float[Array, "D *N"], dt: ArrayLike) -> Float[Array, "D *N"]:
        """The states a time dt later, without spikes or pulses in between."""

    @abstractmethod
    def dt_spike(self, x: Float[Array, "D *N"]) -> Float[Array, "*N"]:
        """Time to each neuron's next spike if no pulse comes; inf where it never spikes."""

    def transmit(
        self, x: Float[Array, "D N"], spiking: Bool[Array, " N"], drive: Float[Array, " N"]
    ) -> Float[Array, "D N"]:
        """The states after an event: every neuron has taken its pulse, spiking ones are reset."""
        raise NotImplementedError(f"{type(self).__name__} states neither transmit nor spike")

    def is_settled(self, left: Float[Array, "*N"]) -> Bool[Array, "*N"]:
        """Whether a spike that was expected before an event comes whatever the event did.

        The time to any other spike follows from the state after the event.

        Args:
            left: what is left of the time to the spike; inf, of which nothing is settled, for the
                neuron that has spiked.
        """
        return jnp.zeros_like(left, bool)

    def voltage(self, x: Float[Array, "D *N"]) -> Float[Array, "*N"]:
        """The membrane potential."""
        return x[0]

    def spike(
        self,
        state: State,
        weights_net: Float[Array, "N N"],
        weights_in: Float[Array, "N Nin"],
        spikes_in: SpikesIn,
        config: Config,
    ) -> tuple[State, Events]:
        """Simulate up to the next event.

        Args:
            state: of the simulation.
            weights_net: of the synapses between neurons.
            weights_in: of the synapses from the inputs.
            spikes_in: times of the input spikes in order, the last one inf, and their inputs.
            config: with T.

        Returns:
            The new state; the event, without an axis K.
        """
        after, event, _ = self._advanced(state, weights_net, weights_in, spikes_in, config)
        return after, event

    def _advanced(
        self,
        state: State,
        weights_net: Float[Array, "N N"],
        weights_in: Float[Array, "N Nin"],
        spikes_in: SpikesIn,
        config: Config,
    ) -> tuple[State, Events, Bool[Array, " N"]]:
        """What `spike` gives, and whose expected spikes are settled."""
        T = config["T"]
        (t, x, dts, shown), (times_in, neurons_in) = state, spikes_in
        first = jnp.argmin(dts)
        t_net, t_in = t + dts[first], times_in[shown]
        is_in = (t_in < t_net) & (t_in < T)
        is_net = ~is_in & (t_net < T)
        t_next = jnp.where(is_in, t_in, jnp.where(is_net, t_net, T))
        dt = jnp.where(is_in, t_in - t, jnp.where(is_net, dts[first], T - t))
        spiking = is_net & (jnp.arange(x.shape[-1]) == first)
        drive = jnp.where(is_in, weights_in[:, neurons_in[shown]], weights_net[:, first])
        x = self._passed(x, dt, is_in | is_net, spiking, drive)
        left = jnp.where(spiking, jnp.inf, at_least(0.0, dts - dt))
        settled = self.is_settled(left)
        dts = jnp.where(settled, left, self.dt_spike(x))
        who = jnp.where(is_in, neurons_in[shown], jnp.where(is_net, first, -1))
        return (t_next, x, dts, shown + is_in), Events(t_next, is_in, who, x), settled

    def _has_arrays(self) -> bool:
        """Whether parameters are arrays: of single neurons, or what is differentiated or mapped."""
        values = jax.tree.leaves(list(getattr(self, "__dict__", {}).values()))
        return any(isinstance(value, np.ndarray | jax.Array) for value in values)

    def _passed(
        self,
        x: Float[Array, "D N"],
        dt: Float[Array, ""],
        happens: Bool[Array, ""],
        spiking: Bool[Array, " N"],
        drive: Float[Array, " N"],
    ) -> Float[Array, "D N"]:
        """The states right after the next event, which comes after dt, or at the trial's end."""
        x = self.flow(x, dt)
        return jnp.where(happens, self.transmit(x, spiking, drive), x)

    def event(
        self,
        x0: Float[Array, "D N"],
        weights_net: Float[Array, "N N"],
        weights_in: Float[Array, "N Nin"] | None,
        spikes_in: SpikesIn | None,
        config: Config,
    ) -> Events:
        """Simulate a network for a trial; a feed-forward one is a network with zero weights.

        Args:
            x0: states at time 0. Of floats of several lengths, here and below, the longest is
                computed in.
            weights_net: of the synapses between neurons.
            weights_in: of the synapses from the inputs; None is no input.
            spikes_in: times and inputs of the input spikes, in any order; those at T or later are
                not reached. None is no input spike.
            config: with T and K. K counts ordinary and input spikes together; one more than happen
                is enough. See `smooth_gd.spikegd.utils.events.simulate` for a choice by the
                program.

        Returns:
            The events, K of them.

        Raises:
            UserError: shapes do not fit, a weight or state is NaN, an input spike's time is NaN or
                negative, K is below 1, or T or K is missing.
        """
        check_config(config, "T", "K")
        check_positive(K=config["K"])
        x0 = jnp.asarray(x0)
        n = jnp.shape(x0)[-1]
        weights_in = jnp.zeros((n, 1), x0.dtype) if weights_in is None else weights_in
        none = jnp.zeros(0, x0.dtype), jnp.zeros(0, int)
        times_in, neurons_in = none if spikes_in is None else spikes_in
        check_shapes(
            {
                "x0": (x0, (self.n_states, None)),
                "weights_net": (weights_net, (n, n)),
                "weights_in": (weights_in, (n, None)),
                "times of the input spikes": (times_in, (None,)),
                "inputs of the input spikes": (neurons_in, jnp.shape(times_in)),
            }
        )
        check_numbers(x0=x0, weights_net=weights_net, weights_in=weights_in)
        check_spikes(times_in, neurons_in, jnp.shape(weights_in)[1])
        floats = x0, weights_net, weights_in, times_in
        x0, weights_net, weights_in, times_in = (
            jnp.asarray(of, jnp.result_type(*floats, float)) for of in floats
        )
        config = {**config, "T": jnp.asarray(config["T"], x0.dtype)}
        order = jnp.argsort(times_in)
        queue = jnp.append(times_in[order], jnp.inf), jnp.append(jnp.asarray(neurons_in)[order], 0)

        if type(self).spike is AbstractNeuron.spike and not self._has_arrays():
            network = (x0, weights_net, weights_in, *queue)
            events, _ = _simulated(self, int(config["K"]), config["T"], *network)
        else:

            def step(state: State, _: None) -> tuple[State, Events]:
                return self.spike(state, weights_net, weights_in, queue, config)

            _, out = jax.lax.scan(step, _start(self, x0), None, length=config["K"])
            events = Events(*out)
        complete = (events.neurons[-1] == -1) & ~jnp.isnan(events.states[-1]).any()
        # Inside of a compiled function times and inputs cannot be refused.
        complete &= (queue[0] >= 0).all()
        complete &= ((queue[1] >= 0) & (queue[1] < jnp.shape(weights_in)[1])).all()
        mark = nan_unless(complete, x0, weights_net, weights_in, queue[0], config["T"])
        return events._replace(times=events.times + mark, states=events.states + mark)

    def states_at(
        self, x0: Float[Array, "D N"], events: Events, times: Float[Array, " t"]
    ) -> Float[Array, "t D N"]:
        """The states at given times of a trial; NaN where it was cut short.

        Args:
            x0: states at time 0.
            events: of the trial.
            times: between 0 and T.
        """
        before = jnp.searchsorted(events.times, times, side="right")
        starts = jnp.append(jnp.zeros(1, events.times.dtype), events.times)[before]
        states = jnp.concatenate([x0[None], events.states])[before]
        moved: Array = jax.vmap(self.flow)(states, times - starts)
        return jnp.where(jnp.isnan(events.times[0]), events.times[0], moved)

    def traces(
        self, x0: Float[Array, "D N"], out: Events | tuple[Array, ...], config: Config
    ) -> tuple[Float[Array, " t"], Float[Array, "t D N"]]:
        """The states over a trial, at every event and at steps of dt after it.

        Args:
            x0: states at time 0.
            out: the events of the trial.
            config: with T and dt.

        Returns:
            Times and states.

        Raises:
            UserError: the trial was cut short by K, a state is NaN, or T or dt is missing.
        """
        check_config(config, "T", "dt")
        events = Events(*out)
        if np.isnan(np.asarray(events.times)).any():
            raise UserError("the trial has more events than were simulated; raise K in config")
        n = int(jnp.sum(events.neurons >= 0))
        starts = np.concatenate([[0.0], np.asarray(events.times)[:n]])
        lengths = np.diff(np.append(starts, config["T"]))
        steps = np.ceil(lengths / config["dt"]).astype(int)
        interval = np.repeat(np.arange(n + 1), steps)
        after = config["dt"] * np.concatenate([np.arange(count) for count in steps])
        states = jnp.concatenate([jnp.asarray(x0)[None], events.states[:n]])[interval]
        # As one program: each trial has its own number of times, for which all must be compiled.
        moved: Array = jax.jit(jax.vmap(self.flow))(states, jnp.asarray(after))
        return jnp.asarray(starts[interval] + after), moved


def at_least(least: float, values: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Values that rounding took below their least, with the slopes of those given."""
    return values + jax.lax.stop_gradient(jnp.maximum(least - values, 0))


def _start(neuron: AbstractNeuron, x0: Float[Array, "D N"]) -> State:
    """A simulation's state at time 0."""
    return jnp.zeros((), x0.dtype), x0, neuron.dt_spike(x0), jnp.zeros((), int)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _simulated(
    neuron: AbstractNeuron,
    K: int,
    T: ArrayLike,
    x0: Float[Array, "D N"],
    weights_net: Float[Array, "N N"],
    weights_in: Float[Array, "N Nin"],
    times_in: Float[Array, " Kin"],
    neurons_in: Int[Array, " Kin"],
) -> tuple[Events, Bool[Array, "K N"]]:
    """The events of a trial, and whose expected spikes were settled at each.

    To find the next event a simulation needs the times to all neurons' spikes. Derivatives, once it
    is known, need that of the neuron that spikes: they go along the events in their order.
    """

    def step(state: State, _: None) -> tuple[State, tuple[Events, Array]]:
        after, event, settled = neuron._advanced(
            state, weights_net, weights_in, (times_in, neurons_in), {"T": T}
        )
        return after, (event, settled)

    _, (events, settled) = jax.lax.scan(step, _start(neuron, x0), None, length=K)
    return events, settled


class _Known(NamedTuple):
    """What is known of an event once the trial has been simulated.

    Attributes:
        is_in: whether an input spikes.
        is_net: whether a neuron spikes; at neither the trial ends.
        source: the neuron.
        settled: whose next spikes the event leaves as they are expected.
    """

    is_in: Bool[Array, "*K"]
    is_net: Bool[Array, "*K"]
    source: Int[Array, "*K"]
    settled: Bool[Array, "*K N"]


class _Before(NamedTuple):
    """What an event follows from.

    Attributes:
        t: time of the event before it.
        x: states right after that one.
        since: when each neuron's next spike was found, and `found` the states that it was found
            from; None for models whose next spikes always follow from t and x.
        found: see `since`.
    """

    t: Float[Array, "*K"]
    x: Float[Array, "*K D N"]
    since: Float[Array, "*K N"] | None = None
    found: Float[Array, "*K D N"] | None = None


def _befores(
    neuron: AbstractNeuron, x0: Float[Array, "D N"], events: Events, settled: Bool[Array, "K N"]
) -> _Before:
    """Of every event what it follows from."""
    times = jnp.append(jnp.zeros((), x0.dtype), events.times)
    states = jnp.concatenate([x0[None], events.states])
    if type(neuron).is_settled is AbstractNeuron.is_settled:
        return _Before(times[:-1], states[:-1])
    # Of each neuron the last event before that did not leave its next spike; 0 is the start.
    numbers = 1 + jnp.arange(len(settled))[:, None]
    last = jax.lax.cummax(jnp.where(settled, 0, numbers))
    last = jnp.concatenate([jnp.zeros_like(last[:1]), last[:-1]])
    found = jnp.take_along_axis(states, last[:, None], 0)
    return _Before(times[:-1], states[:-1], times[last], found)


def _next(
    neuron: AbstractNeuron, event: _Known, before: _Before, given: Mapping[str, Array]
) -> tuple[_Before, tuple[Float[Array, ""], Float[Array, "D N"]]]:
    """Time and states of an event of which is known who spikes.

    Args:
        neuron: the model.
        event: what is known of it.
        before: what it follows from.
        given: T, the trial's end; drive [N], what every neuron receives; t_in, the time of the
            input spike.

    Returns:
        What the event after it follows from; time and states.
    """
    t, x, since, found = before
    # By a mask: the transpose of an index is a scatter, which is slow.
    is_source = jnp.arange(x.shape[-1]) == event.source
    state = jnp.sum(jnp.where(is_source, x if found is None else found, 0), -1)
    waited = 0 if since is None else t - jnp.sum(jnp.where(is_source, since, 0))
    wait = jnp.where(event.is_net, neuron.dt_spike(state) - waited, 0)
    t_net = jnp.where(event.is_net, t + wait, given["T"])
    dt_net = jnp.where(event.is_net, wait, given["T"] - t)
    t_next = jnp.where(event.is_in, given["t_in"], t_net)
    dt = jnp.where(event.is_in, given["t_in"] - t, dt_net)
    happens = event.is_in | event.is_net
    x = neuron._passed(x, dt, happens, event.is_net & is_source, given["drive"])
    if since is not None and found is not None:
        since = jnp.where(event.settled, since, t_next)
        found = jnp.where(event.settled, found, x)
    return _Before(t_next, x, since, found), (t_next, x)


def _differentiated(
    neuron: AbstractNeuron, K: int, primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[tuple[Events, Array], tuple[Events, Any]]:
    """The rule of `_simulated`: tangents go from event to event, which is linearized there."""
    T, x0, weights_net, weights_in, times_in, _ = primals
    events, settled = _simulated(neuron, K, *primals)
    of_net = ~events.spike_in & (events.neurons >= 0)
    sources, inputs = (jnp.where(of, events.neurons, 0) for of in (of_net, events.spike_in))
    shown = jnp.cumsum(events.spike_in) - events.spike_in

    def gathered(
        T: ArrayLike | None, net: Array | None, inward: Array | None, times: Array | None
    ) -> dict[str, Array]:
        """What `_next` is given, of every event; without what is None."""
        found = {}
        if T is not None:
            found["T"] = jnp.broadcast_to(T, K)
        if times is not None:
            found["t_in"] = times[shown]
        if net is not None or inward is not None:
            net = jnp.zeros_like(weights_net) if net is None else net
            inward = jnp.zeros_like(weights_in) if inward is None else inward
            of_input = events.spike_in[:, None]
            found["drive"] = jnp.where(of_input, inward.T[inputs], net.T[sources])
        return found

    def along(change: _Before, at: Any) -> Any:
        event, before, given, changes = at
        varied = {name: given[name] for name in changes}

        def following(before: _Before, varied: Mapping[str, Array]) -> Any:
            return _next(neuron, event, before, {**given, **varied})

        return jax.jvp(following, (before, varied), (change, changes))[1]

    dT, dx0, *changed, _ = (None if isinstance(d, SymbolicZero) else d for d in tangents)
    befores = _befores(neuron, x0, events, settled)
    start = jax.tree.map(lambda values: jnp.zeros_like(values[0]), befores)
    if dx0 is not None:
        start = start._replace(x=dx0, found=None if start.found is None else dx0)
    known = _Known(events.spike_in, of_net, sources, settled)
    given = gathered(T, weights_net, weights_in, times_in)
    # What an event's slopes need is computed again on the way back: stored, it would be slower.
    _, (times, states) = jax.lax.scan(
        jax.checkpoint(along, prevent_cse=False),
        start,
        (known, befores, given, gathered(dT, *changed)),
    )
    none: Any = [
        np.zeros(x.shape, jax.dtypes.float0) for x in (events.spike_in, events.neurons, settled)
    ]
    return (events, settled), (Events(times, none[0], none[1], states), none[2])


_simulated.defjvp(_differentiated, symbolic_zeros=True)


class AbstractIFNeuron(AbstractNeuron):
    """An integrate-and-fire neuron with a synaptic current that decays: state (V, I).

    A pulse of weight w adds w to I; a spike sets V to `v_reset` and leaves I.
    """

    n_states = 2
    v_reset: float

    @abstractmethod
    def min_I0_to_spike(self) -> float:
        """Least current at time 0, so least weight of one input, that makes a resting one spike."""

    def transmit(
        self, x: Float[Array, "2 N"], spiking: Bool[Array, " N"], drive: Float[Array, " N"]
    ) -> Float[Array, "2 N"]:
        """See `AbstractNeuron.transmit`."""
        return jnp.stack([jnp.where(spiking, self.v_reset, x[0]), x[1] + drive])


class AbstractPseudoNeuron(AbstractNeuron):
    """A neuron that spikes on after the trial, so that every spike has a time.

    The pulses that presynaptic neurons would send after the trial are replaced by a constant
    input: the sum of weights times rates, which follow layer by layer in feed-forward order.
    """

    @abstractmethod
    def construct_ratefn(
        self, x: Float[Array, "D *N"]
    ) -> Callable[[Float[ArrayLike, "*N"]], Float[Array, "*N"]]:
        """A function from the constant input to each neuron's rate after the trial.

        Args:
            x: states at the trial's end.
        """

    def linear(self, r: Float[ArrayLike, " M"], w: Float[ArrayLike, "*N M"]) -> Float[Array, "*N"]:
        """The constant input: the sum of weights w times rates r of the presynaptic neurons."""
        return jnp.dot(w, r)

    @abstractmethod
    def t_pseudo(
        self,
        x: Float[Array, "D *N"],
        input: Float[ArrayLike, "*N"],
        k: Int[ArrayLike, "*N"],
        config: Config,
    ) -> Float[Array, "*N"]:
        """Time of each neuron's k-th pseudospike.

        Args:
            x: states at the trial's end.
            input: the constant input, sum of weights times rates.
            k: number of the pseudospike, from 1.
            config: with T.
        """


class AbstractPseudoIFNeuron(AbstractIFNeuron, AbstractPseudoNeuron):
    """An integrate-and-fire neuron that after the trial runs on with a constant current."""


class AbstractPhaseOscNeuron(AbstractNeuron):
    """A neuron that oscillates by itself, described by its phase; pulses are instantaneous.

    The phase grows at rate 1 and is 0 right after a spike; at `Theta` the neuron spikes. What a
    neuron sends itself comes before its reset, and so without effect.
    """

    n_states = 1

    @abstractmethod
    def Theta(self) -> float:
        """The period, and so the phase of a spike."""

    @abstractmethod
    def Phi(self, V: Float[Array, "*N"]) -> Float[Array, "*N"]:
        """The phase of a potential: the time from the reset to it."""

    @abstractmethod
    def iPhi(self, phi: Float[Array, "*N"]) -> Float[Array, "*N"]:
        """The potential of a phase, the inverse of `Phi`."""

    @abstractmethod
    def H(self, phi: Float[ArrayLike, "*N"], w: Float[ArrayLike, "*N"]) -> Float[Array, "*N"]:
        """The phase after a pulse that raises the potential by w: Phi(iPhi(phi) + w)."""

    def flow(self, x: Float[Array, "1 *N"], dt: ArrayLike) -> Float[Array, "1 *N"]:
        """See `AbstractNeuron.flow`."""
        return x + dt

    def dt_spike(self, x: Float[Array, "1 *N"]) -> Float[Array, "*N"]:
        """See `AbstractNeuron.dt_spike`."""
        return self.Theta() - x[0]

    def transmit(
        self, x: Float[Array, "1 N"], spiking: Bool[Array, " N"], drive: Float[Array, " N"]
    ) -> Float[Array, "1 N"]:
        """See `AbstractNeuron.transmit`."""
        return jnp.where(spiking, 0, self.H(x[0], drive))[None]

    def voltage(self, x: Float[Array, "1 *N"]) -> Float[Array, "*N"]:
        """See `AbstractNeuron.voltage`."""
        return self.iPhi(x[0])


class AbstractPseudoPhaseOscNeuron(AbstractPhaseOscNeuron, AbstractPseudoNeuron):
    """An oscillating neuron that after the trial takes its constant input as a single pulse."""

    def construct_ratefn(
        self, x: Float[Array, "1 *N"]
    ) -> Callable[[Float[ArrayLike, "*N"]], Float[Array, "*N"]]:
        """See `AbstractPseudoNeuron.construct_ratefn`."""

        def rate(input: Float[ArrayLike, "*N"]) -> Float[Array, "*N"]:
            return self.H(x[0], input) / self.Theta()

        return rate

    def t_pseudo(
        self,
        x: Float[Array, "1 *N"],
        input: Float[ArrayLike, "*N"],
        k: Int[ArrayLike, "*N"],
        config: Config,
    ) -> Float[Array, "*N"]:
        """See `AbstractPseudoNeuron.t_pseudo`."""
        T: float = config["T"]
        return T + jnp.asarray(k) * self.Theta() - self.H(x[0], input)
