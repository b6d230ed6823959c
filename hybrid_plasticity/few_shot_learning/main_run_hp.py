"""Few-shot learning on Omniglot by hybrid plasticity: weights by gradient beside a Hebbian trace.

    python hybrid_plasticity/few_shot_learning/main_run_hp.py
    python hybrid_plasticity/few_shot_learning/main_run_hp.py --ways 20 --shots 5

Five characters never trained on are shown once each, with their labels; then the network says which
of them another drawing is.
"""

from hybrid_plasticity.few_shot_learning.program import run_experiment
from shared.options import script


def train() -> None:
    """Read the command line's options, train, test, write figures and result."""
    run_experiment("hp", __doc__)


main = train

if __name__ == "__main__":
    script(main)
