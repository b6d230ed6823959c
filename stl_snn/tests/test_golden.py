"""Golden vectors: what the published program computes on small inputs, in float64.

The environment variable GOLDEN names another folder of vectors with the same names and keys.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from stl_snn import func, reference
from stl_snn.lif import ByTorch
from stl_snn.lif import lif as fused

FOLDER = Path(os.environ.get("GOLDEN") or Path(__file__).parent / "golden")
CLOSE = {"rtol": 1e-9, "atol": 1e-12}


def load(name: str) -> dict[str, torch.Tensor]:
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


@pytest.mark.parametrize("lif", [fused, reference.lif], ids=["fused", "plain"])
def test_neurons(lif):
    golden = load("stl_lif")
    current, theta = (golden[key].clone().requires_grad_() for key in ("input", "thresh"))
    spikes = lif(current, theta, float(golden["tau"]), float(golden["alpha"]))
    assert torch.equal(spikes, golden["spikes"])
    (spikes * golden["grad_spikes"]).sum().backward()
    torch.testing.assert_close(current.grad, golden["grad_input"], **CLOSE)
    torch.testing.assert_close(theta.grad, golden["grad_thresh"], **CLOSE)


def test_neurons_on_devices_without_a_kernel():
    golden = load("stl_lif")
    given = (golden["input"], golden["thresh"])
    assert torch.equal(ByTorch.forward(*given, 0.5), golden["spikes"])
    found = ByTorch.backward(*given, golden["grad_spikes"], 0.5, 2.0)
    torch.testing.assert_close(found[0], golden["grad_input"], **CLOSE)
    torch.testing.assert_close(found[1], golden["grad_thresh"], **CLOSE)


@pytest.mark.parametrize("layers", [func, reference], ids=["fast", "plain"])
def test_a_layer_of_neurons(layers):
    golden = load("stl_lif")
    neurons = layers.LIF(True, golden["thresh"], float(golden["tau"]), heterogeneity=0)
    assert torch.equal(neurons(golden["input"]), golden["spikes"])


@pytest.mark.parametrize("layers", [func, reference], ids=["fast", "plain"])
def test_batch_normalization(layers):
    golden = load("stl_batchnorm")
    norm = layers.BatchNorm2d(golden["input"].shape[2]).double()
    torch.testing.assert_close(norm(golden["input"]), golden["train_output"], **CLOSE)
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(norm, name), golden[name], **CLOSE)
    norm.eval()
    torch.testing.assert_close(norm(golden["input"]), golden["eval_output"], **CLOSE)


@pytest.mark.parametrize("layers", [func, reference], ids=["fast", "plain"])
def test_a_network(layers):
    golden = load("stl_network")
    tau, alpha = (float(golden[name]) for name in ("tau", "alpha"))
    network = torch.nn.Sequential(
        layers.Conv2d(1, 4, 5, padding=2, bias=False),
        layers.BatchNorm2d(4),
        layers.LIF(True, golden["thresh1"], tau, heterogeneity=0, alpha=alpha),
        layers.AdaptiveMaxPool2d(4),
        layers.Linear(64, 20, bias=False),
        layers.LIF(True, golden["thresh2"], tau, heterogeneity=0, alpha=alpha),
        layers.Vote(int(golden["population"])),
    ).double()
    with torch.no_grad():
        for layer, key in ((0, "conv"), (4, "fc")):
            network[layer].weight.copy_(golden[key])
    output = network(golden["input"])
    torch.testing.assert_close(output, golden["output"], **CLOSE)
    targets = torch.nn.functional.one_hot(golden["labels"], output.shape[1]).double()
    loss = torch.nn.functional.mse_loss(output, targets)
    torch.testing.assert_close(loss, golden["loss"], **CLOSE)
    loss.backward()
    found = {
        "conv": network[0].weight,
        "bn_weight": network[1].weight,
        "bn_bias": network[1].bias,
        "thresh1": network[2].thresh,
        "fc": network[4].weight,
        "thresh2": network[5].thresh,
    }
    for name, parameter in found.items():
        torch.testing.assert_close(parameter.grad, golden[f"grad_{name}"], **CLOSE, msg=name)
