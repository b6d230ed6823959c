"""Spoken digits: the Free Spoken Digit Dataset, and the user's own copy of TIDigits.

Sources: Jackson et al., github.com/Jakobovski/free-spoken-digit-dataset (CC BY-SA 4.0); Leonard
and Doddington, TIDIGITS, Linguistic Data Consortium, LDC93S10 (licensed).
"""

from __future__ import annotations

import io
import os
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

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
from shared.datasets._stand_in import say_stand_in
from shared.datasets._types import (
    DatasetError,
    DatasetMissingError,
)

FSDD = Archive(
    title="The Free Spoken Digit Dataset",
    folder="",
    files={"fsdd.zip": "00da7f7ab40a59d5a12fb2bfa7422cf87652823624b67cbf9fdd7fc0464c081b"},
)
# Where a clone of the official repository lies below the data root.
FSDD_CLONE = "free-spoken-digit-dataset/recordings"
FSDD_NAME = re.compile(r"(\d)_([a-z]+)_(\d+)\.wav")
FSDD_SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
FSDD_TAKES = 50
FSDD_RATE = 8_000

TIDIGITS = "tidigits"
# One digit and the letter of the take; sequences have several digits, "oh" is the letter o.
TIDIGITS_NAME = re.compile(r"([z1-9])([a-z])(?:_.*)?\.wav", re.IGNORECASE)
TIDIGITS_RATE = 20_000

# Shorter is no word, but what is left of a file.
SHORTEST = 0.05


@dataclass(frozen=True, eq=False)
class Speech:
    """Recordings of spoken digits.

    Attributes:
        name: the set's name, "fsdd" or "tidigits".
        waveforms: float32 [samples] in [-1, 1] of each recording; their lengths differ.
        labels: the digit of each recording, int64 [n], 0 to 9.
        speakers: name of the speaker of each recording.
        rate: sampling rate, Hz.

    """

    name: str
    waveforms: tuple[NDArray[np.float32], ...]
    labels: NDArray[np.int64]
    speakers: tuple[str, ...]
    rate: int

    def __len__(self) -> int:
        return len(self.waveforms)


class _Recording(NamedTuple):
    """What is said in a file; sets are in the order of these."""

    speaker: str
    label: int
    take: int
    file: str


def load_fsdd(root: str | os.PathLike[str] | None = None) -> Speech:
    """Loads the Free Spoken Digit Dataset: 10 digits, 6 speakers, 50 takes each, 8 kHz.

    It may lie below the data root as ``fsdd.zip``, which is checked against its checksum, or as a
    clone of the official repository, ``free-spoken-digit-dataset``, in which the recordings are
    counted. The order is that of speakers, digits and takes.

    Args:
        root: the data root, else the environment variable SNN_DATA, else ``datasets``.

    Raises:
        DatasetMissingError: it is not there (no download is offered).
        DatasetError: it is damaged or incomplete.

    """
    folder = data_root(root)
    path, clone = folder / "fsdd.zip", folder / FSDD_CLONE
    if not is_there(path) and is_there(clone):
        return _fsdd(clone, names_below(clone), lambda name: read_bytes(clone / name))
    if not is_there(path):
        fetch(FSDD, folder, list(FSDD.files), download=True)
    content = read_checked(FSDD, path, FSDD.files[path.name])
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _fsdd(path, archive.namelist(), archive.read)
    except (zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        raise DatasetError(f"{path} cannot be unpacked: {error}.") from error


def _fsdd(path: Path, names: Iterable[str], read: Callable[[str], bytes]) -> Speech:
    recordings = []
    for name in names:
        match = FSDD_NAME.fullmatch(name.rpartition("/")[2])
        if match and is_visible(name) and match[2] in FSDD_SPEAKERS:
            recordings.append(_Recording(match[2], int(match[1]), int(match[3]), name))
    counts = Counter((recording.speaker, recording.label) for recording in recordings)
    for speaker in FSDD_SPEAKERS:
        for digit in range(10):
            if counts[speaker, digit] != FSDD_TAKES:
                raise DatasetError(
                    f"{path} has {counts[speaker, digit]} recordings of {digit} by {speaker}, not "
                    f"{FSDD_TAKES}: put a complete copy in its place."
                )
    return _read("fsdd", FSDD_RATE, path, recordings, read)


def load_tidigits(
    root: str | os.PathLike[str] | None = None, *, folder: str | os.PathLike[str] | None = None
) -> Speech:
    """Loads the isolated digits of the user's own copy of TIDigits, 20 kHz.

    Below ``tidigits`` of the data root, at any depth, a folder a speaker holds wav files named
    ``{digit}{take}.wav`` or ``{digit}{take}_....wav``; the digit is z ("zero") or 1 to 9, the take
    a letter: ``1a_endpt.wav``, ``zb.wav``. "Oh" and sequences of digits are passed over. A speaker
    is named by the folder's path below ``tidigits``. The order is that of speakers, digits and
    takes. The files may be RIFF or, as published, NIST SPHERE without compression.

    Args:
        root: the data root, else the environment variable SNN_DATA, else ``datasets``.
        folder: where it lies instead of ``tidigits`` of the data root.

    Raises:
        DatasetMissingError: the folder is not there, or has no such file.
        DatasetError: a file cannot be read, is damaged, silent, not in mono and 16 bits or of
            another sampling rate, or there are two of one take.

    """
    folder = data_root(root) / TIDIGITS if folder is None else Path(folder)
    recordings = _tidigits_recordings(folder)
    if not recordings:
        raise DatasetMissingError(
            f"TIDigits was not found: {folder} has no files like SPEAKER/1a.wav; it is licensed "
            "(catalogue number LDC93S10 of the Linguistic Data Consortium), so put your own copy "
            "there, or use the free set fsdd.",
            partial=bool(names_below(folder)),
        )
    return _read(
        TIDIGITS, TIDIGITS_RATE, folder, recordings, lambda name: read_bytes(folder / name)
    )


def load_tidigits_or_fsdd(root: str | os.PathLike[str] | None = None) -> Speech:
    """Loads TIDigits, or fsdd where there is no folder of it; output and name say which.

    Args:
        root: the data root, else the environment variable SNN_DATA, else ``datasets``.

    Raises:
        DatasetMissingError: neither is there.
        DatasetError: the one that is there is damaged.

    """
    try:
        return load_tidigits(root)
    except DatasetMissingError as error:
        if error.partial:
            raise
        say_stand_in("TIDigits", "fsdd", "free recordings of digits by six speakers", error)
        return load_fsdd(root)


def _tidigits_recordings(folder: Path) -> list[_Recording]:
    found: dict[tuple[str, int, int], _Recording] = {}
    for name in names_below(folder):
        speaker, _, file = name.rpartition("/")
        match = TIDIGITS_NAME.fullmatch(file)
        if not match or not speaker:
            continue
        digit, take = match[1].lower(), match[2].lower()
        label = 0 if digit == "z" else int(digit)
        recording = _Recording(speaker, label, ord(take) - ord("a"), name)
        twin = found.setdefault(recording[:3], recording)
        if twin is not recording:
            # In a random split one of them could be learnt and the other tested.
            raise DatasetError(
                f"{folder} has the same recording twice, {twin.file} and {name}: keep one of them."
            )
    return list(found.values())


def _read(
    name: str,
    rate: int,
    path: Path,
    recordings: list[_Recording],
    read: Callable[[str], bytes],
) -> Speech:
    """Reads recordings, which lie in a folder or zip ``path``, by their files' names."""
    ordered = sorted(recordings)
    return Speech(
        name,
        tuple(_decode(read(one.file), f"{path / one.file}", rate) for one in ordered),
        np.array([one.label for one in ordered], np.int64),
        tuple(one.speaker for one in ordered),
        rate,
    )


def _decode(content: bytes, name: str, expected: int) -> NDArray[np.float32]:
    """Samples of a file in [-1, 1]; its name is for messages."""
    rate, samples = (_sphere if content.startswith(b"NIST_1A") else _riff)(content, name)
    if samples.ndim != 1 or samples.dtype != np.int16:
        channels = 1 if samples.ndim == 1 else samples.shape[1]
        raise DatasetError(
            f"{name} has {channels} channels of {samples.dtype}: convert it to one channel of 16 "
            "bits (int16)."
        )
    if rate != expected:
        raise DatasetError(
            f"{name} is sampled at {rate} Hz, not {expected} Hz: put the original in its place, or "
            "resample it."
        )
    if len(samples) < SHORTEST * rate:
        raise DatasetError(
            f"{name} lasts {len(samples) / rate:.3f} s, too short for a word: put a good copy in "
            "its place."
        )
    if not samples.any():
        raise DatasetError(f"{name} holds nothing but silence: put a good copy in its place.")
    waveform: NDArray[np.float32] = np.divide(samples, 1 << 15, dtype=np.float32)
    return waveform


def _riff(content: bytes, name: str) -> tuple[int, NDArray[Any]]:
    from scipy.io import wavfile

    try:
        with warnings.catch_warnings():
            # It only warns of samples that lack, and warns of chunks that do no harm.
            warnings.simplefilter("ignore", wavfile.WavFileWarning)
            warnings.filterwarnings("error", "Reached EOF", wavfile.WavFileWarning)
            rate, samples = wavfile.read(io.BytesIO(content))
    except Exception as error:  # damaged files fail in too many ways to list
        raise DatasetError(
            f"{name} is no wav file, or cut short ({error}): put a good copy in its place."
        ) from error
    return rate, samples


def _sphere(content: bytes, name: str) -> tuple[int, NDArray[Any]]:
    # Imported here and not before: it comes with librosa, and only TIDigits needs it.
    import soundfile

    try:
        samples, rate = soundfile.read(io.BytesIO(content), dtype="int16")
    except soundfile.LibsndfileError as error:
        raise DatasetError(
            f"{name} is a NIST SPHERE file that cannot be decoded, compressed perhaps: convert it "
            "by sph2pipe -f wav IN OUT."
        ) from error
    declared = re.search(rb"\nsample_count -i (\d+)\n", content)
    if declared and len(samples) < int(declared[1]):
        raise DatasetError(
            f"{name} is cut short ({len(samples)} of {int(declared[1])} samples): put a good copy "
            "in its place."
        )
    return rate, samples
