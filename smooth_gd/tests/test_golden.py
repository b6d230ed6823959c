"""Golden vectors: what the published program computes on small inputs, in float64.

The environment variable GOLDEN names another folder of vectors with the same names and keys.
"""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from smooth_gd.experiments.mnist import mnist
from smooth_gd.experiments.mnist.network import Network, Parameters
from smooth_gd.experiments.rnn import patterns, rnn
from smooth_gd.experiments.singleneuron import single
from smooth_gd.experiments.trials import Learning
from smooth_gd.spikegd.layered import Bounds
from smooth_gd.spikegd.lif import LIFNeuron
from smooth_gd.spikegd.olif import OscLIFNeuron
from smooth_gd.spikegd.qif import QIFNeuron
from smooth_gd.spikegd.theta import ThetaNeuron

FOLDER = Path(os.environ.get("GOLDEN") or Path(__file__).parent / "golden")
NEURONS = {
    "qif": QIFNeuron(tau=1.0, eps=1e-6, alpha=10.0),
    "lif": LIFNeuron(tau=1.0, V_th=1.0),
    "osc_lif": OscLIFNeuron(tau=1.0, I0=1.25, V_th=1.0),
    "theta": ThetaNeuron(tau=6 / np.pi, I0=1.25),
}
TOLERANCE = 1e-9


def load(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"gd_{name}.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def assert_close(found, wanted):
    """Relative to the largest entry."""
    scale = float(np.abs(wanted).max()) or 1.0
    np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE * scale)


@pytest.mark.parametrize("name", NEURONS)
def test_events_and_gradients(name):
    neuron, golden = NEURONS[name], load(f"{name}_event")
    T, K, n = float(golden["T"]), int(golden["K"]), int(golden["n_ordinary"])
    first = np.flatnonzero(~golden["spike_in"][:n])[:7]
    spikes_in = golden["times_in"], golden["neurons_in"]

    @jax.jit
    def everything(weights_net, weights_in, x0):
        def loss(*arguments):
            events = neuron.event(arguments[2], *arguments[:2], spikes_in, {"T": T, "K": K})
            return jnp.sum(events.times[first] ** 2), events

        return jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(weights_net, weights_in, x0)

    arguments = [golden[key] for key in ("weights_net", "weights_in", "x0")]
    (loss, events), gradients = everything(*arguments)
    assert_close(events.times, golden["times"])
    np.testing.assert_array_equal(events.spike_in, golden["spike_in"])
    np.testing.assert_array_equal(events.neurons, golden["neurons"])
    # Past the trial's end the published LIF goes on spiking at T; here states stay as at T.
    shown = n if name == "lif" else K
    np.testing.assert_allclose(events.states[:shown], golden["states"][:shown], rtol=1e-9)
    assert_close(loss, golden["loss"])
    for key, gradient in zip(("weights_net", "weights_in", "x0"), gradients, strict=True):
        assert_close(gradient, golden[f"grad_{key}"])
    if "pseudo_rate" in golden:
        x, drive = jnp.asarray(golden["states"][n]), golden["pseudo_input"]
        assert_close(neuron.construct_ratefn(x)(drive), golden["pseudo_rate"])
        for k in (1, 2):
            assert_close(neuron.t_pseudo(x, drive, k, {"T": T}), golden[f"t_pseudo_{k}"])


@pytest.mark.parametrize("plain", [True, False])
def test_mnist_network(plain):
    golden = load("mnist_network")
    weights = tuple(jnp.asarray(golden[f"w{i}"]) for i in range(3))
    sizes = (weights[0].shape[1], *(w.shape[0] for w in weights))
    neuron = ThetaNeuron(float(golden["tau"]), float(golden["I0"]))
    network = Network(
        sizes, neuron, float(golden["T"]), int(golden["Nin_virtual"]), float(golden["gamma"])
    )
    cuts = np.cumsum(sizes[1:-1])
    phases = tuple(map(jnp.asarray, np.split(golden["phi0"], cuts)))

    @jax.jit
    def everything(parameters, codes, labels):
        def loss(parameters):
            if plain:
                first = network.plain_first(parameters, codes, int(golden["K"]))
            else:
                inputs = network.levels(codes)
                first = network.respond(parameters, inputs, Bounds((16, 16), (2, 2))).first
            return jnp.mean(network.loss(first, labels)), first

        return jax.value_and_grad(loss, has_aux=True)(parameters)

    (loss, first), gradient = everything(
        Parameters(weights, phases), golden["input"], golden["labels"]
    )
    assert_close(first, golden["t_out"])
    assert_close(loss, golden["loss"])
    assert np.mean(np.argmin(first, 1) == golden["labels"]) == golden["accuracy"]
    for i in range(3):
        assert_close(gradient.weights[i], golden[f"grad_w{i}"])
    assert_close(jnp.concatenate(gradient.phases), golden["grad_phi0"])


def belief_of_the_vector():
    """The vector's updates are those of an optax of today; the program's own had smaller steps, see
    `belief.adabelief`."""
    return optax.adabelief(optax.exponential_decay(1e-2, rnn.TRIALS_OF_DECAY, 1 / np.e))


def test_rnn_training():
    golden = load("rnn_training")
    made = patterns.make_patterns(7)
    for i, targets in enumerate(made.targets):
        assert_close(targets, golden[f"t_target_{i}"])
    within = golden["times_in"] < patterns.T
    assert_close(made.spikes_in[0], golden["times_in"][within])
    np.testing.assert_array_equal(made.spikes_in[1], golden["neurons_in"][within])

    neuron = QIFNeuron()
    optimizer = belief_of_the_vector()
    parameters = patterns.start()
    state = optimizer.init(parameters)
    step = jax.jit(jax.value_and_grad(lambda p: patterns.loss(neuron, made, p, 272), has_aux=True))
    for trial in range(4):
        (loss, seen), gradient = step(parameters)
        assert bool(seen.complete)
        np.testing.assert_allclose(loss, golden["loss"][trial], rtol=TOLERANCE)
        updates, state = optimizer.update(gradient, state, parameters)
        parameters = jax.tree.map(jnp.add, parameters, updates)
        if trial == 0:
            assert_close(parameters.w, golden["w_1"])
            assert_close(parameters.x0, golden["x0_1"])
        if trial == 2:
            assert_close(parameters.w, golden["w_3"])


def test_rnn_runs_as_trials_one_by_one():
    golden, made, neuron = load("rnn_training"), patterns.make_patterns(7), QIFNeuron()
    learning = Learning(
        lambda p, K: patterns.loss(neuron, made, p, K),
        lambda K: belief_of_the_vector(),
        patterns.start(),
        224,
    )
    learning.train_epoch()  # 224 events are too few: they grow
    assert learning.K > 240
    np.testing.assert_allclose(learning.history["loss"][:4], golden["loss"], rtol=1e-9)


def test_single_training():
    golden = load("single_training")
    fixed = single.fixed_inputs(3)
    assert_close(fixed.times, golden["times_in"])
    assert_close(fixed.weights, golden["weights_in"])
    config = {**single.PAPER, "Ntrial": len(golden["loss"])}
    metrics, examples = single.run(QIFNeuron(), config)
    np.testing.assert_allclose(metrics["loss"], golden["loss"], rtol=TOLERANCE)
    assert_close(metrics["t_out"], golden["t_out"])
    assert_close(metrics["p"][golden["p_trials"]], golden["p"])
    assert_close(examples["t_out"], golden["t_out"][[0, -1]])
    assert_close(examples["times_in"][0], np.concatenate([golden["p"][0][1], golden["times_in"]]))


def test_rnn_run():
    golden = load("rnn_training")
    config = {**patterns.PAPER, "seed": 7, "Ntrial": 3, "K": 272}
    metrics, examples = rnn.run(QIFNeuron(), belief_of_the_vector(), config)
    np.testing.assert_allclose(metrics["loss"], golden["loss"], rtol=TOLERANCE)
    for trial, key in ((1, "w_1"), (3, "w_3")):
        assert_close(metrics["p"][trial][0], golden[key])
    assert_close(metrics["p"][1][1], golden["x0_1"])
    np.testing.assert_allclose(examples["losses"][1], golden["loss"][3], rtol=TOLERANCE)
    weights_in = rnn.init_weights(config)
    _, spikes_in = rnn.init_input(jax.random.PRNGKey(7), config)
    assert_close(jnp.where(jnp.isinf(spikes_in[0]), 0, spikes_in[0]), finite(golden["times_in"]))
    np.testing.assert_array_equal(spikes_in[1], golden["neurons_in"])
    loss, _, _ = rnn.simulatefn(
        QIFNeuron(), metrics["p"][0], weights_in, spikes_in, metrics["t_targets"], config
    )
    np.testing.assert_allclose(loss, golden["loss"][0], rtol=TOLERANCE)


def finite(times):
    return np.where(np.isinf(times), 0, times)


@pytest.mark.parametrize("neuron", ["fast", "events"])
def test_mnist_functions(neuron):
    golden = load("mnist_network")
    config = {name: float(golden[name]) for name in ("T", "gamma", "tau", "I0")} | {
        "K": int(golden["K"]),
        "Nin_virtual": int(golden["Nin_virtual"]),
    }
    config |= {"Nin": 49, "Nhidden": 12, "Nlayer": 3, "Nout": 5, "w_scale": 0.5}
    model = ThetaNeuron(config["tau"], config["I0"])
    p = [[jnp.asarray(golden[f"w{i}"]) for i in range(3)], jnp.asarray(golden["phi0"])]
    inputs, labels = jnp.asarray(golden["input"]), jnp.asarray(golden["labels"])

    def everything(p):
        if neuron == "fast":
            return mnist.simulatefn(model, p, inputs, labels, config)

        def trial(one, label):
            t_outs = mnist.outfn(model, mnist.eventffwd(model, p, one, config), p, config)
            return mnist.lossfn(t_outs, label, config)

        return tuple(map(jnp.mean, jax.vmap(trial)(inputs, labels)))

    (loss, accuracy), gradient = jax.jit(jax.value_and_grad(everything, has_aux=True))(p)
    assert_close(loss, golden["loss"])
    assert accuracy == golden["accuracy"]
    for i in range(3):
        assert_close(gradient[0][i], golden[f"grad_w{i}"])
    assert_close(gradient[1], golden["grad_phi0"])
