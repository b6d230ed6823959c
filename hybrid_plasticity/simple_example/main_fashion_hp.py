"""Fashion-MNIST by hybrid plasticity: weights by gradient beside a Hebbian trace.

    python hybrid_plasticity/simple_example/main_fashion_hp.py

30 epochs of a 784-512-10 network, then its test under Gaussian noise of variance 0 to 0.14.
"""

from hybrid_plasticity.simple_example.shared_parameters import program
from shared.options import script

if __name__ == "__main__":
    script(lambda: program("hp").main(__doc__))
