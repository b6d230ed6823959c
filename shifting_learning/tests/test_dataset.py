"""Tests of shifting_learning.Dataset: coding, preprocessing and the generator of Spike trials.

The generator is tested against statistics that were measured on the published file of the Spike
set; none of the tests needs that file.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from shared import datasets
from shifting_learning import Dataset, spike_trials
from shifting_learning.SL_MultiInputLy import SNN_MInLy

N_TRIALS = 600


@pytest.fixture(scope="module")
def features() -> datasets.SpikeSet:
    return spike_trials.generate_features(0)


@pytest.fixture(scope="module")
def trials(features: datasets.SpikeSet) -> tuple[datasets.Trial, ...]:
    return spike_trials.generate_trials(N_TRIALS, 1, features)


# Coding


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_code_is_exp_of_one_minus_x(dtype: torch.dtype) -> None:
    z = Dataset.code(torch.tensor([[0.0, 0.25, 1.0]], dtype=dtype))
    assert z.dtype == dtype
    expected = torch.tensor([[np.e, np.exp(0.75), 1.0]], dtype=dtype)
    torch.testing.assert_close(z, expected)


def test_code_takes_numpy_and_keeps_its_type() -> None:
    assert Dataset.code(np.zeros((2, 3))).dtype == torch.float64
    assert Dataset.code(np.zeros((2, 3), np.float32)).dtype == torch.float32
    assert Dataset.code(np.ones(2, np.int64)).tolist() == [1.0, 1.0]


def test_a_reference_spike_is_one_more_input_at_time_zero() -> None:
    z = torch.tensor([[[2.0, 1.5]], [[1.1, 2.7]]], dtype=torch.float64)
    expected = torch.tensor([[[2.0, 1.5, 1.0]], [[1.1, 2.7, 1.0]]], dtype=torch.float64)
    torch.testing.assert_close(Dataset.with_reference(z), expected)


@pytest.mark.parametrize("x", [-0.1, 1.5, 255.0, float("inf")])
def test_code_refuses_intensities_out_of_range(x: float) -> None:
    with pytest.raises(ValueError, match=r"^intensities must lie in \[0, 1\], not between"):
        Dataset.code(np.array([0.5, x]))


def test_code_refuses_nan() -> None:
    with pytest.raises(ValueError, match=r"^an intensity is NaN: check the data$"):
        Dataset.code(np.array([0.5, np.nan, 7.0]))


def test_target_codes() -> None:
    z = Dataset.target_codes(np.array([[2, 0]]), 3, torch.float64)
    right, other = np.exp(0.01), np.exp(0.99)
    expected = [[[other, other, right], [right, other, other]]]
    torch.testing.assert_close(z, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("label", [-1, 3])
def test_target_codes_refuse_labels_out_of_range(label: int) -> None:
    with pytest.raises(ValueError, match=r"^labels must lie between 0 and 2$"):
        Dataset.target_codes(np.array([0, label]), 3)


# Images


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    return datasets.load("mnist5k").test.inputs[:20]


def test_images_become_intensities(digits: np.ndarray) -> None:
    x = Dataset.image_intensities(digits)
    assert x.dtype == np.float32
    assert x.shape == (20, 784)
    np.testing.assert_array_equal(x, digits.reshape(20, 784).astype(np.float32) / 255)


def test_binary_images_are_split_at_one_half(digits: np.ndarray) -> None:
    x = Dataset.image_intensities(digits, "binary")
    np.testing.assert_array_equal(x, digits.reshape(20, 784) >= 128)
    assert x.dtype == np.float32


def test_canny_finds_edges(digits: np.ndarray) -> None:
    x = Dataset.image_intensities(digits, "canny")
    assert x.dtype == np.float32
    assert x.shape == (20, 784)
    assert set(np.unique(x)) == {0.0, 1.0}
    # A digit of 28 by 28 pixels is outlined by some tens of them.
    assert ((x.sum(axis=1) > 20) & (x.sum(axis=1) < 200)).all()


def test_canny_outlines_a_square() -> None:
    image = np.zeros((1, 1, 16, 16), np.uint8)
    image[..., 4:12, 4:12] = 255
    edges = Dataset.image_intensities(image, "canny").reshape(16, 16)
    assert edges[6:10, 6:10].sum() == 0
    assert edges[:3].sum() == edges[:, :3].sum() == 0
    assert (edges[3:13, 3:13].sum(axis=1) >= 2).sum() >= 8


def test_all_preprocessing_can_be_coded_and_images_may_be_none(digits: np.ndarray) -> None:
    for preprocess in ("none", "canny", "binary"):
        z = Dataset.code(Dataset.image_intensities(digits, preprocess))
        assert z.min() >= 1
        assert z.max() <= np.float32(np.e)
    assert Dataset.image_intensities(digits[:0]).shape == (0, 784)
    assert Dataset.code(Dataset.image_intensities(digits[:0])).shape == (0, 784)


def test_images_of_another_kind_are_refused(digits: np.ndarray) -> None:
    message = r"^images must be uint8 of shape \[n, 1, height, width\], not "
    with pytest.raises(ValueError, match=message + "float64"):
        Dataset.image_intensities(digits / 255)
    with pytest.raises(ValueError, match=message):
        Dataset.image_intensities(digits[:, 0])
    with pytest.raises(ValueError, match=r"^preprocess must be one of "):
        Dataset.image_intensities(digits, "sobel")  # type: ignore[arg-type]


# Tables


def test_global_scaling_is_the_published_one() -> None:
    x = datasets.load_table("iris").inputs
    scaled = Dataset.table_intensities(x)
    np.testing.assert_allclose(scaled, (x - 0.1) / (7.9 - 0.1) + 0.01)
    assert Dataset.code(scaled).dtype == torch.float64


@pytest.mark.parametrize("name", datasets.TABLE_NAMES)
def test_feature_scaling_uses_the_whole_range_of_each_column(name: str) -> None:
    scaled = Dataset.table_intensities(datasets.load_table(name).inputs, "feature")
    np.testing.assert_allclose(scaled.min(axis=0), 0.01)
    np.testing.assert_allclose(scaled.max(axis=0), 1.01)
    Dataset.code(scaled)
    Dataset.code(scaled.astype(np.float32))


def test_a_constant_column_is_no_division_by_zero() -> None:
    scaled = Dataset.table_intensities(np.array([[1, 5], [3, 5]]), "feature")
    np.testing.assert_allclose(scaled, [[0.01, 0.01], [1.01, 0.01]])


def test_tables_of_another_kind_are_refused() -> None:
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match=r"^a table must hold finite numbers only"):
            Dataset.table_intensities(np.array([[0.0, bad]]))
    with pytest.raises(ValueError, match=r"^a table must have shape \[n, features\]"):
        Dataset.table_intensities(np.zeros(3))
    with pytest.raises(ValueError, match=r"^scaling must be one of "):
        Dataset.table_intensities(np.zeros((2, 2)), "z")  # type: ignore[arg-type]


# The Spike set's features


def test_features_have_the_published_format(features: datasets.SpikeSet) -> None:
    assert features.trials == ()
    assert len(features.features) == 9
    assert features.rewards.tolist() == [5, 0, 2, 0, 4, 0, 3, 6, 1]
    assert (features.n_synapses, features.duration) == (500, 10.0)
    assert (features.feature_length, features.dt) == (1.0, 0.001)
    for times, _ in features.features:
        assert (np.diff(times) >= 0).all()
        assert times[0] >= 0
        assert times[-1] < 1


def test_features_have_the_specified_number_of_spikes() -> None:
    many = spike_trials.generate_features(3, rewards=[0] * 100).features
    counts = np.concatenate([np.bincount(f.synapses, minlength=500) for f in many])
    shares = np.bincount(counts, minlength=4) / counts.size
    # 50,000 draws: one standard error is at most 0.0021.
    np.testing.assert_allclose(shares, [0.0109, 0.6949, 0.2871, 0.0071], atol=0.008)
    times = np.concatenate([f.times for f in many])
    np.testing.assert_allclose(np.histogram(times, 10, (0, 1))[0] / times.size, 0.1, atol=0.006)


# The generator of trials


def test_trials_have_the_specified_statistics(trials: tuple[datasets.Trial, ...]) -> None:
    n_spikes = np.array([len(trial.times) for trial in trials])
    k = np.array([len(trial.onsets) for trial in trials])
    targets = np.array([trial.target for trial in trials])
    # Means within four standard errors, the rest around the ranges of the published 50 trials.
    assert abs(n_spikes.mean() - 3940) < 4 * n_spikes.std() / N_TRIALS**0.5
    assert 2200 < n_spikes.min() < 2500
    assert 4800 < n_spikes.max() < 5300
    assert abs(targets.mean() - 8.0) < 4 * targets.std() / N_TRIALS**0.5
    assert targets.min() == 0
    assert 17 <= targets.max() <= 21
    shares = np.bincount(k, minlength=6) / N_TRIALS
    np.testing.assert_allclose(shares, [0, 0.10, 0.10, 0.26, 0.42, 0.12], atol=0.08)


def test_onsets_keep_the_rules(trials: tuple[datasets.Trial, ...]) -> None:
    for trial in trials:
        onsets = trial.onsets
        assert 1 <= len(onsets) <= 5
        assert 0.005 - 1e-9 <= onsets[0] <= 0.009 + 1e-9
        assert onsets[-1] + 1 <= 10
        np.testing.assert_allclose(onsets, np.round(onsets, 3), atol=1e-9)
    gaps = np.concatenate([np.diff(trial.onsets) for trial in trials])
    assert gaps.min() >= 1.1 - 0.0011
    assert gaps.max() <= 4.1 + 0.0011


def test_features_are_drawn_evenly_and_placed_unchanged(
    trials: tuple[datasets.Trial, ...], features: datasets.SpikeSet
) -> None:
    ids = np.concatenate([trial.feature_ids for trial in trials])
    np.testing.assert_allclose(np.bincount(ids, minlength=10)[1:] / ids.size, 1 / 9, atol=0.03)
    for trial in trials[:20]:
        np.testing.assert_array_equal(trial.rewards, features.rewards[trial.feature_ids - 1])
        spikes = set(zip(trial.times, trial.synapses, strict=True))
        for onset, feature_id in zip(trial.onsets, trial.feature_ids, strict=True):
            times, synapses = features.features[feature_id - 1]
            assert spikes.issuperset(zip(times + onset, synapses, strict=True))


def test_trials_are_sorted_and_within_range(trials: tuple[datasets.Trial, ...]) -> None:
    for trial in trials:
        assert (np.diff(trial.times) >= 0).all()
        assert 0 <= trial.times[0] < trial.times[-1] < 10
        assert 0 <= trial.synapses.min() <= trial.synapses.max() < 500


def test_the_background_is_thinner_inside_features(features: datasets.SpikeSet) -> None:
    # Without spikes of their own, features show what is left of the background.
    empty = replace(features, features=(datasets.Spikes(np.zeros(0), np.zeros(0, np.int64)),) * 9)
    inside = outside = inside_s = 0.0
    rates = []
    for trial in spike_trials.generate_trials(400, 5, empty):
        np.testing.assert_allclose(trial.times, np.round(trial.times, 3), atol=1e-9)
        assert len(set(zip(trial.times, trial.synapses, strict=True))) == len(trial.times)
        is_inside = (
            (trial.times >= trial.onsets[:, None]) & (trial.times < trial.onsets[:, None] + 1)
        ).any(axis=0)
        inside += is_inside.sum()
        inside_s += len(trial.onsets)
        outside += (~is_inside).sum()
        rates.append((~is_inside).sum() / (10 - len(trial.onsets)) / 500)
    rate = outside / (400 * 10 - inside_s) / 500
    assert rate == pytest.approx(0.3716, rel=0.01)
    assert inside / inside_s / 500 / rate == pytest.approx(1 - 0.162, abs=0.012)
    # Poisson alone spreads a trial's rate by about 3 %; a common modulation adds to it.
    assert 0.028 < np.std(rates) / rate < 0.05


def test_the_background_rate_is_modulated_slowly() -> None:
    at = np.arange(10_000) * 0.001
    factors = np.array([spike_trials._modulation(np.random.default_rng(i), at) for i in range(300)])
    assert factors.std() == pytest.approx(0.03, rel=0.1)
    assert np.abs(np.diff(factors)).max() < 0.001


def test_the_seed_decides_everything(features: datasets.SpikeSet) -> None:
    def draw(seed: int) -> list[tuple[bytes, ...]]:
        spike_set = spike_trials.generate_features(seed)
        return [
            (t.times.tobytes(), t.synapses.tobytes(), t.onsets.tobytes(), t.feature_ids.tobytes())
            for t in spike_trials.generate_trials(3, seed, spike_set)
        ]

    assert draw(7) == draw(7)
    assert draw(7) != draw(8)
    rng = np.random.default_rng(2)
    first, second = (spike_trials.generate_trials(1, rng, features)[0] for _ in range(2))
    assert not np.array_equal(first.times, second.times)


def test_targets_can_be_limited(features: datasets.SpikeSet) -> None:
    targets = [
        trial.target for trial in spike_trials.generate_trials(100, 0, features, max_target=9)
    ]
    assert max(targets) == 9


def test_trials_that_cannot_be_made_are_refused(features: datasets.SpikeSet) -> None:
    assert spike_trials.generate_trials(0, 0, features) == ()
    with pytest.raises(ValueError, match="must not be negative"):
        spike_trials.generate_trials(-1, 0, features)
    with pytest.raises(ValueError, match="must have features"):
        spike_trials.generate_trials(1, 0, replace(features, features=()))
    with pytest.raises(ValueError, match="max_target 4 is too small for rewards from 1 up"):
        spike_trials.generate_trials(1, 0, replace(features, rewards=np.ones(9, int)), max_target=4)


# Batches


def test_batches_are_rows_of_a_csr_matrix(trials: tuple[datasets.Trial, ...]) -> None:
    batch = spike_trials.batch_trials(trials[:3])
    assert batch.spike_times.dtype == torch.float64
    assert batch.synapse.dtype == torch.int32
    assert batch.offsets.dtype == batch.targets.dtype == torch.int64
    assert batch.offsets.tolist() == [0, *np.cumsum([len(t.times) for t in trials[:3]])]
    for n, trial in enumerate(trials[:3]):
        row = slice(batch.offsets[n], batch.offsets[n + 1])
        np.testing.assert_array_equal(batch.spike_times[row].numpy(), trial.times)
        np.testing.assert_array_equal(batch.synapse[row].numpy(), trial.synapses)
        assert batch.targets[n] == trial.rewards.sum()
    with pytest.raises(ValueError, match="at least one trial"):
        spike_trials.batch_trials([])


def test_the_multi_spike_layer_takes_a_batch(trials: tuple[datasets.Trial, ...]) -> None:
    batch = spike_trials.batch_trials(trials[:2])
    layer = SNN_MInLy(500, 4, torch.full((500, 4), 0.004, dtype=torch.float64))
    z = layer(batch.spike_times, batch.synapse, offsets=batch.offsets)
    assert z.shape == (2, 4)
    assert z.isfinite().all()
