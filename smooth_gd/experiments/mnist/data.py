"""What the classifier is shown: images as spikes at few times, points as spike times."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from shared import datasets
from shared.errors import UserError, check_word
from smooth_gd.experiments.mnist.network import Network
from smooth_gd.experiments.mnist.training import Classification, Part
from smooth_gd.spikegd.layered import Levels, Spikes, at_times

IMAGES = ("mnist", "fashion_mnist", "digits")
POINTS = ("yin_yang",)
QUICK_SAMPLES = 1000
_EARLIEST, _LATEST = 0.01, 0.5  # spike times of coordinates 0 and 1, as shares of the trial


def load(
    name: str, root: Path | None, network: Network, flip: float, samples: int | None = None
) -> Classification:
    """The data to classify.

    Args:
        name: of the data set.
        root: of the data sets.
        network: says when inputs spike; its sizes play no part.
        flip: probability that an input of an image is turned over in training.
        samples: of each part that are kept; None for all.

    Raises:
        ValueError: the name is none of `IMAGES` and `POINTS`.
        UserError: the data cannot be had, or a coordinate is no finite number.
    """
    check_word("name", name, (*IMAGES, *POINTS))
    data = datasets.load(name, root, validation=0, fallback=True)
    if samples is not None:
        data = data.first(samples)
    make = _points if name in POINTS else _images
    return make(data, network, flip)


def sized(network: Network, data: Classification) -> Network:
    """The network with as many inputs and outputs as the data have; hidden layers are kept."""
    n_inputs = data.train.inputs.shape[1]
    return dataclasses.replace(network, sizes=(n_inputs, *network.sizes[1:-1], data.n_classes))


def _images(data: datasets.Dataset, network: Network, flip: float) -> Classification:
    def part(split: datasets.Split) -> Part:
        return Part(network.codes(split.inputs), split.labels.astype(np.int32))

    def disturbed(key: Array, codes: Array) -> Array:
        turned = jax.random.bernoulli(key, flip, codes.shape)
        silent = jnp.uint8(network.Nin_virtual)  # black may have a larger code, see `codes`
        return jnp.where(turned, silent - jnp.minimum(codes, silent), codes)

    def shown(codes: Array) -> Levels:
        return network.levels(codes)

    return _classification(data, part, shown, disturbed)


def _points(data: datasets.Dataset, network: Network, flip: float) -> Classification:
    def part(split: datasets.Split) -> Part:
        if not np.isfinite(split.inputs).all():
            raise UserError(f"{data.name} has a coordinate that is no finite number")
        return Part(point_times(split.inputs, network.T), split.labels.astype(np.int32))

    def shown(times: Array) -> Spikes:
        return at_times(times)

    return _classification(data, part, shown, lambda key, times: times)


def _classification(
    data: datasets.Dataset,
    part: Callable[[datasets.Split], Part],
    shown: Callable[[Array], Levels | Spikes],
    disturbed: Callable[[Array, Array], Array],
) -> Classification:
    return Classification(
        data.name,
        part(data.train),
        part(data.test),
        shown,
        disturbed,
        data.n_classes,
        data.fingerprint,
    )


def point_times(points: Float[np.ndarray, "n features"], T: float) -> Float[np.ndarray, "n inputs"]:
    """A spike per coordinate in [0, 1], later where it is larger, and one at the earliest time."""
    shares = _EARLIEST + (_LATEST - _EARLIEST) * points
    times: np.ndarray[Any, Any] = T * np.pad(shares, [(0, 0), (0, 1)], constant_values=_EARLIEST)
    return times
