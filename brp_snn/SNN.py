"""The two-layer spiking network: hidden units and output units, fully connected.

    python brp_snn/SNN.py                       MNIST, 500 hidden units, by BRP
    python brp_snn/SNN.py --train-mode shallow  only the output layer learns

All options of `main.py` are there. The class is the published one, which learns by BP.
"""

import shared.waiting

from dataclasses import replace

from jaxtyping import Float
from torch import Tensor, nn

from brp_snn.function import ActFun
from brp_snn.lisnn.LISNN import connected
from brp_snn.main import EXPERIMENT, Settings, defaults, main
from brp_snn.models import Neuron, act_fun, compared, mem_update, own_precision
from shared.errors import UserError
from shared.options import script

__all__ = ["HIDDEN", "SNN", "ActFun", "act_fun", "mem_update"]

HIDDEN = 500
TASKS = ("mnist", "nettalk", "gesture")


class SNN(nn.Module):
    """Two fully connected layers of leaky integrate-and-fire units.

    Args:
        batch_size: accepted for the published call's sake; batches may have any size.
        input_size: inputs at every step.
        num_classes: output units.
    """

    def __init__(self, batch_size: int, input_size: int, num_classes: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(input_size, HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, num_classes)

    def forward(
        self, input: Float[Tensor, "batch *inputs"], task: str, time_window: int
    ) -> Float[Tensor, "batch classes"]:
        """The readout: the mean number of output spikes per step.

        Args:
            input: intensities that are compared with new random numbers at every step ("mnist"),
                the same bits at every step ("nettalk"), or [batch, frames, ...], one
                frame per step ("gesture").
            task: how it is shown.
            time_window: steps.

        Raises:
            UserError: there is no such task.
        """
        if task not in TASKS:
            raise UserError(f"no task is called {task!r}: choose from {', '.join(TASKS)}")
        dtype = self.fc1.weight.dtype
        if task == "gesture":
            steps = input[:, :time_window].movedim(1, 0)
        elif task == "mnist":
            steps = compared(input, time_window, dtype)
        else:
            steps = input.expand(time_window, *input.shape)
        with own_precision(input):
            spikes = steps.flatten(2).to(dtype)
            hidden = connected(spikes, self.fc1, Neuron())
            return connected(hidden, self.fc2, Neuron()).mean(0)


def two_layers(asked: Settings) -> Settings:
    """What options that are not given are: as in `main.py`, on this network."""
    settings = defaults(asked)
    outputs = settings.topology.rpartition("_FC_")[2]
    return replace(settings, topology=f"FC_{HIDDEN}_FC_{outputs}")


if __name__ == "__main__":
    script(lambda: main(replace(EXPERIMENT, description=__doc__, defaults=two_layers)))
