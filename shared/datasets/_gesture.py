"""DVS Gesture: 11 gestures in front of an event camera, as recordings and as frames.

Source: Amir et al., CVPR 2017, doi 10.1109/CVPR.2017.781.
"""

from __future__ import annotations

import io
import os
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.datasets._events import (
    EventPart,
    Events,
    EventSet,
    File,
    Recordings,
    checked,
    cut,
    decode_events,
    part_of,
)
from shared.datasets._files import data_root, is_there, names_below, probe, read_bytes
from shared.datasets._types import DatasetError, DatasetMissingError, check_labels

SIDE, CLASSES = 128, 11
# Recordings in tonic's archives: one of each gesture in a trial, which one trial lacks.
COUNTS = {"Train": 1077, "Test": 264}
NAME = re.compile(r"user\d+_[^/]*/(\d+)\.npy")
MILLISECOND = 1000  # microseconds
MAT, FRAME = "DVS_gesture_100.mat", 32


def load_dvs_gesture(
    root: str | os.PathLike[str] | None = None,
    *,
    download: bool = True,
    validation: float = 0.1,
    split_seed: int = 0,
) -> EventSet:
    """Loads DVS Gesture, 11 gestures in front of an event camera of 128 x 128 pixels.

    Below ``DVSGesture`` of the data root lie the folders ibmGestureTrain and ibmGestureTest, or the
    archives ibmGestureTrain.tar.gz and ibmGestureTest.tar.gz, which tonic unpacks to these there,
    and fetches where they are missing.

    Args:
        root: the data root, else the environment variable SNN_DATA, else ``datasets``.
        download: let tonic fetch archives that are missing.
        validation: share of the training recordings that becomes the validation part.
        split_seed: chooses them.

    Raises:
        DatasetMissingError: it is not there and could not be fetched.
        DatasetError: it is damaged or incomplete, or cannot be unpacked where it lies.

    """
    folder = data_root(root) / "DVSGesture"
    packed = [part for part in COUNTS if not is_there(folder / f"ibmGesture{part}")]
    if packed:
        _unpack(folder, packed, download)
    whole, test = (_recorded(folder / f"ibmGesture{part}", part) for part in COUNTS)
    rest, apart = cut(whole, validation, split_seed)
    return EventSet("dvs_gesture", rest, apart, test, SIDE, SIDE, CLASSES)


def _unpack(folder: Path, parts: list[str], download: bool) -> None:
    """Lets tonic unpack, and fetch where needed, the archives of these parts."""
    from tonic.datasets import DVSGesture

    urls = {"Train": DVSGesture.train_url, "Test": DVSGesture.test_url}
    missing = {
        f"ibmGesture{part}.tar.gz": urls[part]
        for part in parts
        if not is_there(folder / f"ibmGesture{part}.tar.gz")
    }
    if missing:
        why = "no download was asked for"
        if download:
            answers = probe(list(missing.values()))
            why = "; ".join(
                f"{url} cannot be reached ({why})" for url, why in answers.items() if why
            )
        if why:
            raise DatasetMissingError(
                f"DVS Gesture was not found: {folder} lacks {', '.join(missing)}, and {why}; put "
                "the archives there, or name the data folder that holds them."
            )
    try:
        for part in parts:
            DVSGesture(str(folder.parent), train=part == "Train")
    except (OSError, RuntimeError, EOFError) as error:
        raise DatasetError(
            f"tonic cannot read or unpack DVS Gesture in {folder} ({error}): the folder must be "
            "writable and its archives whole."
        ) from error


def _recorded(folder: Path, part: str) -> EventPart:
    """The recordings that tonic unpacked; other files beside them are passed over."""
    matches = [match for name in names_below(folder) if (match := NAME.fullmatch(name))]
    if len(matches) != COUNTS[part]:
        raise DatasetError(
            f"{folder} has {len(matches)} recordings, not {COUNTS[part]}: delete the folder, and "
            "it will be unpacked again."
        )
    files = [File(part, int(match[1]), match[0]) for match in matches]
    check_labels(np.array([file.label for file in files]), CLASSES, f"{folder}")
    return part_of(files, partial(_decoded, folder))


def _decoded(folder: Path, name: str) -> Events:
    """Events of an array [k, 4] of x, y, polarity and milliseconds."""
    path = folder / name
    try:
        events = np.load(io.BytesIO(read_bytes(path)), allow_pickle=False)
        if events.ndim != 2 or events.shape[1] != 4:
            raise ValueError(f"an array {events.shape} instead of (events, 4)")
        x, y, polarity, times = events.T
        # In the array's own type, the product of narrow integers would begin anew.
        wide = np.float64 if np.issubdtype(times.dtype, np.floating) else np.int64
        times = times.astype(wide) * MILLISECOND
    except (ValueError, EOFError) as error:
        raise DatasetError(
            f"{path} is damaged ({error}): delete the folder {folder.name}, and it will be "
            "unpacked again."
        ) from error
    return checked(x, y, polarity, times, SIDE, SIDE, f"{path}")


@dataclass(frozen=True, eq=False)
class GestureFrames:
    """DVS Gesture as frames of 32 x 32 pixels in one channel.

    Attributes:
        train_frames, test_frames: [n, frames, 32, 32], what each pixel saw in each frame.
        train_labels, test_labels: gesture of each recording, int64 [n].
    """

    train_frames: NDArray[Any]
    train_labels: NDArray[np.int64]
    test_frames: NDArray[Any]
    test_labels: NDArray[np.int64]


def load_gesture_frames(
    path: str | os.PathLike[str] | None = None, *, root: str | os.PathLike[str] | None = None
) -> GestureFrames:
    """Reads ``DVS_gesture_100.mat``: train_x_100 and test_x_100 [n, frames, 1024], train_y, test_y.

    The latter have a column for each gesture, 1 for the recording's.

    Args:
        path: the file; it has no published checksum. None means that of the data root.
        root: the data root, else the environment variable SNN_DATA, else ``datasets``.

    Raises:
        DatasetMissingError: no such file is there (no download is offered).
        DatasetError: the file is damaged, unreadable or in another format.

    """
    from scipy.io import loadmat

    file = data_root(root) / MAT if path is None else Path(os.path.expanduser(path))
    if not is_there(file):
        raise DatasetMissingError(f"{file} is not there: put {MAT} there, or name its path")
    keys = ["train_x_100", "train_y", "test_x_100", "test_y"]
    try:
        variables = loadmat(io.BytesIO(read_bytes(file)), variable_names=keys)
        train_x, train_y, test_x, test_y = (variables[key] for key in keys)
        parts = [_framed(*part) for part in ((train_x, train_y), (test_x, test_y))]
    except DatasetError:
        raise
    except Exception as error:  # a MATLAB file of another kind fails in too many ways to list
        raise DatasetError(f"{file} is no {MAT} of MATLAB 5 ({error!r}).") from error
    return GestureFrames(*parts[0], *parts[1])


def _framed(x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    if y.shape != (len(x), CLASSES) or (np.count_nonzero(y, axis=1) != 1).any():
        raise ValueError(f"labels {y.shape} of {len(x)} recordings are not one-hot")
    if not np.isfinite(x).all():
        raise ValueError("a frame has a value that is no number")
    frames = x.reshape(*x.shape[:2], FRAME, FRAME)
    return frames, y.argmax(1).astype(np.int64)


def load_gesture_samples(root: str | os.PathLike[str] | None = None) -> EventPart:
    """Reads ``dvs_gesture`` of the data root: recordings of the camera as .bs2, and labels.csv.

    The table has columns ``file``, ``tonic_label_0to10`` and ``n_events``.

    Raises:
        DatasetMissingError: the table is not there.
        DatasetError: it or a recording is damaged.

    """
    import pandas as pd

    folder = data_root(root) / "dvs_gesture"
    path = folder / "labels.csv"
    if not is_there(path):
        raise DatasetMissingError(
            f"the sample gestures were not found: {path} is not there; put the folder there, or "
            "name the data folder that holds it."
        )
    try:
        table = pd.read_csv(path)
        names, labels = table["file"].tolist(), table["tonic_label_0to10"].to_numpy(np.float64)
        counts = dict(zip(names, table["n_events"].tolist(), strict=True))
    except (KeyError, ValueError, OSError) as error:
        raise DatasetError(f"{path} is no table of recordings ({error}).") from error
    check_labels(labels, CLASSES, f"{path}")
    read = partial(_counted, folder, counts)
    return EventPart(Recordings(names, read), labels.astype(np.int64))


def _counted(folder: Path, counts: dict[str, int], name: str) -> Events:
    events = decode_events(read_bytes(folder / name), SIDE, SIDE, f"{folder / name}")
    if len(events.x) != counts[name]:
        raise DatasetError(
            f"{folder / name} has {len(events.x)} events, not {counts[name]} as labels.csv says: "
            "put a good copy in its place."
        )
    return events
