"""A plain network of rectified linear units: what one would take who does not need spikes."""

import numpy as np
import torch
from jaxtyping import UInt8
from torch import nn
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
from comparison.torch_parts import TorchLearner, finite_loss, intensities, scaled
from shared.errors import UserError


class Relu(TorchLearner[nn.ModuleList]):
    """784-400-10 without time."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        torch.manual_seed(plan.seed)
        own = plan.choice.knob
        if plan.dropout is not None and own:
            raise UserError(
                f"--dropout takes the place of relu's knob, which is {own:g} here: leave out "
                "--knob and --edition tuned"
            )
        self.dropped = (0.0, own) if plan.dropout is None else (plan.dropout, plan.dropout)
        self.network = nn.ModuleList(
            [nn.Linear(plan.n_inputs, plan.hidden), nn.Linear(plan.hidden, plan.n_classes)]
        ).to(plan.device)
        self.weight = [layer.get_parameter("weight") for layer in self.network]
        scaled(self.weight, plan.choice.scale)
        self.optimizer = torch.optim.Adam(self.network.parameters(), plan.choice.lr, fused=True)

    def step(self, images: UInt8[np.ndarray, "batch pixels"], labels: Labels) -> float:
        """See `Learner.step`."""
        hidden, output = self.network
        of_input, of_hidden = self.dropped
        shown = functional.dropout(intensities(images, self.plan.device), of_input)
        scores = output(functional.dropout(functional.relu(hidden(shown)), of_hidden))
        loss = functional.cross_entropy(scores, torch.from_numpy(labels).to(scores.device))
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()
        return finite_loss(loss.detach())

    @torch.no_grad()
    def answer(
        self, images: UInt8[np.ndarray, "batch pixels"], draw: int, share: float = 1.0
    ) -> Answer:
        """See `Learner.answer`; there is no time."""
        traffic, active = [], intensities(images, self.plan.device)
        for layer, weight in zip(self.network, self.weight, strict=True):
            active = functional.relu(active)  # of brightness the same
            events = (active != 0).float().numpy(force=True)
            traffic.append(Traffic(events, links_of(weight), len(weight), 1, binary=False))
            active = layer(active)
        return Answer(active.numpy(force=True), traffic[1].events, tuple(traffic))


RULES = {
    "relu": Rule(
        title="ReLU",
        build=Relu,
        choice=Choice(lr=1e-3, knob=0.0),
        knob=Knob("share of hidden units that are dropped", 0.02, 0.7),
        protocol=Protocol(
            input="brightness",
            loss="cross-entropy; the largest output",
            optimizer="Adam 1e-3, constant",
            chosen="all: no paper stands behind it",
        ),
        locality=Locality("activity", "activity", "output's, through all layers",
                          "the next layer's", "none: there is no time"),
        timed=False,
        drops=True,
        spiking=False,
    )
}  # fmt: skip
