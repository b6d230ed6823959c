"""The convolutional classifiers, equation by equation: slow, and the measure of the fast ones.

Every array is new at every step, the first convolution is computed at every step, and the trace is
the mean of outer products formed for each sample, (batch, in, out) numbers.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from hybrid_plasticity.classification.network import KEPT, Classifier
from hybrid_plasticity.networks import Response, attenuation
from hybrid_plasticity.neuron import Neuron, spike
from hybrid_plasticity.reference import activity, integrated, updated_trace


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
            v[i] = integrated(current, v.get(i, zeros), s.get(i, zeros), neuron)
            s[i] = spike(v[i], neuron.theta, neuron.lens)
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
                plastic = j + 1 in wiring.plastic
                x = x if plastic and not wiring.attenuate_plastic else x * k
                if j + 1 in wiring.dropped and not plastic:
                    x = functional.dropout(x, 1 - KEPT, self.training)
                current = functional.linear(x, layer.fc.weight, layer.fc.bias)
                if j in traces:
                    current = current + layer.alpha * (x @ traces[j])
                spikes = fired(i, layer.neuron, current)
                if j in traces:
                    post = activity(layer, v[i])
                    pre = x * layer.acting_beta()
                    traces[j] = updated_trace(traces[j], pre, post, layer.hebbian)
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
