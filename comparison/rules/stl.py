"""STL-SNN: synapses and thresholds learn (STL), or one of them (SL, TL)."""

from functools import partial

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

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
    Dropout,
    TorchLearner,
    after,
    as_counts,
    drawn_spikes,
    finite_loss,
    intensities,
    scaled,
)
from shared.errors import UserError
from stl_snn.func import LIF, Linear
from stl_snn.param import MNIST, Learning
from stl_snn.spiking_model import SpikingNetwork
from stl_snn.training import RAN_AWAY, squared_error

PAPER = MNIST()
EPOCHS_OF_DECAY = 20


class Stl(TorchLearner[SpikingNetwork]):
    """The paper's skeleton without its convolutions: 784-400-100, ten voters a class."""

    def __init__(self, plan: Plan, mode: Learning) -> None:
        self.plan = plan
        torch.manual_seed(plan.seed)
        setting = MNIST(blocks=(), hidden=plan.hidden, theta=plan.choice.knob)
        side = round(plan.n_inputs**0.5)
        self.shape = (1, side, side)
        self.network = SpikingNetwork(setting, self.shape, plan.n_classes).to(plan.device)
        dropped = setting.dropout if plan.dropout is None else plan.dropout
        for name in ("drop1", "drop2"):
            setattr(self.network, name, Dropout(dropped))
        self.weight = [layer.weight for layer in self.network.synapses().values()]
        scaled(self.weight, plan.choice.scale)
        self.optimizer = torch.optim.Adam(
            self.network.learn(mode, norm=False),
            lr=plan.choice.lr,
            weight_decay=setting.weight_decay,
            fused=True,
        )

    def step(self, images: UInt8[np.ndarray, "batch pixels"], labels: Labels) -> float:
        """See `Learner.step`."""
        self.network.train()
        votes = self.network(self._spikes(images, None))
        loss = squared_error(votes, torch.from_numpy(labels).to(votes.device))
        self.optimizer.zero_grad(set_to_none=True)
        try:
            torch.autograd.backward(loss)
        except FloatingPointError as error:
            raise UserError(RAN_AWAY) from error
        self.optimizer.step()
        return finite_loss(loss.detach())

    def _spikes(
        self, images: UInt8[np.ndarray, "batch pixels"], generator: torch.Generator | None
    ) -> Float[Tensor, "batch time channels height width"]:
        pixels = intensities(images, self.plan.device).view(-1, *self.shape)
        return drawn_spikes(pixels, PAPER.steps, generator).transpose(0, 1).contiguous().to(pixels)

    @torch.no_grad()
    def answer(
        self, images: UInt8[np.ndarray, "batch pixels"], draw: int, share: float = 1.0
    ) -> Answer:
        """See `Learner.answer`."""
        self.network.eval()
        generator = torch.Generator(self.plan.device).manual_seed(draw)
        steps = after(share, PAPER.steps)
        activity = self._spikes(images, generator)[:, :steps]
        traffic, counts = [], []
        for layer in self.network.children():
            if isinstance(layer, Linear):
                events = as_counts(activity.flatten(2).transpose(0, 1))
                links = links_of(layer.weight)
                traffic.append(Traffic(events, links, layer.out_features, steps, binary=True))
            activity = layer(activity)
            if isinstance(layer, LIF):
                counts.append(as_counts(activity.transpose(0, 1)))
        return Answer(activity.numpy(force=True), counts[0], tuple(traffic))


LEARNS: dict[Learning, str] = {
    "stl": "output's, through all layers",
    "sl": "output's, through all layers",
    "tl": "output's, through all layers, to thresholds alone",
}
RULES = {
    mode: Rule(
        title=mode.upper(),
        build=partial(Stl, mode=mode),
        choice=Choice(lr=PAPER.lr, decay=PAPER.lr_decay**EPOCHS_OF_DECAY, knob=PAPER.theta),
        knob=Knob("mean initial threshold", 0.1, 4.0),
        protocol=Protocol(
            input="a spike where a pixel exceeds a new random number, at each of 4 steps",
            loss="squared error of the votes of ten neurons a class; the most votes",
            optimizer="Adam 1e-3, times 0.93 after each of 20 epochs, weight decay 1e-6",
            chosen="batch 100 in place of 50; the skeleton without convolutions and normalization, "
            "dropout 0.5 in front of both layers",
        ),
        locality=Locality("spikes", "potential, threshold", error, "the next layer's",
                          "the trial, backwards"),
        drops=True,
    )
    for mode, error in LEARNS.items()
}  # fmt: skip
