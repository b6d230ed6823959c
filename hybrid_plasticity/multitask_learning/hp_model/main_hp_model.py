"""Pixel-shuffled MNIST by hybrid plasticity.

    python hybrid_plasticity/multitask_learning/hp_model/main_hp_model.py

50 tasks one after the other, 10 epochs each. A task sees 3 % of the weights, through masks of its
own, and a Hebbian trace through the others. Behind each of the first 35 tasks alpha, beta and eta
have an epoch of meta training. Methods:

    hp            meta training shows batches of the tasks before the one just learned
    hp_no_replay  meta training shows batches of the task just learned only
"""

from hybrid_plasticity.multitask_learning.program import run_experiment
from hybrid_plasticity.multitask_learning.shared_parameters import HP, HP_NO_REPLAY
from shared.options import script


def train() -> None:
    """Read the command line's options, learn the tasks, test, write figures and result."""
    run_experiment((HP, HP_NO_REPLAY), __doc__)


main = train

if __name__ == "__main__":
    script(main)
