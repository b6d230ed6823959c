"""Operations under NeuroBench's names, counted from what really passed a network's synapses.

    Dense            operations if every neuron sent at every step over every synapse
    Effective_MACs   events times synapses with a weight, where what is sent is no 0 or 1
    Effective_ACs    the same where it is: an addition is enough

per image, until the decision. Neurons' own dynamics are not counted, nor is memory traffic, which
costs more; the energy (45 nm, 32-bit floating point: 4.6 pJ a multiply-accumulate, 0.9 pJ an
addition; Horowitz, ISSCC 2014) compares networks and does not say what a chip will draw. An input
that stays the same over a trial passes its synapses once: its products need not be taken again
(NeuroBench's harness would count them at every step). A factor that all synapses of a step share,
such as HP's attenuation or the decay of its trace, is a neuron's own: it can wait for the sums.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float

from comparison.interface import Traffic
from stl_snn.operations import PJ_AC, PJ_MAC


class Operations:
    """Sums of operations over batches."""

    def __init__(self) -> None:
        self._totals = {"Dense": 0.0, "Effective_MACs": 0.0, "Effective_ACs": 0.0}
        self._images = 0

    def add(self, traffic: Sequence[Traffic]) -> None:
        """Count what one batch took."""
        self._images += len(traffic[0].events)
        for part in traffic:
            batch, n_pre = part.events.shape
            kind = "Effective_ACs" if part.binary else "Effective_MACs"
            self._totals["Dense"] += batch * part.steps * n_pre * part.n_post
            self._totals[kind] += float(part.events.sum(0, dtype=np.float64) @ part.links)

    def metrics(self) -> dict[str, float]:
        """Operations per image by name, and energy_uj, microjoule."""
        found = {name: total / self._images for name, total in self._totals.items()}
        energy = PJ_MAC * found["Effective_MACs"] + PJ_AC * found["Effective_ACs"]
        return found | {"energy_uj": energy / 1e6}


def links_of(weight: Float[torch.Tensor, "post pre"]) -> Float[np.ndarray, " pre"]:
    """Synapses of each presynaptic neuron whose weight is not 0."""
    return (weight != 0).sum(0).double().numpy(force=True)
