"""Golden vectors: what the published program computes on small inputs, in float64.

The environment variable GOLDEN names another folder of vectors with the same names and keys.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from brp_snn import layerwise
from brp_snn.models import NetworkBuilder

FOLDER = Path(os.environ.get("GOLDEN") or Path(__file__).parent / "golden")
TOPOLOGIES = {"fc": "FC_10_FC_4", "conv": "CONV_3_5_1_2_FC_12_FC_4"}
CASES = [
    (kind, mode)
    for kind in TOPOLOGIES
    for mode in ("BP", "FA", "DFA", "sDFA", "DRTP", "shallow")
]  # fmt: skip


def load(kind: str, mode: str) -> dict[str, torch.Tensor]:
    with np.load(FOLDER / f"brp_{kind}_{mode}.npz", allow_pickle=False) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def network_of(golden: dict[str, torch.Tensor], kind: str, mode: str) -> NetworkBuilder:
    network = NetworkBuilder(TOPOLOGIES[kind], golden["spikes"][0, :, 0].shape, mode).double()
    names = {key.removeprefix("param/"): key for key in golden if key.startswith("param/")}
    assert names.keys() == network.state_dict().keys()
    network.load_state_dict({name: golden[key] for name, key in names.items()})
    return network


def targets_of(golden: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.nn.functional.one_hot(golden["labels"], golden["output"].shape[1]).double()


def check(network: NetworkBuilder, output, loss, golden) -> None:
    close = {"rtol": 1e-9, "atol": 1e-12}
    torch.testing.assert_close(output, golden["output"], **close)
    torch.testing.assert_close(loss, golden["loss"], **close)
    for name, parameter in network.named_parameters():
        expected = golden.get(f"grad/{name}", torch.zeros_like(parameter))
        found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize(("kind", "mode"), CASES)
def test_the_plain_form(kind, mode):
    golden = load(kind, mode)
    network, targets = network_of(golden, kind, mode), targets_of(golden)
    output = network(golden["spikes"], targets)
    loss = torch.nn.functional.mse_loss(output, targets)
    loss.backward()
    check(network, output.detach(), loss.detach(), golden)


@pytest.mark.parametrize(("kind", "mode"), CASES)
def test_the_layerwise_form(kind, mode):
    golden = load(kind, mode)
    network, targets = network_of(golden, kind, mode), targets_of(golden)
    steps = golden["spikes"].movedim(2, 0)
    found = layerwise.gradients(
        network,
        lambda start, stop: steps[start:stop],
        len(steps),
        targets,
        torch.nn.functional.mse_loss,
    )
    check(network, found.output, found.loss, golden)
    torch.testing.assert_close(
        layerwise.readout(network, lambda start, stop: steps[start:stop], 5, 6), golden["output"]
    )
