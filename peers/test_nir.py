"""A network written as NIR, read back by snnTorch, step by step equal; `nox -s test_peers`."""

import nir
import pytest
import torch
from snntorch.import_nir import import_from_nir
from snntorch.utils import reset

from brp_snn.exchange import to_nir
from brp_snn.tests.test_exchange import BATCH, NETWORKS, STEPS, lively


@pytest.mark.parametrize(("topology", "shape"), NETWORKS)
def test_snntorch_computes_the_same(topology, shape, tmp_path):
    """The same readout, to float32's rounding."""
    network = lively(topology, shape)
    nir.write(tmp_path / "network.nir", to_nir(network))
    peer = import_from_nir(nir.read(tmp_path / "network.nir"))
    spikes = (torch.rand(BATCH, shape[0], STEPS, *shape[1:]) < 0.4).float()
    readout = []
    for sample in spikes:  # NIR's shapes have no batch
        reset(peer)  # its neurons keep their state between calls
        outputs = [peer(sample[:, t])[0] for t in range(STEPS)]
        readout.append(torch.stack(outputs).mean(dim=0))
    expected = network(spikes, torch.zeros(BATCH, 10))
    assert 0.05 < expected.mean() < 0.95
    torch.testing.assert_close(torch.stack(readout).detach(), expected)
