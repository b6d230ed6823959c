"""A trained Fashion-MNIST network tested on images whose center is blanked.

python hybrid_plasticity/tolerance_learning/test_fashion_crop.py --checkpoint FILE --rule hp
"""

from hybrid_plasticity.tolerance_learning.saved_network import Options, run_test
from shared.options import script

if __name__ == "__main__":
    script(lambda: run_test("hp_tolerance_test_crop", Options, __doc__))
