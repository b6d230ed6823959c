"""Devices that share every batch train as one does. Run as a program, this trains with two."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smooth_gd.experiments.jax_runtime import Settings, prepare
from smooth_gd.experiments.mnist.network import Network
from smooth_gd.experiments.mnist.training import Classification, Part, Trainer
from smooth_gd.spikegd.utils import parallel

BATCH, STEPS, CHUNK = 21, 10, 4  # a batch is eight chunks of three trials, the last one empty


def trained():
    """Ten steps in float64 with pixels that flip: parameters, loss and accuracy, and devices."""
    random = np.random.default_rng(0)
    codes = random.integers(0, 3, (BATCH * STEPS // 2, 6)).astype(np.uint8)
    part = Part(codes, codes[:, 0].astype(np.int32))
    network = Network(sizes=(6, 5, 4, 3), Nin_virtual=2, spread=2.0)

    def disturbed(key, codes):
        return jnp.where(jax.random.bernoulli(key, 0.2, codes.shape), 2 - codes, codes)

    data = Classification("made", part, part, network.levels, disturbed, 3)
    trainer = Trainer(network, data, BATCH, 4e-3, 0, jax.devices("cpu")[0])
    state = trainer.initial("float64")
    rows = []
    for epoch in (1, 2):
        state, row = trainer.train_epoch(state, epoch)
        rows.append([*row.values()])
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state.parameters)]
    return [*leaves, np.array(rows), np.array(trainer.chunks.replicated.mesh.size)]


@pytest.mark.parametrize("flag", ["--xla_force_host_platform_device_count=2"])
def test_two_devices_train_as_one_does(scripts, tmp_path, monkeypatch, flag):
    path = tmp_path / "two.npz"
    environment = scripts.environment(XLA_FLAGS=flag)
    done = subprocess.run(
        [sys.executable, __file__, path], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    monkeypatch.setattr(parallel, "CHUNK", CHUNK)
    one_device = jax.devices("cpu")[:1]
    monkeypatch.setattr(jax, "devices", lambda *kind: one_device)
    *one, devices = trained()
    with np.load(path) as saved:
        *two, devices_of_two = saved.values()
    assert (devices, devices_of_two) == (1, 2)
    for ours, theirs in zip(two, one, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
    assert np.ptp(one[-1][:, 0]) > 0


if __name__ == "__main__":
    prepare(Settings(device="cpu", dtype="float64", threads=1))
    assert os.environ["XLA_FLAGS"]
    parallel.CHUNK = CHUNK
    np.savez(sys.argv[1], *trained())
