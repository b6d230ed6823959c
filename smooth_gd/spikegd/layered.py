r"""Feed-forward networks of theta neurons, layer by layer: same numbers as `event`, much faster.

`event` updates every neuron at every event of the network. Here a layer sees the spikes of the
layer before it alone, for a whole batch at once, and a spike costs a neuron a few multiplications:

- With the angle theta = q phi / tau, the point (cos theta, sin theta) turns at a speed that all
  neurons share. In coordinates (a, b) that turn with it nothing happens between pulses.
- A pulse of weight w at time t is a shear, cot(theta) -> cot(theta) - p with p = w / q. With
  c = cos(q t / tau), s = sin(q t / tau) and v = a s + b c = sin(theta) it does
  a -= p v c, b += p v s; the point is then scaled back to length 1, by 1 / l.
- The neuron has spiked where v has become negative. Threshold and reset are one point, V = inf, so
  the reset is a change of sign. The spike's time is the angle of (-a, b), without its past.

The gradient needs one number a neuron, J = dL/dtheta. Backwards over a pulse it shrinks to J / l^2;
the push takes J (v / l)^2 of it, and the pulse's own angle J (1 / l^2 - 1).

The spikes of a layer are kept in `slots`, so many a neuron, and handed on in order of time, `events`
of them a trial. Both are bounds that shapes need; what a trial wanted is given back, so that the
caller can raise them.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from shared.errors import UserError
from smooth_gd.spikegd.theta import ThetaNeuron
from smooth_gd.spikegd.utils.checks import check_shapes


class Bounds(NamedTuple):
    """What the arrays have room for.

    Attributes:
        events: spikes of each hidden layer that the next layer is shown in a trial.
        slots: spikes of a single neuron in a trial, of each hidden layer.
    """

    events: tuple[int, ...]
    slots: tuple[int, ...]


class Spikes(NamedTuple):
    """The ordinary spikes of a layer.

    Attributes:
        times: of each neuron's spikes in order; inf where there are fewer than slots.
        counts: spikes of each neuron in the trial, also those beyond the slots.
    """

    times: Float[Array, "batch N slots"]
    counts: Int[Array, "batch N"]


class Levels(NamedTuple):
    """Inputs that spike at few times, which all trials have in common.

    Attributes:
        codes: of every input the place of its spike in `times`, or their number where it is silent.
        times: the times, in order.
    """

    codes: Int[Array, "batch Nin"]
    times: Sequence[float]


class Response(NamedTuple):
    """What a network did in each trial of a batch.

    Attributes:
        first: time of each output neuron's first spike; a pseudospike's where it has none.
        ordinary: whether that spike is an ordinary one.
        hidden: spikes of the hidden layers.
        wanted_events: most spikes in a trial of each hidden layer.
        wanted_slots: most spikes of a neuron in a trial, of each hidden layer. Where a bound was
            below what was wanted, later layers saw too few spikes.
    """

    first: Float[Array, "batch out"]
    ordinary: Bool[Array, "batch out"]
    hidden: tuple[Spikes, ...]
    wanted_events: Int[Array, " hidden"]
    wanted_slots: Int[Array, " hidden"]


class _State(NamedTuple):
    """A layer in the turning coordinates, all [batch, N].

    Attributes:
        a, b: the point, with v = a s + b c positive.
        count: spikes so far.
        slots: of each of the first spikes, the point before it and the number of the pulse that
            came next.
    """

    a: Array
    b: Array
    count: Array
    slots: tuple[tuple[Array, Array, Array], ...]


def _start(angles: Float[Array, " N"], batch: int, n_slots: int) -> _State:
    a, b = (jnp.broadcast_to(f(angles), (batch, angles.shape[0])) for f in (jnp.cos, jnp.sin))
    count = jnp.zeros(a.shape, jnp.int32)
    # An empty slot's angle is never used, but its derivative must be a number: (-1, 0).
    return _State(a, b, count, ((jnp.full_like(a, -1), jnp.zeros_like(a), count - 1),) * n_slots)


def _spiked(state: _State, c: Array, s: Array, number: Array | int) -> tuple[_State, Array]:
    """Note and reset the neurons that spiked before a time; also gives v at that time."""
    v = state.a * s + state.b * c
    spiked = v < 0
    slots = []
    for k, old in enumerate(state.slots):
        new = (state.a, state.b, jnp.full_like(state.count, number))
        hit = spiked & (state.count == k)
        slots.append(tuple(jnp.where(hit, n, o) for n, o in zip(new, old, strict=True)))
    sign = jnp.where(spiked, -1, 1).astype(v.dtype)
    count = state.count + spiked
    return _State(state.a * sign, state.b * sign, count, tuple(slots)), v * sign  # type: ignore[arg-type]


def _pulse(
    state: _State, c: Array, s: Array, push: Array, number: Array | int
) -> tuple[_State, Array, Array]:
    """Bring a layer to a pulse and through it; also gives v / l and 1 / l^2."""
    state, v = _spiked(state, c, s, number)
    kick = push * v
    a, b = state.a - kick * c, state.b + kick * s
    shrink = jax.lax.rsqrt(a**2 + b**2)
    return state._replace(a=a * shrink, b=b * shrink), v * shrink, shrink**2


def _end(state: _State, angle: Array, number: int) -> tuple[Array, Array, Array, _State]:
    """Angles of the spikes [batch, N, slots], counts, and theta at the trial's end."""
    c, s = jnp.cos(angle), jnp.sin(angle)
    state, v = _spiked(state, c, s, number)
    theta = jnp.arctan2(v, state.a * c - state.b * s)
    spikes = jnp.stack([jnp.arctan2(b, -a) for a, b, _ in state.slots], -1)
    return spikes, state.count, theta, state


def _first_layer(
    start: Float[Array, " N"],
    pushes: Float[Array, "levels batch N"],
    angles: Sequence[float],
    end: Float[Array, ""],
    n_slots: int,
) -> tuple[Array, Array, Array]:
    """A layer whose pulses come at the same times in all trials; returns as `_later_layer`."""
    state = _start(start, pushes.shape[1], n_slots)
    for number, (push, angle) in enumerate(zip(pushes, angles, strict=True)):
        at = jnp.asarray(angle, push.dtype)
        state, _, _ = _pulse(state, jnp.cos(at), jnp.sin(at), push, number)
    return _end(state, end, len(angles))[:3]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _later_layer(
    n_slots: int,
    start: Float[Array, " N"],
    rows: Float[Array, "sources N"],
    angles: Float[Array, "events batch"],
    sources: Int[Array, "events batch"],
    end: Float[Array, ""],
) -> tuple[Array, Array, Array]:
    """A layer under pulses whose order differs from trial to trial.

    Args:
        n_slots: spikes of a neuron that are kept.
        start: angles theta at time 0.
        rows: pushes of each source.
        angles: q t / tau of the pulses in order of time.
        sources: where they come from.
        end: q T / tau.

    Returns:
        Angles q t / tau of the spikes [batch, N, slots], their counts [batch, N], and the angles
        theta at the trial's end [batch, N].
    """
    return _run_later_layer(n_slots, start, rows, angles, sources, end, keep=False)[0]


def _run_later_layer(
    n_slots: int,
    start: Array,
    rows: Array,
    angles: Array,
    sources: Array,
    end: Array,
    keep: bool,
) -> tuple[tuple[Array, Array, Array], tuple[Array, Array] | None, _State]:
    n_events, batch = angles.shape

    def step(
        state: _State, event: tuple[Array, Array, Array, Array]
    ) -> tuple[_State, tuple[Array, Array] | None]:
        c, s, source, number = event
        state, raised, shrunk = _pulse(state, c[:, None], s[:, None], rows[source], number)
        return state, (raised, shrunk) if keep else None

    events = (jnp.cos(angles), jnp.sin(angles), sources, jnp.arange(n_events, dtype=jnp.int32))
    state, kept = jax.lax.scan(step, _start(start, batch, n_slots), events)
    *outputs, state = _end(state, end, n_events)
    return tuple(outputs), kept, state  # type: ignore[return-value]


def _later_layer_forward(
    n_slots: int, *arguments: Array
) -> tuple[tuple[Array, ...], tuple[object, ...]]:
    _, rows, _, sources, _ = arguments
    outputs, kept, state = _run_later_layer(n_slots, *arguments, keep=True)  # type: ignore[misc]
    numbers = tuple(number for _, _, number in state.slots)
    return outputs, (kept, sources, numbers, jnp.zeros((rows.shape[0], 0), rows.dtype))


def _later_layer_backward(
    n_slots: int, kept: tuple[object, ...], gradients: tuple[Array, Array, Array]
) -> tuple[Array | None, ...]:
    (raised, shrunk), sources, numbers, shape = kept  # type: ignore[misc]
    of_spikes, _, J = gradients
    n_sources = shape.shape[0]

    def spike(J: Array, event: Array | int) -> Array:
        # A spike's angle is pi - theta, its angle's co-rotating part.
        for k, number in enumerate(numbers):
            J = J - jnp.where(number == event, of_spikes[..., k], 0)
        return J

    def step(
        carry: tuple[Array, Array], event: tuple[Array, Array, Array, Array]
    ) -> tuple[tuple[Array, Array], Array]:
        J, of_rows = carry
        v, r, source, number = event
        # A product with one-hot rows: XLA's scatter is slow on a CPU.
        is_source = (source == jnp.arange(n_sources)[:, None]).astype(J.dtype)
        of_rows = of_rows + is_source @ (J * v**2)
        of_angle = jnp.sum(J * (r - 1), axis=1)
        return (spike(J * r, number), of_rows), of_angle

    n_events = sources.shape[0]
    events = (raised, shrunk, sources, jnp.arange(n_events, dtype=jnp.int32))
    start = (spike(J, n_events), jnp.zeros((n_sources, J.shape[1]), J.dtype))
    (J, of_rows), of_angles = jax.lax.scan(step, start, events, reverse=True)
    return jnp.sum(J, axis=0), of_rows, of_angles, None, None


_later_layer.defvjp(_later_layer_forward, _later_layer_backward)


def _in_order(
    spikes: Spikes, n_events: int
) -> tuple[Float[Array, "batch events"], Int[Array, "batch events"]]:
    """The first spikes of a layer by time, and their neurons; N past the last one."""
    batch, n, slots = spikes.times.shape
    times = spikes.times.reshape(batch, n * slots)
    negative, place = jax.lax.top_k(jax.lax.stop_gradient(-times), min(n_events, n * slots))
    sources = jnp.where(jnp.isinf(negative), n, place // slots)
    return jnp.take_along_axis(times, place, axis=1), sources


def at_times(times: Float[Array, "batch Nin"]) -> Spikes:
    """Inputs that spike once each, at times of their own; inf where one is silent."""
    return Spikes(times[..., None], jnp.isfinite(times).astype(jnp.int32))


def present(
    neuron: ThetaNeuron,
    weights: Sequence[Float[Array, "N Nbefore"]],
    phases: Sequence[Float[Array, " N"]],
    inputs: Levels | Spikes,
    T: float,
    bounds: Bounds,
) -> Response:
    """Show a batch of inputs to a network.

    Args:
        neuron: the neuron model.
        weights: of each layer.
        phases: of each layer's neurons at time 0.
        inputs: spikes of the inputs, by `Levels` or `at_times`; none is past T.
        T: the trial's end.
        bounds: see there.

    Raises:
        UserError: T is not below the period: between two pulses a neuron could spike twice; or
            shapes do not fit.
    """
    if not 0 < T < neuron.Theta:
        raise UserError(
            f"T = {T} must lie between 0 and the period Theta = {neuron.Theta:.3g} for a "
            "simulation by layers; use `event` for longer trials"
        )
    n_before = (inputs.codes if isinstance(inputs, Levels) else inputs.counts).shape[1]
    for number, (w, phi) in enumerate(zip(weights, phases, strict=True), 1):
        check_shapes(
            {
                f"weights of layer {number}": (w, (phi.shape[0], n_before)),
                f"phases of layer {number}": (phi, (w.shape[0],)),
            }
        )
        n_before = w.shape[0]
    end = jnp.asarray(neuron.q / neuron.tau * T, weights[0].dtype)
    n_slots = (*bounds.slots, 1)
    if isinstance(inputs, Levels):
        spikes, phase = _shown_levels(neuron, weights[0], phases[0], inputs, end, n_slots[0])
    else:
        room = inputs.counts.shape[1]
        spikes, phase = _shown_spikes(neuron, weights[0], phases[0], inputs, end, room, n_slots[0])
    hidden, pulsed = [], phase
    for w, phi, room, slots in zip(
        weights[1:], phases[1:], bounds.events, n_slots[1:], strict=True
    ):
        hidden.append(spikes)
        spikes, phase = _shown_spikes(neuron, w, phi, spikes, end, room, slots)
        # Behind the trial a neuron's rate is its phase, which the rates before it move by a pulse.
        pulsed = neuron.H(phase, (pulsed / neuron.Theta) @ w.T)
    ordinary = spikes.counts > 0
    return Response(
        first=jnp.where(ordinary, spikes.times[..., 0], T + neuron.Theta - pulsed),
        ordinary=ordinary,
        hidden=tuple(hidden),
        wanted_events=jnp.stack([jnp.max(jnp.sum(layer.counts, 1)) for layer in hidden]),
        wanted_slots=jnp.stack([jnp.max(layer.counts) for layer in hidden]),
    )


def _spikes_and_phase(
    neuron: ThetaNeuron, angles: Array, counts: Array, theta: Array
) -> tuple[Spikes, Array]:
    """Spikes, and phases at the trial's end, from angles."""
    speed = neuron.q / neuron.tau
    there = jnp.arange(angles.shape[-1]) < counts[..., None]
    return Spikes(jnp.where(there, angles / speed, jnp.inf), counts), theta / speed


def _shown_levels(
    neuron: ThetaNeuron, w: Array, phases: Array, inputs: Levels, end: Array, n_slots: int
) -> tuple[Spikes, Array]:
    speed = neuron.q / neuron.tau
    is_level = inputs.codes == jnp.arange(len(inputs.times))[:, None, None]
    pushes = is_level.astype(w.dtype) @ (w.T / neuron.q)
    angles = [speed * time for time in inputs.times]
    return _spikes_and_phase(neuron, *_first_layer(speed * phases, pushes, angles, end, n_slots))


def _shown_spikes(
    neuron: ThetaNeuron,
    w: Array,
    phases: Array,
    before: Spikes,
    end: Array,
    n_events: int,
    n_slots: int,
) -> tuple[Spikes, Array]:
    speed = neuron.q / neuron.tau
    times, sources = _in_order(before, n_events)
    # Behind the last spike come pulses of weight 0 at the trial's end.
    angles = jnp.where(sources == w.shape[1], end, speed * times)
    rows = jnp.concatenate([w.T / neuron.q, jnp.zeros((1, w.shape[0]), w.dtype)])
    found = _later_layer(n_slots, speed * phases, rows, angles.T, sources.T, end)
    return _spikes_and_phase(neuron, *found)
