"""The task: images in three parts, with few labels, or with shuffled pixels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Int, UInt8
from sklearn.model_selection import train_test_split

from shared import datasets

DataName = Literal["mnist", "fashion_mnist", "digits"]
VALIDATION = 1 / 6  # 10,000 of 60,000


class Part(NamedTuple):
    """Images, a row of gray values each, and their classes."""

    images: UInt8[np.ndarray, "n pixels"]
    labels: Int[np.ndarray, " n"]

    def first(self, n: int | None) -> "Part":
        """The first n; None means all."""
        return Part(self.images[:n], self.labels[:n])

    def shuffled(self, order: Int[np.ndarray, " pixels"]) -> "Part":
        """The same images with their pixels in another order."""
        return Part(np.ascontiguousarray(self.images[:, order]), self.labels)


@dataclass(frozen=True, eq=False)
class Data:
    """What is learned, chosen by, and tested on.

    Attributes:
        name: what was really loaded.
        train, validation, test: its parts.
        n_classes: number of classes.
        fingerprint: of all three parts, whatever is used of them; see `shared.datasets`.
    """

    name: str
    train: Part
    validation: Part
    test: Part
    n_classes: int
    fingerprint: dict[str, Any]

    @property
    def n_pixels(self) -> int:
        """Pixels of an image."""
        return int(self.train.images.shape[1])


def load(name: DataName, root: Path | None) -> Data:
    """A set of images in three parts, the same ones whatever the seed of a run.

    Raises:
        DatasetError: it cannot be had.
    """
    found = datasets.load(name, root, validation=VALIDATION, fallback=True)
    train, validation, test = (
        Part(split.inputs.reshape(len(split), -1), split.labels)
        for split in (found.train, found.validation, found.test)
    )
    return Data(found.name, train, validation, test, found.n_classes, found.fingerprint)


def labeled(part: Part, percent: int, seed: int) -> Part:
    """A share of a part with the same shares of classes, in its order; chosen by seed."""
    if percent == 100:
        return part
    n = max(len(np.unique(part.labels)), len(part.labels) * percent // 100)
    chosen, _ = train_test_split(
        np.arange(len(part.labels)), train_size=n, stratify=part.labels, random_state=seed
    )
    chosen = np.sort(chosen)
    return Part(part.images[chosen], part.labels[chosen])


def pixel_orders(n_pixels: int, tasks: int, seed: int) -> list[Int[np.ndarray, " pixels"]]:
    """An order of the pixels for each task; that of the first is their own."""
    random = np.random.default_rng((seed, n_pixels))
    return [np.arange(n_pixels), *(random.permutation(n_pixels) for _ in range(tasks - 1))]
