"""Pixel-shuffled MNIST by hybrid plasticity.

    python hybrid_plasticity/multitask_learning/hp_model/main_hp_model.py

50 tasks one after the other, 10 epochs each. A task sees 3 % of the weights, through masks of its
own, and a Hebbian trace through the others. After each of the first 35 tasks alpha, beta and eta
have an epoch of meta training. Methods:

    hp            meta training shows batches of the tasks before the one just learned
    hp_no_replay  meta training shows batches of the task just learned only
"""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from hybrid_plasticity.multitask_learning import program
from hybrid_plasticity.multitask_learning.shared_parameters import (
    HP,
    HP_NO_REPLAY,
    META_TASKS,
    Method,
)
from shared.experiment import UNNAMED, Named, NonNegative, paper
from shared.options import script


@dataclass(frozen=True)
class Options(program.Options):
    """The command line."""

    method: Annotated[Literal["hp", "hp_no_replay"], UNNAMED, paper("hp")] = "hp"
    """See above."""
    meta_tasks: Annotated[NonNegative[int], Named("meta-{}"), paper(META_TASKS)] = META_TASKS
    """So many tasks are followed by an epoch of meta training; 0 leaves alpha, beta and eta as they
    start."""

    def chosen(self) -> Method:
        """The method that is asked for."""
        return replace(HP if self.method == "hp" else HP_NO_REPLAY, meta_tasks=self.meta_tasks)


def train() -> None:
    """Read the command line's options, learn the tasks, test, write figures and result."""
    program.run_experiment(Options, __doc__)


main = train

if __name__ == "__main__":
    script(main)
