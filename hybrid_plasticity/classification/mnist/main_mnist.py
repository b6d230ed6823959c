"""MNIST by three spiking convolutions, a layer with a Hebbian trace, and the output.

    python hybrid_plasticity/classification/mnist/main_mnist.py
    python hybrid_plasticity/classification/mnist/main_mnist.py --rule gp

100 epochs of Adam at full width: a GPU's work. Then the tests by all protocols.
"""

from hybrid_plasticity.classification.mnist.mnist_model import WIRING
from hybrid_plasticity.classification.program import Experiment, run_experiment
from shared.options import script

EXPERIMENT = Experiment(
    session="hp_classification_mnist",
    dataset="mnist",
    wiring=WIRING,
    published=0.9950,
    epochs=100,
    batch_size=100,
    codings=("rank", "rate"),
)

if __name__ == "__main__":
    script(lambda: run_experiment(EXPERIMENT, __doc__))
