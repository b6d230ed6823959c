"""Noise on images, and MNIST under noise as files.

    python brp_snn/lisnn/noise_data.py                                  Gaussian noise of mean 0
    python brp_snn/lisnn/noise_data.py --noise salt_pepper --noise-level 0.1 0.2

writes a folder for each level, such as gaussian_mean0 or salt_pepper_amount0.1: of either part of
MNIST the images (one row of 784 numbers from 0 to 255 per image) and labels as .csv, and the first
image of each class as a picture.

    gaussian       normal noise of mean `level` and variance 0.01 is added, and the sum clipped to
                   [0, 1]
    salt_pepper    a share `level` of the pixels becomes white or black, each with probability 1/2

A set of images gets its noise once, from seed 3154, before training: an image looks the same in
every epoch. Noise is scikit-image's `random_noise`.
"""

import shared.waiting

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Int, UInt8
from matplotlib.figure import Figure
from numpy.typing import NDArray
from skimage.util import random_noise

from shared import datasets
from shared.errors import UserError
from shared.experiment import parse
from shared.options import script

Noise = Literal["gaussian", "salt_pepper"]
KINDS: tuple[Noise, ...] = get_args(Noise)
LEVELS = {"gaussian": "mean", "salt_pepper": "amount"}
"""What the level of a kind of noise is."""
SEED = 3154
VARIANCE = 0.01
QUICK_SAMPLES = 100


def check_level(kind: str, level: float) -> None:
    """Refuse a kind or level of noise that there is not.

    Raises:
        UserError: the kind is unknown, a mean is infinite, or an amount does not lie in [0, 1].
    """
    if kind not in KINDS:
        raise UserError(f"no noise is called {kind!r}: choose from {', '.join(KINDS)}")
    if kind == "gaussian" and not math.isfinite(level):
        raise UserError(f"--noise-level {level}: the mean of gaussian noise must be finite")
    if kind == "salt_pepper" and not 0 <= level <= 1:
        raise UserError(f"--noise-level {level}: an amount of salt and pepper must lie in [0, 1]")


def noisy(
    images: UInt8[np.ndarray, "*shape"], kind: str, level: float
) -> UInt8[np.ndarray, "*shape"]:
    """Images under noise, the same in every call; see the top of this file.

    Args:
        images: intensities from 0 to 255.
        kind: one of `KINDS`.
        level: mean or amount.

    Returns:
        Intensities; fractions are cut off.

    Raises:
        UserError: the kind is unknown or its level out of range.
    """
    check_level(kind, level)
    if kind == "gaussian":
        found = random_noise(images, "gaussian", rng=SEED, mean=level, var=VARIANCE)
    else:
        found = random_noise(images, "s&p", rng=SEED, amount=level)
    pixels: NDArray[np.uint8] = (found * 255).astype(np.uint8)
    return pixels


def load_mnist(
    path: str | Path, kind: str = "train"
) -> tuple[UInt8[np.ndarray, "n 784"], Int[np.ndarray, " n"]]:
    """Images and labels of a part of MNIST, from unpacked files.

    Args:
        path: folder of `{kind}-images-idx3-ubyte` and `{kind}-labels-idx1-ubyte`.
        kind: what the files' names begin with: "train", and "t10k" or, renamed, "test".

    Raises:
        UserError: a file cannot be read, or holds something else.
    """
    images, labels = (
        _parsed(Path(path) / f"{kind}-{what}-idx{ndim}-ubyte", ndim)
        for what, ndim in (("images", 3), ("labels", 1))
    )
    if len(images) != len(labels):
        raise UserError(f"{path} has {len(images)} images, but {len(labels)} labels, of {kind!r}")
    return images.reshape(len(images), -1), labels


def _parsed(path: Path, ndim: int) -> NDArray[np.uint8]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    return datasets.parse_idx(content, f"{path}", ndim=ndim)


def write(
    folder: Path, part: str, images: UInt8[np.ndarray, "n pixels"], labels: NDArray[np.int64]
) -> None:
    """Write a part's images, labels and picture.

    Raises:
        UserError: a file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        np.savetxt(folder / f"{part}_images.csv", images, fmt="%i", delimiter=",")
        np.savetxt(folder / f"{part}_labels.csv", labels, fmt="%i", delimiter=",")
        figure = draw(images, labels)
        figure.savefig(folder / f"{part}.png")
        plt.close(figure)
    except OSError as error:
        raise UserError(f"--out {folder} cannot be written: {error.strerror or error}") from error


def draw(images: UInt8[np.ndarray, "n pixels"], labels: Int[np.ndarray, " n"]) -> Figure:
    """The first image of each class."""
    side = math.isqrt(images.shape[1])
    figure, axes = plt.subplots(2, 5, sharex=True, sharey=True, layout="constrained")
    for label, panel in enumerate(axes.flat):
        chosen = images[labels == label][:1].reshape(-1, side)
        panel.imshow(chosen, cmap="Greys", interpolation="nearest")
        panel.set(xticks=[], yticks=[])
    return figure


@dataclass(frozen=True)
class Options:
    """The options."""

    noise: Noise = "gaussian"
    """Kind of noise."""
    noise_level: tuple[float, ...] = (0.0,)
    """Means of gaussian noise, white being 1, or amounts of salt and pepper."""
    data_root: Path | None = None
    """Folder of the data sets, as in train.py."""
    out: Path = Path(".")
    """Folder that the files are written to."""
    quick: bool = False
    """The first images only."""


def main() -> None:
    """Write the files."""
    options = parse(Options, __doc__)
    for level in options.noise_level:
        check_level(options.noise, level)
    data = datasets.load("mnist", options.data_root, validation=0, fallback=True)
    data = data.first(QUICK_SAMPLES) if options.quick else data
    for level in options.noise_level:
        folder = options.out / f"{options.noise}_{LEVELS[options.noise]}{level:g}"
        for part in ("train", "test"):
            split = getattr(data, part)
            images = split.inputs.reshape(len(split), -1)
            write(folder, part, noisy(images, options.noise, level), split.labels)
        print(folder)


if __name__ == "__main__":
    script(main)
