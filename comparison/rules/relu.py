"""A plain network of rectified linear units: what one would take who does not need spikes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import nn
from torch.nn import functional

from comparison.counting import links_of
from comparison.interface import (
    Answer,
    Choice,
    Knob,
    Labels,
    Learner,
    Locality,
    Plan,
    Protocol,
    Rule,
    Traffic,
)
from comparison.torch_parts import finite_loss, intensities, matrices, put, scaled, set_rate
from shared.tensors import global_generators


class Relu(Learner):
    """784-400-10 without time."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        torch.manual_seed(plan.seed)
        self.layers = nn.ModuleList(
            [nn.Linear(plan.n_inputs, plan.hidden), nn.Linear(plan.hidden, plan.n_classes)]
        ).to(plan.device)
        self.weight = [layer.get_parameter("weight") for layer in self.layers]
        scaled(self.weight, plan.choice.scale)
        self.optimizer = torch.optim.Adam(self.layers.parameters(), plan.choice.lr, fused=True)

    def begin(self, epoch: int, epochs: int) -> None:
        """See `Learner.begin`."""
        set_rate(self.optimizer, self.plan.choice.rate(epoch, epochs))

    def step(self, images: UInt8[np.ndarray, "batch pixels"], labels: Labels) -> float:
        """See `Learner.step`."""
        hidden, output = self.layers
        active = functional.relu(hidden(intensities(images, self.plan.device)))
        scores = output(functional.dropout(active, self.plan.choice.knob))
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
        for layer, weight in zip(self.layers, self.weight, strict=True):
            active = functional.relu(active)  # of brightness the same
            events = (active != 0).float().numpy(force=True)
            traffic.append(Traffic(events, links_of(weight), len(weight), 1, binary=False))
            active = layer(active)
        return Answer(active.numpy(force=True), traffic[1].events, tuple(traffic))

    def weights(self) -> dict[str, Float[np.ndarray, "..."]]:
        """See `Learner.weights`."""
        return matrices(self.weight)

    def set_weights(self, weights: Mapping[str, Float[np.ndarray, "..."]]) -> None:
        """See `Learner.set_weights`."""
        put(self.weight, weights)

    def state(self) -> dict[str, Any]:
        """See `Learner.state`."""
        drawing = global_generators(self.plan.device)
        return {
            "layers": self.layers.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **{name: generator.get_state() for name, generator in drawing.items()},
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """See `Learner.load`."""
        self.layers.load_state_dict(state["layers"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name, generator in global_generators(self.plan.device).items():
            generator.set_state(state[name])


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
        spiking=False,
    )
}  # fmt: skip
