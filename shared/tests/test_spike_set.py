"""The Spike set of temporal credit assignment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from shared import datasets
from shared.datasets import (
    DatasetError,
    DatasetMissingError,
    _spikes,
)
from shared.tests.made import (
    REAL,
    has_real,
    put,
    sha256,
)

pytestmark = pytest.mark.usefixtures("no_environment")


N_SYNAPSES = 6
OFFSETS = {1: 0.007, 2: 0.008, 3: 3.535}  # those of the published features with these ids
REWARDS = {1: 5, 2: 0, 3: 0}


def cells(vectors: list[np.ndarray]) -> np.ndarray:
    """A 1 x n MATLAB cell; vectors of whole numbers as bytes, as MATLAB stores them."""
    row = np.empty((1, len(vectors)), object)
    for index, vector in enumerate(vectors):
        whole = (vector == vector.round()).all()
        row[0, index] = vector[None].astype(np.uint8 if whole else np.float64)
    return row


def made_features(rng: np.random.Generator) -> dict[int, list[np.ndarray]]:
    counts = {1: [2, 1, 0, 1, 3, 1], 2: [1, 1, 1, 2, 1, 1], 3: [1, 1, 1, 2, 1, 1]}
    # Unsorted, as in the file.
    return {key: [rng.uniform(0.01, 0.99, n) for n in row] for key, row in counts.items()}


def made_variables(n_trials: int = 4) -> dict[str, np.ndarray]:
    """A file of the Spike set: trial k has the features k + 1, k + 2, ... modulo three."""
    rng = np.random.default_rng(0)
    features = made_features(rng)
    data = np.empty((n_trials, 8), object)
    for trial in range(n_trials):
        ids = [(trial + step) % 3 + 1 for step in range(1 + trial % 3)]
        onsets = np.array([0.005 + 2.5 * step for step in range(len(ids))])
        placed = [
            np.concatenate(
                [features[key][s][::-1] + onset for key, onset in zip(ids, onsets, strict=True)]
            )
            for s in range(N_SYNAPSES)
        ]
        background = [rng.integers(0, 10_000, 4) / 1000 for _ in range(N_SYNAPSES)]
        background[trial % N_SYNAPSES] = np.array([0.0, 7.0, 3.0])  # whole numbers: bytes
        both = [np.concatenate(pair) for pair in zip(placed, background, strict=True)]
        if trial == 3:
            both[0] = np.array([9.0, 2.0])
        data[trial] = [
            cells(both),
            cells(background),
            cells(placed),
            onsets[None],
            np.array([[REWARDS[key] for key in ids]], np.uint8),
            np.array([[10]], np.uint8),
            np.array([[1]], np.uint8),
            np.array([[0.001]]),
        ]
    stored = np.empty((3, 3), object)
    for row, key in enumerate((2, 1, 3)):  # not in the order of their ids
        spikes = cells([vector + OFFSETS[key] for vector in features[key]])
        stored[row] = [spikes, np.array([[REWARDS[key]]]), np.array([[key]])]
    return {"data": data, "pattern_data": stored}


def save(path: Path, variables: dict[str, np.ndarray]) -> Path:
    scipy.io.savemat(path, variables)
    return path


def assert_sorted_spikes(times: np.ndarray, synapses: np.ndarray, n_synapses: int) -> None:
    assert times.dtype == np.float64
    assert synapses.dtype == np.int64
    assert times.shape == synapses.shape
    assert (np.diff(times) >= 0).all()
    ties = np.diff(times) == 0
    assert (np.diff(synapses)[ties] >= 0).all()
    assert synapses.min() >= 0
    assert synapses.max() < n_synapses


def test_reads_a_file_of_ones_own(tmp_path: Path) -> None:
    variables = made_variables()
    spike_set = datasets.load_spike_set(save(tmp_path / "own.mat", variables))
    assert (spike_set.n_synapses, spike_set.duration) == (N_SYNAPSES, 10.0)
    assert (spike_set.feature_length, spike_set.dt) == (1.0, 0.001)
    assert spike_set.rewards.tolist() == [5, 0, 0]
    assert spike_set.rewards.dtype == np.int64
    expected = made_features(np.random.default_rng(0))
    for key, feature in enumerate(spike_set.features, start=1):
        assert_sorted_spikes(*feature, N_SYNAPSES)
        for synapse in range(N_SYNAPSES):
            np.testing.assert_allclose(
                feature.times[feature.synapses == synapse],
                np.sort(expected[key][synapse]),
                atol=1e-12,
            )
    assert [trial.feature_ids.tolist() for trial in spike_set.trials] == [
        [1],
        [2, 3],
        [3, 1, 2],
        [1],
    ]
    assert [trial.target for trial in spike_set.trials] == [5, 0, 5, 5]
    for row, trial in zip(variables["data"], spike_set.trials, strict=True):
        assert_sorted_spikes(trial.times, trial.synapses, N_SYNAPSES)
        for synapse in range(N_SYNAPSES):
            np.testing.assert_array_equal(
                trial.times[trial.synapses == synapse],
                np.sort(row[0][0, synapse].ravel().astype(float)),
            )
        np.testing.assert_array_equal(trial.onsets, row[3].ravel())
        assert trial.rewards.dtype == np.int64


def test_features_stored_with_another_offset_begin_at_their_first_spike(tmp_path: Path) -> None:
    variables = made_variables()
    stored = variables["pattern_data"][1]
    assert stored[2].item() == 1
    stored[0] = cells([vector.ravel().astype(float) + 5 for vector in stored[0].ravel()])
    first = min(vector.min() for vector in stored[0].ravel() if vector.size)
    spike_set = datasets.load_spike_set(save(tmp_path / "own.mat", variables))
    assert 0 <= spike_set.features[0].times[0] < 0.001
    np.testing.assert_allclose(spike_set.features[0].times[0], first % 0.001, atol=1e-9)


def test_a_feature_that_is_not_stored_has_id_0(tmp_path: Path) -> None:
    variables = made_variables()
    row = variables["data"][1]
    row[2] = cells([vector.ravel().astype(float) + 0.01 for vector in row[2].ravel()])
    spike_set = datasets.load_spike_set(save(tmp_path / "own.mat", variables))
    assert spike_set.trials[1].feature_ids.tolist() == [0, 0]
    assert spike_set.trials[2].feature_ids.tolist() == [3, 1, 2]


def damage_nothing_there(variables: dict[str, np.ndarray]) -> None:
    del variables["data"]


def damage_columns(variables: dict[str, np.ndarray]) -> None:
    variables["data"] = variables["data"][:, :4]


def damage_synapses(variables: dict[str, np.ndarray]) -> None:
    variables["data"][2, 0] = variables["data"][2, 0][:, :4]


def damage_time(variables: dict[str, np.ndarray]) -> None:
    variables["data"][2, 0][0, 1] = np.array([[np.nan]])


def damage_sign(variables: dict[str, np.ndarray]) -> None:
    variables["data"][2, 0][0, 1] = np.array([[-0.5]])


def damage_onsets(variables: dict[str, np.ndarray]) -> None:
    variables["data"][2, 3] = np.array([[0.1, 0.2]])


def damage_reward(variables: dict[str, np.ndarray]) -> None:
    variables["data"][2, 4] = np.array([[0.5, 0.0, 5.0]])


def damage_feature_reward(variables: dict[str, np.ndarray]) -> None:
    variables["pattern_data"][0, 1] = np.array([[1.5]])


def damage_ids(variables: dict[str, np.ndarray]) -> None:
    variables["pattern_data"][0, 2] = np.array([[7]])


def damage_feature(variables: dict[str, np.ndarray]) -> None:
    variables["pattern_data"][0, 0] = cells([np.empty(0)] * N_SYNAPSES)


def damage_type(variables: dict[str, np.ndarray]) -> None:
    variables["data"] = np.zeros((4, 8))


@pytest.mark.parametrize(
    "damage",
    [
        damage_nothing_there,
        damage_columns,
        damage_synapses,
        damage_time,
        damage_sign,
        damage_onsets,
        damage_reward,
        damage_feature_reward,
        damage_ids,
        damage_feature,
        damage_type,
    ],
)
def test_other_files_are_refused_by_name(
    damage: Callable[[dict[str, np.ndarray]], None], tmp_path: Path
) -> None:
    variables = made_variables()
    damage(variables)
    path = save(tmp_path / "own.mat", variables)
    with pytest.raises(DatasetError, match=r"own\.mat is not a MATLAB 5 file in the format"):
        datasets.load_spike_set(path)


def test_a_mat_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "own.mat", made_variables())
    for share in (0, 0.01, 0.3, 0.99):
        content = path.read_bytes()
        (tmp_path / "cut.mat").write_bytes(content[: int(share * len(content))])
        with pytest.raises(DatasetError, match=r"cut\.mat is not a MATLAB 5 file"):
            datasets.load_spike_set(tmp_path / "cut.mat")
    with pytest.raises(DatasetError, match=r"none\.mat cannot be read: No such file"):
        datasets.load_spike_set(tmp_path / "none.mat")


def test_the_published_file_is_checked_and_has_no_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DatasetMissingError, match="no download is offered") as refusal:
        datasets.load_spike_set(root=tmp_path)
    assert str(tmp_path / "tca_spike") in str(refusal.value)

    path = save(tmp_path / "made.mat", made_variables())
    name = next(iter(_spikes.SPIKE_SET.files))
    put(tmp_path, {name: path.read_bytes()}, "tca_spike")
    monkeypatch.setenv("SNN_DATA", str(tmp_path))
    with pytest.raises(DatasetError, match=rf"{name} is damaged .*: put a good copy in its place"):
        datasets.load_spike_set()
    small = replace(_spikes.SPIKE_SET, files={name: sha256(path.read_bytes())})
    monkeypatch.setattr(_spikes, "SPIKE_SET", small)
    assert len(datasets.load_spike_set().trials) == 4


def test_published_trials_have_the_published_numbers(tmp_path: Path) -> None:
    if not has_real(_spikes.SPIKE_SET):
        made = datasets.load_spike_set(save(tmp_path / "own.mat", made_variables()))
        assert [trial.times.size for trial in made.trials] == [31, 37, 45, 27]
        return
    spike_set = datasets.load_spike_set(root=REAL)
    assert len(spike_set.trials) == 50
    assert (spike_set.n_synapses, spike_set.duration) == (500, 10.0)
    assert (spike_set.feature_length, spike_set.dt) == (1.0, 0.001)
    counts = [trial.times.size for trial in spike_set.trials]
    assert (min(counts), max(counts), round(np.mean(counts))) == (2350, 4983, 3940)
    targets = [trial.target for trial in spike_set.trials]
    assert (min(targets), max(targets), round(np.mean(targets), 1)) == (0, 19, 8.4)
    assert max(np.bincount(targets)) / 50 == 0.14  # the majority baseline
    assert {trial.onsets.size for trial in spike_set.trials} == {1, 2, 3, 4, 5}
    for trial in spike_set.trials:
        assert_sorted_spikes(trial.times, trial.synapses, 500)
        assert (trial.times[0] >= 0, trial.times[-1] <= 10) == (True, True)
        # Every feature is recognised, and its id has the reward that the file names.
        assert trial.feature_ids.min() >= 1
        np.testing.assert_array_equal(spike_set.rewards[trial.feature_ids - 1], trial.rewards)
    assert spike_set.rewards.tolist() == [5, 0, 2, 0, 4, 0, 3, 6, 1]
    per_synapse = []
    for times, synapses in spike_set.features:
        assert_sorted_spikes(times, synapses, 500)
        assert (times[0] >= 0, times[-1] < 1) == (True, True)
        per_synapse.append(np.bincount(synapses, minlength=500))
    share = np.bincount(np.concatenate(per_synapse)) / 4500
    np.testing.assert_allclose(share, [0.0109, 0.6949, 0.2871, 0.0071], atol=5e-5)
