"""Fashion-MNIST by three spiking convolutions, a layer with a Hebbian trace, and the output.

    python hybrid_plasticity/classification/fashion_mnist/main_fashion_mnist.py
    python hybrid_plasticity/classification/fashion_mnist/main_fashion_mnist.py --rule gp

101 epochs of Adam at full width, its step size x 0.1 after 41 and after 81. Then the tests by all
protocols.
"""

from hybrid_plasticity.classification.fashion_mnist.fmnist_model import WIRING
from hybrid_plasticity.classification.program import Experiment, run_experiment
from shared.options import script

EXPERIMENT = Experiment(
    session="hp_classification_fashion_mnist",
    dataset="fashion_mnist",
    wiring=WIRING,
    published=0.933,
    epochs=101,
    batch_size=50,
    schedule="step",
)

if __name__ == "__main__":
    script(lambda: run_experiment(EXPERIMENT, __doc__))
