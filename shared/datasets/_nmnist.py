"""N-MNIST: MNIST's digits in front of a moving event camera.

Source: Orchard, Jayawant, Cohen and Thakor, Frontiers in Neuroscience 9 (2015), doi
10.3389/fnins.2015.00437.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from shared.datasets._archives import Files, Folder, Zips
from shared.datasets._events import Events, EventSet, File, cut, decode_events, part_of
from shared.datasets._files import (
    Archive,
    check_md5,
    data_root,
    fetch,
    is_there,
    names_below,
    read_checked,
)
from shared.datasets._stand_in import say_stand_in
from shared.datasets._types import DatasetError

SIDE = 34
COUNTS = {"Train": 60_000, "Test": 10_000}
NAME = re.compile(r"(?:^|/)(Train|Test)/(\d)/\d+\.bin$")
# The official archives, as tonic keeps them; their MD5 are all that is published.
ZIPS = {
    "train.zip": "20959b8e626244a1b502305a9e6e2031",
    "test.zip": "69ca8762b2fe404d9b9bad1103e97832",
}
# Recordings 1 to 1,000 of Train and 1 to 100 of Test: one archive, or folders below SMALL_FOLDER.
SMALL = Archive(
    title="N-MNIST",
    folder="",
    files={
        "nmnist_small.zip": "89613afcdaba8df0dc6019ebd8096027a9f50dea0679df14aa429e8b71c9febf",
    },
)
SMALL_FOLDER = "nmnist_small"
# Of the lines "SHA-256  Train/5/00001.bin" in the order of the names, as sha256sum writes them.
SMALL_DIGEST = "3fe769d0d9356f140c84b8427ce8e6c22629da264ec3c941a456e79213875776"


def load_nmnist(
    root: str | os.PathLike[str] | None = None, *, validation: float = 0.1, split_seed: int = 0
) -> EventSet:
    """Loads N-MNIST: MNIST's digits in front of a moving event camera of 34 x 34 pixels.

    Below the data root it may lie as the official folders ``NMNIST/Train`` and ``NMNIST/Test``
    (where tonic unpacks them), or as the official ``NMNIST/train.zip`` and ``test.zip``. Where
    there is nothing of it, the first 1,000 and 100 of the recordings stand in for it, in folders
    ``nmnist_small/Train`` and ``nmnist_small/Test`` or as ``nmnist_small.zip``: standard output
    says so, and the name is "nmnist_small".

    Args:
        root: the data root, else the environment variable SNN_DATA, else ``datasets``.
        validation: share of the training recordings that becomes the validation part.
        split_seed: chooses them.

    Raises:
        DatasetMissingError: it is not there (``tonic.datasets.NMNIST`` can fetch it).
        DatasetError: it is damaged or incomplete.

    """
    folder = data_root(root) / "NMNIST"
    there = [name for name in (*COUNTS, *ZIPS) if is_there(folder / name)]
    name = "nmnist" if there else "nmnist_small"
    if any(part in there for part in COUNTS):
        names = (f"{part}/{name}" for part in COUNTS for name in names_below(folder / part))
        source: Files = Folder(folder)
        files = _files((name, name) for name in names)
    elif there:
        source, files = _official_zips(folder)
    else:
        source, files = _small(data_root(root))
        say_stand_in("N-MNIST", name, "1,100 of its 70,000 recordings", f"{folder} is not there.")
    if there:
        _check_counts(folder, files)
    read = partial(_decoded, source)
    whole, test = (part_of([file for file in files if file.part == part], read) for part in COUNTS)
    train, apart = cut(whole, validation, split_seed)
    return EventSet(name, train, apart, test, SIDE, SIDE, 10)


def _decoded(source: Files, item: Any) -> Events:
    return decode_events(source.read(item), SIDE, SIDE, source.title(item))


def _files(named: Iterable[tuple[str, Any]]) -> list[File]:
    """The recordings among files, given by name and what stands for each, in order of names."""
    pairs = sorted(named, key=lambda pair: pair[0])
    found = [(match, item) for name, item in pairs if (match := NAME.search(name))]
    return [File(match[1], int(match[2]), item) for match, item in found]


def _official_zips(folder: Path) -> tuple[Zips, list[File]]:
    paths = [folder / name for name in ZIPS]
    for path in paths:
        if not is_there(path):
            raise DatasetError(
                f"{folder} lacks {path.name}, and the other archive alone is half of N-MNIST: put "
                "both there."
            )
        check_md5(path, ZIPS[path.name])
    zips = Zips(paths, [f"{path}" for path in paths])
    return zips, _files((name, (number, name)) for number, name in zips.items())


def _small(root: Path) -> tuple[Files, list[File]]:
    folder = root / SMALL_FOLDER
    return _small_folder(folder) if is_there(folder) else _small_zip(root)


def _small_folder(folder: Path) -> tuple[Folder, list[File]]:
    source = Folder(folder)
    names = [name for name in names_below(folder) if NAME.search(name)]
    lines = (f"{hashlib.sha256(source.read(name)).hexdigest()}  {name}\n" for name in names)
    if hashlib.sha256("".join(lines).encode()).hexdigest() != SMALL_DIGEST:
        raise DatasetError(
            f"{folder} holds {len(names)} recordings, which are not those that are wanted: copy "
            f"recordings 1 to 1,000 of N-MNIST's Train to {folder / 'Train'} and 1 to 100 of its "
            f"Test to {folder / 'Test'}, in their folders of digits, and no others."
        )
    return source, _files((name, name) for name in names)


def _small_zip(root: Path) -> tuple[Zips, list[File]]:
    path = root / next(iter(SMALL.files))
    if not is_there(path):
        fetch(SMALL, root, list(SMALL.files), download=True)
    zips = Zips([read_checked(SMALL, path, SMALL.files[path.name])], [f"{path}"])
    return zips, _files((name, (number, name)) for number, name in zips.items())


def _check_counts(folder: Path, files: list[File]) -> None:
    for part, expected in COUNTS.items():
        found = sum(file.part == part for file in files)
        if found != expected:
            raise DatasetError(
                f"{folder} has {found} recordings in {part}, not {expected}: unpack the official "
                "archive there again."
            )
