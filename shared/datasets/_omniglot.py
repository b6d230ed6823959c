"""Omniglot: 1623 characters of 50 alphabets, each drawn by 20 people.

Source: Lake, Salakhutdinov and Tenenbaum, Science 350 (2015), doi 10.1126/science.aab3050.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.datasets._files import (
    Archive,
    data_root,
    fetch,
    is_there,
    is_visible,
    names_below,
    read_bytes,
    read_checked,
)
from shared.datasets._types import DatasetError, Omniglot

DRAWINGS = 20
SIZE = 105

# The alphabets of each archive and how many characters they have, in the order of the characters'
# published numbers (1 to 964 and 965 to 1623), which begin the names of the drawings' files.
ALPHABETS = {
    "images_background": {
        "Arcadian": 26,
        "Armenian": 41,
        "Asomtavruli_(Georgian)": 40,
        "Balinese": 24,
        "Bengali": 46,
        "Blackfoot_(Canadian_Aboriginal_Syllabics)": 14,
        "Braille": 26,
        "Cyrillic": 33,
        "Early_Aramaic": 22,
        "Syriac_(Estrangelo)": 23,
        "Anglo-Saxon_Futhorc": 29,
        "Futurama": 26,
        "Grantha": 43,
        "Greek": 24,
        "Gujarati": 48,
        "Hebrew": 22,
        "Japanese_(hiragana)": 52,
        "Inuktitut_(Canadian_Aboriginal_Syllabics)": 16,
        "Malay_(Jawi_-_Arabic)": 40,
        "Japanese_(katakana)": 47,
        "Korean": 40,
        "Latin": 26,
        "Alphabet_of_the_Magi": 20,
        "Mkhedruli_(Georgian)": 41,
        "Burmese_(Myanmar)": 34,
        "N_Ko": 33,
        "Ojibwe_(Canadian_Aboriginal_Syllabics)": 14,
        "Sanskrit": 42,
        "Tagalog": 17,
        "Tifinagh": 55,
    },
    "images_evaluation": {
        "Angelic": 20,
        "Atemayar_Qelisayer": 26,
        "Atlantean": 26,
        "Aurek-Besh": 26,
        "Avesta": 26,
        "Ge_ez": 26,
        "Glagolitic": 45,
        "Gurmukhi": 45,
        "Kannada": 41,
        "Keble": 26,
        "Malayalam": 47,
        "Manipuri": 40,
        "Mongolian": 30,
        "Old_Church_Slavonic_(Cyrillic)": 45,
        "Oriya": 46,
        "Syriac_(Serto)": 23,
        "Sylheti": 28,
        "Tengwar": 25,
        "Tibetan": 42,
        "ULOG": 26,
    },
}

# The MD5 are torchvision's; no other checksum of the official archives is published.
OMNIGLOT = Archive(
    title="Omniglot",
    folder="omniglot",
    files={
        "images_background.zip": "68d2efa1b9178cc56df9314c21c6e718",
        "images_evaluation.zip": "6b91aef0f799c5bb55b94e3f2daec811",
    },
    mirrors=("https://raw.githubusercontent.com/brendenlake/omniglot/master/python/",),
)

# SHA-256 of the same drawings as one array a file.
ARRAYS = {
    "images_background.npz": "8bf84167413cd00beacdce3fe582f780ab538d8dbef043a6d688f2527bbce199",
    "images_evaluation.npz": "0b84c7ffd94c4841c0040e529c86a82eaaccb986d8eadad5673f7991b7475276",
}

# Where torchvision and a clone of the official repository put the archives, below the data root.
FOLDERS = (OMNIGLOT.folder, "omniglot/python", "omniglot-py", "omniglot/omniglot-py")


def load_omniglot(root: str | os.PathLike[str] | None = None, *, download: bool = True) -> Omniglot:
    """Loads all characters: 964 of the background archive, then 659 of the evaluation archive.

    Each archive may lie below ``omniglot`` of the data root as .npz, as the official .zip or as the
    official folder tree, or below ``omniglot-py``, where torchvision puts it. The .npz and .zip are
    checked against their published checksum; for a tree there is none: the number and size of its
    drawings are checked.

    Args:
        root: the data root, else the environment variable SNN_DATA, else ``datasets``.
        download: fetch an archive that is missing.

    Returns:
        The same array (358 MB) from every source.

    Raises:
        DatasetMissingError: an archive is not there and could not be fetched.
        DatasetError: an archive is damaged or incomplete.

    """
    folder = data_root(root)
    missing = [f"{part}.zip" for part in ALPHABETS if _find(folder, part) is None]
    if missing:
        fetch(OMNIGLOT, folder, missing, download=download)
    names = {part: _character_names(part) for part in ALPHABETS}
    images = np.empty((sum(map(len, names.values())), DRAWINGS, SIZE, SIZE), np.uint8)
    start = 0
    for part, characters in names.items():
        path = _find(folder, part)
        assert path is not None
        _read(path, part, images[start : start + len(characters)])
        start += len(characters)
    return Omniglot(images, tuple(name for part in names.values() for name in part))


def _character_names(part: str) -> list[str]:
    return [
        f"{alphabet}/character{number:02d}"
        for alphabet, count in ALPHABETS[part].items()
        for number in range(1, count + 1)
    ]


def _find(root: Path, part: str) -> Path | None:
    """The .npz, .zip or folder of an archive; those with a checksum first."""
    for suffix in (".npz", ".zip", ""):
        for folder in FOLDERS:
            path = root / folder / (part + suffix)
            if is_there(path):
                return path
    return None


def _read(path: Path, part: str, images: NDArray[np.uint8]) -> None:
    """Reads an archive into images [characters, 20, 105, 105]."""
    if path.suffix == ".npz":
        _read_arrays(path, images)
    elif path.suffix == ".zip":
        content = read_checked(OMNIGLOT, path, OMNIGLOT.files[path.name])
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                inside = [name for name in archive.namelist() if name.startswith(f"{part}/")]
                _read_drawings(path, part, inside, archive.read, images)
        except (zipfile.BadZipFile, zipfile.LargeZipFile) as error:
            raise DatasetError(f"{path} cannot be unpacked: {error}.") from error
    else:
        inside = [f"{part}/{name}" for name in names_below(path)]
        _read_drawings(path, part, inside, lambda name: read_bytes(path.parent / name), images)


def _read_arrays(path: Path, images: NDArray[np.uint8]) -> None:
    content = read_checked(OMNIGLOT, path, ARRAYS[path.name])
    try:
        paper = np.load(io.BytesIO(content), allow_pickle=False)["images"]
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path} is not a file of NumPy arrays: {error}.") from error
    if paper.shape != images.shape or paper.dtype != np.bool_:
        raise DatasetError(f"{path} holds {paper.dtype} {paper.shape}, not bool {images.shape}.")
    # As in the drawings' files, True is paper.
    np.logical_not(paper, out=images.view(np.bool_))


def _read_drawings(
    path: Path,
    part: str,
    files: Iterable[str],
    read: Callable[[str], bytes],
    images: NDArray[np.uint8],
) -> None:
    """Reads drawings from files archive/Alphabet/characterNN/NNNN_NN.png.

    Args:
        path: the archive, for messages.
        part: its name, of `ALPHABETS`.
        files: names of what it holds.
        read: gives a file's content by its name.
        images: where the drawings go, [characters, 20, 105, 105].

    """
    found = defaultdict(list)
    for file in files:
        character, _, name = file.removeprefix(f"{part}/").rpartition("/")
        if name.endswith(".png") and is_visible(file):
            found[character].append(file)
    for index, character in enumerate(_character_names(part)):
        if len(found[character]) != DRAWINGS:
            raise DatasetError(
                f"{path} has {len(found[character])} drawings of {character}, not {DRAWINGS}: "
                "put a complete copy in its place."
            )
        for drawing, file in enumerate(sorted(found[character])):
            images[index, drawing] = _decode(read(file), f"{path.parent / file}")


def _decode(content: bytes, name: str) -> NDArray[np.bool_]:
    """Where a drawing has ink, bool [105, 105]."""
    # Imported here and not before: sets in one array can be read without.
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as image:
            grey = np.asarray(image.convert("L"))
    except Exception as error:  # PIL names no common class for damaged files
        raise DatasetError(f"{name} is no image: put a good copy in its place.") from error
    if grey.shape != (SIZE, SIZE):
        raise DatasetError(f"{name} has {grey.shape} pixels, not {(SIZE, SIZE)}.")
    ink: NDArray[np.bool_] = grey < 128
    return ink
