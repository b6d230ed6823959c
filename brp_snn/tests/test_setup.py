"""The data sets as the networks take them, and the published programs that make or show them."""

import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification

from brp_snn import synth_dataset_gen
from brp_snn.setup import SynthDataset
from brp_snn.synth_dataset_gen import generate
from shared.errors import UserError

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
    with pytest.raises(UserError, match="run synth_dataset_gen"):
        SynthDataset("regression", "valid")
    (tmp_path / "file").write_text("")
    done = scripts.call(synth_dataset_gen.main, "--out", tmp_path / "file")
    scripts.assert_refused(done, "cannot be written")
