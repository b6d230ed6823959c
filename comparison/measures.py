"""What is measured of a trained network; nothing of it changes.

Distorted images are the same for every rule, and so is the noise on weights of one shape and order;
who draws its input at random begins at the same seed.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from comparison.counting import Operations
from comparison.data import Part
from comparison.interface import Learner, Rule

SHARES = (0.25, 0.5, 0.75)
"""Of the trial, after which early decisions are taken."""

IN_BATCH = "_in_batch"
"""Ends the names of what was measured of a network that adapts to the batch it is shown."""

NOISE_SEED = 0x0DD5
ANGLE_IMAGES = 100

Image = UInt8[np.ndarray, "n pixels"]


# ------------------------------------------------------------------------------------- accuracy


class Seen(NamedTuple):
    """What a pass over a part shows.

    Attributes:
        accuracy: share of right decisions.
        spikes: of each hidden neuron, per image.
        operations: what passed the synapses.
    """

    accuracy: float
    spikes: Float[np.ndarray, " hidden"]
    operations: Operations


def seen(learner: Learner, part: Part, batch_size: int, share: float = 1.0) -> Seen:
    """Show a part in its order; the draws of a batch are the same at every call.

    Args:
        learner: the network.
        part: the images.
        batch_size: images at a time.
        share: of the trial.
    """
    right, operations = 0, Operations()
    total: Float[np.ndarray, " hidden"] = np.zeros(())  # takes the shape of what is added
    for draw, start in enumerate(range(0, len(part.labels), batch_size)):
        chosen = slice(start, start + batch_size)
        answer = learner.answer(part.images[chosen], draw, share)
        right += int((answer.scores.argmax(1) == part.labels[chosen]).sum())
        total = total + answer.hidden.sum(0, dtype=np.float64)
        operations.add(answer.traffic)
    n = len(part.labels)
    return Seen(right / n, total / n, operations)


def accuracy(learner: Learner, part: Part, batch_size: int, share: float = 1.0) -> float:
    """Share of right decisions; see `seen`."""
    return seen(learner, part, batch_size, share).accuracy


# ----------------------------------------------------------------------------- distorted images


def gaussian(images: Image, level: float) -> Image:
    """Additive noise of that standard deviation, brightness being 0 to 1."""
    noise = np.random.default_rng(NOISE_SEED).standard_normal(images.shape, dtype=np.float32)
    noisy: Image = (images + 255 * level * noise).round().clip(0, 255).astype(np.uint8)
    return noisy


def salt_and_pepper(images: Image, level: float) -> Image:
    """That share of the pixels is black or white, half of them each."""
    drawn = np.random.default_rng(NOISE_SEED).random(images.shape, dtype=np.float32)
    return np.where(drawn < level, np.where(drawn < level / 2, 255, 0), images).astype(np.uint8)


def occluded(images: Image, level: float) -> Image:
    """A black square at a random place; its side is that share of the image's."""
    n, side = len(images), round(images.shape[1] ** 0.5)
    size = round(level * side)
    top, left = np.random.default_rng(NOISE_SEED).integers(0, side - size + 1, (2, n, 1))
    places = np.arange(side)
    rows, columns = ((places >= at) & (places < at + size) for at in (top, left))
    covered = rows[:, :, None] & columns[:, None, :]
    return np.where(covered.reshape(n, -1), 0, images).astype(np.uint8)


DISTORTIONS: dict[str, tuple[Callable[[Image, float], Image], tuple[float, ...]]] = {
    "gaussian": (gaussian, (0.1, 0.2, 0.3, 0.5)),
    "salt_pepper": (salt_and_pepper, (0.05, 0.1, 0.2, 0.3)),
    "occlusion": (occluded, (0.2, 0.3, 0.4, 0.5)),
}
"""Kinds of distortion with their levels."""


# ---------------------------------------------------------------------------- distorted weights

WEIGHT_NOISE = (0.05, 0.1, 0.2, 0.4)
"""Standard deviation of noise on weights, in units of each layer's root of mean squares."""

BITS = (8, 4)

N_DISTORTED = 1 + sum(len(levels) for _, levels in DISTORTIONS.values())
N_DISTORTED += len(WEIGHT_NOISE) + len(BITS)
"""Passes over the test images of `robustness`."""

Weights = Mapping[str, Float[np.ndarray, "..."]]


def noisy_weights(weights: Weights, level: float) -> dict[str, Float[np.ndarray, "..."]]:
    """Weights with additive Gaussian noise."""
    random = np.random.default_rng(NOISE_SEED)
    return {
        name: w + (level * np.sqrt(np.mean(w**2)) * random.standard_normal(w.shape)).astype(w.dtype)
        for name, w in weights.items()
    }


def quantized(weights: Weights, bits: int) -> dict[str, Float[np.ndarray, "..."]]:
    """Weights rounded to whole multiples of one step a layer, as many as signed bits can count."""
    largest = 2 ** (bits - 1) - 1
    found = {}
    for name, w in weights.items():
        step = np.abs(w).max() / largest or 1.0
        found[name] = (np.round(w / step) * step).astype(w.dtype)
    return found


@contextmanager
def holding(learner: Learner, weights: Weights) -> Iterator[None]:
    """Let a network have other weights for a while."""
    before = learner.weights()
    learner.set_weights(weights)
    try:
        yield
    finally:
        learner.set_weights(before)


# --------------------------------------------------------------------------------------- all


def robustness(learner: Learner, part: Part, batch_size: int) -> dict[str, float]:
    """Accuracy without and under every distortion of images and weights, by name and level."""
    found = {"test_accuracy_undistorted": accuracy(learner, part, batch_size)}
    for kind, (distorted, levels) in DISTORTIONS.items():
        for level in levels:
            images = distorted(part.images, level)
            value = accuracy(learner, Part(images, part.labels), batch_size)
            found[f"test_accuracy_{kind}_{level}"] = value
    weights = learner.weights()
    others = {f"weight_noise_{level}": noisy_weights(weights, level) for level in WEIGHT_NOISE}
    others |= {f"{bits}_bits": quantized(weights, bits) for bits in BITS}
    for name, values in others.items():
        with holding(learner, values):
            found[f"test_accuracy_{name}"] = accuracy(learner, part, batch_size)
    return found


def in_batch(learner: Learner, part: Part, few: Part | None, batch_size: int) -> dict[str, float]:
    """Accuracy, operations and robustness where the network adapts to each batch.

    Args:
        learner: the network.
        part: the images.
        few: those that are distorted; None: none is.
        batch_size: images at a time.

    Returns:
        Nothing where it never does.
    """
    if (context := learner.adapting()) is None:
        return {}
    with context:
        whole = seen(learner, part, batch_size)
        found = {"test_accuracy_last": whole.accuracy, **whole.operations.metrics()}
        if few is not None:
            found |= robustness(learner, few, batch_size)
    return {name + IN_BATCH: value for name, value in found.items()}


def early(rule: Rule, learner: Learner, part: Part, batch_size: int) -> dict[str, float]:
    """Accuracy of decisions after shares of the trial; nothing where there is no time."""
    return {
        f"test_accuracy_after_{100 * share:.0f}": accuracy(learner, part, batch_size, share)
        for share in (SHARES if rule.timed else ())
    }


def activity(rule: Rule, found: Seen) -> dict[str, float]:
    """Spikes per hidden neuron and image, share of silent ones, operations and energy."""
    spikes = {"spikes_per_neuron": float(found.spikes.mean())} if rule.spiking else {}
    silent = {"silent_neurons": float(np.mean(found.spikes == 0))}
    return spikes | silent | found.operations.metrics()


def forgetting(table: Float[np.ndarray, "after task"]) -> float:
    """Mean over tasks but the last of how far accuracy fell below its best since it was learned.

    Source: Chaudhry et al., Riemannian walk for incremental learning (2018).

    Args:
        table: accuracy on each task, a row after each of them was learned.
    """
    learned = np.where(np.tri(len(table), dtype=bool), table, -np.inf)
    return float(np.mean(learned[:-1, :-1].max(0) - table[-1, :-1]))
