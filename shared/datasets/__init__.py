"""Data sets as NumPy arrays in memory, for every framework alike.

`load` gives sets with parts to train on, to choose by and to test on; `load_table` small tables
for cross-validation (`folds`); `load_spike_set` the trials of temporal credit assignment;
`load_omniglot` characters to learn from few examples. Where the files lie: the argument ``root``,
else the environment variable SNN_DATA, else the folder ``datasets`` of the checkout, whose README
lists source, license and checksum of each.

To add a set with parts, write a function that gives its `Parts` and name it in ``_LOADERS``.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from shared.datasets._cifar10dvs import load_cifar10_dvs
from shared.datasets._events import (
    EventPart,
    Events,
    EventSet,
    Recordings,
    decode_events,
    to_frames,
)
from shared.datasets._files import ENVIRONMENT_VARIABLE, data_root
from shared.datasets._gesture import (
    GestureFrames,
    load_dvs_gesture,
    load_gesture_frames,
    load_gesture_samples,
)
from shared.datasets._images import (
    FASHION_MNIST,
    MNIST,
    load_cifar10,
    load_digits,
    load_mnist5k,
    load_mnist_like,
    parse_idx,
)
from shared.datasets._nettalk import Nettalk, load_nettalk
from shared.datasets._nmnist import load_nmnist
from shared.datasets._omniglot import load_omniglot
from shared.datasets._speech import Speech, load_fsdd, load_tidigits, load_tidigits_or_fsdd
from shared.datasets._spikes import load_spike_set
from shared.datasets._stand_in import say_stand_in
from shared.datasets._tables import folds, held_out, load_sklearn, load_yin_yang
from shared.datasets._types import (
    Dataset,
    DatasetError,
    DatasetMissingError,
    Omniglot,
    Spikes,
    SpikeSet,
    Split,
    Table,
    Trial,
    check_labels,
    fingerprint,
)

__all__ = [
    "ENVIRONMENT_VARIABLE",
    "NAMES",
    "TABLE_NAMES",
    "Dataset",
    "DatasetError",
    "DatasetMissingError",
    "EventPart",
    "EventSet",
    "Events",
    "GestureFrames",
    "Nettalk",
    "Omniglot",
    "Recordings",
    "Speech",
    "SpikeSet",
    "Spikes",
    "Split",
    "Table",
    "Trial",
    "check_labels",
    "data_root",
    "decode_events",
    "fingerprint",
    "folds",
    "load",
    "load_cifar10_dvs",
    "load_dvs_gesture",
    "load_fsdd",
    "load_gesture_frames",
    "load_gesture_samples",
    "load_nettalk",
    "load_nmnist",
    "load_omniglot",
    "load_spike_set",
    "load_table",
    "load_tidigits",
    "load_tidigits_or_fsdd",
    "parse_idx",
    "say_stand_in",
    "to_frames",
]


class Parts(NamedTuple):
    """A set as its source gives it; without a validation part, `load` cuts one out of train."""

    train: Split
    test: Split
    n_classes: int
    validation: Split | None = None


def _mnist(root: Path, download: bool) -> Parts:
    return Parts(*load_mnist_like(MNIST, root, download=download), n_classes=10)


def _fashion_mnist(root: Path, download: bool) -> Parts:
    return Parts(*load_mnist_like(FASHION_MNIST, root, download=download), n_classes=10)


def _cifar10(root: Path, download: bool) -> Parts:
    return Parts(*load_cifar10(root, download=download), n_classes=10)


def _mnist5k(root: Path, download: bool) -> Parts:
    return Parts(*load_mnist5k(), n_classes=10)


def _digits(root: Path, download: bool) -> Parts:
    return Parts(*load_digits(), n_classes=10)


def _yin_yang(root: Path, download: bool) -> Parts:
    train, validation, test = load_yin_yang(root, download=download)
    return Parts(train, test, 3, validation)


_LOADERS: dict[str, Callable[[Path, bool], Parts]] = {
    "mnist": _mnist,
    "fashion_mnist": _fashion_mnist,
    "cifar10": _cifar10,
    "mnist5k": _mnist5k,
    "digits": _digits,
    "yin_yang": _yin_yang,
}

NAMES = tuple(_LOADERS)
"""What `load` knows."""

TABLE_NAMES = ("iris", "wine", "breast_cancer")
"""What `load_table` knows."""


def load(
    name: str,
    root: str | os.PathLike[str] | None = None,
    *,
    split_seed: int = 0,
    download: bool = True,
    validation: float = 0.1,
    fallback: bool = False,
) -> Dataset:
    """Loads a data set; see datasets/README.md for the sources.

    ``mnist`` and ``fashion_mnist`` have the official 60,000 and 10,000 images of 28 by 28 pixels,
    ``mnist5k`` 4,000 and 1,000 of MNIST's, ``digits`` 1,438 and 359 of 8 by 8 pixels: uint8
    [n, 1, height, width], labels int64 [n]. ``cifar10`` has the official 50,000 and 10,000 color
    images: uint8 [n, 3, 32, 32]. ``yin_yang`` has float64 [n, 4] in published parts.

    Args:
        name: one of `NAMES`.
        root: the data root, else the environment variable SNN_DATA, else ``datasets``.
        split_seed: chooses the validation part; keep it fixed while the training seed varies, so
            that all runs choose by the same samples.
        download: fetch missing files through torchvision into the root.
        validation: share of the training set, in [0, 1), that becomes the validation part; 0
            leaves the whole training set. A published validation part stays as it is.
        fallback: where nothing of the official ``mnist`` is there and it cannot be fetched, give
            ``mnist5k``: standard output and the returned name say so. Other sets have no stand-in.

    Raises:
        DatasetMissingError: files are not there and could not be fetched.
        DatasetError: the name is unknown or a file is damaged or unreadable.
        ValueError: ``validation`` is out of range.

    """
    if not 0 <= validation < 1:
        raise ValueError(f"validation must be in [0, 1), not {validation}")
    if name not in _LOADERS:
        raise _unknown(name)
    try:
        parts = _LOADERS[name](data_root(root), download)
    except DatasetMissingError as error:
        if not (fallback and name == "mnist") or error.partial:
            raise
        name = "mnist5k"
        say_stand_in("MNIST", name, "5,000 of its 70,000 digits", error)
        parts = _LOADERS[name](data_root(root), download)
    train, held_out = parts.train, parts.validation
    if held_out is None:
        train, held_out = _hold_out(parts.train, validation, split_seed)
    found = Dataset(name, train, held_out, parts.test, parts.n_classes)
    for part in ("train", "validation", "test"):
        check_labels(getattr(found, part).labels, found.n_classes, f"{name}'s part {part}")
    return found


def load_table(name: str) -> Table:
    """Loads a small table, one of `TABLE_NAMES`, from the copy that scikit-learn ships.

    Raises:
        DatasetError: the name is unknown.

    """
    if name not in TABLE_NAMES:
        raise _unknown(name)
    return load_sklearn(name)


def _hold_out(whole: Split, share: float, seed: int) -> tuple[Split, Split]:
    """Cuts a random share out of a set; both parts keep the set's order."""
    chosen = held_out(len(whole), share, seed)
    if chosen.all():
        raise DatasetError(
            f"--validation {share} leaves none of {len(whole)} samples to train on: hold out less."
        )
    return (
        Split(whole.inputs[~chosen], whole.labels[~chosen]),
        Split(whole.inputs[chosen], whole.labels[chosen]),
    )


def _unknown(name: str) -> DatasetError:
    homes = {
        **dict.fromkeys(NAMES, "load"),
        **dict.fromkeys(TABLE_NAMES, "load_table"),
        "spike_set": "load_spike_set",
        "omniglot": "load_omniglot",
        "fsdd": "load_fsdd",
        "tidigits": "load_tidigits",
        "nettalk": "load_nettalk",
        "nmnist": "load_nmnist",
        "dvs_gesture": "load_dvs_gesture",
        "cifar10_dvs": "load_cifar10_dvs",
    }
    if name in homes:
        return DatasetError(f"{name} is a data set of another kind: use {homes[name]}.")
    close = difflib.get_close_matches(name.lower().replace("-", "_"), homes, n=1)
    hint = f", did you mean {close[0]}" if close else ""
    return DatasetError(f"no data set is called {name!r}{hint}: choose from {', '.join(homes)}.")
