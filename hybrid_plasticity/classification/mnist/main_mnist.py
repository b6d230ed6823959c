"""MNIST by three spiking convolutions, a layer with a Hebbian trace, and the output.

    python hybrid_plasticity/classification/mnist/main_mnist.py
    python hybrid_plasticity/classification/mnist/main_mnist.py --rule gp

100 epochs of Adam at full width: a GPU's work. Then the tests by all protocols.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from hybrid_plasticity.classification import program
from hybrid_plasticity.classification.mnist.mnist_model import WIRING
from hybrid_plasticity.classification.program import Program
from shared.experiment import Positive, paper
from shared.options import script


@dataclass(frozen=True)
class Options(program.Options):
    """The command line."""

    plastic: Annotated[tuple[Literal[1, 2], ...], paper((1,))] = (1,)
    """Fully connected layers, from 1, that have a trace."""
    epochs: Annotated[Positive[int], paper(100)] = 100
    """Passes over the training set."""


PROGRAM = Program(
    dataset="mnist",
    options=Options,
    wiring=WIRING,
    published=0.9950,
    batch_size=100,
)

if __name__ == "__main__":
    script(lambda: PROGRAM.main(__doc__))
