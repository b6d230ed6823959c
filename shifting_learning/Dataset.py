"""Coding and preprocessing of shifting learning: from the arrays of `shared.datasets` to codes.

The published program's loaders are at the end.

A brighter pixel or larger feature fires earlier: an intensity x in [0, 1] has the spike time 1 - x
and the code z = exp(1 - x).
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Shaped, UInt8
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from shared import datasets
from shared.datasets import Table, data_root, load_table
from shared.errors import UserError, check_word

Preprocess = Literal["none", "canny", "binary", "cut"]
Scaling = Literal["global", "feature"]

TABLE_SHIFT = 0.01
"""What the published scaling of tables adds after min-max; intensities then end at 1.01."""

CUT_TIMES = (0.01, 2.3)
"""Spike times of pixels brighter than 0.5 and of all others, where images are cut."""

TARGET_TIMES = (0.01, 0.99)
"""Target spike times of the right class and of the others."""

WINE_QUALITY_COLUMNS = 12
"""Eleven measurements and the grade."""


def code(x: Shaped[Tensor, "*shape"] | NDArray[Any]) -> Float[Tensor, "*shape"]:
    """Spike codes of intensities, z = exp(1 - x).

    Args:
        x: intensities in [0, 1], or up to 1.01 as the published scaling of tables leaves them.

    Returns:
        Codes in the shape of `x`, in its type where that is a float, else float32.

    Raises:
        ValueError: an intensity is NaN or out of range.
    """
    x = torch.as_tensor(x)
    if not x.is_floating_point():
        x = x.float()
    if x.isnan().any():
        raise ValueError("an intensity is NaN: check the data")
    # A hair more than 1.01: scaling in float32 rounds.
    if x.numel() and not (x.min() >= 0 and x.max() <= 1 + TABLE_SHIFT + 1e-6):
        raise ValueError(
            f"intensities must lie in [0, 1], not between {x.min():g} and {x.max():g}: "
            "scale the data first"
        )
    return torch.exp(1 - x)


def cut_codes(x: Shaped[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Codes of images cut at 0.5, bright pixels early, at the times that published programs have.

    Those code the times once more, see `published_test_codes`; this order is ours.

    Args:
        x: intensities in [0, 1].

    Returns:
        exp(0.01) where x is above 0.5, exp(2.3) elsewhere, in the type of `x`.
    """
    return _cut_times(x).exp()


def published_test_codes(x: Shaped[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Codes with which the published program tests on MNIST.

    It cuts pixels at 0.5 to the times 0.01 and 2.3 and then codes these times as if they were
    intensities. Bright pixels come late, at exp(0.99), dark ones early, at exp(-1.3): the
    contrary of what the network was trained on. Its decision is the argmax of the softmax of the
    output codes, the latest spike. The authors' older program trains and tests with these codes,
    and decides for the earliest spike.

    Args:
        x: intensities in [0, 1].

    Returns:
        Codes in the type and shape of `x`.
    """
    return (1 - _cut_times(x)).exp()


def _cut_times(x: Tensor) -> Tensor:
    bright, dark = (torch.full_like(x, time) for time in CUT_TIMES)
    return torch.where(x > 0.5, bright, dark)


def with_reference(z: Float[Tensor, "*batch n_in"]) -> Float[Tensor, "*batch n_in_plus_1"]:
    """Codes with one input more, a reference spike at time 0 (code 1).

    A neuron's code u = sum s z / (S - 1) grows in proportion to its inputs' codes, so that a
    network without a constant input (a digit has one in its black pixels) can only compare codes by
    their ratios. The reference gives it an offset. It is ours, not the paper's.

    Args:
        z: codes, shape [..., n_in].

    Returns:
        Codes of the same type, shape [..., n_in + 1]; the reference is last.
    """
    return torch.cat([z, torch.ones_like(z[..., :1])], dim=-1)


def target_codes(
    labels: Int[Tensor, "*shape"] | NDArray[np.integer[Any]],
    n_classes: int,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "*shape n_classes"]:
    """Target codes: exp(0.01) for the right class, exp(0.99) for the others.

    Args:
        labels: classes from 0 to n_classes - 1, any shape.
        n_classes: number of output neurons.
        dtype: type of the codes.

    Returns:
        Codes, the shape of `labels` and one more dimension of n_classes.

    Raises:
        ValueError: a label is out of range.
    """
    labels = torch.as_tensor(labels).to(torch.int64)
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < n_classes:
        raise ValueError(f"labels must lie between 0 and {n_classes - 1}")
    right, others = TARGET_TIMES
    is_right = labels[..., None] == torch.arange(n_classes, device=labels.device)
    # Times made in the type asked for: 0.01 rounded to float32 is wrong in the ninth digit.
    times = torch.full(is_right.shape, others, dtype=dtype, device=labels.device)
    return times.masked_fill_(is_right, right).exp()


def image_intensities(
    images: UInt8[np.ndarray, "n 1 h w"], preprocess: Preprocess = "none"
) -> Float32[np.ndarray, "n pixels"]:
    """Intensities of gray images, a row per image.

    Args:
        images: uint8, shape [n, 1, height, width].
        preprocess: "none": pixel / 255. "canny": 1 on the edges that scikit-image's Canny detector
            finds with sigma 0.5, else 0 (about 0.2 ms per image). "binary": 1 where the pixel is
            brighter than 0.5, else 0. "cut": the same, to be coded by `cut_codes`.

    Returns:
        Intensities in [0, 1], float32, shape [n, height * width].

    Raises:
        ValueError: the images are no such array, or the preprocessing is unknown.
    """
    check_word("preprocess", preprocess, get_args(Preprocess))
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != 1:
        raise ValueError(
            "images must be uint8 of shape [n, 1, height, width], "
            f"not {images.dtype} of shape {list(images.shape)}"
        )
    intensities: NDArray[np.float32] = np.divide(images[:, 0], 255, dtype=np.float32)
    if preprocess in ("binary", "cut"):
        intensities = (intensities > 0.5).astype(np.float32)
    elif preprocess == "canny":
        intensities = _edges(intensities)
    return intensities.reshape(len(images), images.shape[2] * images.shape[3])


def _edges(intensities: Float32[np.ndarray, "n h w"]) -> Float32[np.ndarray, "n h w"]:
    # Imported late: only this preprocessing needs scikit-image, and its import takes a second.
    from skimage import feature

    canny: Callable[..., NDArray[np.bool_]] = feature.canny
    edges = np.empty_like(intensities)
    for image, found in zip(intensities, edges, strict=True):
        found[:] = canny(image, sigma=0.5)
    return edges


def table_intensities(
    x: Shaped[np.ndarray, "n features"],
    scaling: Scaling = "global",
    scaled_by: NDArray[np.bool_] | None = None,
) -> Float[np.ndarray, "n features"]:
    """Intensities of a table: min-max scaling to [0, 1], plus 0.01.

    Args:
        x: samples, shape [n, features], in units of their own.
        scaling: "global": minimum and maximum are those of the whole array (published; for
            features of one unit, such as Iris's). "feature": those of each column (for features of
            different units, such as wine's). A column without any difference becomes 0.01.
        scaled_by: samples that minimum and maximum are taken of, bool [n]; what lies outside of
            them is clipped. Default: all, as published.

    Returns:
        Intensities in [0.01, 1.01], float64, shape [n, features].

    Raises:
        ValueError: the array is empty, not two-dimensional or not finite, or the scaling is
            unknown.
    """
    check_word("scaling", scaling, get_args(Scaling))
    x = np.asarray(x, np.float64)
    if x.ndim != 2 or not x.size:
        raise ValueError(f"a table must have shape [n, features], not {list(x.shape)}")
    if not np.isfinite(x).all():
        raise ValueError("a table must hold finite numbers only: check the data")
    axis = None if scaling == "global" else 0
    known = x if scaled_by is None else x[scaled_by]
    low = known.min(axis=axis)
    extent = known.max(axis=axis) - low
    scaled: NDArray[np.float64] = (x - low) / np.where(extent > 0, extent, 1.0)
    return scaled.clip(0, 1) + TABLE_SHIFT


def load_wine_quality(root: Path | None = None) -> Table:
    """Wine quality (Cortez et al. 2009): eleven measurements of a wine, its quality as the class.

    Args:
        root: the data root; the files lie in its folder wine_quality, as the UCI Machine Learning
            Repository gives them. Red wines, white ones, or both are read, whichever are there.

    Returns:
        The table; classes are the grades that occur, in ascending order.

    Raises:
        UserError: no file is there, or one is not as published.
    """
    folder = data_root(root) / "wine_quality"
    paths = [folder / f"winequality-{kind}.csv" for kind in ("red", "white")]
    there = [path for path in paths if path.exists()]
    if not there:
        raise UserError(
            f"wine quality was looked for in {paths[0]}: get winequality-red.csv from the UCI "
            "Machine Learning Repository (data set 186) and put it there"
        )
    rows = []
    for path in there:
        try:
            rows.append(np.loadtxt(path, delimiter=";", skiprows=1, ndmin=2))
        except ValueError as error:
            raise UserError(f"{path} is no table of numbers divided by semicolons") from error
        if rows[-1].shape[1] != WINE_QUALITY_COLUMNS:
            raise UserError(f"{path} has {rows[-1].shape[1]} columns, not {WINE_QUALITY_COLUMNS}")
    values = np.concatenate(rows)
    grades, labels = np.unique(values[:, -1].astype(np.int64), return_inverse=True)
    return Table(
        "wine_quality", values[:, :-1], labels.astype(np.int64), tuple(f"grade {g}" for g in grades)
    )


# ---------------------------------------------------------------------------- published loaders


def iris_loader() -> tuple[Float[Tensor, "150 4"], Float[Tensor, "150 3"]]:
    """Iris as the published program loads it, in a random order from torch's random state.

    Returns:
        Intensities of the features, min-max over the whole table plus 0.01, float64 [150, 4]; and
        of the targets, 0.99 for the right class and 0.01 for the others, float32 [150, 3].
    """
    table = load_table("iris")
    order = torch.randperm(len(table.labels))
    x = torch.from_numpy(table_intensities(table.inputs))[order]
    y = torch.full((len(x), len(table.class_names)), 0.01)
    y[torch.arange(len(x)), torch.from_numpy(table.labels)[order]] = 0.99
    return x, y


class ImageLoader:
    """Iterates over one batch: all images of a part of a set, read when the iteration begins.

    Args:
        name: "mnist" or "fashion_mnist".
        part: "train" or "test".
        shuffle: whether in a random order, from torch's random state.

    Raises:
        ValueError: the part is neither.
    """

    def __init__(self, name: str, part: str, *, shuffle: bool) -> None:
        check_word("part", part, ("train", "test"))
        self._name = name
        self._part = part
        self._shuffle = shuffle

    def __iter__(self) -> Iterator[tuple[Float[Tensor, "n 1 h w"], Int[Tensor, " n"]]]:
        """Intensities in [0, 1], float32 [n, 1, height, width], and labels, int64 [n]."""
        split = getattr(datasets.load(self._name, validation=0.0), self._part)
        n = len(split.labels)
        order = torch.randperm(n) if self._shuffle else torch.arange(n)
        images = torch.from_numpy(split.inputs)[order].float() / 255
        yield images, torch.from_numpy(split.labels)[order]

    def __len__(self) -> int:
        return 1


mnist_train_loader = ImageLoader("mnist", "train", shuffle=True)
mnist_test_loader = ImageLoader("mnist", "test", shuffle=False)
fashion_mnist_train_loader = ImageLoader("fashion_mnist", "train", shuffle=True)
fashion_mnist_test_loader = ImageLoader("fashion_mnist", "test", shuffle=False)


def _edges_of(loader: ImageLoader) -> tuple[Float[Tensor, "n 1 h w"], Int[Tensor, " n"]]:
    images, labels = next(iter(loader))
    return torch.from_numpy(_edges(images[:, 0].numpy()))[:, None], labels


def mnist_train_border_detection() -> tuple[Float[Tensor, "n 1 h w"], Int[Tensor, " n"]]:
    """Edges of MNIST's training images by Canny's detector, and their labels."""
    return _edges_of(mnist_train_loader)


def mnist_test_border_detection() -> tuple[Float[Tensor, "n 1 h w"], Int[Tensor, " n"]]:
    """Edges of MNIST's test images by Canny's detector, and their labels."""
    return _edges_of(mnist_test_loader)


def MNIST_show(data_set: str = "mnist", show_part: str = "train") -> Figure:
    """The first 25 images of a part, as an interactive session shows them.

    Args:
        data_set: "mnist" or "fashion_mnist".
        show_part: "train" or "test".
    """
    images, labels = next(iter(ImageLoader(data_set, show_part, shuffle=False)))
    figure, panels = plt.subplots(5, 5, figsize=(5, 5.6), layout="constrained")
    for axes, image, label in zip(panels.flat, images[:, 0].numpy(), labels.tolist(), strict=False):
        axes.imshow(image, cmap="gray")
        axes.set_title(label, fontsize=7)
        axes.axis("off")
    return figure
