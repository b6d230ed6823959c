"""Synthetic tasks of DRTP's paper: Frenkel, Lefebvre and Bol, arXiv 1909.01311.

    python brp_snn/synth_dataset_gen.py             writes both below DATASETS/
    python brp_snn/synth_dataset_gen.py --out DIR   below another folder

Each goes to <folder>/<task>/train.pt and test.pt, which `setup.SynthDataset` reads: a tuple of
(inputs, targets), the side of the square that the inputs make, the channels and the outputs.
`main.py` draws the same sets in memory.

Regression: 256 inputs of a sample are drawn from N(mu, 1), where mu ~ U(-pi, pi) is the sample's
own; with x the mean of its inputs, output i = 0 ... 9 is cos(x + pi (i - 4.5) / 9).
Classification: 10 classes in 5 clusters each, in 256 features of which 128 are informative
(scikit-learn's `make_classification`, class_sep 4.5, random_state 0).
"""

import shared.waiting

import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32
from numpy.typing import NDArray

from shared.errors import UserError, check_word
from shared.experiment import parse
from shared.options import script

FOLDER = Path("DATASETS")
SIDE = 16
N_OUTPUTS = 10
INFORMATIVE = 128
SEEDS = {"regression": 42, "classification": 0}
"""The regression's is ours: the published program draws it without a seed."""
SIZES = {"regression": (5_000, 1_000), "classification": (25_000, 5_000)}


class Synthetic(NamedTuple):
    """A synthetic set.

    Attributes:
        train_inputs, test_inputs: float32 [n, side * side].
        train_targets, test_targets: float32 [n, outputs], values in [-1, 1] or one-hot classes.
    """

    train_inputs: Float32[np.ndarray, "train inputs"]
    train_targets: Float32[np.ndarray, "train outputs"]
    test_inputs: Float32[np.ndarray, "test inputs"]
    test_targets: Float32[np.ndarray, "test outputs"]


def generate(task: str) -> Synthetic:
    """Draw one of the sets of `SIZES`, as published.

    Raises:
        ValueError: there is no such task.
    """
    check_word("synthetic task", task, SIZES)
    if task == "regression":
        return draw_regression(*SIZES[task], N_OUTPUTS, SIDE)
    return draw_classification(*SIZES[task], N_OUTPUTS, SIDE, INFORMATIVE)


def draw_regression(
    n_train: int, n_test: int, n_outputs: int, side: int, seed: int = SEEDS["regression"]
) -> Synthetic:
    """The regression; see the top of this file.

    Args:
        n_train: samples to train on.
        n_test: samples to test on.
        n_outputs: outputs.
        side: square root of the number of inputs.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    means = rng.uniform(-math.pi, math.pi, (n_train + n_test, 1))
    inputs = rng.normal(means, 1, (len(means), side**2))
    phases = math.pi * (np.arange(n_outputs) - 4.5) / 9
    return _parted(inputs, np.cos(inputs.mean(1, keepdims=True) + phases), n_train)


def draw_classification(
    n_train: int,
    n_test: int,
    n_classes: int,
    side: int,
    informative: int,
    clusters: int = 5,
    class_sep: float = 4.5,
    seed: int = SEEDS["classification"],
) -> Synthetic:
    """The classes; see the top of this file.

    Args:
        n_train: samples to train on.
        n_test: samples to test on.
        n_classes: classes.
        side: square root of the number of inputs.
        informative: inputs that tell something of the class; the others are noise.
        clusters: clusters per class.
        class_sep: half the side of the hypercube on whose corners the clusters lie.
        seed: of the draw.
    """
    # Here, since it takes a second of every start.
    from sklearn.datasets import make_classification

    inputs, labels = make_classification(
        n_samples=n_train + n_test,
        n_features=side**2,
        n_informative=informative,
        n_redundant=0,
        n_repeated=0,
        n_classes=n_classes,
        n_clusters_per_class=clusters,
        class_sep=class_sep,
        random_state=seed,
    )
    return _parted(inputs, np.eye(n_classes)[labels], n_train)


def _parted(inputs: NDArray[np.float64], targets: NDArray[np.float64], n: int) -> Synthetic:
    x, y = (part.astype(np.float32) for part in (inputs, targets))
    return Synthetic(x[:n], y[:n], x[n:], y[n:])


def gen_regression(
    n_train: int, n_test: int, n_classes: int, input_size_sqrt: int, folder: Path = FOLDER
) -> None:
    """Draw the regression and write it; arguments as in `draw_regression`, of the published names.

    Raises:
        UserError: it cannot be written.
    """
    made = draw_regression(n_train, n_test, n_classes, input_size_sqrt)
    _write(made, folder / "regression", torch.from_numpy)


def gen_classification(
    n_train: int,
    n_test: int,
    n_classes: int,
    n_pix_sqrt: int,
    n_inf: int,
    n_clusters_per_class: int = 5,
    class_sep: float = 4.5,
    random_state: int = SEEDS["classification"],
    folder: Path = FOLDER,
) -> None:
    """Draw the classes and write them; arguments as in `draw_classification`, as published.

    Raises:
        UserError: they cannot be written.
    """
    made = draw_classification(
        n_train, n_test, n_classes, n_pix_sqrt, n_inf, n_clusters_per_class, class_sep, random_state
    )
    _write(made, folder / "classification", lambda one_hot: torch.from_numpy(one_hot.argmax(1)))


def _write(made: Synthetic, folder: Path, as_targets: Any) -> None:
    side, outputs = math.isqrt(made.train_inputs.shape[1]), made.train_targets.shape[1]
    for part in ("train", "test"):
        inputs, targets = (getattr(made, f"{part}_{what}") for what in ("inputs", "targets"))
        content = ((torch.from_numpy(inputs), as_targets(targets)), side, 1, outputs)
        _save(content, folder / f"{part}.pt")


def _save(content: object, path: Path) -> None:
    """Write a file, whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save(content, file)
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise UserError(f"--out {path} cannot be written: {error.strerror or error}") from error


@dataclass(frozen=True)
class Options:
    """The options."""

    out: Path = FOLDER
    """Folder that the sets are written to."""


def main() -> None:
    """Write both sets."""
    folder = parse(Options, __doc__).out
    gen_regression(*SIZES["regression"], N_OUTPUTS, SIDE, folder)
    gen_classification(*SIZES["classification"], N_OUTPUTS, SIDE, INFORMATIVE, folder=folder)
    for task, (n_train, n_test) in SIZES.items():
        print(f"{folder / task}: {n_train} + {n_test} samples")


if __name__ == "__main__":
    script(main)
