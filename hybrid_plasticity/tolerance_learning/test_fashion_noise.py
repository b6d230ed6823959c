"""A trained Fashion-MNIST network tested on noisy images.

python hybrid_plasticity/tolerance_learning/test_fashion_noise.py --checkpoint FILE --rule hp
"""

from hybrid_plasticity.tolerance_learning.saved_network import NoiseOptions, run_test
from shared.options import script

if __name__ == "__main__":
    script(lambda: run_test("hp_tolerance_test_noise", NoiseOptions, __doc__))
