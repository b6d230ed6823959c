"""Smooth exact gradients: decided with pseudospikes, or by ordinary spikes only."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from jaxtyping import Array, Float, UInt8

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
from shared.device import jax_device
from smooth_gd.experiments import jax_runtime
from smooth_gd.experiments.mnist.network import Network, Parameters
from smooth_gd.experiments.mnist.training import BETAS, Classification, Part, Trainer, needed
from smooth_gd.experiments.trials import numbered, restored
from smooth_gd.spikegd.layered import Bounds, Levels, Response, present_unmarked
from smooth_gd.spikegd.utils.events import Sized

FLIP = 0.02  # probability that a pixel is turned over in training
PAPER = Network()


class Smooth(Learner):
    """784-400-10 theta neurons; bright pixels are one input spike, dark ones none."""

    def __init__(self, plan: Plan, is_ordinary: bool) -> None:
        self.plan, self.is_ordinary = plan, is_ordinary
        self.network = Network(
            sizes=(plan.n_inputs, plan.hidden, plan.n_classes),
            gamma=plan.choice.knob,
            spread=plan.choice.scale * PAPER.spread,
        )
        blank = Part(
            np.zeros((plan.batch_size, plan.n_inputs), np.uint8),
            np.zeros(plan.batch_size, np.int32),
        )
        shown = Classification(
            "batches", blank, blank, self.network.levels, _disturbed, plan.n_classes
        )
        self.trainer = Trainer(
            self.network, shown, plan.batch_size, plan.choice.lr, plan.seed, _device(plan.device)
        )
        # A step size that is set from outside, since it follows the comparison's epochs.
        self.trainer.optimizer = optax.inject_hyperparams(optax.adabelief)(
            learning_rate=plan.choice.lr, b1=BETAS[0], b2=BETAS[1]
        )
        self.learned = self.trainer.initial("float32")
        self.n_steps = 0
        self._respond: Sized[tuple[float, int, Bounds]] = Sized(self._response)

    def begin(self, epoch: int, epochs: int) -> None:
        """See `Learner.begin`."""
        rate = jnp.asarray(self.plan.choice.rate(epoch, epochs), jnp.float32)
        settings = {**self.learned.optimizer.hyperparams, "learning_rate": rate}
        optimizer = self.learned.optimizer._replace(hyperparams=settings)
        self.learned = self.trainer.placed(self.learned._replace(optimizer=optimizer))

    def step(self, images: UInt8[np.ndarray, "batch pixels"], labels: Labels) -> float:
        """See `Learner.step`."""
        key = jax.random.fold_in(jax.random.key(self.plan.seed), self.n_steps)
        codes = self.network.codes(images)
        self.learned, loss, _ = self.trainer.step(self.learned, codes, labels.astype(np.int32), key)
        self.n_steps += 1
        return loss

    def _response(
        self,
        size: tuple[float, int, Bounds],
        parameters: Parameters,
        codes: UInt8[Array, "batch pixels"],
    ) -> Response:
        end, _, bounds = size
        inputs = Levels(codes, self.network.times_in)
        weights, phases = parameters
        return present_unmarked(self.network.neuron, weights, phases, inputs, end, bounds)

    def _shown(self, images: UInt8[np.ndarray, "batch pixels"], end: float) -> Response:
        """What a trial that ends earlier gives; done again where it wanted more room."""
        codes, bounds = self.network.codes(images), self.trainer.bounds
        parameters = self.learned.parameters
        while True:
            found: Response = self._respond((end, len(codes), bounds), parameters, codes)
            more = needed(bounds, found.wanted_events, found.wanted_slots)
            if more is None:
                return found
            bounds = self.trainer.bounds = more

    def answer(
        self, images: UInt8[np.ndarray, "batch pixels"], draw: int, share: float = 1.0
    ) -> Answer:
        """See `Learner.answer`; the trial ends with the first output spike."""
        end = share * self.network.T
        found = self._shown(images, end)
        first = np.where(found.ordinary, found.first, np.inf)
        until = np.minimum(first.min(1), end)[:, None, None]
        times, counts = (np.asarray(x) for x in found.hidden[0])
        sent = [images > 127, (times <= until).sum(2)]
        weights = self.learned.parameters.weights
        traffic = tuple(
            Traffic(events.astype(np.float32), np.asarray((w != 0).sum(0), float), len(w), 1, True)
            for events, w in zip(sent, weights, strict=True)
        )
        scores = -np.minimum(first, end) if self.is_ordinary else -np.asarray(found.first)
        return Answer(scores, counts.astype(np.float32), traffic)

    def weights(self) -> dict[str, Float[np.ndarray, "..."]]:
        """See `Learner.weights`."""
        hidden, output = map(np.array, self.learned.parameters.weights)
        return {"hidden": hidden, "output": output}

    def set_weights(self, weights: Mapping[str, Float[np.ndarray, "..."]]) -> None:
        """See `Learner.set_weights`."""
        values = tuple(jnp.asarray(weights[name], jnp.float32) for name in ("hidden", "output"))
        parameters = self.learned.parameters._replace(weights=values)
        self.learned = self.trainer.placed(self.learned._replace(parameters=parameters))

    def state(self) -> dict[str, Any]:
        """See `Learner.state`."""
        bounds = list(map(list, self.trainer.bounds))
        return {"network": numbered(self.learned), "bounds": bounds, "steps": self.n_steps}

    def load(self, state: Mapping[str, Any]) -> None:
        """See `Learner.load`."""
        self.learned = self.trainer.placed(restored(self.learned, state))
        self.trainer.bounds = Bounds(*map(tuple, state["bounds"]))
        self.n_steps = state["steps"]


def _device(device: torch.device) -> Any:
    """JAX's device of torch's kind; where JAX has none like it, the CPU."""
    return jax_device("cuda" if device.type == "cuda" else "cpu")


def _prepare(device: torch.device, threads: int) -> None:
    """Set JAX up before it computes: single precision, and as many threads as torch has."""
    kind = "cuda" if device.type == "cuda" else "cpu"
    jax_runtime.prepare(jax_runtime.Settings(device=kind, threads=threads, dtype="float32"))


def _disturbed(key: Array, codes: UInt8[Array, "batch pixels"]) -> UInt8[Array, "batch pixels"]:
    turned = jax.random.bernoulli(key, FLIP, codes.shape)
    silent = jnp.uint8(PAPER.Nin_virtual)
    return jnp.where(turned, silent - jnp.minimum(codes, silent), codes)


CHOICE = Choice(lr=4e-3, decay=math.exp(-0.2), knob=PAPER.gamma)  # 1 / e in 100 epochs
KNOB = Knob("weight of the term that draws the label's spike forward", 1e-3, 1.0)
LOSS = "cross-entropy of first spikes' times, and a term that draws the label's forward"
LOCALITY = Locality(
    "spike times", "phase at them", "output's, through all layers", "the next layer's",
    "the trial, backwards",
)  # fmt: skip


def _rule(title: str, is_ordinary: bool, decision: str) -> Rule:
    """One training, of which the rules are two ways to decide."""
    protocol = Protocol(
        input="one spike at 0.02 of each pixel from 128 on, in training 2 % of the pixels turned "
        "over, as published; the trial's length is 2",
        loss=f"{LOSS}; {decision}",
        optimizer="AdaBelief 4e-3, falling by 1 / e in 100 epochs",
        chosen="batch 100 in place of 1000; one hidden layer of 400 in place of two of 100",
    )
    build = partial(Smooth, is_ordinary=is_ordinary)
    return Rule(title, build, CHOICE, KNOB, protocol, LOCALITY, prepare=_prepare)


RULES = {
    "smooth": _rule("pseudospikes", False, "the first spike, pseudospikes included"),
    "smooth_ordinary": _rule(
        "ordinary spikes", True, "the same training; the first spike within the trial"
    ),
}
