"""Synthetic tasks of DRTP's paper, to run or to save.

    python brp_snn/synth_dataset_gen.py classification --out classification.npz

Regression: 256 inputs of a sample are drawn from N(mu, 1), where mu ~ U(-pi, pi) is the sample's
own; with x the mean of its inputs, output i = 0 ... 9 is cos(x + pi (i - 4.5) / 9).
Classification: 10 classes in 5 clusters each, in 256 features of which 128 are informative
(scikit-learn's `make_classification`, class_sep 4.5).
"""

import argparse
import math
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray
from sklearn.datasets import make_classification

from shared.device import check_seed
from shared.errors import UserError
from shared.options import script

N_INPUTS = 256
N_OUTPUTS = 10
SEED = 42
SIZES = {"regression": (5_000, 1_000), "classification": (25_000, 5_000)}


class Synthetic(NamedTuple):
    """A synthetic set.

    Attributes:
        train_inputs, test_inputs: float32 [n, 256].
        train_targets, test_targets: float32 [n, 10], values in [-1, 1] or one-hot classes.
    """

    train_inputs: Float32[NDArray[np.float32], "train inputs"]
    train_targets: Float32[NDArray[np.float32], "train outputs"]
    test_inputs: Float32[NDArray[np.float32], "test inputs"]
    test_targets: Float32[NDArray[np.float32], "test outputs"]


def generate(task: str, seed: int = SEED) -> Synthetic:
    """Draw one of the sets of `SIZES`.

    Raises:
        KeyError: there is no such task.
    """
    n_train, n_test = SIZES[task]
    draw = _regression if task == "regression" else _classification
    inputs, targets = (part.astype(np.float32) for part in draw(n_train + n_test, seed))
    return Synthetic(inputs[:n_train], targets[:n_train], inputs[n_train:], targets[n_train:])


def _regression(n: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    means = rng.uniform(-math.pi, math.pi, (n, 1))
    inputs = rng.normal(means, 1, (n, N_INPUTS))
    phases = math.pi * (np.arange(N_OUTPUTS) - 4.5) / 9
    return inputs, np.cos(inputs.mean(1, keepdims=True) + phases)


def _classification(n: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    inputs, labels = make_classification(
        n_samples=n,
        n_features=N_INPUTS,
        n_informative=128,
        n_classes=N_OUTPUTS,
        n_clusters_per_class=5,
        class_sep=4.5,
        random_state=seed,
    )
    return inputs, np.eye(N_OUTPUTS)[labels]


def save(made: Synthetic, path: Path) -> None:
    """Write a set as .npz, whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.savez_compressed(file, **made._asdict())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise UserError(f"--out {path} cannot be written: {error.strerror or error}") from error


def main() -> None:
    """Save a set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=tuple(SIZES))
    parser.add_argument("--seed", type=int, default=SEED, help=f"(default: {SEED})")
    parser.add_argument("--out", type=Path, required=True, help="a file, .npz")
    args = parser.parse_args()
    check_seed(args.seed)
    made = generate(args.task, args.seed)
    save(made, args.out)
    print(f"{args.out}: {len(made.train_inputs)} + {len(made.test_inputs)} samples")


if __name__ == "__main__":
    script(main)
