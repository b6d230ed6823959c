"""Pixel-shuffled MNIST by gradient alone.

    python hybrid_plasticity/multitask_learning/gp_model/main_gp_model.py

50 tasks one after the other, 10 epochs each. Methods:

    gp            a task sees 3 % of the weights, through masks of its own
    finetune      each task trains all weights; nothing is done against forgetting
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from hybrid_plasticity.multitask_learning import program
from hybrid_plasticity.multitask_learning.shared_parameters import FINETUNE, GP, Method
from shared.experiment import UNNAMED, paper
from shared.options import script


@dataclass(frozen=True)
class Options(program.Options):
    """The command line."""

    method: Annotated[Literal["gp", "finetune"], UNNAMED, paper("gp")] = "gp"
    """See above."""

    def chosen(self) -> Method:
        """The method that is asked for."""
        return GP if self.method == "gp" else FINETUNE


def train() -> None:
    """Read the command line's options, learn the tasks, test, write figures and result."""
    program.run_experiment(Options, __doc__)


main = train

if __name__ == "__main__":
    script(main)
