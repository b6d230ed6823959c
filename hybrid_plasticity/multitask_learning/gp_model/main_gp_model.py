"""Pixel-shuffled MNIST by gradient alone.

    python hybrid_plasticity/multitask_learning/gp_model/main_gp_model.py

50 tasks one after the other, 10 epochs each. Methods:

    gp            a task sees 3 % of the weights, through masks of its own
    finetune      each task trains all weights; nothing is done against forgetting
"""

from hybrid_plasticity.multitask_learning.program import run_experiment
from hybrid_plasticity.multitask_learning.shared_parameters import FINETUNE, GP
from shared.options import script


def train() -> None:
    """Read the command line's options, learn the tasks, test, write figures and result."""
    run_experiment((GP, FINETUNE), __doc__)


main = train

if __name__ == "__main__":
    script(main)
