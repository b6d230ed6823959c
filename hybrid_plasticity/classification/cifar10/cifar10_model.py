"""The network of CIFAR-10: what it is made of, and the published module's names."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hybrid_plasticity.classification.network import Classifier
from hybrid_plasticity.classification.wiring import Initial, Wiring
from hybrid_plasticity.neuron import Neuron
from hybrid_plasticity.published import *  # noqa: F403
from hybrid_plasticity.published import PublishedClassifier, Updates
from hybrid_plasticity.published import lr_scheduler as _lr_scheduler
from hybrid_plasticity.trace import Hebbian

WIRING = Wiring(
    image=(3, 32),
    channels=(128, 256, 512, 1024, 512),
    pooled=(2, 3),
    hidden=(1024, 512),
    plastic=(2,),
    neuron=Neuron(theta=0.5, decay=0.7),
    hebbian=Hebbian(decay=0.9, scale=-1.0, post="identity"),
    tau_w=50.0,
    steps=8,
    exit_share=0.7,
    attenuate_plastic=False,
    dropped=(1,),
    output_reset="none",
    ceiling=1.1,
    initial=Initial(alpha=1e-3, random_local=True, shifted=True),
)

# The published names of constants and functions.
thresh, lens, decay = WIRING.neuron.theta, WIRING.neuron.lens, WIRING.neuron.decay
num_classes, num_update = 10, 1
batch_size, num_epochs, learning_rate = 50, 120, 0.08
tau_w, time_window = WIRING.tau_w, WIRING.steps
_updates = Updates(WIRING.neuron, WIRING.hebbian)
mem_update_plastic = _updates.mem_update_plastic


def mem_update_nonplastic(
    fc: nn.Module, x: Tensor, spike: Tensor, mem: Tensor
) -> tuple[Tensor, Tensor]:
    """`Updates.mem_update_nonplastic`, whose inputs have another name in this module."""
    return _updates.mem_update_nonplastic(fc, x, spike, mem)


def lr_scheduler(  # type: ignore[no-redef]  # that of `published` has another default
    optimizer: torch.optim.Optimizer, epoch: int, init_lr: float = 0.1, lr_decay_epoch: int = 50
) -> torch.optim.Optimizer:
    """`published.lr_scheduler`, whose changes lie 50 epochs apart in this module."""
    return _lr_scheduler(optimizer, epoch, init_lr, lr_decay_epoch)


class SCNN(PublishedClassifier):
    """The network at full width, drawn from torch's global generator."""

    def __init__(self, num_classes: int = num_classes) -> None:
        if num_classes != 10:
            raise ValueError(f"CIFAR-10 has 10 classes, not {num_classes}")
        super().__init__(Classifier(WIRING), gamma=1e-3)

    def forward(
        self,
        input: Float[Tensor, "batch 3 32 32"],
        hebb1: Float[Tensor, "n_in n_first"],
        hebb2: Float[Tensor, "n_first n_second"],
        coding: str = "rank",
    ) -> tuple[Tensor, int, Tensor, Tensor, Tensor, Tensor]:
        """Show a batch.

        Args:
            input: standardized intensities.
            hebb1: is handed on as it is.
            hebb2: the trace to start from.
            coding: is not read, as published.

        Returns:
            Outputs, number of the last step, from 0, both traces, eta1 and eta2.
        """
        response, _, left1, left2 = self.shown(input, hebb1, hebb2)
        return response.output, response.steps - 1, left1, left2, self.eta1, self.eta2
