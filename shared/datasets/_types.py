"""What the loaders give back, and how they refuse."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.errors import UserError


class DatasetError(UserError):
    """A data set cannot be had as asked; the message is one sentence that says what to do."""


class DatasetMissingError(DatasetError):
    """The files are not there and could not be fetched (a damaged file is not *missing*).

    Args:
        message: what was looked for and tried.
        partial: some of the set's files are there; then no other set may stand in for it.
    """

    def __init__(self, message: str, *, partial: bool = False) -> None:
        super().__init__(message)
        self.partial = partial


def check_labels(labels: NDArray[Any], n_classes: int, title: str) -> None:
    """Refuse classes that are none of 0 to n_classes - 1.

    Args:
        labels: class of each sample, of any type, [n].
        n_classes: their number.
        title: what they are of, for messages.

    Raises:
        DatasetError: one is out of range or no whole number; the first such sample is named.

    """
    bad = ~((labels >= 0) & (labels < n_classes) & (labels == np.floor(labels)))
    if bad.any():
        sample = int(bad.argmax())
        raise DatasetError(
            f"sample {sample} (counted from 0) of {title} has the label {labels[sample]}, but the "
            f"classes are 0 to {n_classes - 1}: put a good copy in its place."
        )


def fingerprint(name: str, samples: int, *arrays: NDArray[Any]) -> dict[str, Any]:
    """What binds a run to its data: another set, part or order of samples has another one.

    Args:
        name: of the set that was loaded.
        samples: how many there are, in all parts.
        arrays: all that is trained and tested on.

    Returns:
        Under "name", "samples" and "checksum": these, and the first 16 digits of the SHA-256 of
        the arrays' types, shapes and bytes.

    """
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return {"name": name, "samples": samples, "checksum": digest.hexdigest()[:16]}


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set.

    Attributes:
        inputs: uint8 images [n, channels, height, width], or float64 samples [n, features].
        labels: class of each sample, int64 [n].

    """

    inputs: NDArray[Any]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.labels.shape[0])


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in three parts; ``name`` is what was really loaded and belongs in every record."""

    name: str
    train: Split
    validation: Split
    test: Split
    n_classes: int

    def first(self, n: int) -> Dataset:
        """The same set with the first n samples of every part only."""
        train, validation, test = (
            Split(part.inputs[:n], part.labels[:n])
            for part in (self.train, self.validation, self.test)
        )
        return Dataset(self.name, train, validation, test, self.n_classes)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Name, number of samples and checksum, see `fingerprint`."""
        parts = (self.train, self.validation, self.test)
        arrays = (array for part in parts for array in (part.inputs, part.labels))
        return fingerprint(self.name, sum(map(len, parts)), *arrays)


@dataclass(frozen=True, eq=False)
class Table:
    """A small table without parts of its own; see `folds`.

    Attributes:
        name: the set's name.
        inputs: float64 [n, features], in the units of the source, unscaled.
        labels: class of each row, int64 [n].
        class_names: one name a class.

    """

    name: str
    inputs: NDArray[np.float64]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Name, number of samples and checksum, see `fingerprint`."""
        return fingerprint(self.name, len(self.labels), self.inputs, self.labels)


@dataclass(frozen=True, eq=False)
class Omniglot:
    """Handwritten characters, 20 drawings each, by 20 people.

    Attributes:
        images: uint8 [characters, 20, 105, 105], 1 where there is ink and 0 where there is paper.
        names: "Alphabet/characterNN" of each character, in the order of ``images``: first the
            background archive, then the evaluation archive, each in the order of the published
            numbers of the characters.

    """

    images: NDArray[np.uint8]
    names: tuple[str, ...]


class Spikes(NamedTuple):
    """Spikes in order of time; simultaneous ones in order of synapse.

    Attributes:
        times: float64 [k], seconds.
        synapses: index of the synapse of each spike, int64 [k].

    """

    times: NDArray[np.float64]
    synapses: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Trial:
    """One trial of the Spike set, ``n`` features on a noisy background.

    Attributes:
        times: all spikes, float64 [k], seconds, ascending.
        synapses: index of the synapse of each spike, int64 [k].
        onsets: when each feature starts, float64 [n], seconds.
        rewards: reward of each feature, int64 [n].
        feature_ids: published id (1, 2, ...) of each feature, int64 [n]; 0 where the spikes in
            the file are those of no stored feature.

    """

    times: NDArray[np.float64]
    synapses: NDArray[np.int64]
    onsets: NDArray[np.float64]
    rewards: NDArray[np.int64]
    feature_ids: NDArray[np.int64]

    @property
    def target(self) -> int:
        """The class: the sum of the rewards."""
        return int(self.rewards.sum())


@dataclass(frozen=True, eq=False)
class SpikeSet:
    """Trials of the Spike set and the features they are made of.

    Attributes:
        trials: the trials of the file, in its order.
        features: spikes of each feature from its onset on; ``features[i]`` has the published id
            ``i + 1``.
        rewards: reward of each feature, int64 [len(features)].
        n_synapses: number of input synapses.
        duration: length of a trial, seconds.
        feature_length: length of a feature, seconds.
        dt: the grid of onsets and background spikes, seconds.

    """

    trials: tuple[Trial, ...]
    features: tuple[Spikes, ...]
    rewards: NDArray[np.int64]
    n_synapses: int
    duration: float
    feature_length: float
    dt: float
