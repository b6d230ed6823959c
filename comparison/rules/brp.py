"""BRP and the modes that it is compared with, on one network of leaky units with 20 steps."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from brp_snn import layerwise
from brp_snn.angles import angles
from brp_snn.function import Mode
from brp_snn.models import Network, NetworkBuilder, Neuron
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
    Spikes,
    TorchLearner,
    after,
    as_counts,
    drawn_spikes,
    finite_loss,
    intensities,
    scaled,
)
from shared.tensors import drawn_generator

STEPS = 20


class Brp(TorchLearner[Network]):
    """784-400-10; pixels are compared with new random thresholds at every step."""

    def __init__(self, plan: Plan, mode: Mode) -> None:
        self.plan, self.mode = plan, mode
        torch.manual_seed(plan.seed)
        topology = f"FC_{plan.hidden}_FC_{plan.n_classes}"
        neuron = Neuron(lens=plan.choice.knob)
        self.network = NetworkBuilder(topology, (plan.n_inputs,), mode, neuron).to(plan.device)
        self.weight = [block.weight for block in self.network.blocks]
        scaled(self.weight, plan.choice.scale)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=plan.choice.lr, fused=True)
        self.generator = drawn_generator(plan.device)

    def _spikes(
        self, images: UInt8[np.ndarray, "batch pixels"], generator: torch.Generator, steps: int
    ) -> Spikes:
        return drawn_spikes(intensities(images, self.plan.device), steps, generator)

    def _targets(self, labels: Labels) -> Float[Tensor, "batch classes"]:
        classes = torch.from_numpy(labels).to(self.plan.device)
        return functional.one_hot(classes, self.plan.n_classes).float()

    def step(self, images: UInt8[np.ndarray, "batch pixels"], labels: Labels) -> float:
        """See `Learner.step`."""
        # Drawn as they are needed: modes that stream the presentation never hold all of it.
        found = layerwise.gradients(
            self.network,
            lambda a, b: self._spikes(images, self.generator, b - a),
            STEPS,
            self._targets(labels),
            functional.mse_loss,
        )
        self.optimizer.step()
        return finite_loss(found.loss)

    @torch.no_grad()
    def answer(
        self, images: UInt8[np.ndarray, "batch pixels"], draw: int, share: float = 1.0
    ) -> Answer:
        """See `Learner.answer`."""
        steps = after(share, STEPS)
        generator = torch.Generator(self.plan.device).manual_seed(draw)
        shown = self._spikes(images, generator, steps)
        hidden, output = layerwise.activity(self.network, shown)
        traffic = tuple(
            Traffic(as_counts(sent), links_of(block.weight), block.layer.units, steps, True)
            for sent, block in zip((shown, hidden), self.network.blocks, strict=True)
        )
        return Answer(output.mean(0).numpy(force=True), traffic[1].events, traffic)

    def angle(self, images: UInt8[np.ndarray, "batch pixels"], labels: Labels) -> float | None:
        """See `Learner.angle`; the gradient is that of BP, by the same surrogate derivative."""
        if self.mode in ("BP", "shallow"):
            return None
        generator = torch.Generator(self.plan.device).manual_seed(0)
        spikes = self._spikes(images, generator, STEPS).float()
        return angles(self.network, spikes, self._targets(labels), functional.mse_loss)[0]

    def state(self) -> dict[str, Any]:
        """See `Learner.state`."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """See `Learner.load`."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])


PROTOCOL = Protocol(
    input="a spike where a pixel exceeds a new random number, at each of 20 steps",
    loss="squared error of the outputs' mean spikes; the largest",
    optimizer="Adam 1e-4, constant",
    chosen="batch 100 in place of 50; the fully connected 784-400-10 in place of a convolution",
)
TEACHING: dict[Mode, tuple[str, str]] = {
    "BRP": ("none: the label", "fixed random"),
    "BP": ("output's, through all layers", "the next layer's"),
    "FA": ("output's, layer by layer", "fixed random"),
    "DFA": ("output's, directly", "fixed random"),
    "sDFA": ("sign of the output's, directly", "fixed random"),
    "shallow": ("none: it does not learn", "none"),
}
RULES = {
    mode.lower(): Rule(
        title=mode,
        build=partial(Brp, mode=mode),
        choice=Choice(lr=1e-4, knob=0.5),
        knob=Knob("half the width of the surrogate derivative", 0.1, 2.0),
        protocol=PROTOCOL,
        locality=Locality("spikes", "potential", error, weights,
                          "none" if mode == "shallow" else "the membrane's memory, some steps"
                          if mode == "BRP" else "the trial: the error is there at its end"),
    )
    for mode, (error, weights) in TEACHING.items()
}  # fmt: skip
