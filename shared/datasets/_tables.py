"""Small sets of real-valued samples: tables of scikit-learn, and Yin-Yang."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from shared.datasets._files import Archive, read
from shared.datasets._types import DatasetError, Split, Table

_Scalar = TypeVar("_Scalar", bound=np.generic)

YIN_YANG = Archive(
    title="Yin-Yang",
    folder="yin_yang/publication_data",
    files={
        "train_samples.npy": "88ce43d8e7620b4dcd0712a582882325e609183eb71f2368cce8e87930e122d5",
        "train_labels.npy": "d38863599b41c3d67d5e606b21c3ea10f7956758471e946adcb120c4e5ae31c9",
        "validation_samples.npy": (
            "88f7e23daf578da390fe3ca10370d38fdb6060a08249ecb1be832e3e6cce75d3"
        ),
        "validation_labels.npy": (
            "abd956deb8e62f528a271d323c7498e6d331cd261f143b539b1219d274936008"
        ),
        "test_samples.npy": "1559e64b45a5e28df8a9d1158d891383d5745b0af2edbbca31ca4e2faeb95b4c",
        "test_labels.npy": "b4337aa983ea3928d1d8ee78268e8e266ede6ca3a401ade7b02eb47c9d90be93",
    },
    mirrors=(
        "https://raw.githubusercontent.com/lkriener/yin_yang_data_set/HEAD/publication_data/",
    ),
)


def load_yin_yang(root: Path, *, download: bool) -> tuple[Split, Split, Split]:
    """Training, validation and test part as published (5,000, 1,000 and 1,000 samples).

    A sample is (x, y, 1 - x, 1 - y), float64 in [0, 1]; the classes are yin, yang and dot.
    Source: Kriener, Goeltz and Petrovici, arXiv 2102.08211.

    Raises:
        DatasetError: a file cannot be had, is damaged, or is no such array.

    """
    contents = read(YIN_YANG, root, download=download)

    def part(name: str) -> Split:
        samples = _parse_npy(contents, f"{name}_samples.npy", np.float64, ndim=2)
        labels = _parse_npy(contents, f"{name}_labels.npy", np.int64, ndim=1)
        if len(samples) != len(labels):
            raise DatasetError(f"Yin-Yang has {len(samples)} {name} samples, {len(labels)} labels.")
        return Split(samples, labels)

    return part("train"), part("validation"), part("test")


def _parse_npy(
    contents: dict[str, bytes], name: str, dtype: type[_Scalar], *, ndim: int
) -> NDArray[_Scalar]:
    try:
        # Objects in an .npy file are pickles, and a pickle may run anything.
        array: NDArray[_Scalar] = np.load(io.BytesIO(contents[name]), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DatasetError(f"{name} is not a plain NumPy array: {error}.") from error
    if array.dtype != dtype or array.ndim != ndim:
        raise DatasetError(
            f"{name} holds {array.dtype} in {array.ndim} dimensions, "
            f"not {np.dtype(dtype)} in {ndim}."
        )
    return array


def load_sklearn(name: str) -> Table:
    """A table that scikit-learn ships: ``iris``, ``wine`` or ``breast_cancer``."""
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    return Table(
        name,
        np.asarray(bunch.data, np.float64),
        np.asarray(bunch.target, np.int64),
        tuple(str(label) for label in bunch.target_names),
    )


def folds(
    n: int, n_folds: int = 5, seed: int = 0
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Indices for cross-validation: a permutation cut into ``n_folds`` parts as equal as can be.

    Args:
        n: number of samples.
        n_folds: number of parts, from 2 to ``n``.
        seed: of the permutation.

    Returns:
        For each part the indices of all others, to train on, and its own, to test on: int64, in
        the permutation's order.

    Raises:
        ValueError: ``n_folds`` is out of range.

    """
    if not 2 <= n_folds <= n:
        raise ValueError(f"n_folds must be between 2 and {n}, not {n_folds}")
    parts = np.array_split(np.random.default_rng(seed).permutation(n), n_folds)
    return [
        (np.concatenate(parts[:fold] + parts[fold + 1 :]), parts[fold]) for fold in range(n_folds)
    ]


def held_out(n: int, share: float, seed: int) -> NDArray[np.bool_]:
    """Which of n samples a random share is, bool [n]."""
    chosen = np.zeros(n, bool)
    chosen[np.random.default_rng(seed).permutation(n)[: round(share * n)]] = True
    return chosen
