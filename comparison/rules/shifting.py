"""Shifting learning, and the exact gradient of the same one-spike network."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from brp_snn.angles import angle
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
from shared.errors import UserError
from shifting_learning.Dataset import code
from shifting_learning.images import codes_of
from shifting_learning.kernels import SILENT
from shifting_learning.network import Network, reward_error
from shifting_learning.SL_Layer import SNNLayer

SPREAD = 8.0  # initial timings are uniform in [0, spread / inputs)


class Shifting(Learner):
    """784-400-10 neurons of one spike; every pixel is one input spike, bright ones first."""

    def __init__(self, plan: Plan, rule: str) -> None:
        self.plan = plan
        generator = torch.Generator().manual_seed(plan.seed)
        sizes = [(plan.n_inputs, plan.hidden), (plan.hidden, plan.n_classes)]
        timings = [
            torch.rand(n_in, n_out, generator=generator) * (plan.choice.scale * SPREAD / n_in)
            for n_in, n_out in sizes
        ]
        self.rule = rule
        self.network = self._network(timings, rule)
        self.lr = plan.choice.lr
        self.longest = 0.0  # time of the latest decision in this epoch

    def _network(self, timings: list[Tensor], rule: str) -> Network:
        layers = [SNNLayer(e_ts.shape[0], e_ts.shape[1], e_ts, rule=rule) for e_ts in timings]
        return Network(*layers).to(self.plan.device)

    def begin(self, epoch: int, epochs: int) -> None:
        """See `Learner.begin`."""
        self.lr = self.plan.choice.rate(epoch, epochs)
        self.longest = 0.0

    def _codes(self, images: UInt8[np.ndarray, "batch pixels"]) -> Float[Tensor, "batch pixels"]:
        return codes_of(torch.from_numpy(images).to(self.plan.device), code)

    def _present(self, z_in: Float[Tensor, "batch pixels"]) -> Float[Tensor, "batch classes"]:
        try:
            z_out: Tensor = self.network(z_in)
        except ValueError as error:  # timings that are no numbers
            raise UserError(f"{error}; lower --lr or --scale") from error
        return z_out

    def _error(self, z_out: Tensor, labels: Labels) -> Tensor:
        classes = torch.from_numpy(labels).to(z_out.device)
        return reward_error(z_out, classes, "published")

    def step(self, images: UInt8[np.ndarray, "batch pixels"], labels: Labels) -> float:
        """See `Learner.step`."""
        z_out = self._present(self._codes(images))
        decided = z_out.amin(1)
        spoken = decided[decided < SILENT / 2]
        self.longest = max(self.longest, *spoken.log().tolist(), 0.0)
        delta = self._error(z_out, labels)
        self.network.learn(delta, self.lr, self.plan.choice.knob)
        return float(delta.square().sum(1).mean())

    def answer(
        self, images: UInt8[np.ndarray, "batch pixels"], draw: int, share: float = 1.0
    ) -> Answer:
        """See `Learner.answer`.

        A trial ends with the first output spike; how long trials are is said by the latest such
        spike of the last epoch.
        """
        z_in = self._codes(images)
        z_out = self._present(z_in)
        hidden, output = self.network.layers
        z_hidden = hidden.spikes.u * hidden.e_tp
        end = z_out.amin(1, keepdim=True)
        if share < 1:
            limit = math.exp(share * self.longest)
            z_out, end = z_out.clamp(max=limit), end.clamp(max=limit)
        sent = [z_in <= end, (z_hidden <= end) & ~hidden.is_silent]
        traffic = tuple(
            Traffic(events.float().numpy(force=True), links_of(layer.e_ts.T), layer.outCh, 1, True)
            for events, layer in zip(sent, (hidden, output), strict=True)
        )
        spiked = (~hidden.is_silent).float()
        return Answer(-z_out.numpy(force=True), spiked.numpy(force=True), traffic)

    def weights(self) -> dict[str, Float[np.ndarray, "..."]]:
        """See `Learner.weights`."""
        layers = zip(("hidden", "output"), self.network.layers, strict=True)
        return {name: layer.e_ts.numpy(force=True).copy() for name, layer in layers}

    @torch.no_grad()
    def set_weights(self, weights: Mapping[str, Float[np.ndarray, "..."]]) -> None:
        """See `Learner.set_weights`."""
        for name, layer in zip(("hidden", "output"), self.network.layers, strict=True):
            layer.e_ts.copy_(torch.from_numpy(weights[name]))

    def angle(self, images: UInt8[np.ndarray, "batch pixels"], labels: Labels) -> float | None:
        """See `Learner.angle`."""
        if self.rule == "exact":
            return None
        found = []
        for rule in ("shifting", "exact"):
            network = self._network([layer.e_ts for layer in self.network.layers], rule)
            for ours, theirs in zip(network.layers, self.network.layers, strict=True):
                ours.e_tp.copy_(theirs.e_tp)
            delta = self._error(network(self._codes(images)), labels)
            hidden, output = network.layers
            assert isinstance(output, SNNLayer)
            z_hidden = hidden.spikes.u * hidden.e_tp
            found.append(hidden.gradients(output.feedback(delta), z_hidden)[0])
        return angle(*found)

    def state(self) -> dict[str, Any]:
        """See `Learner.state`."""
        return {"network": self.network.state_dict(), "longest": self.longest}

    def load(self, state: Mapping[str, Any]) -> None:
        """See `Learner.load`."""
        self.network.load_state_dict(state["network"])
        self.longest = state["longest"]


CHOICE = Choice(lr=1e-4, decay=1e-2, knob=1e-4)
KNOB = Knob("step size of the passing times", 1e-6, 1e-2)
PROTOCOL = Protocol(
    input="a spike of each pixel at time 1 - x, x its brightness",
    loss="softmax(z) - softmax(target codes); the class that spikes first",
    optimizer="Adam (0.9, 0.9), 1e-4 falling to 1e-6; 1e-4 for passing times",
    chosen="batch 100 in place of 128, 400 hidden neurons in place of 800; a new order each epoch; "
    "inputs of one time are one event",
)
TRIAL = "one trial: times of the last spikes"
RULES = {
    "shifting": Rule(
        "shifting",
        partial(Shifting, rule="shifting"),
        CHOICE,
        KNOB,
        PROTOCOL,
        Locality("spike time", "spike time", "output's, along causal synapses", "the next layer's",
                 TRIAL),
    ),
    "exact": Rule(
        "exact",
        partial(Shifting, rule="exact"),
        CHOICE,
        KNOB,
        PROTOCOL,
        Locality("spike time", "spike time, sum of causal timings",
                 "output's, along causal synapses", "the next layer's", TRIAL),
    ),
}  # fmt: skip
