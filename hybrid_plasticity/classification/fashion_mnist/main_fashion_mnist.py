"""Fashion-MNIST by three spiking convolutions, a layer with a Hebbian trace, and the output.

    python hybrid_plasticity/classification/fashion_mnist/main_fashion_mnist.py
    python hybrid_plasticity/classification/fashion_mnist/main_fashion_mnist.py --rule gp

101 epochs of Adam at full width, its step size x 0.1 after 41 and after 81. Then the tests by all
protocols.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from hybrid_plasticity.classification import program
from hybrid_plasticity.classification.fashion_mnist.fmnist_model import WIRING
from hybrid_plasticity.classification.program import Program
from shared.experiment import Positive, paper
from shared.options import script


@dataclass(frozen=True)
class Options(program.Options):
    """The command line."""

    coding: Annotated[Literal["rank"], paper("rank")] = "rank"
    """Output: rank, the last potential / threshold."""
    plastic: Annotated[tuple[Literal[1, 2], ...], paper((1,))] = (1,)
    """Fully connected layers, from 1, that have a trace."""
    epochs: Annotated[Positive[int], paper(101)] = 101
    """Passes over the training set."""


PROGRAM = Program(
    dataset="fashion_mnist",
    options=Options,
    wiring=WIRING,
    published=0.933,
    batch_size=50,
    schedule="step",
)

if __name__ == "__main__":
    script(lambda: PROGRAM.main(__doc__))
