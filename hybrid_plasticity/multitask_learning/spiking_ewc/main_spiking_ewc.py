"""Pixel-shuffled MNIST by elastic weight consolidation.

    python hybrid_plasticity/multitask_learning/spiking_ewc/main_spiking_ewc.py

50 tasks one after the other, 10 epochs each, all of a spiking network without a trace. Methods:

    ewc           each task trains all weights, held near those of earlier tasks
    ewc_masks     the same, but a task sees 3 % of the weights, through masks of its own
"""

from hybrid_plasticity.multitask_learning.program import run_experiment
from hybrid_plasticity.multitask_learning.shared_parameters import EWC, EWC_MASKS
from shared.options import script


def train() -> None:
    """Read the command line's options, learn the tasks, test, write figures and result."""
    run_experiment((EWC, EWC_MASKS), __doc__)


main = train

if __name__ == "__main__":
    script(main)
