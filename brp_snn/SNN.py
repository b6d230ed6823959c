"""The two-layer spiking network: hidden units and output units, fully connected.

    python brp_snn/SNN.py                       MNIST, 1000 hidden units, by BRP
    python brp_snn/SNN.py --train-mode shallow  only the output layer learns

All options of `main.py` are there.
"""

from brp_snn.main import main
from brp_snn.models import NetworkBuilder, Neuron
from brp_snn.module import Mode
from shared.options import script

HIDDEN, CLASSES = 1000, 10


class SNN(NetworkBuilder):
    """Two fully connected layers of leaky integrate-and-fire units.

    Args:
        n_in: inputs at every step.
        hidden: hidden units.
        classes: output units.
        mode: the learning mode.
        neuron: constants of the units.
    """

    def __init__(
        self,
        n_in: int,
        hidden: int = HIDDEN,
        classes: int = CLASSES,
        mode: Mode = "BRP",
        neuron: Neuron = Neuron(),
    ) -> None:
        super().__init__(f"FC_{hidden}_FC_{classes}", (n_in,), mode, neuron)


if __name__ == "__main__":
    script(lambda: main(__doc__, hidden=f"FC_{HIDDEN}"))
