r"""Feed-forward networks of theta neurons, layer by layer: same numbers as `event`, much faster.

`event` updates every neuron at every event of the network. Here a layer sees the spikes of the
layer before it alone, for a whole batch at once, and a spike costs a neuron a few multiplications:

- The angle theta = q phi / tau turns at a speed that all neurons share. With x = cot(theta), the
  potential but for sign and scale, an angle of cosine c and sine s leads to (c x - s) / (s x + c),
  and a pulse of weight w to x - w / q: no tangent and no arcus tangent of a neuron.
- The neuron has spiked where s x + c has become negative. Threshold and reset are one point,
  V = inf, so x simply goes on. The spike's time follows from the x before it.

The gradient needs one number per neuron, J = dL/dtheta, and x after each pulse. Backwards over a
pulse from x + p to x, J is multiplied by (1 + (x + p)^2) / (1 + x^2), and p takes J / (1 + x^2).

The spikes of a layer are kept in `slots`, so many per neuron, and handed on in order of time,
`events` of them per trial. Both are bounds that shapes need; what a trial wanted is given back, so
that the caller can raise them. Times and gradients of a trial that wanted more are NaN.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from shared.errors import UserError
from smooth_gd.spikegd.theta import ThetaNeuron
from smooth_gd.spikegd.utils.checks import check_numbers, check_shapes, nan_unless


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
        first: time of each output neuron's first spike; a pseudospike's where it has none. NaN in
            trials that wanted more than the bounds, and so are their gradients.
        ordinary: whether that spike is an ordinary one.
        hidden: spikes of the hidden layers; their times are NaN in the same trials.
        wanted_events: most spikes in a trial of each hidden layer.
        wanted_slots: most spikes of a neuron in a trial, of each hidden layer. Where a bound was
            below what was wanted, later layers saw too few spikes, and may have wanted more.
    """

    first: Float[Array, "batch out"]
    ordinary: Bool[Array, "batch out"]
    hidden: tuple[Spikes, ...]
    wanted_events: Int[Array, " hidden"]
    wanted_slots: Int[Array, " hidden"]


class _State(NamedTuple):
    """A layer right after a pulse, all [batch, N].

    Attributes:
        x: cot(theta).
        spiked: number of spikes so far.
        numbers: of each of the first spikes, the number of the pulse that came next.
    """

    x: Array
    spiked: Array
    numbers: tuple[Array, ...]


_LARGEST = 1e15  # of |cot(theta)|: phases closer to a spike are not told from it


def _start(angles: Float[Array, " N"], batch: int, n_slots: int) -> _State:
    cotangent = jnp.clip(jnp.cos(angles) / jnp.sin(angles), -_LARGEST, _LARGEST)
    x = jnp.broadcast_to(cotangent, (batch, angles.shape[0]))
    zeros = jnp.zeros(x.shape, jnp.int32)
    return _State(x, zeros, (zeros,) * n_slots)


def _turn(state: _State, c: Array, s: Array, number: Array | int) -> _State:
    """Let the angle grow by that of c and s; neurons that spike on the way are noted."""
    below = s * state.x + c
    spiked = below < 0
    x = jnp.clip((c * state.x - s) / below, -_LARGEST, _LARGEST)
    numbers = tuple(
        jnp.where(spiked & (state.spiked == k), number, old) for k, old in enumerate(state.numbers)
    )
    return _State(x, state.spiked + spiked, numbers)


def _pulse(state: _State, c: Array, s: Array, push: Array, number: Array | int) -> _State:
    state = _turn(state, c, s, number)
    return state._replace(x=state.x - push)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _layer(
    n_slots: int,
    is_dense: bool,
    start: Float[Array, " N"],
    pushes: Array,
    angles: Float[Array, "events batch"],
    sources: Int[Array, "events batch"],
    end: Float[Array, ""],
) -> tuple[Array, Array, Array]:
    """A layer under pulses.

    Args:
        n_slots: spikes of a neuron that are kept.
        is_dense: whether `pushes` are given pulse by pulse.
        start: angles theta at time 0.
        pushes: [events, batch, N] of each pulse if dense, else [sources, N] of each source.
        angles: q t / tau of the pulses in order of time.
        sources: where they come from; not looked at if dense.
        end: q T / tau.

    Returns:
        Angles q t / tau of the spikes [batch, N, slots], their counts [batch, N], and the angles
        theta at the trial's end [batch, N].
    """
    return _layer_forward(n_slots, is_dense, start, pushes, angles, sources, end)[0]


def _layer_forward(
    n_slots: int,
    is_dense: bool,
    start: Array,
    pushes: Array,
    angles: Array,
    sources: Array,
    end: Array,
) -> tuple[tuple[Array, Array, Array], tuple[Any, ...]]:
    n_events, batch = angles.shape
    reached = jnp.concatenate([jnp.zeros((1, batch), angles.dtype), angles])
    steps = jnp.diff(reached, axis=0)

    def step(state: _State, event: tuple[Array, ...]) -> tuple[_State, Array]:
        c, s, pulse, number = event
        push = pulse if is_dense else pushes[pulse]
        state = _pulse(state, c[:, None], s[:, None], push, number)
        return state, state.x

    numbers = jnp.arange(n_events, dtype=jnp.int32)
    events = (jnp.cos(steps), jnp.sin(steps), pushes if is_dense else sources, numbers)
    first = _start(start, batch, n_slots)
    state, xs = jax.lax.scan(step, first, events)
    rest = (end - reached[-1])[:, None]
    state = _turn(state, jnp.cos(rest), jnp.sin(rest), n_events)
    # A spike comes the angle pi - theta after the pulse before it.
    before = jnp.concatenate([first.x[None], xs])
    spikes = [
        reached[number, jnp.arange(batch)[:, None]]
        + jnp.arctan2(1, -jnp.take_along_axis(before, number[None], axis=0)[0])
        for number in state.numbers
    ]
    outputs = (jnp.stack(spikes, -1), state.spiked, jnp.arctan2(1, state.x))
    return outputs, (xs, pushes, sources, state.numbers, state.spiked)


def _layer_backward(
    n_slots: int,
    is_dense: bool,
    kept: tuple[Any, ...],
    gradients: tuple[Array, Array, Array],
) -> tuple[Array | None, ...]:
    xs, pushes, sources, numbers, count = kept
    of_spikes, _, of_end = gradients

    def spike(J: Array, number: Array | int) -> Array:
        # Before it spikes, a neuron's spike comes the sooner the larger its angle.
        for k, own in enumerate(numbers):
            J = J - jnp.where((own == number) & (count > k), of_spikes[..., k], 0)
        return J

    def step(carry: tuple[Array, Array], event: tuple[Array, ...]) -> tuple[Any, Any]:
        J, of_rows = carry
        x, pulse, number = event
        below = 1 / (1 + x**2)
        of_push = J * below
        before = J * (1 + (x + (pulse if is_dense else pushes[pulse])) ** 2) * below
        of_angle = jnp.sum(before - J, axis=1)
        if is_dense:
            return (spike(before, number), of_rows), (of_push, of_angle)
        return (spike(before, number), of_rows.at[pulse].add(of_push)), (None, of_angle)

    n_events = xs.shape[0]
    events = (xs, pushes if is_dense else sources, jnp.arange(n_events, dtype=jnp.int32))
    nothing = jnp.zeros((), xs.dtype) if is_dense else jnp.zeros_like(pushes)
    (J, of_rows), (of_pushes, of_angles) = jax.lax.scan(
        step, (spike(of_end, n_events), nothing), events, reverse=True
    )
    return jnp.sum(J, axis=0), of_pushes if is_dense else of_rows, of_angles, None, None


_layer.defvjp(_layer_forward, _layer_backward)


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


def _check_levels(times: Sequence[float], T: float) -> None:
    """Refuse times that do not ascend from 0 to T; those that JAX traces cannot be looked at."""
    if any(isinstance(time, jax.core.Tracer) for time in (times, *times)):
        return
    known = [0.0, *map(float, times), T]
    if not all(a <= b for a, b in pairwise(known)):
        raise UserError(f"the times of the inputs' levels must ascend from 0 to T = {T}")


def present(
    neuron: ThetaNeuron,
    weights: Sequence[Float[Array, "N Nbefore"]],
    phases: Sequence[Float[Array, " N"]],
    inputs: Levels | Spikes,
    T: float,
    bounds: Bounds,
) -> Response:
    """Show a batch of inputs to a network.

    Trials that wanted more than the bounds are NaN, see `Response`; and those with an input spike
    before 0 or after T.

    Args:
        neuron: the neuron model.
        weights: of each layer.
        phases: of each layer's neurons at time 0.
        inputs: spikes of the inputs, by `Levels` or `at_times`; none is past T.
        T: the trial's end.
        bounds: see there.

    Raises:
        UserError: T is not below the period: between two pulses a neuron could spike twice; or
            shapes do not fit, or a weight, phase or time is NaN; or the times of `Levels` do not
            ascend from 0 to T.
    """
    response = present_unmarked(neuron, weights, phases, inputs, T, bounds)
    times = () if isinstance(inputs, Levels) else (inputs.times,)
    fits = _fits(response, bounds)
    for shown in times:  # inside of a compiled function they cannot be refused
        within = (shown >= 0) & ((shown <= T) | jnp.isposinf(shown))
        fits &= within.all(axis=tuple(range(1, shown.ndim)))
    mark = nan_unless(fits, *weights, *phases, *times)[:, None]
    return response._replace(
        first=response.first + mark,
        hidden=tuple(
            layer._replace(times=layer.times + mark[..., None]) for layer in response.hidden
        ),
    )


def present_unmarked(
    neuron: ThetaNeuron,
    weights: Sequence[Float[Array, "N Nbefore"]],
    phases: Sequence[Float[Array, " N"]],
    inputs: Levels | Spikes,
    T: float,
    bounds: Bounds,
) -> Response:
    """`present` for callers who look at what was wanted, and do it again with more room.

    Arguments and errors are as there. Trials that wanted more than the bounds are wrong, not NaN.
    """
    if not 0 < T < neuron.Theta():
        raise UserError(
            f"T = {T} must lie between 0 and the period Theta = {neuron.Theta():.3g} for a "
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
        check_numbers(**{f"weights of layer {number}": w, f"phases of layer {number}": phi})
        n_before = w.shape[0]
    if isinstance(inputs, Levels):
        _check_levels(inputs.times, T)
    else:
        check_numbers(**{"the inputs' times": inputs.times})
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
        pulsed = neuron.H(phase, (pulsed / neuron.Theta()) @ w.T)
    ordinary = spikes.counts > 0
    first = jnp.where(ordinary, spikes.times[..., 0], T + neuron.Theta() - pulsed)
    return Response(
        first=first,
        ordinary=ordinary,
        hidden=tuple(hidden),
        wanted_events=_of_layers([jnp.max(jnp.sum(layer.counts, 1)) for layer in hidden]),
        wanted_slots=_of_layers([jnp.max(layer.counts) for layer in hidden]),
    )


def _of_layers(values: list[Int[Array, ""]]) -> Int[Array, " hidden"]:
    """A number of every hidden layer; a network of one layer has none."""
    return jnp.stack(values) if values else jnp.zeros(0, jnp.int32)


def _fits(response: Response, bounds: Bounds) -> Bool[Array, " batch"]:
    """Whether no hidden layer had more spikes in a trial than there was room for."""
    fits = jnp.ones(len(response.first), bool)
    for layer, events, slots in zip(response.hidden, bounds.events, bounds.slots, strict=True):
        fits &= (jnp.sum(layer.counts, 1) <= events) & (jnp.max(layer.counts, 1) <= slots)
    return fits


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
    angles = speed * jnp.asarray(inputs.times, w.dtype)
    angles = jnp.broadcast_to(angles[:, None], pushes.shape[:2])
    sources = jnp.zeros(angles.shape, jnp.int32)
    return _spikes_and_phase(
        neuron, *_layer(n_slots, True, speed * phases, pushes, angles, sources, end)
    )


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
    found = _layer(n_slots, False, speed * phases, rows, angles.T, sources.T, end)
    return _spikes_and_phase(neuron, *found)
