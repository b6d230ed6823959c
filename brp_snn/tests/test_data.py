"""The data sets as the networks take them, and the published programs that make or show them."""

from typing import get_args

import numpy as np
import pytest
import torch
from scipy.io import savemat
from sklearn.datasets import make_classification

from brp_snn import data as data_sets
from brp_snn import gesture, nettalk, synth_dataset_gen
from brp_snn import setup as published
from brp_snn.data import Input, Source, load
from brp_snn.main import STARTS
from brp_snn.setup import SynthDataset
from brp_snn.synth_dataset_gen import generate
from shared import datasets
from shared.datasets import EventPart, Events, EventSet, Recordings, Speech
from shared.errors import UserError


def test_every_data_set_has_a_reader_and_a_start():
    assert set(get_args(data_sets.DatasetName)) == set(data_sets.LOADERS) == set(STARTS)


# --------------------------------------------------------------------------------- synthetic sets


def test_synthetic_classes_are_the_published_draw():
    made = generate("classification")
    inputs, labels = make_classification(
        n_samples=30_000, n_features=256, n_informative=128, n_redundant=0, n_repeated=0,
        n_classes=10, n_clusters_per_class=5, scale=np.ones(256), class_sep=4.5, shuffle=True,
        random_state=0,
    )  # fmt: skip
    np.testing.assert_array_equal(made.train_inputs, inputs[:25_000].astype(np.float32))
    np.testing.assert_array_equal(made.test_inputs, inputs[25_000:].astype(np.float32))
    np.testing.assert_array_equal(made.train_targets.argmax(1), labels[:25_000])
    np.testing.assert_array_equal(made.test_targets, np.eye(10)[labels[25_000:]])


def test_targets_of_the_regression_lie_where_the_outputs_can():
    published = torch.from_numpy(generate("regression").test_targets)
    as_shares, signed = (
        load("regression_synth", Source(None, CPU, signed=signed)).test.targets
        for signed in (False, True)
    )
    torch.testing.assert_close(signed, published)
    torch.testing.assert_close(as_shares, (1 + published) / 2)


def test_synthetic_regression_is_the_papers():
    made = generate("regression")
    assert (made.train_inputs.shape, made.test_targets.shape) == ((5000, 256), (1000, 10))
    mean = made.test_inputs.astype(float).mean(1)
    for i in (0, 9):
        wanted = np.cos(mean + np.pi * (i - 4.5) / 9)
        np.testing.assert_allclose(made.test_targets[:, i], wanted, atol=1e-5)
    assert made.train_inputs.std(1).mean() == pytest.approx(1, abs=0.01)
    assert np.abs(made.train_inputs.mean(1)).max() == pytest.approx(np.pi, abs=0.3)


def test_synthetic_sets_are_written_and_read(tmp_path, monkeypatch, scripts):
    monkeypatch.chdir(tmp_path)
    done = scripts.call(synth_dataset_gen.main)
    assert done.returncode == 0, done.stderr
    made = generate("classification")
    found = SynthDataset("classification", "test")
    assert (found.input_size, found.input_channels, found.label_features) == (16, 1, 10)
    assert len(found) == 5000
    inputs, label = found[3]
    assert torch.equal(inputs, torch.from_numpy(made.test_inputs[3]))
    assert label == made.test_targets[3].argmax()
    found = SynthDataset("regression", "train")
    assert torch.equal(found[7][1], torch.from_numpy(generate("regression").train_targets[7]))
    (tmp_path / "DATASETS/regression/test.pt").unlink()
    with pytest.raises(UserError, match="run synth_dataset_gen"):
        SynthDataset("regression", "test")
    (tmp_path / "file").write_text("")
    done = scripts.call(synth_dataset_gen.main, "--out", tmp_path / "file")
    scripts.assert_refused(done, "cannot be written")


# ----------------------------------------------------------------------------------------- speech

CPU = torch.device("cpu")


def test_bands_are_shown_one_a_step_and_the_first_twenty(monkeypatch):
    rng = np.random.default_rng(0)
    waveforms = tuple(rng.uniform(-1, 1, 900).astype(np.float32) for _ in range(40))
    speech = Speech("fsdd", waveforms, np.arange(40) % 10, ("ann",) * 40, 8000)
    monkeypatch.setitem(data_sets.LOADERS, "fsdd", data_sets._spoken(lambda root: speech))
    data = load("fsdd", Source(None, CPU))
    assert (data.shape, data.rate_shape) == ((1, 30), (20, 30))
    found = data.train.inputs
    assert found.shape == (25, 1, 20, 30)
    torch.testing.assert_close(found.sum(3), torch.ones(25, 1, 20))  # shares over the frames
    # A share is compared with random numbers as it is: on average one frame of a band spikes.
    shown = Input(data, found, 1.0, True, torch.Generator().manual_seed(0))
    assert shown.steps(20) == 20
    assert float(shown(0, 20).sum(-1).mean()) == pytest.approx(1, abs=0.1)
    often = Input(data, found, 0.1, True, torch.Generator().manual_seed(0))
    assert float(often(0, 20).sum(-1).mean()) > 5
    logs = load("fsdd", Source(None, CPU, window=30, scaling="log-l2")).train.inputs
    torch.testing.assert_close((logs**2).sum((1, 2, 3)), torch.ones(25))
    with pytest.raises(
        UserError, match="--spike_window 31: a recording has 30 bands, one per step"
    ):
        load("fsdd", Source(None, CPU, window=31))


# --------------------------------------------------------------------------------------- gestures


def write_gestures(path, n=20, test=5):
    rng = np.random.default_rng(0)
    made = {}
    for part, size in (("train", n), ("test", test)):
        made[f"{part}_x_100"] = (rng.random((size, 100, 1024)) < 0.1) * 0.5
        made[f"{part}_y"] = np.eye(11, dtype=np.uint8)[np.arange(size) % 11]
    savemat(path, made)
    return made


def test_stored_gestures_are_thinned_frames_of_one_channel(tmp_path):
    made = write_gestures(tmp_path / "DVS_gesture_100.mat")
    data = load("dvsgesture", Source(tmp_path, CPU))
    assert (data.name, data.kind, data.shape) == ("dvs_gesture_mat", "frames", (1, 32, 32))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [18, 2, 5]
    expected = made["test_x_100"][:, None, :20].reshape(5, 1, 20, 32, 32)
    np.testing.assert_array_equal(data.test.inputs, expected)
    assert data.test.targets.argmax(1).tolist() == [0, 1, 2, 3, 4]
    shown = Input(data, data.test.inputs, 1.0, True, torch.Generator().manual_seed(0))(0, 20)
    assert shown.shape == (20, 5, 1, 32, 32)
    assert float(shown.mean()) == pytest.approx(0.05, abs=0.005)
    whole = Input(data, data.test.inputs, 0.1, True, torch.Generator().manual_seed(0))(0, 20)
    np.testing.assert_array_equal(whole.movedim(0, 2), expected > 0)
    with pytest.raises(
        UserError, match="--spike_window 101: a gesture has 100 frames, one per step"
    ):
        load("dvsgesture", Source(tmp_path, CPU, window=101))


def test_gestures_of_the_archives_are_the_first_of_100_frames(monkeypatch, tmp_path):
    times = np.arange(100) * 1000
    events = Events(
        np.full(100, 9), np.full(100, 127), (np.arange(100) % 2).astype(np.uint8), times
    )
    part = EventPart(Recordings(range(22), lambda index: events), np.arange(22) % 11)
    cameras = (lambda root: EventSet("dvs_gesture", part, part, part, 128, 128, 11), 4)
    monkeypatch.setitem(gesture.CAMERAS, "dvsgesture", cameras)
    data = load("dvsgesture", Source(tmp_path, CPU, limit=3))
    assert data.train.inputs.shape == (3, 1, 20, 32, 32)
    # Either polarity is an event, a frame a millisecond, in row 31 and column 2.
    assert data.train.inputs[0, 0].nonzero().tolist() == [[i, 31, 2] for i in range(20)]


def test_gestures_are_parts_by_the_published_classes(tmp_path, scripts):
    path = tmp_path / "DVS_gesture_100.mat"
    made = write_gestures(path)
    part = gesture.Gesture("train", transform=None, path=path)
    assert len(part) == 20
    frames, label = part[12]
    np.testing.assert_array_equal(frames, made["train_x_100"][12].reshape(100, 32, 32))
    assert label.tolist() == made["train_y"][12].tolist()
    frames, label = published.Gesture("test", path=path)[3]
    assert (frames.shape, int(label)) == ((1, 100, 32, 32), 3)
    done = scripts.call(gesture.main, "--mat", path, "--batch-size", 4)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "(4, 100, 32, 32)"
    done = scripts.call(gesture.main, "--mat", tmp_path / "none.mat")
    scripts.assert_refused(done, "none.mat is not there")
    with pytest.raises(ValueError, match="part must be one of train, test, not 'valid'"):
        gesture.Gesture("valid", path=path)


@pytest.mark.parametrize("change", ["text", "labels", "pixels", "names"])
def test_a_file_of_no_gestures_is_one_sentence(change, tmp_path):
    path = tmp_path / "DVS_gesture_100.mat"
    made = write_gestures(path)
    if change == "text":
        path.write_text("none")
    else:
        if change == "labels":
            made["test_y"][0] = 0
        if change == "pixels":
            made["train_x_100"] = made["train_x_100"][:, :, :1000]
        if change == "names":
            del made["train_y"]
        savemat(path, made)
    with pytest.raises(datasets.DatasetError, match=r"is no DVS_gesture_100\.mat of MATLAB 5"):
        datasets.load_gesture_frames(root=tmp_path)


# ---------------------------------------------------------------------------------------- NETtalk


def write_nettalk(path):
    rng = np.random.default_rng(0)
    made = {}
    for part, size in (("train", 6), ("test", 3)):
        letters = np.eye(27, dtype=np.uint8)[rng.integers(0, 27, (size, 7))]
        made[f"{part}_x"] = letters.reshape(size, 189)
        made[f"{part}_y"] = rng.integers(0, 2, (size, 26)).astype(np.uint8)
    savemat(path, made)
    return made


def test_letters_are_parts_by_the_published_class(tmp_path, scripts):
    made = write_nettalk(tmp_path / "nettalk_small.mat")
    part = nettalk.Nettalk("test", path=tmp_path / "nettalk_small.mat")
    assert len(part) == 3
    letters, code = part[1]
    np.testing.assert_array_equal(letters, made["test_x"][1])
    np.testing.assert_array_equal(code, made["test_y"][1])
    done = scripts.call(nettalk.main, "--mat", tmp_path / "nettalk_small.mat")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("tensor(") == 12
    with pytest.raises(ValueError, match="part must be one of train, test, not 'valid'"):
        nettalk.Nettalk("valid", path=tmp_path / "nettalk_small.mat")
