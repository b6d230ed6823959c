"""The convolutional classifiers of MNIST, Fashion-MNIST and CIFAR-10.

Layer by layer at step t, with k(t) = exp(-t / tau_w) and z the layer's input,

    I[t] = conv(k(t) z[t])        3 x 3, padding 1; the first layer sees the image itself, without k
    V[t] = decay (V[t-1] - theta s[t-1]) + I[t]       (soft reset; hard: decay V[t-1] (1 - s[t-1]))
    s[t] = 1 where V[t] > theta,  z of the next layer: s, after some layers averaged over 2 x 2

and after the convolutions fully connected layers, one of them with a Hebbian trace. A presentation
ends early once enough samples of the batch have an output neuron above threshold.
Source: the paper's Methods and its programs for figures 2 and 3.
"""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from hybrid_plasticity.classification.firing import Membrane, fire, fire_steadily
from hybrid_plasticity.classification.wiring import CLASSES, Initial, Wiring
from hybrid_plasticity.layer import PlasticLayer, State
from hybrid_plasticity.networks import PlasticNetwork, Response, attenuation
from hybrid_plasticity.neuron import Neuron
from shared.errors import UserError, check_word

Rule = Literal["hp", "gp"]

SHIFT_BASE = 1.1
KEPT = 0.5  # share of a convolution's inputs that dropout leaves


class Classifier(PlasticNetwork):
    """Spiking convolutions, then fully connected spiking layers, some with a Hebbian trace.

    In training mode half of the inputs of every convolution but the first are dropped, drawn anew
    at every step. Initial values come from torch's global generator, those of weights first: a seed
    gives the same weights under both rules.

    Args:
        wiring: what it is made of.
        rule: "hp", or "gp": without the trace.

    Attributes:
        convs: the convolutions.
        layers: the fully connected layers, `PlasticLayer` all of them; those without a trace have
            the rule "gp".
        precision: number format of all convolutions but the first, None for that of the weights;
            membranes and everything after the convolutions keep the format of the weights.
        exit_share: see `Wiring`; None shows every batch for all steps.

    Raises:
        ValueError: the rule is neither; the reset of the neurons is neither "soft" nor "hard"; or
            they are of a class of their own, which the convolutions' fast form does not know.
    """

    exit_share: float | None
    precision: torch.dtype | None = None

    def __init__(self, wiring: Wiring, rule: Rule = "hp") -> None:
        super().__init__()
        check_word("rule", rule, Rule)
        if wiring.neuron.reset == "none":
            raise ValueError("neurons after a convolution have a soft or a hard reset")
        if type(wiring.neuron) is not Neuron:
            raise ValueError(
                "neurons after a convolution are Neuron itself, whose equations alone their fast "
                f"form knows, not {type(wiring.neuron).__name__}"
            )
        self.wiring, self.rule = wiring, rule
        self.exit_share = wiring.exit_share
        planes = (wiring.image[0], *wiring.channels)
        self.convs = nn.ModuleList(
            nn.Conv2d(n_in, n_out, 3, padding=1) for n_in, n_out in pairwise(planes)
        )
        sizes = (wiring.features, *wiring.hidden, CLASSES)
        output = dataclasses.replace(wiring.neuron, reset=wiring.output_reset)
        neurons = [wiring.neuron] * len(wiring.hidden) + [output]
        self.layers = nn.ModuleList(
            PlasticLayer(n_in, n_out, neuron, wiring.hebbian, rule if j in wiring.plastic else "gp")
            for j, (n_in, n_out, neuron) in enumerate(
                zip(sizes[:-1], sizes[1:], neurons, strict=True), start=1
            )
        )
        self._initialize(wiring.initial)
        self.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def _initialize(self, initial: Initial) -> None:
        weights = [conv.weight for conv in self.convolutions()]
        weights += [layer.fc.weight for layer in self.connected()]
        if initial.halved_output:
            weights[-1].mul_(0.5)
        if initial.shifted:
            for k, weight in enumerate(weights[1:-1], start=2):
                weight.add_(SHIFT_BASE**k * weight.mean())
        for layer in self.plastic_layers():
            initial.start(layer.alpha, layer.beta)

    def convolutions(self) -> list[nn.Conv2d]:
        """`convs` as a list."""
        return cast(list[nn.Conv2d], list(self.convs))

    def connected(self) -> list[PlasticLayer]:
        """`layers` as a list."""
        return cast(list[PlasticLayer], list(self.layers))

    @contextmanager
    def all_steps(self) -> Iterator[None]:
        """Inside the context no presentation ends early."""
        before, self.exit_share = self.exit_share, None
        try:
            yield
        finally:
            self.exit_share = before

    def convolved(
        self, i: int, x: Float[Tensor, "batch n_in height width"], k: float
    ) -> Float[Tensor, "batch n_out height width"]:
        """Current of convolution i, from 0, for input k x, some of it dropped in training mode."""
        x = self.dropped(x, k) if self.training else x * k
        conv = self.convolutions()[i]
        if self.precision is None:
            return cast(Tensor, conv(x)).to(conv.weight.dtype)  # autocast may have shortened it
        assert conv.bias is not None
        low, weight, bias = (value.to(self.precision) for value in (x, conv.weight, conv.bias))
        return functional.conv2d(low, weight, bias, padding=1).to(x.dtype)

    def dropped(self, x: Float[Tensor, "..."], k: float = 1.0) -> Float[Tensor, "..."]:
        """Half of k x dropped and the rest doubled, in training mode or not."""
        return x * torch.rand_like(x).lt_(KEPT).mul_(k / KEPT)

    def decided(self, potential: Float[Tensor, "batch classes"]) -> bool:
        """Whether so many samples have an output above threshold that the presentation ends."""
        if self.exit_share is None or self.wiring.coding == "rate" or not len(potential):
            return False
        if torch.compiler.is_exporting():
            raise UserError(
                "a presentation that may end early depends on the data, which a graph cannot: "
                "export it inside of `with network.all_steps():`"
            )
        above = (potential.amax(1) > self.wiring.neuron.theta).sum()
        return int(above) / len(potential) > self.exit_share

    def _ends(self) -> list[int]:
        """Where a presentation may stop to compute the first layer's steps, which are cheap.

        All at once where it cannot end early, else as many again as there were.
        """
        steps, ends = self.wiring.steps, []
        if self.exit_share is not None and self.wiring.coding != "rate":
            ends = [2**i for i in range(1, steps.bit_length()) if 2**i < steps]
        return [*ends, steps]

    def forward(self, images: Float[Tensor, "batch channels side side"]) -> Response:
        """Show a batch; the traces go on from the batch before.

        Args:
            images: intensities.

        Returns:
            The output, the spikes of each layer (those of a pooled convolution are averages over
            2 x 2 neurons), and the number of steps until the end, early or not.
        """
        return self.present(images)[0]

    def present(
        self, images: Float[Tensor, "batch channels side side"]
    ) -> tuple[Response, list[State]]:
        """`forward`, and the state of every fully connected layer after it."""
        wiring, layers = self.wiring, self.connected()
        images = images.contiguous(memory_format=torch.channels_last)
        # The image does not change, so the first convolution is computed once.
        conv = self.convolutions()[0]
        first = conv(images).to(conv.weight.dtype).contiguous(memory_format=torch.channels_last)
        steady = fire_steadily(first, self._ends(), wiring.neuron, 1 in wiring.pooled)
        membranes: list[Membrane | None] = [None] * len(self.convs)
        states = [layer.start() for layer in layers]
        counts: list[Tensor] = []
        rate = first.new_zeros(())
        for t in range(wiring.steps):
            k = attenuation(t, wiring.tau_w)
            x = next(steady)
            outputs = [x.detach()]
            for i in range(1, len(self.convs)):
                current = self.convolved(i, x, k)
                x, membranes[i] = fire(current, membranes[i], wiring.neuron, i + 1 in wiring.pooled)
                outputs.append(x.detach())
            x = x.flatten(1)
            for j, layer in enumerate(layers):
                plastic = j + 1 in wiring.plastic
                if self.training and j + 1 in wiring.dropped and not plastic:
                    x = self.dropped(x)
                full = plastic and not wiring.attenuate_plastic
                x, states[j] = layer(x, 1.0 if full else k, states[j])
                outputs.append(x.detach())
            counts = added(counts, outputs)
            if wiring.coding == "rate":
                rate = rate + x / wiring.steps
            potential = cast(Tensor, states[-1].potential)
            if t and self.decided(potential):
                break
        for layer, state in zip(layers, states, strict=True):
            layer.keep(state)
        output = rate if wiring.coding == "rate" else potential / wiring.neuron.theta
        if wiring.ceiling is not None:
            output = output.clamp(max=wiring.ceiling)
        return Response(output, counts, t + 1), states


def added(counts: list[Tensor], spikes: list[Tensor]) -> list[Tensor]:
    """Running sums of a step's spikes, written over; an empty list before the first step."""
    if not counts:
        return [step.clone() for step in spikes]
    return [count.add_(step) for count, step in zip(counts, spikes, strict=True)]
