"""Neuron models: gradients against finite differences, edges, the trial's end, bad input."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.errors import UserError
from smooth_gd.spikegd.lif import LIFNeuron
from smooth_gd.spikegd.models import AbstractNeuron
from smooth_gd.spikegd.olif import OscLIFNeuron
from smooth_gd.spikegd.qif import QIFNeuron
from smooth_gd.spikegd.theta import ThetaNeuron
from smooth_gd.spikegd.utils.events import room_for, simulate, voltages
from smooth_gd.spikegd.utils.network import first_spikes, spike_times, times_with_pseudospikes

QIF, LIF, THETA, OLIF = QIFNeuron(), LIFNeuron(), ThetaNeuron(6 / np.pi), OscLIFNeuron()
T = 4.0
CONFIG = {"T": T, "K": 8}
REST = jnp.zeros((2, 1))
NO_NET = jnp.zeros((1, 1))


@jax.jit
def first_two(weights, times):
    """First two spikes of a QIF neuron with three inputs, pseudospikes included."""
    events = QIF.event(REST, NO_NET, weights[None], (times, jnp.arange(3)), {"T": T, "K": 16})
    return times_with_pseudospikes(QIF, events, 0, 2, T)


jacobians = jax.jit(jax.jacfwd(first_two, (0, 1)))
flow, dt_spike = jax.jit(QIF.flow), jax.jit(QIF.dt_spike)
flow_slopes = jax.jit(jax.jacrev(QIF.flow, (0, 1)))
spike_slopes = jax.jit(jax.jacrev(QIF.dt_spike))


def difference(function, x, i, h=1e-6):
    up, down = x.at[i].add(h), x.at[i].add(-h)
    return (function(up) - function(down)) / (2 * h)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(-4, 6), min_size=3, max_size=3),
    st.lists(st.floats(0.05, 3.9), min_size=3, max_size=3, unique=True),
)
def test_slopes_of_spike_times_are_those_of_finite_differences(weights, times):
    weights, times = jnp.array(weights), jnp.array(times)
    of_weights, of_times = jacobians(weights, times)
    found = first_two(weights, times)
    gaps = jnp.abs(jnp.concatenate([found, times])[:, None] - jnp.append(times, T)[None])
    if jnp.sum(gaps < 1e-3) > 3:  # a spike, input and the end that change places have two slopes
        return
    for i in range(3):
        scale = 1 + jnp.abs(of_weights[:, i])
        wanted = difference(lambda w: first_two(w, times), weights, i)
        assert jnp.all(jnp.abs(of_weights[:, i] - wanted) < 1e-4 * scale), (weights, times)
        scale = 1 + jnp.abs(of_times[:, i])
        wanted = difference(lambda t: first_two(weights, t), times, i)
        assert jnp.all(jnp.abs(of_times[:, i] - wanted) < 1e-4 * scale), (weights, times)


@pytest.mark.parametrize("V", [-3.0, 0.0, 0.7, 1.5, 2.0])
@pytest.mark.parametrize("current", [0.0, -0.49, -4.0, 1e-9, -1e-9, 3.0])
def test_flow_has_true_slopes_at_the_edges_of_its_cases(V, current):
    """I = 0, and |V| = sqrt(-I) = 0.7 and 2."""
    x, dt = jnp.array([[V], [current]]), jnp.array(0.1)
    of_state, of_dt = flow_slopes(x, dt)
    assert np.isfinite(of_state).all()
    for i in range(2):
        wanted = difference(lambda y: flow(y, dt), x, (i, 0))
        np.testing.assert_allclose(of_state[:, :, i, 0], wanted, rtol=1e-6, atol=1e-7)
    wanted = (flow(x, dt + 1e-6) - flow(x, dt - 1e-6)) / 2e-6
    np.testing.assert_allclose(of_dt, wanted, rtol=1e-6, atol=1e-7)
    spike = dt_spike(x)[0]
    if np.isfinite(spike):
        slope = spike_slopes(x)[0, :, 0]
        for i in range(2):
            wanted = difference(dt_spike, x, (i, 0))[0]
            np.testing.assert_allclose(slope[i], wanted, rtol=1e-5, atol=1e-7)


def test_flow_solves_the_equation():
    x, n = jnp.array([[-2.0, 0.3, 1.2], [-1.0, 2.0, 0.0]]), 20_000
    dt = 0.3 / n

    def euler(_, y):
        def slope(y):
            return jnp.stack([y[0] * (y[0] - 1) + y[1], -2 * y[1]])

        return y + dt * slope(y + dt / 2 * slope(y))

    np.testing.assert_allclose(QIF.flow(x, jnp.array(0.3)), jax.lax.fori_loop(0, n, euler, x), 1e-7)


def test_a_spike_leaves_the_trial_continuously_and_its_time_goes_on():
    """Over the trial's end the time joins that of the pseudospike; both slopes have one sign."""
    times = jnp.array([0.5, 1.0, 2.0])

    def spike(w):
        return first_two(jnp.array([w, 0.0, 0.0]), times)[0]

    low, high = 2.0, 4.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if spike(middle) > T else (low, middle)
    assert spike(low) > T >= spike(high)
    # dV/dt is 1e12 at the edge: a voltage off by its last digit is a time off by 1e-6.
    assert spike(low) - spike(high) < 1e-5
    slopes = [float(jax.jit(jax.grad(spike))(w)) for w in (low - 1e-4, high + 1e-4)]
    assert slopes[0] < 0
    assert slopes[1] < 0


def test_the_leaky_neuron_jumps_where_the_quadratic_one_is_continuous():
    @jax.jit
    def spikes(w):
        inputs = jnp.array([0.5]), jnp.array([0])
        found = [n.event(REST, NO_NET, w[None, None], inputs, CONFIG).times for n in (LIF, QIF)]
        return [times[1] for times in found]

    eps = 1e-6
    below, above = (
        spikes(jnp.array(LIF.min_I0_to_spike() - eps)),
        spikes(jnp.array(LIF.min_I0_to_spike() + eps)),
    )
    assert below[0] == T
    assert above[0] < T - 1
    assert abs(below[1] - above[1]) < 1e-5
    assert QIF.min_I0_to_spike() == pytest.approx(np.pi**2 / 4)


def test_phases_and_potentials_are_inverse():
    V = jnp.linspace(-20, 0.9, 50)
    for neuron in (THETA, OLIF):
        np.testing.assert_allclose(neuron.iPhi(neuron.Phi(V)), V, rtol=1e-9, atol=1e-12)
    phi, w = jnp.linspace(0.1, 5.9, 30), jnp.linspace(-3, 3, 30)
    np.testing.assert_allclose(THETA.H(phi, w), THETA.Phi(THETA.iPhi(phi) + w), rtol=1e-12)
    # At phases 0 and Theta, where V is infinite, a pulse does nothing, and slopes are numbers.
    edges = jnp.array([0.0, THETA.Theta()])
    slopes = jax.vmap(jax.grad(THETA.H, (0, 1)))(edges, jnp.ones(2))
    np.testing.assert_allclose(slopes[0], 1, rtol=1e-9)
    np.testing.assert_allclose(slopes[1], 0, atol=1e-12)


def test_voltages_follow_the_events_of_any_model():
    rng = np.random.default_rng(0)
    inputs = jnp.array([2.0, 0.5, 1.0]), jnp.array([0, 1, 0])
    for neuron, x0 in ((QIF, jnp.zeros((2, 3))), (THETA, jnp.full((1, 3), 3.0))):
        w_net, w_in = jnp.array(rng.normal(size=(3, 3))), 4 + jnp.array(rng.normal(size=(3, 2)))
        events = simulate(neuron, x0, w_net, w_in, inputs, T, K=2)
        assert not np.isnan(events.times).any()
        shown = voltages(neuron, x0, events, jnp.linspace(0, T, 9))
        np.testing.assert_allclose(shown[0], neuron.voltage(x0))
        np.testing.assert_allclose(shown[-1], neuron.voltage(events.states[-1]), rtol=1e-9)
        order = jnp.argsort(inputs[0])
        sorted_inputs = tuple(part[order] for part in inputs)
        again = simulate(neuron, x0, w_net, w_in, sorted_inputs, T)
        n = int(jnp.sum(events.neurons >= 0))
        np.testing.assert_array_equal(events.times[:n], again.times[:n])


def test_too_few_events_are_told_and_never_lost():
    inputs = jnp.linspace(0.1, 3, 20), jnp.zeros(20, int)
    arguments = (REST, NO_NET, jnp.ones((1, 1)), inputs, T)
    assert np.isnan(QIF.event(*arguments[:-1], {"T": T, "K": 12}).times).all()
    assert int(jnp.sum(simulate(QIF, *arguments, K=8).spike_in)) == 20
    assert [room_for(n) for n in (0, 8, 9, 64, 65, 129, 300)] == [8, 8, 16, 64, 72, 144, 320]


def readme_s_second_spike(w_in, K):
    """README's example, with room for K events; the trial has four."""
    config = {"T": 10.0, "K": K, "dt": 0.01}
    spikes_in = jnp.array([0.5, 2.0]), jnp.array([0, 0])
    events = QIF.event(jnp.zeros((2, 2)), jnp.zeros((2, 2)), w_in, spikes_in, config)
    return times_with_pseudospikes(QIF, events, 0, 2, config["T"])[1]


def test_the_readme_s_example_is_nan_where_room_is_missing():
    w_in = jnp.array([[3.0], [1.0]])
    both = jax.jit(jax.value_and_grad(readme_s_second_spike), static_argnums=1)
    time, slopes = both(w_in, 16)
    assert time == pytest.approx(10.668, abs=1e-3)
    assert np.isfinite(slopes).all()
    time, slopes = both(w_in, 3)
    assert np.isnan(time)
    assert np.isnan(slopes).all()


def answers(name, K):
    """All that is read of a trial of two neurons, and the gradients of each in all inputs."""
    neuron = MODELS[name]
    x0 = jnp.full((neuron.n_states, 2), 0.2)
    weights_net, weights_in = jnp.array([[0.0, 0.3], [0.4, 0.0]]), jnp.array([[5.0], [0.5]])
    times_in = jnp.array([0.4, 1.1, 1.7, 2.6])

    def read(x0, weights_net, weights_in, times_in):
        spikes_in = times_in, jnp.zeros(4, int)
        events = neuron.event(x0, weights_net, weights_in, spikes_in, {"T": T, "K": K})
        found = {
            "times": events.times,
            "states": events.states,
            "spike_times": jnp.minimum(spike_times(events, 0, 3), 99),
            "first_spikes": jnp.minimum(first_spikes(events, jnp.arange(2)), 99),
            "traces": neuron.states_at(x0, events, jnp.linspace(0, T, 5)),
            "voltages": voltages(neuron, x0, events, jnp.linspace(0, T, 5)),
        }
        if name != "lif":
            end = events.states[-1]
            found["pseudospikes"] = neuron.t_pseudo(end, jnp.zeros(2), 1, {"T": T})
            found["rates"] = neuron.construct_ratefn(end)(jnp.zeros(2))
            found["both"] = times_with_pseudospikes(neuron, events, 0, 3, T)
        return {key: jnp.sum(value) for key, value in found.items()}, found

    both = jax.jit(jax.jacrev(read, (0, 1, 2, 3), has_aux=True))
    return both(x0, weights_net, weights_in, times_in)


@pytest.mark.parametrize("name", ["qif", "lif", "olif", "theta"])
def test_nothing_read_of_a_trial_that_was_cut_short_looks_like_a_number(name):
    slopes, found = answers(name, 64)
    for key, value in found.items():
        assert not np.isnan(value).any(), key
        assert not any(np.isnan(slope).any() for slope in slopes[key]), key
    slopes, found = answers(name, 5)
    for key, value in found.items():
        assert np.isnan(value).all(), key
        assert all(np.isnan(slope).all() for slope in slopes[key]), key


def test_numbers_that_are_nan_are_refused_or_seen():
    inputs, nan = (jnp.array([0.5]), jnp.array([0])), jnp.array([[np.nan]])
    with pytest.raises(UserError, match="weights_in holds NaN"):
        QIF.event(REST, NO_NET, nan, inputs, CONFIG)
    with pytest.raises(UserError, match="x0 holds NaN"):
        simulate(QIF, REST * np.nan, NO_NET, jnp.ones((1, 1)), inputs, T)
    # What is compiled cannot be refused: it is NaN.
    event = jax.jit(lambda w: QIF.event(REST, NO_NET, w, inputs, CONFIG))
    assert np.isnan(event(nan).times).all()
    with pytest.raises(UserError, match="K = 0 must be above 0"):
        QIF.event(REST, NO_NET, jnp.ones((1, 1)), inputs, {"T": T, "K": 0})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: QIFNeuron(tau=-1.0), "tau = -1.0 must be above 0"),
        (lambda: LIFNeuron(V_th=0.0), "V_th = 0.0 must be above 0"),
        (lambda: ThetaNeuron(I0=0.25), "I0 = 0.25 must be above 1/4"),
        (lambda: ThetaNeuron(tau=float("nan")), "tau = nan must be above 0"),
        (lambda: OscLIFNeuron(I0=1.0), "I0 = 1.0 must be above V_th = 1.0"),
        (lambda: room_for(10**9), "the network runs away"),
    ],
)
def test_bad_parameters_are_refused(make, words):
    with pytest.raises(UserError, match=words):
        make()


@pytest.mark.parametrize(
    ("times", "neurons", "words"),
    [
        ([1.0, np.nan], [0, 0], "time is NaN"),
        ([-0.5, 1.0], [0, 0], "before the trial starts at 0"),
        ([1.0, 2.0], [0, 1], "come from inputs 0 to 0, not 1"),
        ([1.0, 2.0], [0], "inputs of the input spikes must have shape"),
    ],
)
def test_bad_input_spikes_are_refused(times, neurons, words):
    with pytest.raises(UserError, match=words):
        QIF.event(REST, NO_NET, jnp.ones((1, 1)), (np.array(times), np.array(neurons)), CONFIG)


def test_weights_of_the_wrong_shape_are_refused():
    inputs = jnp.ones(1), jnp.zeros(1, int)
    with pytest.raises(UserError, match=r"weights_net must have shape \(1, 1\), not \(2, 1\)"):
        QIF.event(REST, jnp.zeros((2, 1)), jnp.ones((1, 1)), inputs, CONFIG)
    with pytest.raises(UserError, match=r"x0 must have shape \(1, any\), not \(2, 1\)"):
        THETA.event(REST, NO_NET, jnp.ones((1, 1)), inputs, CONFIG)


# ------------------------------------------------- events at one time, in networks of all models

N, N_IN, ROOM = 3, 2, 64
MODELS = {"qif": QIF, "lif": LIF, "olif": OLIF, "theta": THETA}
# Strengths of weights at which a trial has a dozen spikes.
STRENGTHS = {"qif": 3.0, "lif": 2.0, "olif": 0.5, "theta": 1.5}
SHOWN = 8  # spikes of a neuron that count
STEP = 1e-5


def measured(neuron):
    """A weighted sum of the neurons' spike times, counts, and the slopes of the sum."""
    of_spikes = jnp.asarray(np.random.default_rng(0).normal(1, 0.3, (N, SHOWN)))

    def measure(x0, weights_net, weights_in, spikes_in):
        events = neuron.event(x0, weights_net, weights_in, spikes_in, {"T": T, "K": ROOM})
        own = ~events.spike_in & (events.neurons == jnp.arange(N)[:, None])
        times = jnp.sort(jnp.where(own, events.times, jnp.inf), axis=1)[:, :SHOWN]
        there = jnp.isfinite(times)
        total = jnp.sum(jnp.where(there, of_spikes * jnp.where(there, times, 0), 0))
        return total, (own.sum(1), events)

    return jax.jit(jax.value_and_grad(measure, (0, 1, 2), has_aux=True))


MEASURED = {name: measured(neuron) for name, neuron in MODELS.items()}


def network_of(name, seed, alike):
    """A random network with weights of neurons to themselves, and inputs that share times.

    If alike, neurons 0 and 1 are, and spike at one time.
    """
    rng, neuron = np.random.default_rng(seed), MODELS[name]
    weights_net = STRENGTHS[name] * rng.normal(0.2, 0.5, (N, N))
    weights_in = STRENGTHS[name] * rng.normal(1, 0.7, (N, N_IN))
    if neuron.n_states == 2:
        x0 = rng.normal(0, 0.5, (2, N))
    else:
        x0 = rng.uniform(0.1, 0.9, (1, N)) * neuron.Theta()
    if alike:
        x0[:, 1], weights_in[1], weights_net[1] = x0[:, 0], weights_in[0], weights_net[0]
        weights_net[:2, :2] = weights_net[0, 0]
    times = np.round(rng.uniform(0.1, T, 6) / 0.5) * 0.5  # many at one time
    return [x0, weights_net, weights_in], (
        jnp.asarray(times),
        jnp.asarray(rng.integers(0, N_IN, 6)),
    )


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**31), st.booleans())
@example(769708, False)  # a leaky neuron that starts above its threshold
def test_slopes_are_true_where_events_share_a_time(name, seed, alike):
    """Cascades, weights of a neuron to itself, equal neurons, inputs at one time."""
    measure = MEASURED[name]
    parts, spikes_in = network_of(name, seed, alike)
    (total, (counts, events)), slopes = measure(*map(jnp.asarray, parts), spikes_in)
    if np.isnan(total) or counts.max() > SHOWN or np.isnan(events.times[0]):
        return
    rng = np.random.default_rng(seed)
    for i, part in enumerate(parts):
        for place in rng.choice(part.size, 3, replace=False):
            sides = []
            for sign in (1, -1):
                moved = [p.copy() for p in parts]
                moved[i].ravel()[place] += sign * STEP
                found, (now, _) = measure(*map(jnp.asarray, moved), spikes_in)[0]
                if not np.array_equal(now, counts):
                    break
                sides.append(sign * float(found - total) / STEP)
            # A sum with two slopes, or a spike that comes or goes, has none to be compared with.
            if len(sides) == 2 and abs(sides[0] - sides[1]) < 1e-3 * (1 + abs(sides[0])):
                wanted, slope = sum(sides) / 2, float(slopes[i].ravel()[place])
                assert abs(slope - wanted) < 5e-3 * (1 + abs(wanted)), (i, place)


@pytest.mark.parametrize("name", MODELS)
def test_equal_neurons_spike_at_one_time(name):
    """A rounding error must neither lose the second spike nor move it."""
    seen = 0
    for seed in range(8):
        parts, spikes_in = network_of(name, seed, alike=True)
        parts[1][:2, :2] = 0
        (_, (counts, events)), _ = MEASURED[name](*map(jnp.asarray, parts), spikes_in)
        assert not np.isnan(events.times[0])
        assert counts[0] == counts[1]
        own = np.where(events.spike_in, -1, events.neurons)
        first, second = (np.asarray(events.times)[own == i] for i in (0, 1))
        np.testing.assert_allclose(first, second, atol=1e-12)
        seen += len(first)
    assert seen > 8


def test_a_phase_oscillator_s_spike_to_itself_does_nothing():
    for neuron in (OLIF, THETA):
        x0 = jnp.full((1, 1), 0.3)

        @jax.jit
        @jax.value_and_grad
        def second(w, neuron=neuron, x0=x0):
            config = {"T": 4 * neuron.Theta(), "K": 8}
            return neuron.event(x0, w[None, None], None, None, config).times[1]

        for w in (0.0, 0.7, -2.0):
            value, slope = second(jnp.asarray(w))
            assert value == pytest.approx(2 * neuron.Theta() - 0.3)
            assert slope == 0


def test_the_network_s_spike_comes_before_an_input_of_the_same_time():
    """A pulse makes neuron 1 spike at once; the second input of that time is shown after it."""
    spikes_in = jnp.array([0.2, 0.2]), jnp.array([0, 0])
    weights_net, weights_in = jnp.zeros((2, 2)), jnp.array([[0.0], [5.0]])
    events = OLIF.event(jnp.zeros((1, 2)), weights_net, weights_in, spikes_in, {"T": 1.0, "K": 8})
    assert events.spike_in[:4].tolist() == [True, False, True, False]
    np.testing.assert_array_equal(events.times[:4], 0.2)
    at_the_end = jnp.array([1.0]), jnp.array([0])
    events = OLIF.event(jnp.zeros((1, 2)), weights_net, weights_in, at_the_end, {"T": 1.0, "K": 8})
    assert int(events.neurons.max()) == -1  # an event at T is not part of the trial


@jax.jit
def spikes_at(times):
    """First two spikes of a QIF neuron with two inputs."""
    shown, config = (times, jnp.arange(2)), {"T": 10.0, "K": 16}
    events = QIF.event(REST, NO_NET, jnp.array([[3.0, 2.0]]), shown, config)
    return times_with_pseudospikes(QIF, events, 0, 2, config["T"])


slopes_at = jax.jit(jax.jacobian(spikes_at))


@pytest.mark.parametrize("time", [np.nan, -1.0])
def test_times_that_a_compiled_function_cannot_refuse_make_a_trial_invalid(time):
    assert np.isfinite(spikes_at(jnp.array([0.5, jnp.inf]))).all()  # inf is no spike
    times = jnp.array([0.5, time])
    assert np.isnan(spikes_at(times)).all()
    assert np.isnan(slopes_at(times)[:, 0]).all()


def stepwise(neuron):
    """The same model, whose derivatives JAX takes through all that its simulation computes."""

    class Stepwise(type(neuron)):
        def spike(self, *arguments):
            return super().spike(*arguments)

    return Stepwise(**vars(neuron))


def sum_of_times_and_states(neuron, n, length):
    """A function of a recurrent network, of both its weights, its start, input times and end."""
    weigh = np.random.default_rng(5)
    of_times, of_states = weigh.normal(size=40), weigh.normal(size=(40, neuron.n_states, n))

    def found(weights_net, weights_in, x0, times, T):
        inputs = times, jnp.arange(len(times)) % length
        events = neuron.event(x0, weights_net, weights_in, inputs, {"T": T, "K": 40})
        return jnp.sum(of_times * events.times) + jnp.sum(of_states * events.states)

    return found


@pytest.mark.parametrize("neuron", [QIF, LIF, THETA, OLIF], ids=lambda n: type(n).__name__)
def test_derivatives_are_those_of_the_whole_simulation(neuron):
    """Forward and backward, of every argument, and once more of the gradient."""
    n, n_in, draw = 4, 3, np.random.default_rng(2)
    plain, fast = (sum_of_times_and_states(model, n, n_in) for model in (stepwise(neuron), neuron))
    numbers = tuple(range(5))
    whole = jax.jit(jax.value_and_grad(plain, numbers))
    back, ahead = jax.jit(jax.value_and_grad(fast, numbers)), jax.jit(jax.jacfwd(fast, numbers))

    def curved(f):
        """The gradient's slope along the weights."""
        return jax.jit(
            lambda net, *more: jax.jvp(lambda w: jax.grad(f)(w, *more), (net,), (net,))[1]
        )

    curves = [curved(f) for f in (plain, fast)]
    for case in ("", "inputs", "twins", "twins and inputs"):
        inward, x0 = draw.normal(2.0, 1.5, (n, n_in)), draw.uniform(0, 0.9, (neuron.n_states, n))
        times = draw.uniform(0, T, 5)
        if "inputs" in case:
            times[1] = times[3]  # at one instant
        if "twins" in case:  # spike at one instant, and one's pulse meets the other at its spike
            inward[1], x0[:, 1] = inward[0], x0[:, 0]
        net = draw.normal(0.0, 0.3, (n, n))
        arguments = tuple(map(jnp.asarray, (net, inward, x0, times, T)))
        value, slopes = whole(*arguments)
        assert np.isfinite(value)
        found, backward = back(*arguments)
        assert found == value
        for wanted, *both in zip(slopes, backward, ahead(*arguments), strict=True):
            for slope in both:
                scale = float(np.abs(wanted).max())  # V near 1 / eps loses digits
                np.testing.assert_allclose(slope, wanted, rtol=0, atol=1e-9 + 1e-6 * scale)
        wanted, found = (f(*arguments) for f in curves)
        scale = float(np.abs(wanted).max())
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6 * (1 + scale))


def test_spikes_at_one_instant_late_in_a_trial_have_one_slope_in_float32():
    """Times have few digits there: twins' spikes must stay those that the simulation settled."""
    dtype, start, late = jnp.float32, jnp.zeros((2, 2), jnp.float32), 60.25
    net = jnp.array([[0, 0.3], [0.2, 0]], dtype)
    inputs = jnp.array([late], dtype), jnp.array([0])

    def total(weights):
        events = QIF.event(start, net, weights, inputs, {"T": late + 4, "K": 6})
        return jnp.sum(events.times[:3])

    weights = jnp.linspace(4.5, 7.5, 64, dtype=dtype)[:, None, None] * jnp.ones((2, 1), dtype)
    slopes = jax.jit(jax.vmap(jax.grad(total)))(weights)[..., 0]
    assert (jnp.abs(slopes) > 0.01).all()
    np.testing.assert_allclose(slopes[:, 0], slopes[:, 1], rtol=1e-4)


@dataclass(frozen=True)
class Integrator(AbstractNeuron):
    """A user's model with a parameter: integrates a constant current, from 0 to 1."""

    current: Any
    n_states = 1

    def flow(self, x, dt):
        return x + self.current * dt

    def dt_spike(self, x):
        return (1 - x[0]) / self.current

    def transmit(self, x, spiking, drive):
        return jnp.where(spiking, 0, x[0] + drive)[None]


def test_parameters_of_a_model_can_be_arrays_and_be_differentiated():
    net = jnp.array([[0.0, 0.1], [-0.2, 0.0]])

    def total(current, net):
        events = Integrator(current).event(jnp.zeros((1, 2)), net, None, None, CONFIG | {"K": 40})
        return jnp.sum(events.times)

    plain = jax.jit(lambda net: jax.grad(total, 1)(1.5, net))(net)
    assert np.abs(plain).max() > 1
    by_both = jax.jit(jax.value_and_grad(total, (0, 1)))
    for current in (jnp.array(1.5), jnp.full(2, 1.5)):  # one for all, or of each neuron
        _, (slope, of_net) = by_both(current, net)
        np.testing.assert_allclose(of_net, plain, rtol=1e-12)
        up, down = (by_both(current + h, net)[0] for h in (1e-6, -1e-6))
        np.testing.assert_allclose(slope.sum(), (up - down) / 2e-6, rtol=1e-6)
    np.testing.assert_allclose(jax.grad(jax.jit(total), 1)(1.5, net), plain, rtol=1e-12)


def test_a_trial_without_inputs_stays_in_the_precision_of_its_states():
    start, net = jnp.full((1, 2), 0.5, jnp.float32), jnp.zeros((2, 2), jnp.float32)
    events = THETA.event(start, net, None, None, CONFIG)
    assert events.times.dtype == events.states.dtype == jnp.float32
    np.testing.assert_allclose(events.states[-1], start + T, rtol=1e-6)  # the period is longer


def test_floats_of_several_lengths_are_computed_in_the_longest():
    arguments = [REST, NO_NET, jnp.full((1, 1), 5.0), jnp.array([0.5, 1.0])]
    x0, net, w_in, times = arguments
    expected = QIF.event(x0, net, w_in, (times, jnp.zeros(2, int)), CONFIG)
    assert expected.states.dtype == jnp.float64
    for shorter in range(4):
        x0, net, w_in, times = (
            of.astype(jnp.float32) if i == shorter else of for i, of in enumerate(arguments)
        )
        events = QIF.event(x0, net, w_in, (times, jnp.zeros(2, int)), CONFIG)
        for found, wanted in zip(events, expected, strict=True):
            assert found.dtype == wanted.dtype
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda value: QIFNeuron(tau=value), "tau"),
        (lambda value: LIFNeuron(V_th=value), "V_th"),
        (lambda value: ThetaNeuron(I0=value), "I0"),
        (lambda value: OscLIFNeuron(I0=value), "I0"),
    ],
)
def test_constants_that_jax_traces_are_refused(make, name):
    with pytest.raises(UserError, match=f"{name} is traced by JAX .* outside of jit, grad and"):
        jax.jit(lambda value: make(value).dt_spike(REST))(2.0)


def test_every_derivative_of_a_trial_that_was_cut_short_is_nan():
    arguments = [jnp.full((1, 1), 0.1), jnp.full((1, 3), 9.0), REST, jnp.arange(3.0), jnp.array(T)]

    def total(*arguments):
        net, inward, x0, times, T = arguments
        events = QIF.event(x0, net, inward, (times, jnp.arange(3)), {"T": T, "K": 3})
        return jnp.sum(events.times)

    for slope in jax.jit(jax.grad(total, tuple(range(5))))(*arguments):
        assert np.isnan(slope).all()


def test_inside_of_a_compiled_function_inputs_that_are_not_there_are_marked():
    w_in, times = jnp.array([[3.0, 0.0], [5.0, 0.0]]), jnp.array([0.5, 1.0])
    event = jax.jit(
        lambda inputs: (
            QIF.event(
                jnp.zeros((2, 2)), jnp.zeros((2, 2)), w_in, (times, inputs), {"T": 4.0, "K": 12}
            ).times
        )
    )
    assert jnp.isfinite(event(jnp.array([0, 1]))).all()
    for wrong in ([0, 7], [-1, 0]):
        assert jnp.isnan(event(jnp.array(wrong))).all()
