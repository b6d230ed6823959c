"""The network of MNIST: what it is made of, and the published module's names."""

from jaxtyping import Float
from torch import Tensor

from hybrid_plasticity.classification.network import Classifier
from hybrid_plasticity.classification.wiring import Coding, Wiring
from hybrid_plasticity.neuron import Neuron
from hybrid_plasticity.published import *  # noqa: F403
from hybrid_plasticity.published import PublishedClassifier, Updates
from hybrid_plasticity.trace import Hebbian

WIRING = Wiring(
    image=(1, 28),
    channels=(128, 256, 256),
    pooled=(1, 2, 3),
    hidden=(512,),
    plastic=(1,),
    neuron=Neuron(theta=0.3, decay=0.6),
    hebbian=Hebbian(decay=0.95, scale=-1.0, post="identity", limit=2.0),
    tau_w=40.0,
    steps=10,
    exit_share=0.8,
)

# The published names of constants and functions.
thresh, lens, mem_decay = WIRING.neuron.theta, WIRING.neuron.lens, WIRING.neuron.decay
w_decay, num_classes, num_updates = WIRING.hebbian.decay, 10, 1
batch_size, num_epochs, learning_rate = 100, 100, 5e-4
tau_w, time_window = WIRING.tau_w, WIRING.steps
_updates = Updates(WIRING.neuron, WIRING.hebbian)
mem_update_nonplastic = _updates.mem_update_nonplastic
mem_update_plastic = _updates.mem_update_plastic


class SNN_Model(PublishedClassifier):
    """The network at full width, drawn from torch's global generator."""

    def __init__(self) -> None:
        super().__init__(Classifier(WIRING), gamma=1e-2)

    def forward(
        self,
        input: Float[Tensor, "batch 1 28 28"],
        hebb1: Float[Tensor, "n_in n_hidden"],
        hebb2: Float[Tensor, "n_hidden classes"],
        wins: int = time_window,
        coding: Coding = "rank",
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
        """Show a batch.

        Args:
            input: intensities in [0, 1].
            hebb1: the trace to start from.
            hebb2: is handed on as it is.
            wins: time steps.
            coding: see `Wiring`.

        Returns:
            Outputs, mean number of spikes of an output neuron, both traces, and the number of the
            last step, from 0.
        """
        with self.wired(steps=wins, coding=coding):
            response, _, left1, left2 = self.shown(input, hebb1, hebb2)
        return response.output, response.spike_counts[-1].mean(), left1, left2, response.steps - 1
