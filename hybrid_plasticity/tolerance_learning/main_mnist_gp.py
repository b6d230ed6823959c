"""Fault tolerance of global plasticity on MNIST.

    python hybrid_plasticity/tolerance_learning/main_mnist_gp.py

51 epochs of a 784-512-10 network on clean images, then its test on cropped and noisy ones.
"""

from hybrid_plasticity.distortion_program import run_experiment
from hybrid_plasticity.tolerance_learning.shared_parameters import experiment
from shared.options import script

if __name__ == "__main__":
    script(lambda: run_experiment(experiment("mnist", "gp"), __doc__))
