"""Networks exported to ONNX give the same in its runtime; `nox -s test_peers`."""

import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from brp_snn.tests.test_exchange import BATCH, NETWORKS, STEPS, lively
from hybrid_plasticity.networks import FullyConnected
from hybrid_plasticity.tolerance_learning.shared_parameters import SETTINGS
from stl_snn.param import MNIST, scaled
from stl_snn.spiking_model import SpikingNetwork


def assert_same_in_onnx(module: nn.Module, x: Tensor, path: Path) -> None:
    """Its output is not all zeros, and equal to float32's rounding."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        expected = module(x)
        torch.onnx.export(module, (x,), dynamo=True, verbose=False).save(path)
    session = onnxruntime.InferenceSession(path)
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert expected.abs().sum() > 0
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-6)


class Readout(nn.Module):
    """BRP's network without targets."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, spikes: Tensor) -> Tensor:
        """The mean number of output spikes per step."""
        return self.network(spikes, spikes.new_zeros(len(spikes), self.network.n_classes))


class Output(nn.Module):
    """Hybrid plasticity's output alone."""

    def __init__(self, network: FullyConnected) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """V / theta of the output neurons after the last step."""
        return self.network(images).output


@pytest.mark.parametrize(("topology", "shape"), NETWORKS)
def test_brp(topology, shape, tmp_path):
    """Spiking layers, fully connected and convolutional."""
    spikes = (torch.rand(BATCH, shape[0], STEPS, *shape[1:]) < 0.4).float()
    assert_same_in_onnx(Readout(lively(topology, shape)).eval(), spikes, tmp_path / "x.onnx")


def test_stl(tmp_path):
    """Thresholds of each neuron."""
    torch.manual_seed(0)
    setting = scaled(MNIST(theta=0.3), 1 / 32)
    network = SpikingNetwork(setting, (1, 28, 28), 10).eval().requires_grad_(False)
    spikes = (torch.rand(3, 4, 1, 28, 28) < 0.4).float()
    assert_same_in_onnx(network, spikes, tmp_path / "x.onnx")


@pytest.mark.parametrize("rule", ["hp", "gp"])
def test_hybrid_plasticity_with_a_frozen_trace(rule, tmp_path):
    """The trace of some batches, which then stays."""
    torch.manual_seed(0)
    network = SETTINGS.network(rule).eval().requires_grad_(False)
    images = torch.rand(4, 28, 28)
    network(images)
    with network.traces(frozen=True):
        assert_same_in_onnx(Output(network), images, tmp_path / "x.onnx")
