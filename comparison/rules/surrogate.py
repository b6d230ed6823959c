"""A surrogate-gradient network as snnTorch's users write it."""

from typing import Any

import numpy as np
import snntorch
import torch
from jaxtyping import UInt8
from torch import Tensor, nn
from torch.nn import functional

from comparison.counting import links_of
from comparison.interface import (
    Answer,
    Choice,
    Knob,
    Labels,
    Locality,
    Plan,
    Protocol,
    Rule,
    Traffic,
)
from comparison.torch_parts import (
    TorchLearner,
    after,
    finite_loss,
    intensities,
    scaled,
)

STEPS, DECAY = 25, 0.95


class Surrogate(TorchLearner[nn.ModuleList]):
    """784-400-10 leaky neurons under a constant current, 25 steps."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        torch.manual_seed(plan.seed)
        sizes = [(plan.n_inputs, plan.hidden), (plan.hidden, plan.n_classes)]
        self.network = nn.ModuleList([nn.Linear(*size) for size in sizes]).to(plan.device)
        self.weight = [layer.get_parameter("weight") for layer in self.network]
        scaled(self.weight, plan.choice.scale)
        self.neurons = [snntorch.Leaky(beta=DECAY, spike_grad=_surrogate(plan.choice.knob))
                        for _ in sizes]  # fmt: skip
        self.optimizer = torch.optim.Adam(self.network.parameters(), plan.choice.lr, fused=True)

    def _present(self, x: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Hidden spikes summed over the steps, and the outputs' potentials at each."""
        hidden, output = self.network
        first, second = self.neurons
        current, states = hidden(x), [neuron.reset_mem().to(x.device) for neuron in self.neurons]
        counts, potentials = torch.zeros((), device=x.device), []
        for _ in range(steps):
            spikes, states[0] = first(current, states[0])
            _, states[1] = second(output(spikes), states[1])
            counts = counts + spikes.detach()
            potentials.append(states[1])
        return counts, torch.stack(potentials)

    def step(self, images: UInt8[np.ndarray, "batch pixels"], labels: Labels) -> float:
        """See `Learner.step`."""
        _, potentials = self._present(intensities(images, self.plan.device), STEPS)
        wanted = torch.from_numpy(labels).to(potentials.device).repeat(STEPS)
        loss = STEPS * functional.cross_entropy(potentials.flatten(0, 1), wanted)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()
        return finite_loss(loss.detach())

    @torch.no_grad()
    def answer(
        self, images: UInt8[np.ndarray, "batch pixels"], draw: int, share: float = 1.0
    ) -> Answer:
        """See `Learner.answer`.

        The loss compares potentials and pins no level: outputs may all spike at every step. The
        most spikes, by which the tutorial decides, are then those of several classes.
        """
        steps = after(share, STEPS)
        x = intensities(images, self.plan.device)
        counts, potentials = self._present(x, steps)
        hidden = counts.numpy(force=True)
        sent = [(x != 0).float().numpy(force=True), hidden]
        traffic = tuple(
            Traffic(events, links_of(weight), len(weight), steps if place else 1, place == 1)
            for place, (events, weight) in enumerate(zip(sent, self.weight, strict=True))
        )
        return Answer(potentials.sum(0).numpy(force=True), hidden, traffic)


def _surrogate(alpha: float) -> Any:
    return snntorch.surrogate.atan(alpha=alpha)


RULES = {
    "snntorch": Rule(
        title="snnTorch",
        build=Surrogate,
        choice=Choice(lr=5e-4, knob=2.0),
        knob=Knob("sharpness of the surrogate derivative", 0.5, 20.0),
        protocol=Protocol(
            input="brightness as a current at each of 25 steps",
            loss="cross-entropy of the outputs' potentials, summed over steps; their largest sum",
            optimizer="Adam 5e-4, constant",
            chosen="settings of the library's tutorial on fully connected networks; 400 hidden "
            "neurons in place of 1000, batch 100 in place of 128; decided by what the loss trains, "
            "where the tutorial takes the most spikes, which several classes have alike",
        ),
        locality=Locality("brightness of a pixel, as a current", "potential",
                          "output's, through all layers", "the next layer's",
                          "the trial, backwards"),
    )
}  # fmt: skip
