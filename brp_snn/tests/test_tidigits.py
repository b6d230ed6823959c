"""Spoken digits: filter banks against their definition in loops, and the parts of a set."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import wavfile
from sklearn.linear_model import LogisticRegression

from brp_snn import tidigits
from brp_snn.setup import Tidigits
from brp_snn.tidigits import (
    SCALINGS,
    energies,
    features,
    read_data,
    scaled,
    split_by_speaker,
    split_random,
)
from shared.datasets import Speech, load_fsdd, load_tidigits
from shared.errors import UserError

CHECKOUT = Path(__file__).resolve().parents[2]
REAL = Path(os.environ.get("SNN_DATA") or CHECKOUT.parent / "shared" / "data")


def noise(n, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, n).astype(np.float32)


# ------------------------------------------------------------------------------ filter banks


def filter_bank(*arguments):
    """The shares of every band's energy."""
    return scaled(energies(*arguments), "l1")


def hertz(mels):
    return 700 * (10 ** (mels / 2595) - 1)


def plain_filter_bank(waveform, rate, bands, frames, n_fft):
    """The definition in loops: the Fourier sum, the triangles and the shares, each written out."""
    length = round(len(waveform) / (frames * 0.5 + 0.5))
    top = 2595 * math.log10(1 + rate / 2 / 700)
    edges = [hertz(top * i / (bands + 1)) for i in range(bands + 2)]
    before = [0.0, *waveform[:-1].tolist()]
    emphasised = [x - 0.97 * last for x, last in zip(waveform.tolist(), before, strict=True)]
    found = np.zeros((bands, frames))
    for frame in range(frames):
        start = round(frame * (len(waveform) - length) / (frames - 1))
        for k in range(n_fft // 2 + 1):
            total = 0j
            for t in range(length):
                weight = 0.54 - 0.46 * math.cos(2 * math.pi * t / (length - 1))
                turn = 2 * math.pi * k * t / n_fft
                value = weight * emphasised[start + t]
                total += value * complex(math.cos(turn), -math.sin(turn))
            frequency = k * rate / n_fft
            for band in range(bands):
                low, middle, high = edges[band : band + 3]
                rising = (frequency - low) / (middle - low)
                falling = (high - frequency) / (high - middle)
                found[band, frame] += max(0, min(rising, falling)) * abs(total) ** 2
    return found / n_fft


@pytest.mark.parametrize(
    ("n", "rate", "bands", "frames", "n_fft"),
    [
        (175, 8000, 5, 6, 128),  # windows of 50 samples each 25 samples
        (189, 20_000, 4, 6, 64),  # windows of 54 each 27
        (101, 8000, 6, 9, 256),  # windows of 20 each 10 and a bit
    ],
)
def test_filter_banks_are_those_of_the_definition(n, rate, bands, frames, n_fft):
    found = energies(noise(n), rate, bands, frames, n_fft)
    assert found.shape == (bands, frames)
    expected = plain_filter_bank(32768 * noise(n), rate, bands, frames, n_fft)
    np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_energies_are_scaled_as_named():
    found = energies(noise(900), 8000, 4, 5)
    made = {name: scaled(found, name) for name in SCALINGS}
    assert {values.dtype for values in made.values()} == {np.dtype(np.float32)}
    np.testing.assert_allclose(made["l1"], found / found.sum(1, keepdims=True), rtol=1e-6)
    for name, values in (("l2", found), ("log-l2", np.log(found))):
        length = math.sqrt((values**2).sum())
        np.testing.assert_allclose(made[name], values / length, rtol=1e-6)
    assert made["log-l2"].min() > 0  # of samples in units of 16 bits
    assert np.isfinite(scaled(np.zeros((2, 3)), "log-l2")).all()


def test_windows_longer_than_the_transform_lose_no_sample():
    # Windows of 100 samples: a transform of 64 would leave out 36 of each.
    short, long = (filter_bank(noise(350), 8000, 5, 6, n_fft) for n_fft in (64, 128))
    np.testing.assert_array_equal(short, long)
    expected = plain_filter_bank(noise(350), 8000, 5, 6, 128)
    np.testing.assert_allclose(short, expected / expected.sum(1, keepdims=True), rtol=2e-5)
    # Ten seconds at 20 kHz: windows of 12,903 samples.
    shares = filter_bank(noise(200_000), 20_000)
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(31, 20_000), rate=st.sampled_from([8000, 16_000, 20_000]), seed=st.integers(0, 99)
)
def test_each_band_is_shared_out_among_the_frames(n, rate, seed):
    waveform = noise(n, seed)
    shares = filter_bank(waveform, rate)
    assert shares.shape == (30, 30)
    assert shares.min() >= 0
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(filter_bank(waveform / 8, rate), shares, rtol=1e-5)


@pytest.mark.parametrize("n", [8000, 8017, 1148])
def test_energy_is_where_the_sound_is(n):
    waveform = np.zeros(n, np.float32)
    waveform[n // 2 :] = np.sin(2 * np.pi * 1000 * np.arange(n - n // 2) / 8000)
    shares = filter_bank(waveform, 8000)
    assert shares[:, :14].max() == 0  # frames that end before the middle
    assert shares[:, -1].min() > 0  # the last frame ends with the recording
    # 1000 Hz is 1000 mel, of 2146 in 31 steps: the 14th band is centered there, and sounds evenly.
    np.testing.assert_allclose(shares[13, 17:29], shares[13, 17:29].mean(), rtol=0.03)


def test_a_rising_tone_rises_through_the_bands():
    times = np.arange(16_000) / 8000  # from 0 to 3800 Hz in two seconds
    waveform = np.sin(2 * np.pi * 950 * times**2).astype(np.float32)
    peaks = filter_bank(waveform, 8000).argmax(1)
    assert (np.diff(peaks) >= 0).all()
    assert peaks[-1] - peaks[0] > 20


def test_silence_has_no_shares():
    np.testing.assert_array_equal(filter_bank(np.zeros(500, np.float32), 8000), 0)


def test_a_recording_of_no_more_samples_than_frames_is_refused():
    assert np.isfinite(filter_bank(noise(31), 8000)).all()
    with pytest.raises(UserError, match="a recording of 30 samples is too short for 30 frames"):
        filter_bank(noise(30), 8000)


def test_features_have_the_bands_as_time():
    waveforms = tuple(noise(n, seed=n) for n in (900, 1500, 4000))
    speech = Speech("fsdd", waveforms, np.arange(3), ("a", "b", "c"), 8000)
    found = features(speech)
    assert found.shape == (3, 1, 30, 30)
    assert found.dtype == np.float32
    for waveform, values in zip(waveforms, found, strict=True):
        np.testing.assert_array_equal(values[0], filter_bank(waveform, 8000))
    np.testing.assert_allclose(found.sum(3), 1, rtol=1e-5)  # over the frames
    found = features(speech, "l2", bands=4, frames=5)
    assert found.shape == (3, 1, 4, 5)
    np.testing.assert_allclose((found**2).sum((1, 2, 3)), 1, rtol=1e-5)


# ------------------------------------------------------------------------------------- parts


def assert_parts(indices, n):
    """Three parts that have every sample once."""
    assert sorted(np.concatenate(indices).tolist()) == list(range(n))
    assert min(map(len, indices)) > 0
    for part in indices:
        assert (np.diff(part) < 0).any() or len(part) < 4  # in random order
        assert part.dtype == np.int64


def speakers_of(indices, names):
    return [{names[i] for i in part} for part in indices]


@settings(max_examples=30, deadline=None)
@given(n=st.integers(10, 300), seed=st.integers(0, 1000))
def test_random_parts_are_seven_to_three_and_a_tenth(n, seed):
    indices = split_random(np.zeros(n, np.int64), seed=seed)
    assert sorted(np.concatenate(indices).tolist()) == list(range(n))
    rest = len(indices.train) + len(indices.validation)
    assert rest == math.floor(0.7 * n)
    assert len(indices.validation) == math.ceil(0.1 * rest)


def test_random_parts_are_the_published_draw():
    # Two speakers of 20 takes of every digit; the published files are sorted by digit, zero last.
    labels = np.tile(np.repeat(np.arange(10), 20), 2)
    indices = split_random(labels)
    assert_parts(indices, 400)
    assert [len(part) for part in indices] == [252, 28, 120]
    digits = [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    by_name = [s * 200 + d * 20 + take for d in digits for s in (0, 1) for take in range(20)]
    np.random.seed(42)  # noqa: NPY002
    published = np.array(by_name)[np.random.permutation(400)]  # noqa: NPY002
    np.testing.assert_array_equal(indices.test, published[280:])
    assert set(indices.train) | set(indices.validation) == set(published[:280])
    assert set(split_random(labels, seed=1).test) != set(indices.test)
    assert len(split_random(labels, share=0.5).test) == 200


def test_a_few_speakers_are_held_out_and_a_tenth_of_the_others_recordings():
    names = [name for name in "abcdef" for _ in range(50)]
    indices = split_by_speaker(names)
    assert_parts(indices, 300)
    train, validation, test = speakers_of(indices, names)
    assert len(test) == 2
    assert train == validation == set("abcdef") - test
    assert len(indices.validation) == 20
    for part, again in zip(indices, split_by_speaker(names), strict=True):
        np.testing.assert_array_equal(part, again)
    others = [speakers_of(split_by_speaker(names, seed=seed), names)[2] for seed in range(5)]
    assert any(other != test for other in others)


def test_of_many_speakers_a_tenth_validates():
    names = [f"{number:02}" for number in range(40) for _ in range(20)]
    np.random.default_rng(0).shuffle(names)
    indices = split_by_speaker(names)
    assert_parts(indices, 800)
    train, validation, test = speakers_of(indices, names)
    assert (len(train), len(validation), len(test)) == (25, 3, 12)
    assert not train & validation
    assert not test & (train | validation)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["ann"] * 20, "all digits are spoken by ann: no speaker can be held out"),
        (["ann", "bob"] * 4, "8 recordings are too few"),
        (["ann"] * 5 + ["bob"] * 5, "5 recordings are too few"),
        ([], "0 recordings are too few"),
    ],
)
def test_too_few_speakers_or_recordings_are_refused(names, words):
    with pytest.raises(UserError, match=words):
        split_by_speaker(names)


@pytest.mark.parametrize("n", [0, 1, 9])
def test_too_few_recordings_are_refused(n):
    with pytest.raises(UserError, match=f"{n} recordings are too few"):
        split_random(np.zeros(n, np.int64))


# ------------------------------------------------------------------------------ the real set


def tone_words(n=300):
    """Noisy "words": two tones after each other, that tell the digit."""
    rng = np.random.default_rng(0)
    waveforms, labels = [], np.arange(n) % 10
    for label in labels:
        times = np.arange(rng.integers(1500, 4000)) / 8000
        early = np.sin(2 * np.pi * 300 * (1 + label) * times) * (times < times[-1] / 3)
        late = np.sin(2 * np.pi * 300 * (10 - label) * times) * (times > times[-1] / 2)
        waveforms.append((early + late + 0.05 * rng.normal(size=len(times))).astype(np.float32))
    return Speech("fsdd", tuple(waveforms), labels, ("ann",) * n, 8000)


def test_digits_can_be_told_by_their_features():
    speech = load_fsdd(REAL) if (REAL / "fsdd.zip").is_file() else tone_words()
    indices = split_random(speech.labels)
    few = np.concatenate([indices.train[:600], indices.test[:200]])
    small = Speech(
        speech.name,
        tuple(speech.waveforms[i] for i in few),
        speech.labels[few],
        tuple(speech.speakers[i] for i in few),
        speech.rate,
    )
    values = features(small).reshape(len(few), -1)
    n_train = min(600, len(indices.train))
    model = LogisticRegression(C=100, max_iter=1000).fit(values[:n_train], small.labels[:n_train])
    assert model.score(values[n_train:], small.labels[n_train:]) > 0.6


# ------------------------------------------------------------------------- published programs


def write_tidigits(folder):
    for speaker in ("ah", "bg"):
        (folder / speaker).mkdir(parents=True)
        for digit in "z123456789o":
            samples = (3e4 * noise(3000, seed=ord(digit))).astype(np.int16)
            wavfile.write(folder / speaker / f"{digit}a_endpt.wav", 20_000, samples)


def test_recordings_are_read_by_the_published_function(tmp_path):
    write_tidigits(tmp_path)
    train, again, test = read_data(tmp_path, 4, 5)
    assert train is again
    assert [part[0].shape for part in (train, test)] == [(14, 20), (6, 20)]
    waveform = load_tidigits(folder=tmp_path).waveforms[0]
    label = 0
    row = np.concatenate([train[0], test[0]])[np.concatenate([train[1], test[1]]) == label]
    # Frames are the slow axis.
    expected = scaled(energies(waveform, 20_000, 4, 5), "log-l2").T.flatten()
    assert any(np.array_equal(one, expected) for one in row)


def test_recordings_are_parts_by_the_published_class(tmp_path):
    write_tidigits(tmp_path)
    parts = [Tidigits(name, 1, 4, 5, folder=tmp_path) for name in ("train", "valid", "test")]
    assert [len(part) for part in parts] == [14, 14, 6]
    assert torch.equal(parts[0].x_values, parts[1].x_values)
    rows, labels = read_data(tmp_path, 4, 5, scaling="l1")[0]
    np.testing.assert_array_equal(parts[0].x_values.flatten(1), rows)
    np.testing.assert_array_equal(parts[0].y_values, labels)
    sample, label = parts[0][3]
    assert sample.shape == (1, 5, 4)
    np.testing.assert_allclose(sample.sum(1), 1, rtol=1e-5)
    assert parts[0].y_values[3] == label


def test_features_are_told_and_written(scripts, tmp_path):
    write_tidigits(tmp_path / "tidigits")
    options = ("--data-root", tmp_path, "--bands", 4, "--frames", 5)
    done = scripts.call(tidigits.main, *options, "--out", tmp_path / "made.npz")
    assert done.returncode == 0, done.stderr
    assert "tidigits: 14 recordings to train on, 6 to test on" in done.stdout
    assert "features (20, 1, 4, 5)" in done.stdout
    with np.load(tmp_path / "made.npz") as saved:
        assert saved["features"].shape == (20, 1, 4, 5)
        assert sorted([*saved["train"], *saved["test"]]) == list(range(20))
    done = scripts.call(tidigits.main, *options, "--out", tmp_path / "none" / "made.npz")
    scripts.assert_refused(done, "cannot be written")
    scripts.assert_refused(scripts.call(tidigits.main, "--bands", 0), "--bands 0 must be above 0")
