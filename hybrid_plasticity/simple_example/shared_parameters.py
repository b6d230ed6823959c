"""What the three programs of the simple example share."""

from dataclasses import dataclass
from typing import Annotated, Literal

from hybrid_plasticity import distortion_program
from hybrid_plasticity.distortion_program import Program, Settings
from hybrid_plasticity.layer import Rule
from hybrid_plasticity.neuron import Neuron
from hybrid_plasticity.trace import Hebbian
from shared.errors import check_word
from shared.experiment import Named, Positive, paper

SETTINGS = Settings(
    epochs=30,
    neuron=Neuron(theta=0.35, decay=0.4),
    hebbian=Hebbian(decay=0.95, limit=4.0),
    tau_w=40.0,
    steps=10,
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

# A compiled file of parameters that is shipped with the published sources says otherwise.
COMPILED = Settings(
    epochs=20,
    neuron=Neuron(theta=0.4, decay=0.4),
    hebbian=Hebbian(decay=0.99, limit=4.0),
    tau_w=40.0,
    steps=5,
)

# Clean test images, and Gaussian noise of variance 0.06.
PUBLISHED = {
    "lp": {"test_accuracy_last": 0.758, "test_accuracy_gaussian_6": 0.692},
    "gp": {"test_accuracy_last": 0.879, "test_accuracy_gaussian_6": 0.655},
    "hp": {"test_accuracy_last": 0.883, "test_accuracy_gaussian_6": 0.722},
}


CONSTANTS = {"source": SETTINGS, "compiled": COMPILED}


@dataclass(frozen=True)
class Options(distortion_program.Options):
    """The command line of the three scripts."""

    constants: Annotated[Literal["source", "compiled"], Named("{}"), paper("source")] = "source"
    """Whose constants: the published source's, or those of the compiled file that is shipped with
    it, which has 20 epochs."""
    epochs: Annotated[Positive[int], paper(30)] = 30
    """Passes over the training set."""


def settings_of(options: distortion_program.Options) -> Settings:
    """The constants that the options ask for."""
    assert isinstance(options, Options)
    return CONSTANTS[options.constants]


def program(rule: Rule) -> Program:
    """The simple example under a rule: Fashion-MNIST, then the levels of Gaussian noise.

    Raises:
        ValueError: the rule is none of "hp", "gp" and "lp".
    """
    check_word("rule", rule, Rule)
    return Program(
        session="hp_simple",
        dataset="fashion_mnist",
        rule=rule,
        options=Options,
        settings=settings_of,
        kinds=("gaussian",),
        published=PUBLISHED[rule],
        followed=("gaussian", 6),
    )
