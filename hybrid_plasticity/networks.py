"""What all fully connected and convolutional programs of the paper have in common."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hybrid_plasticity.checks import check_network
from hybrid_plasticity.layer import PlasticLayer, Rule
from hybrid_plasticity.neuron import Neuron
from hybrid_plasticity.precision import without_autocast
from hybrid_plasticity.trace import Hebbian
from shared.errors import check_word

Encoding = Literal["intensity", "bernoulli"]


class Response(NamedTuple):
    """What a network did with a batch.

    Attributes:
        output: what the loss and the decision read [batch, classes].
        spike_counts: spikes of each layer, summed over the steps [batch, ...].
        steps: time steps that were simulated.
    """

    output: Tensor
    spike_counts: list[Tensor]
    steps: int


def attenuation(t: int, tau_w: float) -> float:
    """k(t) = exp(-t / tau_w), the factor of a layer's input at step t."""
    return math.exp(-t / tau_w)


class PlasticNetwork(nn.Module):
    """A network with plastic layers: roles of its parameters, and its traces."""

    def plastic_layers(self) -> list[PlasticLayer]:
        """The layers with a trace that may change."""
        return [m for m in self.modules() if isinstance(m, PlasticLayer) and m.rule != "gp"]

    def local_parameters(self) -> list[nn.Parameter]:
        """What the second optimizer learns: alpha, beta and eta of every layer."""
        return [value for layer in self.plastic_layers() for value in layer.local_parameters()]

    def global_parameters(self) -> list[nn.Parameter]:
        """What the first optimizer learns: everything else, in the order of definition."""
        local = {id(value) for value in self.local_parameters()}
        return [p for p in self.parameters() if p.requires_grad and id(p) not in local]

    def check_finite(self) -> None:
        """Look whether all parameters and traces are finite; call it once an epoch.

        A trace keeps a NaN that an input gave it for good, and the loss may stay finite.

        Raises:
            NotFiniteError: one is not; it is named.
        """
        check_network(self)

    @contextmanager
    def traces(self, frozen: bool = False) -> Iterator[Callable[[], None]]:
        """Give the traces back as they were, whatever happens to them inside the context.

        Args:
            frozen: they do not change inside of it either; nor do those of layers that are frozen
                already, which stay so.

        Yields:
            A function that gives them back at once.
        """
        layers = self.plastic_layers()
        before = [layer.hebb for layer in layers]
        were_frozen = [layer.frozen for layer in layers]

        def give_back() -> None:
            for layer, trace in zip(layers, before, strict=True):
                layer.hebb = trace.to(layer.hebb)  # the network may have been converted inside

        for layer, was_frozen in zip(layers, were_frozen, strict=True):
            layer.frozen = frozen or was_frozen
        try:
            yield give_back
        finally:
            give_back()
            for layer, was_frozen in zip(layers, were_frozen, strict=True):
                layer.frozen = was_frozen


class FullyConnected(PlasticNetwork):
    """Layers of plastic spiking neurons; the decision is read from the last potentials.

    output = min(V / theta, ceiling) of the last layer after the last step.

    Weights are drawn, alpha, beta and eta start at 0. There the traces stay 0 and nothing moves
    alpha and beta: under "hp" the network answers and learns as under "gp" until `draw_local` has
    been called.

    Args:
        sizes: neurons of input, hidden and output layers.
        neuron: constants of the neurons.
        hebbian: constants of the traces.
        tau_w: time constant of the input's attenuation, in steps.
        steps: time steps T.
        rule: "hp", "gp", or "lp": the hidden layers' weights stay random and their traces learn
            without a gradient; the output layer is "hp".
        encoding: the input at every step: the pixel's intensity, or a spike with that probability.
        ceiling: outputs end there.

    Raises:
        ValueError: rule or encoding is none of the words above.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        neuron: Neuron,
        hebbian: Hebbian,
        tau_w: float,
        steps: int,
        rule: Rule,
        encoding: Encoding = "intensity",
        ceiling: float = 1.1,
    ) -> None:
        super().__init__()
        check_word("rule", rule, Rule)
        check_word("encoding", encoding, Encoding)
        self.tau_w, self.steps, self.rule = tau_w, steps, rule
        self.encoding, self.ceiling = encoding, ceiling
        last = "hp" if rule == "lp" else rule
        rules: list[Rule] = [rule] * (len(sizes) - 2) + [last]
        layers = [
            PlasticLayer(n_in, n_out, neuron, hebbian, own)
            for n_in, n_out, own in zip(sizes[:-1], sizes[1:], rules, strict=True)
        ]
        self.neuron, self.layers = neuron, nn.ModuleList(layers)

    @torch.no_grad()
    def draw_local(self, spread: float) -> None:
        """Initial alpha, beta and eta, uniform in [0, spread), from the global generator.

        In the published order, so that a seed gives the published initial values. As published, as
        much is drawn for layers without a trace and not kept: a seed then gives the same order of
        images under every rule.
        """
        for name in ("alpha", "eta", "gamma", "beta"):
            for layer in cast(list[PlasticLayer], list(self.layers)):
                sizes = {"eta": layer.fc.out_features, "beta": layer.fc.in_features}
                drawn = torch.rand(sizes.get(name, 1))
                # The published networks draw gamma and never read it.
                if name != "gamma" and layer.rule != "gp":
                    value = layer.get_parameter(name)
                    value.copy_(spread * drawn.view_as(value))

    @without_autocast
    def forward(self, images: Float[Tensor, "batch *pixels"]) -> Response:
        """Show a batch for `steps` steps; the traces go on from the batch before."""
        factors = [attenuation(t, self.tau_w) for t in range(self.steps)]
        x = images.flatten(1)
        if self.encoding == "bernoulli":
            x = torch.bernoulli(x.expand(self.steps, *x.shape))
        counts = []
        # No layer looks back, so each can run through all steps before the next begins.
        for layer in cast(list[PlasticLayer], list(self.layers)):
            x, potential = layer.present(x, factors)
            counts.append(x.detach().sum(0))
        output = (potential / self.neuron.theta).clamp(max=self.ceiling)
        return Response(output, counts, self.steps)
