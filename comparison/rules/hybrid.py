"""Hybrid plasticity: weights by gradient beside a Hebbian trace (HP), or one of them (GP, LP)."""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from comparison.counting import links_of
from comparison.interface import (
    Answer,
    Choice,
    Knob,
    Labels,
    Locality,
    Plan,
    Protocol,
    Traffic,
)
from comparison.interface import Rule as ComparedRule
from comparison.torch_parts import TorchLearner, after, intensities, scaled, set_rate
from hybrid_plasticity.layer import PlasticLayer, Rule
from hybrid_plasticity.networks import FullyConnected
from hybrid_plasticity.simple_example.shared_parameters import SETTINGS
from hybrid_plasticity.training import check_loss, optimizers, squared_error

LOCAL_SHARE = SETTINGS.lr_local / SETTINGS.lr  # step size of alpha, beta, eta to the weights'


class Hybrid(TorchLearner[FullyConnected]):
    """784-400-10; the brightness of a pixel is a current at each of 10 steps."""

    def __init__(self, plan: Plan, rule: Rule) -> None:
        self.plan, self.rule = plan, rule
        torch.manual_seed(plan.seed)
        sizes = (plan.n_inputs, plan.hidden, plan.n_classes)
        # LP's hidden layer learns by its trace alone, which no surrogate derivative touches.
        lens, spread = SETTINGS.neuron.lens, SETTINGS.local_spread
        lens, spread = (lens, plan.choice.knob) if rule == "lp" else (plan.choice.knob, spread)
        neuron = dataclasses.replace(SETTINGS.neuron, lens=lens)
        network = FullyConnected(
            sizes, neuron, SETTINGS.hebbian, SETTINGS.tau_w, SETTINGS.steps, rule
        )
        network.draw_local(spread)  # of nothing under "gp"
        self.network = network.to(plan.device)
        self.layers = [x for x in self.network.layers if isinstance(x, PlasticLayer)]
        self.weight = [layer.fc.weight for layer in self.layers]
        scaled(self.weight, plan.choice.scale)
        self.learners = optimizers(self.network, plan.choice.lr, LOCAL_SHARE * plan.choice.lr)
        self.n_steps = 0
        self.adapts = False

    def begin(self, epoch: int, epochs: int) -> None:
        """See `Learner.begin`."""
        rate = self.plan.choice.rate(epoch, epochs)
        for name, learner in self.learners.items():
            set_rate(learner, rate if name == "optimizer" else LOCAL_SHARE * rate)

    def step(self, images: UInt8[np.ndarray, "batch pixels"], labels: Labels) -> float:
        """See `Learner.step`."""
        output = self.network(intensities(images, self.plan.device)).output
        loss = squared_error(output, torch.from_numpy(labels).to(output.device))
        self.network.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        for learner in self.learners.values():
            learner.step()
        value = float(loss.detach())
        self.n_steps += 1
        check_loss(value, self.n_steps, self.rule)
        return value

    @torch.no_grad()
    def answer(
        self, images: UInt8[np.ndarray, "batch pixels"], draw: int, share: float = 1.0
    ) -> Answer:
        """See `Learner.answer`.

        Traces stay as training left them. Within `adapting` they go on from there, by the mean over
        the batch, and are given back behind it, as published.
        """
        steps, whole = after(share, SETTINGS.steps), self.network.steps
        x = intensities(images, self.plan.device)
        self.network.steps = steps
        try:
            with self.network.traces(frozen=not self.adapts):
                found = self.network(x)
        finally:
            self.network.steps = whole
        sent = [(x != 0).float(), found.spike_counts[0]]
        pixels, spikes = (events.numpy(force=True) for events in sent)
        traffic = [*self._traffic(0, pixels, 1, steps), *self._traffic(1, spikes, steps, 1)]
        return Answer(found.output.numpy(force=True), spikes, tuple(traffic))

    @contextmanager
    def _adapting(self) -> Iterator[None]:
        self.adapts = True
        try:
            yield
        finally:
            self.adapts = False

    def adapting(self) -> AbstractContextManager[object] | None:
        """See `Learner.adapting`."""
        return None if self.rule == "gp" else self._adapting()

    def _traffic(
        self, place: int, events: Float[np.ndarray, "batch pre"], steps: int, repeats: int
    ) -> list[Traffic]:
        """What passes a layer's weights, and what its trace takes.

        A trace that stays the same and the weights are one matrix. One that moves with the batch is
        another at each step: it is read and grows then, also by input that stays the same.

        Args:
            place: of the layer.
            events: through its weights.
            steps: that these are of; 1 where the input stays the same.
            repeats: how often a trace that moves meets each of these events.
        """
        layer, binary = self.layers[place], place > 0
        weight, n_post = layer.fc.weight, layer.fc.out_features
        if layer.rule == "gp":
            return [Traffic(events, links_of(weight), n_post, steps, binary)]
        trace = layer.hebb.T
        if not self.adapts:
            joint = links_of((weight != 0) | (trace != 0))
            return [Traffic(events, joint, n_post, steps, binary)]
        everyone, n = np.full(trace.shape[1], float(n_post)), steps * repeats
        return [
            Traffic(events, links_of(weight), n_post, steps, binary),
            Traffic(repeats * events, links_of(trace), n_post, n, binary),
            Traffic(repeats * events, everyone, n_post, n, binary=False),
        ]

    def state(self) -> dict[str, Any]:
        """See `Learner.state`."""
        learners = {name: learner.state_dict() for name, learner in self.learners.items()}
        return {"network": self.network.state_dict(), "steps": self.n_steps, **learners}

    def load(self, state: Mapping[str, Any]) -> None:
        """See `Learner.load`."""
        self.network.load_state_dict(state["network"])
        self.n_steps = state["steps"]
        for name, learner in self.learners.items():
            learner.load_state_dict(state[name])


PROTOCOL = Protocol(
    input="brightness as a current, times exp(-t / 40), at each of 10 steps",
    loss="squared error of the outputs' last potentials; the largest",
    optimizer="Adam 1e-3, and 5e-4 for alpha, beta and eta, constant",
    chosen="400 hidden neurons in place of 512; the constants of the paper's simple example, which "
    "is of Fashion-MNIST, on both sets (its program of fault tolerance has a threshold of 0.4, a "
    "decay of the trace of 0.99 and 5 steps); in the test traces stay as training left them, "
    "where the published test lets them move with its batch of 100 images (a table of its own)",
)
CHOICE = Choice(SETTINGS.lr, knob=SETTINGS.neuron.lens)
KNOB = Knob("half the width of the surrogate derivative", 0.1, 2.0)
CURRENT = "brightness of a pixel, as a current"
BY_GRADIENT = "output's, through all layers"
RULES = {
    "hp": ComparedRule(
        "HP", partial(Hybrid, rule="hp"), CHOICE, KNOB, PROTOCOL,
        Locality(CURRENT, "potential", f"{BY_GRADIENT}; the trace none", "the next layer's",
                 "the trial, backwards; the trace beyond it"),
    ),
    "gp": ComparedRule(
        "GP", partial(Hybrid, rule="gp"), CHOICE, KNOB, PROTOCOL,
        Locality(CURRENT, "potential", BY_GRADIENT, "the next layer's", "the trial, backwards"),
    ),
    "lp": ComparedRule(
        "LP", partial(Hybrid, rule="lp"), Choice(SETTINGS.lr, knob=SETTINGS.local_spread),
        Knob("spread of the initial alpha, beta and eta", 1e-3, 1e-1), PROTOCOL,
        Locality(CURRENT, "potential", "none", "none", "the trace: across trials"),
    ),
}  # fmt: skip
