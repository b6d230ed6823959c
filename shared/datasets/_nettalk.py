"""NETtalk: letters of English words in their context, and how each is pronounced.

Source: Sejnowski and Rosenberg, Complex Systems 1 (1987), corpus (C) 1988 Terrence J. Sejnowski,
for non-commercial research only: it is read from a path, and never part of this project.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.datasets._files import Archive, data_root, fetch, is_there, read_bytes, read_checked
from shared.datasets._types import DatasetError

# The second file has the same samples, and numbers of their codes besides.
NETTALK = Archive(
    title="NETtalk",
    folder="nettalk",
    files={
        "nettalk_small.mat": "5819ff5f98de082440432414dcbd1ee4efe07959d258eb79a2b7e5b41acb828c",
        "nettalk_small.2020.mat": (
            "2f8859765896e979a41a72e88741486c918fe5a37d3c90fe3443fd8a211bf886"
        ),
    },
)

WINDOW = 7
SYMBOLS = 27
BITS = 26


@dataclass(frozen=True, eq=False)
class Nettalk:
    """Letters with three neighbours on each side, and the code of what is to be said.

    A sample is a letter, not a word. The published file has all 5,533 letters of the 1,000 words of
    the corpus' list of common ones, 17 of which are there with two pronunciations. The 500 letters
    to test on are drawn from the letters one by one: their words are not held out, and 85 of their
    windows are in the training part too, 75 of them with the same target.

    Attributes:
        train_inputs, test_inputs: uint8 [n, 189], 0 or 1: seven letters of 27 bits each, of which
            one is set, for a to z or (the last) for the blank beyond a word. The letter to be said
            is the fourth.
        train_targets, test_targets: uint8 [n, 26], 0 or 1: bits 0 to 20 are the phoneme's
            articulatory features (19 and 20 are never set), of bits 21 to 25 one is set, for the
            corpus' symbols < and > (syllable boundaries), 0, 1 and 2 (stress). The phonemes J and G
            have the same features.
        codes: the distinct targets of both parts in lexicographic order, uint8 [k, 26]; 116 in the
            published file, all of which are in its training part.

    """

    train_inputs: NDArray[np.uint8]
    train_targets: NDArray[np.uint8]
    test_inputs: NDArray[np.uint8]
    test_targets: NDArray[np.uint8]
    codes: NDArray[np.uint8]


def load_nettalk(
    path: str | os.PathLike[str] | None = None,
    *,
    root: str | os.PathLike[str] | None = None,
) -> Nettalk:
    """Reads ``nettalk_small.mat``, or ``nettalk_small.2020.mat``, which has the same samples.

    Args:
        path: a file in the format of these, which is not checked against a checksum, or a folder
            that holds one of them. None means the folder ``nettalk`` of the data root.
        root: the data root, else the environment variable SNN_DATA, else ``datasets``.

    Raises:
        DatasetMissingError: the folder ``nettalk`` has neither file (no download is offered).
        DatasetError: the file is damaged, unreadable or in another format.

    """
    if path is None:
        folder = data_root(root) / NETTALK.folder
    else:
        folder = Path(os.path.expanduser(path))
        if not folder.is_dir():
            return _parse(read_bytes(folder), f"{folder}")
    for name, published in NETTALK.files.items():
        if is_there(folder / name):
            content = read_checked(NETTALK, folder / name, published)
            return _parse(content, f"{folder / name}")
    if path is None:
        fetch(NETTALK, data_root(root), list(NETTALK.files), download=True)
    raise DatasetError(f"{folder} holds none of {', '.join(NETTALK.files)}: put one of them there.")


def _parse(content: bytes, name: str) -> Nettalk:
    from scipy.io import loadmat

    keys = ["train_x", "train_y", "test_x", "test_y"]
    try:
        # The variables are named so that nothing else in the file is decoded.
        variables = loadmat(io.BytesIO(content), variable_names=keys)
    except Exception as error:  # a file of another kind fails in too many ways to list
        raise DatasetError(
            f"{name} is not a MATLAB 5 file ({error}): put nettalk_small.mat in its place."
        ) from error
    missing = [key for key in keys if key not in variables]
    if missing:
        raise DatasetError(
            f"{name} lacks {', '.join(missing)}: put nettalk_small.mat in its place."
        )
    for part in ("train", "test"):
        _check(variables, part, name)
    train_x, train_y, test_x, test_y = (variables[key] for key in keys)
    codes = np.unique(np.concatenate([train_y, test_y]), axis=0)
    return Nettalk(train_x, train_y, test_x, test_y, codes)


def _check(variables: dict[str, NDArray[Any]], part: str, name: str) -> None:
    """Refuses a part whose arrays are not [n, 189] and [n, 26] bits, a letter a position."""
    inputs, targets = variables[f"{part}_x"], variables[f"{part}_y"]
    for key, array, width in (
        (f"{part}_x", inputs, WINDOW * SYMBOLS),
        (f"{part}_y", targets, BITS),
    ):
        right = array.dtype == np.uint8 and array.ndim == 2 and array.shape[1] == width
        if not right or not len(array) or array.max() > 1:
            raise DatasetError(
                f"{name} has {key} of {array.dtype} {array.shape}, not of uint8 (samples, {width}) "
                "zeros and ones: put nettalk_small.mat in its place."
            )
    if len(inputs) != len(targets):
        raise DatasetError(
            f"{name} has {len(inputs)} {part} samples, but {len(targets)} targets: put "
            "nettalk_small.mat in its place."
        )
    if (inputs.reshape(-1, WINDOW, SYMBOLS).sum(2) != 1).any():
        raise DatasetError(
            f"{name} has {part} samples that are not {WINDOW} letters of {SYMBOLS} bits with one "
            "set each: put nettalk_small.mat in its place."
        )
