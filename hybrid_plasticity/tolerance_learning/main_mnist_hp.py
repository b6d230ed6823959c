"""Fault tolerance of hybrid plasticity on MNIST.

    python hybrid_plasticity/tolerance_learning/main_mnist_hp.py

51 epochs of a 784-512-10 network on clean images, then its test on cropped and noisy ones.
"""

from hybrid_plasticity.tolerance_learning.shared_parameters import program
from shared.options import script

if __name__ == "__main__":
    script(lambda: program("mnist", "hp").main(__doc__))
