"""The Spike set of the temporal credit-assignment task (MATLAB 5 files).

Source: the data of the adaptive multi-spike tempotron, arXiv 1805.07569. ``data`` has a row a
trial: spike times of all, of the background and of the features (a cell a synapse), onsets,
rewards, length of a trial, length of a feature, time step. ``pattern_data`` has a row a feature:
spike times, reward, id.
"""

from __future__ import annotations

import io
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.datasets._files import Archive, data_root, read, read_bytes
from shared.datasets._types import DatasetError, Spikes, SpikeSet, Trial

_VALIDATION = "gamma_5-inhomogbgnoise-trials-250-syn-500-feat-9-validation.mat"
SPIKE_SET = Archive(
    title="The Spike set",
    folder="tca_spike",
    files={_VALIDATION: "5eebea6eeefb77f2a1d1216f751b10d5c597382eb095bf53cc329f6eec6c131b"},
)

# The features are stored with the time at which each first began, in seconds, by id.
_OFFSETS = {
    1: 0.007,
    2: 0.008,
    3: 3.535,
    4: 2.605,
    5: 1.574,
    6: 0.006,
    7: 6.279,
    8: 2.398,
    9: 7.042,
}


def load_spike_set(
    path: str | os.PathLike[str] | None = None,
    *,
    root: str | os.PathLike[str] | None = None,
) -> SpikeSet:
    """Reads the published validation trials, or a file of one's own in their format.

    Args:
        path: such a file, for example the original training trials; it is not checked against a
            checksum. None means the published validation file below the data root.
        root: the data root, else the environment variable SNN_DATA, else ``datasets``.

    Raises:
        DatasetMissingError: the published file is not there (no download is offered).
        DatasetError: the file is damaged, unreadable or in another format.

    """
    if path is None:
        folder = data_root(root)
        content = read(SPIKE_SET, folder, download=True)[_VALIDATION]
        name = str(folder / SPIKE_SET.folder / _VALIDATION)
    else:
        name = os.path.expanduser(path)
        content = read_bytes(Path(name))
    try:
        return _parse(content)
    except Exception as error:  # a MATLAB file of another kind fails in too many ways to list
        raise DatasetError(
            f"{name} is not a MATLAB 5 file in the format of the Spike set: {error!r}."
        ) from error


def _parse(content: bytes) -> SpikeSet:
    from scipy.io import loadmat

    # The variables are named so that nothing else in the file is decoded.
    variables = loadmat(io.BytesIO(content), variable_names=["data", "pattern_data"])
    data, stored = variables["data"], variables["pattern_data"]
    duration, length, dt = (float(data[0, column].item()) for column in (5, 6, 7))
    stored = sorted(stored, key=lambda row: int(row[2].item()))
    ids = [int(row[2].item()) for row in stored]
    if ids != list(range(1, len(ids) + 1)):
        raise ValueError(f"the features' ids are {ids}")
    n_synapses = data[0, 0].size
    # In order of synapse, then time: features are recognised in this order, given in order of time.
    features = [_feature(row, length, dt, n_synapses) for row in stored]
    return SpikeSet(
        trials=tuple(_trial(row, features, length, dt, n_synapses) for row in data),
        features=tuple(_in_order_of_time(feature) for feature in features),
        rewards=np.concatenate([_whole(row[1]) for row in stored]),
        n_synapses=n_synapses,
        duration=duration,
        feature_length=length,
        dt=dt,
    )


def _vector(cell: NDArray[Any]) -> NDArray[np.float64]:
    # MATLAB stores a vector of whole numbers as bytes.
    vector = cell.ravel().astype(np.float64)
    if not np.isfinite(vector).all() or (vector < 0).any():
        raise ValueError("a time or reward is negative or not finite")
    return vector


def _whole(cell: NDArray[Any]) -> NDArray[np.int64]:
    vector = _vector(cell)
    if (vector % 1 != 0).any():
        raise ValueError("a reward is no whole number")
    return vector.astype(np.int64)


def _spikes(cells: NDArray[Any], n_synapses: int) -> Spikes:
    """Spikes of a row of cells in order of synapse, then time."""
    if cells.size != n_synapses:
        raise ValueError(f"{cells.size} synapses, not {n_synapses}")
    vectors = [np.sort(_vector(cell)) for cell in cells.ravel()]
    counts = [vector.size for vector in vectors]
    return Spikes(np.concatenate(vectors), np.repeat(np.arange(n_synapses), counts))


def _in_order_of_time(spikes: Spikes) -> Spikes:
    order = np.argsort(spikes.times, kind="stable")
    return Spikes(spikes.times[order], spikes.synapses[order])


def _feature(row: NDArray[Any], length: float, dt: float, n_synapses: int) -> Spikes:
    """A feature from its onset on, in order of synapse, then time."""
    times, synapses = _spikes(row[0], n_synapses)
    if not times.size:
        raise ValueError("a feature has no spikes")
    first, last = float(times.min()), float(times.max())
    offset = _OFFSETS.get(int(row[2].item()), math.inf)
    if not (offset <= first and last - offset <= length):
        # Not one of the published nine: begin with the step of its first spike.
        offset = math.floor(first / dt) * dt
    return Spikes(times - offset, synapses)


def _trial(
    row: NDArray[Any], features: list[Spikes], length: float, dt: float, n_synapses: int
) -> Trial:
    times, synapses = _in_order_of_time(_spikes(row[0], n_synapses))
    onsets, rewards = _vector(row[3]), _whole(row[4])
    if onsets.size != rewards.size:
        raise ValueError(f"a trial has {onsets.size} onsets, {rewards.size} rewards")
    placed = _spikes(row[2], n_synapses)
    ids = [_identify(placed, onset, features, length, dt) for onset in onsets]
    return Trial(times, synapses, onsets, rewards, np.array(ids, np.int64))


def _identify(
    placed: Spikes, onset: float, features: list[Spikes], length: float, dt: float
) -> int:
    """Id of the feature whose spikes begin at ``onset``, or 0.

    The file names rewards only, and two features have the same; but it holds the spikes of the
    features alone, and these are copies.
    """
    inside = (placed.times >= onset - dt / 2) & (placed.times < onset + length + dt / 2)
    times, synapses = placed.times[inside] - onset, placed.synapses[inside]
    for index, feature in enumerate(features):
        same = np.array_equal(synapses, feature.synapses)
        if same and np.allclose(times, feature.times, rtol=0, atol=dt / 2):
            return index + 1
    return 0
