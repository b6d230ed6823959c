"""What the classifier is shown: images as spikes at few times, points as spike times."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from shared import datasets
from smooth_gd.experiments.mnist.network import Network
from smooth_gd.experiments.mnist.training import Part, Task
from smooth_gd.spikegd.layered import Levels, Spikes, at_times

IMAGES = ("mnist", "fashion_mnist", "digits")
POINTS = ("yin_yang",)
QUICK_SAMPLES = 1000
_EARLIEST, _LATEST = 0.01, 0.5  # spike times of coordinates 0 and 1, as shares of the trial


def load(
    name: str, root: Path | None, network: Network, flip: float, samples: int | None = None
) -> tuple[Task, Network]:
    """The task, and the network with as many inputs and outputs as it has.

    Args:
        name: of the data set.
        root: of the data sets.
        network: whose hidden layers are kept.
        flip: probability that an input of an image is turned over in training.
        samples: of each part that are kept; None for all.

    Raises:
        UserError: the data cannot be had.
    """
    data = datasets.load(name, root, validation=0, fallback=True)
    if samples is not None:
        data = data.first(samples)
    n_inputs = 5 if name in POINTS else int(np.prod(data.train.inputs.shape[1:]))
    network = dataclasses.replace(network, sizes=(n_inputs, *network.sizes[1:-1], data.n_classes))
    make = _points if name in POINTS else _images
    return make(data, network, flip), network


def _images(data: datasets.Dataset, network: Network, flip: float) -> Task:
    def part(split: datasets.Split) -> Part:
        return Part(network.codes(split.inputs), split.labels.astype(np.int32))

    def disturbed(key: Array, codes: Array) -> Array:
        turned = jax.random.bernoulli(key, flip, codes.shape)
        return jnp.where(turned, jnp.uint8(network.Nin_virtual) - codes, codes)

    def shown(codes: Array) -> Levels:
        return network.levels(codes)

    return Task(data.name, part(data.train), part(data.test), shown, disturbed)


def _points(data: datasets.Dataset, network: Network, flip: float) -> Task:
    def part(split: datasets.Split) -> Part:
        return Part(point_times(split.inputs, network.T), split.labels.astype(np.int32))

    def shown(times: Array) -> Spikes:
        return at_times(times)

    return Task(data.name, part(data.train), part(data.test), shown, lambda key, times: times)


def point_times(points: Float[np.ndarray, "n features"], T: float) -> Float[np.ndarray, "n inputs"]:
    """A spike a coordinate in [0, 1], later where it is larger, and one at the earliest time."""
    shares = _EARLIEST + (_LATEST - _EARLIEST) * points
    times: np.ndarray[Any, Any] = T * np.pad(shares, [(0, 0), (0, 1)], constant_values=_EARLIEST)
    return times
