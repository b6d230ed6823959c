"""Networks by layers against the event loop; bounds that grow; training steps."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import UserError
from smooth_gd.experiments.mnist.data import point_times
from smooth_gd.experiments.mnist.network import Network, Parameters
from smooth_gd.experiments.mnist.training import Classification, Part, Trainer, needed
from smooth_gd.spikegd.layered import Bounds, Levels, at_times, present
from smooth_gd.spikegd.theta import ThetaNeuron
from smooth_gd.spikegd.utils.network import feedforward_weights, first_spikes, pseudo_drives
from smooth_gd.spikegd.utils.parallel import Chunks

NETWORK = Network((6, 5, 4, 3), Nin_virtual=2)
BOUNDS = Bounds((16, 16), (3, 3))
K = 48


def compiled(plain: bool):
    def both(parameters, codes, labels):
        def loss(parameters):
            if plain:
                first = NETWORK.plain_first(parameters, codes, K)
            else:
                first = NETWORK.respond(parameters, NETWORK.levels(codes), BOUNDS).first
            return jnp.mean(NETWORK.loss(first, labels)), first

        return jax.value_and_grad(loss, has_aux=True)(parameters)

    return jax.jit(both)


PLAIN, FAST = compiled(True), compiled(False)


def drawn(seed: int, strength: float, dtype=np.float64):
    rng = np.random.default_rng(seed)
    sizes = NETWORK.sizes
    shapes = zip(sizes[1:], sizes[:-1], strict=True)
    weights = tuple(strength * rng.normal(0.4, 1, shape).astype(dtype) for shape in shapes)
    phases = tuple(rng.uniform(0, NETWORK.period, n).astype(dtype) for n in sizes[1:])
    codes = rng.integers(0, NETWORK.Nin_virtual + 1, (4, sizes[0]))
    return Parameters(weights, phases), codes, rng.integers(0, sizes[-1], 4)


def assert_equal(found, wanted, tolerance):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        scale = max(float(np.abs(b).max()), 1e-6)  # gradients that vanish are rounding errors
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.0, 3.0))
def test_by_layers_equals_event_by_event(seed, strength):
    arguments = drawn(seed, strength)
    assert_equal(FAST(*arguments), PLAIN(*arguments), 1e-6)


def test_phases_at_the_ends_of_the_period():
    parameters, codes, labels = drawn(3, 2.0)
    for phase in (0.0, NETWORK.period):
        phases = tuple(np.full_like(phi, phase) for phi in parameters.phases)
        arguments = parameters._replace(phases=phases), codes, labels
        (loss, first), gradient = FAST(*arguments)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((loss, first, gradient)))
        (wanted, _), _ = PLAIN(*arguments)
        np.testing.assert_allclose(loss, wanted, rtol=1e-9)


def test_float32_is_as_exact_as_it_can_be():
    for seed in range(3):
        single = drawn(seed, 1.5, np.float32)
        double = (jax.tree.map(np.float64, single[0]), *single[1:])
        assert_equal(FAST(*single), FAST(*double), 1e-3)


def test_inputs_at_times_of_their_own():
    neuron, T, rng = ThetaNeuron(6 / np.pi), 2.0, np.random.default_rng(0)
    weights = tuple(rng.normal(0.5, 1.5, shape) for shape in ((5, 4), (3, 5)))
    phases = tuple(rng.uniform(0, 6, n) for n in (5, 3))
    times = np.where(rng.random((6, 4)) < 0.8, rng.uniform(0, T, (6, 4)), np.inf)
    x0, weights_net = jnp.concatenate(phases)[None], feedforward_weights(weights)
    weights_in = jnp.zeros((8, 4)).at[:5].set(weights[0])

    @jax.jit
    def fast(weights, times):
        return present(neuron, weights, phases, at_times(times), T, Bounds((16,), (3,))).first

    @jax.jit
    def plain(times):
        events = neuron.event(
            x0, weights_net, weights_in, (times, jnp.arange(4)), {"T": T, "K": 32}
        )
        drives = pseudo_drives(neuron, events.states[-1], weights)
        pseudo = neuron.t_pseudo(events.states[-1], drives, 1, {"T": T})[-3:]
        first = first_spikes(events, jnp.arange(5, 8))
        return jnp.where(jnp.isinf(first), pseudo, first)

    found = fast(weights, jnp.asarray(times))
    for i in range(6):
        np.testing.assert_allclose(found[i], plain(jnp.asarray(times[i])), rtol=1e-9)


def test_points_become_spikes_in_the_trial():
    points = np.array([[0.0, 1.0, 0.5, 0.25]])
    np.testing.assert_allclose(point_times(points, 2.0), [[0.02, 1.0, 0.51, 0.265, 0.02]])


def test_codes_and_times_of_pixels():
    pixels = np.array([[0, 127, 128, 255]], np.uint8)
    assert Network().codes(pixels).tolist() == [[1, 1, 0, 0]]
    assert Network(Nin_virtual=3).codes(pixels).tolist() == [[3, 2, 1, 0]]
    np.testing.assert_allclose(Network().times_in, [2 * np.log(1 / 0.99)])


def trainer_of(network=NETWORK, **changes):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 3, (40, 6)).astype(np.uint8)
    part = Part(codes, (codes[:, 0]).astype(np.int32))
    settings = {"batch_size": 20, "lr": 4e-3, "seed": 0, "device": jax.devices()[0], **changes}
    data = Classification("made", part, part, network.levels, lambda key, codes: codes, 3)
    return Trainer(network, data, **settings)


def test_bounds_grow_until_no_spike_is_lost():
    trainer = trainer_of()
    parameters, _, _ = drawn(1, 3.0)
    state = trainer.initial("float64")._replace(parameters=jax.tree.map(jnp.asarray, parameters))
    state = trainer.placed(state)
    trainer.bounds = Bounds((1, 1), (1, 1))
    part, key = trainer.data.train, jax.random.key(0)
    small, loss, _ = trainer.step(state, part.inputs[:20], part.labels[:20], key)
    assert min(trainer.bounds.events) >= 8
    trainer.bounds = Bounds((32, 32), (4, 4))
    large, wanted, _ = trainer.step(state, part.inputs[:20], part.labels[:20], key)
    assert loss == pytest.approx(wanted, rel=1e-12)
    assert_equal(small.parameters, large.parameters, 1e-9)
    assert needed(Bounds((8, 8), (1, 1)), np.array([8, 3]), np.array([1, 1])) is None
    grown = needed(Bounds((8, 8), (1, 1)), np.array([9, 3]), np.array([1, 2]))
    assert grown == Bounds((16, 8), (1, 2))


@pytest.mark.parametrize("bounds", [Bounds((3, 16), (3, 3)), Bounds((16, 16), (3, 1))])
def test_trials_with_more_spikes_than_room_are_nan_and_the_others_are_not(bounds):
    parameters, codes, labels = drawn(1, 3.0)

    @jax.jit
    def both(parameters):
        def loss(parameters):
            response = NETWORK.respond(parameters, NETWORK.levels(codes), bounds)
            return jnp.sum(NETWORK.loss(response.first, labels)), response

        return jax.value_and_grad(loss, has_aux=True)(parameters)

    (loss, response), gradient = both(parameters)
    events = np.array([layer.counts.sum(1) for layer in response.hidden]).T
    slots = np.array([layer.counts.max(1) for layer in response.hidden]).T
    fits = ((events <= bounds.events) & (slots <= bounds.slots)).all(1)
    assert set(fits) == {True, False}
    whole = jax.jit(lambda p: NETWORK.respond(p, NETWORK.levels(codes), BOUNDS))(parameters)
    np.testing.assert_allclose(response.first[fits], whole.first[fits], rtol=1e-12)
    assert np.isnan(response.first[~fits]).all()
    for layer in response.hidden:
        assert np.isnan(layer.times[~fits]).all()
        assert not np.isnan(layer.times[fits]).any()
    assert np.isnan(loss)
    assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_weights_that_are_nan_are_told_at_the_end_of_an_epoch():
    trainer = trainer_of()
    parameters, codes, _ = drawn(1, 1.0)
    parameters.weights[0][0, 0] = np.nan
    with pytest.raises(UserError, match="weights of layer 1 holds NaN"):
        present(NETWORK.neuron, *parameters, NETWORK.levels(codes), 2.0, BOUNDS)
    state = trainer.placed(trainer.initial("float64"))
    trainer.step = lambda state, *_: (state._replace(parameters=parameters), 1.0, 0.5)
    with pytest.raises(UserError, match="a weight or phase is no number any more: lower --lr"):
        trainer.train_epoch(state, 1)


def test_steps_lower_the_loss_and_keep_no_memory():
    trainer = trainer_of(lr=0.02)
    state = trainer.initial("float64")
    part, key = trainer.data.train, jax.random.key(0)
    losses, alive = [], []
    for _ in range(12):
        state, loss, _ = trainer.step(state, part.inputs[:20], part.labels[:20], key)
        losses.append(loss)
        gc.collect()
        alive.append(len(jax.live_arrays()))
    assert losses[1] < losses[0]
    assert losses[-1] < losses[0]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    assert alive[-1] == alive[2]
    tested = trainer.evaluate(state.parameters, part)
    assert 0 <= tested["accuracy"] <= 1
    assert tested["activity_until_first"] <= tested["activity_in_trial"]


def test_chunks_are_the_same_whatever_the_devices(monkeypatch):
    monkeypatch.setattr("smooth_gd.spikegd.utils.parallel.CHUNK", 4)
    trials, there = np.arange(10.0), jax.devices("cpu")
    sums = []
    for n in (1, 2):
        devices = there[:n]
        monkeypatch.setattr(jax, "devices", lambda *kind, devices=devices: devices)
        chunks = Chunks(10, devices[0])
        assert chunks.n_devices == n
        cut = chunks.cut(trials)
        assert cut.shape == (4, 3)
        mapped = jax.jit(lambda x, c=chunks: c.map(lambda s, y: s * y.sum(), 2.0, (x,)))
        sums.append(np.asarray(mapped(cut)))
    np.testing.assert_array_equal(*sums)
    assert sums[0].sum() == 90


def test_what_does_not_fit_is_refused():
    parameters, codes, _ = drawn(0, 1.0)
    levels = Levels(codes, NETWORK.times_in)
    with pytest.raises(UserError, match="must lie between 0 and the period Theta = 6"):
        present(NETWORK.neuron, *parameters, levels, 7.0, BOUNDS)
    for times in ((-0.5, 1.5), (0.5, 3.5), (1.5, 0.5), (0.5, float("nan"))):
        with pytest.raises(UserError, match=r"must ascend from 0 to T = 2\.0"):
            present(NETWORK.neuron, *parameters, Levels(codes % 2, times), 2.0, BOUNDS)
    wrong = parameters._replace(weights=(parameters.weights[0][:, :5], *parameters.weights[1:]))
    with pytest.raises(UserError, match=r"weights of layer 1 must have shape \(5, 6\)"):
        present(NETWORK.neuron, *wrong, levels, 2.0, BOUNDS)
    with pytest.raises(UserError, match="--batch-size 41 must lie between 1 and 40"):
        trainer_of(batch_size=41)
    with pytest.raises(ValueError, match=r"dtype must be one of float32, float64"):
        trainer_of().initial("float16")
    with pytest.raises(UserError, match="Nin_virtual = 0 must be above 0"):
        Network(Nin_virtual=0)
    with pytest.raises(UserError, match="Nin_virtual = 64: the darkest of more than 63 levels"):
        Network(Nin_virtual=64)
    assert max(Network(Nin_virtual=63).times_in) <= Network().T


def test_a_network_of_one_layer_responds_as_events_have_it():
    neuron, T = NETWORK.neuron, 2.0
    weights, phases = np.array([[0.5, 1.5], [-0.4, 0.1]]), np.array([3.0, 0.2])
    times = np.array([0.5, 1.2])
    found = present(neuron, [weights], [phases], at_times(times[None]), T, Bounds((), ()))
    events = neuron.event(
        phases[None], np.zeros((2, 2)), weights, (times, np.arange(2)), {"T": T, "K": 8}
    )
    first = events.times[(events.neurons == 0) & ~events.spike_in][0]
    assert found.ordinary.tolist() == [[True, False]]
    assert found.hidden == ()
    assert found.wanted_events.shape == found.wanted_slots.shape == (0,)
    # Without spiking neurons before it a neuron's pseudospike comes as if nothing more happened.
    last = T + neuron.Theta() - events.states[-1, 0, 1]
    np.testing.assert_allclose(found.first, [[first, last]], rtol=1e-12)


def test_trials_with_inputs_outside_of_the_trial_are_invalid():
    weights, phases = [jnp.ones((3, 2)), jnp.ones((2, 3))], [jnp.full(3, 3.0), jnp.full(2, 3.0)]

    @jax.jit
    def first(times):
        inputs = at_times(times)
        return present(NETWORK.neuron, weights, phases, inputs, 2.0, Bounds((8,), (2,))).first

    times = jnp.array([[0.5, 1.0], [0.5, jnp.inf], [0.5, 2.1], [0.5, -0.1], [0.5, jnp.nan]])
    found = first(times)
    assert np.isfinite(found[:2]).all()
    assert np.isnan(found[2:]).all()
