"""The published package: its names, and what a notebook's cells do with them."""

import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pytest

from shared import datasets
from shared.errors import UserError
from smooth_gd.experiments.belief import adabelief
from smooth_gd.experiments.concept import concept
from smooth_gd.experiments.mnist import data, mnist
from smooth_gd.experiments.mnist.model import PAPER
from smooth_gd.experiments.mnist.network import Network
from smooth_gd.experiments.mnist.runs import parameters_of
from smooth_gd.experiments.mnist.training import Part
from smooth_gd.experiments.rnn import patterns, rnn
from smooth_gd.experiments.singleneuron import single
from smooth_gd.spikegd.models import AbstractIFNeuron

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "smooth_gd" / "alias"))  # as if installed
from spikegd.lif import LIFNeuron  # noqa: E402
from spikegd.olif import OscLIFNeuron  # noqa: E402
from spikegd.qif import QIFNeuron  # noqa: E402
from spikegd.theta import ThetaNeuron  # noqa: E402

CONFIG = {"T": 4.0, "K": 16, "dt": 0.01}
SMALL = {
    **PAPER,
    "Nin": 49,
    "Nhidden": 12,
    "Nout": 5,
    "Nbatch": 20,
    "Nepochs": 2,
    "dataset": "digits",
    "samples": 60,
}


def test_published_names(scripts):
    scripts.assert_published_names()


# ------------------------------------------------------------------------------------ installing


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A wheel and an editable wheel of what this paper needs, from a copy of the sources."""
    folder = tmp_path_factory.mktemp("build")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    for package in ("shared", "smooth_gd"):
        for file in (ROOT / package).rglob("*"):
            if file.suffix in (".py", ".mplstyle", ".ipynb"):
                copy = folder / file.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(file.read_bytes())
    program = (
        "from setuptools import build_meta as b; b.build_wheel('whole'); b.build_editable('link')"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_a_wheel_holds_the_package_under_both_names(built):
    (wheel,) = (built / "whole").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {"spikegd/__init__.py", "smooth_gd/spikegd/qif.py"} <= names
    assert "smooth_gd/spikegd/utils/plotstyle.mplstyle" in names
    assert not any("alias" in name or "/tests/" in name for name in names)


@pytest.mark.parametrize("kind", ["whole", "link"])
def test_an_installed_package_is_importable(built, tmp_path, kind):
    (wheel,) = (built / kind).glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    # The environment's own installation of the sources, if any, must not stand in for this one.
    program = f"""
import site, sys
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in getattr(f, "__module__", "")]
for name in [name for name in sys.modules if name.startswith("__editable__")]:
    del sys.modules[name]
sys.path.insert(0, {str(tmp_path)!r})
site.addsitedir({str(tmp_path)!r})
import matplotlib.pyplot as plt
from spikegd.qif import QIFNeuron
import smooth_gd.spikegd.qif
assert QIFNeuron is smooth_gd.spikegd.qif.QIFNeuron
plt.style.use("spikegd.utils.plotstyle")
print(plt.rcParams["font.size"], smooth_gd.spikegd.qif.__file__)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    size, file = done.stdout.split()
    assert size == "7.0"
    assert Path(file).is_relative_to(tmp_path if kind == "whole" else built)


# ---------------------------------------------------------------------------------- the package


def test_one_module_under_both_names():
    import spikegd.qif
    import spikegd.utils.plotting

    import smooth_gd.spikegd.qif

    assert spikegd.qif is smooth_gd.spikegd.qif
    assert issubclass(QIFNeuron, spikegd.models.AbstractPseudoIFNeuron)
    assert spikegd.utils.plotting.cm2inch(2.54, 5.08) == (1, 2)


def test_parameters_have_the_published_defaults():
    assert QIFNeuron() == QIFNeuron(1.0, 1e-6, 10.0)
    assert LIFNeuron() == LIFNeuron(1.0, 1.0)
    assert ThetaNeuron() == ThetaNeuron(1.0, 5 / 4, 1e-6)
    assert OscLIFNeuron() == OscLIFNeuron(1.0, 5 / 4, 1.0)
    assert ThetaNeuron().Theta() == pytest.approx(np.pi)
    assert OscLIFNeuron().theta == OscLIFNeuron().Theta() == pytest.approx(np.log(5))
    assert QIFNeuron().min_I0_to_spike() == pytest.approx(np.pi**2 / 4)
    assert LIFNeuron(V_th=0.5).min_I0_to_spike() == 2


def test_a_network_without_inputs():
    """A cell that starts a network from its states alone."""
    x0 = jnp.array([[1.5, 0.0], [0.0, 0.0]])
    out = QIFNeuron().event(x0, jnp.array([[0.0, 0.0], [4.0, 0.0]]), None, None, CONFIG)
    times, spike_in, neurons, states = out
    assert states.shape == (16, 2, 2)
    assert not spike_in.any()
    np.testing.assert_allclose(times[0], np.log(3))  # of V from 1.5 without a current
    assert neurons[:3].tolist() == [0, 1, -1]


@pytest.mark.parametrize("neuron", [QIFNeuron(), LIFNeuron(), OscLIFNeuron(), ThetaNeuron()])
def test_traces_begin_anew_at_every_event(neuron):
    x0 = jnp.zeros((2, 1)) if neuron.n_states == 2 else jnp.full((1, 1), 0.3)
    spikes_in = jnp.array([0.5, 9.0]), jnp.array([0, 0])  # the second one is not reached
    out = neuron.event(x0, jnp.zeros((1, 1)), jnp.array([[6.0]]), spikes_in, CONFIG)
    times, states = neuron.traces(x0, out, CONFIG)
    assert times.shape[0] == states.shape[0]
    assert times[0] == 0
    assert CONFIG["T"] - CONFIG["dt"] <= times[-1] < CONFIG["T"]
    steps = np.diff(times)
    assert (steps >= 0).all()
    assert steps.max() <= CONFIG["dt"] * (1 + 1e-9)
    n = int(jnp.sum(out[2] >= 0))
    for i in range(n):
        if out[0][i] < out[0][i + 1]:  # of events at one time the last one is seen
            (found,) = np.flatnonzero(times == out[0][i])
            np.testing.assert_allclose(states[found], out[3][i])
    with pytest.raises(UserError, match="raise K in config"):
        neuron.traces(x0, neuron.event(x0, *args_of(spikes_in), {**CONFIG, "K": 1}), CONFIG)


def args_of(spikes_in):
    return jnp.zeros((1, 1)), jnp.array([[6.0]]), spikes_in


def test_flow_and_pseudospikes_by_component():
    qif, lif, T = QIFNeuron(tau=2.0), LIFNeuron(tau=2.0), CONFIG["T"]
    V, current, dt = jnp.array([0.3, -1.0]), jnp.array([2.0, -0.5]), 0.4
    for neuron in (qif, lif):
        found = jnp.stack([neuron.flow_V(V, current, dt), neuron.flow_I(current, dt)])
        np.testing.assert_allclose(neuron.flow(jnp.stack([V, current]), dt), found)
        np.testing.assert_allclose(found[1], current * np.exp(-dt))
    x, drive = jnp.stack([V, current]), jnp.array([1.0, 2.0])
    period, phase = qif.theta_pseudo(current + drive), qif.phi_pseudo(V, current + drive)
    np.testing.assert_allclose(period, 2 * np.pi / np.sqrt(qif.softplus(current + drive)))
    np.testing.assert_allclose(qif.t_pseudo(x, drive, 2, CONFIG), T + 2 * period - phase)
    np.testing.assert_allclose(qif.construct_ratefn(x)(input=drive), phase / period)
    ks = qif.t_pseudo(x[:, 0], jnp.array(0.0), jnp.arange(1, 4), CONFIG)
    np.testing.assert_allclose(np.diff(ks), qif.theta_pseudo(current[0]))
    w = jnp.array([[1.0, 2.0], [0.0, 3.0], [4.0, 0.0]])
    np.testing.assert_allclose(qif.linear(jnp.array([10.0, 1.0]), w), [12, 3, 40])


def test_a_model_that_states_its_own_spike():
    """A port of a user's template: `spike` does everything; here, it counts down."""

    class Countdown(AbstractIFNeuron):
        def flow(self, x, dt):
            return x

        def dt_spike(self, x):
            return jnp.full(x.shape[-1], 1.5)

        def min_I0_to_spike(self):
            return 0.0

        def spike(self, state, weights_net, weights_in, spikes_in, config):
            t, x, dts, shown = state
            inside = t + dts[0] < config["T"]
            t = jnp.where(inside, t + dts[0], config["T"])
            return (t, x, dts, shown), (t, False, jnp.where(inside, 0, -1), x)

    out = Countdown().event(jnp.zeros((2, 1)), jnp.zeros((1, 1)), None, None, CONFIG)
    assert out.times[:4].tolist() == [1.5, 3.0, 4.0, 4.0]


def test_what_a_configuration_lacks_is_told():
    arguments = jnp.zeros((2, 1)), jnp.zeros((1, 1)), None, None
    with pytest.raises(UserError, match="config lacks K; it has T"):
        QIFNeuron().event(*arguments, {"T": 4.0})
    with pytest.raises(UserError, match="config lacks seed, Ntrial"):
        rnn.run(QIFNeuron(), optax.sgd(0.1), patterns.PAPER)
    with pytest.raises(UserError, match="mode must be 'normal' or 'grid', not 'adam'"):
        rnn.run(QIFNeuron(), optax.sgd(0.1), patterns.PAPER, mode="adam")
    with pytest.raises(UserError, match="vary must be 'weight' or 'time', not 'tau'"):
        concept.run(QIFNeuron(), (jnp.ones(1), jnp.zeros(1, int)), None, None, None, "tau", CONFIG)
    with pytest.raises(UserError, match="Ntrain = 3 must be 2"):
        single.run(QIFNeuron(), {**single.PAPER, "Ntrain": 3})
    with pytest.raises(UserError, match="progress_bar must be 'notebook', 'script' or None"):
        mnist.run(ThetaNeuron(), SMALL, progress_bar="bar")


def test_words_that_are_none_of_those_allowed_are_told_with_them():
    axes = plt.figure().add_subplot()
    with pytest.raises(ValueError, match=r"neuron_type must be one of QIF, LIF, not 'EIF'"):
        concept.plot_voltage(axes, {"traces": []}, CONFIG, neuron_type="EIF")
    with pytest.raises(ValueError, match=r"name must be one of mnist, .*, not 'cifar10'"):
        mnist.run(ThetaNeuron(6 / np.pi), {**SMALL, "dataset": "cifar10"})


# ------------------------------------------------------------------------------- the experiments


def test_varied_weights_and_times():
    qif, lif = QIFNeuron(), LIFNeuron()
    config = {"T": 3.0, "K": 5, "dt": 0.01}
    grid, examples = concept.vary_w(lif, jnp.array([0.95, 1.15]), config, Nvar=8)
    np.testing.assert_allclose(grid["p"], np.linspace(0, 8, 9))
    assert np.isinf(grid["spiketimes"][:5]).all()
    assert np.isfinite(grid["spiketimes"][5:]).all()
    assert (grid["grads"][5:] < 0).all()
    np.testing.assert_allclose(examples["p"], [3.8, 4.6])
    assert np.isfinite(examples["spiketimes"]).tolist() == [False, True]
    times, states = examples["traces"][1]
    assert states.shape == (len(times), 2, 1)
    _, examples = concept.vary_t(lif, jnp.array([0.8, 1.5, 3.0]), config, 1.4, Nvar=1)
    np.testing.assert_allclose(examples["p"], [0.61, 1.15, 2.30], atol=0.006)
    _, examples = concept.vary_t(qif, jnp.array([0.5, 0.62, 1.4]), {**CONFIG, "K": 4}, Nvar=1)
    np.testing.assert_allclose(examples["p"], [1.10, 1.36, 3.07], atol=0.006)
    assert np.isfinite(examples["spiketimes"]).tolist() == [False, True, True]


def test_training_with_a_grid_of_steps():
    config = {
        **patterns.PAPER,
        "seed": 7,
        "Ntrial": 3,
        "K": 272,
        "grid": jnp.array([0.1, 1.0]),
        "dt_max": 0.5,
    }
    metrics, examples = rnn.run(QIFNeuron(), adabelief(1e-2, b2=0.99), config, "grid")
    assert metrics["loss"].shape == (4,)
    assert metrics["loss"][-1] < metrics["loss"][0]
    assert len(examples["outs"]) == 3
    w = metrics["p"][-1][0]
    np.testing.assert_array_equal(patterns.weights_net_to_w(patterns.w_to_weights_net(w)), w)
    assert float(jnp.trace(patterns.w_to_weights_net(w))) == 0


def test_a_nudge_is_a_small_one():
    start = patterns.start()
    for spread in (1e-12, 1e-3):
        moved = patterns.nudged(start, spread, 1)
        size = float(np.std(moved.w))
        assert 0.5 * spread < size < 2 * spread
    np.testing.assert_array_equal(
        patterns.nudged(start, 1.0, 2).w, patterns.nudged(start, 1.0, 2).w
    )
    assert not np.array_equal(patterns.nudged(start, 1.0, 3).w, patterns.nudged(start, 1.0, 2).w)


def test_fresh_weights_of_the_classifier():
    """Bounds and spread of a fresh network, by the script and by the published function."""
    neuron = ThetaNeuron(6 / np.pi)
    _, weights = mnist.init_weights(jax.random.PRNGKey(0), PAPER)
    fresh = mnist.PAPER.initial(jax.random.key(0), jnp.float64)
    for found in (weights, fresh.weights):
        assert [w.shape for w in found] == [(100, 784), (100, 100), (10, 100)]
        for w in found:
            limit = 0.5 / np.sqrt(w.shape[1])
            assert 0.98 * limit < np.abs(w).max() <= limit
            assert np.std(w) == pytest.approx(limit / np.sqrt(3), rel=0.05)
            assert abs(np.mean(w)) < 4 * np.std(w) / np.sqrt(w.size)
    np.testing.assert_array_equal(mnist.init_phi0(neuron, PAPER), np.full(210, 3.0))
    for phases in fresh.phases:
        np.testing.assert_array_equal(phases, 3.0)


def test_pixels_become_places_of_spike_times():
    """Bins are 256 // (Nin_virtual + 1) wide and counted from white: black may fall out of them."""
    pixels = np.array([[[0, 85], [170, 255]]], np.uint8)
    assert mnist.transform_image(pixels, {"Nin_virtual": 1}).tolist() == [[1, 1, 0, 0]]
    assert mnist.transform_image(pixels, {"Nin_virtual": 2}).tolist() == [[3, 2, 1, 0]]
    part = mnist.transform_dataset(Part(pixels, np.zeros(1)), lambda x: x.reshape(1, -1))
    assert part.inputs.shape == (1, 4)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_pixels_that_are_turned_over_change_black_and_white(levels, monkeypatch):
    images = np.array([[[[0, 255]]]] * 3, np.uint8)
    split = datasets.Split(images, np.arange(3))
    found = datasets.Dataset("images", split, split, split, 3)
    monkeypatch.setattr(datasets, "load", lambda *args, **options: found)
    shown = data.load("mnist", None, Network(Nin_virtual=levels), flip=1.0)
    turned = shown.disturbed(jax.random.key(0), jnp.asarray(shown.train.inputs))
    assert turned.tolist() == [[0, levels]] * 3


def batch_of(seed):
    rng = np.random.default_rng(seed)
    _, weights = mnist.init_weights(jax.random.PRNGKey(seed), {**SMALL, "w_scale": 6.0})
    p = [[w + 0.3 for w in weights], mnist.init_phi0(ThetaNeuron(6 / np.pi), SMALL)]
    return p, rng.integers(0, 2, (20, 49)), rng.integers(0, 5, 20)


def test_probes_are_those_of_the_events():
    neuron, (p, inputs, labels) = ThetaNeuron(6 / np.pi), batch_of(1)

    @jax.jit
    def probed(p, inputs, labels):
        return mnist.probefn(neuron, p, inputs, labels, SMALL)

    @jax.jit
    def simulated(p, inputs, labels):
        events = jax.vmap(lambda x: mnist.eventffwd(neuron, p, x, SMALL))(inputs)
        first = jax.vmap(lambda out: mnist.outfn(neuron, out, p, SMALL))(events)
        ends = jnp.where(first < SMALL["T"], first, SMALL["T"])
        ordinary = jax.vmap(lambda t, n: mnist.lossfn(t, n, SMALL))(ends, labels)
        every = mnist.simulatefn(neuron, p, inputs, labels, SMALL)
        short = mnist.simulatefn(neuron, p, inputs, labels, {**SMALL, "K": 8})
        return events, ends, ordinary, every, short

    batch = p, jnp.asarray(inputs), jnp.asarray(labels)
    metrics, silents = probed(*batch)
    events, ends, (losses, correct), (loss, accuracy), short = simulated(*batch)
    assert metrics["loss"] == pytest.approx(float(loss))
    assert metrics["acc"] == pytest.approx(float(accuracy))
    hidden = ~events.spike_in & (events.neurons >= 0) & (events.neurons < 24)
    early = hidden & (events.times < ends.min(1)[:, None])
    assert metrics["activity"] == pytest.approx(hidden.sum() / (20 * 24))
    assert metrics["activity_first"] == pytest.approx(early.sum() / (20 * 24))
    assert 0 < metrics["activity_first"] < metrics["activity"]
    for name, mask in (("silent_neurons", hidden), ("silent_neurons_first", early)):
        silent = ~np.isin(np.arange(24), np.asarray(events.neurons)[np.asarray(mask)])
        np.testing.assert_array_equal(silents[name], silent)
    assert metrics["loss_ord"] == pytest.approx(float(losses.mean()))
    assert metrics["acc_ord"] == pytest.approx(float(correct.mean()))
    assert np.isnan(short).all()  # K is too small
    slow = OscLIFNeuron(tau=2.0)
    few = p, inputs[:2], labels[:2]
    assert np.isfinite(jax.jit(lambda *few: mnist.simulatefn(slow, *few, SMALL)[0])(*few))


def test_a_run_and_an_example():
    neuron = ThetaNeuron(6 / np.pi)
    config = {**SMALL, "Nin": 64, "Nout": 10, "K": 400, "lr": 0.02, "Nepochs": 20}
    metrics = mnist.run(neuron, config)
    for name in ("loss", "acc", "loss_ord", "acc_ord", "silent_neurons", "activity_first"):
        assert metrics[name].shape == (21,)
    assert metrics["loss"][-1] < metrics["loss"][0]
    assert parameters_of(metrics["p_init"]).phases[0].shape == (12,)
    changed = metrics["p_end"][0][0] - metrics["p_init"][0][0]
    assert np.abs(changed).max() > 0
    example = mnist.run_example(metrics["p_end"], neuron, config)
    assert example["input"].shape == (64,)
    assert len(example["spiketimes"]) == 34
    assert example["trace_Vs"].shape == example["trace_phis"].shape
    np.testing.assert_allclose(neuron.Phi(example["trace_Vs"][0]), example["trace_phis"][0])
    train, test = mnist.load_data("digits", None, config)
    assert (len(train), len(test)) == (3, 1)
    firsts = [next(iter(train))[1].tolist() for _ in range(2)]
    assert firsts[0] != firsts[1]  # another order each time


def test_the_error_s_legend_hides_no_curve():
    figure, axes = plt.subplots()
    accuracies = np.linspace(0.1, 0.97, 5)[None]
    mnist.plot_error(axes, {"acc": accuracies, "acc_ord": accuracies}, SMALL)
    figure.canvas.draw()
    legend = axes.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["ordinary spikes only", "all"]
    assert not legend.get_window_extent().overlaps(axes.get_window_extent())
    plt.close(figure)
