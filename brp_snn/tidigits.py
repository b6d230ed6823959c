"""Features and parts of spoken digits.

A recording becomes 30 frames of 30 mel bands, however long it is: the frames are what the network
is shown, one a time step.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int64
from librosa.filters import mel
from numpy.typing import NDArray
from scipy.fft import rfft
from scipy.signal import lfilter
from sklearn.model_selection import GroupShuffleSplit, train_test_split
from sklearn.preprocessing import normalize

from shared.datasets import Speech
from shared.errors import UserError

BANDS = 30
FRAMES = 30
N_FFT = 4096
# Raises high frequencies, as filter banks of speech do by default: y[t] = x[t] - 0.97 x[t - 1].
PRE_EMPHASIS = 0.97

SEED = 42
SHARE = 0.7
VALIDATION = 0.1
FEWEST = 10


def filter_bank(
    waveform: Float[NDArray[np.floating], "samples"],
    rate: int,
    bands: int = BANDS,
    frames: int = FRAMES,
    n_fft: int = N_FFT,
) -> Float32[NDArray[np.float32], "bands frames"]:
    """How the energy of each mel band is spread over a recording.

    The frames overlap by half and together cover the recording: a window lasts
    duration / (frames / 2 + 1 / 2). Each is weighted by a Hamming window, and its power spectrum
    summed in triangular bands, evenly spaced on the mel scale 2595 lg(1 + f / 700 Hz) from 0 to
    half the sampling rate. The energies of a band are divided by their sum over the frames.

    Args:
        waveform: the recording; its level does not matter.
        rate: sampling rate, Hz.
        bands: number of bands.
        frames: number of frames.
        n_fft: length of the Fourier transform, samples. Windows are filled up with zeros; for
            longer windows (recordings from 7.9 s at 8 kHz) it is the next power of two, so that no
            sample is left out.

    Returns:
        Shares of a band's energy: rows sum to 1, or are 0 where a band is silent.

    Raises:
        UserError: the recording has no more samples than frames.
    """
    if len(waveform) <= frames:
        raise UserError(
            f"a recording of {len(waveform)} samples is too short for {frames} frames: leave it out"
        )
    length = round(len(waveform) / (frames / 2 + 1 / 2))
    starts = np.linspace(0, len(waveform) - length, frames).round().astype(int)
    emphasised = lfilter([1, -PRE_EMPHASIS], [1], waveform.astype(np.float64))
    windows = np.lib.stride_tricks.sliding_window_view(emphasised, length)[starts]
    n_fft = max(n_fft, 1 << (length - 1).bit_length())
    power = np.abs(rfft(windows * np.hamming(length), n_fft)) ** 2
    energies = _mel_filters(rate, n_fft, bands) @ power.T
    shares: NDArray[np.float32] = normalize(energies, norm="l1").astype(np.float32)
    return shares


@lru_cache
def _mel_filters(rate: int, n_fft: int, bands: int) -> Float[NDArray[np.float64], "bands bins"]:
    return mel(sr=rate, n_fft=n_fft, n_mels=bands, htk=True, norm=None, dtype=np.float64)


def features(speech: Speech) -> Float32[NDArray[np.float32], "n 1 frames bands"]:
    """The filter banks of all recordings, their frames as the time axis.

    Raises:
        UserError: a recording is too short.
    """
    found = [filter_bank(waveform, speech.rate).T for waveform in speech.waveforms]
    return np.stack(found)[:, None]


class Indices(NamedTuple):
    """Which samples belong to each part, each in random order.

    Attributes:
        train, validation, test: positions, int64.
    """

    train: Int64[NDArray[np.int64], "train"]
    validation: Int64[NDArray[np.int64], "validation"]
    test: Int64[NDArray[np.int64], "test"]


def split_random(labels: NDArray[np.int64], share: float = SHARE, seed: int = SEED) -> Indices:
    """Recordings drawn at random, so that any speaker may be in all parts.

    Args:
        labels: of the recordings; only how many there are matters.
        share: of the recordings that is not tested on; a tenth of it is the validation part.
        seed: of the draw.

    Raises:
        UserError: there are fewer than ten recordings.
    """
    _check_number(len(labels))
    rest, test = train_test_split(np.arange(len(labels)), train_size=share, random_state=seed)
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
    draw = GroupShuffleSplit(n_splits=1, train_size=share, random_state=seed)
    ours, others = next(draw.split(indices, groups=names[indices]))
    rng = np.random.default_rng(seed)
    return rng.permutation(indices[ours]), rng.permutation(indices[others])


def _check_number(n: int) -> None:
    if n < FEWEST:
        raise UserError(
            f"{n} recordings are too few to learn and to choose by: at least {FEWEST} are needed"
        )
