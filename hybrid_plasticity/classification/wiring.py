"""What a convolutional classifier is made of: sizes, constants, and how it starts."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hybrid_plasticity.neuron import Neuron, Reset
from hybrid_plasticity.trace import Hebbian
from shared.errors import check_word

Coding = Literal["rank", "rate"]

CLASSES = 10


@dataclass(frozen=True)
class Initial:
    """How a network's weights and constants start; eta starts at 0.

    Weights and biases are torch's own, uniform within 1 / sqrt(inputs of a neuron).

    Attributes:
        alpha, beta: initial values.
        random_local: alpha and beta start uniform between 0 and these values instead.
        halved_output: the output layer's weights are halved.
        shifted: the weights W of layer k, from the second to the last but one, become
            W + 1.1^k mean(W).
    """

    alpha: float = 0.1
    beta: float = 1e-3
    random_local: bool = False
    halved_output: bool = False
    shifted: bool = False

    @torch.no_grad()
    def start(self, alpha: Tensor, beta: Tensor) -> None:
        """Give a layer's alpha [1] and beta [1, n_in] their initial values."""
        for value, size in ((alpha, self.alpha), (beta, self.beta)):
            value.fill_(size)
            if self.random_local:
                value.mul_(torch.rand(value.shape))


@dataclass(frozen=True)
class Wiring:
    """What a network is made of.

    Attributes:
        image: channels and side of the input.
        channels: channels of the convolutions.
        pooled: numbers, from 1, of the convolutions that average pooling by 2 follows.
        hidden: neurons of the fully connected layers before the output layer.
        plastic: numbers, from 1, of the fully connected layers that have a trace.
        neuron, hebbian: constants of neurons and trace.
        tau_w: time constant of the inputs' attenuation, in steps.
        steps: time steps T of a presentation.
        exit_share: from the second step on, a presentation ends when the share of samples with an
            output potential above threshold passes this.
        attenuate_plastic: a plastic layer's input is attenuated like all others.
        dropped: numbers, from 1, of the fully connected layers half of whose inputs are dropped in
            training mode, as those of the convolutions are; a layer with a trace sees all of them.
        output_reset: reset of the output neurons, "soft", "hard" or "none".
        ceiling: outputs V / theta end there; None leaves them as they are.
        coding: what the output is: "rank", V / theta of the last step, or "rate", spikes / T, with
            which no presentation ends early.
        initial: how weights and constants start.

    Raises:
        ValueError: reset or coding is none of the words above.
    """

    image: tuple[int, int]
    channels: tuple[int, ...]
    pooled: tuple[int, ...]
    hidden: tuple[int, ...]
    plastic: tuple[int, ...]
    neuron: Neuron
    hebbian: Hebbian
    tau_w: float
    steps: int
    exit_share: float
    attenuate_plastic: bool = True
    dropped: tuple[int, ...] = ()
    output_reset: Reset = "soft"
    ceiling: float | None = None
    coding: Coding = "rank"
    initial: Initial = Initial()

    def __post_init__(self) -> None:
        check_word("output_reset", self.output_reset, Reset)
        check_word("coding", self.coding, Coding)

    def scaled(self, width: float) -> "Wiring":
        """The same with that many times the channels and hidden neurons, at least one each."""

        def scale(sizes: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(max(1, round(width * size)) for size in sizes)

        return dataclasses.replace(self, channels=scale(self.channels), hidden=scale(self.hidden))

    @property
    def features(self) -> int:
        """Inputs of the first fully connected layer."""
        return self.channels[-1] * (self.image[1] >> len(self.pooled)) ** 2
