"""Operations as NeuroBench's own harness counts them; `nox -s test_peers`."""

import numpy as np
import pytest
import torch
from neurobench.benchmarks import Benchmark
from neurobench.metrics.workload import SynapticOperations
from neurobench.models import TorchModel
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from comparison.counting import Operations
from comparison.rules.brp import STEPS, Brp
from comparison.tests.made import BATCH, small
from comparison.torch_parts import by_words

DRAW = 3


class Plain(nn.Module):
    """A learner's network as layers that are called step by step, as the harness wants them."""

    def __init__(self, learner: Brp) -> None:
        super().__init__()
        blocks = learner.network.blocks
        self.layers = nn.ModuleList(
            [nn.Linear(block.weight.shape[1], block.layer.units) for block in blocks]
        )
        for layer, block in zip(self.layers, blocks, strict=True):
            layer.weight, layer.bias = block.weight, block.bias

    @torch.no_grad()
    def forward(self, spikes: torch.Tensor) -> torch.Tensor:
        """Mean output spikes of inputs [batch, time, pixels]."""
        states = [(spikes.new_zeros(len(spikes), layer.out_features),) * 2 for layer in self.layers]
        total = torch.zeros(())
        for x in spikes.unbind(1):
            for i, layer in enumerate(self.layers):
                potential = 0.2 * states[i][0] * (1 - states[i][1]) + layer(x)
                x = (potential > 0.5).float()
                states[i] = (potential, x)
            total = total + x
        return total / spikes.shape[1]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("pruned", [0, 20])
def test_neurobench_counts_the_same(pruned):
    """Of all weights, and with some that are 0."""
    learner = small("brp")
    assert isinstance(learner, Brp)
    blocks = learner.network.blocks
    with torch.no_grad():
        for block in blocks:
            block.weight.mul_(4)
        blocks[0].weight[:, :pruned] = 0
    images = np.random.default_rng(0).integers(0, 256, (BATCH, blocks[0].weight.shape[1]))
    images = images.astype(np.uint8)
    counted = Operations()
    answer = learner.answer(images, DRAW)
    counted.add(answer.traffic)
    ours = counted.metrics()

    x = torch.from_numpy(images).float() / 255
    shown = by_words(x, STEPS, torch.Generator().manual_seed(DRAW)).float().movedim(0, 1)
    loader = DataLoader(TensorDataset(shown, torch.zeros(BATCH)), batch_size=5)
    model = TorchModel(Plain(learner))
    harness = Benchmark(model, loader, [], [], [[], [SynapticOperations]])
    theirs = harness.run(quiet=True)["SynapticOperations"]
    assert ours["Effective_ACs"] > 0
    for name in ("Dense", "Effective_MACs", "Effective_ACs"):
        assert float(theirs[name]) == pytest.approx(ours[name])
    np.testing.assert_allclose(model(shown).numpy(), answer.scores, atol=1e-6)
