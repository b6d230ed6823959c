"""What the programs of the multitask experiment share: the paper's settings, and the methods."""

import math
from dataclasses import dataclass

from hybrid_plasticity.multitask_learning.ewc import Kind
from hybrid_plasticity.multitask_learning.network import Rule, TaskNetwork
from hybrid_plasticity.neuron import Neuron
from hybrid_plasticity.trace import Hebbian
from shared.errors import check_word

TASKS = 50
META_TASKS = 35
EPOCHS = 10
EWC_LAMBDA = 5000.0


@dataclass(frozen=True)
class Settings:
    """What the paper fixes, and the traces' initial constants.

    Attributes:
        sizes: neurons of input, both hidden layers and output.
        theta, decay: threshold of the neurons, share of their potential left after a step.
        w_decay: share of the traces left after a step.
        tau_w: time constant of the input's attenuation, in steps.
        steps: time steps per presentation.
        share: of the weights that a task's mask keeps.
        batch_size: samples per step; the trace is a mean over them.
        lr: step size of the weights (Adam).
        lr_local: step size of alpha, beta and eta in meta training (Adam).
        alpha, beta: these start uniform between 0 and this; eta starts at 0.
    """

    sizes: tuple[int, int, int, int] = (784, 1024, 1024, 10)
    theta: float = 0.5
    decay: float = 0.8
    w_decay: float = 0.8
    tau_w: float = 50.0
    steps: int = 3
    share: float = 0.03
    batch_size: int = 100
    lr: float = 5e-4
    lr_local: float = 5e-5
    alpha: float = 0.1
    beta: float = 1e-3

    def network(self, rule: Rule, attenuated: bool = True) -> TaskNetwork:
        """The network under a rule, with its initial weights and constants.

        Args:
            rule: "hp" or "gp".
            attenuated: the layers' inputs fade in the course of a presentation, k(t) below 1.
        """
        neuron, hebbian = Neuron(self.theta, self.decay), Hebbian(self.w_decay)
        tau_w = self.tau_w if attenuated else math.inf
        network = TaskNetwork(self.sizes, neuron, hebbian, tau_w, self.steps, rule)
        network.draw_local(self.alpha, self.beta)
        return network


SETTINGS = Settings()


@dataclass(frozen=True)
class Method:
    """What is done against forgetting.

    Attributes:
        name: of the row.
        masks: each task sees the weights through masks of its own.
        rule: "hp" for a trace beside the weights; its alpha, beta and eta learn in meta training,
            after each of the first tasks and there only.
        replay: meta training shows batches of the tasks before the one just learned, but for the
            first, which shows its own; else it shows those of the task just learned.
        ewc: the penalty of elastic weight consolidation.
        meta_tasks: so many tasks are followed by an epoch of meta training.
        ewc_lambda: strength of the penalty.
        fisher: Fisher information from the gradient of each sample, or from those of batches.
        attenuated: the layers' inputs fade, k(t) = exp(-t / tau_w); the published network of
            elastic weight consolidation has no such factor.
    """

    name: str
    masks: bool = True
    rule: Rule = "gp"
    replay: bool = False
    ewc: bool = False
    attenuated: bool = True
    meta_tasks: int = META_TASKS
    ewc_lambda: float = EWC_LAMBDA
    fisher: Kind = "sample"

    def __post_init__(self) -> None:
        check_word("rule", self.rule, Rule)
        check_word("fisher", self.fisher, Kind)


HP = Method("hp", rule="hp", replay=True)
HP_NO_REPLAY = Method("hp_no_replay", rule="hp")
GP = Method("gp")
FINETUNE = Method("finetune", masks=False)
EWC = Method("ewc", masks=False, ewc=True, attenuated=False)
EWC_MASKS = Method("ewc_masks", ewc=True, attenuated=False)

# Constants by the names of the published modules, which pass them on.
thresh, mem_decay, w_decay = SETTINGS.theta, SETTINGS.decay, SETTINGS.w_decay
time_window, t_tau, batch_size = SETTINGS.steps, SETTINGS.tau_w, SETTINGS.batch_size
learning_rate, sparsity = SETTINGS.lr, SETTINGS.share
cfg_fc = list(SETTINGS.sizes[1:])
exp_num, task_num, num_task_epochs, train_meta_epoch = 10, TASKS, EPOCHS, META_TASKS
__all__ = [  # what the models pass on
    "batch_size", "cfg_fc", "exp_num", "learning_rate", "mem_decay", "num_task_epochs", "sparsity",
    "t_tau", "task_num", "thresh", "time_window", "train_meta_epoch", "w_decay",
]  # fmt: skip
