"""The experiment of figure 4 from a dictionary `config`: data, loss, probes, training, an example.

Batches are simulated layer by layer, see `smooth_gd.spikegd.layered`. A configuration is that of
`model.PAPER`; it may also have dataset, one of MNIST's kind by name (default "mnist"), and samples,
how many of each part are used (default: all).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped
from tqdm import tqdm
from tqdm.notebook import tqdm as tqdm_notebook

from shared import datasets
from shared.errors import UserError
from smooth_gd.experiments.mnist.data import load, sized
from smooth_gd.experiments.mnist.model import (
    eventffwd,
    init_phi0,
    init_weights,
    lossfn,
    outfn,
    sizes_of,
    transform_image,
)
from smooth_gd.experiments.mnist.network import Network, Parameters
from smooth_gd.experiments.mnist.training import Part, Trainer, seen
from smooth_gd.spikegd.layered import Bounds, Response
from smooth_gd.spikegd.models import AbstractPseudoPhaseOscNeuron, Config, Events
from smooth_gd.spikegd.theta import ThetaNeuron

SLOTS = 8  # spikes of a neuron in a trial that are looked at
TEST_BATCH = 1000
EXAMPLE = 2  # of the first test batch
METRICS = {
    "loss": "loss",
    "acc": "accuracy",
    "loss_ord": "loss_ordinary",
    "acc_ord": "accuracy_ordinary",
    "activity": "activity_in_trial",
    "activity_first": "activity_until_first",
}
SILENTS = {"silent_neurons": "silent_in_trial", "silent_neurons_first": "silent_until_first"}
BARS: dict[str | None, Callable[[Iterable[int]], Iterable[int]]] = {
    None: iter,
    "script": tqdm,
    "notebook": tqdm_notebook,
}


# ----------------------------------------------------------------------------------------- data


class Batches:
    """Batches of a part in a random order, another one each time they are gone through.

    Args:
        part: inputs and labels.
        size: of a batch; the last one of a pass may be smaller.
        seed: of the orders.
    """

    def __init__(self, part: Part, size: int, seed: int = 0) -> None:
        self.part, self.size = part, size
        self._rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return -(-len(self.part.labels) // self.size)

    def __iter__(
        self,
    ) -> Iterator[tuple[Int[np.ndarray, "batch pixels"], Int[np.ndarray, " batch"]]]:
        order = self._rng.permutation(len(self.part.labels))
        for start in range(0, len(order), self.size):
            chosen = order[start : start + self.size]
            yield self.part.inputs[chosen], self.part.labels[chosen]


def transform_dataset(
    dataset: Part, transform: Callable[[Shaped[np.ndarray, "n ..."]], Shaped[np.ndarray, "n ..."]]
) -> Part:
    """A part with transformed inputs."""
    return Part(transform(dataset.inputs), dataset.labels)


def load_data(data: str | type, root: str | None, config: Config) -> tuple[Batches, Batches]:
    """Batches of the training set, of Nbatch, and of the test set, of `TEST_BATCH`.

    Args:
        data: name of the data set, or torchvision's class of it.
        root: of the data sets; None for the environment variable SNN_DATA, or ``datasets``.
        config: with Nbatch, Nin_virtual; seed of the order, if it has one.

    Raises:
        UserError: the data cannot be had.
    """
    name = data if isinstance(data, str) else data.__name__
    name = {"MNIST": "mnist", "FashionMNIST": "fashion_mnist"}.get(name, name)
    found = datasets.load(name, root, validation=0, fallback=True)
    if "samples" in config:
        found = found.first(config["samples"])
    train, test = (
        transform_dataset(
            Part(split.inputs, split.labels.astype(np.int32)),
            partial(transform_image, config=config),
        )
        for split in (found.train, found.test)
    )
    seed = int(config.get("seed", 0))
    return Batches(train, config["Nbatch"], seed), Batches(test, TEST_BATCH, seed)


# ---------------------------------------------------------------------------------------- model


def network_of(neuron: ThetaNeuron, config: Config) -> Network:
    """The network of a configuration."""
    return Network(
        sizes=sizes_of(config),
        neuron=neuron,
        T=config["T"],
        Nin_virtual=config["Nin_virtual"],
        gamma=config["gamma"],
        spread=config["w_scale"],
    )


def parameters_of(p: Sequence[Any]) -> Parameters:
    """The parameters p with phases cut by layers."""
    weights, phi0 = p
    cuts = np.cumsum([w.shape[0] for w in weights[:-1]])
    return Parameters(tuple(weights), tuple(jnp.split(phi0, cuts)))


def p_of(parameters: Parameters) -> list[Any]:
    """The inverse of `parameters_of`."""
    return [list(parameters.weights), jnp.concatenate(parameters.phases)]


def _response(
    network: Network, p: Sequence[Any], input: Int[Array, "batch Nin"], K: int
) -> Response:
    """What a batch did, with room for K spikes of a hidden layer in a trial."""
    bounds = Bounds((K,) * (len(network.sizes) - 2), (SLOTS,) * (len(network.sizes) - 2))
    return network.respond(parameters_of(p), network.levels(jnp.asarray(input)), bounds)


def simulatefn(
    neuron: AbstractPseudoPhaseOscNeuron,
    p: Sequence[Any],
    input: Int[Array, "batch Nin"],
    labels: Int[Array, " batch"],
    config: Config,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean loss and accuracy of a batch; NaN where K is too small.

    Args:
        neuron: the neuron model; theta neurons with T below their period go layer by layer.
        p: parameters.
        input: of the trials.
        labels: their classes.
        config: with T, K, Nin_virtual, gamma.
    """
    if isinstance(neuron, ThetaNeuron) and config["T"] < neuron.Theta():
        first = _response(network_of(neuron, config), p, input, config["K"]).first
    else:
        first = jax.vmap(lambda one: outfn(neuron, eventffwd(neuron, p, one, config), p, config))(
            jnp.asarray(input)
        )
    loss, correct = jax.vmap(lambda t, label: lossfn(t, label, config))(first, jnp.asarray(labels))
    return jnp.mean(loss), jnp.where(jnp.isnan(first).any(), jnp.nan, jnp.mean(correct))


def probefn(
    neuron: ThetaNeuron,
    p: Sequence[Any],
    input: Int[Array, "batch Nin"],
    labels: Int[Array, " batch"],
    config: Config,
) -> tuple[dict[str, Array], dict[str, Array]]:
    """What is measured on a batch.

    Args:
        neuron: the neuron model, with a period above T.
        p: parameters.
        input: of the trials.
        labels: their classes.
        config: with T, K, Nin_virtual, gamma and the sizes.

    Returns:
        Loss and accuracy with pseudospikes, and without ("_ord"), spikes of a hidden neuron and
        trial, "activity", and those until the first output spike, "_first". And which hidden
        neurons were silent in all trials, in the trial and until the first output spike.
    """
    network = network_of(neuron, config)
    response = _response(network, p, input, config["K"])
    found, n = seen(network, response, jnp.asarray(labels)), len(input)
    metrics = {}
    for name, own in METRICS.items():
        kind, _, when = own.partition("_")
        sums = jnp.mean(found[when]) if kind == "activity" else found[own]
        metrics[name] = jnp.where(jnp.isnan(response.first).any(), jnp.nan, sums / n)
    silents = {name: found[own.removeprefix("silent_")] == 0 for name, own in SILENTS.items()}
    return metrics, silents


# ------------------------------------------------------------------------------------- training


def run(neuron: ThetaNeuron, config: Config, progress_bar: str | None = None) -> dict[str, Any]:
    """Train and test a classifier.

    Args:
        neuron: the neuron model, with a period above T.
        config: see the module. The number of events is chosen while running; K is not looked at.
        progress_bar: "notebook", "script" or None.

    Returns:
        Of the untrained network and after each epoch, on the test set: "loss", "acc", "loss_ord",
        "acc_ord", "activity", "activity_first", "silent_neurons", "silent_neurons_first", see
        `probefn`; and the parameters "p_init" and "p_end".

    Raises:
        UserError: progress_bar is none of these, data cannot be had, or a number is NaN.
    """
    if progress_bar not in BARS:
        raise UserError(f"progress_bar must be 'notebook', 'script' or None, not {progress_bar!r}")
    name, samples = config.get("dataset", "mnist"), config.get("samples")
    network = network_of(neuron, config)
    data = load(name, None, network, config["p_flip"], samples)
    trainer = Trainer(
        sized(network, data),
        data,
        config["Nbatch"],
        config["lr"],
        int(config["seed"]),
        jax.devices()[0],
        config["tau_lr"],
        (config["beta1"], config["beta2"]),
    )
    _, weights = init_weights(jax.random.PRNGKey(config["seed"]), config)
    p_init = [weights, init_phi0(neuron, config)]
    state = trainer.started(parameters_of(p_init))
    probes = [trainer.evaluate(state.parameters, data.test)]
    for number in BARS[progress_bar](range(1, config["Nepochs"] + 1)):
        state, _ = trainer.train_epoch(state, number)
        probes.append(trainer.evaluate(state.parameters, data.test))
    metrics: dict[str, Any] = {
        name: jnp.array([probe[own] for probe in probes])
        for name, own in (METRICS | SILENTS).items()
    }
    return {**metrics, "p_init": p_init, "p_end": p_of(state.parameters)}


# -------------------------------------------------------------------------------------- example


def run_example(
    p: Sequence[Any], neuron: AbstractPseudoPhaseOscNeuron, config: Config
) -> dict[str, Any]:
    """One trial of the test set in detail; see `example_of`.

    Args:
        p: parameters.
        neuron: the neuron model.
        config: with seed, which chooses the trial, T, K, dt, Nbatch, Nin_virtual.

    Raises:
        UserError: the data cannot be had, or K is too small.
    """
    _, test = load_data(config.get("dataset", "mnist"), None, config)
    inputs, labels = next(iter(test))
    return example_of(p, neuron, inputs[EXAMPLE], int(labels[EXAMPLE]), config)


def example_of(
    p: Sequence[Any],
    neuron: AbstractPseudoPhaseOscNeuron,
    input: Int[np.ndarray, " Nin"],
    label: int,
    config: Config,
) -> dict[str, Any]:
    """One trial in detail.

    Args:
        p: parameters.
        neuron: the neuron model.
        input: of the trial.
        label: its class.
        config: with T, K, dt, Nin_virtual.

    Returns:
        "input", "label", "predicted"; times "trace_ts", phases "trace_phis" and potentials
        "trace_Vs" [times, neurons] over the trial; "spiketimes" of each neuron.

    Raises:
        UserError: K is too small.
    """

    @jax.jit
    def simulate(p: Sequence[Any], one: Array) -> tuple[Events, Array]:
        events = eventffwd(neuron, p, one, config)
        return events, outfn(neuron, events, p, config)

    events, first = simulate(p, jnp.asarray(input))
    times, states = neuron.traces(p[1][None], events, config)
    own = np.where(np.asarray(events.spike_in), -1, np.asarray(events.neurons))
    return {
        "input": jnp.asarray(input),
        "label": jnp.asarray(label),
        "predicted": jnp.argmin(first),
        "trace_ts": times,
        "trace_phis": states[:, 0],
        "trace_Vs": neuron.iPhi(states[:, 0]),
        "spiketimes": [np.asarray(events.times)[own == i] for i in range(p[1].shape[0])],
    }
