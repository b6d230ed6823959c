"""Recordings of event cameras: N-MNIST and DVS Gesture.

Sources: Orchard, Jayawant, Cohen and Thakor, Frontiers in Neuroscience 9 (2015), doi
10.3389/fnins.2015.00437; Amir et al., CVPR 2017, doi 10.1109/CVPR.2017.781.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from shared.datasets._files import Archive, data_root, fetch, probe, read_bytes, read_checked
from shared.datasets._tables import held_out
from shared.datasets._types import DatasetError, DatasetMissingError

EVENT_BYTES = 5
TIME_RANGE = 1 << 23  # microseconds that an event's 23 bits of time can tell
OVERFLOW_ROW, OVERFLOW_TIME = 240, 1 << 13  # an event that only says that so much time has passed

NMNIST_SIDE = 34
NMNIST_COUNTS = {"Train": 60_000, "Test": 10_000}
NMNIST_FILE = re.compile(r"(?:^|/)(Train|Test)/(\d)/\d+\.bin$")
# The official archives, as tonic keeps them; their MD5 are all that is published.
NMNIST_ZIPS = {
    "train.zip": "20959b8e626244a1b502305a9e6e2031",
    "test.zip": "69ca8762b2fe404d9b9bad1103e97832",
}
NMNIST_SMALL = Archive(
    title="N-MNIST",
    folder="",
    files={
        "nmnist_small.zip": "89613afcdaba8df0dc6019ebd8096027a9f50dea0679df14aa429e8b71c9febf",
    },
)

GESTURE_SIDE, GESTURE_CLASSES = 128, 11
GESTURE_MAT, GESTURE_FRAME = "DVS_gesture_100.mat", 32


class Events(NamedTuple):
    """Events of a recording in order of time.

    Attributes:
        x, y: column and row of each event, int16 [k].
        polarity: 1 where it became brighter, 0 where darker, uint8 [k].
        times: int64 [k], microseconds, ascending.
    """

    x: NDArray[np.int16]
    y: NDArray[np.int16]
    polarity: NDArray[np.uint8]
    times: NDArray[np.int64]


class Recordings(Sequence[Events]):
    """Recordings that are decoded when they are asked for: a whole set would not fit in memory.

    Args:
        items: what `read` takes for each recording.
        read: decodes one.
    """

    def __init__(self, items: Sequence[Any], read: Callable[[Any], Events]) -> None:
        self._items, self._read = list(items), read

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> Events: ...

    @overload
    def __getitem__(self, index: slice) -> Recordings: ...

    def __getitem__(self, index: int | slice) -> Events | Recordings:
        if isinstance(index, slice):
            return Recordings(self._items[index], self._read)
        return self._read(self._items[index])


@dataclass(frozen=True, eq=False)
class EventPart:
    """One part of a set of recordings.

    Attributes:
        recordings: the events of each recording.
        labels: class of each, int64 [n].

    """

    recordings: Recordings
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.recordings)

    def first(self, n: int | None) -> EventPart:
        """The first n recordings; None means all."""
        return EventPart(self.recordings[:n], self.labels[:n])


@dataclass(frozen=True, eq=False)
class EventSet:
    """Recordings in three parts, each in random but fixed order.

    Attributes:
        name: what was really loaded, for every record.
        train, validation, test: the parts.
        height, width: of the camera, pixels.
        n_classes: number of classes.

    """

    name: str
    train: EventPart
    validation: EventPart
    test: EventPart
    height: int
    width: int
    n_classes: int


def decode_events(content: bytes, height: int, width: int, name: str) -> Events:
    """Decodes events of 5 bytes, as N-MNIST and the .bs2 files of DVS Gesture have them.

    x; y; polarity (1 bit) and time (23 bits, big-endian, microseconds). Time that runs backwards by
    more than half of what 23 bits can tell has begun anew; an event of row 240 says that 8,192
    microseconds have passed and is none itself.

    Args:
        content: of the file.
        height: of the camera, pixels.
        width: of the camera, pixels.
        name: of the file, for messages.

    Raises:
        DatasetError: there are no events, a part of one, or one outside of the camera.

    """
    if not content or len(content) % EVENT_BYTES:
        raise DatasetError(
            f"{name} is no recording of events of {EVENT_BYTES} bytes (it has {len(content)} "
            "bytes): put a good copy in its place."
        )
    x, y, high, middle, low = (
        np.frombuffer(content, np.uint8).reshape(-1, EVENT_BYTES).T.astype(np.int64)
    )
    times = (high & 0x7F) << 16 | middle << 8 | low
    overflows = y == OVERFLOW_ROW
    if overflows.any() and height <= OVERFLOW_ROW:
        times = times + OVERFLOW_TIME * np.cumsum(overflows)
        x, y, high, times = (column[~overflows] for column in (x, y, high, times))
    times = times + TIME_RANGE * np.cumsum(np.diff(times, prepend=times[:1]) < -TIME_RANGE // 2)
    if not len(x) or x.max() >= width or y.max() >= height:
        raise DatasetError(
            f"{name} has no events, or some outside of the camera's {width} x {height} pixels: put "
            "a good copy in its place."
        )
    order = np.argsort(times, kind="stable")
    x, y, high, times = (column[order] for column in (x, y, high, times))
    return Events(x.astype(np.int16), y.astype(np.int16), (high >> 7).astype(np.uint8), times)


def to_frames(
    events: Events, n_frames: int, height: int, width: int, *, factor: int = 1, border: int = 0
) -> NDArray[np.uint8]:
    """Cuts a recording into equally long frames, from its first event to its last.

    Args:
        events: the recording.
        n_frames: number of frames.
        height: of the camera, pixels.
        width: of the camera, pixels.
        factor: side of the squares of pixels that become one.
        border: width of an empty border, in pixels of the frame.

    Returns:
        [2, n_frames, height / factor + 2 border, width / factor + 2 border], by polarity; 1 where
        there was any event. A channel, a step and two of space are what networks take.

    Raises:
        DatasetError: an event lies outside of height and width.

    """
    if not len(events.x) or events.x.max() >= width or events.y.max() >= height:
        raise DatasetError(f"these events are not those of a camera of {width} x {height} pixels.")
    since = events.times - events.times[0]
    frame = since * n_frames // (since[-1] + 1)
    shape = (-(-height // factor) + 2 * border, -(-width // factor) + 2 * border)
    frames = np.zeros((2, n_frames, *shape), np.uint8)
    frames[events.polarity, frame, events.y // factor + border, events.x // factor + border] = 1
    return frames


def load_nmnist(
    root: str | os.PathLike[str] | None = None, *, validation: float = 0.1, split_seed: int = 0
) -> EventSet:
    """Loads N-MNIST: MNIST's digits in front of a moving event camera of 34 x 34 pixels.

    Below the data root it may lie as the official folders ``NMNIST/Train`` and ``NMNIST/Test``
    (where tonic unpacks them), as the official ``NMNIST/train.zip`` and ``test.zip``, or as
    ``nmnist_small.zip``, which holds 1,000 and 100 of the recordings and is called "nmnist_small".

    Args:
        root: the data root, else the environment variable SNN_DATA, else ``datasets``.
        validation: share of the training recordings that becomes the validation part.
        split_seed: chooses them.

    Raises:
        DatasetMissingError: it is not there (``tonic.datasets.NMNIST`` can fetch it).
        DatasetError: it is damaged or incomplete.

    """
    folder = data_root(root) / "NMNIST"
    if os.path.isdir(folder / "Train"):
        name, files, read = "nmnist", _tree(folder), _from_tree(folder)
    elif all(os.path.exists(folder / file) for file in NMNIST_ZIPS):
        name = "nmnist"
        files, read = _zipped([_official_zip(folder / file) for file in NMNIST_ZIPS], f"{folder}")
    else:
        name, path = "nmnist_small", data_root(root) / "nmnist_small.zip"
        if not os.path.exists(path):
            fetch(NMNIST_SMALL, data_root(root), list(NMNIST_SMALL.files), download=True)
        content = read_checked(NMNIST_SMALL, path, NMNIST_SMALL.files[path.name])
        files, read = _zipped([io.BytesIO(content)], f"{path}")
    if name == "nmnist":
        _check_counts(folder, files)
    whole, test = (
        part_of([file for file in files if file.part == part], read) for part in NMNIST_COUNTS
    )
    train, apart = cut(whole, validation, split_seed)
    return EventSet(name, train, apart, test, NMNIST_SIDE, NMNIST_SIDE, 10)


class File(NamedTuple):
    """A recording: its part ("Train" or "Test"), its class, and the name to read it by."""

    part: str
    label: int
    name: str


def _files(names: Sequence[str]) -> list[File]:
    found = [(match, name) for name in sorted(names) if (match := NMNIST_FILE.search(name))]
    return [File(match[1], int(match[2]), name) for match, name in found]


def _tree(folder: Path) -> list[File]:
    return _files([path.relative_to(folder).as_posix() for path in folder.glob("*/*/*.bin")])


def _from_tree(folder: Path) -> Callable[[str], Events]:
    def read(name: str) -> Events:
        path = folder / name
        return decode_events(read_bytes(path), NMNIST_SIDE, NMNIST_SIDE, f"{path}")

    return read


def _official_zip(path: Path) -> Path:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != NMNIST_ZIPS[path.name]:
        raise DatasetError(
            f"{path} is damaged (its MD5 is {found}, the published one {NMNIST_ZIPS[path.name]}): "
            "put a good copy in its place."
        )
    return path


def _zipped(
    sources: Sequence[Path | io.BytesIO], where: str
) -> tuple[list[File], Callable[[str], Events]]:
    try:
        archives = [zipfile.ZipFile(source) for source in sources]
    except (zipfile.BadZipFile, zipfile.LargeZipFile, OSError) as error:
        raise DatasetError(
            f"{where} is damaged ({error}): put a good copy in its place."
        ) from error
    homes = {name: archive for archive in archives for name in archive.namelist()}

    def read(name: str) -> Events:
        return decode_events(homes[name].read(name), NMNIST_SIDE, NMNIST_SIDE, f"{where}/{name}")

    return _files(list(homes)), read


def _check_counts(folder: Path, files: list[File]) -> None:
    for part, expected in NMNIST_COUNTS.items():
        found = sum(file.part == part for file in files)
        if found != expected:
            raise DatasetError(
                f"{folder} has {found} recordings in {part}, not {expected}: unpack the official "
                "archive there again."
            )


def part_of(files: list[File], read: Callable[[str], Events]) -> EventPart:
    """A part of these recordings, in random but fixed order."""
    # The files are sorted by class; whoever takes the first few must get some of each.
    order = np.random.default_rng(0).permutation(len(files))
    labels = np.array([files[i].label for i in order], np.int64)
    return EventPart(Recordings([files[i].name for i in order], read), labels)


def cut(train: EventPart, share: float, seed: int) -> tuple[EventPart, EventPart]:
    """What is left to train on, and the validation part."""
    chosen = held_out(len(train), share, seed)
    rest, apart = (_chosen(train, np.flatnonzero(mask)) for mask in (~chosen, chosen))
    return rest, apart


def _chosen(part: EventPart, indices: NDArray[np.intp]) -> EventPart:
    return EventPart(
        Recordings(indices.tolist(), part.recordings.__getitem__), part.labels[indices]
    )


def load_dvs_gesture(
    root: str | os.PathLike[str] | None = None,
    *,
    download: bool = True,
    validation: float = 0.1,
    split_seed: int = 0,
) -> EventSet:
    """Loads DVS Gesture, 11 gestures in front of an event camera of 128 x 128 pixels, by tonic.

    tonic keeps the set below ``DVSGesture`` of the data root: the archives ibmGestureTrain.tar.gz
    and ibmGestureTest.tar.gz, and what is in them, which it unpacks there.

    Args:
        root: the data root, else the environment variable SNN_DATA, else ``datasets``.
        download: let tonic fetch archives that are missing.
        validation: share of the training recordings that becomes the validation part.
        split_seed: chooses them.

    Raises:
        DatasetMissingError: it is not there and could not be fetched.
        DatasetError: it is damaged, or cannot be unpacked where it lies.

    """
    from tonic.datasets import DVSGesture

    folder = data_root(root)
    archives = {DVSGesture.train_filename: DVSGesture.train_url,
                DVSGesture.test_filename: DVSGesture.test_url}  # fmt: skip
    missing = [name for name in archives if not os.path.exists(folder / "DVSGesture" / name)]
    if missing:
        why = "no download was asked for"
        if download:
            answers = probe([archives[name] for name in missing])
            why = "; ".join(
                f"{url} cannot be reached ({why})" for url, why in answers.items() if why
            )
        if why:
            raise DatasetMissingError(
                f"DVS Gesture was not found: {folder / 'DVSGesture'} lacks {', '.join(missing)}, "
                f"and {why}; put the archives there, or name the data folder that holds them."
            )
    try:
        whole, test = (_gestures(DVSGesture(str(folder), train=part)) for part in (True, False))
    except (OSError, RuntimeError, EOFError) as error:
        raise DatasetError(
            f"tonic cannot read or unpack DVS Gesture in {folder / 'DVSGesture'} ({error}): the "
            "folder must be writable and its archives whole."
        ) from error
    rest, apart = cut(whole, validation, split_seed)
    side = GESTURE_SIDE
    return EventSet("dvs_gesture", rest, apart, test, side, side, GESTURE_CLASSES)


def _gestures(found: Any) -> EventPart:
    def read(index: int) -> Events:
        try:
            events = found[index][0]
        except (OSError, ValueError, EOFError) as error:
            raise DatasetError(
                f"{found.data[index]} is damaged ({error}): delete the folder that tonic unpacked "
                "and let it unpack the archives again."
            ) from error
        return Events(
            events["x"], events["y"], events["p"].astype(np.uint8), events["t"].astype(np.int64)
        )

    # tonic lists files as the file system does; by name, the order is the same everywhere.
    order = np.random.default_rng(0).permutation(np.argsort(found.data))
    labels = np.asarray(found.targets, np.int64)[order]
    return EventPart(Recordings(order.tolist(), read), labels)


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

    The latter have a column a gesture, 1 for the recording's.

    Args:
        path: the file; it has no published checksum. None means that of the data root.
        root: the data root, else the environment variable SNN_DATA, else ``datasets``.

    Raises:
        DatasetMissingError: no such file is there (no download is offered).
        DatasetError: the file is damaged, unreadable or in another format.

    """
    from scipy.io import loadmat

    file = data_root(root) / GESTURE_MAT if path is None else Path(os.path.expanduser(path))
    if not os.path.exists(file):
        raise DatasetMissingError(f"{file} is not there: put {GESTURE_MAT} there, or name its path")
    keys = ["train_x_100", "train_y", "test_x_100", "test_y"]
    try:
        variables = loadmat(io.BytesIO(read_bytes(file)), variable_names=keys)
        train_x, train_y, test_x, test_y = (variables[key] for key in keys)
        parts = [_gesture_part(*part) for part in ((train_x, train_y), (test_x, test_y))]
    except DatasetError:
        raise
    except Exception as error:  # a MATLAB file of another kind fails in too many ways to list
        raise DatasetError(f"{file} is no {GESTURE_MAT} of MATLAB 5 ({error!r}).") from error
    return GestureFrames(*parts[0], *parts[1])


def _gesture_part(x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    if y.shape != (len(x), GESTURE_CLASSES) or (np.count_nonzero(y, axis=1) != 1).any():
        raise ValueError(f"labels {y.shape} of {len(x)} recordings are not one-hot")
    frames = x.reshape(*x.shape[:2], GESTURE_FRAME, GESTURE_FRAME)
    return frames, y.argmax(1).astype(np.int64)


def load_gesture_samples(root: str | os.PathLike[str] | None = None) -> EventPart:
    """Reads ``dvs_gesture`` of the data root: recordings of the camera as .bs2, and labels.csv.

    The table has columns ``file``, ``tonic_label_0to10`` and ``n_events``.

    Raises:
        DatasetMissingError: the table is not there.
        DatasetError: it or a recording is damaged.

    """
    folder = data_root(root) / "dvs_gesture"
    path = folder / "labels.csv"
    if not os.path.exists(path):
        raise DatasetMissingError(
            f"the sample gestures were not found: {path} is not there; put the folder there, or "
            "name the data folder that holds it."
        )
    try:
        table = pd.read_csv(path)
        names, labels = table["file"].tolist(), table["tonic_label_0to10"].to_numpy(np.int64)
        counts = dict(zip(names, table["n_events"].tolist(), strict=True))
    except (KeyError, ValueError, OSError) as error:
        raise DatasetError(f"{path} is no table of recordings ({error}).") from error

    def read(name: str) -> Events:
        content = read_bytes(folder / name)
        events = decode_events(content, GESTURE_SIDE, GESTURE_SIDE, f"{folder / name}")
        if len(events.x) != counts[name]:
            raise DatasetError(
                f"{folder / name} has {len(events.x)} events, not {counts[name]} as labels.csv "
                "says: put a good copy in its place."
            )
        return events

    return EventPart(Recordings(names, read), labels)
