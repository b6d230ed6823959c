"""CIFAR10-DVS: CIFAR-10's images, moving in front of an event camera.

Source: Li, Liu, Ji, Li and Shi, Frontiers in Neuroscience 11 (2017), doi 10.3389/fnins.2017.00309;
the recordings: doi 10.6084/m9.figshare.4724671.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from shared.datasets._archives import Files, Folder, Zips
from shared.datasets._events import Events, EventSet, File, checked, cut, part_of, unwrapped
from shared.datasets._files import check_md5, data_root, is_there, names_below
from shared.datasets._types import DatasetError, DatasetMissingError

TIME_RANGE = 1 << 32  # microseconds that an event's 32 bits of time can tell
SIDE = 128
PER_CLASS = 1000  # recordings
# The official archives, a class each; their MD5 are all that is published.
ZIPS = {
    "airplane": "0afd5c4bf9ae06af762a77b180354fdd",
    "automobile": "8438dfeba3bc970c94962d995b1b9bdd",
    "bird": "a9c207c91c55b9dc2002dc21c684d785",
    "cat": "52c63c677c2b15fa5146a8daf4d56687",
    "deer": "b6bf21f6c04d21ba4e23fc3e36c8a4a3",
    "dog": "f379ebdf6703d16e0a690782e62639c3",
    "frog": "cad6ed91214b1c7388a5f6ee56d08803",
    "horse": "e7cbbf77bec584ffbf913f00e682782a",
    "ship": "41c7bd7d6b251be82557c6cce9a7d5c9",
    "truck": "89f3922fd147d9aeff89e76a2b0b70a7",
}
NAME = re.compile(rf"(?:^|/)({'|'.join(ZIPS)})/(?!\.)[^/]*?(\d+)\.(?:aedat|aedat4)$")


def load_cifar10_dvs(
    root: str | os.PathLike[str] | None = None, *, validation: float = 0.1, split_seed: int = 0
) -> EventSet:
    """Loads CIFAR10-DVS, 1,000 recordings of each of 10 classes, of 128 x 128 pixels.

    Below ``CIFAR10DVS`` of the data root it may lie as the official archives ``airplane.zip`` to
    ``truck.zip``, as what is in them (folders of .aedat files), or as tonic leaves it (folders of
    .aedat4 files, which tonic decodes; the package aedat must be installed). It is not downloaded.

    No test part is published: the last tenth of each class, by the recordings' numbers, is it.

    Args:
        root: the data root, else the environment variable SNN_DATA, else ``datasets``.
        validation: share of the training recordings that becomes the validation part.
        split_seed: chooses them.

    Raises:
        DatasetMissingError: it is not there, or aedat is not and would be needed.
        DatasetError: it is damaged or incomplete.

    """
    folder = data_root(root) / "CIFAR10DVS"
    source: Files = Folder(folder)
    items: dict[str, Any] = {name: name for name in names_below(folder) if NAME.search(name)}
    # tonic leaves archives of its own, of the official names, beside what it has unpacked.
    if not items and all(is_there(folder / f"{name}.zip") for name in ZIPS):
        source, items = _zipped(folder)
    if not items:
        raise DatasetMissingError(
            f"CIFAR10-DVS was not found: {folder} has neither the ten official archives "
            "(airplane.zip to truck.zip) nor folders of .aedat or .aedat4 files, and it is not "
            "downloaded; put your copy there, or name the data folder that holds it with "
            "--data-root or SNN_DATA."
        )
    files = _files(items, folder)
    read = partial(_decoded, source)
    whole, test = (
        part_of([file for file in files if file.part == part], read) for part in ("Train", "Test")
    )
    train, apart = cut(whole, validation, split_seed)
    return EventSet("cifar10_dvs", train, apart, test, SIDE, SIDE, len(ZIPS))


def _files(items: Mapping[str, Any], folder: Path) -> list[File]:
    """The recordings with part and class, in the order of classes and numbers.

    Args:
        items: what stands for each recording, by its name.
        folder: where they lie, for messages.

    Raises:
        DatasetError: a class lacks recordings, or has too many.

    """
    found = sorted(
        (match[1], int(match[2]), name) for name in items if (match := NAME.search(name))
    )
    files = []
    for label, of_class in enumerate(ZIPS):
        own = [items[name] for one, _, name in found if one == of_class]
        if len(own) != PER_CLASS:
            raise DatasetError(
                f"{folder} has {len(own)} recordings of {of_class}, not {PER_CLASS}: put the "
                "official archives there, unpacked or not, and no second copy of them."
            )
        n_train = PER_CLASS * 9 // 10
        files += [File("Train" if i < n_train else "Test", label, one) for i, one in enumerate(own)]
    return files


def _zipped(folder: Path) -> tuple[Zips, dict[str, tuple[int, str]]]:
    paths = [folder / f"{name}.zip" for name in ZIPS]
    for path in paths:
        check_md5(path, ZIPS[path.stem])
    zips = Zips(paths, [f"{path}" for path in paths])
    return zips, {
        f"{paths[number].stem}/{PurePosixPath(name).name}": (number, name)
        for number, name in zips.items()
    }


def _decoded(source: Files, item: Any) -> Events:
    if isinstance(source, Folder) and PurePosixPath(item).suffix == ".aedat4":
        return _by_tonic(source.path / item)
    return decode_aedat(source.read(item), source.title(item))


def decode_aedat(content: bytes, name: str) -> Events:
    """Decodes a file of jAER's format AEDAT 2.0 from a camera of 128 x 128 pixels.

    Lines of text that begin with #, then 8 bytes an event, big-endian: 32 bits of address (bit 0:
    0 where it became brighter; bits 1 to 7: row, from below; bits 8 to 14: column, from the right)
    and 32 bits of time in microseconds.

    Args:
        content: of the file.
        name: of the file, for messages.

    Raises:
        DatasetError: it is no such file, or has events that `checked` refuses.

    """
    begin = 0
    while content[begin : begin + 1] == b"#":
        begin = content.find(b"\n", begin) + 1 or len(content)
    size = len(content) - begin
    if not content.startswith(b"#!AER-DAT2") or not size or size % 8:
        raise DatasetError(
            f"{name} is no recording in the format AEDAT 2.0 with whole events: put a good copy in "
            "its place."
        )
    address, times = np.frombuffer(content, ">u4", offset=begin).reshape(-1, 2).T.astype(np.int64)
    return checked(
        SIDE - 1 - (address >> 8 & 0x7F),
        SIDE - 1 - (address >> 1 & 0x7F),
        1 - (address & 1),
        unwrapped(times, TIME_RANGE),
        SIDE,
        SIDE,
        name,
    )


def _by_tonic(path: Path) -> Events:
    from tonic.io import read_aedat4

    try:
        events = read_aedat4(str(path))
    except ModuleNotFoundError as error:
        raise DatasetMissingError(
            f"{path} can be read by tonic with the package {error.name} only: install it, or put "
            "the official archives airplane.zip to truck.zip there instead."
        ) from error
    except Exception as error:  # its decoder raises plain exceptions
        raise DatasetError(f"{path} is damaged ({error}): put a good copy in its place.") from error
    t, x, y, on = (events[field] for field in events.dtype.names)
    return checked(x, y, on, t, SIDE, SIDE, f"{path}")
