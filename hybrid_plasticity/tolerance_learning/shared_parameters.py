"""What the programs of fault tolerance share."""

from dataclasses import dataclass
from typing import Annotated, Literal

from hybrid_plasticity import distortion_program
from hybrid_plasticity.distortion_program import Program, Settings
from hybrid_plasticity.distortions import KINDS
from hybrid_plasticity.neuron import Neuron
from hybrid_plasticity.trace import Hebbian
from shared.errors import check_word
from shared.experiment import Positive, paper

SETTINGS = Settings(
    epochs=51,
    neuron=Neuron(theta=0.4, decay=0.4),
    hebbian=Hebbian(decay=0.99, limit=4.0),
    tau_w=40.0,
    steps=5,
)

# The published names of these constants.
num_updates = 1  # steps of the weights for each of alpha, beta and eta
thresh, lens, decay = SETTINGS.neuron.theta, SETTINGS.neuron.lens, SETTINGS.neuron.decay
num_classes = 10
batch_size, num_epochs = SETTINGS.batch_size, SETTINGS.epochs
tau_w, time_window = SETTINGS.tau_w, SETTINGS.steps
lp_learning_rate, gp_learning_rate = SETTINGS.lr_local, SETTINGS.lr
w_decay = SETTINGS.hebbian.decay
cfg_fc = [SETTINGS.hidden, num_classes]

__all__ = [  # what the models pass on
    "batch_size", "cfg_fc", "decay", "gp_learning_rate", "lens", "lp_learning_rate", "num_classes",
    "num_epochs", "num_updates", "tau_w", "thresh", "time_window", "w_decay",
]  # fmt: skip

# As the readme has them: the best test epoch of each script, said to be of 100.
PUBLISHED = {"fashion_mnist": {"hp": 0.882, "gp": 0.885}}


@dataclass(frozen=True)
class Options(distortion_program.Options):
    """The command line of the four training scripts."""

    epochs: Annotated[Positive[int], paper(51)] = 51
    """Passes over the training set."""


DataSet = Literal["mnist", "fashion_mnist"]
Compared = Literal["hp", "gp"]


def program(dataset: DataSet, rule: Compared) -> Program:
    """Fault tolerance of a rule on a data set: all distortions of figure 4c, d.

    Raises:
        ValueError: there is no such program.
    """
    check_word("dataset", dataset, DataSet)
    check_word("rule", rule, Compared)
    accuracy = PUBLISHED.get(dataset, {}).get(rule)
    return Program(
        session="hp_tolerance_{}",
        dataset=dataset,
        rule=rule,
        options=Options,
        settings=lambda options: SETTINGS,
        kinds=KINDS,
        published=None if accuracy is None else {"test_accuracy_best": accuracy},
    )
