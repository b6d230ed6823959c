"""Pixel-shuffled MNIST by elastic weight consolidation.

    python hybrid_plasticity/multitask_learning/spiking_ewc/main_spiking_ewc.py

50 tasks one after the other, 10 epochs each, all of a spiking network without a trace. Methods:

    ewc           each task trains all weights, held near those of earlier tasks
    ewc_masks     the same, but a task sees 3 % of the weights, through masks of its own
"""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from hybrid_plasticity.multitask_learning import program
from hybrid_plasticity.multitask_learning.ewc import Kind
from hybrid_plasticity.multitask_learning.shared_parameters import (
    EWC,
    EWC_LAMBDA,
    EWC_MASKS,
    Method,
)
from shared.experiment import UNNAMED, Named, Positive, paper
from shared.options import script


@dataclass(frozen=True)
class Options(program.Options):
    """The command line."""

    method: Annotated[Literal["ewc", "ewc_masks"], UNNAMED, paper("ewc")] = "ewc"
    """See above."""
    fisher: Annotated[Kind, Named("fisher-{}"), paper("batch")] = "sample"
    """Fisher information from the gradient of each sample, or from those of batches, divided by
    their number less one."""
    ewc_lambda: Annotated[Positive[float], Named("lambda-{}"), paper(EWC_LAMBDA)] = EWC_LAMBDA
    """Strength of the penalty."""

    def chosen(self) -> Method:
        """The method that is asked for."""
        method = EWC if self.method == "ewc" else EWC_MASKS
        return replace(method, fisher=self.fisher, ewc_lambda=self.ewc_lambda)


def train() -> None:
    """Read the command line's options, learn the tasks, test, write figures and result."""
    program.run_experiment(Options, __doc__)


main = train

if __name__ == "__main__":
    script(main)
