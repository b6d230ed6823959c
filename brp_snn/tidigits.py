"""Features and parts of spoken digits.

    python brp_snn/tidigits.py                      reads TIDigits, or the stand-in fsdd, and tells
    python brp_snn/tidigits.py --out features.npz   the number of features; writes them, too

A recording becomes 30 mel bands of 30 frames, however long it is. As published, the network is
shown a band at every time step, and its first layer convolves over the frames.

    l1       the energies of a band are divided by their sum over the frames (data.py's)
    l2       all energies of a recording are divided by the root of their sum of squares
             (threenet.py's)
    log-l2   the same of their logarithms, of samples in units of 16 bits (this file's)
"""

import shared.waiting

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64
from numpy.typing import NDArray

from shared.datasets import Speech, load_tidigits, load_tidigits_or_fsdd
from shared.errors import UserError, check_word
from shared.experiment import Positive, parse
from shared.options import script

BANDS = 30
FRAMES = 30
N_FFT = 4096
# Raises high frequencies, as filter banks of speech do by default: y[t] = x[t] - 0.97 x[t - 1].
PRE_EMPHASIS = 0.97
FULL_SCALE = 1 << 15  # samples were 16-bit integers

Scaling = Literal["l1", "l2", "log-l2"]
SCALINGS: tuple[Scaling, ...] = get_args(Scaling)

SEED = 42
SHARE = 0.7
VALIDATION = 0.1
FEWEST = 10
PUBLISHED_FOLDER = Path("DATASETS/tidigits/isolated_digits_tidigits")


def energies(
    waveform: Float[np.ndarray, "samples"],
    rate: int,
    bands: int = BANDS,
    frames: int = FRAMES,
    n_fft: int = N_FFT,
) -> Float64[np.ndarray, "bands frames"]:
    """The energy of each mel band in each frame of a recording.

    The frames overlap by half and together cover the recording: a window lasts
    duration / (frames / 2 + 1 / 2). Each is weighted by a Hamming window, and its power spectrum
    summed in triangular bands, evenly spaced on the mel scale 2595 lg(1 + f / 700 Hz) from 0 to
    half the sampling rate.

    Args:
        waveform: the recording, in [-1, 1].
        rate: sampling rate, Hz.
        bands: number of bands.
        frames: number of frames.
        n_fft: length of the Fourier transform, samples. Windows are filled up with zeros; for
            longer windows (recordings from 7.9 s at 8 kHz) it is the next power of two, so that no
            sample is left out.

    Returns:
        Energies, of samples in units of 16 bits.

    Raises:
        UserError: the recording has no more samples than frames.
    """
    # Libraries are imported where they are needed: other data sets' runs start sooner.
    from scipy.fft import rfft
    from scipy.signal import lfilter

    if len(waveform) <= frames:
        raise UserError(
            f"a recording of {len(waveform)} samples is too short for {frames} frames: leave it out"
        )
    length = round(len(waveform) / (frames / 2 + 1 / 2))
    starts = np.linspace(0, len(waveform) - length, frames).round().astype(int)
    emphasized = lfilter([1, -PRE_EMPHASIS], [1], FULL_SCALE * waveform.astype(np.float64))
    windows = np.lib.stride_tricks.sliding_window_view(emphasized, length)[starts]
    n_fft = max(n_fft, 1 << (length - 1).bit_length())
    power = np.abs(rfft(windows * np.hamming(length), n_fft)) ** 2 / n_fft
    found: NDArray[np.float64] = _mel_filters(rate, n_fft, bands) @ power.T
    return found


@lru_cache
def _mel_filters(rate: int, n_fft: int, bands: int) -> Float[np.ndarray, "bands bins"]:
    from librosa.filters import mel

    return mel(sr=rate, n_fft=n_fft, n_mels=bands, htk=True, norm=None, dtype=np.float64)


def scaled(
    energy: Float64[np.ndarray, "bands frames"], scaling: Scaling
) -> Float32[np.ndarray, "bands frames"]:
    """Energies of a recording as features; see the top of this file.

    Silence has no shares of its energy: they are 0.

    Raises:
        ValueError: there is no such scaling.
    """
    from sklearn.preprocessing import normalize

    check_word("scaling", scaling, SCALINGS)
    if scaling == "l1":
        found = normalize(energy, norm="l1")
    else:
        if scaling == "log-l2":
            energy = np.log(np.maximum(energy, np.finfo(np.float64).eps))
        found = normalize(energy.reshape(1, -1)).reshape(energy.shape)
    as_float: NDArray[np.float32] = found.astype(np.float32)
    return as_float


def features(
    speech: Speech, scaling: Scaling = "l1", bands: int = BANDS, frames: int = FRAMES
) -> Float32[np.ndarray, "n 1 bands frames"]:
    """The features of all recordings, their bands as the time axis.

    Raises:
        UserError: a recording is too short.
        ValueError: there is no such scaling.
    """
    check_word("scaling", scaling, SCALINGS)
    found = [
        scaled(energies(waveform, speech.rate, bands, frames), scaling)
        for waveform in speech.waveforms
    ]
    return np.stack(found)[:, None]


Labelled = tuple[NDArray[np.float32], NDArray[np.int64]]


def read_data(
    path: Path | str = PUBLISHED_FOLDER,
    n_bands: int = BANDS,
    n_frames: int = FRAMES,
    scaling: Scaling = "log-l2",
) -> tuple[Labelled, Labelled, Labelled]:
    """Features [n, n_frames * n_bands] and labels of TIDigits, by the published name.

    Args:
        path: folder of the speakers' folders.
        n_bands: number of bands.
        n_frames: number of frames.
        scaling: of the energies.

    Returns:
        Seven tenths of the recordings to train on; the same again, as published, to tell the
        accuracy in training by; the others to test on.

    Raises:
        DatasetError: the recordings are not there, or damaged.
        UserError: a recording is too short.
    """
    speech = load_tidigits(folder=path)
    found = features(speech, scaling, n_bands, n_frames)
    flat = found.swapaxes(2, 3).reshape(len(found), -1)
    rest, test = ((flat[part], speech.labels[part]) for part in drawn(speech.labels, SHARE, SEED))
    return rest, rest, test


class Indices(NamedTuple):
    """Which samples belong to each part, each in random order.

    Attributes:
        train, validation, test: positions, int64.
    """

    train: Int64[np.ndarray, "train"]
    validation: Int64[np.ndarray, "validation"]
    test: Int64[np.ndarray, "test"]


def drawn(
    labels: NDArray[np.int64], share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The published draw of recordings to learn from and to test on.

    Args:
        labels: of the recordings, which are in order of their speakers and takes.
        share: of the recordings to learn from.
        seed: of the draw.

    Raises:
        UserError: there are fewer than ten recordings.
    """
    _check_number(len(labels))
    # The published order is that of the files' names, in which zero is Z.
    order = np.argsort(np.where(labels == 0, 10, labels), kind="stable")
    order = order[np.random.RandomState(seed).permutation(len(labels))]
    rest, test = np.split(order, [int(len(labels) * share)])
    return rest, test


def split_random(labels: NDArray[np.int64], share: float = SHARE, seed: int = SEED) -> Indices:
    """Recordings drawn at random, so that any speaker may be in all parts; see `drawn`.

    Args:
        labels: as in `drawn`.
        share: of the recordings that is not tested on; a tenth of it is the validation part.
        seed: of the draw.

    Raises:
        UserError: there are fewer than ten recordings.
    """
    from sklearn.model_selection import train_test_split

    rest, test = drawn(labels, share, seed)
    train, validation = train_test_split(rest, test_size=VALIDATION, random_state=seed)
    return Indices(train, validation, test)


def split_by_speaker(speakers: Sequence[str], share: float = SHARE, seed: int = SEED) -> Indices:
    """Speakers drawn at random: those of the test part are in no other.

    A tenth of the other speakers is the validation part if that makes one; where they are fewer
    than ten, a tenth of their recordings is.

    Args:
        speakers: who speaks in each recording.
        share: of the speakers that is not tested on.
        seed: of the draw.

    Raises:
        UserError: there is one speaker only, or there are fewer than ten recordings, all in all or
            to learn from.
    """
    from sklearn.model_selection import train_test_split

    names = np.array(speakers)
    _check_number(len(names))
    if len(set(speakers)) < 2:
        raise UserError(f"all digits are spoken by {names[0]}: no speaker can be held out of them")
    rest, test = _part_speakers(np.arange(len(names)), names, share, seed)
    _check_number(len(rest))
    if len(set(names[rest])) < 1 / VALIDATION:
        train, validation = train_test_split(rest, test_size=VALIDATION, random_state=seed)
    else:
        train, validation = _part_speakers(rest, names, 1 - VALIDATION, seed)
    return Indices(train, validation, test)


def _part_speakers(
    indices: NDArray[np.int64], names: NDArray[np.str_], share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Samples of a share of the speakers, and those of the others."""
    from sklearn.model_selection import GroupShuffleSplit

    draw = GroupShuffleSplit(n_splits=1, train_size=share, random_state=seed)
    ours, others = next(draw.split(indices, groups=names[indices]))
    rng = np.random.default_rng(seed)
    return rng.permutation(indices[ours]), rng.permutation(indices[others])


def _check_number(n: int) -> None:
    if n < FEWEST:
        raise UserError(
            f"{n} recordings are too few to learn and to choose by: at least {FEWEST} are needed"
        )


@dataclass(frozen=True)
class Options:
    """The options."""

    data_root: Path | None = None
    """Folder of the data sets, as in main.py."""
    scaling: Scaling = "log-l2"
    """Of the features, see above."""
    bands: Positive[int] = BANDS
    """Mel bands."""
    frames: Positive[int] = FRAMES
    """Frames of a recording."""
    out: Path | None = None
    """A file, .npz, that the features are written to."""


def main() -> None:
    """Read the recordings and tell, or write, their features."""
    options = parse(Options, __doc__)
    speech = load_tidigits_or_fsdd(options.data_root)
    found = features(speech, options.scaling, options.bands, options.frames)
    rest, test = drawn(speech.labels, SHARE, SEED)
    print(f"{speech.name}: {len(rest)} recordings to train on, {len(test)} to test on")
    print(f"features {found.shape}, from {found.min():.3g} to {found.max():.3g}")
    if options.out is None:
        return
    try:
        with options.out.open("wb") as file:
            np.savez_compressed(file, features=found, labels=speech.labels, train=rest, test=test)
    except OSError as error:
        raise UserError(
            f"--out {options.out} cannot be written: {error.strerror or error}"
        ) from error


if __name__ == "__main__":
    script(main)
