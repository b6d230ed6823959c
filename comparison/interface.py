"""What the comparison asks of every rule.

A module of `comparison.rules` names its rules in a dictionary `RULES`; each is a `Rule`, which
builds a `Learner`: one network with one hidden layer. Nothing else in this folder needs to know
which rules there are; how long a step of those that were timed takes stands in `rows.py`. Images
come as gray values 0 to 255, a row each, as NumPy arrays, so that torch, JAX or anything else can
take them.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8


@dataclass(frozen=True)
class Choice:
    """What the tuned edition chooses; every rule has these four.

    Attributes:
        lr: step size in the first epoch.
        decay: step size after the last epoch, as a share of the first; it falls exponentially.
        scale: factor of the initial weights.
        knob: value of the rule's own knob.
    """

    lr: float
    decay: float = 1.0
    scale: float = 1.0
    knob: float = 1.0

    def rate(self, epoch: int, epochs: int) -> float:
        """Step size of an epoch, counted from 0; epochs is their number."""
        return self.lr * math.pow(self.decay, epoch / epochs)


class Knob(NamedTuple):
    """The one quantity of a rule's own that the tuned edition may turn.

    Attributes:
        name: in words.
        low: least value that is tried.
        high: largest; in between, all orders of size are as likely.
    """

    name: str
    low: float
    high: float


class Locality(NamedTuple):
    """What a synapse of the hidden layer must be told to learn, in words.

    Attributes:
        pre: of the neuron before it.
        post: of the neuron behind it.
        error: whose error.
        weights: whose weights.
        span: over what time.
    """

    pre: str
    post: str
    error: str
    weights: str
    span: str


class Protocol(NamedTuple):
    """A rule's own part of the protocol, in words.

    Attributes:
        input: how an image becomes input.
        loss: what is made small, and how a class is read.
        optimizer: and its step size.
        chosen: what the paper does not say for this task and had to be chosen.
    """

    input: str
    loss: str
    optimizer: str
    chosen: str


class Traffic(NamedTuple):
    """What passes the synapses between two layers while a batch is shown, until the decision.

    Attributes:
        events: how often each presynaptic neuron sends to all its synapses; 0 where it is silent.
        links: synapses of each presynaptic neuron whose weight is not 0.
        n_post: neurons behind them.
        steps: how often all weights would be used if every neuron always sent.
        binary: what is sent is 0 or 1, so that an addition is enough; else a product is needed.
    """

    events: Float[np.ndarray, "batch pre"]
    links: Float[np.ndarray, " pre"]
    n_post: int
    steps: int
    binary: bool


class Answer(NamedTuple):
    """What a network did with a batch.

    Attributes:
        scores: the largest one of a row is the decision.
        hidden: spikes of each hidden neuron in the trial; of continuous units 1 where not 0.
        traffic: all that passed synapses.
    """

    scores: Float[np.ndarray, "batch classes"]
    hidden: Float[np.ndarray, "batch hidden"]
    traffic: tuple[Traffic, ...]


@dataclass(frozen=True)
class Plan:
    """What a network is built for.

    Attributes:
        n_inputs: pixels of an image.
        n_classes: number of classes.
        hidden: neurons of the hidden layer.
        batch_size: images of a step, and of an answer, at most.
        seed: of everything that is drawn.
        choice: what the tuned edition chooses, or the paper's values.
        device: where torch computes; other frameworks take the like of it.
        dropout: share of input and hidden units that training drops, in place of the rule's own.
    """

    n_inputs: int
    n_classes: int
    hidden: int
    batch_size: int
    seed: int
    choice: Choice
    device: torch.device
    dropout: float | None = None


Labels = Int[np.ndarray, " batch"]


class Learner(ABC):
    """One network that learns by one rule."""

    @abstractmethod
    def begin(self, epoch: int, epochs: int) -> None:
        """Set what depends on the epoch, such as the step size; counted from 0.

        Where tasks or trials have fewer epochs than the step size has stairs, it is called at each
        of these, with the stair and their number.
        """

    @abstractmethod
    def step(self, images: UInt8[np.ndarray, "batch pixels"], labels: Labels) -> float:
        """Learn from a batch.

        Returns:
            Its mean loss before the step.

        Raises:
            UserError: the learning ran away.
        """

    @abstractmethod
    def answer(
        self, images: UInt8[np.ndarray, "batch pixels"], draw: int, share: float = 1.0
    ) -> Answer:
        """Show a batch; each answer depends on its image alone, and nothing of the network changes.

        Args:
            images: of the batch.
            draw: seed of the input's random draws, if it has any.
            share: of the trial after which the decision is taken. Where a decision needs an output
                spike and there is none, all scores are equal.
        """

    def adapting(self) -> AbstractContextManager[object] | None:
        """A context in which the network adapts to each batch that it is shown, as its paper tests.

        Returns:
            None where it never does; else what is measured is measured within it, too.
        """
        return None

    @abstractmethod
    def weights(self) -> dict[str, Float[np.ndarray, "..."]]:
        """Copies of the synapses' weights by name: what hardware would hold with few bits."""

    @abstractmethod
    def set_weights(self, weights: Mapping[str, Float[np.ndarray, "..."]]) -> None:
        """Put other values in their place."""

    def angle(self, images: UInt8[np.ndarray, "batch pixels"], labels: Labels) -> float | None:
        """Angle in degrees between the hidden layer's update and the gradient on the same network.

        Returns:
            None where the hidden layer learns by that gradient itself, or does not learn by one.
        """
        return None

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """All that the next step depends on, as tensors, arrays and plain values, for `load`.

        They may be the network's own: what is to outlast the next step is written or copied.
        """

    @abstractmethod
    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""


@dataclass(frozen=True)
class Rule:
    """A way to learn.

    Attributes:
        title: in tables and figures; the words before a comma give its color, see `shared.figures`.
        build: makes the network.
        choice: the values of the rule's paper.
        knob: what of its own is tuned.
        protocol: its own part of the protocol.
        locality: what a synapse must be told.
        timed: whether a trial takes time, so that a decision can be early.
        drops: whether its network can drop input and hidden units in training, see `Plan.dropout`.
        spiking: whether hidden neurons spike.
        prepare: sets its framework up, beside torch, before anything is built; told the device that
            torch has and the number of CPU threads.
    """

    title: str
    build: Callable[[Plan], Learner]
    choice: Choice
    knob: Knob
    protocol: Protocol
    locality: Locality
    timed: bool = True
    drops: bool = False
    spiking: bool = True
    prepare: Callable[[torch.device, int], object] = lambda device, threads: None
