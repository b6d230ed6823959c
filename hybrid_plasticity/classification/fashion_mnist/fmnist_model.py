"""The network of Fashion-MNIST: what it is made of, and the published module's names."""

from jaxtyping import Float
from torch import Tensor

from hybrid_plasticity.classification.network import Classifier
from hybrid_plasticity.classification.wiring import Initial, Wiring
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
    neuron=Neuron(theta=0.45, decay=0.75, reset="hard"),
    hebbian=Hebbian(decay=0.9, scale=-1.0, post="identity", limit=4.0, drive_at_least_zero=True),
    tau_w=30.0,
    steps=10,
    exit_share=0.9,
    output_reset="hard",
    ceiling=1.1,
    initial=Initial(halved_output=True),
)

# The published names of constants and functions.
thresh, lens, decay = WIRING.neuron.theta, WIRING.neuron.lens, WIRING.neuron.decay
w_decay, num_classes = WIRING.hebbian.decay, 10
batch_size, num_epochs, learning_rate = 50, 101, 5e-4
tau_w, time_window = WIRING.tau_w, WIRING.steps
_updates = Updates(WIRING.neuron, WIRING.hebbian)
mem_update_nonplastic = _updates.mem_update_nonplastic
mem_update = _updates.mem_update_plastic


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
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Show a batch.

        Args:
            input: intensities in [0, 1].
            hebb1: the trace to start from.
            hebb2: is handed on as it is.
            wins: time steps.

        Returns:
            Outputs, potentials of the hidden layer after the last step, both traces, eta1 and eta2.
        """
        with self.wired(steps=wins):
            response, states, left1, left2 = self.shown(input, hebb1, hebb2)
        potential = states[0].potential
        assert potential is not None
        return response.output, potential, left1, left2, self.eta1, self.eta2
