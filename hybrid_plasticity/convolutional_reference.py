"""The convolutional classifiers, equation by equation: slow, and the measure of the fast ones.

Every array is new at every step, the first convolution is computed at every step, and the trace is
the mean of outer products formed for each sample, (batch, in, out) numbers.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from hybrid_plasticity.convolutional import KEPT, Classifier
from hybrid_plasticity.networks import Response, attenuation
from hybrid_plasticity.plastic import Neuron, PlasticLayer, spike


def integrated(neuron: Neuron, current: Tensor, v: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """Potential and spikes of a step, from those of the step before."""
    if neuron.reset == "soft":
        v = neuron.decay * (v - neuron.theta * s) + current
    elif neuron.reset == "hard":
        v = neuron.decay * v * (1 - s) + current
    else:
        v = neuron.decay * v + current
    return v, spike(v, neuron.theta, neuron.lens)


def updated_trace(
    layer: PlasticLayer, trace: Tensor, x: Float[Tensor, "batch n_in"], v: Tensor
) -> Float[Tensor, "n_in n_out"]:
    """The trace after a step with (attenuated) input x and potentials v."""
    hebbian = layer.hebbian
    above = v / layer.neuron.theta - layer.eta
    post = torch.tanh(above) if hebbian.post == "tanh" else above
    outer = torch.bmm((x * layer.beta).unsqueeze(2), post.unsqueeze(1))
    trace = hebbian.decay * trace + hebbian.scale * outer.mean(0)
    return trace if hebbian.limit is None else trace.clamp(-hebbian.limit, hebbian.limit)


class PlainClassifier(Classifier):
    """`Classifier` with the same parameters and the same numbers, in plain loops."""

    def forward(self, images: Float[Tensor, "batch channels side side"]) -> Response:
        """See `Classifier.forward`."""
        wiring = self.wiring
        convs, layers = self.convolutions(), self.connected()
        v: dict[int, Tensor] = {}
        s: dict[int, Tensor] = {}
        counts: dict[int, Tensor] = {}
        traces = {j: layer.hebb for j, layer in enumerate(layers) if layer.rule != "gp"}
        rate = torch.zeros(())

        def fired(i: int, neuron: Neuron, current: Tensor) -> Tensor:
            zeros = torch.zeros_like(current)
            v[i], s[i] = integrated(neuron, current, v.get(i, zeros), s.get(i, zeros))
            return s[i]

        for t in range(wiring.steps):
            k = attenuation(t, wiring.tau_w)
            x = images
            for i, conv in enumerate(convs):
                if i:
                    x = functional.dropout(x * k, 1 - KEPT, self.training)
                x = fired(i, wiring.neuron, conv(x))
                if i + 1 in wiring.pooled:
                    x = functional.avg_pool2d(x, 2)
                counts[i] = counts.get(i, torch.zeros_like(x)) + x.detach()
            x = x.flatten(1)
            for j, layer in enumerate(layers):
                i = len(convs) + j
                x = x if j + 1 == wiring.plastic and not wiring.attenuate_plastic else x * k
                current = functional.linear(x, layer.fc.weight, layer.fc.bias)
                if j in traces:
                    current = current + layer.alpha * (x @ traces[j])
                spikes = fired(i, layer.neuron, current)
                if j in traces:
                    traces[j] = updated_trace(layer, traces[j], x, v[i])
                x = spikes
                counts[i] = counts.get(i, torch.zeros_like(x)) + x.detach()
            rate = rate + x
            potential = v[len(convs) + len(layers) - 1]
            if t >= 1 and self.decided(potential):
                break
        for j, trace in traces.items():
            layers[j].hebb = trace.detach()
        output = rate / wiring.steps if wiring.coding == "rate" else potential / wiring.neuron.theta
        if wiring.ceiling is not None:
            output = output.clamp(max=wiring.ceiling)
        return Response(output, [counts[i] for i in sorted(counts)], t + 1)
