"""Fashion-MNIST by hybrid plasticity: weights by gradient beside a Hebbian trace.

    python hybrid_plasticity/simple_example/main_fashion_hp.py

30 epochs of a 784-512-10 network, then its test under Gaussian noise of variance 0 to 0.14.
"""

from hybrid_plasticity.distortion_program import run_experiment
from hybrid_plasticity.simple_example.shared_parameters import experiment
from shared.options import script

if __name__ == "__main__":
    script(lambda: run_experiment(experiment("hp"), __doc__))
